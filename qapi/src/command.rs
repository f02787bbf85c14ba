//! The commands, and calling one.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use qom::Result;
use serde_json::{Map, Value};

use crate::schema::{Feature, Schema};

/// What kind of command it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandOptions {
    /// Can be executed out of band: does not wait, and takes no lock that is held for long.
    pub allow_oob: bool,
    /// Can be executed before the machine is made (`--preconfig`).
    pub allow_preconfig: bool,
}

/// A command, as [`command`](macro@crate::command) registers it.
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// What it does, for people.
    pub doc: &'static str,
    /// What kind of command it is.
    pub options: CommandOptions,
    /// What a client can find out about it.
    pub features: &'static [Feature],
    #[doc(hidden)]
    pub run: fn(Map<String, Value>) -> Result<Value>,
    /// Describes arguments and answer: what the schema calls their types.
    #[doc(hidden)]
    pub describe: fn(&mut Schema) -> (String, String),
}

inventory::collect!(Command);

impl Command {
    /// Checks the arguments and carries the command out; a command without an answer gives `{}`.
    ///
    /// # Errors
    /// In QEMU's words: arguments that are unknown, missing or wrong, and what the command itself says.
    pub fn run(&self, arguments: Map<String, Value>) -> Result<Value> {
        let answer = (self.run)(arguments)?;
        Ok(if answer.is_null() { Value::Object(Map::new()) } else { answer })
    }
}

fn table() -> &'static BTreeMap<&'static str, &'static Command> {
    static TABLE: OnceLock<BTreeMap<&'static str, &'static Command>> = OnceLock::new();
    TABLE.get_or_init(|| inventory::iter::<Command>.into_iter().map(|c| (c.name, c)).collect())
}

/// All commands, by name.
pub fn commands() -> impl Iterator<Item = &'static Command> {
    table().values().copied()
}

/// The command called `name`.
pub fn find_command(name: &str) -> Option<&'static Command> {
    table().get(name).copied()
}

/// For the macro: checks that no argument is left.
///
/// # Errors
/// Names the first that is.
#[doc(hidden)]
pub fn no_more_arguments(arguments: &Map<String, Value>) -> Result<()> {
    crate::types::no_more(arguments, crate::At::Top)
}
