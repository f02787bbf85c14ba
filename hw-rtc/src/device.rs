//! The device around [`Mc146818`]: ports 0x70 and 0x71, the host's time.
//!
//! Source: QEMU `hw/rtc/mc146818rtc.c`, `softmmu/rtc.c`.

use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hw_core::machine::current_machine;
use hw_core::suspend::{WakeupReason, wakeup_request};
use hw_core::{DeviceCategory, DeviceClass, DeviceImpl, IrqPin, VmState, vmstate};
use hw_isa::IsaDevice;
use memory::{AccessRules, RegionOps};
use parking_lot::Mutex;
use qapi::{QapiEvent, QapiType};
use qom::{Class, Object, Property, PropertyInfo, Result, Value};
use util::clock::{ClockType, now_ns};
use util::timer::Timer;

use crate::mc146818::{self, Date, Mc146818};

/// First port.
const RTC_PORT: u32 = 0x70;

qom::property_enum! {
    /// QAPI's `LostTickPolicy` as far as an RTC knows it.
    pub enum LostTickPolicy: "LostTickPolicy" { Discard = "discard", Slew = "slew" }
}

/// What `-rtc` said.
#[derive(Clone, Copy, Debug)]
pub struct RtcOptions {
    /// Seconds between the host's time and the guest's at the start.
    pub offset: i64,
    /// How long after the host's seconds the guest's begin, less than one: what the guest starts with must not depend on
    /// when in a second the host starts it.
    pub phase: Duration,
    /// What the clock runs by.
    pub clock: ClockType,
    /// What happens to periodic interrupts the guest missed (`driftfix=`).
    pub lost_tick_policy: LostTickPolicy,
}

impl Default for RtcOptions {
    fn default() -> Self {
        RtcOptions {
            offset: 0,
            phase: Duration::ZERO,
            clock: ClockType::Host,
            lost_tick_policy: LostTickPolicy::Discard,
        }
    }
}

static OPTIONS: OnceLock<RtcOptions> = OnceLock::new();

/// Sets what `-rtc` said; the first call counts.
pub fn set_rtc_options(options: RtcOptions) {
    let _ = OPTIONS.set(options);
}

fn options() -> RtcOptions {
    OPTIONS.get().copied().unwrap_or_default()
}

/// The host's time since 1970, by seconds that begin as the guest's do.
fn host_seconds() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.saturating_sub(options().phase).as_secs() as i64)
}

/// The guest set its clock.
#[derive(QapiType, QapiEvent)]
#[qapi(name = "q_obj_RTC_CHANGE-arg", event = "RTC_CHANGE")]
struct RtcChange {
    /// Seconds between what it is now and what it would be.
    offset: i64,
    /// Which clock.
    qom_path: String,
}

/// The machine's, which has one at most.
static RTC: Mutex<Weak<Mc146818Rtc>> = Mutex::new(Weak::new());

/// Forgets the periodic interrupts that are still to make up for those the guest missed.
#[qapi::command("rtc-reset-reinjection")]
fn rtc_reset_reinjection() -> Result<()> {
    let rtc = RTC.lock().upgrade();
    if let Some(rtc) = rtc {
        rtc.change(Mc146818::reset_reinjection);
    }
    Ok(())
}

/// The device.
#[derive(Object)]
#[object(name = "mc146818rtc", parent = IsaDevice, class_init = class_init)]
pub struct Mc146818Rtc {
    parent: IsaDevice,
    /// The year that the two digits of the year register count from
    #[property(default = 1980, name = "base_year")]
    base_year: Property<i32>,
    /// What happens to periodic interrupts the guest missed
    #[property(default = LostTickPolicy::Discard, name = "lost_tick_policy")]
    lost_tick_policy: Property<LostTickPolicy>,
    chip: OnceLock<Mutex<Mc146818>>,
    timer: OnceLock<Timer>,
    irq: Arc<IrqPin>,
}
qom::type_init!(Mc146818Rtc);

fn class_init(class: &mut Class) {
    let device = class.get_mut::<DeviceClass>();
    device.category = Some(DeviceCategory::Misc);
    device.board_only = true;
    vmstate::register::<Mc146818Rtc>(class);
}

/// Sets a byte of an RTC's CMOS memory (`rtc_set_memory`); of any other object nothing.
pub fn rtc_set_memory(object: &Arc<dyn Object>, index: u8, value: u8) {
    if let Some(chip) = object.cast::<Mc146818Rtc>().and_then(|rtc| rtc.chip.get()) {
        chip.lock().set_cmos(index, value);
    }
}

/// A byte of an RTC's CMOS memory (`rtc_get_memory`); of any other object 0.
pub fn rtc_get_memory(object: &Arc<dyn Object>, index: u8) -> u8 {
    let chip = object.cast::<Mc146818Rtc>().and_then(|rtc| rtc.chip.get());
    chip.map_or(0, |chip| chip.lock().cmos(index))
}

/// The time that an RTC shows, in seconds since 1970; of any other object 0.
pub fn rtc_get_seconds(object: &Arc<dyn Object>) -> i64 {
    let rtc = object.cast::<Mc146818Rtc>();
    rtc.and_then(|rtc| Some(rtc.chip.get()?.lock().seconds(rtc.now()))).unwrap_or(0)
}

/// A date as C has it (`struct tm`).
fn tm(date: Date) -> Value {
    let fields = [
        ("tm_year", date.year - 1900),
        ("tm_mon", date.month - 1),
        ("tm_mday", date.day),
        ("tm_hour", date.hour),
        ("tm_min", date.minute),
        ("tm_sec", date.second),
    ];
    fields.into_iter().collect()
}

impl Mc146818Rtc {
    /// The time that it shows, as its property `date` and the machine's `rtc-time`.
    fn show_date(self: &Arc<Self>) -> Result<()> {
        let this = Arc::downgrade(self);
        let get = move |_: &dyn Object| {
            let this = this.upgrade().map(|this| this as Arc<dyn Object>);
            Ok(tm(Date::from_seconds(this.as_ref().map_or(0, rtc_get_seconds))))
        };
        let property =
            |name| PropertyInfo { get: Some(Arc::new(get.clone())), ..PropertyInfo::new(name, "struct tm") };
        let this: Arc<dyn Object> = self.clone();
        this.property_add(property("date"))?;
        match current_machine() {
            Some(machine) => machine.property_add(property("rtc-time")),
            None => Ok(()),
        }
    }

    fn now(&self) -> u64 {
        now_ns(options().clock)
    }

    fn change<R: Default>(&self, f: impl FnOnce(&mut Mc146818, u64) -> R) -> R {
        let Some(chip) = self.chip.get() else { return R::default() };
        let now = self.now();
        let (result, fell) = {
            let mut chip = chip.lock();
            let result = f(&mut chip, now);
            // Under the chip's lock, so that an older deadline does not come last.
            match (self.timer.get(), chip.next_deadline()) {
                (Some(timer), Some(deadline)) => timer.mod_ns(deadline),
                (Some(timer), None) => timer.del(),
                (None, _) => {}
            }
            (result, chip.take_irq_fall())
        };
        self.irq.sync(fell, || chip.lock().irq_level());
        result
    }
}

impl DeviceImpl for Mc146818Rtc {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let policy = match (self.lost_tick_policy.get(), options().lost_tick_policy) {
            (LostTickPolicy::Discard, LostTickPolicy::Discard) => mc146818::LostTickPolicy::Discard,
            _ => mc146818::LostTickPolicy::Slew,
        };
        let seconds = host_seconds().saturating_add(options().offset);
        let chip = Mc146818::new(seconds, self.base_year.get(), policy, self.now());
        let _ = self.chip.set(Mutex::new(chip));
        *RTC.lock() = Arc::downgrade(self);
        let this = Arc::downgrade(self);
        let timer = Timer::new(options().clock, move || {
            if let Some(this) = this.upgrade() {
                let alarm = this.change(Mc146818::expire);
                if alarm {
                    // Most of the time nobody sleeps.
                    let _ = wakeup_request(WakeupReason::Rtc);
                }
            }
        });
        let _ = self.timer.set(timer);
        self.show_date()?;
        self.init_gpio_out("", &self.irq);
        self.register_ioport(self.clone(), "rtc", RTC_PORT, 2)?;
        Ok(())
    }

    fn reset_hold(&self) {
        self.change(Mc146818::reset);
    }
}

impl VmState for Mc146818Rtc {
    type State = Mc146818;

    fn save(&self) -> Option<Mc146818> {
        Some(self.chip.get()?.lock().clone())
    }

    fn load(&self, state: Mc146818) -> Result<()> {
        self.change(|chip, _| *chip = state);
        Ok(())
    }
}

impl RegionOps for Mc146818Rtc {
    fn read(&self, offset: u64, _size: u8) -> u64 {
        self.change(|chip, now| chip.read(offset, now)).into()
    }

    fn write(&self, offset: u64, value: u64, _size: u8) {
        if let Some(seconds) = self.change(|chip, now| chip.write(offset, value as u8, now)) {
            let expected = host_seconds().saturating_add(options().offset);
            qapi::emit(&RtcChange {
                offset: seconds.saturating_sub(expected),
                qom_path: (self as &dyn Object).canonical_path().unwrap_or_default(),
            });
        }
    }

    fn rules(&self) -> AccessRules {
        AccessRules::sizes(1, 1)
    }
}
