//! PIIX3: the PCI-to-ISA bridge, where PCI interrupt pins become ISA lines, and the reset control register.
//!
//! Sources: Intel 82371SB data sheet (290550), section 3; QEMU `hw/isa/piix3.c`.

use std::sync::{Arc, OnceLock};

use hw_core::runstate::{ShutdownCause, reset_request};
use hw_core::{DeviceClass, DeviceImpl, Irq, IrqPin, VmState, vmstate};
use hw_pci::spec::{CLASS_BRIDGE_ISA, HEADER_MULTI_FUNCTION, HEADER_TYPE, VENDOR_ID_INTEL};
use hw_pci::{ConfigSpace, PciBus, PciDevice, PciDeviceClass, PciDeviceImpl, PciIrqController};
use memory::{AccessRules, MemoryRegion, RegionOps};
use parking_lot::Mutex;
use qom::{Class, Object, Result, bail};

use crate::isa_bus_new;

/// Registers (82371SB, section 2).
pub mod spec {
    /// PIRQA to PIRQD route control, four bytes.
    pub const PIRQRC: usize = 0x60;
    /// Number of PIRQ inputs.
    pub const NUM_PIRQS: usize = 4;
    /// PIRQRC: the input leads to no line.
    pub const PIRQRC_DISABLED: u8 = 1 << 7;
    /// Reset control register: a port.
    pub const RCR_PORT: u16 = 0xcf9;
    /// RCR: reset the CPU when this bit goes to one.
    pub const RCR_RCPU: u8 = 1 << 2;
    /// RCR: hard reset.
    pub const RCR_SRST: u8 = 1 << 1;
    /// Device id.
    pub const DEVICE_ID: u16 = 0x7000;
    /// ISA lines a PIRQ can lead to: not 0 to 2, 8 and 13.
    pub const ROUTABLE: u16 = 0xdef8;
}
use spec::*;

/// Registers after reset: offset and value (82371SB, chapter 2, where QEMU follows it). The command register is 0, as every
/// function's.
const RESET_VALUES: [(usize, u8); 29] = [
    (0x06, 0x00),
    (0x07, 0x02),
    (0x4c, 0x4d),
    (0x4e, 0x03),
    (0x4f, 0x00),
    (0x60, 0x80),
    (0x61, 0x80),
    (0x62, 0x80),
    (0x63, 0x80),
    (0x69, 0x02),
    (0x70, 0x80),
    (0x76, 0x0c),
    (0x77, 0x0c),
    (0x78, 0x02),
    (0x79, 0x00),
    (0x80, 0x00),
    (0x82, 0x00),
    (0xa0, 0x08),
    (0xa2, 0x00),
    (0xa3, 0x00),
    (0xa4, 0x00),
    (0xa5, 0x00),
    (0xa6, 0x00),
    (0xa7, 0x00),
    (0xa8, 0x0f),
    (0xaa, 0x00),
    (0xab, 0x00),
    (0xac, 0x00),
    (0xae, 0x00),
];

#[derive(Default)]
struct State {
    /// Level of each PIRQ input.
    pirq: [bool; NUM_PIRQS],
    reset_control: u8,
}

/// The bridge.
#[derive(Object)]
#[object(name = "PIIX3", parent = PciDevice, class_init = class_init)]
pub struct Piix3 {
    parent: PciDevice,
    state: Mutex<State>,
    lines: OnceLock<Vec<IrqPin>>,
    isa: OnceLock<Arc<dyn Object>>,
}
qom::type_init!(Piix3);

fn class_init(class: &mut Class) {
    vmstate::register::<Piix3>(class);
    let device = class.get_mut::<DeviceClass>();
    device.desc = "ISA bridge";
    device.board_only = true;
    device.hotpluggable = false;
    let pci = class.get_mut::<PciDeviceClass>();
    (pci.vendor_id, pci.device_id, pci.class_id) = (VENDOR_ID_INTEL, DEVICE_ID, CLASS_BRIDGE_ISA);
}

impl Piix3 {
    /// The ISA bus behind the bridge, once it is realized.
    pub fn isa_bus(&self) -> Option<Arc<dyn Object>> {
        self.isa.get().cloned()
    }

    /// Says which lines the PIRQ inputs can drive, once.
    pub fn set_lines(&self, lines: Vec<Irq>) {
        let pin = |line| {
            let pin = IrqPin::default();
            pin.connect(line);
            pin
        };
        let _ = self.lines.set(lines.into_iter().map(pin).collect());
    }

    /// The ISA line that each PIRQ input leads to, if it leads to one.
    fn routes(&self) -> [Option<usize>; NUM_PIRQS] {
        let routes = self.with_config(|c| std::array::from_fn::<u8, NUM_PIRQS, _>(|n| c.u8(PIRQRC + n)));
        routes.map(|route| (route < 16).then_some(route.into()))
    }

    /// Drives an ISA line with what the inputs that lead to it say.
    fn update_line(&self, n: usize) {
        let Some(line) = self.lines.get().and_then(|lines| lines.get(n)) else { return };
        line.sync(false, || {
            let routes = self.routes();
            let state = self.state.lock();
            state.pirq.iter().zip(routes).any(|(level, route)| *level && route == Some(n))
        });
    }

    fn update_lines(&self) {
        (0..16).for_each(|n| self.update_line(n));
    }
}

impl DeviceImpl for Piix3 {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let Some(bus) = self.bus::<PciBus>() else { bail!("PIIX3 needs a PCI bus") };
        let this: Arc<dyn Object> = self.clone();
        let isa = isa_bus_new(&this, &bus.memory(), &bus.io())?;
        let _ = self.isa.set(isa);
        let reset_control = MemoryRegion::io("piix3-reset-control", 1, self.clone());
        bus.io().add_subregion_overlap(RCR_PORT.into(), &reset_control, 1);
        self.with_config(|c| c.set_u8(HEADER_TYPE, HEADER_MULTI_FUNCTION));
        bus.set_irq_controller(self.clone());
        Ok(())
    }

    fn reset_hold(&self) {
        self.with_config(|c| {
            RESET_VALUES.iter().for_each(|(at, value)| c.set_u8(*at, *value));
        });
        self.state.lock().reset_control = 0;
        self.update_lines();
    }
}

impl PciDeviceImpl for Piix3 {
    fn config_written(&self, at: usize, size: u8) {
        if ConfigSpace::touches(at, size, PIRQRC, NUM_PIRQS) {
            self.update_lines();
        }
    }

    fn config_loaded(&self) {
        self.update_lines();
    }
}

impl VmState for Piix3 {
    /// The reset control register.
    type State = u8;

    fn save(&self) -> Option<u8> {
        Some(self.state.lock().reset_control)
    }

    fn load(&self, reset_control: u8) -> Result<()> {
        self.state.lock().reset_control = reset_control & RCR_SRST;
        Ok(())
    }
}

impl PciIrqController for Piix3 {
    fn map_irq(&self, devfn: u8, pin: u8) -> usize {
        // Slot 0's neighbours start one further on each slot, so that single-pin devices spread.
        let slot = usize::from(devfn >> 3);
        (usize::from(pin) + slot + NUM_PIRQS - 1) % NUM_PIRQS
    }

    fn set_irq(&self, input: usize, level: bool) {
        if let Some(state) = self.state.lock().pirq.get_mut(input) {
            *state = level;
        }
        if let Some(Some(line)) = self.routes().get(input) {
            self.update_line(*line);
        }
    }
}

impl RegionOps for Piix3 {
    fn read(&self, _offset: u64, _size: u8) -> u64 {
        self.state.lock().reset_control.into()
    }

    fn write(&self, _offset: u64, value: u64, _size: u8) {
        let value = value as u8;
        if value & RCR_RCPU != 0 {
            reset_request(ShutdownCause::GuestReset);
            return;
        }
        self.state.lock().reset_control = value & RCR_SRST;
    }

    fn rules(&self) -> AccessRules {
        AccessRules::sizes(1, 1)
    }
}
