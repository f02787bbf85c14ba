//! `iothread`: a thread with an event loop of its own, for devices' queues (iothread.c). It looks for events for a
//! moment before it sleeps, as the properties about polling say.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use qapi::QapiType;
use qom::property::PropertyInput;
use qom::{Class, Object, ObjectBase, Property, PropertyType, Result, UserCreatable, Value, bail};
use util::event_loop::{EventLoop, PollLimits};

/// A property's value that is not negative.
#[derive(Clone, Copy, Default)]
struct Natural(i64);

impl PropertyType for Natural {
    fn type_name() -> String {
        <i64 as PropertyType>::type_name()
    }
    fn parse(name: &str, input: PropertyInput<'_>) -> Result<Self> {
        match <i64 as PropertyType>::parse(name, input)? {
            ..0 => bail!("{name} value must be in range [0, {}]", i64::MAX),
            value => Ok(Natural(value)),
        }
    }
    fn to_value(&self) -> Value {
        self.0.into()
    }
}

/// The object.
#[derive(Object)]
#[object(name = "iothread", parent = ObjectBase, interfaces(dyn UserCreatable), class_init = class_init)]
pub struct IoThread {
    parent: ObjectBase,
    #[property(name = "poll-max-ns", live, default = Natural(32768))]
    poll_max_ns: Property<Natural>,
    #[property(name = "poll-grow", live)]
    poll_grow: Property<Natural>,
    #[property(name = "poll-shrink", live)]
    poll_shrink: Property<Natural>,
    #[property(name = "aio-max-batch", live)]
    aio_max_batch: Property<Natural>,
    running: OnceLock<Running>,
    users: AtomicI64,
}
qom::type_init!(IoThread);

/// What a running thread is told of polling holds from its next turn on.
fn class_init(class: &mut Class) {
    for name in ["poll-max-ns", "poll-grow", "poll-shrink"] {
        let Some(mut property) = class.property(name).cloned() else { continue };
        let Some(set) = property.set.take() else { continue };
        property.set = Some(Arc::new(move |object, input| {
            set(object, input)?;
            if let Some(thread) = object.cast::<IoThread>()
                && let Some(event_loop) = thread.event_loop()
            {
                event_loop.set_poll_limits(thread.poll_limits());
            }
            Ok(())
        }));
        class.add_property(property);
    }
}

struct Running {
    event_loop: EventLoop,
    stop: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
    thread_id: i64,
}

impl IoThread {
    /// The loop that its thread runs.
    pub fn event_loop(&self) -> Option<EventLoop> {
        self.running.get().map(|running| running.event_loop.clone())
    }

    /// A device uses it, or does no more.
    pub fn used(&self, by: i64) {
        self.users.fetch_add(by, Ordering::AcqRel);
    }

    fn poll_limits(&self) -> PollLimits {
        let factor = |property: &Property<Natural>| u32::try_from(property.get().0).unwrap_or(u32::MAX);
        PollLimits {
            max: Duration::from_nanos(self.poll_max_ns.get().0.unsigned_abs()),
            grow: factor(&self.poll_grow),
            shrink: factor(&self.poll_shrink),
        }
    }
}

impl UserCreatable for IoThread {
    fn complete(self: Arc<Self>) -> Result<()> {
        let event_loop = EventLoop::new();
        event_loop.set_poll_limits(self.poll_limits());
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = sync_channel(1);
        let (its_loop, its_stop) = (event_loop.clone(), stop.clone());
        let name = format!("IO {}", self.base().parent().map(|(_, name)| name).unwrap_or_default());
        let run = move || {
            let _ = sender.send(rustix::thread::gettid().as_raw_nonzero().get().into());
            // Without an epoll instance nothing can be waited for.
            let _ = its_loop.run_until(|| its_stop.load(Ordering::Acquire));
        };
        let thread = std::thread::Builder::new().name(name).spawn(run);
        let thread = match thread {
            Ok(thread) => thread,
            Err(error) => bail!("cannot start an I/O thread: {}", util::log::OsError(error)),
        };
        let thread_id = receiver.recv().unwrap_or_default();
        let _ = self.running.set(Running { event_loop, stop, thread: Mutex::new(Some(thread)), thread_id });
        Ok(())
    }

    fn can_be_deleted(&self) -> bool {
        self.users.load(Ordering::Acquire) == 0
    }
}

impl Drop for IoThread {
    fn drop(&mut self) {
        let Some(running) = self.running.get() else { return };
        running.stop.store(true, Ordering::Release);
        running.event_loop.notify();
        if let Some(thread) = running.thread.lock().take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

#[derive(QapiType)]
struct IOThreadInfo {
    id: String,
    thread_id: i64,
    poll_max_ns: i64,
    poll_grow: i64,
    poll_shrink: i64,
    aio_max_batch: i64,
}

/// Lists the I/O threads.
#[qapi::command("query-iothreads", preconfig)]
fn query_iothreads() -> Result<Vec<IOThreadInfo>> {
    let root = qom::object_get_objects_root();
    let info = |(id, object): (String, Arc<dyn Object>)| {
        let thread = object.cast::<IoThread>()?;
        Some(IOThreadInfo {
            id,
            thread_id: thread.running.get()?.thread_id,
            poll_max_ns: thread.poll_max_ns.get().0,
            poll_grow: thread.poll_grow.get().0,
            poll_shrink: thread.poll_shrink.get().0,
            aio_max_batch: thread.aio_max_batch.get().0,
        })
    };
    Ok(root.children().into_iter().filter_map(info).collect())
}
