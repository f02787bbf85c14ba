//! Commands about objects: the composition tree, properties, `device_add`.

use std::sync::Arc;

use hw_core::qdev_monitor::{
    DeviceOptions, OptionValue, device_help, device_properties_help, find_device, qdev_device_add,
    qdev_unplug,
};
use qom::path::ResolveError;
use qom::property::PropertyInput;
use qom::{Interface, Object, UserCreatable, object_resolve_path};
use serde_json::json;
use util::option::{Opts, OptsDesc, id_wellformed, is_help_option};

use super::args::Args;
use super::qmp;
use super::session::{Session, out};
use crate::qmp::json;
use crate::regions;

const BAD_ID: &str = "Error: Parameter 'id' expects an identifier\n\
    Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.";

/// What `device_add` takes.
static DEVICE: OptsDesc = OptsDesc { name: "device", implied: Some("driver"), merge: false, descs: &[] };

fn resolve(path: &str) -> Result<Arc<dyn Object>, String> {
    regions::resolve(path).map_err(|reason| match reason {
        ResolveError::NotFound => qmp::error(&qom::object::device_not_found(path)),
        ResolveError::Ambiguous => format!("Error: Path '{path}' is ambiguous"),
    })
}

pub(crate) fn qom_list(mon: &mut Session, args: &Args) -> Result<(), String> {
    let Some(path) = args.text("path") else {
        mon.print("/\n");
        return Ok(());
    };
    regions::complete_tree();
    for (name, kind) in resolve(path)?.property_list() {
        out!(mon, "{name} ({kind})\n");
    }
    Ok(())
}

pub(crate) fn qom_get(mon: &mut Session, args: &Args) -> Result<(), String> {
    let value =
        resolve(args.word("path"))?.property_get(args.word("property")).map_err(|e| qmp::error(&e))?;
    let text = serde_json::to_string_pretty(&value).map_err(|e| format!("Error: {e}"))?;
    out!(mon, "{text}\n");
    Ok(())
}

pub(crate) fn qom_set(_: &mut Session, args: &Args) -> Result<(), String> {
    let (path, name, value) = (args.word("path"), args.word("property"), args.word("value"));
    if args.is_set("json") {
        let value = json::from_text(value).map_err(|e| format!("Error: {e}"))?;
        let arguments = [("path", json!(path)), ("property", json!(name)), ("value", value)];
        return qmp::carry_out("qom-set", arguments);
    }
    resolve(path)?.property_set_str(name, value).map_err(|e| qmp::error(&e))
}

pub(crate) fn info_qom_tree(mon: &mut Session, args: &Args) -> Result<(), String> {
    regions::complete_tree();
    let path = args.text("path").unwrap_or("/machine");
    let object = object_resolve_path(path).map_err(|reason| match reason {
        ResolveError::NotFound => format!("Path '{path}' could not be resolved."),
        ResolveError::Ambiguous => format!("Warning: Path '{path}' is ambiguous."),
    })?;
    let name = object.base().parent().map(|(_, name)| name).unwrap_or_default();
    print_composition(mon, &name, &object, 0);
    Ok(())
}

fn print_composition(mon: &mut Session, name: &str, object: &Arc<dyn Object>, indent: usize) {
    out!(mon, "{:indent$}/{name} ({})\n", "", object.type_name());
    for (name, child) in object.children() {
        print_composition(mon, &name, &child, indent + 2);
    }
}

pub(crate) fn device_add(mon: &mut Session, args: &Args) -> Result<(), String> {
    let mut warnings = Vec::new();
    let opts = Opts::parse(&DEVICE, args.word("device"), &mut warnings).map_err(|e| format!("Error: {e}"))?;
    for warning in warnings {
        out!(mon, "warning: {warning}\n");
    }
    let driver = opts.values.iter().rev().find(|(name, _)| name == "driver").map(|(_, value)| value.as_str());
    if driver.is_some_and(is_help_option) {
        mon.print(&device_help());
        return Ok(());
    }
    if let Some(driver) = driver
        && opts.values.iter().any(|(name, _)| name == "help")
    {
        mon.print(&device_properties_help(driver).map_err(|e| e.message)?);
        return Ok(());
    }
    let id = opts.id.map(|id| ("id".to_owned(), id));
    let list = opts.values.into_iter().chain(id).map(|(name, value)| (name, OptionValue::Text(value)));
    let options = DeviceOptions::from_list(list).map_err(|e| qmp::error(&e))?;
    qdev_device_add(&options, true).map(drop).map_err(|e| qmp::error(&e))
}

pub(crate) fn device_del(_: &mut Session, args: &Args) -> Result<(), String> {
    let device = find_device(args.word("id")).map_err(|e| qmp::error(&e))?;
    qdev_unplug(&device).map_err(|e| qmp::error(&e))
}

/// The types that `object_add` can make.
pub(crate) fn user_creatable_types() -> Vec<&'static str> {
    let mut names: Vec<_> =
        qom::class_list(<dyn UserCreatable>::TYPE_NAME, false).iter().map(|class| class.name()).collect();
    names.sort_unstable();
    names
}

pub(crate) fn object_add(mon: &mut Session, args: &Args) -> Result<(), String> {
    let text = args.word("object");
    if text.split(',').next().is_some_and(is_help_option) {
        mon.print("List of user creatable objects:\n");
        user_creatable_types().iter().for_each(|name| out!(mon, "  {name}\n"));
        return Ok(());
    }
    let is_json = text.starts_with('{');
    let keyval = util::keyval::parse_or_json(text, Some("qom-type")).map_err(|e| format!("Error: {e}"))?;
    let mut map = keyval.map;
    let mut take = |name: &str| match map.remove(name) {
        Some(serde_json::Value::String(value)) => Ok(value),
        _ => Err(format!("Error: Parameter '{name}' is missing")),
    };
    let kind = take("qom-type")?;
    if !user_creatable_types().contains(&kind.as_str()) {
        return Err(format!("Error: Parameter 'qom-type' does not accept value '{kind}'"));
    }
    if keyval.help {
        let class = qom::class_by_name(&kind);
        let text = class.map(hw_core::qdev_monitor::properties_help).unwrap_or_default();
        out!(mon, "{kind} options:\n{text}");
        return Ok(());
    }
    let id = take("id")?;
    if !id_wellformed(&id) {
        return Err(BAD_ID.to_owned());
    }
    let class = qom::class_by_name(&kind);
    let settable = |name: &&String| class.and_then(|c| c.property(name)).is_some_and(|p| p.set.is_some());
    if let Some(name) = map.keys().find(|name| !settable(name)) {
        return Err(format!("Error: Parameter '{name}' is unexpected"));
    }
    let properties = map.iter().map(|(name, value)| match value {
        serde_json::Value::String(text) if !is_json => (name.as_str(), PropertyInput::Text(text)),
        value => (name.as_str(), PropertyInput::Json(value)),
    });
    qom::user_creatable_add(&kind, &id, properties).map(drop).map_err(|e| qmp::error(&e))
}

pub(crate) fn object_del(_: &mut Session, args: &Args) -> Result<(), String> {
    qom::user_creatable_del(args.word("id")).map_err(|e| qmp::error(&e))
}
