//! Guests that idle the host's processors by themselves (`-overcommit cpu-pm=on`).

use std::sync::atomic::{AtomicBool, Ordering};

use accel_kvm::KvmState;
use accel_kvm::kvm_bindings::{
    KVM_CAP_X86_DISABLE_EXITS, KVM_X86_DISABLE_EXITS_CSTATE, KVM_X86_DISABLE_EXITS_HLT,
    KVM_X86_DISABLE_EXITS_MWAIT, KVM_X86_DISABLE_EXITS_PAUSE, kvm_enable_cap,
};
use util::log::OsError;

/// What idles a processor.
const IDLE_EXITS: u32 = KVM_X86_DISABLE_EXITS_MWAIT
    | KVM_X86_DISABLE_EXITS_HLT
    | KVM_X86_DISABLE_EXITS_PAUSE
    | KVM_X86_DISABLE_EXITS_CSTATE;

static ENABLED: AtomicBool = AtomicBool::new(false);

/// Lets the guest idle the host's processors; to be said before the accelerator is chosen.
pub fn enable_cpu_pm() {
    ENABLED.store(true, Ordering::Relaxed);
}

/// Whether that was said.
pub(super) fn enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

/// Whether KVM lets a guest keep a processor in MWAIT.
pub(super) fn can_keep_mwait(kvm: &KvmState) -> bool {
    idle_exits(kvm) & KVM_X86_DISABLE_EXITS_MWAIT != 0
}

/// The exits for idling that KVM can do without.
fn idle_exits(kvm: &KvmState) -> u32 {
    let can = kvm.kvm.check_extension_raw(KVM_CAP_X86_DISABLE_EXITS.into());
    u32::try_from(can).unwrap_or_default() & IDLE_EXITS
}

/// Tells KVM, where it was said.
pub(super) fn init(kvm: &KvmState) {
    if !enabled() {
        return;
    }
    let mut cap = kvm_enable_cap { cap: KVM_CAP_X86_DISABLE_EXITS, ..Default::default() };
    cap.args[0] = idle_exits(kvm).into();
    let queued = kvm.vm.then(move |vm| {
        if let Err(error) = vm.enable_cap(&cap) {
            // As QEMU: the guest runs all the same.
            util::error_report!("kvm: guest stopping CPU not supported: {}", OsError(error.into()));
        }
        Ok(())
    });
    debug_assert!(queued.is_ok(), "it is the first to be asked for");
}
