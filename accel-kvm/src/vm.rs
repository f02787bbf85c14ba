//! The kernel's virtual machine, made while this program sets up the rest.
//!
//! `KVM_CREATE_VM` sleeps in the kernel for longer than all else at the start takes (it waits for a thread of its own to
//! change its cgroup, and that for a grace period of RCU). So it runs on a thread of its own, and what the kernel is to
//! be told afterwards waits in a queue until somebody needs an answer.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kvm_bindings::KVM_API_VERSION;
use kvm_ioctls::{Kvm, VmFd};
use parking_lot::Mutex;
use qom::{Error, Result, bail};
use rustix::thread::sched_getaffinity;
use util::trace::span;

use crate::error::ioctl;

type Step = Box<dyn FnOnce(&VmFd) -> Result<()> + Send>;

/// A virtual machine that is there or being made.
pub struct KvmVm {
    made: OnceLock<Result<VmFd>>,
    making: Mutex<Option<JoinHandle<Result<VmFd>>>>,
    /// What was asked for before it was there, in order.
    steps: Mutex<Vec<Step>>,
    failed: OnceLock<Error>,
    /// All that was asked for before is done: from now on nothing is locked.
    settled: AtomicBool,
}

/// How long KVM_CREATE_VM works before it waits, and some more: 370 µs of a processor that does 1000 instructions in one.
const UNTIL_IT_WAITS: Duration = Duration::from_micros(500);

/// `/dev/kvm` and a machine in it, for the first who opens it.
static AHEAD: Mutex<Option<(Arc<Kvm>, Arc<KvmVm>)>> = Mutex::new(None);

/// Begins to make a virtual machine before [`KvmState::open`](crate::KvmState::open) asks for one, so that less is left
/// to wait for then. Where that fails nothing is done: opening it tells why.
pub fn create_vm_ahead() {
    let Ok(made) = open_and_begin() else { return };
    *AHEAD.lock() = Some(made);
    if sched_getaffinity(None).is_ok_and(|processors| processors.count() == 1) {
        // The new thread runs when this one sleeps; it should have begun to wait in the kernel before this one goes on.
        thread::park_timeout(UNTIL_IT_WAITS);
    }
}

/// `/dev/kvm` and a machine that is being made in it.
///
/// # Errors
/// When the device is missing, forbidden or too old, or the host has no thread left.
pub(crate) fn open_and_begin() -> Result<(Arc<Kvm>, Arc<KvmVm>)> {
    if let Some(made) = AHEAD.lock().take() {
        return Ok(made);
    }
    let kvm = Arc::new(open_device()?);
    let vm = KvmVm::begin(&kvm)?;
    Ok((kvm, vm))
}

impl KvmVm {
    /// Begins to make one.
    ///
    /// # Errors
    /// When the host has no thread left.
    fn begin(kvm: &Arc<Kvm>) -> Result<Arc<KvmVm>> {
        let (kvm, caller) = (kvm.clone(), thread::current());
        let making = thread::Builder::new()
            .name("create VM".to_owned())
            .stack_size(64 << 10)
            .spawn(move || {
                let made = create_vm(&kvm);
                caller.unpark();
                made
            })
            .map_err(|error| Error::new(format!("cannot start a thread: {error}")))?;
        Ok(Arc::new(KvmVm {
            made: OnceLock::new(),
            making: Mutex::new(Some(making)),
            steps: Mutex::default(),
            failed: OnceLock::new(),
            settled: AtomicBool::new(false),
        }))
    }

    /// The machine, after all that was asked for before. Until it is first called that is for the main thread only.
    ///
    /// # Errors
    /// When it could not be made, or one of those things not be done.
    pub fn get(&self) -> Result<&VmFd> {
        let made = self.made.get_or_init(|| {
            let making = self.making.lock().take();
            making.and_then(|thread| thread.join().ok()).unwrap_or_else(|| Err(Error::new("no machine")))
        });
        let vm = made.as_ref().map_err(Clone::clone)?;
        if self.settled.load(Ordering::Acquire) {
            return Ok(vm);
        }
        // A step that needs the machine itself finds none left.
        let steps = std::mem::take(&mut *self.steps.lock());
        for step in steps {
            if self.failed.get().is_some() {
                break;
            }
            if let Err(error) = step(vm) {
                let _ = self.failed.set(error);
            }
        }
        if let Some(error) = self.failed.get() {
            return Err(error.clone());
        }
        Ok(vm)
    }

    /// The same, by the main thread; nothing is left to do then.
    ///
    /// # Errors
    /// As [`KvmVm::get`].
    pub(crate) fn settle(&self) -> Result<()> {
        self.get()?;
        self.settled.store(true, Ordering::Release);
        Ok(())
    }

    /// Has `step` carried out: at once when the machine is there, else in turn when it is.
    ///
    /// # Errors
    /// What it says, if it was carried out; otherwise [`KvmVm::get`] tells.
    pub fn then(&self, step: impl FnOnce(&VmFd) -> Result<()> + Send + 'static) -> Result<()> {
        let mut steps = self.steps.lock();
        if self.made.get().is_none() {
            steps.push(Box::new(step));
            return Ok(());
        }
        drop(steps);
        step(self.get()?)
    }
}

fn create_vm(kvm: &Kvm) -> Result<VmFd> {
    let _span = span("KVM_CREATE_VM");
    loop {
        match kvm.create_vm() {
            Err(error) if error.errno() == libc::EINTR => continue,
            result => return result.map_err(|e| ioctl("ioctl(KVM_CREATE_VM)", e)),
        }
    }
}

/// The device of the KVM module, of the version this program speaks.
fn open_device() -> Result<Kvm> {
    let kvm = Kvm::new().map_err(|error| explain_open(error.into()))?;
    let version = kvm.get_api_version();
    if version < 0 {
        bail!("/dev/kvm is not the KVM module's device");
    }
    if version != KVM_API_VERSION as i32 {
        bail!("kvm version {version} not supported, {KVM_API_VERSION} is needed");
    }
    Ok(kvm)
}

/// `/dev/kvm` could not be opened: why, and what to do.
fn explain_open(error: io::Error) -> Error {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => {
            "/dev/kvm is missing: load the kernel module (modprobe kvm-intel or kvm-amd) and enable \
             virtualization in the firmware's setup"
        }
        io::ErrorKind::PermissionDenied => {
            "/dev/kvm is not yours to open: join the group that owns it (usermod -aG kvm USER, then log in again)"
        }
        _ => "another hypervisor may be using the processor's virtualization",
    };
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    Error::new(format!("Could not access KVM kernel module: {text}")).with_hint(hint)
}
