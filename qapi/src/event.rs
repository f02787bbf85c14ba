//! Events: what happened to the machine, told to whoever listens.

use std::sync::OnceLock;

use serde_json::Value;

use crate::schema::Schema;
use crate::types::QapiObject;

/// An event of the schema; `#[derive(QapiEvent)]` with `#[qapi(name = "SHUTDOWN")]` on a struct of its data
/// makes one.
pub trait QapiEvent: QapiObject {
    /// Its name.
    const NAME: &'static str;
}

/// An event, as the derive macro registers it.
pub struct EventInfo {
    /// Its name.
    pub name: &'static str,
    /// Describes its data: what the schema calls the type.
    #[doc(hidden)]
    pub describe: fn(&mut Schema) -> String,
}

inventory::collect!(EventInfo);

/// All events, by name.
pub fn events() -> Vec<&'static EventInfo> {
    let mut events: Vec<_> = inventory::iter::<EventInfo>.into_iter().collect();
    events.sort_by_key(|event| event.name);
    events
}

/// Where events go: the name and the data, `{}` for an event without. Called on any thread, with no lock held.
pub type EventSink = fn(&'static str, Value);

static SINK: OnceLock<EventSink> = OnceLock::new();

/// Says where events go, once in the life of the program.
pub fn set_event_sink(sink: EventSink) {
    let _ = SINK.set(sink);
}

/// Tells that something happened; nobody hears it before there is a sink.
pub fn emit<E: QapiEvent>(event: &E) {
    if let Some(sink) = SINK.get() {
        sink(E::NAME, crate::types::object_to_json(event));
    }
}
