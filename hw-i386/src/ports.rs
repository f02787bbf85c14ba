//! Ports that belong to no chip: POST codes, the coprocessor's, and system control port A.
//!
//! Source: QEMU `hw/i386/pc.c` (`ioport80_io_ops`, `ioportF0_io_ops`), `hw/i386/port92.c`.

use std::sync::Arc;

use hw_core::runstate::{ShutdownCause, reset_request};
use hw_core::{DeviceClass, DeviceImpl, IrqPin, VmState, vmstate};
use hw_isa::IsaDevice;
use memory::{AccessRules, MemoryRegion, RegionOps, get_system_io};
use parking_lot::Mutex;
use qom::{Class, Object, Result};

/// Takes POST codes and forgets them; Linux writes it to lose a microsecond.
const POST_PORT: u64 = 0x80;
/// Clears the coprocessor's error line, which KVM's guests do not use.
const FERR_PORT: u64 = 0xf0;

struct WriteOnly;

impl RegionOps for WriteOnly {
    fn read(&self, _offset: u64, _size: u8) -> u64 {
        u64::MAX
    }

    fn write(&self, _offset: u64, _value: u64, _size: u8) {}

    fn rules(&self) -> AccessRules {
        AccessRules::sizes(1, 1)
    }
}

/// Maps the two ports.
pub(crate) fn map() {
    let ops = Arc::new(WriteOnly);
    get_system_io().add_subregion(POST_PORT, &MemoryRegion::io("ioport80", 1, ops.clone()));
    get_system_io().add_subregion(FERR_PORT, &MemoryRegion::io("ioportF0", 1, ops));
}

/// Port 0x92.
const PORT92: u32 = 0x92;
/// Its bit that opens the A20 gate.
const A20_GATE: u8 = 1 << 1;
/// Its bit that resets the CPU when it goes to one.
const FAST_RESET: u8 = 1 << 0;

/// System control port A.
#[derive(Object)]
#[object(name = "port92", parent = IsaDevice, class_init = class_init)]
pub struct Port92 {
    parent: IsaDevice,
    value: Mutex<u8>,
    a20: Arc<IrqPin>,
}
qom::type_init!(Port92);

fn class_init(class: &mut Class) {
    class.get_mut::<DeviceClass>().board_only = true;
    vmstate::register::<Port92>(class);
}

impl Port92 {
    /// Opens the gate as SeaBIOS does.
    pub(crate) fn open_a20_gate(&self) {
        self.write(0, A20_GATE.into(), 1);
    }
}

impl DeviceImpl for Port92 {
    fn realize(self: &Arc<Self>) -> Result<()> {
        self.init_gpio_out("a20", &self.a20);
        self.register_ioport(self.clone(), "port92", PORT92, 1)?;
        Ok(())
    }

    fn reset_hold(&self) {
        *self.value.lock() &= !FAST_RESET;
    }
}

impl VmState for Port92 {
    type State = u8;

    fn save(&self) -> Option<u8> {
        Some(*self.value.lock())
    }

    fn load(&self, state: u8) -> Result<()> {
        *self.value.lock() = state;
        self.a20.set(state & A20_GATE != 0);
        Ok(())
    }
}

impl RegionOps for Port92 {
    fn read(&self, _offset: u64, _size: u8) -> u64 {
        (*self.value.lock()).into()
    }

    fn write(&self, _offset: u64, value: u64, _size: u8) {
        let new = value as u8;
        let old = std::mem::replace(&mut *self.value.lock(), new);
        self.a20.set(new & A20_GATE != 0);
        if new & !old & FAST_RESET != 0 {
            reset_request(ShutdownCause::GuestReset);
        }
    }

    fn rules(&self) -> AccessRules {
        AccessRules::sizes(1, 1)
    }
}
