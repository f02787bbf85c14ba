//! Questions about migration, of which this program has none yet: it has no parameters, and one capability, which
//! libvirt asks for at every start. Source: QEMU `migration/migration.c`, `qapi/migration.json`.

use std::sync::atomic::{AtomicBool, Ordering};

use qapi::QapiType;
use qom::Result;

/// Whether `MIGRATION` events were asked for.
static EVENTS: AtomicBool = AtomicBool::new(false);

/// What migration can do.
#[derive(QapiType, Clone, Copy)]
pub(crate) enum MigrationCapability {
    /// Tell by an event when its state changes; it never does.
    Events,
}

/// A capability, and whether it is wanted.
#[derive(QapiType)]
pub(crate) struct MigrationCapabilityStatus {
    pub capability: MigrationCapability,
    pub state: bool,
}

/// How migration is.
#[derive(QapiType)]
struct MigrationInfo {}

/// Tells how migration is: none was.
#[qapi::command("query-migrate")]
fn query_migrate() -> Result<MigrationInfo> {
    Ok(MigrationInfo {})
}

/// Lists what migration can do.
#[qapi::command("query-migrate-capabilities")]
pub(crate) fn query_migrate_capabilities() -> Result<Vec<MigrationCapabilityStatus>> {
    let state = EVENTS.load(Ordering::Relaxed);
    Ok(vec![MigrationCapabilityStatus { capability: MigrationCapability::Events, state }])
}

/// Chooses what migration shall do.
#[qapi::command("migrate-set-capabilities")]
fn migrate_set_capabilities(capabilities: Vec<MigrationCapabilityStatus>) -> Result<()> {
    for MigrationCapabilityStatus { capability: MigrationCapability::Events, state } in capabilities {
        EVENTS.store(state, Ordering::Relaxed);
    }
    Ok(())
}

/// Lists the parameters of migration: none.
#[qapi::command("query-migrate-parameters")]
fn query_migrate_parameters() -> Result<MigrationInfo> {
    Ok(MigrationInfo {})
}
