//! QAPI: the types, commands and events of QMP.
//!
//! One definition is all there is of each: a struct or enum with `#[derive(QapiType)]`, a function with
//! `#[command("query-status")]`, a struct with `#[derive(QapiEvent)]`. From it come the parser with QEMU's
//! checks and texts, `query-qmp-schema`, and the documentation. Definitions register themselves, as QOM types
//! do, so a command can stand in the crate that carries it out.
//!
//! ```
//! use qapi::QapiType;
//!
//! /// A lamp as seen from outside.
//! #[derive(QapiType)]
//! pub struct LampInfo {
//!     /// Whether it is on.
//!     pub lit: bool,
//!     /// Its colour, if it has one.
//!     pub colour_name: Option<String>,
//! }
//!
//! /// Tells how a lamp is.
//! #[qapi::command("query-lamp")]
//! fn query_lamp(
//!     /// Which one.
//!     lamp_id: String,
//! ) -> qom::Result<LampInfo> {
//!     Ok(LampInfo { lit: lamp_id == "desk", colour_name: None })
//! }
//!
//! let arguments = serde_json::json!({ "lamp-id": "desk" });
//! let answer = qapi::find_command("query-lamp").unwrap().run(arguments.as_object().unwrap().clone());
//! assert_eq!(answer.unwrap(), serde_json::json!({ "lit": true }));
//! ```
//!
//! Source: QEMU `docs/devel/qapi-code-gen.rst`, `qapi/qapi-visit-core.c`, `qapi/qobject-input-visitor.c`.
#![forbid(unsafe_code)]

// The derive macros name this crate by its own name, also inside it.
extern crate self as qapi;

mod builtin;
mod command;
mod event;
mod schema;
pub mod sockets;
mod types;

pub use builtin::{Wrapper, from_keyval};
pub use command::{Command, CommandOptions, commands, find_command};
pub use event::{EventInfo, EventSink, QapiEvent, emit, events, set_event_sink};
pub use qapi_derive::{QapiEvent, QapiType, command};
pub use schema::{Feature, Member, Schema, Shape, Variant, query_qmp_schema};
pub use types::{At, Kind, QapiObject, QapiType};

/// For the macros.
#[doc(hidden)]
pub mod private {
    pub use inventory;
    pub use qom::Result;
    pub use serde_json::{Map, Value};

    pub use crate::command::no_more_arguments;
    pub use crate::types::{object_from_json, object_to_json, take_member, take_optional};
}
