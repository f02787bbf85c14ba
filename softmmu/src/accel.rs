//! Choosing the accelerator. Source: QEMU `softmmu/vl.c` (`configure_accelerators`).

use std::sync::Arc;

use hw_core::accel::{accel_begin_machine, accel_find, current_accel_name};
use qom::{Error, Object, Result, bail};
use util::trace::span_with;

/// An accelerator as the user asked for it.
#[derive(Clone, Debug, Default)]
pub struct AccelOptions {
    /// Its name.
    pub name: String,
    /// Its properties, in order.
    pub properties: Vec<(String, String)>,
    /// What messages begin with: the option, if it was one of its own.
    pub location: String,
}

/// Tries the accelerators in order and stops at the first that works. Under a test (`qtest`) nothing is said of
/// the choice.
///
/// # Errors
/// When a property is wrong, or none works.
pub fn configure_accelerators(wanted: &[AccelOptions], machine: &Arc<dyn Object>, qtest: bool) -> Result<()> {
    let _span = span_with("configure_accelerators", || {
        wanted.iter().map(|a| a.name.as_str()).collect::<Vec<_>>().join(":")
    });
    let mut tried = false;
    for (left, options) in (0..wanted.len()).rev().zip(wanted) {
        // Only where another may take its place must be known now that it works.
        match do_configure_accelerator(options, machine, left > 0)? {
            None => {
                if tried && !qtest {
                    util::error_report!("falling back to {}", current_accel_name().unwrap_or(&options.name));
                }
                return Ok(());
            }
            Some(error) if qtest && options.name == "kvm" && is_missing(&error) => tried = true,
            Some(error) => {
                report(&error);
                tried = true;
            }
        }
    }
    match tried {
        // The reasons have been told.
        true => Err(Error::new("")),
        false => bail!("no accelerator was asked for"),
    }
}

/// Whether the host has no KVM, which tests that run anywhere expect.
fn is_missing(error: &Error) -> bool {
    error.message.ends_with("No such file or directory")
}

fn report(error: &Error) {
    util::error_report!("{error}");
    if let Some(hint) = &error.hint {
        util::error_report!("{hint}");
    }
}

/// `Ok(None)` when it works, `Ok(Some(_))` why this host cannot, `Err` for a mistake of the user's.
fn do_configure_accelerator(
    options: &AccelOptions,
    machine: &Arc<dyn Object>,
    wait: bool,
) -> Result<Option<Error>> {
    let _span = span_with("do_configure_accelerator", || options.name.clone());
    let Some(class) = accel_find(&options.name) else {
        return Ok(Some(Error::new(format!("{}invalid accelerator {}", options.location, options.name))));
    };
    let accelerator = qom::object::object_new_with_class(class)?;
    for (name, value) in &options.properties {
        accelerator.property_set_str(name, value).map_err(|e| e.prepend(&options.location))?;
    }
    match accel_begin_machine(&accelerator, machine, wait) {
        Ok(()) => Ok(None),
        Err(error) => {
            let name = &options.name;
            Ok(Some(error.prepend(format!("failed to initialize {name}: "))))
        }
    }
}
