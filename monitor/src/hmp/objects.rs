//! Commands about objects: the composition tree, properties, `device_add`.

use std::sync::Arc;

use hw_core::qdev_monitor::{
    DeviceOptions, OptionValue, device_help, device_properties_help, qdev_device_add,
};
use qom::path::ResolveError;
use qom::{Error, Object, object_resolve_path};
use util::option::{Opts, OptsDesc, is_help_option};

use super::args::Args;
use super::output::{Output, out};

/// What `device_add` takes.
static DEVICE: OptsDesc = OptsDesc { name: "device", implied: Some("driver"), merge: false, descs: &[] };

/// As QEMU words an error of the machine's.
fn error(error: &Error) -> String {
    let hint = error.hint.as_ref().map(|hint| format!("\n{}", hint.trim_end())).unwrap_or_default();
    format!("Error: {}{hint}", error.message)
}

fn resolve(path: &str) -> Result<Arc<dyn Object>, String> {
    object_resolve_path(path).map_err(|reason| match reason {
        ResolveError::NotFound => error(&qom::object::device_not_found(path)),
        ResolveError::Ambiguous => format!("Error: Path '{path}' is ambiguous"),
    })
}

pub(crate) fn qom_list(output: &mut Output, args: &Args) -> Result<(), String> {
    let path = args.word(0);
    if path.is_empty() {
        output.print("/\n");
        return Ok(());
    }
    for (name, kind) in resolve(path)?.property_list() {
        out!(output, "{name} ({kind})\n");
    }
    Ok(())
}

pub(crate) fn qom_get(output: &mut Output, args: &Args) -> Result<(), String> {
    let value = resolve(args.word(0))?.property_get(args.word(1)).map_err(|e| error(&e))?;
    let text = serde_json::to_string_pretty(&value).map_err(|e| format!("Error: {e}"))?;
    out!(output, "{text}\n");
    Ok(())
}

pub(crate) fn info_qom_tree(output: &mut Output, args: &Args) -> Result<(), String> {
    let path = match args.word(0) {
        "" => "/machine",
        path => path,
    };
    let object = object_resolve_path(path).map_err(|reason| match reason {
        ResolveError::NotFound => format!("Path '{path}' could not be resolved."),
        ResolveError::Ambiguous => format!("Warning: Path '{path}' is ambiguous."),
    })?;
    let name = object.base().parent().map(|(_, name)| name).unwrap_or_default();
    print_composition(output, &name, &object, 0);
    Ok(())
}

fn print_composition(output: &mut Output, name: &str, object: &Arc<dyn Object>, indent: usize) {
    out!(output, "{:indent$}/{name} ({})\n", "", object.type_name());
    for (name, child) in object.children() {
        print_composition(output, &name, &child, indent + 2);
    }
}

pub(crate) fn device_add(output: &mut Output, args: &Args) -> Result<(), String> {
    let mut warnings = Vec::new();
    let opts = Opts::parse(&DEVICE, args.word(0), &mut warnings).map_err(|e| format!("Error: {e}"))?;
    for warning in warnings {
        out!(output, "warning: {warning}\n");
    }
    let driver = opts.values.iter().rev().find(|(name, _)| name == "driver").map(|(_, value)| value.as_str());
    if driver.is_some_and(is_help_option) {
        output.print(&device_help());
        return Ok(());
    }
    if let Some(driver) = driver
        && opts.values.iter().any(|(name, _)| name == "help")
    {
        output.print(&device_properties_help(driver).map_err(|e| error(&e))?);
        return Ok(());
    }
    let id = opts.id.map(|id| ("id".to_owned(), id));
    let list = opts.values.into_iter().chain(id).map(|(name, value)| (name, OptionValue::Text(value)));
    let options = DeviceOptions::from_list(list).map_err(|e| error(&e))?;
    qdev_device_add(&options, true).map(drop).map_err(|e| error(&e))
}
