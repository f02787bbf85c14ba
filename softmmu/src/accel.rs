//! Choosing the accelerator. Source: QEMU `softmmu/vl.c` (`configure_accelerators`).

use std::sync::Arc;

use hw_core::accel::{accel_find, accel_init_machine};
use qom::{Error, Object, Result, bail};
use util::trace::span_with;

/// An accelerator as the user asked for it.
#[derive(Clone, Debug, Default)]
pub struct AccelOptions {
    /// Its name.
    pub name: String,
    /// Its properties, in order.
    pub properties: Vec<(String, String)>,
}

/// Tries the accelerators in order and stops at the first that works.
///
/// # Errors
/// When a property is wrong, or none works.
pub fn configure_accelerators(wanted: &[AccelOptions], machine: &Arc<dyn Object>) -> Result<()> {
    let _span = span_with("configure_accelerators", || {
        wanted.iter().map(|a| a.name.as_str()).collect::<Vec<_>>().join(":")
    });
    let mut failure: Option<Error> = None;
    let mut tried = false;
    for options in wanted {
        if tried {
            eprintln!("softmmu: falling back to {}", options.name);
        }
        match do_configure_accelerator(options, machine)? {
            None => return Ok(()),
            Some(error) => {
                report(&error);
                failure = Some(error);
                tried = true;
            }
        }
    }
    match failure {
        // Its reason has been told.
        Some(error) if wanted.len() == 1 => Err(Error { message: String::new(), hint: None, ..error }),
        Some(_) => bail!("no accelerator found"),
        None => bail!("no accelerator was asked for"),
    }
}

fn report(error: &Error) {
    eprintln!("softmmu: {error}");
    if let Some(hint) = &error.hint {
        eprintln!("softmmu: {hint}");
    }
}

/// `Ok(None)` when it works, `Ok(Some(_))` why this host cannot, `Err` for a mistake of the user's.
fn do_configure_accelerator(options: &AccelOptions, machine: &Arc<dyn Object>) -> Result<Option<Error>> {
    let _span = span_with("do_configure_accelerator", || options.name.clone());
    let Some(class) = accel_find(&options.name) else {
        return Ok(Some(Error::new(format!("invalid accelerator {}", options.name))));
    };
    let accelerator = qom::object::object_new_with_class(class)?;
    for (name, value) in &options.properties {
        accelerator.property_set_str(name, value)?;
    }
    match accel_init_machine(&accelerator, machine) {
        Ok(()) => Ok(None),
        Err(error) => {
            let name = &options.name;
            Ok(Some(error.prepend(format!("failed to initialize {name}: "))))
        }
    }
}
