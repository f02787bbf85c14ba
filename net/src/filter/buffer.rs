//! `filter-buffer`: packets are held until the end of an interval (net/filter-buffer.c).

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use qom::{Class, Object, Property, Result, UserCreatable, bail};
use util::clock::{ClockType, now_ns};
use util::timer::Timer;

use super::{Direction, FilteredPacket, NetFilter, NetFilterState, Verdict, check_property, complete};
use crate::queue::{MAX_BYTES, MAX_PACKETS};

/// Nanoseconds in a microsecond.
const MICROSECOND: u64 = 1000;

/// Holds packets, and lets them go together.
#[derive(Object)]
#[object(name = "filter-buffer", parent = NetFilterState, interfaces(dyn UserCreatable), class_init = class_init)]
pub struct FilterBuffer {
    parent: NetFilterState,
    /// How often packets are let go, in microseconds of the guest's clock.
    #[property]
    interval: Property<u32>,
    held: Mutex<Held>,
    timer: OnceLock<Timer>,
}
qom::type_init!(FilterBuffer);

fn class_init(class: &mut Class) {
    check_property::<u32>(class, "interval", |object, value| match value {
        0 => bail!("Property '{}.interval' requires a positive value", object.type_name()),
        _ => Ok(()),
    });
}

#[derive(Default)]
struct Held {
    packets: VecDeque<(Direction, Box<[u8]>)>,
    bytes: usize,
}

impl FilterBuffer {
    /// Has the timer fire where the present interval ends. An interval in which nothing comes needs none.
    fn arm(&self) {
        let interval = u64::from(self.interval.get()) * MICROSECOND;
        let Some(past) = now_ns(ClockType::Virtual).checked_rem(interval) else { return };
        if let Some(timer) = self.timer.get() {
            timer.mod_ns(now_ns(ClockType::Virtual) - past + interval);
        }
    }

    fn flush(&self) {
        let held = std::mem::take(&mut *self.held.lock());
        let Some(nc) = self.client() else { return };
        held.packets.iter().for_each(|(direction, bytes)| nc.pass_on(self, *direction, bytes));
    }
}

impl NetFilter for FilterBuffer {
    fn receive(&self, direction: Direction, packet: FilteredPacket<'_>) -> Verdict {
        let is_first = {
            let mut held = self.held.lock();
            let full = held.packets.len() >= MAX_PACKETS || held.bytes + packet.bytes.len() > MAX_BYTES;
            if !full {
                held.bytes += packet.bytes.len();
                held.packets.push_back((direction, packet.bytes.into()));
            }
            held.packets.len() == 1
        };
        if is_first {
            self.arm();
        }
        Verdict::Taken
    }

    fn status_changed(&self, on: bool) {
        if !on {
            self.flush();
        }
    }

    fn details(&self) -> String {
        format!(",interval={}", self.interval.get())
    }
}

impl UserCreatable for FilterBuffer {
    fn complete(self: Arc<Self>) -> Result<()> {
        complete(&self, || {
            if self.interval.get() == 0 {
                bail!("Parameter 'interval' expects a non-zero interval");
            }
            let this: Weak<FilterBuffer> = Arc::downgrade(&self);
            let flush = move || {
                if let Some(this) = this.upgrade() {
                    this.flush();
                }
            };
            // Set once: an object is completed once.
            let _ = self.timer.set(Timer::new(ClockType::Virtual, flush));
            Ok(())
        })
    }

    fn required(&self) -> &'static [&'static str] {
        &["netdev", "interval"]
    }
}

impl Drop for FilterBuffer {
    fn drop(&mut self) {
        self.flush();
    }
}
