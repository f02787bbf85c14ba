//! The thread of a CPU that runs nothing. Source: QEMU `accel/dummy-cpus.c`.

use std::sync::Arc;
use std::thread;

use hw_core::Cpu;
use hw_core::cpu::Next;
use parking_lot::{Condvar, Mutex};
use qom::{Error, Object, Result};

/// Wakes the thread: whether there is something to do, and the change of it.
#[derive(Default)]
struct Wake {
    wanted: Mutex<bool>,
    changed: Condvar,
}

impl Wake {
    fn wake(&self) {
        *self.wanted.lock() = true;
        self.changed.notify_one();
    }

    fn wait(&self) {
        let mut wanted = self.wanted.lock();
        while !*wanted {
            self.changed.wait(&mut wanted);
        }
        *wanted = false;
    }
}

/// Starts the thread of `object` and returns when it is up (`dummy_start_vcpu_thread`).
pub(crate) fn start(object: &Arc<dyn Object>) -> Result<()> {
    let Some(cpu) = object.cast::<Cpu>() else { return Ok(()) };
    let wake = Arc::new(Wake::default());
    let (this, waker) = (object.clone(), wake.clone());
    thread::Builder::new()
        .name(format!("CPU {}/DUMMY", cpu.index()))
        .stack_size(256 << 10)
        .spawn(move || dummy_cpu_thread_fn(&this, &waker))
        .map_err(|error| Error::new(format!("cannot start a vCPU thread: {error}")))?;
    cpu.set_kick(move || wake.wake());
    cpu.wait_created();
    Ok(())
}

fn dummy_cpu_thread_fn(object: &Arc<dyn Object>, wake: &Wake) {
    let Some(cpu) = object.cast::<Cpu>() else { return };
    cpu.signal_created();
    while cpu.wait_io_event() == Next::Run {
        wake.wait();
    }
}
