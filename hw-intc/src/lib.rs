//! Interrupt controllers (hw/intc/).
//!
//! Each is a chip, a plain struct that is told the levels of its inputs and answers with the level of its output or with
//! the messages it sends, and a device around it. The devices of KVM's own controllers are in `hw-i386`.
//!
//! What a board does with them: [`i8259_init`] with a parent line that calls [`pic_irq_request`]; a device `ioapic`, whose
//! inputs are GSIs; for each CPU a device `apic`, told of its CPU by [`ApicDevice::set_cpu`]. A CPU that runs guest code
//! takes interrupts with [`cpu_get_pic_interrupt`].

#![forbid(unsafe_code)]

pub mod apic;
mod apic_device;
pub mod i8259;
mod i8259_device;
pub mod ioapic;
mod ioapic_device;
mod statistics;

pub use apic_device::{ApicCommon, ApicCpu, ApicDevice, cpu_get_pic_interrupt, pic_irq_request, send_msi};
pub use i8259_device::{IsaI8259, PicCommon, i8259_init, isa_pic, set_up_as_firmware};
pub use ioapic_device::{IoApicCommon, IoApicDevice, ioapic_eoi_broadcast};
