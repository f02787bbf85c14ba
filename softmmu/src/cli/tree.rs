//! Options that are a QAPI type: `-blockdev`, `-audiodev`.

use qapi::{At, QapiType, from_keyval};
use serde_json::{Map, Value};
use util::keyval;

use super::{CliError, CommandLine, Location, OptionId};

/// An option of a QAPI type.
#[derive(Debug, Clone, PartialEq)]
pub struct TreeOption {
    options: Map<String, Value>,
    /// Whether leaves have types, not just text.
    is_json: bool,
    location: Location,
}

impl TreeOption {
    /// Reads it and does something with it.
    ///
    /// # Errors
    /// Of both, with the option as it was given.
    pub fn with<T: QapiType>(&self, use_it: impl FnOnce(T) -> qom::Result<()>) -> qom::Result<()> {
        let tree = Value::Object(self.options.clone());
        let read = if self.is_json { T::from_json(tree, At::Top) } else { from_keyval(tree) };
        read.and_then(use_it).map_err(|error| error.prepend(format!("{}: ", self.location)))
    }
}

impl CommandLine {
    /// All of an option whose first key is `driver` where none is named.
    ///
    /// # Errors
    /// Text that does not parse.
    pub fn trees(&self, id: OptionId) -> Result<Vec<TreeOption>, CliError> {
        let all = self.all(id).map(|occurrence| {
            let tree = keyval::parse_or_json(occurrence.text(), Some("driver"));
            let options = tree.map_err(|error| occurrence.error(error))?.map;
            let is_json = occurrence.text().starts_with('{');
            Ok(TreeOption { options, is_json, location: occurrence.location.clone() })
        });
        all.collect()
    }
}
