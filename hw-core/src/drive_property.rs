//! A device's property that names a drive or a node. Source: QEMU `hw/core/qdev-properties-system.c`.

use std::sync::{Arc, Weak};

use block::BlockBackend;
use block::backend::{self, BlockDevice};
use block::drive::{Interface, drive_of};
use block::node::find_node;
use qom::property::PropertyInput;
use qom::{Property, PropertyType, Result, Value, bail};

/// The drive that a property names, or a backend of the device's own on the node that it names.
#[derive(Clone, Debug, Default)]
pub struct DriveProperty(Option<(Arc<BlockBackend>, String)>);

impl PropertyType for DriveProperty {
    fn type_name() -> String {
        "str".to_owned()
    }

    fn parse(name: &str, input: PropertyInput<'_>) -> Result<Self> {
        let id = String::parse(name, input)?;
        if id.is_empty() {
            return Ok(DriveProperty(None));
        }
        if let Some(backend) = backend::find(&id) {
            return Ok(DriveProperty(Some((backend, id))));
        }
        match find_node(&id) {
            Some(node) => Ok(DriveProperty(Some((backend::new_nameless(node), id)))),
            None => bail!("Property '{name}' can't find value '{id}'"),
        }
    }

    fn parse_for(owner: &str, name: &str, input: PropertyInput<'_>) -> Result<Self> {
        Self::parse(&format!("{owner}.{name}"), input)
    }

    fn to_value(&self) -> Value {
        self.0.as_ref().map(|(_, id)| id.clone()).unwrap_or_default().into()
    }
}

impl DriveProperty {
    /// A backend of the device's own without a medium, for drives whose media come and go.
    pub fn empty() -> DriveProperty {
        DriveProperty(Some((backend::new_empty(), String::new())))
    }

    /// The backend.
    pub fn backend(&self) -> Option<Arc<BlockBackend>> {
        self.0.as_ref().map(|(backend, _)| backend.clone())
    }

    /// Gives `device` the backend that `property` names, for itself alone (`blk_attach_dev`).
    ///
    /// # Errors
    /// When it names none, or another device has it.
    pub fn attach(
        property: &Property<DriveProperty>,
        device: Weak<dyn BlockDevice>,
    ) -> Result<Arc<BlockBackend>> {
        let Some((backend, id)) = property.get().0 else { bail!("drive property not set") };
        if backend.attach(device) {
            return Ok(backend);
        }
        match drive_of(&backend) {
            Some(drive) if drive.interface != Interface::None => bail!(
                "Drive '{id}' is already in use because it has been automatically connected to another device (did you \
                 need 'if=none' in the drive options?)"
            ),
            _ => bail!("Drive '{id}' is already in use by another block device"),
        }
    }
}
