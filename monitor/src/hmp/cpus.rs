//! Commands about CPUs.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use hw_core::cpu::cpu_list;
use hw_core::{Cpu, CpuClass};
use qom::Object;
use serde_json::Value;

use super::args::Args;
use super::qmp;
use super::session::{Session, out};

/// How long a CPU's thread is waited for: it may be at work that takes long, and the terminal must go on.
const CPU_PATIENCE: Duration = Duration::from_secs(1);

/// Has `cpu`'s thread call `work`; `None` when it does not come to that.
pub(crate) fn on_cpu<R: Send + 'static>(
    cpu: &Arc<dyn Object>,
    work: impl FnOnce() -> R + Send + 'static,
) -> Option<R> {
    let (sender, receiver) = sync_channel(1);
    cpu.cast::<Cpu>()?.async_run_on_cpu(move || {
        // Nobody waits any more.
        let _ = sender.send(work());
    });
    receiver.recv_timeout(CPU_PATIENCE).ok()
}

pub(crate) fn index(cpu: &Arc<dyn Object>) -> u32 {
    cpu.cast::<Cpu>().map_or(0, Cpu::index)
}

/// `cpu`: chooses the one that commands are about.
pub(crate) fn cpu(mon: &mut Session, args: &Args) -> Result<(), String> {
    let wanted = u32::try_from(args.unsigned("index")).ok();
    match cpu_list().iter().map(index).find(|&index| Some(index) == wanted) {
        Some(index) => {
            mon.cpu_index = Some(index);
            Ok(())
        }
        None => Err("invalid CPU index".to_owned()),
    }
}

pub(crate) fn info_cpus(mon: &mut Session, _: &Args) -> Result<(), String> {
    let current = mon.cpu().map(|cpu| u64::from(index(&cpu)));
    for cpu in qmp::list("query-cpus-fast")? {
        let index = cpu.get("cpu-index").and_then(Value::as_u64).unwrap_or_default();
        let mark = if current == Some(index) { '*' } else { ' ' };
        let thread = cpu.get("thread-id").and_then(Value::as_i64).unwrap_or_default();
        out!(mon, "{mark} CPU #{index}: thread_id={thread}\n");
    }
    Ok(())
}

pub(crate) fn registers(mon: &mut Session, args: &Args) -> Result<(), String> {
    let cpus = cpu_list();
    let chosen: Vec<_> = if args.is_set("cpustate_all") {
        cpus
    } else if let Some(wanted) = args.number("vcpu") {
        let found = cpus.into_iter().find(|cpu| i64::from(index(cpu)) == wanted);
        vec![found.ok_or_else(|| format!("CPU#{wanted} not available"))?]
    } else {
        vec![mon.cpu().ok_or("No CPU available")?]
    };
    for cpu in &chosen {
        out!(mon, "\nCPU#{}\n", index(cpu));
        let Some(dump) = cpu.class().get::<CpuClass>().and_then(|class| class.dump_state) else { continue };
        let this = cpu.clone();
        match on_cpu(cpu, move || dump(&this)) {
            Some(text) => mon.print(&text),
            None => mon.print("The CPU's thread does not answer\n"),
        }
    }
    Ok(())
}

/// In the order of `query-hotpluggable-cpus`.
pub(crate) fn hotpluggable_cpus(mon: &mut Session, _: &Args) -> Result<(), String> {
    let cpus = qmp::list("query-hotpluggable-cpus")?;
    mon.print("Hotpluggable CPUs:\n");
    for cpu in &cpus {
        out!(mon, "  type: \"{}\"\n", qmp::text(cpu, "type"));
        let count = cpu.get("vcpus-count").and_then(Value::as_u64).unwrap_or_default();
        out!(mon, "  vcpus_count: \"{count}\"\n");
        if let Some(path) = cpu.get("qom-path").and_then(Value::as_str) {
            out!(mon, "  qom_path: \"{path}\"\n");
        }
        mon.print("  CPUInstance Properties:\n");
        for name in ["node-id", "socket-id", "die-id", "cluster-id", "core-id", "thread-id"] {
            if let Some(value) = cpu.get("props").and_then(|props| props.get(name)) {
                out!(mon, "    {name}: \"{value}\"\n");
            }
        }
    }
    Ok(())
}
