//! `virtio-balloon`: the guest gives memory back, and tells of its use (virtio 1.2, section 5.5).
//!
//! Source followed besides: QEMU `hw/virtio/virtio-balloon.c`.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use backends::IoThread;
use hw_core::balloon::{BalloonHandler, add_balloon_handler, remove_balloon_handler};
use hw_core::machine::current_machine;
use hw_core::{DeviceCategory, DeviceClass, DeviceImpl, Machine, VmState, vmstate};
use hw_pci::spec::CLASS_OTHERS;
use parking_lot::Mutex;
use qapi::{QapiEvent, QapiType};
use qom::{Class, Link, Object, Property, PropertyInfo, PropertyType, Result, Value, bail};
use serde::{Deserialize, Serialize};
use util::clock::{ClockType, now_ns};
use util::timer::Timer;

use crate::pci::{Variants, VirtioPciType};
use crate::spec::{QUEUE_SIZE_MAX, id, pci::DEVICE_ID_BALLOON};
use crate::{VirtIODevice, VirtQueue, VirtQueueElement, VirtioDeviceImpl};

/// Numbers of the specification.
mod spec {
    /// Features: the guest tells of its use of memory.
    pub const F_STATS_VQ: u64 = 1 << 1;
    /// The guest takes pages back when it runs out of memory.
    pub const F_DEFLATE_ON_OOM: u64 = 1 << 2;
    /// The guest tells which pages are free while the machine migrates.
    pub const F_FREE_PAGE_HINT: u64 = 1 << 3;
    /// The guest says what it fills free pages with.
    pub const F_PAGE_POISON: u64 = 1 << 4;
    /// The guest reports free pages.
    pub const F_PAGE_REPORTING: u64 = 1 << 5;
    /// Pages are counted in this many bytes, as a power of two.
    pub const PFN_SHIFT: u32 = 12;
    /// Offsets in the configuration: how many pages the guest is to give, and how many it gave.
    pub const NUM_PAGES: usize = 0;
    pub const ACTUAL: usize = 4;
    /// What the guest fills free pages with.
    pub const POISON_VAL: usize = 12;
    /// Bytes of a request's number, by which the guest begins and ends to tell of free pages.
    pub const HINT_ID_SIZE: usize = 4;
    /// Bytes of the configuration without hints and poison, with hints, and with all.
    pub const CONFIG_SIZE_SHORT: usize = 8;
    pub const CONFIG_SIZE_HINTS: usize = 12;
    pub const CONFIG_SIZE: usize = 16;
    /// Bytes of a statistic: a tag of 16 bits, a value of 64.
    pub const STAT_SIZE: usize = 10;
}
use spec::*;

/// Entries of queues, of the one for hints and of the one for reports.
const QUEUE_SIZE: u16 = 128;
const HINT_QUEUE_SIZE: u16 = QUEUE_SIZE_MAX;
const REPORTING_QUEUE_SIZE: u16 = 32;
/// How many pages one element may name; the rest is not looked at. Drivers send 256.
const MAX_PFNS: u64 = 64 << 10;
/// Elements taken before others of the loop have their turn.
const BATCH: u32 = 64;
/// What a statistic is that the guest did not tell.
const UNKNOWN: u64 = u64::MAX;

/// QEMU's names of the statistics, by tag.
const STAT_NAMES: [&str; 10] = [
    "stat-swap-in",
    "stat-swap-out",
    "stat-major-faults",
    "stat-minor-faults",
    "stat-free-memory",
    "stat-total-memory",
    "stat-available-memory",
    "stat-disk-caches",
    "stat-htlb-pgalloc",
    "stat-htlb-pgfail",
];

/// The guest gave memory back, or took it.
#[derive(QapiType, QapiEvent)]
#[qapi(name = "q_obj_BALLOON_CHANGE-arg", event = "BALLOON_CHANGE")]
struct BalloonChange {
    /// What the guest has now, in bytes.
    actual: i64,
}

/// The device.
#[derive(Object)]
#[object(name = "virtio-balloon-device", parent = VirtIODevice, class_init = class_init)]
pub struct VirtIOBalloon {
    parent: VirtIODevice,
    /// on/off
    #[property]
    deflate_on_oom: Property<bool>,
    /// on/off
    #[property]
    free_page_hint: Property<bool>,
    /// on/off
    #[property(default = true)]
    page_poison: Property<bool>,
    /// on/off
    #[property]
    free_page_reporting: Property<bool>,
    #[property(name = "qemu-4-0-config-size")]
    long_config: Property<bool>,
    /// The I/O thread that takes what the guest tells of free pages
    #[property]
    iothread: Property<Link<IoThread>>,
    state: Mutex<State>,
    stats_timer: OnceLock<Timer>,
    thread: OnceLock<Arc<dyn Object>>,
    hint_queue: OnceLock<Arc<VirtQueue>>,
}
qom::type_init!(VirtIOBalloon);
qom::type_init!(fn register_pci);

#[derive(Default)]
struct State {
    /// How many pages the guest is to give, and how many it says it gave.
    num_pages: u32,
    actual: u32,
    poison_val: u32,
    stats: [u64; STAT_NAMES.len()],
    /// When the guest told, in seconds of the host's time; 0 when it never did.
    last_update: i64,
    /// How often it is asked, in seconds; 0 for never.
    poll_interval: i64,
    /// The guest's buffer, which asks for new statistics when it is given back.
    stats_element: Option<VirtQueueElement>,
}

fn class_init(class: &mut Class) {
    class.get_mut::<DeviceClass>().category = Some(DeviceCategory::Misc);
    vmstate::register::<VirtIOBalloon>(class);
    let balloon = |object: &dyn Object| {
        let this = object.base().this();
        qom::downcast::<VirtIOBalloon>(this).ok_or_else(|| qom::Error::new("not a balloon"))
    };
    class.add_property(PropertyInfo {
        get: Some(Arc::new(move |object| Ok(balloon(object)?.guest_stats()))),
        ..PropertyInfo::new("guest-stats", "guest statistics")
    });
    class.add_property(PropertyInfo {
        get: Some(Arc::new(move |object| Ok(balloon(object)?.state.lock().poll_interval.into()))),
        set: Some(Arc::new(move |object, input| {
            balloon(object)?.set_poll_interval(i64::parse("guest-stats-polling-interval", input)?)
        })),
        live: true,
        ..PropertyInfo::new("guest-stats-polling-interval", "int")
    });
}

fn register_pci() {
    VirtioPciType {
        name: "virtio-balloon-pci",
        backend: "virtio-balloon-device",
        device_id: DEVICE_ID_BALLOON,
        class_id: CLASS_OTHERS,
        category: DeviceCategory::Misc,
        variants: Variants::All,
        ioeventfd: None,
        vectors: None,
        has_class: false,
        default_vectors: |_| 0,
        prepare: None,
    }
    .register();
}

/// The machine's memory, that of plugged modules with it (get_current_ram_size).
fn ram_size() -> u64 {
    let Some(machine) = current_machine() else { return 0 };
    let Some(machine) = machine.cast::<Machine>() else { return 0 };
    let plugged = machine.device_memory().map(|place| place.region.subregions()).unwrap_or_default();
    let plugged = plugged.iter().map(|region| u64::try_from(region.size()).unwrap_or_default());
    plugged.fold(machine.config().ram_size, u64::saturating_add)
}

/// What the guest has when it gave so many pages.
fn left(pages: u32) -> u64 {
    ram_size().saturating_sub(u64::from(pages) << PFN_SHIFT)
}

impl VirtIOBalloon {
    fn guest_stats(&self) -> Value {
        let state = self.state.lock();
        let stats: BTreeMap<&str, u64> = STAT_NAMES.into_iter().zip(state.stats).collect();
        serde_json::json!({ "last-update": state.last_update, "stats": stats })
    }

    fn set_poll_interval(&self, seconds: i64) -> Result<()> {
        if seconds < 0 {
            bail!("timer value must be greater than zero");
        }
        if seconds > u32::MAX.into() {
            bail!("timer value is too big");
        }
        let before = std::mem::replace(&mut self.state.lock().poll_interval, seconds);
        match (before, seconds) {
            (before, now) if before == now => {}
            (_, 0) => self.timer().del(),
            (0, _) => self.timer().mod_ns(now_ns(ClockType::Virtual)),
            (_, seconds) => self.poll_in(seconds),
        }
        Ok(())
    }

    fn timer(&self) -> &Timer {
        self.stats_timer.get_or_init(|| {
            let this = self.weak();
            Timer::new(ClockType::Virtual, move || {
                if let Some(object) = this.upgrade()
                    && let Some(balloon) = object.cast::<VirtIOBalloon>()
                {
                    balloon.poll();
                }
            })
        })
    }

    fn poll_in(&self, seconds: i64) {
        self.timer().mod_ns(now_ns(ClockType::Virtual).saturating_add(seconds as u64 * 1_000_000_000));
    }

    /// Asks the guest for statistics.
    fn poll(&self) {
        let (element, interval) = {
            let mut state = self.state.lock();
            (state.stats_element.take(), state.poll_interval)
        };
        match (element, self.queue(2)) {
            (Some(element), Some(queue)) if self.has_feature(F_STATS_VQ) => {
                queue.push(element, 0);
                queue.notify();
            }
            _ if interval > 0 => self.poll_in(interval),
            _ => {}
        }
    }

    /// The guest tells its statistics.
    fn receive_stats(&self, queue: &VirtQueue) {
        if let Some(element) = queue.pop() {
            let mut stats = [UNKNOWN; STAT_NAMES.len()];
            let mut entry = [0; STAT_SIZE];
            // There are no more kinds than a guest may repeat in a page.
            for n in 0..4096 / STAT_SIZE {
                if element.read((n * STAT_SIZE) as u64, &mut entry) != STAT_SIZE {
                    break;
                }
                let [t0, t1, value @ ..] = entry;
                if let Some(stat) = stats.get_mut(usize::from(u16::from_le_bytes([t0, t1]))) {
                    *stat = u64::from_le_bytes(value);
                }
            }
            let mut state = self.state.lock();
            (state.stats, state.last_update) = (stats, (now_ns(ClockType::Host) / 1_000_000_000) as i64);
            let before = state.stats_element.replace(element);
            drop(state);
            if let Some(before) = before {
                // A driver that offers two.
                queue.push(before, 0);
                queue.notify();
            }
        }
        let interval = self.state.lock().poll_interval;
        if interval > 0 {
            self.poll_in(interval);
        }
    }

    /// The guest gives pages, and does not use them any more.
    fn inflate(element: &VirtQueueElement) {
        let len = element.readable_len().min(4 * MAX_PFNS);
        let mut bytes = vec![0; len as usize];
        element.read(0, &mut bytes);
        let (entries, _) = bytes.as_chunks::<4>();
        let mut pages: Vec<u32> = entries.iter().copied().map(u32::from_le_bytes).collect();
        pages.sort_unstable();
        for run in pages.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
            if let Some(first) = run.first() {
                element.memory().discard(u64::from(*first) << PFN_SHIFT, (run.len() as u64) << PFN_SHIFT);
            }
        }
    }

    /// The guest tells of a page that is free. Nobody has asked: that is what a migration does.
    fn take_hint(&self, element: &VirtQueueElement) {
        let is_id = element.readable_len() > 0;
        if is_id && element.readable_len() < HINT_ID_SIZE as u64 {
            self.set_broken("received an incorrect cmd id");
        }
    }

    /// The queue for hints, which has a thread of its own (`free-page-hint=on`).
    fn add_hint_queue(&self) -> Result<()> {
        let Some(object) = self.iothread.get().object() else {
            bail!("'free-page-hint' requires 'iothread' to be set");
        };
        let queue = self.add_queue(HINT_QUEUE_SIZE)?;
        if let Some(thread) = object.cast::<IoThread>()
            && let Some(event_loop) = thread.event_loop()
        {
            queue.set_event_loop(&event_loop);
            thread.used(1);
            let _ = self.thread.set(object.clone());
        }
        let _ = self.hint_queue.set(queue);
        Ok(())
    }

    fn add_queues(&self) -> Result<()> {
        for _ in 0..3 {
            self.add_queue(QUEUE_SIZE)?;
        }
        if self.free_page_hint.get() {
            self.add_hint_queue()?;
        }
        if self.free_page_reporting.get() {
            self.add_queue(REPORTING_QUEUE_SIZE)?;
        }
        Ok(())
    }

    /// The guest reports free pages, which it may use again without a word.
    fn report(&self, element: &VirtQueueElement) {
        // What is given back reads as zero, which is not what the guest filled it with.
        if self.state.lock().poison_val == 0 {
            element.writable_buffers().for_each(|(at, len)| element.memory().discard(at, len.into()));
        }
    }
}

/// What the monitor reaches the device by.
struct Handler(std::sync::Weak<VirtIOBalloon>);

impl BalloonHandler for Handler {
    fn actual(&self) -> u64 {
        self.0.upgrade().map_or(0, |balloon| left(balloon.state.lock().actual))
    }

    fn set_target(&self, target: u64) {
        let Some(balloon) = self.0.upgrade() else { return };
        let pages = ram_size().saturating_sub(target) >> PFN_SHIFT;
        balloon.state.lock().num_pages = u32::try_from(pages).unwrap_or(u32::MAX);
        balloon.notify_config();
    }
}

impl DeviceImpl for VirtIOBalloon {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let config_len = match (self.page_poison.get() || self.long_config.get(), self.free_page_hint.get()) {
            (true, _) => CONFIG_SIZE,
            (_, true) => CONFIG_SIZE_HINTS,
            _ => CONFIG_SIZE_SHORT,
        };
        self.init(id::BALLOON, config_len);
        self.state.lock().stats = [UNKNOWN; STAT_NAMES.len()];
        add_balloon_handler(Arc::new(Handler(Arc::downgrade(self))))?;
        self.add_queues().inspect_err(|_| remove_balloon_handler())
    }

    fn unrealize(self: &Arc<Self>) {
        if let Some(timer) = self.stats_timer.get() {
            timer.del();
        }
        if let Some(thread) = self.thread.get().and_then(|object| object.cast::<IoThread>()) {
            thread.used(-1);
        }
        remove_balloon_handler();
    }
}

impl VirtioDeviceImpl for VirtIOBalloon {
    fn queue_notified(self: &Arc<Self>, queue: &Arc<VirtQueue>) {
        if !self.is_running() {
            return;
        }
        if queue.index() == 2 {
            self.receive_stats(queue);
            return;
        }
        let is_hint_queue = self.hint_queue.get().is_some_and(|hints| Arc::ptr_eq(hints, queue));
        for _ in 0..BATCH {
            let Some(element) = queue.pop() else { return };
            match queue.index() {
                _ if is_hint_queue => self.take_hint(&element),
                0 => Self::inflate(&element),
                // The guest uses pages again that it gave: there is nothing to do before it does.
                1 => {}
                _ => self.report(&element),
            }
            queue.push(element, 0);
            queue.notify();
        }
        self.queue_again(queue);
    }

    fn features(&self, offered: u64) -> Result<u64> {
        let chosen = [
            (&self.deflate_on_oom, F_DEFLATE_ON_OOM),
            (&self.free_page_hint, F_FREE_PAGE_HINT),
            (&self.page_poison, F_PAGE_POISON),
            (&self.free_page_reporting, F_PAGE_REPORTING),
        ];
        let chosen = chosen.iter().filter(|(property, _)| property.get()).map(|(_, feature)| feature);
        Ok(chosen.fold(offered | F_STATS_VQ, |all, feature| all | feature))
    }

    fn read_config(&self, config: &mut [u8]) {
        let state = self.state.lock();
        for (at, value) in
            [(NUM_PAGES, state.num_pages), (ACTUAL, state.actual), (POISON_VAL, state.poison_val)]
        {
            if let Some(bytes) = config.get_mut(at..at + 4) {
                bytes.copy_from_slice(&value.to_le_bytes());
            }
        }
    }

    fn write_config(&self, offset: usize, data: &[u8]) {
        let mut config = [0; CONFIG_SIZE];
        self.read_config(&mut config);
        let Some(place) = config.get_mut(offset..offset + data.len()) else { return };
        place.copy_from_slice(data);
        let word =
            |at: usize| config.get(at..at + 4).and_then(|b| Some(u32::from_le_bytes(b.try_into().ok()?)));
        let (actual, poison) = (word(ACTUAL).unwrap_or_default(), word(POISON_VAL).unwrap_or_default());
        let before = {
            let mut state = self.state.lock();
            state.poison_val = if self.has_feature(F_PAGE_POISON) { poison } else { 0 };
            std::mem::replace(&mut state.actual, actual)
        };
        if before != actual {
            qapi::emit(&BalloonChange { actual: left(actual) as i64 });
        }
    }

    fn device_reset(&self) {
        let mut state = self.state.lock();
        state.poison_val = 0;
        let element = state.stats_element.take();
        drop(state);
        drop(element);
    }
}

/// What the device saves.
#[derive(Debug, Serialize, Deserialize)]
pub struct VirtIOBalloonState {
    num_pages: u32,
    actual: u32,
    poison_val: u32,
}

impl VmState for VirtIOBalloon {
    type State = VirtIOBalloonState;

    fn save(&self) -> Option<VirtIOBalloonState> {
        let state = self.state.lock();
        let State { num_pages, actual, poison_val, .. } = *state;
        Some(VirtIOBalloonState { num_pages, actual, poison_val })
    }

    fn load(&self, state: VirtIOBalloonState) -> Result<()> {
        let mut own = self.state.lock();
        (own.num_pages, own.actual, own.poison_val) = (state.num_pages, state.actual, state.poison_val);
        // The guest's buffer is taken again.
        own.stats_element = None;
        Ok(())
    }
}
