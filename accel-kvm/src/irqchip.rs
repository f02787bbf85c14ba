//! The in-kernel interrupt controller and what is routed into it.
//!
//! Source: QEMU `accel/kvm/kvm-all.c` (`kvm_irqchip_*`).

use std::collections::BTreeSet;
use std::sync::Arc;

use hw_core::accel::{AccelIrqchip, MsiMessage};
use kvm_bindings::{
    KVM_IRQ_ROUTING_HV_SINT, KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC,
    KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KvmIrqRouting, kvm_irq_routing_entry,
    kvm_irq_routing_entry__bindgen_ty_1, kvm_irq_routing_hv_sint, kvm_irq_routing_irqchip,
    kvm_irq_routing_msi, kvm_msi,
};
use parking_lot::Mutex;
use qom::{Error, Result, bail};
use vmm_sys_util::eventfd::EventFd;

use crate::error::ioctl;
use crate::vm::KvmVm;

/// GSIs below are the board's lines; messages get those from here on.
pub(crate) const FIRST_MSI_GSI: u32 = 24;

/// The routing table as KVM has it.
pub struct KvmIrqchip {
    vm: Arc<KvmVm>,
    max_gsis: u32,
    /// The chips are the board's own: their lines have no routes but the messages of its I/O APIC.
    split: bool,
    routes: Mutex<Vec<kvm_irq_routing_entry>>,
    /// What the first routes stand for where the chips are the board's; locked after `routes`.
    ioapic_messages: Mutex<Vec<MsiMessage>>,
}

fn chip_route(gsi: u32, irqchip: u32, pin: u32) -> kvm_irq_routing_entry {
    kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_IRQCHIP,
        u: kvm_irq_routing_entry__bindgen_ty_1 { irqchip: kvm_irq_routing_irqchip { irqchip, pin } },
        ..Default::default()
    }
}

/// A line into the pair of 8259s: input `pin` (0 to 15).
pub fn pic_route(gsi: u32, pin: u32) -> kvm_irq_routing_entry {
    match pin {
        0..8 => chip_route(gsi, KVM_IRQCHIP_PIC_MASTER, pin),
        _ => chip_route(gsi, KVM_IRQCHIP_PIC_SLAVE, pin - 8),
    }
}

/// A line into the I/O APIC: input `pin`.
pub fn ioapic_route(gsi: u32, pin: u32) -> kvm_irq_routing_entry {
    chip_route(gsi, KVM_IRQCHIP_IOAPIC, pin)
}

fn msi_route(gsi: u32, message: MsiMessage) -> kvm_irq_routing_entry {
    let mut msi = kvm_irq_routing_msi {
        address_lo: message.address as u32,
        address_hi: (message.address >> 32) as u32,
        data: message.data,
        ..Default::default()
    };
    msi.__bindgen_anon_1.pad = 0;
    kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_MSI,
        u: kvm_irq_routing_entry__bindgen_ty_1 { msi },
        ..Default::default()
    }
}

fn hv_sint_route(gsi: u32, vcpu: u32, sint: u32) -> kvm_irq_routing_entry {
    kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_HV_SINT,
        u: kvm_irq_routing_entry__bindgen_ty_1 { hv_sint: kvm_irq_routing_hv_sint { vcpu, sint } },
        ..Default::default()
    }
}

impl KvmIrqchip {
    pub(crate) fn new(vm: Arc<KvmVm>, max_gsis: u32, split: bool) -> Arc<KvmIrqchip> {
        Arc::new(KvmIrqchip {
            vm,
            max_gsis,
            split,
            routes: Mutex::default(),
            ioapic_messages: Mutex::default(),
        })
    }

    /// Sets how the board's lines lead into the chips, in place of KVM's default.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_board_routes(&self, board: Vec<kvm_irq_routing_entry>) -> Result<()> {
        let mut routes = self.routes.lock();
        routes.retain(|r| r.type_ != KVM_IRQ_ROUTING_IRQCHIP);
        routes.extend(board);
        self.commit(&routes)
    }

    /// Adds routes with GSIs of their own.
    fn add_routes(
        &self,
        count: usize,
        route: impl Fn(usize, u32) -> kvm_irq_routing_entry,
    ) -> Result<Vec<u32>> {
        let mut routes = self.routes.lock();
        let used: BTreeSet<u32> = routes.iter().map(|route| route.gsi).collect();
        let free = (FIRST_MSI_GSI..self.max_gsis).filter(|gsi| !used.contains(gsi));
        let gsis: Vec<u32> = free.take(count).collect();
        if gsis.len() < count {
            bail!("all {} interrupt routes are in use", self.max_gsis);
        }
        let before = routes.len();
        routes.extend(gsis.iter().enumerate().map(|(n, gsi)| route(n, *gsi)));
        self.commit(&routes).inspect_err(|_| routes.truncate(before))?;
        Ok(gsis)
    }

    fn commit(&self, routes: &[kvm_irq_routing_entry]) -> Result<()> {
        let Ok(table) = KvmIrqRouting::from_entries(routes) else { bail!("too many interrupt routes") };
        self.vm.then(move |vm| vm.set_gsi_routing(&table).map_err(|e| ioctl("KVM_SET_GSI_ROUTING", e)))
    }
}

impl AccelIrqchip for KvmIrqchip {
    fn is_split(&self) -> bool {
        self.split
    }

    fn set_ioapic_messages(&self, messages: &[MsiMessage]) {
        let mut routes = self.routes.lock();
        let mut known = self.ioapic_messages.lock();
        if *known == messages {
            return;
        }
        *known = messages.to_vec();
        routes.retain(|r| r.gsi >= FIRST_MSI_GSI);
        routes.splice(0..0, (0..).zip(messages).map(|(gsi, message)| msi_route(gsi, *message)));
        // Without its routes the kernel tells of no ends: level-triggered interrupts come once.
        if let Err(error) = self.commit(&routes) {
            util::error_report!("{error}");
        }
    }

    fn set_gsi(&self, gsi: u32, level: bool) {
        // Only a GSI beyond the table fails, which the board does not have.
        let _ = self.vm.get().map(|vm| vm.set_irq_line(gsi, level));
    }

    fn send_msi(&self, message: MsiMessage) {
        // Fails for a message that no APIC takes, which the bus drops as well.
        let message = kvm_msi {
            address_lo: message.address as u32,
            address_hi: (message.address >> 32) as u32,
            data: message.data,
            ..Default::default()
        };
        let _ = self.vm.get().map(|vm| vm.signal_msi(message));
    }

    fn add_msi_routes(&self, messages: &[MsiMessage]) -> Result<Vec<u32>> {
        let message = |n: usize| messages.get(n).copied().unwrap_or_default();
        self.add_routes(messages.len(), |n, gsi| msi_route(gsi, message(n)))
    }

    fn add_hv_sint_route(&self, vp_index: u32, sint: u32) -> Result<u32> {
        let gsis = self.add_routes(1, |_, gsi| hv_sint_route(gsi, vp_index, sint))?;
        gsis.first().copied().ok_or_else(|| Error::new("no interrupt route"))
    }

    fn update_msi_routes(&self, changes: &[(u32, MsiMessage)]) -> Result<()> {
        let mut routes = self.routes.lock();
        let mut changed = routes.clone();
        for (gsi, message) in changes {
            match changed.iter_mut().find(|r| r.gsi == *gsi && r.type_ == KVM_IRQ_ROUTING_MSI) {
                Some(route) => *route = msi_route(*gsi, *message),
                None => bail!("GSI {gsi} stands for no message"),
            }
        }
        self.commit(&changed)?;
        *routes = changed;
        Ok(())
    }

    fn release_routes(&self, gsis: &[u32]) {
        // The kernel hears of it with the next change, which takes it time: an unused route does no harm.
        self.routes.lock().retain(|r| r.gsi < FIRST_MSI_GSI || !gsis.contains(&r.gsi));
    }

    fn add_irqfd(&self, gsi: u32, eventfd: &EventFd, resample: Option<&EventFd>) -> Result<()> {
        let vm = self.vm.get()?;
        match resample {
            Some(resample) => vm.register_irqfd_with_resample(eventfd, resample, gsi),
            None => vm.register_irqfd(eventfd, gsi),
        }
        .map_err(|e| ioctl("KVM_IRQFD", e))
    }

    fn remove_irqfd(&self, gsi: u32, eventfd: &EventFd) {
        // It fails when it was not registered, and then there is nothing to undo.
        let _ = self.vm.get().map(|vm| vm.unregister_irqfd(eventfd, gsi));
    }
}
