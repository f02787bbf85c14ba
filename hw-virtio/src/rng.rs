//! `virtio-rng`: random bytes for the guest (virtio 1.2, section 5.4), `max-bytes` every `period` ms at most.
//!
//! Source followed besides: QEMU `hw/virtio/virtio-rng.c`.

use std::sync::{Arc, OnceLock};

use backends::{RngBackend, rng_backend_request_entropy};
use hw_core::{DeviceCategory, DeviceClass, DeviceImpl, VmState, vmstate};
use hw_pci::spec::CLASS_OTHERS;
use parking_lot::Mutex;
use qom::{Class, Link, Object, Property, Result, UserCreatable, bail, object_new};
use util::clock::{ClockType, now_ns};
use util::timer::Timer;

use crate::pci::{VECTORS_UNSPECIFIED, Variants, VirtioPciType};
use crate::spec::{Status, id, pci::DEVICE_ID_RNG};
use crate::{VirtIODevice, VirtQueue, VirtQueueElement, VirtioDeviceImpl};

/// Entries of the queue.
const QUEUE_SIZE: u16 = 8;
/// What is asked of the backend at once; a buffer need not be filled to its end.
const MAX_REQUEST: u64 = 64 << 10;

/// The device.
#[derive(Object)]
#[object(name = "virtio-rng-device", parent = VirtIODevice, class_init = class_init)]
pub struct VirtIORng {
    parent: VirtIODevice,
    /// Bytes that the guest gets in a period at most
    #[property(default = i64::MAX as u64)]
    max_bytes: Property<u64>,
    /// Length of a period in ms
    #[property(default = 1 << 16)]
    period: Property<u32>,
    #[property]
    rng: Property<Link<RngBackend>>,
    backend: OnceLock<Arc<dyn Object>>,
    queue: OnceLock<Arc<VirtQueue>>,
    /// Ends the period.
    timer: OnceLock<Timer>,
    state: Mutex<State>,
}
qom::type_init!(VirtIORng);
qom::type_init!(fn register_pci);

fn class_init(class: &mut Class) {
    class.get_mut::<DeviceClass>().category = Some(DeviceCategory::Misc);
    vmstate::register::<VirtIORng>(class);
}

fn register_pci() {
    VirtioPciType {
        name: "virtio-rng-pci",
        backend: "virtio-rng-device",
        device_id: DEVICE_ID_RNG,
        class_id: CLASS_OTHERS,
        category: DeviceCategory::Misc,
        variants: Variants::All,
        ioeventfd: Some(true),
        vectors: Some(VECTORS_UNSPECIFIED),
        has_class: false,
        default_vectors: |_| 2,
        prepare: None,
    }
    .register();
}

#[derive(Default)]
struct State {
    /// What is left of this period.
    quota: u64,
    /// A period has begun.
    period: bool,
    /// What the backend was asked for: the buffer, and the number of the request.
    pending: Option<VirtQueueElement>,
    request: u64,
}

impl VirtIORng {
    fn this_rng(&self) -> Option<Arc<VirtIORng>> {
        qom::downcast(self.this())
    }

    /// Asks for bytes for the next buffer, if there is one, and something is left to give.
    fn process(&self) {
        let Some(queue) = self.queue.get() else { return };
        if !self.is_running() || !queue.is_ready() {
            return;
        }
        let mut state = self.state.lock();
        if !std::mem::replace(&mut state.period, true)
            && let Some(timer) = self.timer.get()
        {
            timer.mod_ns(now_ns(ClockType::Virtual) + u64::from(self.period.get()) * 1_000_000);
        }
        if state.pending.is_some() || state.quota == 0 {
            return;
        }
        let Some(element) = queue.pop() else { return };
        let size = element.writable_len().min(state.quota).min(MAX_REQUEST);
        state.pending = Some(element);
        state.request += 1;
        let request = state.request;
        drop(state);
        self.ask(size as usize, request);
    }

    fn ask(&self, size: usize, request: u64) {
        let (Some(backend), Some(this)) = (self.backend.get(), self.this_rng()) else { return };
        let this = Arc::downgrade(&this);
        let receive = move |data: &[u8]| {
            if let Some(this) = this.upgrade() {
                this.receive(data, request);
            }
        };
        rng_backend_request_entropy(backend, size, Box::new(receive));
    }

    /// Bytes came; on the main loop's thread.
    fn receive(&self, data: &[u8], request: u64) {
        let Some(queue) = self.queue.get() else { return };
        let mut state = self.state.lock();
        if state.request != request {
            return;
        }
        let Some(element) = state.pending.take() else { return };
        if !self.is_running() {
            // Taken again when the machine goes on.
            queue.unpop(element);
            return;
        }
        let written = element.write(0, data);
        state.quota = state.quota.saturating_sub(data.len() as u64);
        drop(state);
        queue.push(element, written as u32);
        queue.notify();
        // A source that gives nothing is asked again when the driver asks.
        if !data.is_empty() {
            self.process();
        }
    }

    fn new_period(&self) {
        self.state.lock().quota = self.max_bytes.get();
        self.process();
        self.state.lock().period = false;
    }

    /// The source that the user named, or one of our own.
    fn take_backend(&self) -> Result<()> {
        if self.rng.get().object().is_none() {
            let object = object_new("rng-builtin")?;
            if let Some(creatable) = object.interface::<dyn UserCreatable>() {
                creatable.complete()?;
            }
            self.this().property_add_child("default-backend", &object)?;
            self.rng.set(Link::to(&object));
        }
        let Some(backend) = self.rng.get().object() else { bail!("'rng' parameter expects a valid object") };
        let _ = self.backend.set(backend);
        Ok(())
    }
}

impl DeviceImpl for VirtIORng {
    fn realize(self: &Arc<Self>) -> Result<()> {
        if self.period.get() == 0 {
            bail!("'period' parameter expects a positive integer");
        }
        if self.max_bytes.get() > i64::MAX as u64 {
            bail!("'max-bytes' parameter must be non-negative, and less than 2^63");
        }
        self.take_backend()?;
        self.init(id::RNG, 0);
        let _ = self.queue.set(self.add_queue(QUEUE_SIZE)?);
        self.state.lock().quota = self.max_bytes.get();
        let this = Arc::downgrade(self);
        let timer = Timer::new(ClockType::Virtual, move || {
            if let Some(this) = this.upgrade() {
                this.new_period();
            }
        });
        let _ = self.timer.set(timer);
        Ok(())
    }

    fn unrealize(self: &Arc<Self>) {
        if let Some(timer) = self.timer.get() {
            timer.del();
        }
    }
}

impl VirtioDeviceImpl for VirtIORng {
    fn queue_notified(self: &Arc<Self>, _queue: &Arc<VirtQueue>) {
        self.process();
    }

    fn set_status(&self, _status: Status) {
        self.process();
    }

    fn device_reset(&self) {
        // What comes for it later is dropped.
        self.state.lock().pending = None;
    }
}

impl VmState for VirtIORng {
    /// What is left of the period.
    type State = u64;

    fn save(&self) -> Option<u64> {
        Some(self.state.lock().quota)
    }

    fn load(&self, quota: u64) -> Result<()> {
        let mut state = self.state.lock();
        state.quota = quota;
        // The buffer that waited is taken again.
        state.pending = None;
        Ok(())
    }
}
