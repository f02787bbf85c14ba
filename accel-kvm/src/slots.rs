//! KVM's memory slots and ioeventfds, kept in step with an address space.
//!
//! Source: QEMU `accel/kvm/kvm-all.c` (`kvm_set_phys_mem`, `kvm_mem_ioeventfd_add`).

use std::sync::Arc;

use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::{IoEventAddress, NoDatamatch};
use memory::{FlatRange, IoEventFd, MemoryListener, RamBlock};
use parking_lot::Mutex;
use qom::Result;

use crate::coalesced::CoalescedRanges;
use crate::error::refused;
use crate::vm::KvmVm;

/// Slots start, end and are mapped at multiples of this.
const PAGE: u64 = 4096;

struct Slot {
    id: u32,
    start: u64,
    size: u64,
    /// Keeps the memory mapped while KVM may use it.
    _ram: Arc<RamBlock>,
}

/// Whether an address space is memory or ports, as KVM tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bus {
    /// Physical memory: slots and MMIO.
    Memory,
    /// Physical memory as a CPU in system management mode sees it: slots of KVM's second address space.
    Smram,
    /// I/O ports.
    Pio,
}

/// Follows one address space for KVM.
pub struct KvmMemoryListener {
    vm: Arc<KvmVm>,
    bus: Bus,
    readonly_mem: bool,
    coalesced: Option<Arc<CoalescedRanges>>,
    max_slots: u32,
    slots: Mutex<Vec<Slot>>,
}

impl KvmMemoryListener {
    /// A listener for one address space. `readonly_mem` says whether KVM has read-only slots, `coalesced`
    /// counts the ranges whose writes it collects, if it can do that.
    pub(crate) fn new(
        vm: Arc<KvmVm>,
        bus: Bus,
        max_slots: u32,
        readonly_mem: bool,
        coalesced: Option<Arc<CoalescedRanges>>,
    ) -> Arc<Self> {
        Arc::new(KvmMemoryListener { vm, bus, readonly_mem, coalesced, max_slots, slots: Mutex::default() })
    }

    /// The slots in use: number, guest address and size in bytes.
    pub fn slots(&self) -> Vec<(u32, u64, u64)> {
        self.slots.lock().iter().map(|s| (s.id, s.start, s.size)).collect()
    }

    /// The number KVM knows a slot by: its address space above the 16 bits of its own.
    fn kvm_slot(&self, id: u32) -> u32 {
        match self.bus {
            Bus::Smram => 1 << 16 | id,
            Bus::Memory | Bus::Pio => id,
        }
    }

    fn set_slot(&self, slot: &Slot, host: u64, readonly: bool) -> Result<()> {
        let region = kvm_userspace_memory_region {
            slot: self.kvm_slot(slot.id),
            flags: if readonly { KVM_MEM_READONLY } else { 0 },
            guest_phys_addr: slot.start,
            memory_size: slot.size,
            userspace_addr: host,
        };
        let vm = self.vm.get()?;
        // SAFETY: the memory belongs to the RamBlock that the slot's entry keeps mapped until the slot is
        // deleted, and Rust code reaches it through volatile accesses only.
        unsafe { vm.set_user_memory_region(region) }.map_err(refused)
    }

    /// The pages of `range` that a slot can cover, when it is memory that KVM can let the guest use directly.
    fn pages(&self, range: &FlatRange) -> Option<(u64, u64, u64, Arc<RamBlock>)> {
        let ram = range.readable_ram()?.clone();
        if range.writable_ram().is_none() && !self.readonly_mem {
            return None;
        }
        let start = range.start.checked_next_multiple_of(PAGE)?;
        let skip = start - range.start;
        let size = u64::try_from(range.len()).ok()?.checked_sub(skip)? / PAGE * PAGE;
        let host = ram.host_address() + range.offset + skip;
        (size > 0 && host.is_multiple_of(PAGE)).then_some((start, size, host, ram))
    }

    fn event_address(&self, address: u64) -> IoEventAddress {
        match self.bus {
            Bus::Memory | Bus::Smram => IoEventAddress::Mmio(address),
            Bus::Pio => IoEventAddress::Pio(address),
        }
    }

    fn ioevent(&self, fd: &IoEventFd, add: bool) {
        if self.bus == Bus::Smram {
            // KVM has them once for all address spaces.
            return;
        }
        let address = self.event_address(fd.address);
        let result = match (fd.data, fd.size) {
            (None, _) => self.call(add, &fd.eventfd, &address, NoDatamatch),
            (Some(data), 1) => self.call(add, &fd.eventfd, &address, data as u8),
            (Some(data), 2) => self.call(add, &fd.eventfd, &address, data as u16),
            (Some(data), 4) => self.call(add, &fd.eventfd, &address, data as u32),
            (Some(data), _) => self.call(add, &fd.eventfd, &address, data),
        };
        if let Err(error) = result {
            util::error_report!("KVM refused an ioeventfd at {:#x}: {error}", fd.address);
        }
    }

    fn call<T: Into<u64>>(
        &self,
        add: bool,
        eventfd: &vmm_sys_util::eventfd::EventFd,
        address: &IoEventAddress,
        data: T,
    ) -> Result<()> {
        let vm = self.vm.get()?;
        match add {
            true => vm.register_ioevent(eventfd, address, data),
            false => vm.unregister_ioevent(eventfd, address, data),
        }
        .map_err(refused)
    }
}

impl MemoryListener for KvmMemoryListener {
    fn region_add(&self, range: &FlatRange) {
        if self.bus == Bus::Pio {
            return;
        }
        let Some((start, size, host, ram)) = self.pages(range) else { return };
        let mut slots = self.slots.lock();
        let Some(id) = (0..self.max_slots).find(|id| !slots.iter().any(|s| s.id == *id)) else {
            // The range answers by exits, which is slow and cannot run code, but loses nothing.
            util::error_report!("no free KVM memory slot for {} at {start:#x}", range.region.name());
            return;
        };
        let slot = Slot { id, start, size, _ram: ram };
        match self.set_slot(&slot, host, range.writable_ram().is_none()) {
            Ok(()) => slots.push(slot),
            Err(error) => {
                let name = range.region.name();
                util::error_report!(
                    "KVM refused memory slot {id} for {name} at {start:#x}+{size:#x}: {error}"
                );
            }
        }
    }

    fn region_del(&self, range: &FlatRange) {
        if self.bus == Bus::Pio {
            return;
        }
        let Some((start, size, ..)) = self.pages(range) else { return };
        let mut slots = self.slots.lock();
        let Some(at) = slots.iter().position(|s| (s.start, s.size) == (start, size)) else { return };
        let gone = Slot { size: 0, ..slots.swap_remove(at) };
        if let Err(error) = self.set_slot(&gone, 0, false) {
            util::error_report!("KVM refused to delete memory slot {}: {error}", gone.id);
        }
    }

    fn eventfd_add(&self, fd: &IoEventFd) {
        self.ioevent(fd, true);
    }

    fn eventfd_del(&self, fd: &IoEventFd) {
        self.ioevent(fd, false);
    }

    fn coalesced_io_add(&self, address: u64, len: u64) {
        // Where KVM cannot, every write exits: slower, and otherwise the same.
        if let Some(ranges) = &self.coalesced
            && let Ok(vm) = self.vm.get()
            && vm.register_coalesced_mmio(self.event_address(address), len as u32).is_ok()
        {
            ranges.added();
        }
    }

    fn coalesced_io_del(&self, address: u64, len: u64) {
        if let Some(ranges) = &self.coalesced
            && let Ok(vm) = self.vm.get()
            && vm.unregister_coalesced_mmio(self.event_address(address), len as u32).is_ok()
        {
            ranges.removed();
        }
    }
}
