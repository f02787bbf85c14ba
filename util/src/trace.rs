//! Trace events (trace/control.c, docs/devel/tracing.rst) and timed spans.
//!
//! An event is declared where it happens, under QEMU's name where QEMU has it:
//!
//! ```
//! # let (address, value) = (0x40, 0x34);
//! util::trace_event!(pit_ioport_write, "[{address:#04x}] WR {value:#04x}");
//! ```
//!
//! It is registered as the program starts, so that `-trace help` lists it, and costs one relaxed load until
//! `-trace pit_*` switches it on. Spans time the steps of the program's way to a running VM for `-trace startup`:
//!
//! ```
//! let _span = util::trace::span("kvm_init");
//! ```

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use thiserror::Error;

use crate::log::{self, LogError, OsError};

#[doc(hidden)]
pub use inventory;

/// A trace event: a name and whether it is switched on. [`trace_event!`](crate::trace_event) makes it.
#[derive(Debug)]
pub struct TraceEvent {
    name: &'static str,
    enabled: AtomicBool,
}

impl TraceEvent {
    /// An event, switched off.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        TraceEvent { name, enabled: AtomicBool::new(false) }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether the event is switched on: one relaxed load.
    #[must_use]
    #[inline]
    pub fn enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    /// Writes the event to the log.
    #[cold]
    pub fn emit(&self, args: fmt::Arguments<'_>) {
        log::write_line(&format!("{} {args}", self.name));
    }
}

/// An entry of the registry of events.
#[derive(Debug)]
pub struct Registration(pub &'static TraceEvent);

inventory::collect!(Registration);

/// Declares a trace event and traces it: `trace_event!(name, "format", arguments…)`. The arguments are not
/// even evaluated while the event is off. Several places may trace one name.
#[macro_export]
macro_rules! trace_event {
    ($name:ident, $($format:tt)+) => {{
        static EVENT: $crate::trace::TraceEvent = $crate::trace::TraceEvent::new(stringify!($name));
        const _: () = {
            $crate::trace::inventory::submit! { $crate::trace::Registration(&EVENT) }
        };
        if EVENT.enabled() {
            EVENT.emit(format_args!($($format)+));
        }
    }};
}

/// Switched on by `-trace startup`: the spans are printed.
static STARTUP: TraceEvent = TraceEvent::new("startup");
inventory::submit! { Registration(&STARTUP) }

fn events() -> impl Iterator<Item = &'static TraceEvent> {
    inventory::iter::<Registration>().map(|entry| entry.0)
}

/// The names of all events, sorted, and whether each is on (`info trace-events`).
#[must_use]
pub fn list() -> Vec<(&'static str, bool)> {
    let on: BTreeSet<_> = events().filter(|event| event.enabled()).map(TraceEvent::name).collect();
    let names: BTreeSet<_> = events().map(TraceEvent::name).collect();
    names.into_iter().map(|name| (name, on.contains(name))).collect()
}

/// The text of `-trace help`: the events' names, one a line.
#[must_use]
pub fn help() -> String {
    list().into_iter().map(|(name, _)| format!("{name}\n")).collect()
}

/// Switches the events on that `pattern` names, in which `*` stands for any text, or off if it begins with
/// `-`. Returns whether there was one.
pub fn enable(pattern: &str) -> bool {
    let (name, on) = match pattern.strip_prefix('-') {
        Some(name) => (name, false),
        None => (pattern, true),
    };
    let mut found = false;
    for event in events().filter(|event| glob_match(name, event.name)) {
        event.enabled.store(on, Ordering::Relaxed);
        found = true;
    }
    found
}

/// Switches as [`enable`] does; a plain name that is not an event's draws QEMU's warning.
pub(crate) fn enable_or_warn(pattern: &str, warn: impl Fn(&str)) {
    let name = pattern.strip_prefix('-').unwrap_or(pattern);
    if !enable(pattern) && !name.contains('*') {
        warn(&format!("trace event '{name}' does not exist"));
    }
}

/// Whether `text` matches `pattern`, in which `*` is any text and `?` any character (g_pattern_match_simple).
#[must_use]
pub fn glob_match(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to resume, one character further, when what follows the last star does not fit.
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(&c) if c == b'?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((after, from)) = star else { return false };
                star = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

/// What is wrong with `-trace`.
#[derive(Debug, Error)]
pub enum TraceError {
    /// A key that `-trace` does not have.
    #[error("Invalid parameter '{0}'")]
    Key(String),
    /// The file of `events=` cannot be read.
    #[error("{0}: {1}")]
    Events(String, #[source] OsError),
    /// The file of `file=` cannot be written.
    #[error(transparent)]
    File(#[from] LogError),
}

/// Carries out one `-trace` option, split into its keys and values: `enable` (the implied key), `events` (a
/// file of patterns, one a line, `#` before comments) and `file` (the log's). Returns the list of events to
/// print before exiting where help is asked for; `warn` gets what may be a mistake.
///
/// # Errors
/// An unknown key, a file that cannot be read or made.
pub fn apply(options: &[(&str, &str)], warn: impl Fn(&str)) -> Result<Option<String>, TraceError> {
    for &(key, value) in options {
        match key {
            "enable" if matches!(value, "help" | "?") => return Ok(Some(help())),
            "enable" => enable_or_warn(value, &warn),
            "events" => {
                let text = std::fs::read_to_string(value)
                    .map_err(|error| TraceError::Events(value.to_owned(), OsError(error)))?;
                for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
                    enable_or_warn(line, &warn);
                }
            }
            "file" => log::set_filename(Some(value))?,
            _ => return Err(TraceError::Key(key.to_owned())),
        }
    }
    Ok(None)
}

/// A step being timed; it ends when dropped.
#[must_use = "a span ends when it is dropped"]
#[derive(Debug)]
pub struct Span {
    active: bool,
    /// Spans nest on their thread, so they stay on it.
    thread: PhantomData<*const ()>,
}

struct Open {
    name: &'static str,
    detail: String,
    started: Instant,
    /// Its opening line is printed when a step begins inside it.
    printed: bool,
}

thread_local! {
    static OPEN: RefCell<Vec<Open>> = const { RefCell::new(Vec::new()) };
}

/// The time that the first column counts from: when the first span began.
static ORIGIN: OnceLock<Instant> = OnceLock::new();

/// Begins a step. While `-trace startup` is off this is one relaxed load.
#[inline]
pub fn span(name: &'static str) -> Span {
    span_with(name, String::new)
}

/// Begins a step with a word on what it works on, which is not made while `-trace startup` is off.
#[inline]
pub fn span_with(name: &'static str, detail: impl FnOnce() -> String) -> Span {
    let active = STARTUP.enabled();
    if active {
        open(name, detail());
    }
    Span { active, thread: PhantomData }
}

#[cold]
fn open(name: &'static str, detail: String) {
    let started = Instant::now();
    let origin = *ORIGIN.get_or_init(|| {
        log::write_line("     at µs   took µs  step");
        started
    });
    OPEN.with_borrow_mut(|stack| {
        for (depth, step) in stack.iter_mut().enumerate().filter(|(_, step)| !step.printed) {
            step.printed = true;
            let at = step.started.duration_since(origin).as_micros();
            print(depth, at, None, &format!("{}{} {{", step.name, step.detail));
        }
        let detail = if detail.is_empty() { detail } else { format!(" ({detail})") };
        stack.push(Open { name, detail, started, printed: false });
    });
}

#[cold]
fn close() {
    let ended = Instant::now();
    OPEN.with_borrow_mut(|stack| {
        let (Some(step), Some(origin)) = (stack.pop(), ORIGIN.get()) else { return };
        let took = ended.duration_since(step.started).as_micros();
        let at = if step.printed { ended } else { step.started }.duration_since(*origin).as_micros();
        let text =
            if step.printed { format!("}} {}", step.name) } else { format!("{}{}", step.name, step.detail) };
        print(stack.len(), at, Some(took), &text);
    });
}

fn print(depth: usize, at: u128, took: Option<u128>, text: &str) {
    let took = took.map_or(String::new(), |took| took.to_string());
    let thread = std::thread::current();
    let thread = match thread.name() {
        Some("main") | None => String::new(),
        Some(name) => format!("[{name}] "),
    };
    log::write_line(&format!("{at:>10}{took:>10}  {:width$}{thread}{text}", "", width = 2 * depth));
}

impl Drop for Span {
    fn drop(&mut self) {
        if self.active {
            close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::glob_match;

    #[test]
    fn patterns_match_as_glib_does() {
        for (pattern, text) in [
            ("*", "x"),
            ("kvm_*", "kvm_run_exit"),
            ("*_exit", "kvm_run_exit"),
            ("k*_*t", "kvm_run_exit"),
            ("kv?_run", "kvm_run"),
            ("*ab", "aab"),
            ("a**", "a"),
        ] {
            assert!(glob_match(pattern, text), "{pattern} should match {text}");
        }
        for (pattern, text) in
            [("kvm", "kvm_run"), ("", "x"), ("*b", "abc"), ("a?", "a"), ("run*", "kvm_run")]
        {
            assert!(!glob_match(pattern, text), "{pattern} should not match {text}");
        }
    }
}
