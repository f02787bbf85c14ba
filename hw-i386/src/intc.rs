//! The interrupt controllers of a board whose accelerator brings none: devices of our own behind the lines.
//!
//! Source: QEMU `hw/i386/pc.c` (`pc_i8259_create`), `hw/i386/x86.c`.

use std::sync::Arc;

use hw_core::sysbus::sysbus_get_default;
use hw_core::{Device, Irq, qdev_new, qdev_realize};
use hw_intc::{ApicDevice, i8259_init, pic_irq_request};
use qom::{Object, Result, object_resolve_path};
use target_i386::X86Cpu;
use target_i386::features::Feature;

use crate::pc::first_cpu;
use crate::x86::X86Machine;

/// The line from the PICs to the CPUs (`x86_allocate_cpu_irq`): it goes by the local APICs. Where there are none outside
/// the kernel it is the first CPU's own.
fn cpu_irq() -> Irq {
    Irq::new(
        Arc::new(|_: u32, level: bool| {
            if !pic_irq_request(level)
                && let Some(cpu) = first_cpu()
            {
                cpu.set_interrupt_line(level);
            }
        }),
        0,
    )
}

/// Makes the two PICs, to which the lines lead from now on.
///
/// # Errors
/// When their ports are taken.
pub(crate) fn pic_init(machine: &X86Machine, isa: &Arc<dyn Object>) -> Result<()> {
    let inputs = i8259_init(isa, cpu_irq())?;
    let _ = machine.gsi_state.i8259_irq.set(inputs);
    Ok(())
}

/// Makes the I/O APIC, of either type, as a child of the host bridge; the lines lead to it if it has inputs
/// (`ioapic_init_gsi`).
///
/// # Errors
/// When the device refuses.
pub(crate) fn ioapic_init_gsi(machine: &X86Machine, type_name: &str) -> Result<()> {
    let ioapic = qdev_new(type_name)?;
    let parent = object_resolve_path("/machine/i440fx").unwrap_or_else(|_| machine.this());
    parent.property_add_child("ioapic", &ioapic)?;
    qdev_realize(&ioapic, Some(&sysbus_get_default()))?;
    let inputs = ioapic.cast::<Device>().map(|device| device.gpio_in_all("")).unwrap_or_default();
    let _ = machine.gsi_state.ioapic_irq.set(inputs);
    Ok(())
}

/// Makes a CPU's local APIC, if it has one (`x86_cpu_apic_create`).
///
/// # Errors
/// When its id is none that an APIC can have.
pub(crate) fn apic_init(machine: &X86Machine, cpu: &Arc<X86Cpu>) -> Result<()> {
    let apic = Feature::by_name("apic");
    let has_apic = cpu.expanded().zip(apic).is_some_and(|(e, apic)| e.config.features.has(apic));
    if !has_apic && machine.config().smp.cpus == 1 {
        return Ok(());
    }
    let object = qdev_new("apic")?;
    object.property_set_value("id", cpu.apic_id())?;
    cpu.this().property_add_child("lapic", &object)?;
    if let Some(apic) = qom::downcast::<ApicDevice>(object.clone()) {
        cpu.set_apic(&apic);
        apic.designate_bsp(cpu.is_bootstrap());
    }
    qdev_realize(&object, None)?;
    if accel_kvm::kvm_state().is_some() {
        util::warn_report!("Userspace local APIC is deprecated for KVM.");
        util::warn_report!("Do not use kernel-irqchip except for the -M isapc machine type.");
    }
    Ok(())
}
