//! What machine this is, and what machines there are.
//!
//! Source: QEMU `hw/core/machine-qmp-cmds.c`, `monitor/qmp-cmds.c`, `qapi/machine.json`.

use std::fmt::Write;

use hw_core::machine::{Machine, MachineClass, MachineConfig, current_machine};
use qapi::QapiType;
use qom::{Result, Value};

fn with_config<R: Default>(f: impl FnOnce(&MachineConfig) -> R) -> R {
    let machine = current_machine();
    machine.as_ref().and_then(|m| m.cast::<Machine>()).map(|m| f(m.config())).unwrap_or_default()
}

#[derive(QapiType)]
struct NameInfo {
    name: Option<String>,
}

/// Tells the machine's name, as `-name` gave it.
#[qapi::command("query-name", preconfig)]
fn query_name() -> Result<NameInfo> {
    Ok(NameInfo { name: with_config(|config| config.name.clone()) })
}

#[derive(QapiType)]
struct UuidInfo {
    #[qapi(name = "UUID")]
    uuid: String,
}

/// Tells the machine's UUID; all zeros where none was given.
#[qapi::command("query-uuid", preconfig)]
fn query_uuid() -> Result<UuidInfo> {
    let bytes = with_config(|config| config.uuid).unwrap_or_default();
    let mut uuid = String::new();
    for (at, byte) in bytes.iter().enumerate() {
        let dash = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(uuid, "{dash}{byte:02x}");
    }
    Ok(UuidInfo { uuid })
}

#[derive(QapiType)]
struct KvmInfo {
    enabled: bool,
    present: bool,
}

/// Tells whether KVM runs the guest.
#[qapi::command("query-kvm")]
fn query_kvm() -> Result<KvmInfo> {
    let accel = qom::object_get_root().child("accel");
    Ok(KvmInfo {
        enabled: accel.is_some_and(|accel| accel.is_a("kvm-accel")),
        present: qom::class_by_name("kvm-accel").is_some(),
    })
}

#[derive(QapiType)]
struct MachineInfo {
    name: String,
    alias: Option<String>,
    is_default: Option<bool>,
    cpu_max: i64,
    hotpluggable_cpus: bool,
    numa_mem_supported: bool,
    deprecated: bool,
    default_cpu_type: Option<String>,
    default_ram_id: Option<String>,
}

/// Lists the machines that `-machine` can choose.
#[qapi::command("query-machines")]
fn query_machines() -> Result<Vec<MachineInfo>> {
    let classes = qom::class_list("machine", false);
    let tables = classes.into_iter().filter_map(|class| class.get::<MachineClass>());
    Ok(tables
        .map(|table| MachineInfo {
            name: table.name.to_owned(),
            alias: table.alias.map(str::to_owned),
            is_default: table.is_default.then_some(true),
            cpu_max: table.max_cpus.into(),
            hotpluggable_cpus: table.possible_cpus.is_some(),
            numa_mem_supported: table.numa_mem_supported,
            deprecated: false,
            default_cpu_type: table.default_cpu_type.map(str::to_owned),
            default_ram_id: table.default_ram_id.map(str::to_owned),
        })
        .collect())
}

#[derive(QapiType)]
struct CurrentMachineParams {
    wakeup_suspend_support: bool,
}

/// Tells what the machine can do.
#[qapi::command("query-current-machine")]
fn query_current_machine() -> Result<CurrentMachineParams> {
    Ok(CurrentMachineParams { wakeup_suspend_support: hw_core::suspend::wakeup_supported() })
}

#[derive(QapiType)]
struct MemoryInfo {
    base_memory: u64,
    plugged_memory: Option<u64>,
}

/// Tells how much memory the guest has, in bytes.
#[qapi::command("query-memory-size-summary")]
fn query_memory_size_summary() -> Result<MemoryInfo> {
    Ok(MemoryInfo {
        base_memory: with_config(|config| config.ram_size),
        plugged_memory: Some(hw_mem::plugged_memory_size()),
    })
}

/// How memory is spread over NUMA nodes of the host.
#[derive(QapiType)]
enum HostMemPolicy {
    Default,
    Preferred,
    Bind,
    Interleave,
}

impl HostMemPolicy {
    fn of(backend: &dyn qom::Object) -> Self {
        match backend.property_get("policy").ok().as_ref().and_then(Value::as_str) {
            Some("preferred") => Self::Preferred,
            Some("bind") => Self::Bind,
            Some("interleave") => Self::Interleave,
            _ => Self::Default,
        }
    }
}

#[derive(QapiType)]
struct Memdev {
    id: Option<String>,
    size: u64,
    merge: bool,
    dump: bool,
    prealloc: bool,
    share: bool,
    reserve: Option<bool>,
    host_nodes: Vec<u16>,
    policy: HostMemPolicy,
}

/// Lists the memory backends.
#[qapi::command("query-memdev", preconfig)]
fn query_memdev() -> Result<Vec<Memdev>> {
    let objects = qom::object_get_objects_root().children();
    let backends = objects.into_iter().filter(|(_, object)| object.is_a("memory-backend"));
    Ok(backends
        .map(|(id, backend)| {
            let get = |name| backend.property_get(name).unwrap_or(Value::Null);
            let is = |name| get(name).as_bool().unwrap_or_default();
            let nodes = get("host-nodes");
            let nodes = nodes.as_array().into_iter().flatten().filter_map(Value::as_u64);
            Memdev {
                id: Some(id),
                size: get("size").as_u64().unwrap_or_default(),
                merge: is("merge"),
                dump: is("dump"),
                prealloc: is("prealloc"),
                share: is("share"),
                reserve: Some(is("reserve")),
                host_nodes: nodes.filter_map(|node| u16::try_from(node).ok()).collect(),
                policy: HostMemPolicy::of(&*backend),
            }
        })
        .collect())
}
