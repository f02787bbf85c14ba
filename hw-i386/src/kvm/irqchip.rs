//! `kvm-i8259` and `kvm-ioapic`: the in-kernel interrupt controllers.
//!
//! Source: QEMU `hw/i386/kvm/i8259.c`, `hw/i386/kvm/ioapic.c`.

use std::sync::Arc;

use accel_kvm::kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, kvm_ioapic_state, kvm_irqchip,
    kvm_irqchip__bindgen_ty_1, kvm_pic_state,
};
use accel_kvm::{ioapic_route, pic_route};
use hw_core::intc::{InterruptStatsProvider, PicInfo, ioapic_info};
use hw_core::{DeviceClass, DeviceImpl, SysBusDevice};
use hw_isa::IsaDevice;
use qom::{Class, Object, Property, Result};
use zerocopy::{FromBytes, IntoBytes};

use super::vm;

/// Lines of the master that can be level-triggered: not 0, 1 and the cascade (ELCR1).
const ELCR_MASK_MASTER: u8 = 0xf8;
/// Lines of the slave that can be level-triggered: not 8 and 13 (ELCR2).
const ELCR_MASK_SLAVE: u8 = 0xde;
/// The version that the kernel's I/O APIC gives.
const IOAPIC_VERSION: u8 = 0x11;
/// A redirection entry after reset: masked.
const REDIRECTION_RESET: u64 = 1 << 16;
/// Where the I/O APIC's registers are.
pub(crate) const IO_APIC_DEFAULT_ADDRESS: u64 = 0xfec0_0000;

/// One of the two 8259s.
#[derive(Object)]
#[object(name = "kvm-i8259", parent = IsaDevice, interfaces(dyn InterruptStatsProvider), class_init = class_init)]
pub struct KvmI8259 {
    parent: IsaDevice,
    /// Whether this is the one next to the CPU
    #[property]
    master: Property<bool>,
}

/// The I/O APIC.
#[derive(Object)]
#[object(name = "kvm-ioapic", parent = SysBusDevice, interfaces(dyn InterruptStatsProvider))]
pub struct KvmIoapic {
    parent: SysBusDevice,
}
qom::type_init!(KvmI8259, KvmIoapic);

fn class_init(class: &mut Class) {
    class.get_mut::<DeviceClass>().board_only = true;
}

fn set_chip(chip_id: u32, chip: kvm_irqchip__bindgen_ty_1) {
    let Ok(kvm) = vm() else { return };
    if let Err(error) = kvm.vm.set_irqchip(&kvm_irqchip { chip_id, chip, ..Default::default() }) {
        eprintln!("softmmu: KVM_SET_IRQCHIP failed: {error}");
    }
}

/// The state of a chip as the kernel has it; none where it does not give it.
fn get_chip<T: FromBytes>(chip_id: u32) -> Option<T> {
    let mut irqchip = kvm_irqchip { chip_id, ..Default::default() };
    vm().ok()?.vm.get_irqchip(&mut irqchip).ok()?;
    T::read_from_prefix(irqchip.chip.as_bytes()).ok().map(|(state, _)| state)
}

impl InterruptStatsProvider for KvmI8259 {
    fn statistics(&self) -> Option<Vec<u64>> {
        Some(Vec::new())
    }

    fn info(&self) -> Option<String> {
        let master = self.master.get();
        let pic: kvm_pic_state =
            get_chip(if master { KVM_IRQCHIP_PIC_MASTER } else { KVM_IRQCHIP_PIC_SLAVE })?;
        let info = PicInfo {
            number: u8::from(!master),
            irr: pic.irr,
            imr: pic.imr,
            isr: pic.isr,
            priority_add: pic.priority_add,
            irq_base: pic.irq_base,
            read_reg_select: pic.read_reg_select != 0,
            elcr: pic.elcr,
            special_fully_nested: pic.special_fully_nested_mode != 0,
        };
        Some(info.text())
    }
}

impl InterruptStatsProvider for KvmIoapic {
    fn statistics(&self) -> Option<Vec<u64>> {
        Some(Vec::new())
    }

    fn info(&self) -> Option<String> {
        let state: kvm_ioapic_state = get_chip(KVM_IRQCHIP_IOAPIC)?;
        // An entry is 64 bits, whatever its parts.
        let table: Vec<u64> =
            state.redirtbl.iter().map(|entry| u64::read_from_bytes(entry.as_bytes()).unwrap_or(0)).collect();
        Some(ioapic_info(IOAPIC_VERSION, state.id as u8, state.ioregsel as u8, state.irr, &table))
    }
}

/// Has each line lead to the PIC and, on a board that has one, to the I/O APIC, where the timer's line 0
/// is input 2 (`kvm_pc_setup_irq_routing`).
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn setup_irq_routing(ioapic: bool) -> Result<()> {
    let pic = (0..16).filter(|n| *n != 2).map(|n| pic_route(n, n));
    let ioapic = (0..24).filter(|n| ioapic && *n != 2).map(|n| ioapic_route(n, if n == 0 { 2 } else { n }));
    match vm()?.irqchip() {
        Some(irqchip) => irqchip.set_board_routes(pic.chain(ioapic).collect()),
        None => Ok(()),
    }
}

impl DeviceImpl for KvmI8259 {
    fn realize(self: &Arc<Self>) -> Result<()> {
        vm().map(drop)
    }

    fn reset_hold(&self) {
        let (chip, elcr_mask) = match self.master.get() {
            true => (KVM_IRQCHIP_PIC_MASTER, ELCR_MASK_MASTER),
            false => (KVM_IRQCHIP_PIC_SLAVE, ELCR_MASK_SLAVE),
        };
        set_chip(chip, kvm_irqchip__bindgen_ty_1 { pic: kvm_pic_state { elcr_mask, ..Default::default() } });
    }
}

/// Makes ISA lines level-triggered at the PICs, as firmware does for those that PCI uses (ELCR).
pub(crate) fn set_level_triggered(lines: u16) {
    let [master, slave] = lines.to_le_bytes();
    for (chip, elcr, elcr_mask) in
        [(KVM_IRQCHIP_PIC_MASTER, master, ELCR_MASK_MASTER), (KVM_IRQCHIP_PIC_SLAVE, slave, ELCR_MASK_SLAVE)]
    {
        let pic = kvm_pic_state { elcr: elcr & elcr_mask, elcr_mask, ..Default::default() };
        set_chip(chip, kvm_irqchip__bindgen_ty_1 { pic });
    }
}

impl DeviceImpl for KvmIoapic {
    fn realize(self: &Arc<Self>) -> Result<()> {
        vm().map(drop)
    }

    fn reset_hold(&self) {
        let mut ioapic = kvm_ioapic_state { base_address: IO_APIC_DEFAULT_ADDRESS, ..Default::default() };
        for entry in &mut ioapic.redirtbl {
            entry.bits = REDIRECTION_RESET;
        }
        set_chip(KVM_IRQCHIP_IOAPIC, kvm_irqchip__bindgen_ty_1 { ioapic });
    }
}
