//! The CPUs there are and those there can be.
//!
//! Source: QEMU `hw/core/machine-qmp-cmds.c`, `qapi/machine.json`.

use hw_core::Cpu;
use hw_core::cpu::cpu_list;
use hw_core::machine::{CpuInstanceProperties, MachineClass, PossibleCpu, current_machine};
use qapi::QapiType;
use qom::{Result, bail};

/// The architectures that QEMU can be built for.
#[derive(QapiType)]
enum SysEmuTarget {
    #[qapi(name = "x86_64")]
    X8664,
}

#[derive(QapiType)]
struct TargetInfo {
    arch: SysEmuTarget,
}

/// Tells what architecture the guest's is.
#[qapi::command("query-target")]
fn query_target() -> Result<TargetInfo> {
    Ok(TargetInfo { arch: SysEmuTarget::X8664 })
}

#[derive(QapiType)]
struct CpuInfoFast {
    cpu_index: i64,
    qom_path: String,
    thread_id: i64,
    props: Option<CpuInstanceProperties>,
    target: SysEmuTarget,
}

fn possible_cpus() -> Option<Vec<PossibleCpu>> {
    let machine = current_machine()?;
    let possible = machine.class().get::<MachineClass>()?.possible_cpus?;
    Some(possible(&machine))
}

/// Lists the CPUs, without stopping them.
#[qapi::command("query-cpus-fast")]
fn query_cpus_fast() -> Result<Vec<CpuInfoFast>> {
    let places = possible_cpus().unwrap_or_default();
    Ok(cpu_list()
        .iter()
        .filter_map(|object| {
            let cpu = object.cast::<Cpu>()?;
            let qom_path = object.canonical_path().unwrap_or_default();
            let place = places.iter().find(|place| place.qom_path.as_ref() == Some(&qom_path));
            Some(CpuInfoFast {
                cpu_index: cpu.index().into(),
                thread_id: cpu.thread_id().unwrap_or_default().into(),
                props: place.map(|place| place.props.clone()),
                target: SysEmuTarget::X8664,
                qom_path,
            })
        })
        .collect())
}

/// Lists the places for CPUs, first those filled last.
#[qapi::command("query-hotpluggable-cpus", preconfig)]
fn query_hotpluggable_cpus() -> Result<Vec<PossibleCpu>> {
    let Some(mut places) = possible_cpus() else {
        bail!("The feature 'query-hotpluggable-cpus' is not enabled")
    };
    places.reverse();
    Ok(places)
}
