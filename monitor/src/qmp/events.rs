//! Events on their way to all monitors: time stamps, and rate limits for what a guest brings about.
//!
//! Source: QEMU `monitor/monitor.c` (`monitor_qapi_event_queue_no_reenter`), `qapi/qmp-event.c`.

use std::collections::HashMap;

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;
use util::clock::{self, ClockType, NANOSECONDS_PER_SECOND};
use util::timer::Timer;

use super::session::MONITORS;

/// Between two events of these kinds lies a second at least; of those that are told apart by a member of their data,
/// for each value of it.
const LIMITED: &[(&str, Option<&str>)] = &[
    ("RTC_CHANGE", None),
    ("WATCHDOG", None),
    ("BALLOON_CHANGE", None),
    ("QUORUM_REPORT_BAD", Some("node-name")),
    ("QUORUM_FAILURE", None),
    ("VSERPORT_CHANGE", Some("id")),
    ("MEMORY_DEVICE_SIZE_CHANGE", Some("qom-path")),
];

#[derive(Serialize)]
struct Timestamp {
    seconds: u64,
    microseconds: u64,
}

#[derive(Serialize)]
struct Event {
    timestamp: Timestamp,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

/// Events of one kind while the second after the last of them has not passed.
struct Limit {
    /// The latest, to be sent when it has.
    waiting: Option<Event>,
    timer: Timer,
}

type Key = (&'static str, Option<String>);

static LIMITS: Mutex<Option<HashMap<Key, Limit>>> = Mutex::new(None);

/// Rate limits go by the guest's clock in a qtest, which sets it.
fn clock() -> ClockType {
    if clock::is_manual() { ClockType::Virtual } else { ClockType::Realtime }
}

/// Has events sent to the monitors.
pub(super) fn listen() {
    qapi::set_event_sink(queue);
}

fn queue(name: &'static str, data: Value) {
    let now = clock::now_ns(ClockType::Host);
    let timestamp = Timestamp {
        seconds: now / NANOSECONDS_PER_SECOND,
        microseconds: now % NANOSECONDS_PER_SECOND / 1000,
    };
    let key = LIMITED.iter().find(|(limited, _)| *limited == name).map(|(_, member)| {
        let value = member.and_then(|member| data[member].as_str()).map(str::to_owned);
        (name, value)
    });
    let has_data = data.as_object().is_none_or(|map| !map.is_empty());
    let event = Event { timestamp, event: name, data: has_data.then_some(data) };
    let Some(key) = key else { return send(&event) };
    let mut limits = LIMITS.lock();
    let limits = limits.get_or_insert_default();
    if let Some(limit) = limits.get_mut(&key) {
        limit.waiting = Some(event);
        return;
    }
    let of = key.clone();
    let timer = Timer::new(clock(), move || passed(&of));
    timer.mod_ns(clock::now_ns(clock()).saturating_add(NANOSECONDS_PER_SECOND));
    limits.insert(key, Limit { waiting: None, timer });
    send(&event);
}

/// A second after an event of a limited kind.
fn passed(key: &Key) {
    let mut limits = LIMITS.lock();
    let Some(limits) = limits.as_mut() else { return };
    let Some(limit) = limits.get_mut(key) else { return };
    match limit.waiting.take() {
        Some(event) => {
            limit.timer.mod_ns(clock::now_ns(clock()).saturating_add(NANOSECONDS_PER_SECOND));
            send(&event);
        }
        None => {
            limits.remove(key);
        }
    }
}

fn send(event: &Event) {
    let monitors = MONITORS.lock().clone();
    monitors.iter().for_each(|monitor| monitor.send_event(event));
}
