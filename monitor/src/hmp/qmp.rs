//! Commands that do what one of QMP's does (monitor/hmp-cmds.c).

use qom::Error;
use serde_json::{Map, Value};

/// As people are told of an error (`hmp_handle_error`).
pub(crate) fn error(error: &Error) -> String {
    let hint = error.hint.as_ref().map(|hint| format!("\n{}", hint.trim_end())).unwrap_or_default();
    format!("Error: {}{hint}", error.message)
}

/// Carries out QMP's command `name`; arguments that are `null` are left out.
///
/// # Errors
/// What the command says, for people.
pub(crate) fn run<const N: usize>(name: &str, arguments: [(&str, Value); N]) -> Result<Value, String> {
    let Some(command) = qapi::find_command(name) else {
        return Err(format!("Error: The command {name} has not been found"));
    };
    let given = arguments.into_iter().filter(|(_, value)| !value.is_null());
    let given: Map<String, Value> = given.map(|(name, value)| (name.to_owned(), value)).collect();
    command.run(given).map_err(|e| error(&e))
}

/// As [`run`], for commands without an answer.
///
/// # Errors
/// As [`run`].
pub(crate) fn carry_out<const N: usize>(name: &str, arguments: [(&str, Value); N]) -> Result<(), String> {
    run(name, arguments).map(drop)
}

/// As [`run`], for queries that give a list.
///
/// # Errors
/// As [`run`].
pub(crate) fn list(name: &str) -> Result<Vec<Value>, String> {
    match run(name, [])? {
        Value::Array(list) => Ok(list),
        _ => Ok(Vec::new()),
    }
}

/// The text of a member, empty where there is none.
pub(crate) fn text<'a>(object: &'a Value, member: &str) -> &'a str {
    object.get(member).and_then(Value::as_str).unwrap_or_default()
}

/// Whether a member is there and true.
pub(crate) fn flag(object: &Value, member: &str) -> bool {
    object.get(member).and_then(Value::as_bool).unwrap_or_default()
}
