//! `isa-debugcon`: each byte written to a port goes to a character device.
//!
//! Source: QEMU `hw/char/debugcon.c`.

use std::collections::VecDeque;
use std::sync::Arc;

use chardev::CharFrontend;
use hw_core::{CharProperty, DeviceCategory, DeviceClass, DeviceImpl};
use hw_isa::IsaDevice;
use memory::{AccessRules, RegionOps};
use parking_lot::Mutex;
use qom::{Class, Object, Property, Result, bail};

/// The device.
#[derive(Object)]
#[object(name = "isa-debugcon", parent = IsaDevice, class_init = class_init)]
pub struct IsaDebugcon {
    parent: IsaDevice,
    #[property(default = 0xe9)]
    iobase: Property<u32>,
    /// ID of a chardev to use as a backend
    #[property]
    chardev: Property<CharProperty>,
    /// What a read of the port gives, so that guests know the device is there
    #[property(default = 0xe9)]
    readback: Property<u32>,
    frontend: CharFrontend,
    output: Mutex<Output>,
}
qom::type_init!(IsaDebugcon);

/// How much waits for a slow reader; what comes beyond that is lost, for the port cannot make a guest wait.
const BUFFER: usize = 64 << 10;
/// How much is offered to the reader at once.
const CHUNK: usize = 4096;

#[derive(Default)]
struct Output {
    /// Bytes the backend has not taken yet.
    waiting: VecDeque<u8>,
    /// Somebody hands them on, or will when the backend takes more.
    busy: bool,
}

fn class_init(class: &mut Class) {
    class.get_mut::<DeviceClass>().category = Some(DeviceCategory::Misc);
}

impl IsaDebugcon {
    fn put(&self, byte: u8) {
        let mut output = self.output.lock();
        if output.waiting.len() < BUFFER {
            output.waiting.push_back(byte);
        }
        if !std::mem::replace(&mut output.busy, true) {
            drop(output);
            self.hand_on();
        }
    }

    /// Hands on what waits; for the one who made the output busy.
    fn hand_on(&self) {
        loop {
            let bytes: Vec<u8> = {
                let mut output = self.output.lock();
                output.busy = !output.waiting.is_empty();
                output.waiting.iter().take(CHUNK).copied().collect()
            };
            if bytes.is_empty() {
                return;
            }
            let taken = self.frontend.write(&bytes);
            if taken == 0 && self.go_on_later() {
                return;
            }
            // Without somebody to wait for, the rest is lost.
            let gone = if taken == 0 { bytes.len() } else { taken };
            self.output.lock().waiting.drain(..gone);
        }
    }

    fn go_on_later(&self) -> bool {
        let this = qom::downcast::<IsaDebugcon>(self.this()).map(|this| Arc::downgrade(&this));
        let this = this.unwrap_or_default();
        self.frontend.add_watch(move || {
            if let Some(this) = this.upgrade() {
                this.hand_on();
            }
        })
    }
}

impl DeviceImpl for IsaDebugcon {
    fn realize(self: &Arc<Self>) -> Result<()> {
        if !CharProperty::attach(&self.chardev, &self.frontend)? {
            bail!("Can't create debugcon device, empty char device");
        }
        self.register_ioport(self.clone(), "isa-debugcon", self.iobase.get(), 1)?;
        Ok(())
    }

    fn unrealize(self: &Arc<Self>) {
        self.unregister_regions();
        self.frontend.detach();
    }
}

impl RegionOps for IsaDebugcon {
    fn read(&self, _offset: u64, _size: u8) -> u64 {
        self.readback.get().into()
    }

    fn write(&self, _offset: u64, value: u64, _size: u8) {
        self.put(value as u8);
    }

    fn rules(&self) -> AccessRules {
        AccessRules::sizes(1, 1)
    }
}
