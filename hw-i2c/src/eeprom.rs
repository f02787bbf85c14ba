//! `smbus-eeprom`: a serial memory of 256 bytes, such as describes a memory module. A PC's are empty.
//!
//! Source: QEMU `hw/i2c/smbus_eeprom.c`.

use std::sync::Arc;

use hw_core::{DeviceClass, DeviceImpl, VmState, qdev_create, vmstate};
use parking_lot::Mutex;
use qom::{Class, Object, Result, bail};
use serde::{Deserialize, Serialize};

use crate::bus::{SmbusDevice, SmbusDeviceImpl};

/// Size in bytes: every offset of a byte is one.
const SIZE: usize = 256;
/// Address of the first.
const FIRST_ADDRESS: u8 = 0x50;

/// What it holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    data: Vec<u8>,
    offset: u8,
}

impl Default for State {
    fn default() -> Self {
        State { data: vec![0; SIZE], offset: 0 }
    }
}

/// The device.
#[derive(Object)]
#[object(name = "smbus-eeprom", parent = SmbusDevice, class_init = class_init)]
pub struct SmbusEeprom {
    parent: SmbusDevice,
    state: Mutex<State>,
}
qom::type_init!(SmbusEeprom);

fn class_init(class: &mut Class) {
    // What it holds is the board's to say.
    class.get_mut::<DeviceClass>().board_only = true;
    vmstate::register::<SmbusEeprom>(class);
}

impl DeviceImpl for SmbusEeprom {
    /// As in QEMU it forgets: what it held when the machine was made counts.
    fn reset_hold(&self) {
        *self.state.lock() = State::default();
    }
}

impl SmbusDeviceImpl for SmbusEeprom {
    fn receive_byte(&self) -> u8 {
        let mut state = self.state.lock();
        let at = state.offset;
        state.offset = at.wrapping_add(1);
        state.data.get(usize::from(at)).copied().unwrap_or(0)
    }

    fn write_data(&self, data: &[u8]) {
        let Some((offset, data)) = data.split_first() else { return };
        let mut state = self.state.lock();
        state.offset = *offset;
        for byte in data {
            let at = state.offset;
            if let Some(place) = state.data.get_mut(usize::from(at)) {
                *place = *byte;
            }
            state.offset = at.wrapping_add(1);
        }
    }
}

impl VmState for SmbusEeprom {
    type State = State;

    fn save(&self) -> Option<State> {
        Some(self.state.lock().clone())
    }

    fn load(&self, state: State) -> Result<()> {
        if state.data.len() != SIZE {
            bail!("the state is of a memory of {} bytes", state.data.len());
        }
        *self.state.lock() = state;
        Ok(())
    }
}

/// Makes `count` memories, up to eight, on `bus` from address 0x50 on (`smbus_eeprom_init`).
///
/// # Errors
/// When `bus` is of another kind.
pub fn smbus_eeprom_init(bus: &Arc<dyn Object>, count: u8) -> Result<()> {
    for n in 0..count.min(8) {
        qdev_create("smbus-eeprom", Some(bus), &[("address", (FIRST_ADDRESS + n).into())])?;
    }
    Ok(())
}
