//! Where keys and pointer movements of users and clients go: the devices that take them, and keys that are held.
//!
//! Source: QEMU `ui/input.c`, `ui/input-legacy.c`, `qapi/ui.json`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use hw_core::runstate::{RunState, runstate_get};
use parking_lot::Mutex;
use qapi::{QapiType, Wrapper};
use qom::{Result, bail};
use util::clock::{ClockType, now_ns};
use util::timer::Timer;

use crate::ps2::{MouseButton, key_of_number};
use crate::qkeycode::QKeyCode;

/// A key by its name or by its XT keycode; bit 7 stands for the prefix e0.
#[derive(QapiType, Clone, Copy, Debug, PartialEq)]
#[qapi(tag = "type", tag_type = "KeyValueKind")]
enum KeyValueContent {
    Number(Wrapper<i64>),
    Qcode(Wrapper<QKeyCode>),
}

/// QAPI's `KeyValue`.
#[derive(QapiType, Clone, Copy, Debug, PartialEq)]
pub struct KeyValue {
    #[qapi(flatten)]
    content: KeyValueContent,
}

impl KeyValue {
    /// The key; one without a name is [`QKeyCode::Unmapped`].
    pub fn key(self) -> QKeyCode {
        match self.content {
            KeyValueContent::Qcode(Wrapper { data }) => data,
            KeyValueContent::Number(Wrapper { data }) => {
                u8::try_from(data).map_or(QKeyCode::Unmapped, key_of_number)
            }
        }
    }
}

/// An axis of a pointer.
#[derive(QapiType, Clone, Copy, Debug, PartialEq, Eq)]
#[qapi(name = "InputAxis")]
pub enum InputAxis {
    /// To the right.
    X,
    /// Down.
    Y,
}

/// A key goes down or up.
#[derive(QapiType, Clone, Copy, Debug, PartialEq)]
#[qapi(name = "InputKeyEvent")]
pub struct InputKeyEvent {
    /// Which key.
    pub key: KeyValue,
    /// Whether it goes down.
    pub down: bool,
}

/// A button goes down or up.
#[derive(QapiType, Clone, Copy, Debug, PartialEq)]
#[qapi(name = "InputBtnEvent")]
pub struct InputBtnEvent {
    /// Which button.
    pub button: MouseButton,
    /// Whether it goes down.
    pub down: bool,
}

/// A pointer moves along an axis.
#[derive(QapiType, Clone, Copy, Debug, PartialEq)]
#[qapi(name = "InputMoveEvent")]
pub struct InputMoveEvent {
    /// Which axis.
    pub axis: InputAxis,
    /// How far, or for `abs` where to: 0 to 32767.
    pub value: i64,
}

/// QAPI's `InputEvent`.
#[derive(QapiType, Clone, Copy, Debug, PartialEq)]
#[qapi(name = "InputEvent", tag = "type", tag_type = "InputEventKind")]
pub enum InputEvent {
    /// A key.
    Key(Wrapper<InputKeyEvent>),
    /// A button.
    Btn(Wrapper<InputBtnEvent>),
    /// A movement from where the pointer is.
    Rel(Wrapper<InputMoveEvent>),
    /// A movement to a place on the screen.
    Abs(Wrapper<InputMoveEvent>),
}

impl InputEvent {
    fn kind(&self) -> &'static str {
        match self {
            InputEvent::Key(_) => "key",
            InputEvent::Btn(_) => "btn",
            InputEvent::Rel(_) => "rel",
            InputEvent::Abs(_) => "abs",
        }
    }
}

/// A device that takes events.
pub trait InputHandler: Send + Sync {
    /// What people call it.
    fn name(&self) -> &'static str;
    /// Whether it takes events of the kind of `event`.
    fn takes(&self, event: &InputEvent) -> bool;
    /// Whether it is a pointer, and then whether it knows places on the screen.
    fn pointer(&self) -> Option<bool>;
    /// Takes an event.
    fn event(&self, event: &InputEvent);
    /// The events up to here belong together.
    fn sync(&self);
}

/// A device with its number, which `query-mice` tells.
#[derive(Clone)]
struct Registered {
    index: i64,
    handler: Arc<dyn InputHandler>,
}

impl Registered {
    fn is(&self, handler: &Arc<dyn InputHandler>) -> bool {
        Arc::as_ptr(&self.handler).addr() == Arc::as_ptr(handler).addr()
    }
}

/// The last one that takes an event gets it.
static HANDLERS: Mutex<Vec<Registered>> = Mutex::new(Vec::new());

fn registered(handler: Arc<dyn InputHandler>) -> Registered {
    static LAST: AtomicI64 = AtomicI64::new(0);
    Registered { index: LAST.fetch_add(1, Ordering::Relaxed) + 1, handler }
}

/// Adds a device; of several the one that came last gets the events.
pub fn register(handler: Arc<dyn InputHandler>) {
    HANDLERS.lock().push(registered(handler));
}

/// Adds a device that gets events where no other takes them, until [`set_active`].
pub fn register_inactive(handler: Arc<dyn InputHandler>) {
    HANDLERS.lock().insert(0, registered(handler));
}

/// The guest drives a device, which gets the events from now on, or does so no longer
/// (`qemu_input_handler_activate`).
pub fn set_active(handler: &Arc<dyn InputHandler>, active: bool) {
    let mut handlers = HANDLERS.lock();
    let Some(at) = handlers.iter().position(|known| known.is(handler)) else { return };
    let known = handlers.remove(at);
    let place = if active { handlers.len() } else { 0 };
    handlers.insert(place, known);
}

/// A device goes.
pub fn unregister(handler: &Arc<dyn InputHandler>) {
    HANDLERS.lock().retain(|known| !known.is(handler));
}

/// A pointing device, as `query-mice` tells of it (QAPI's `MouseInfo`).
#[derive(QapiType, Clone, Debug, PartialEq)]
#[qapi(name = "MouseInfo")]
pub struct MouseInfo {
    /// What people call it.
    pub name: String,
    /// Its number.
    pub index: i64,
    /// Whether it gets the events.
    pub current: bool,
    /// Whether it knows places on the screen.
    pub absolute: bool,
}

/// All pointing devices, the one that gets the events last, as QEMU has them.
pub fn mice() -> Vec<MouseInfo> {
    let handlers = HANDLERS.lock();
    let mut mice: Vec<MouseInfo> = handlers
        .iter()
        .filter_map(|Registered { index, handler }| {
            let absolute = handler.pointer()?;
            Some(MouseInfo { name: handler.name().to_owned(), index: *index, current: false, absolute })
        })
        .collect();
    if let Some(last) = mice.last_mut() {
        last.current = true;
    }
    mice
}

fn find_handler(event: &InputEvent) -> Option<Arc<dyn InputHandler>> {
    HANDLERS.lock().iter().rfind(|known| known.handler.takes(event)).map(|known| known.handler.clone())
}

/// Whether a guest could take an event now.
fn guest_listens() -> bool {
    matches!(runstate_get(), RunState::Running | RunState::Suspended)
}

/// Gives events to the guest, as many as belong together (`input-send-event`).
///
/// # Errors
/// When the machine stands still, or no device takes one of them.
pub fn send_events(events: &[InputEvent]) -> Result<()> {
    if !guest_listens() {
        bail!("VM not running");
    }
    if let Some(event) = events.iter().find(|event| find_handler(event).is_none()) {
        bail!("Input handler not found for event type {}", event.kind());
    }
    events.iter().for_each(deliver);
    let handlers = HANDLERS.lock().clone();
    handlers.iter().for_each(|known| known.handler.sync());
    Ok(())
}

fn deliver(event: &InputEvent) {
    if let Some(handler) = find_handler(event) {
        handler.event(event);
    }
}

/// How many steps of keys that are held wait at most.
const QUEUE_LIMIT: usize = 1024;
/// How long a key is held where nobody says, in milliseconds.
const DEFAULT_HOLD_MS: u64 = 10;

enum Step {
    Key(QKeyCode, bool),
    WaitNs(u64),
}

struct KeyQueue {
    steps: VecDeque<Step>,
    waiting: bool,
}

static QUEUE: Mutex<KeyQueue> = Mutex::new(KeyQueue { steps: VecDeque::new(), waiting: false });

/// Presses keys together and lets them go in reverse order, each step held for `hold_ms` milliseconds of
/// virtual time (`send-key`). What comes meanwhile is queued, up to a limit.
pub fn send_keys(keys: &[QKeyCode], hold_ms: Option<u64>) {
    let hold_ns = hold_ms.filter(|ms| *ms > 0).unwrap_or(DEFAULT_HOLD_MS).saturating_mul(1_000_000);
    let down = keys.iter().map(|key| (*key, true));
    let up = keys.iter().rev().map(|key| (*key, false));
    {
        let mut queue = QUEUE.lock();
        for (key, down) in down.chain(up) {
            if queue.steps.len() + 2 > QUEUE_LIMIT {
                break;
            }
            queue.steps.extend([Step::Key(key, down), Step::WaitNs(hold_ns)]);
        }
        if queue.waiting {
            return;
        }
    }
    go_on();
}

fn timer() -> &'static Timer {
    static TIMER: OnceLock<Timer> = OnceLock::new();
    TIMER.get_or_init(|| {
        Timer::new(ClockType::Virtual, || {
            QUEUE.lock().waiting = false;
            go_on();
        })
    })
}

/// Carries out steps up to the next wait.
fn go_on() {
    loop {
        let step = {
            let mut queue = QUEUE.lock();
            let step = queue.steps.pop_front();
            queue.waiting = matches!(step, Some(Step::WaitNs(_)));
            step
        };
        match step {
            Some(Step::Key(key, down)) => send_key(key, down),
            Some(Step::WaitNs(ns)) => return timer().mod_ns(now_ns(ClockType::Virtual).saturating_add(ns)),
            None => return,
        }
    }
}

/// A key goes down or up; lost on a guest that stands still.
pub fn send_key(key: QKeyCode, down: bool) {
    if !guest_listens() {
        return;
    }
    let key = KeyValue { content: KeyValueContent::Qcode(Wrapper { data: key }) };
    let event = InputEvent::Key(Wrapper { data: InputKeyEvent { key, down } });
    if let Some(handler) = find_handler(&event) {
        handler.event(&event);
        handler.sync();
    }
}
