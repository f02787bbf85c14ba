//! Questions about what no machine of this program has, answered as QEMU answers them of a machine without it.
//!
//! Source: QEMU `qapi/*.json` and the commands' handlers, as named at each group.

use qapi::QapiType;
use qom::{Error, ErrorClass, Result, Value, bail};

/// Lists the persistent-reservation helpers (scsi/pr-manager.c).
#[qapi::command("query-pr-managers", preconfig)]
fn query_pr_managers() -> Result<Vec<Value>> {
    Ok(Vec::new())
}

/// Lists the TPMs (softmmu/tpm.c).
#[qapi::command("query-tpm")]
fn query_tpm() -> Result<Vec<Value>> {
    Ok(Vec::new())
}

/// Lists the models of TPM there are.
#[qapi::command("query-tpm-models")]
fn query_tpm_models() -> Result<Vec<String>> {
    Ok(Vec::new())
}

/// Lists the backends of TPMs there are.
#[qapi::command("query-tpm-types")]
fn query_tpm_types() -> Result<Vec<String>> {
    Ok(Vec::new())
}

/// Lists the jobs of block devices.
#[qapi::command("query-block-jobs", preconfig)]
fn query_block_jobs() -> Result<Vec<Value>> {
    Ok(Vec::new())
}

/// Lists the block devices that are exported.
#[qapi::command("query-block-exports", preconfig)]
fn query_block_exports() -> Result<Vec<Value>> {
    Ok(Vec::new())
}

/// Lists the background jobs (job-qmp.c).
#[qapi::command("query-jobs")]
fn query_jobs() -> Result<Vec<Value>> {
    Ok(Vec::new())
}

#[derive(QapiType)]
enum ReplayMode {
    None,
    Record,
    Play,
}

#[derive(QapiType)]
struct ReplayInfo {
    mode: ReplayMode,
    filename: Option<String>,
    icount: i64,
}

/// Tells about recording and replaying (replay/replay-debugging.c).
#[qapi::command("query-replay")]
fn query_replay() -> Result<ReplayInfo> {
    Ok(ReplayInfo { mode: ReplayMode::None, filename: None, icount: 0 })
}

#[derive(QapiType)]
struct YankInstanceBlockNode {
    node_name: String,
}

#[derive(QapiType)]
struct YankInstanceChardev {
    id: String,
}

/// A connection that can be cut.
#[derive(QapiType)]
#[qapi(name = "YankInstance", tag = "type", tag_type = "YankInstanceType")]
enum YankInstance {
    BlockNode(YankInstanceBlockNode),
    Chardev(YankInstanceChardev),
    Migration,
}

/// Lists the connections that can be cut (util/yank.c): none yet.
#[qapi::command("query-yank", oob)]
fn query_yank() -> Result<Vec<YankInstance>> {
    Ok(Vec::new())
}

/// Cuts connections.
#[qapi::command("yank", oob)]
fn yank(instances: Vec<YankInstance>) -> Result<()> {
    if instances.is_empty() {
        return Ok(());
    }
    Err(Error::new("Instance not found").with_class(ErrorClass::DeviceNotFound))
}

#[derive(QapiType)]
#[qapi(name = "COLOMode")]
enum ColoMode {
    None,
    Primary,
    Secondary,
}

#[derive(QapiType)]
#[qapi(name = "COLOExitReason")]
enum ColoExitReason {
    None,
    Request,
    Error,
    Processing,
}

#[derive(QapiType)]
#[qapi(name = "COLOStatus")]
struct ColoStatus {
    mode: ColoMode,
    last_mode: ColoMode,
    reason: ColoExitReason,
}

/// Tells about coarse-grained lock-stepping (migration/colo.c).
#[qapi::command("query-colo-status")]
fn query_colo_status() -> Result<ColoStatus> {
    Ok(ColoStatus { mode: ColoMode::None, last_mode: ColoMode::None, reason: ColoExitReason::None })
}

#[derive(QapiType)]
struct ReplicationStatus {
    error: bool,
    desc: Option<String>,
}

/// Tells whether replication failed.
#[qapi::command("query-xen-replication-status")]
fn query_xen_replication_status() -> Result<ReplicationStatus> {
    Ok(ReplicationStatus { error: false, desc: None })
}

/// Lists the limits of dirty pages (softmmu/dirtylimit.c).
#[qapi::command("query-vcpu-dirty-limit")]
fn query_vcpu_dirty_limit() -> Result<Vec<Value>> {
    Ok(Vec::new())
}

fn no_rocker<T>(name: &str) -> Result<T> {
    bail!("rocker {name} not found")
}

/// Tells about a Rocker switch (hw/net/rocker).
#[qapi::command("query-rocker")]
fn query_rocker(name: String) -> Result<Value> {
    no_rocker(&name)
}

/// Lists the ports of a Rocker switch.
#[qapi::command("query-rocker-ports")]
fn query_rocker_ports(name: String) -> Result<Vec<Value>> {
    no_rocker(&name)
}

/// Lists the flows of a Rocker switch.
#[qapi::command("query-rocker-of-dpa-flows")]
fn query_rocker_of_dpa_flows(
    name: String,
    #[qapi(name = "tbl-id")] _table: Option<u32>,
) -> Result<Vec<Value>> {
    no_rocker(&name)
}

/// Lists the groups of a Rocker switch.
#[qapi::command("query-rocker-of-dpa-groups")]
fn query_rocker_of_dpa_groups(name: String, #[qapi(name = "type")] _kind: Option<u8>) -> Result<Vec<Value>> {
    no_rocker(&name)
}

/// Limits how fast CPUs may dirty pages (softmmu/dirtylimit.c).
#[qapi::command("set-vcpu-dirty-limit")]
fn set_vcpu_dirty_limit(
    #[qapi(name = "cpu-index")] _cpu: Option<i64>,
    #[qapi(name = "dirty-rate")] _rate: u64,
) -> Result<()> {
    bail!("dirty page limit feature requires KVM with accelerator property 'dirty-ring-size' set'")
}

/// Takes the limits back.
#[qapi::command("cancel-vcpu-dirty-limit")]
fn cancel_vcpu_dirty_limit(#[qapi(name = "cpu-index")] _cpu: Option<i64>) -> Result<()> {
    Ok(())
}

/// Writes the device tree to a file (softmmu/device_tree.c).
#[qapi::command("dumpdtb")]
fn dumpdtb(#[qapi(name = "filename")] _filename: String) -> Result<()> {
    bail!("This machine doesn't have a FDT")
}

/// Stops a replay at an instruction (replay/replay-debugging.c).
#[qapi::command("replay-break")]
fn replay_break(#[qapi(name = "icount")] _icount: i64) -> Result<()> {
    bail!("setting the breakpoint is allowed only in play mode")
}

/// Takes the stop back.
#[qapi::command("replay-delete-break")]
fn replay_delete_break() -> Result<()> {
    bail!("replay breakpoints are allowed only in play mode")
}

/// Goes to an instruction of a replay.
#[qapi::command("replay-seek")]
fn replay_seek(#[qapi(name = "icount")] _icount: i64) -> Result<()> {
    bail!("replay must be enabled to seek")
}

/// Puts a secret into an encrypted guest's memory (target/i386/sev.c).
#[qapi::command("sev-inject-launch-secret")]
fn sev_inject_launch_secret(
    #[qapi(name = "packet-header")] _header: String,
    #[qapi(name = "secret")] _secret: String,
    #[qapi(name = "gpa")] _gpa: Option<u64>,
) -> Result<()> {
    bail!("SEV not enabled for guest")
}
