//! Sources of random bytes: the host's own (`rng-builtin`), or a file such as `/dev/random` (`rng-random`).
//!
//! Source: QEMU `backends/rng.c`, `rng-builtin.c`, `rng-random.c`.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use qom::{
    Class, ClassInit, Object, ObjectBase, ObjectType, Property, PropertyInfo, Result, UserCreatable, bail,
};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use util::event_loop::{EventLoop, FdWatch, Interest};
use util::log::OsError;

/// Takes the bytes, as many as there were; none when the source gives no more.
pub type EntropyReceiver = Box<dyn FnOnce(&[u8]) + Send>;

/// What a source implements.
pub trait RngBackendImpl: ObjectType + UserCreatable {
    /// Hands `receive` up to `size` bytes later, on the main loop's thread.
    fn request_entropy(self: &Arc<Self>, size: usize, receive: EntropyReceiver);
}

type RequestFn = fn(&Arc<dyn Object>, usize, EntropyReceiver);

#[derive(Clone, Default)]
struct RngBackendClass {
    request: Option<RequestFn>,
}

/// The root part of every source.
#[derive(Object)]
#[object(name = "rng-backend", parent = ObjectBase, abstract, class_init = class_init)]
pub struct RngBackend {
    parent: ObjectBase,
    opened: OnceLock<()>,
}

/// The host's random bytes.
#[derive(Object)]
#[object(name = "rng-builtin", parent = RngBackend, interfaces(dyn UserCreatable))]
pub struct RngBuiltin {
    parent: RngBackend,
}

/// A file's bytes.
#[derive(Object)]
#[object(name = "rng-random", parent = RngBackend, interfaces(dyn UserCreatable))]
pub struct RngRandom {
    parent: RngBackend,
    #[property(default = Some("/dev/urandom".to_owned()))]
    filename: Property<Option<String>>,
    file: OnceLock<Arc<OwnedFd>>,
    requests: Mutex<Requests>,
}

#[derive(Default)]
struct Requests {
    waiting: VecDeque<(usize, EntropyReceiver)>,
    watch: Option<FdWatch>,
}

qom::type_init!(RngBackend, RngBuiltin, RngRandom);

fn class_init(class: &mut Class) {
    class.add_property(PropertyInfo {
        get: Some(Arc::new(|o| Ok(o.cast::<RngBackend>().is_some_and(|b| b.opened.get().is_some()).into()))),
        ..PropertyInfo::new("opened", "bool")
    });
}

impl<T: RngBackendImpl> ClassInit<T> for RngBackend {
    fn class_init(class: &mut Class) {
        class.get_mut::<RngBackendClass>().request = Some(|object, size, receive| {
            if let Some(backend) = qom::downcast::<T>(object.clone()) {
                backend.request_entropy(size, receive);
            }
        });
    }
}

/// Asks `backend`, a `rng-backend`, for up to `size` bytes, which come later, on the main loop's thread
/// (`rng_backend_request_entropy`).
pub fn rng_backend_request_entropy(backend: &Arc<dyn Object>, size: usize, receive: EntropyReceiver) {
    if let Some(request) = backend.class().get::<RngBackendClass>().and_then(|class| class.request) {
        request(backend, size, receive);
    }
}

impl RngBackendImpl for RngBuiltin {
    fn request_entropy(self: &Arc<Self>, size: usize, receive: EntropyReceiver) {
        EventLoop::main().schedule(move || {
            let mut data = vec![0; size];
            let mut done = 0;
            while let Some(rest) = data.get_mut(done..).filter(|rest| !rest.is_empty()) {
                match getrandom(rest, GetRandomFlags::empty()) {
                    Ok(len) => done += len,
                    Err(Errno::INTR) => {}
                    Err(_) => break,
                }
            }
            receive(data.get(..done).unwrap_or_default());
        });
    }
}

impl UserCreatable for RngBuiltin {
    fn complete(self: Arc<Self>) -> Result<()> {
        let _ = self.opened.set(());
        Ok(())
    }
}

impl RngRandom {
    /// Serves those who wait, as far as the file has bytes.
    fn entropy_available(&self) {
        let Some(file) = self.file.get() else { return };
        loop {
            let Some(size) = self.requests.lock().waiting.front().map(|(size, _)| *size) else { break };
            let mut data = vec![0; size];
            let len = match rustix::io::read(&**file, data.as_mut_slice()) {
                Ok(len) => len,
                Err(Errno::AGAIN | Errno::INTR) => return,
                Err(_) => 0,
            };
            let Some((_, receive)) = self.requests.lock().waiting.pop_front() else { break };
            receive(data.get(..len).unwrap_or_default());
        }
        let mut requests = self.requests.lock();
        let watch = if requests.waiting.is_empty() { requests.watch.take() } else { None };
        // Outside the lock.
        drop(requests);
        drop(watch);
    }

    /// Waits for the file, unless that is so already.
    fn watch(self: &Arc<Self>) {
        let Some(file) = self.file.get() else { return };
        let mut requests = self.requests.lock();
        if requests.watch.is_some() {
            return;
        }
        let this = Arc::downgrade(self);
        let handler = Arc::new(move |_| {
            if let Some(this) = this.upgrade() {
                this.entropy_available();
            }
        });
        requests.watch = EventLoop::main().add_fd(file.clone(), Interest::READ, handler).ok();
    }
}

impl RngBackendImpl for RngRandom {
    fn request_entropy(self: &Arc<Self>, size: usize, receive: EntropyReceiver) {
        self.requests.lock().waiting.push_back((size, receive));
        self.watch();
    }
}

impl UserCreatable for RngRandom {
    fn complete(self: Arc<Self>) -> Result<()> {
        let Some(name) = self.filename.get().filter(|name| !name.is_empty()) else {
            bail!("Parameter 'filename' expects a valid filename")
        };
        match rustix::fs::open(&name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => {
                let _ = self.file.set(Arc::new(file));
                let _ = self.opened.set(());
                Ok(())
            }
            Err(error) => bail!("Could not open '{name}': {}", OsError(error.into())),
        }
    }
}
