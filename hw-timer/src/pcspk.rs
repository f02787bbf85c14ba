//! `isa-pcspk`: port 0x61, with the gate and the output of the PIT's counter 2. It makes no sound.
//!
//! Source: QEMU `hw/audio/pcspk.c`; Intel 82371SB (PIIX3) data sheet, NMI status and control register.

use std::sync::{Arc, OnceLock};

use hw_core::{DeviceCategory, DeviceClass, DeviceImpl, VmState, qdev_new, qdev_realize, vmstate};
use hw_isa::IsaDevice;
use memory::{AccessRules, RegionOps};
use parking_lot::Mutex;
use qom::{Class, Link, Object, Property, Result, bail};
use serde::{Deserialize, Serialize};

use crate::i8254_device::{PitClass, PitCommon};

mod spec {
    /// The register's port.
    pub const PORT: u32 = 0x61;
    /// The counter whose output drives the speaker.
    pub const COUNTER: usize = 2;
    /// GATE of the counter.
    pub const GATE: u8 = 1 << 0;
    /// The counter's output reaches the speaker.
    pub const DATA: u8 = 1 << 1;
    /// Goes back and forth with each refresh of the memory; here with each read.
    pub const REFRESH: u8 = 1 << 4;
    /// OUT of the counter.
    pub const OUT: u8 = 1 << 5;
}

/// What the register itself remembers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct State {
    data_on: bool,
    refresh: bool,
}

/// The device.
#[derive(Object)]
#[object(name = "isa-pcspk", parent = IsaDevice, class_init = class_init)]
pub struct PcSpeaker {
    parent: IsaDevice,
    /// The port
    #[property(default = spec::PORT)]
    iobase: Property<u32>,
    /// The timer whose counter 2 it is
    #[property]
    pit: Property<Link<PitCommon>>,
    timer: OnceLock<(Arc<dyn Object>, PitClass)>,
    state: Mutex<State>,
}
qom::type_init!(PcSpeaker);

fn class_init(class: &mut Class) {
    let device = class.get_mut::<DeviceClass>();
    device.category = Some(DeviceCategory::Sound);
    // Only the board knows the timer.
    device.board_only = true;
    vmstate::register::<PcSpeaker>(class);
}

impl DeviceImpl for PcSpeaker {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let Some(pit) = self.pit.get().object() else {
            bail!("isa-pcspk: property 'pit' must be set");
        };
        let class = pit.class().get::<PitClass>().copied().unwrap_or_default();
        let _ = self.timer.set((pit, class));
        self.register_ioport(self.clone(), "pcspk", self.iobase.get(), 1)?;
        Ok(())
    }

    fn unrealize(self: &Arc<Self>) {
        self.unregister_regions();
    }
}

impl VmState for PcSpeaker {
    type State = State;

    fn save(&self) -> Option<State> {
        Some(self.state.lock().clone())
    }

    fn load(&self, state: State) -> Result<()> {
        *self.state.lock() = state;
        Ok(())
    }
}

impl RegionOps for PcSpeaker {
    fn read(&self, _offset: u64, _size: u8) -> u64 {
        let Some((pit, class)) = self.timer.get() else { return 0 };
        let State { data_on, refresh } = {
            let mut state = self.state.lock();
            state.refresh = !state.refresh;
            state.clone()
        };
        let (gate, out) = (class.pins)(&**pit, spec::COUNTER);
        let bits = [(gate, spec::GATE), (data_on, spec::DATA), (refresh, spec::REFRESH), (out, spec::OUT)];
        bits.into_iter().filter(|(on, _)| *on).fold(0, |value, (_, bit)| value | u64::from(bit))
    }

    fn write(&self, _offset: u64, value: u64, _size: u8) {
        let value = value as u8;
        self.state.lock().data_on = value & spec::DATA != 0;
        if let Some((pit, class)) = self.timer.get() {
            (class.set_gate)(&**pit, spec::COUNTER, value & spec::GATE != 0);
        }
    }

    fn rules(&self) -> AccessRules {
        AccessRules::bytes(4)
    }
}

/// Makes a PC's speaker port on the ISA bus `bus`, with counter 2 of `pit` (`pcspk_init`).
///
/// # Errors
/// When `bus` is no ISA bus.
pub fn pcspk_init(bus: &Arc<dyn Object>, pit: &Arc<dyn Object>) -> Result<Arc<dyn Object>> {
    let device = qdev_new("isa-pcspk")?;
    if let Some(speaker) = device.cast::<PcSpeaker>() {
        speaker.pit.set(Link::to(pit));
    }
    qdev_realize(&device, Some(bus))?;
    Ok(device)
}
