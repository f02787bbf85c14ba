//! `info` about the program, the machine's state and its CPUs.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use hw_core::cpu::cpu_list;
use hw_core::machine::{Machine, MachineConfig, current_machine};
use hw_core::runstate::{self, RunState};
use hw_core::{Cpu, CpuClass};
use qom::Object;

use super::args::Args;
use super::output::{Output, out};

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

fn index(cpu: &Arc<dyn Object>) -> u32 {
    cpu.cast::<Cpu>().map_or(0, Cpu::index)
}

pub(crate) fn status(output: &mut Output, _: &Args) -> Result<(), String> {
    let state = runstate::runstate_get();
    let running = if runstate::is_running() { "running" } else { "paused" };
    out!(output, "VM status: {running}");
    if !matches!(state, RunState::Running | RunState::Paused) {
        out!(output, " ({})", state.as_str());
    }
    output.print("\n");
    Ok(())
}

pub(crate) fn version(output: &mut Output, _: &Args) -> Result<(), String> {
    output.print("7.2.0\n");
    Ok(())
}

fn with_config<R>(f: impl FnOnce(&MachineConfig) -> R) -> Option<R> {
    current_machine()?.cast::<Machine>().map(|machine| f(machine.config()))
}

pub(crate) fn name(output: &mut Output, _: &Args) -> Result<(), String> {
    if let Some(name) = with_config(|config| config.name.clone()).flatten() {
        out!(output, "{name}\n");
    }
    Ok(())
}

pub(crate) fn uuid(output: &mut Output, _: &Args) -> Result<(), String> {
    let uuid = with_config(|config| config.uuid).flatten().unwrap_or_default();
    for (at, byte) in uuid.iter().enumerate() {
        let dash = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
        out!(output, "{dash}{byte:02x}");
    }
    output.print("\n");
    Ok(())
}

pub(crate) fn kvm(output: &mut Output, _: &Args) -> Result<(), String> {
    let enabled = qom::object_get_root().child("accel").is_some_and(|accel| accel.is_a("kvm-accel"));
    out!(output, "kvm support: {}\n", if enabled { "enabled" } else { "disabled" });
    Ok(())
}

pub(crate) fn chardev(output: &mut Output, _: &Args) -> Result<(), String> {
    for chardev in chardev::list() {
        out!(output, "{}: filename={}\n", chardev.label(), chardev.filename());
    }
    Ok(())
}

pub(crate) fn cpus(output: &mut Output, _: &Args) -> Result<(), String> {
    for cpu in cpu_list() {
        let mark = if index(&cpu) == 0 { '*' } else { ' ' };
        out!(output, "{mark} CPU #{}:", index(&cpu));
        if let Some(thread) = on_cpu(&cpu, || rustix::thread::gettid().as_raw_nonzero()) {
            out!(output, " thread_id={thread}");
        }
        output.print("\n");
    }
    Ok(())
}

pub(crate) fn registers(output: &mut Output, args: &Args) -> Result<(), String> {
    let cpus = cpu_list();
    let wanted = args.number.unwrap_or_default();
    let chosen = |cpu: &&Arc<dyn Object>| args.has_flag('a') || u64::from(index(cpu)) == wanted;
    let chosen: Vec<_> = cpus.iter().filter(chosen).collect();
    if chosen.is_empty() {
        return Err(match args.number {
            Some(number) => format!("CPU#{number} not available"),
            None => "No CPU available".to_owned(),
        });
    }
    for cpu in chosen {
        out!(output, "\nCPU#{}\n", index(cpu));
        let Some(dump) = cpu.class().get::<CpuClass>().and_then(|class| class.dump_state) else { continue };
        let this = cpu.clone();
        match on_cpu(cpu, move || dump(&this)) {
            Some(text) => out!(output, "{}\n", text.trim_end_matches('\n')),
            None => output.print("The CPU's thread does not answer\n"),
        }
    }
    Ok(())
}
