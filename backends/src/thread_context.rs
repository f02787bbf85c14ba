//! `thread-context`: a thread whose CPUs those have that it starts, such as for preallocated memory. Where the program
//! may not choose its threads' CPUs, whoever started it can set this thread's. Source: QEMU `util/thread-context.c`.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use qom::property::PropertyInput;
use qom::{Class, Error, Object, ObjectBase, PropertyInfo, Result, UserCreatable, Value, bail};
use rustix::thread::{CpuSet, Pid, gettid, sched_getaffinity, sched_setaffinity};
use util::log::OsError;

use crate::hostmem::parse_numbers;

type Job = Box<dyn FnOnce() + Send>;

/// The object.
#[derive(Object)]
#[object(name = "thread-context", parent = ObjectBase, interfaces(dyn UserCreatable), class_init = class_init)]
pub struct ThreadContext {
    parent: ObjectBase,
    /// What was asked for before there was a thread.
    initial: Mutex<Option<CpuSet>>,
    worker: OnceLock<Worker>,
}
qom::type_init!(ThreadContext);

struct Worker {
    tid: Pid,
    jobs: Mutex<Option<Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

fn class_init(class: &mut Class) {
    fn of(object: &dyn Object) -> Result<&ThreadContext> {
        object.cast().ok_or_else(|| Error::new("not a thread-context"))
    }
    class.add_property(PropertyInfo {
        description: "The thread's number on the host".to_owned(),
        get: Some(Arc::new(|object| Ok(of(object)?.thread_id()))),
        ..PropertyInfo::new("thread-id", "int")
    });
    class.add_property(PropertyInfo {
        description: "CPUs of the host that the thread, and those it starts, run on".to_owned(),
        get: Some(Arc::new(|object| of(object)?.cpu_affinity())),
        set: Some(Arc::new(|object, input| of(object)?.set_cpu_affinity(input))),
        live: true,
        ..PropertyInfo::new("cpu-affinity", "int")
    });
    class.add_property(PropertyInfo {
        description: "The same as NUMA nodes, all of whose CPUs it may be".to_owned(),
        set: Some(Arc::new(|object, input| of(object)?.set_node_affinity(input))),
        live: true,
        ..PropertyInfo::new("node-affinity", "int")
    });
}

fn failed(error: rustix::io::Errno) -> Error {
    Error::new(format!("Setting CPU affinity failed: {}", OsError(error.into())))
}

/// The CPUs of a node of the host, in the kernel's words `0-3,8`; none of a node that there is not.
fn node_cpus(node: u16) -> Vec<usize> {
    let list = std::fs::read_to_string(format!("/sys/devices/system/node/node{node}/cpulist"));
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
    };
    list.unwrap_or_default().trim().split(',').filter_map(range).flatten().collect()
}

impl ThreadContext {
    /// Has the thread do `work`, and waits for what comes of it.
    ///
    /// # Errors
    /// When there is no thread, or it ends.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let gone = || Error::new("Object not initialized yet");
        let (sender, receiver) = channel();
        let job: Job = Box::new(move || {
            let _ = sender.send(work());
        });
        let worker = self.worker.get().ok_or_else(gone)?;
        worker.jobs.lock().as_ref().ok_or_else(gone)?.send(job).map_err(|_| gone())?;
        receiver.recv().map_err(|_| gone())
    }

    /// As QEMU has it, all ones where there is no thread yet.
    fn thread_id(&self) -> Value {
        self.worker.get().map_or(u64::MAX, |worker| worker.tid.as_raw_nonzero().get() as u64).into()
    }

    fn cpu_affinity(&self) -> Result<Value> {
        let Some(worker) = self.worker.get() else { bail!("Object not initialized yet") };
        let set = sched_getaffinity(Some(worker.tid))
            .map_err(|error| Error::new(format!("Getting CPU affinity failed: {}", OsError(error.into()))))?;
        Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect::<Vec<_>>().into())
    }

    fn set_cpu_affinity(&self, input: PropertyInput<'_>) -> Result<()> {
        self.check_unmixed()?;
        let cpus = parse_numbers("cpu-affinity", input)?;
        if cpus.is_empty() {
            bail!("CPU list is empty");
        }
        self.set_affinity(cpus.into_iter().map(usize::from))
    }

    fn set_node_affinity(&self, input: PropertyInput<'_>) -> Result<()> {
        self.check_unmixed()?;
        let nodes = parse_numbers("node-affinity", input)?;
        if nodes.is_empty() {
            bail!("Node list is empty");
        }
        let cpus: Vec<usize> = nodes.into_iter().flat_map(node_cpus).collect();
        if cpus.is_empty() {
            bail!("The nodes select no CPUs");
        }
        self.set_affinity(cpus.into_iter())
    }

    fn check_unmixed(&self) -> Result<()> {
        match *self.initial.lock() {
            Some(_) => bail!("Mixing CPU and node affinity not supported"),
            None => Ok(()),
        }
    }

    fn set_affinity(&self, cpus: impl Iterator<Item = usize>) -> Result<()> {
        let mut set = CpuSet::new();
        for cpu in cpus {
            if cpu >= CpuSet::MAX_CPU {
                return Err(failed(rustix::io::Errno::INVAL));
            }
            set.set(cpu);
        }
        match self.worker.get() {
            Some(worker) => sched_setaffinity(Some(worker.tid), &set).map_err(failed)?,
            None => *self.initial.lock() = Some(set),
        }
        Ok(())
    }
}

impl UserCreatable for ThreadContext {
    fn complete(self: Arc<Self>) -> Result<()> {
        let (ready, is_ready) = channel();
        let (jobs, its_jobs) = channel::<Job>();
        let name = format!("TC {}", self.base().parent().map(|(_, name)| name).unwrap_or_default());
        let run = move || {
            let _ = ready.send(gettid());
            its_jobs.iter().for_each(|job| job());
        };
        let thread = std::thread::Builder::new().name(name).spawn(run);
        let thread =
            thread.map_err(|error| Error::new(format!("cannot start a thread: {}", OsError(error))))?;
        let Ok(tid) = is_ready.recv() else { bail!("cannot start a thread") };
        let worker = Worker { tid, jobs: Mutex::new(Some(jobs)), thread: Mutex::new(Some(thread)) };
        let _ = self.worker.set(worker);
        match self.initial.lock().take() {
            Some(set) => sched_setaffinity(Some(tid), &set).map_err(failed),
            None => Ok(()),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.jobs.get_mut().take());
        if let Some(thread) = self.thread.get_mut().take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}
