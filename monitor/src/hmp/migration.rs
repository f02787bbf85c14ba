//! Commands about migration (migration/migration-hmp-cmds.c).

use qapi::QapiType;
use serde_json::json;

use super::args::Args;
use super::qmp;
use super::session::{Session, out};
use crate::commands::migration::query_migrate_capabilities;

pub(crate) fn info_migrate_capabilities(mon: &mut Session, _: &Args) -> Result<(), String> {
    for status in query_migrate_capabilities().map_err(|e| e.to_string())? {
        let name = status.capability.to_json();
        let state = if status.state { "on" } else { "off" };
        out!(mon, "{}: {state}\n", name.as_str().unwrap_or_default());
    }
    Ok(())
}

pub(crate) fn migrate_set_capability(_: &mut Session, args: &Args) -> Result<(), String> {
    if args.word("capability") != "events" {
        return Err(format!("Error: invalid parameter value: {}", args.word("capability")));
    }
    let status = json!([{ "capability": "events", "state": args.is_set("state") }]);
    qmp::carry_out("migrate-set-capabilities", [("capabilities", status)])
}
