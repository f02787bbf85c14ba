//! The thread of a vCPU. Source: QEMU `accel/kvm/kvm-accel-ops.c`, `softmmu/cpus.c`.

use std::cell::RefCell;
use std::os::unix::thread::JoinHandleExt;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use hw_core::Cpu;
use hw_core::cpu::Next;
use kvm_ioctls::VcpuFd;
use parking_lot::Mutex;
use qom::{Error, Object, Result, bail};
use util::trace::span;

use crate::error::ioctl;
use crate::exec::{Exec, kvm_cpu_exec};
use crate::{KvmArchCpu, KvmState, kick};

thread_local! {
    static VCPU: RefCell<Option<VcpuFd>> = const { RefCell::new(None) };
}

/// Calls `f` with the vCPU whose thread this is; `None` on any other thread, and for a vCPU inside
/// `KVM_RUN`, which cannot happen on its own thread.
pub fn with_current_vcpu<R>(f: impl FnOnce(&mut VcpuFd) -> R) -> Option<R> {
    VCPU.with(|vcpu| vcpu.try_borrow_mut().ok()?.as_mut().map(f))
}

/// What a vCPU's thread needs of the rest.
pub(crate) struct VcpuThread {
    pub state: Arc<KvmState>,
    pub object: Arc<dyn Object>,
    pub arch: Arc<dyn KvmArchCpu>,
}

impl VcpuThread {
    pub(crate) fn cpu(&self) -> &Cpu {
        self.object.cast::<Cpu>().expect("the accelerator checked that it is a CPU")
    }
}

/// Starts the thread of `cpu` and returns when it is up (`qemu_kvm_start_vcpu`).
pub(crate) fn start(state: &Arc<KvmState>, object: &Arc<dyn Object>) -> Result<()> {
    let _span = span("qemu_kvm_start_vcpu");
    let Some(arch) = object.interface::<dyn KvmArchCpu>() else {
        bail!("KVM cannot run a '{}'", object.type_name())
    };
    let this = VcpuThread { state: state.clone(), object: object.clone(), arch };
    let (up, result) = mpsc::sync_channel(1);
    let name = format!("CPU {}/KVM", this.cpu().index());
    let handle = {
        let _span = span("qemu_thread_create");
        thread::Builder::new()
            .name(name)
            .stack_size(1 << 20)
            .spawn(move || qemu_kvm_cpu_thread_fn(&this, &up))
            .map_err(|error| Error::new(format!("cannot start a vCPU thread: {error}")))?
    };
    result.recv().map_err(|_| Error::new("a vCPU thread died"))??;
    if let Some(cpu) = object.cast::<Cpu>() {
        set_kick(cpu, handle);
    }
    Ok(())
}

fn set_kick(cpu: &Cpu, handle: JoinHandle<()>) {
    // The handle keeps the thread's id valid even after its end.
    let handle = Mutex::new(handle);
    cpu.set_kick(move || kick::kick_thread(handle.lock().as_pthread_t()));
}

fn qemu_kvm_cpu_thread_fn(this: &VcpuThread, up: &mpsc::SyncSender<Result<()>>) {
    let result = kvm_init_vcpu(this);
    let failed = result.is_err();
    if !failed {
        this.cpu().signal_created();
    }
    let _ = up.send(result);
    if failed {
        return;
    }
    let registration = with_current_vcpu(|vcpu| kick::Registration::new(vcpu.get_kvm_run()));
    let Some(mut exec) = Exec::new(this) else { return };
    while this.cpu().wait_io_event_while(|| this.arch.is_idle()) == Next::Run {
        kvm_cpu_exec(this, &mut exec);
    }
    drop(registration);
    if let Some(vcpu) = VCPU.take() {
        this.state.park_vcpu(this.arch.vcpu_id(), vcpu);
    }
}

fn kvm_init_vcpu(this: &VcpuThread) -> Result<()> {
    let _span = span("kvm_init_vcpu");
    let mut vcpu = {
        let _span = span("KVM_CREATE_VCPU");
        this.state.get_vcpu(this.arch.vcpu_id())?
    };
    if this.state.coalesced_ranges().is_some() {
        vcpu.map_coalesced_mmio_ring().map_err(|e| ioctl("mapping the coalesced MMIO ring", e))?;
    }
    {
        let _span = span("kvm_arch_init_vcpu");
        this.arch.init_vcpu(&this.state, &vcpu)?;
    }
    if let Some(debug) = this.state.guest_debug() {
        debug.apply_to_new(this.cpu(), &*this.arch, &vcpu)?;
    }
    VCPU.set(Some(vcpu));
    Ok(())
}
