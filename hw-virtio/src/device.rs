//! A virtio device without its transport: status, features, configuration, queues (virtio 1.2, chapter 2).
//!
//! Source followed besides: QEMU `hw/virtio/virtio.c`.

mod state;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use hw_core::cpu::current_cpu;
use hw_core::device::{RealizeFn, UnrealizeFn, call_realize, call_unrealize};
use hw_core::reset::Phases;
use hw_core::{Device, DeviceClass, DeviceImpl, runstate, vmstate};
use parking_lot::{Mutex, ReentrantMutex, RwLock};
use qom::{Class, ClassInit, Object, Property, Result, bail};
use vmm_sys_util::eventfd::EventFd;

use crate::bus::{VirtioBus, VirtioTransport};
use crate::queue::VirtQueue;
use crate::shared::Core;
use crate::spec::{QUEUE_MAX, QUEUE_SIZE_MAX, Status, feature};
use crate::vhost::{VhostRing, VhostShown};

/// What a virtio device implements beside [`DeviceImpl`].
///
/// Its `realize` calls [`VirtIODevice::init`] and [`VirtIODevice::add_queue`]; all that follows is called
/// afterwards, never before. Calls about the driver's actions come from the thread of the CPU that acted, one at a
/// time; calls about the machine from the main loop's.
pub trait VirtioDeviceImpl: DeviceImpl {
    /// The driver notified `queue`, or the machine goes on after a stop in which it may have: take what is there
    /// ([`VirtQueue::pop`]), give back what is done ([`VirtQueue::push`]), interrupt ([`VirtQueue::notify`]). Runs on
    /// the queue's event loop, calls for one queue one after the other.
    fn queue_notified(self: &Arc<Self>, queue: &Arc<VirtQueue>);

    /// The features that are offered, of and beside those that properties and transport offer already
    /// (`get_features`). Called once, when the device is plugged.
    ///
    /// # Errors
    /// For the user, when what is asked for does not fit.
    fn features(&self, offered: u64) -> Result<u64> {
        Ok(offered)
    }

    /// The driver accepted these, all of which were offered; called again for each change, and with 0 at a reset.
    fn set_features(&self, _accepted: u64) {}

    /// Whether the device can work with what the driver accepted; where it cannot, the driver's FEATURES_OK does not
    /// hold (section 3.1.1).
    fn validate_features(&self, _accepted: u64) -> bool {
        true
    }

    /// What a legacy driver accepts that says it cannot negotiate.
    fn bad_features(&self) -> u32 {
        0
    }

    /// Fills in the configuration as it is now; it is as long as [`VirtIODevice::init`] was told.
    fn read_config(&self, _config: &mut [u8]) {}

    /// The driver wrote `data` at `offset` of the configuration, all of it inside.
    fn write_config(&self, _offset: usize, _data: &[u8]) {}

    /// The driver wrote the status, or the machine started or stopped under it: whether the device is to work now
    /// [`VirtIODevice::is_running`] tells.
    fn set_status(&self, _status: Status) {}

    /// Back to power-on. On return nothing may read or write guest memory on behalf of what was taken from queues
    /// before: work under way must be waited for or called off. No handler runs, and the queues are empty; what is
    /// pushed from before is dropped. Must not wait for the main loop: it may wait for this CPU.
    fn device_reset(&self) {}

    /// The same for one queue (section 2.6.1).
    fn queue_reset(&self, _queue: &Arc<VirtQueue>) {}
}

type Handler = fn(&Arc<dyn Object>, &Arc<VirtQueue>);

/// What all virtio devices of a type share.
#[derive(Clone, Default)]
pub struct VirtioDeviceClass {
    /// Features that only legacy drivers see.
    pub legacy_features: u64,
    realize: Option<RealizeFn>,
    unrealize: Option<UnrealizeFn>,
    phases: Phases,
    methods: Option<Methods>,
}

/// [`VirtioDeviceImpl`] as functions.
#[derive(Clone, Copy)]
struct Methods {
    queue_notified: Handler,
    features: fn(&dyn Object, u64) -> Result<u64>,
    set_features: fn(&dyn Object, u64),
    validate_features: fn(&dyn Object, u64) -> bool,
    bad_features: fn(&dyn Object) -> u32,
    read_config: fn(&dyn Object, &mut [u8]),
    write_config: fn(&dyn Object, usize, &[u8]),
    set_status: fn(&dyn Object, Status),
    device_reset: fn(&dyn Object),
    queue_reset: Handler,
}

impl Methods {
    fn of<T: VirtioDeviceImpl>() -> Methods {
        Methods {
            queue_notified: |object, queue| {
                if let Some(device) = qom::downcast::<T>(object.clone()) {
                    device.queue_notified(queue);
                }
            },
            features: |object, offered| object.cast::<T>().map_or(Ok(offered), |d| d.features(offered)),
            set_features: |object, accepted| with::<T>(object, |d| d.set_features(accepted)),
            validate_features: |object, accepted| {
                object.cast::<T>().is_some_and(|d| d.validate_features(accepted))
            },
            bad_features: |object| object.cast::<T>().map_or(0, T::bad_features),
            read_config: |object, config| with::<T>(object, |d| d.read_config(config)),
            write_config: |object, offset, data| with::<T>(object, |d| d.write_config(offset, data)),
            set_status: |object, status| with::<T>(object, |d| d.set_status(status)),
            device_reset: |object| with::<T>(object, T::device_reset),
            queue_reset: |object, queue| with::<T>(&**object, |d| d.queue_reset(queue)),
        }
    }
}

fn with<T: VirtioDeviceImpl>(object: &dyn Object, f: impl FnOnce(&T)) {
    if let Some(device) = object.cast::<T>() {
        f(device);
    }
}

impl<T: VirtioDeviceImpl> ClassInit<T> for VirtIODevice {
    fn class_init(class: &mut Class) {
        let class = class.get_mut::<VirtioDeviceClass>();
        class.realize = Some(call_realize::<T>);
        class.unrealize = Some(call_unrealize::<T>);
        class.phases = Phases::of::<T>();
        class.methods = Some(Methods::of::<T>());
    }
}

/// The root part of every virtio device.
#[derive(Object)]
#[object(name = "virtio-device", parent = Device, abstract, class_init = class_init)]
pub struct VirtIODevice {
    parent: Device,
    /// on/off
    #[property(name = "indirect_desc", default = true)]
    indirect_desc: Property<bool>,
    /// on/off
    #[property(name = "event_idx", default = true)]
    event_idx: Property<bool>,
    /// on/off
    #[property(name = "notify_on_empty", default = true)]
    notify_on_empty: Property<bool>,
    /// on/off
    #[property(name = "any_layout", default = true)]
    any_layout: Property<bool>,
    /// on/off
    #[property(name = "iommu_platform")]
    iommu_platform: Property<bool>,
    /// on/off
    #[property]
    packed: Property<bool>,
    /// on/off
    #[property(name = "queue_reset", default = true)]
    ring_reset: Property<bool>,
    #[property(name = "use-started", default = true)]
    pub(crate) use_started: Property<bool>,
    #[property(name = "use-disabled-flag", default = true)]
    use_disabled_flag: Property<bool>,
    #[property(name = "x-disable-legacy-check")]
    pub(crate) disable_legacy_check: Property<bool>,
    core: Arc<Core>,
    identity: OnceLock<Identity>,
    queues: RwLock<Vec<Arc<VirtQueue>>>,
    vm_running: AtomicBool,
    state_handler: Mutex<Option<u64>>,
    /// Features that the driver accepted and nobody offered.
    bad_features: AtomicBool,
    /// The features of the kernel or program that serves the queues, while one does.
    vhost: Mutex<Option<VhostShown>>,
    /// Held while the driver's changes of status are carried out, which come one at a time.
    life: ReentrantMutex<()>,
}
qom::type_init!(VirtIODevice);

struct Identity {
    device_id: u16,
    config_len: usize,
}

fn class_init(class: &mut Class) {
    vmstate::register::<VirtIODevice>(class);
    let device = class.get_mut::<DeviceClass>();
    device.bus_type = Some("virtio-bus");
    device.realize = Some(realize);
    device.unrealize = Some(unrealize);
    device.phases = Phases {
        enter: Some(|o| own_phase(o, |p| p.enter)),
        hold: Some(|o| own_phase(o, |p| p.hold)),
        exit: Some(|o| own_phase(o, |p| p.exit)),
    };
}

fn virtio_class(object: &dyn Object) -> VirtioDeviceClass {
    object.class().get::<VirtioDeviceClass>().cloned().unwrap_or_default()
}

fn own_phase(object: &Arc<dyn Object>, phase: fn(Phases) -> Option<hw_core::reset::PhaseFn>) {
    if let Some(f) = phase(virtio_class(&**object).phases) {
        f(object);
    }
}

fn realize(object: &Arc<dyn Object>) -> Result<()> {
    let Some(device) = object.cast::<VirtIODevice>() else { bail!("not a virtio device") };
    if device.packed.get() {
        bail!("packed virtqueues (packed=on) are not supported yet");
    }
    let bus = device.parent_bus();
    let Some(transport) = bus.and_then(|bus| bus.cast::<VirtioBus>()?.transport()) else {
        bail!("'{}' needs a virtio bus", object.type_name())
    };
    device.core.set_transport(object.class().name(), Arc::downgrade(&transport));
    device.vm_running.store(runstate::is_running(), Ordering::Release);
    let class = virtio_class(&**object);
    if let Some(realize) = class.realize {
        realize(object)?;
    }
    match device.host_features(&*transport) {
        Ok(features) => device.core.set_host_features(features),
        Err(error) => {
            unrealize(object);
            return Err(error);
        }
    }
    let weak = Arc::downgrade(object);
    let handler = runstate::add_state_handler(Arc::new(move |running, _| {
        if let Some(object) = weak.upgrade()
            && let Some(device) = object.cast::<VirtIODevice>()
        {
            device.vm_state_changed(running);
        }
    }));
    *device.state_handler.lock() = Some(handler);
    Ok(())
}

fn unrealize(object: &Arc<dyn Object>) {
    let Some(device) = object.cast::<VirtIODevice>() else { return };
    if let Some(handler) = device.state_handler.lock().take() {
        runstate::remove_state_handler(handler);
    }
    device.reset();
    if let Some(unrealize) = virtio_class(&**object).unrealize {
        unrealize(object);
    }
    device.queues.write().clear();
}

impl VirtIODevice {
    /// Says what kind of device it is ([`id`](crate::spec::id)) and how many bytes its configuration has
    /// (`virtio_init`); once, in `realize`.
    pub fn init(&self, device_id: u16, config_len: usize) {
        let _ = self.identity.set(Identity { device_id, config_len });
    }

    /// Adds a queue of at most `size` entries, a power of two (`virtio_add_queue`).
    ///
    /// # Errors
    /// When there are too many, or no ring has that size.
    pub fn add_queue(&self, size: u16) -> Result<Arc<VirtQueue>> {
        let mut queues = self.queues.write();
        let index = queues.len() as u16;
        if index >= QUEUE_MAX || size > QUEUE_SIZE_MAX {
            bail!("no more than {QUEUE_MAX} queues of {QUEUE_SIZE_MAX} entries");
        }
        let queue = VirtQueue::new(&self.core, index, size)?;
        queues.push(queue.clone());
        Ok(queue)
    }

    /// Queue `index`.
    pub fn queue(&self, index: u16) -> Option<Arc<VirtQueue>> {
        self.queues.read().get(usize::from(index)).cloned()
    }

    /// All queues.
    pub fn queues(&self) -> Vec<Arc<VirtQueue>> {
        self.queues.read().clone()
    }

    /// What kind of device it is.
    pub fn device_id(&self) -> u16 {
        self.identity.get().map_or(0, |identity| identity.device_id)
    }

    /// How many bytes its configuration has.
    pub fn config_len(&self) -> usize {
        self.identity.get().map_or(0, |identity| identity.config_len)
    }

    /// Whether the driver accepted `features`, all of them ([`feature`] or the device's own, as masks).
    pub fn has_feature(&self, features: u64) -> bool {
        self.core.guest_features() & features == features
    }

    /// Whether the driver was offered `features`.
    pub fn offers(&self, features: u64) -> bool {
        self.core.host_features() & features == features
    }

    /// What the driver says of its progress.
    pub fn status(&self) -> Status {
        self.core.status()
    }

    /// Whether the machine runs and the driver drives the device.
    pub fn is_running(&self) -> bool {
        self.vm_running.load(Ordering::Acquire) && self.status().contains(Status::DRIVER_OK)
    }

    /// Whether the driver did what it must not, and has not reset the device since.
    pub fn is_broken(&self) -> bool {
        self.core.is_broken()
    }

    /// The configuration changed: it gets another generation, and the driver an interrupt
    /// (`virtio_notify_config`).
    pub fn notify_config(&self) {
        self.core.notify_config();
    }

    /// The driver did what it must not, in a request perhaps: nothing works any more until it resets the device
    /// (`virtio_error`). `why` is for the log.
    pub fn set_broken(&self, why: &str) {
        self.core.set_broken(why);
    }

    /// Whether the device existed before the specification, and so may have a legacy interface
    /// (`virtio_legacy_allowed`).
    pub(crate) fn legacy_allowed(&self) -> bool {
        use crate::spec::id::{BALLOON, BLOCK, CONSOLE, NET, P9, RNG, SCSI};
        [NET, BLOCK, CONSOLE, RNG, BALLOON, SCSI, P9].contains(&self.device_id())
    }

    /// Whether the user lets it have one anyway.
    pub(crate) fn legacy_check_disabled(&self) -> bool {
        self.disable_legacy_check.get()
    }

    /// Who serves the queues now, or more of them.
    pub(crate) fn set_vhost(&self, served: Option<VhostShown>) {
        let mut vhost = self.vhost.lock();
        match (&mut *vhost, served) {
            (Some(known), Some(more)) => known.rings.extend(more.rings),
            (place, served) => *place = served,
        }
    }

    /// The features of who serves the queues, if that is not this program.
    pub(crate) fn vhost_features(&self) -> Option<u64> {
        self.vhost.lock().as_ref().map(|v| v.features)
    }

    /// The rings that it has.
    pub(crate) fn vhost_rings(&self) -> Option<Vec<VhostRing>> {
        self.vhost.lock().as_ref().map(|served| served.rings.clone())
    }

    /// Whether the machine runs, as far as the device was told.
    pub(crate) fn vm_runs(&self) -> bool {
        self.vm_running.load(Ordering::Acquire)
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    fn methods(&self) -> Option<Methods> {
        self.class().get::<VirtioDeviceClass>()?.methods
    }

    fn host_features(&self, transport: &dyn VirtioTransport) -> Result<u64> {
        let properties = [
            (&self.indirect_desc, feature::INDIRECT_DESC),
            (&self.event_idx, feature::EVENT_IDX),
            (&self.notify_on_empty, feature::NOTIFY_ON_EMPTY),
            (&self.any_layout, feature::ANY_LAYOUT),
            (&self.iommu_platform, feature::ACCESS_PLATFORM),
            (&self.ring_reset, feature::RING_RESET),
        ];
        let chosen = properties.iter().filter(|(property, _)| property.get()).map(|(_, bit)| bit);
        let offered = chosen.fold(transport.features(), |all, bit| all | bit);
        self.methods().map_or(Ok(offered), |methods| (methods.features)(&*self.this(), offered))
    }

    /// The features that a driver of the modern interface is offered.
    pub(crate) fn modern_features(&self) -> u64 {
        self.core.host_features() & !virtio_class(&*self.this()).legacy_features
    }

    /// The driver accepts features (`virtio_set_features`).
    pub(crate) fn accept_features(&self, features: u64) {
        let _life = self.life.lock();
        if self.status().contains(Status::FEATURES_OK) {
            return;
        }
        let offered = self.core.host_features();
        self.bad_features.store(features & !offered != 0, Ordering::Release);
        self.set_features(features & offered);
    }

    fn set_features(&self, features: u64) {
        if let Some(methods) = self.methods() {
            (methods.set_features)(&*self.this(), features);
        }
        self.core.set_guest_features(features);
        self.queues().iter().for_each(|queue| queue.set_event_idx(features & feature::EVENT_IDX != 0));
    }

    /// What a legacy driver accepts that cannot negotiate.
    pub(crate) fn bad_features(&self) -> u32 {
        self.methods().map_or(0, |methods| (methods.bad_features)(&*self.this()))
    }

    fn features_are_ok(&self) -> bool {
        let accepted = self.core.guest_features();
        let platform = feature::ACCESS_PLATFORM;
        !self.bad_features.load(Ordering::Acquire)
            && (accepted & platform != 0 || self.core.host_features() & platform == 0)
            && self.methods().is_none_or(|m| (m.validate_features)(&*self.this(), accepted))
    }

    /// The driver writes the status, other than 0 (`virtio_set_status`).
    pub(crate) fn write_status(&self, status: Status) {
        let _life = self.life.lock();
        let agrees = status.contains(Status::FEATURES_OK) && !self.status().contains(Status::FEATURES_OK);
        if self.has_feature(feature::VERSION_1) && agrees && !self.features_are_ok() {
            return;
        }
        let broken = self.status() & Status::NEEDS_RESET;
        self.core.set_status(status | broken);
        self.tell_status();
    }

    fn tell_status(&self) {
        if let Some(methods) = self.methods() {
            (methods.set_status)(&*self.this(), self.status());
        }
    }

    /// The machine starts or stops; on the main loop's thread (`virtio_vmstate_change`).
    fn vm_state_changed(&self, running: bool) {
        self.vm_running.store(running, Ordering::Release);
        let queues = self.queues();
        if !running {
            queues.iter().for_each(|queue| queue.notifier.pause(true));
            queues.iter().for_each(|queue| queue.notifier.wait());
        }
        self.tell_status();
        if running {
            if let Some(transport) = self.core.transport().filter(|_| self.is_running()) {
                transport.started();
            }
            queues.iter().for_each(|queue| queue.notifier.pause(false));
            // Its handler may have been called while the device could do nothing.
            queues.iter().for_each(|queue| self.queue_notify(queue.index()));
        }
    }

    /// As after power-on (`virtio_reset`).
    pub(crate) fn reset(&self) {
        let _life = self.life.lock();
        self.core.set_status(Status::empty());
        self.tell_status();
        let queues = self.queues();
        queues.iter().for_each(|queue| queue.reset());
        queues.iter().for_each(|queue| queue.notifier.wait());
        if let Some(methods) = self.methods() {
            (methods.device_reset)(&*self.this());
        }
        self.set_features(0);
        self.bad_features.store(false, Ordering::Release);
        self.core.reset();
    }

    /// The same for one queue (`virtio_queue_reset`).
    pub(crate) fn reset_queue(&self, queue: &Arc<VirtQueue>) {
        let _life = self.life.lock();
        queue.reset();
        queue.notifier.wait();
        if let Some(methods) = self.methods() {
            (methods.queue_reset)(&self.this(), queue);
        }
    }

    /// `len` bytes of the configuration, as a number; all ones beyond its end.
    pub(crate) fn config_read(&self, offset: u64, len: u8) -> u64 {
        let mut config = vec![0; self.config_len()];
        let Some(range) = config_range(&config, offset, len) else { return u64::MAX };
        if let Some(methods) = self.methods() {
            (methods.read_config)(&*self.this(), &mut config);
        }
        let bytes = config.get(range).unwrap_or_default();
        bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    /// The driver writes `len` bytes of the configuration; what is not inside is dropped.
    pub(crate) fn config_write(&self, offset: u64, value: u64, len: u8) {
        let config = vec![0u8; self.config_len()];
        let (Some(range), Some(methods)) = (config_range(&config, offset, len), self.methods()) else {
            return;
        };
        let bytes = value.to_le_bytes();
        (methods.write_config)(&*self.this(), range.start, bytes.get(..range.len()).unwrap_or_default());
    }

    /// The driver notified queue `index`, and the access came here: goes on to the queue's handler, on its loop's
    /// thread (`virtio_queue_notify`).
    pub(crate) fn queue_notify(&self, index: u16) {
        let Some(queue) = self.queue(index).filter(|queue| queue.is_ready()) else { return };
        if queue.notifier.signal() {
            return;
        }
        if queue.event_loop().is_main() && current_cpu().is_none() {
            self.run_handler(&queue);
            return;
        }
        self.schedule_handler(&queue);
    }

    fn schedule_handler(&self, queue: &Arc<VirtQueue>) {
        let (object, queue) = (self.weak(), queue.clone());
        queue.notifier.clone().schedule(&queue.event_loop(), move || {
            if let Some(object) = object.upgrade()
                && let Some(device) = object.cast::<VirtIODevice>()
            {
                device.run_handler(&queue);
            }
        });
    }

    /// Has the handler of `queue` run once more, after others of its loop have had their turn: for one that has done
    /// its share and not all, as a driver may add faster than a device takes.
    pub fn queue_again(&self, queue: &Arc<VirtQueue>) {
        if !queue.notifier.signal() {
            self.schedule_handler(queue);
        }
    }

    fn run_handler(&self, queue: &Arc<VirtQueue>) {
        queue.notifier.run(|| {
            if queue.is_ready()
                && !self.is_broken()
                && let Some(methods) = self.methods()
            {
                (methods.queue_notified)(&self.this(), queue);
            }
        });
    }

    /// Has notifications of `queue` come by an eventfd, which is to be signalled for them
    /// (`virtio_device_start_ioeventfd_impl`).
    pub(crate) fn start_notifier(&self, queue: &Arc<VirtQueue>) -> std::io::Result<Arc<EventFd>> {
        let eventfd = queue.notifier.start(&queue.event_loop(), self.handler(queue))?;
        queue.notifier.pause(!self.vm_running.load(Ordering::Acquire));
        Ok(eventfd)
    }

    /// Looks again at the eventfd of `queue`, which somebody else has waited for.
    pub(crate) fn take_back_notifier(&self, queue: &Arc<VirtQueue>) {
        if let Err(error) = queue.notifier.take_back(&queue.event_loop(), self.handler(queue)) {
            // Notifications come to the handlers of the regions then.
            util::error_report!("unable to watch an event notifier: {error}");
            queue.notifier.stop();
        }
        queue.notifier.pause(!self.vm_running.load(Ordering::Acquire));
    }

    fn handler(&self, queue: &Arc<VirtQueue>) -> impl Fn() + Send + Sync + use<> {
        let (object, watched) = (self.weak(), Arc::downgrade(queue));
        move || {
            if let (Some(object), Some(queue)) = (object.upgrade(), watched.upgrade())
                && let Some(device) = object.cast::<VirtIODevice>()
            {
                device.run_handler(&queue);
            }
        }
    }
}

/// Where `len` bytes at `offset` are, if they are all inside.
fn config_range(config: &[u8], offset: u64, len: u8) -> Option<std::ops::Range<usize>> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(len.into())?;
    (end <= config.len()).then_some(start..end)
}
