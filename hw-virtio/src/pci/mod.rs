//! The PCI transport (virtio 1.2, section 4.1): a PCI function with a virtio device behind it.
//!
//! Source followed besides: QEMU `hw/virtio/virtio-pci.c`.

mod legacy;
mod modern;
mod types;

use std::sync::{Arc, OnceLock};

use hw_core::accel::accel_irqchip;
use hw_core::{DeviceImpl, VmState, qbus_new, qdev_realize, qdev_unparent, vmstate};
use hw_pci::spec::{CAP_ID_VENDOR, COMMAND, COMMAND_MASTER, INTERRUPT_PIN, REVISION_ID};
use hw_pci::spec::{CLASS_DEVICE, DEVICE_ID, SUBSYSTEM_ID};
use hw_pci::{BarKind, ConfigSpace, PciDevice, PciDeviceClass, PciDeviceImpl};
use memory::{FlatView, IoEventFd, MemoryRegion};
use parking_lot::Mutex;
use qom::property::OnOffAuto;
use qom::{Class, ClassInit, Error, Object, Property, Result, bail, object_new};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::bus::{VirtioBus, VirtioTransport};
use crate::device::VirtIODevice;
use crate::queue::VirtQueue;
use crate::spec::pci::{CAP_LEN, MODERN_DEVICE_ID, VENDOR_ID};
use crate::spec::{NO_VECTOR, Status, feature};

use legacy::LegacyRegion;
use modern::{ModernBar, Registers};
pub use types::{VECTORS_UNSPECIFIED, Variants, VirtioPciType, optimal_num_queues};

/// Base address registers: the legacy interface's ports, MSI-X, notification by port, the modern interface.
const LEGACY_BAR: usize = 0;
const MSIX_BAR: usize = 1;
const MODERN_IO_BAR: usize = 2;
const MODERN_BAR: usize = 4;

/// The function. Types with a device behind it inherit it ([`VirtioPciType`]).
#[derive(Object)]
#[object(name = "virtio-pci", parent = PciDevice, abstract, class_init = class_init)]
pub struct VirtIOPciProxy {
    parent: PciDevice,
    /// on/off
    #[property(name = "virtio-pci-bus-master-bug-migration")]
    bus_master_bug_migration: Property<bool>,
    /// on/off
    #[property(name = "migrate-extra", default = true)]
    migrate_extra: Property<bool>,
    /// on/off
    #[property(name = "modern-pio-notify")]
    modern_pio_notify: Property<bool>,
    /// on/off
    #[property(name = "x-disable-pcie")]
    disable_pcie: Property<bool>,
    /// on/off
    #[property(name = "page-per-vq")]
    page_per_vq: Property<bool>,
    #[property(name = "x-ignore-backend-features")]
    ignore_backend_features: Property<bool>,
    /// on/off
    #[property(name = "ats")]
    ats: Property<bool>,
    /// on/off
    #[property(name = "x-ats-page-aligned", default = true)]
    ats_page_aligned: Property<bool>,
    /// on/off
    #[property(name = "x-pcie-deverr-init", default = true)]
    pcie_deverr_init: Property<bool>,
    /// on/off
    #[property(name = "x-pcie-lnkctl-init", default = true)]
    pcie_lnkctl_init: Property<bool>,
    /// on/off
    #[property(name = "x-pcie-pm-init", default = true)]
    pcie_pm_init: Property<bool>,
    /// on/off
    #[property(name = "x-pcie-flr-init", default = true)]
    pcie_flr_init: Property<bool>,
    /// on/off
    #[property(name = "aer")]
    aer: Property<bool>,
    // Properties of some types only.
    disable_legacy: Property<OnOffAuto>,
    disable_modern: Property<bool>,
    ioeventfd: Property<bool>,
    nvectors: Property<u32>,
    class_code: Property<u32>,

    backend: OnceLock<Arc<dyn Object>>,
    modern: OnceLock<ModernBar>,
    legacy_region: OnceLock<MemoryRegion>,
    registers: Mutex<Registers>,
    /// The regions' eventfds, while notifications come by them.
    eventfds: Mutex<Option<Vec<(MemoryRegion, IoEventFd)>>>,
    /// Held while INTA# is set to what the interrupt status says, so that the last to look is right.
    intx: Mutex<()>,
}
qom::type_init!(VirtIOPciProxy);

fn class_init(class: &mut Class) {
    <PciDevice as ClassInit<VirtIOPciProxy>>::class_init(class);
    vmstate::register::<VirtIOPciProxy>(class);
    class.get_mut::<PciDeviceClass>().vendor_id = VENDOR_ID;
}

impl VirtIOPciProxy {
    /// Makes the device behind the function, before properties are set.
    fn init_backend(&self, object: &Arc<dyn Object>, type_name: &str) {
        if let Ok(backend) = object_new(type_name)
            && object.property_add_child("virtio-backend", &backend).is_ok()
        {
            let _ = self.backend.set(backend);
        }
    }

    /// The device behind the function.
    pub fn backend(&self) -> Option<Arc<dyn Object>> {
        self.backend.get().cloned()
    }

    fn device(&self) -> Option<&VirtIODevice> {
        self.backend.get()?.cast::<VirtIODevice>()
    }

    /// There is only the modern interface, whatever the user chose: for devices that never had another
    /// (`virtio_pci_force_virtio_1`).
    pub fn force_virtio_1(&self) {
        self.disable_modern.set(false);
        self.disable_legacy.set(OnOffAuto::On);
    }

    /// Notifications come by eventfds, for others who wait for them, before it is realized.
    pub fn force_ioeventfd(&self) {
        self.ioeventfd.set(true);
    }

    /// The PCI class that the user chose; 0 for none.
    pub fn class_code(&self) -> u32 {
        self.class_code.get()
    }

    /// Chooses the PCI class, before it is realized.
    pub fn set_class_code(&self, class: u32) {
        self.class_code.set(class);
    }

    /// How many interrupt vectors it has; 0 without MSI-X.
    pub fn vectors(&self) -> u32 {
        self.nvectors.get()
    }

    fn is_legacy(&self) -> bool {
        self.disable_legacy.get() == OnOffAuto::Off
    }

    fn is_modern(&self) -> bool {
        !self.disable_modern.get()
    }

    /// Checks which interfaces there are to be, and realizes the device behind the function.
    fn realize_backend(self: &Arc<Self>, backend: &Arc<dyn Object>) -> Result<()> {
        if self.disable_legacy.get() == OnOffAuto::Auto {
            // Below a port of PCI Express, which there is none of, it would be on.
            self.disable_legacy.set(OnOffAuto::Off);
        }
        if !self.is_modern() && !self.is_legacy() {
            let error = Error::new("device cannot work as neither modern nor legacy mode is enabled");
            return Err(error.with_hint("Set either disable-modern or disable-legacy to off"));
        }
        let this: Arc<dyn Object> = self.clone();
        let class = this.class().get::<types::VirtioPciClass>().cloned().unwrap_or_default();
        if let Some(prepare) = class.prepare {
            prepare(self, backend)?;
        }
        if self.vectors() == VECTORS_UNSPECIFIED {
            self.nvectors.set(class.default_vectors.map_or(0, |vectors| vectors(&**backend)));
        }
        let bus = qbus_new("virtio-pci-bus", Some(&this), Some("virtio-bus"))?;
        if let Some(bus) = bus.cast::<VirtioBus>() {
            let transport: Arc<dyn VirtioTransport> = self.clone();
            bus.set_transport(Arc::downgrade(&transport));
        }
        qdev_realize(backend, Some(&bus))
    }

    /// Gives the function registers by what the device behind it is (`virtio_pci_device_plugged`).
    fn device_plugged(self: &Arc<Self>, device: &VirtIODevice) -> Result<()> {
        if !self.ignore_backend_features.get() && !device.offers(feature::VERSION_1) {
            self.disable_modern.set(true);
            if !self.is_legacy() {
                let error = Error::new("Device doesn't support modern mode, and legacy mode is disabled");
                return Err(error.with_hint("Set disable-legacy to off"));
            }
        }
        if self.is_legacy() {
            self.check_legacy(device)?;
        }
        self.with_config(|config| {
            if self.class_code.get() != 0 {
                config.set_u16(CLASS_DEVICE, self.class_code.get() as u16);
            }
            if self.is_legacy() {
                config.set_u16(SUBSYSTEM_ID, device.device_id());
            } else {
                config.set_u16(DEVICE_ID, MODERN_DEVICE_ID + device.device_id());
                config.set_u8(REVISION_ID, 1);
            }
            config.set_u8(INTERRUPT_PIN, 1);
        });
        self.registers.lock().init(device.queues().len());
        if self.is_modern() {
            let modern = ModernBar::new(self, self.page_per_vq.get(), self.modern_pio_notify.get())?;
            let _ = self.modern.set(modern);
        }
        if self.vectors() > 0 && self.msix_init_exclusive_bar(self.vectors() as usize, MSIX_BAR).is_err() {
            util::warn_report!("unable to init msix vectors to {}", self.vectors());
            self.nvectors.set(0);
        }
        if self.is_legacy() {
            let region = LegacyRegion::region(self, device.config_len());
            self.register_bar(LEGACY_BAR, BarKind::Io, &region);
            let _ = self.legacy_region.set(region);
        }
        Ok(())
    }

    fn check_legacy(&self, device: &VirtIODevice) -> Result<()> {
        if !device.legacy_allowed() {
            if !device.legacy_check_disabled() {
                bail!("device is modern-only, use disable-legacy=on");
            }
            util::warn_report!("device is modern-only, but for backward compatibility legacy is allowed");
        }
        if device.offers(feature::ACCESS_PLATFORM) {
            bail!("VIRTIO_F_IOMMU_PLATFORM was supported by neither legacy nor transitional device");
        }
        Ok(())
    }

    /// Adds one of the capabilities that say where the modern interface is (section 4.1.4): all of it but id and
    /// link.
    fn add_virtio_cap(&self, bytes: &[u8]) -> Result<usize> {
        self.with_config(|config| {
            let at = config.add_capability(CAP_ID_VENDOR, None, bytes.len() + CAP_LEN)?;
            config.set(at + CAP_LEN, bytes);
            Ok(at)
        })
    }

    /// The driver writes the status, by either interface.
    fn write_status(&self, status: Status) {
        let Some(device) = self.device() else { return };
        if !status.contains(Status::DRIVER_OK) {
            self.stop_ioeventfd();
        }
        if status.is_empty() {
            self.reset_device();
            return;
        }
        let starts = status.contains(Status::DRIVER_OK);
        if starts && !device.status().contains(Status::DRIVER_OK) {
            self.start_irqfds();
        }
        device.write_status(status);
        if starts {
            self.start_ioeventfd();
        } else {
            self.stop_irqfds();
        }
    }

    /// Everything of the device as after power-on (`virtio_pci_reset`).
    fn reset_device(&self) {
        self.stop_ioeventfd();
        if let Some(device) = self.device() {
            device.reset();
        }
        self.stop_irqfds();
        self.registers.lock().reset();
        self.sync_intx();
    }

    /// Sets INTA# to what the interrupt status says.
    fn sync_intx(&self) {
        let Some(device) = self.device() else { return };
        let _intx = self.intx.lock();
        let uses_intx = !self.msix().is_some_and(|msix| msix.is_enabled());
        self.set_irq(0, uses_intx && device.core().isr() & 1 != 0);
    }

    /// The driver reads the interrupt status, which clears it.
    fn read_isr(&self) -> u8 {
        let Some(device) = self.device() else { return 0 };
        let isr = device.core().take_isr();
        self.sync_intx();
        isr
    }

    /// A vector that the driver chose; none where there is no such vector, by which it can see that.
    fn checked_vector(&self, vector: u16) -> u16 {
        if u32::from(vector) < self.vectors() { vector } else { NO_VECTOR }
    }

    /// The driver chooses a queue's vector.
    fn set_queue_vector(&self, queue: &VirtQueue, vector: u16) {
        queue.set_vector(self.checked_vector(vector));
        if self.device().is_some_and(|device| device.status().contains(Status::DRIVER_OK)) {
            self.start_irqfds();
        }
    }

    /// Has queues' interrupts be sent by the accelerator when their eventfds are signalled, where it can and the driver
    /// uses MSI-X (`kvm_virtio_pci_vector_use`). A queue keeps the eventfd that it has: the kernel may have it, too.
    fn start_irqfds(&self) {
        let (Some(device), Some(msix), Some(irqchip)) = (self.device(), self.msix(), accel_irqchip()) else {
            return;
        };
        if !msix.is_enabled() {
            return self.stop_irqfds();
        }
        let mut queues = device.queues();
        queues.retain(|queue| u32::from(queue.vector()) < self.vectors());
        let eventfd = |queue: &Arc<VirtQueue>| match queue.guest_notifier() {
            Some(eventfd) => Some((usize::from(queue.vector()), eventfd)),
            None => Some((usize::from(queue.vector()), Arc::new(EventFd::new(EFD_NONBLOCK).ok()?))),
        };
        let Some(wanted) = queues.iter().map(eventfd).collect::<Option<Vec<_>>>() else { return };
        if wanted.is_empty() || msix.set_irqfds(&irqchip, &wanted).is_err() {
            // Messages are sent one by one then.
            return self.stop_irqfds();
        }
        for (queue, (_, eventfd)) in queues.iter().zip(wanted) {
            queue.set_guest_notifier(Some(eventfd));
        }
    }

    /// MSI-X may have been switched on or off under a driver at work.
    fn msix_switched(&self, device: &VirtIODevice) {
        let has = device.queues().iter().any(|queue| queue.guest_notifier().is_some());
        let enabled = self.msix().is_some_and(|msix| msix.is_enabled());
        if has != enabled && device.status().contains(Status::DRIVER_OK) {
            self.start_irqfds();
        }
    }

    fn stop_irqfds(&self) {
        for queue in self.device().map(VirtIODevice::queues).unwrap_or_default() {
            queue.set_guest_notifier(None);
        }
        if let Some(msix) = self.msix() {
            msix.remove_irqfds();
        }
    }

    /// Has notifications come by eventfds where the accelerator signals them, and the user wants it.
    fn start_ioeventfd(&self) {
        let Some(device) = self.device() else { return };
        let mut eventfds = self.eventfds.lock();
        if !self.ioeventfd.get() || !hw_core::accel::has_ioeventfds() || eventfds.is_some() {
            return;
        }
        let _transaction = memory::transaction();
        let all = eventfds.insert(Vec::new());
        for queue in device.queues().iter().filter(|queue| queue.is_ready()) {
            match device.start_notifier(queue) {
                Ok(eventfd) => all.extend(self.assign(queue, &eventfd)),
                // Its notifications come to the handlers of the regions, which is slower.
                Err(error) => util::error_report!("unable to init event notifier: {error}"),
            }
        }
    }

    /// Shows a queue's eventfd in the regions that drivers notify in, and signals it: the driver may have been faster.
    fn assign(&self, queue: &VirtQueue, eventfd: &Arc<EventFd>) -> Vec<(MemoryRegion, IoEventFd)> {
        let modern = self.modern.get().into_iter().flat_map(|modern| modern.eventfds(queue.index(), eventfd));
        let legacy = self.legacy_region.get().map(|region| legacy::eventfd(region, queue.index(), eventfd));
        let all: Vec<_> = modern.chain(legacy).collect();
        all.iter().for_each(|(region, fd)| region.add_eventfd(fd.clone()));
        // A full counter wakes, too.
        let _ = eventfd.write(1);
        all
    }

    fn stop_ioeventfd(&self) {
        let Some(eventfds) = self.eventfds.lock().take() else { return };
        let _transaction = memory::transaction();
        for (region, fd) in &eventfds {
            region.del_eventfd(fd);
        }
        for queue in self.device().map(VirtIODevice::queues).unwrap_or_default() {
            queue.notifier.stop();
        }
    }
}

impl VirtioTransport for VirtIOPciProxy {
    fn features(&self) -> u64 {
        feature::BAD_FEATURE | if self.is_modern() { feature::VERSION_1 } else { 0 }
    }

    fn vectors(&self) -> u16 {
        u16::try_from(self.nvectors.get()).unwrap_or(u16::MAX)
    }

    fn interrupt(&self, vector: u16) {
        match self.msix().filter(|msix| msix.is_enabled()) {
            Some(msix) if vector != NO_VECTOR => msix.notify(vector.into()),
            Some(_) => {}
            None => self.sync_intx(),
        }
    }

    fn started(&self) {
        self.start_irqfds();
        self.start_ioeventfd();
    }

    fn queue_select(&self) -> u16 {
        self.registers.lock().queue_select
    }

    fn memory(&self) -> Option<Arc<FlatView>> {
        self.dma_view()
    }
}

impl DeviceImpl for VirtIOPciProxy {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let Some(backend) = self.backend() else { bail!("'{}' has no device", self.class().name()) };
        let Some(device) = self.device() else { bail!("'{}' is not a virtio device", backend.type_name()) };
        let result = self.realize_backend(&backend).and_then(|()| self.device_plugged(device));
        result.inspect_err(|_| qdev_unparent(&backend))
    }

    fn unrealize(self: &Arc<Self>) {
        self.stop_ioeventfd();
        self.stop_irqfds();
    }

    fn reset_hold(&self) {
        self.reset_device();
    }
}

impl PciDeviceImpl for VirtIOPciProxy {
    const CONVENTIONAL: bool = false;

    fn config_reading(&self, at: usize, size: u8) {
        if let Some(modern) = self.modern.get() {
            modern.config_reading(self, at, size);
        }
    }

    fn config_written(&self, at: usize, size: u8) {
        if let Some(modern) = self.modern.get() {
            modern.config_written(self, at, size);
        }
        let Some(device) = self.device() else { return };
        self.msix_switched(device);
        let is_master = self.with_config(|config| config.u16(COMMAND) & COMMAND_MASTER != 0);
        if ConfigSpace::touches(at, size, COMMAND, 1)
            && !is_master
            && device.status().contains(Status::DRIVER_OK)
        {
            self.write_status(device.status() - Status::DRIVER_OK);
        }
    }
}

impl VmState for VirtIOPciProxy {
    type State = Registers;

    fn save(&self) -> Option<Registers> {
        Some(self.registers.lock().clone())
    }

    fn load(&self, state: Registers) -> Result<()> {
        let mut registers = self.registers.lock();
        if !registers.is_like(&state) {
            bail!("the state is of a device with another number of queues");
        }
        *registers = state;
        Ok(())
    }
}
