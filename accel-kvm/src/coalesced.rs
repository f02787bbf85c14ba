//! The ring of writes that KVM collected instead of exiting for each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use kvm_ioctls::VcpuFd;
use memory::AddressSpace;

/// How many ranges KVM collects writes to: while there are none nobody looks at the ring.
#[derive(Default)]
pub(crate) struct CoalescedRanges(AtomicU32);

impl CoalescedRanges {
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn added(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn removed(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Carries out the writes in the ring, oldest first (`kvm_flush_coalesced_mmio_buffer`).
///
/// The ring is one for the whole machine, but each vCPU's thread may empty it: KVM's entries are taken under
/// `LOCK`, which also keeps them in order.
pub(crate) fn flush(vcpu: &mut VcpuFd, memory: &Arc<AddressSpace>, io: &Arc<AddressSpace>) {
    static LOCK: parking_lot::Mutex<()> = parking_lot::Mutex::new(());
    let _guard = LOCK.lock();
    while let Ok(Some(entry)) = vcpu.coalesced_mmio_read() {
        let Some(data) = entry.data.get(..entry.len as usize) else { continue };
        // SAFETY: `pio` and `pad` are names for the same 32 bits, all of which the kernel writes.
        let is_pio = unsafe { entry.__bindgen_anon_1.pio } != 0;
        // A write nothing answers is dropped, as on the bus.
        let _ = if is_pio { io.write(entry.phys_addr, data) } else { memory.write(entry.phys_addr, data) };
    }
}
