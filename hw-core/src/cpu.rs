//! What all CPUs have: an index, a thread that runs them, and ways to stop it and give it work.
//!
//! Source: QEMU `hw/core/cpu-common.c`, `softmmu/cpus.c`, `cpus-common.c`.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Condvar, Mutex};
use qom::{Class, ClassInit, Object, Result};

use crate::accel::current_accel;
use crate::debug::{GdbClass, guest_debug};
use crate::device::{Device, DeviceCategory, DeviceClass, DeviceImpl};

/// What all CPUs of a type share.
#[derive(Clone, Default)]
pub struct CpuClass {
    /// Registers as text (`info registers`). Called on the CPU's own thread.
    pub dump_state: Option<fn(&Arc<dyn Object>) -> String>,
    /// What a debugger needs.
    pub gdb: Option<GdbClass>,
    /// Sends the CPU a non-maskable interrupt, by way of its local APIC where it has one. Called on the CPU's own
    /// thread.
    pub nmi: Option<fn(&Arc<dyn Object>)>,
}

/// The root part of every CPU.
#[derive(Object)]
#[object(name = "cpu", parent = Device, abstract, class_init = cpu_class_init)]
pub struct Cpu {
    parent: Device,
    index: OnceLock<u32>,
    run: Mutex<Run>,
    changed: Condvar,
    /// Set when the thread has something to do outside the guest.
    exit_request: Arc<AtomicBool>,
    /// `SSTEP_*` flags while a debugger steps it.
    single_step: AtomicU32,
    kick: OnceLock<Box<dyn Fn() + Send + Sync>>,
    thread_id: OnceLock<i32>,
}
qom::type_init!(Cpu);

fn cpu_class_init(class: &mut Class) {
    let class = class.get_mut::<DeviceClass>();
    class.category = Some(DeviceCategory::Cpu);
    class.board_only = true;
}

impl<T: DeviceImpl> ClassInit<T> for Cpu {
    fn class_init(class: &mut Class) {
        <Device as ClassInit<T>>::class_init(class);
    }
}

type Work = Box<dyn FnOnce() + Send>;

struct Run {
    created: bool,
    /// Asked to stop; a new CPU waits until the machine starts.
    stop: bool,
    stopped: bool,
    unplug: bool,
    work: VecDeque<Work>,
}

impl Default for Run {
    fn default() -> Self {
        Run { created: false, stop: true, stopped: false, unplug: false, work: VecDeque::new() }
    }
}

/// What a CPU's thread shall do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Run the guest.
    Run,
    /// End: the CPU is unplugged or the program ends.
    End,
}

thread_local! {
    static CURRENT: Cell<Option<u32>> = const { Cell::new(None) };
}

static CPUS: Mutex<Vec<Arc<dyn Object>>> = Mutex::new(Vec::new());

/// All realized CPUs, in order of index.
pub fn cpu_list() -> Vec<Arc<dyn Object>> {
    CPUS.lock().clone()
}

/// The index of the CPU whose thread this is.
pub fn current_cpu() -> Option<u32> {
    CURRENT.get()
}

/// Calls `f` for every CPU.
pub fn for_each_cpu(mut f: impl FnMut(&Cpu)) {
    cpu_list().iter().filter_map(|c| c.cast::<Cpu>()).for_each(&mut f);
}

/// Stops all CPUs and returns when none runs guest code. Not for a CPU's own thread.
pub fn pause_all_vcpus() {
    for_each_cpu(|cpu| {
        cpu.run.lock().stop = true;
        cpu.wake();
    });
    for_each_cpu(|cpu| {
        let mut run = cpu.run.lock();
        while run.created && !run.stopped {
            cpu.changed.wait(&mut run);
        }
    });
}

/// Lets all CPUs run.
pub fn resume_all_vcpus() {
    for_each_cpu(Cpu::resume);
}

/// Sends every CPU a non-maskable interrupt, as a button on a front panel does (`nmi_monitor_handle`); false when there
/// is none that takes one.
pub fn inject_nmi() -> bool {
    let mut taken = false;
    for object in cpu_list() {
        let nmi = object.class().get::<CpuClass>().and_then(|class| class.nmi);
        if let (Some(nmi), Some(cpu)) = (nmi, object.cast::<Cpu>()) {
            let this = object.clone();
            cpu.async_run_on_cpu(move || nmi(&this));
            taken = true;
        }
    }
    taken
}

impl Cpu {
    /// Takes the next index and a place in the list of CPUs (`cpu_list_add`).
    pub fn list_add(&self) {
        let mut cpus = CPUS.lock();
        let taken: Vec<u32> = cpus.iter().filter_map(|c| c.cast::<Cpu>()).map(Cpu::index).collect();
        let free = (0..).find(|n| !taken.contains(n)).unwrap_or_default();
        let _ = self.index.set(free);
        cpus.push(self.this());
        cpus.sort_by_key(|c| c.cast::<Cpu>().map(Cpu::index));
    }

    /// Leaves the list of CPUs.
    pub fn list_remove(&self) {
        let this = self.this();
        CPUS.lock().retain(|c| !Arc::ptr_eq(c, &this));
    }

    /// Its number among all CPUs.
    pub fn index(&self) -> u32 {
        self.index.get().copied().unwrap_or_default()
    }

    /// Has the accelerator start this CPU's thread.
    ///
    /// # Errors
    /// As [`crate::accel::Accelerator::init_vcpu`].
    pub fn init_vcpu(&self) -> Result<()> {
        let _span = util::trace::span("qemu_init_vcpu");
        match current_accel() {
            Some(accel) => accel.init_vcpu(&self.this()),
            None => qom::bail!("no accelerator was chosen"),
        }
    }

    /// The accelerator says how to get the thread out of the guest.
    pub fn set_kick(&self, kick: impl Fn() + Send + Sync + 'static) {
        let _ = self.kick.set(Box::new(kick));
    }

    /// Lets it run (`cpu_resume`).
    pub fn resume(&self) {
        let mut run = self.run.lock();
        run.stop = false;
        run.stopped = false;
        drop(run);
        self.changed.notify_all();
    }

    /// Has it run one instruction at a time, as the `SSTEP_*` flags say; 0 ends that (`cpu_single_step`).
    pub fn single_step(&self, flags: u32) {
        if self.single_step.swap(flags, Ordering::AcqRel) != flags
            && let Some(debug) = guest_debug()
        {
            debug.update(self);
        }
    }

    /// The flags of [`Cpu::single_step`].
    pub fn single_step_flags(&self) -> u32 {
        self.single_step.load(Ordering::Acquire)
    }

    /// Gets the CPU's thread out of the guest, or has it not enter.
    pub fn kick(&self) {
        self.exit_request.store(true, Ordering::SeqCst);
        if let Some(kick) = self.kick.get() {
            kick();
        }
    }

    fn wake(&self) {
        self.kick();
        self.changed.notify_all();
    }

    /// For the CPU's thread: set when it is to leave the guest; the thread clears it when it does.
    pub fn exit_request(&self) -> Arc<AtomicBool> {
        self.exit_request.clone()
    }

    /// For the CPU's thread: it is up.
    pub fn signal_created(&self) {
        CURRENT.set(Some(self.index()));
        let _ = self.thread_id.set(rustix::thread::gettid().as_raw_nonzero().get());
        self.run.lock().created = true;
        self.changed.notify_all();
    }

    /// The host's number of the thread that runs it; `None` before there is one.
    pub fn thread_id(&self) -> Option<i32> {
        self.thread_id.get().copied()
    }

    /// For the creator: returns when the thread called [`Cpu::signal_created`].
    pub fn wait_created(&self) {
        let mut run = self.run.lock();
        while !run.created {
            self.changed.wait(&mut run);
        }
    }

    /// Gets the CPU's thread out of the guest, or out of waiting while it is idle.
    pub fn wake_idle(&self) {
        self.kick();
        // The thread looks whether it is idle with the lock held: it has not looked yet, or waits already.
        drop(self.run.lock());
        self.changed.notify_all();
    }

    /// For the CPU's thread: does the work that came and waits while the CPU is stopped
    /// (`qemu_wait_io_event`).
    pub fn wait_io_event(&self) -> Next {
        self.wait_io_event_while(|| false)
    }

    /// The same; waits for [`Cpu::wake_idle`], too, while `idle` says that there is nothing to run.
    pub fn wait_io_event_while(&self, idle: impl Fn() -> bool) -> Next {
        let mut run = self.run.lock();
        loop {
            while let Some(work) = run.work.pop_front() {
                drop(run);
                work();
                run = self.run.lock();
            }
            if run.unplug {
                run.stopped = true;
                run.created = false;
                drop(run);
                self.changed.notify_all();
                return Next::End;
            }
            if !run.stop && !idle() {
                return Next::Run;
            }
            if run.stop && !run.stopped {
                run.stopped = true;
                self.changed.notify_all();
            }
            self.changed.wait(&mut run);
        }
    }

    /// Whether the CPU waits for the machine to go on.
    pub fn is_stopped(&self) -> bool {
        self.run.lock().stopped
    }

    /// For the CPU's own thread after a fatal exit: stop until resumed.
    pub fn stop_self(&self) {
        self.run.lock().stop = true;
        self.exit_request.store(true, Ordering::SeqCst);
    }

    /// Has the CPU's thread call `work` outside the guest, soon (`async_run_on_cpu`).
    pub fn async_run_on_cpu(&self, work: impl FnOnce() + Send + 'static) {
        self.run.lock().work.push_back(Box::new(work));
        self.wake();
    }

    /// Has the CPU's thread call `work` and returns its result (`run_on_cpu`); at once on that very thread.
    /// `None` when there is no thread: it is gone, or the CPU was never realized.
    pub fn run_on_cpu<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> Option<R> {
        if current_cpu() == Some(self.index()) {
            return Some(work());
        }
        // While the machine is made it may have no thread yet.
        if !self.run.lock().created
            && let Some(accel) = current_accel()
        {
            accel.finish_init().ok()?;
        }
        let (tx, rx) = std::sync::mpsc::sync_channel(1);
        let work = Box::new(move || {
            let _ = tx.send(work());
        });
        let mut run = self.run.lock();
        if !run.created {
            return None;
        }
        run.work.push_back(work);
        drop(run);
        self.wake();
        rx.recv().ok()
    }

    /// Ends the CPU's thread and returns when it left the guest for good.
    pub fn end(&self) {
        self.run.lock().unplug = true;
        self.wake();
        let mut run = self.run.lock();
        while run.created {
            self.changed.wait(&mut run);
        }
        run.work.clear();
    }
}
