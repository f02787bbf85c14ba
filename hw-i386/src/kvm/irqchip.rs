//! `kvm-i8259` and `kvm-ioapic`: the in-kernel interrupt controllers.
//!
//! Source: QEMU `hw/i386/kvm/i8259.c`, `hw/i386/kvm/ioapic.c`.

use std::sync::Arc;

use accel_kvm::kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, kvm_ioapic_state, kvm_irqchip,
    kvm_irqchip__bindgen_ty_1, kvm_pic_state,
};
use accel_kvm::{ioapic_route, pic_route};
use hw_core::intc::{InterruptStatsProvider, ioapic_info};
use hw_core::{DeviceClass, DeviceImpl, SysBusDevice, VmState, vmstate};
use hw_intc::i8259::spec::FIRMWARE_VECTORS;
use hw_intc::i8259::{I8259, Registers};
use hw_intc::ioapic::IoApic;
use hw_isa::IsaDevice;
use qom::{Class, Object, Property, Result};
use zerocopy::{FromBytes, IntoBytes};

use super::{refused, vm};

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
#[object(name = "kvm-ioapic", parent = SysBusDevice, interfaces(dyn InterruptStatsProvider),
    class_init = vmstate::register::<KvmIoapic>)]
pub struct KvmIoapic {
    parent: SysBusDevice,
}
qom::type_init!(KvmI8259, KvmIoapic);

fn class_init(class: &mut Class) {
    class.get_mut::<DeviceClass>().board_only = true;
    vmstate::register::<KvmI8259>(class);
}

fn set_chip(chip_id: u32, chip: kvm_irqchip__bindgen_ty_1) {
    let Ok(kvm) = vm() else { return };
    let chip = kvm_irqchip { chip_id, chip, ..Default::default() };
    let set = kvm.vm.get().and_then(|vm| vm.set_irqchip(&chip).map_err(refused("KVM_SET_IRQCHIP")));
    if let Err(error) = set {
        util::error_report!("{error}");
    }
}

/// The state of a chip as the kernel has it; none where it does not give it.
fn get_chip<T: FromBytes>(chip_id: u32) -> Option<T> {
    let mut irqchip = kvm_irqchip { chip_id, ..Default::default() };
    vm().ok()?.vm.get().ok()?.get_irqchip(&mut irqchip).ok()?;
    T::read_from_prefix(irqchip.chip.as_bytes()).ok().map(|(state, _)| state)
}

/// The chip that a state of the kernel's is.
fn i8259_of(master: bool, pic: &kvm_pic_state) -> I8259 {
    I8259::from_registers(
        master,
        &Registers {
            last_irr: pic.last_irr,
            irr: pic.irr,
            imr: pic.imr,
            isr: pic.isr,
            elcr: pic.elcr,
            highest: pic.priority_add,
            vector: pic.irq_base,
            initialization: pic.init_state,
            ic4: pic.init4 != 0,
            read_isr: pic.read_reg_select != 0,
            poll: pic.poll != 0,
            special_mask: pic.special_mask != 0,
            auto_eoi: pic.auto_eoi != 0,
            rotate_on_auto_eoi: pic.rotate_on_auto_eoi != 0,
            special_fully_nested: pic.special_fully_nested_mode != 0,
        },
    )
}

/// The state of the kernel's that a chip is.
fn kvm_pic_of(chip: &I8259, elcr_mask: u8) -> kvm_pic_state {
    let r = chip.registers();
    kvm_pic_state {
        last_irr: r.last_irr,
        irr: r.irr,
        imr: r.imr,
        isr: r.isr,
        priority_add: r.highest,
        irq_base: r.vector,
        read_reg_select: r.read_isr.into(),
        poll: r.poll.into(),
        special_mask: r.special_mask.into(),
        init_state: r.initialization,
        auto_eoi: r.auto_eoi.into(),
        rotate_on_auto_eoi: r.rotate_on_auto_eoi.into(),
        special_fully_nested_mode: r.special_fully_nested.into(),
        init4: r.ic4.into(),
        elcr: r.elcr & elcr_mask,
        elcr_mask,
    }
}

/// The I/O APIC that a state of the kernel's is.
fn ioapic_of(state: &kvm_ioapic_state) -> IoApic {
    // An entry is 64 bits, whatever its parts.
    let entry = |n: usize| u64::read_from_bytes(state.redirtbl[n].as_bytes()).unwrap_or(REDIRECTION_RESET);
    let table = std::array::from_fn(entry);
    IoApic::from_registers(state.id as u8, state.ioregsel as u8, state.irr, table)
}

/// The state of the kernel's that an I/O APIC is.
fn kvm_ioapic_of(chip: &IoApic) -> kvm_ioapic_state {
    let (id, ioregsel, irr, table) = chip.registers();
    let mut state = kvm_ioapic_state {
        base_address: IO_APIC_DEFAULT_ADDRESS,
        ioregsel: ioregsel.into(),
        id: id.into(),
        irr,
        ..Default::default()
    };
    for (entry, value) in state.redirtbl.iter_mut().zip(table) {
        entry.bits = value;
    }
    state
}

impl KvmI8259 {
    /// The kernel's number of the chip, and which of its lines can be level-triggered.
    fn chip(&self) -> (u32, u8) {
        match self.master.get() {
            true => (KVM_IRQCHIP_PIC_MASTER, ELCR_MASK_MASTER),
            false => (KVM_IRQCHIP_PIC_SLAVE, ELCR_MASK_SLAVE),
        }
    }
}

impl VmState for KvmI8259 {
    /// That of a chip of our own.
    type State = I8259;

    fn save(&self) -> Option<I8259> {
        get_chip(self.chip().0).map(|pic| i8259_of(self.master.get(), &pic))
    }

    fn load(&self, state: I8259) -> Result<()> {
        let (chip, elcr_mask) = self.chip();
        set_chip(chip, kvm_irqchip__bindgen_ty_1 { pic: kvm_pic_of(&state, elcr_mask) });
        Ok(())
    }
}

impl VmState for KvmIoapic {
    /// That of a chip of our own.
    type State = IoApic;

    fn save(&self) -> Option<IoApic> {
        get_chip(KVM_IRQCHIP_IOAPIC).map(|state| ioapic_of(&state))
    }

    fn load(&self, state: IoApic) -> Result<()> {
        set_chip(KVM_IRQCHIP_IOAPIC, kvm_irqchip__bindgen_ty_1 { ioapic: kvm_ioapic_of(&state) });
        Ok(())
    }
}

impl InterruptStatsProvider for KvmI8259 {
    /// The kernel counts nothing; the master tells of both.
    fn statistics(&self) -> Option<Vec<u64>> {
        Some(if self.master.get() { vec![0; 16] } else { Vec::new() })
    }

    fn info(&self) -> Option<String> {
        Some(self.save()?.info().text())
    }
}

impl InterruptStatsProvider for KvmIoapic {
    fn statistics(&self) -> Option<Vec<u64>> {
        Some(vec![0; 24])
    }

    fn info(&self) -> Option<String> {
        // The kernel's inputs are requests, edges among them.
        let (id, ioregsel, irr, table) = self.save()?.registers();
        Some(ioapic_info(IOAPIC_VERSION, id, ioregsel, irr, &table))
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
        let (chip, elcr_mask) = self.chip();
        set_chip(chip, kvm_irqchip__bindgen_ty_1 { pic: kvm_pic_state { elcr_mask, ..Default::default() } });
    }
}

/// Leaves the PICs as firmware does: initialized, with these interrupt masks, and level-triggered for the ISA lines that PCI
/// uses (ELCR).
pub(crate) fn set_up_as_firmware(masks: [u8; 2], lines: u16) {
    let [master, slave] = lines.to_le_bytes();
    let words = FIRMWARE_VECTORS.into_iter().zip(masks);
    for ((chip, elcr, elcr_mask), (irq_base, imr)) in
        [(KVM_IRQCHIP_PIC_MASTER, master, ELCR_MASK_MASTER), (KVM_IRQCHIP_PIC_SLAVE, slave, ELCR_MASK_SLAVE)]
            .into_iter()
            .zip(words)
    {
        let elcr = elcr & elcr_mask;
        let pic = kvm_pic_state { elcr, elcr_mask, irq_base, imr, init4: 1, ..Default::default() };
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways give what there was: the kernel's chips and ours have the same registers.
    #[test]
    fn the_kernels_state_is_that_of_our_models() {
        let mut chip = I8259::new(true);
        for (a0, value) in [(false, 0x11), (true, 0x30), (true, 4), (true, 0x13), (true, 0xb8), (false, 0x6b)]
        {
            let _ = chip.write(a0, value);
        }
        chip.set_elcr(0x08);
        for n in [3, 0, 6] {
            chip.set_irq(n, true);
        }
        let state = kvm_pic_of(&chip, ELCR_MASK_MASTER);
        assert_eq!((state.irq_base, state.imr, state.irr, state.special_mask), (0x30, 0xb8, 0x49, 1));
        let mut copy = i8259_of(true, &state);
        assert_eq!(copy.registers(), chip.registers());
        // And they go on alike.
        assert_eq!(copy.acknowledge(), chip.acknowledge());
        assert_eq!((copy.read(false), copy.read(true)), (chip.read(false), chip.read(true)));
        // In the middle of the initialization, too.
        let _ = chip.write(false, 0x11);
        assert_eq!(i8259_of(true, &kvm_pic_of(&chip, u8::MAX)).registers().initialization, 1);

        let mut ioapic = IoApic::from_registers(3, 0x12, 1 << 5, [REDIRECTION_RESET; 24]);
        let _ = ioapic.write(0x10, 0x0001_0055, 4);
        let copy = ioapic_of(&kvm_ioapic_of(&ioapic));
        assert_eq!(copy.registers(), ioapic.registers());
        assert_eq!(copy.read(0x10, 4), 0x0001_0055);
    }
}
