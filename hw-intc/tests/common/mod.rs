//! An ISA bus with ports of its own, so that tests do not meet.

use std::sync::Arc;

use hw_core::sysbus::sysbus_get_default;
use hw_core::{Irq, qdev_create};
use hw_intc::{IsaI8259, i8259_init, isa_pic};
use hw_isa::isa_bus_new;
use memory::{AddressSpace, MemTxResult, MemoryRegion};
use parking_lot::Mutex;
use qom::Object;

/// The bus and what shows its ports.
pub fn isa_bus() -> (Arc<dyn Object>, Arc<AddressSpace>) {
    qom::module_call_init(qom::ModuleInitType::Qom);
    let bridge = qdev_create("isabus-bridge", Some(&sysbus_get_default()), &[]).unwrap();
    let memory = MemoryRegion::container("isa-memory", 1 << 24);
    let io = MemoryRegion::container("isa-io", 1 << 16);
    let bus = isa_bus_new(&bridge, &memory, &io).unwrap();
    (bus, AddressSpace::new("isa-io", &io))
}

/// Writes a port.
pub fn outb(io: &AddressSpace, port: u64, value: u8) {
    assert_eq!(io.write(port, &[value]), MemTxResult::Ok);
}

/// Both PICs: the master, and the sixteen inputs, with `parent` at the output.
pub fn pics(bus: &Arc<dyn Object>, parent: Irq) -> (Arc<IsaI8259>, Vec<Irq>) {
    // The machine's PIC is one.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock();
    let irqs = i8259_init(bus, parent).unwrap();
    (isa_pic().unwrap(), irqs)
}
