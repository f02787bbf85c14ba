//! A device's property that names a character device. Source: QEMU `hw/core/qdev-properties-system.c`.

use std::sync::Arc;

use chardev::{CharFrontend, Chardev};
use qom::property::PropertyInput;
use qom::{Error, Property, PropertyType, Result, Value, bail};

/// The chardev that a property names.
#[derive(Clone, Debug, Default)]
pub struct CharProperty(Option<Arc<Chardev>>);

impl PropertyType for CharProperty {
    fn type_name() -> String {
        "str".to_owned()
    }

    fn parse(name: &str, input: PropertyInput<'_>) -> Result<Self> {
        let id = String::parse(name, input)?;
        match chardev::find(&id) {
            Some(chardev) => Ok(CharProperty(Some(chardev))),
            None => bail!("Property '{name}' can't find value '{id}'"),
        }
    }

    fn parse_for(owner: &str, name: &str, input: PropertyInput<'_>) -> Result<Self> {
        Self::parse(&format!("{owner}.{name}"), input)
    }

    fn to_value(&self) -> Value {
        self.0.as_ref().map(|c| c.label().to_owned()).unwrap_or_default().into()
    }
}

impl CharProperty {
    /// Attaches `frontend` to the chardev that `property` names; to none when it names none. Gives whether
    /// there is one.
    ///
    /// # Errors
    /// When another device has the chardev.
    pub fn attach(property: &Property<CharProperty>, frontend: &CharFrontend) -> Result<bool> {
        let Some(chardev) = property.get().0 else { return Ok(false) };
        frontend.attach(&chardev).map_err(|error| Error::new(error.to_string()))?;
        Ok(true)
    }
}
