//! What a device, its queues and its transport share.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use memory::FlatView;
use util::log::{self, Mask};

use crate::bus::VirtioTransport;
use crate::spec::{ISR_CONFIG, ISR_QUEUE, NO_VECTOR, Status, feature};

/// State that is looked at without a lock.
pub(crate) struct Core {
    name: OnceLock<&'static str>,
    transport: OnceLock<Weak<dyn VirtioTransport>>,
    status: AtomicU8,
    isr: AtomicU8,
    host_features: AtomicU64,
    guest_features: AtomicU64,
    config_vector: AtomicU16,
    config_generation: AtomicU8,
    broken: AtomicBool,
}

impl Default for Core {
    fn default() -> Self {
        Core {
            name: OnceLock::new(),
            transport: OnceLock::new(),
            status: AtomicU8::new(0),
            isr: AtomicU8::new(0),
            host_features: AtomicU64::new(0),
            guest_features: AtomicU64::new(0),
            config_vector: AtomicU16::new(NO_VECTOR),
            config_generation: AtomicU8::new(0),
            broken: AtomicBool::new(false),
        }
    }
}

impl Core {
    pub fn set_transport(&self, name: &'static str, transport: Weak<dyn VirtioTransport>) {
        let _ = self.name.set(name);
        let _ = self.transport.set(transport);
    }

    pub fn transport(&self) -> Option<Arc<dyn VirtioTransport>> {
        self.transport.get()?.upgrade()
    }

    /// Memory as the device sees it now, if it may see it.
    pub fn memory(&self) -> Option<Arc<FlatView>> {
        self.transport()?.memory()
    }

    pub fn status(&self) -> Status {
        Status::from_bits_retain(self.status.load(Ordering::Acquire))
    }

    pub fn set_status(&self, status: Status) {
        self.status.store(status.bits(), Ordering::Release);
    }

    pub fn host_features(&self) -> u64 {
        self.host_features.load(Ordering::Acquire)
    }

    pub fn set_host_features(&self, features: u64) {
        self.host_features.store(features, Ordering::Release);
    }

    pub fn guest_features(&self) -> u64 {
        self.guest_features.load(Ordering::Acquire)
    }

    pub fn set_guest_features(&self, features: u64) {
        self.guest_features.store(features, Ordering::Release);
    }

    pub fn isr(&self) -> u8 {
        self.isr.load(Ordering::Acquire)
    }

    /// The interrupt status, which reading clears.
    pub fn take_isr(&self) -> u8 {
        self.isr.swap(0, Ordering::AcqRel)
    }

    pub fn config_vector(&self) -> u16 {
        self.config_vector.load(Ordering::Acquire)
    }

    pub fn set_config_vector(&self, vector: u16) {
        self.config_vector.store(vector, Ordering::Release);
    }

    pub fn config_generation(&self) -> u8 {
        self.config_generation.load(Ordering::Acquire)
    }

    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Adds to the interrupt status.
    pub fn add_isr(&self, isr: u8) {
        self.isr.fetch_or(isr, Ordering::AcqRel);
    }

    /// Interrupts the driver.
    pub fn interrupt(&self, isr: u8, vector: u16) {
        self.add_isr(isr);
        if let Some(transport) = self.transport() {
            transport.interrupt(vector);
        }
    }

    /// The configuration changed (`virtio_notify_config`).
    pub fn notify_config(&self) {
        self.config_generation.fetch_add(1, Ordering::AcqRel);
        if self.status().contains(Status::DRIVER_OK) {
            self.interrupt(ISR_QUEUE | ISR_CONFIG, self.config_vector());
        }
    }

    /// The driver did what the specification forbids: nothing works any more until it resets the device
    /// (`virtio_error`).
    pub fn set_broken(&self, why: &str) {
        if self.broken.swap(true, Ordering::AcqRel) {
            return;
        }
        log::log_mask(Mask::GUEST_ERROR, || format!("{}: {why}", self.name.get().unwrap_or(&"virtio")));
        if self.guest_features() & feature::VERSION_1 != 0 {
            self.status.fetch_or(Status::NEEDS_RESET.bits(), Ordering::AcqRel);
            self.notify_config();
        }
    }

    pub fn set_isr(&self, isr: u8) {
        self.isr.store(isr, Ordering::Release);
    }

    pub fn set_config_generation(&self, generation: u8) {
        self.config_generation.store(generation, Ordering::Release);
    }

    /// As after power-on.
    pub fn reset(&self) {
        self.set_status(Status::empty());
        self.set_guest_features(0);
        self.set_isr(0);
        self.set_config_vector(NO_VECTOR);
        self.broken.store(false, Ordering::Release);
    }
}
