//! `info` about the program, the machine's state and its CPUs.

use hw_core::machine::{Machine, MachineConfig, current_machine};
use hw_core::runstate::{self, RunState};
use memory::{RegionKind, address_space_io, address_space_memory};
use serde_json::Value;

use super::args::Args;
use super::session::{Session, out};
use super::{machine, qmp};

pub(crate) fn status(mon: &mut Session, _: &Args) -> Result<(), String> {
    let state = runstate::runstate_get();
    let running = if runstate::is_running() { "running" } else { "paused" };
    let stepped = if machine::is_singlestep() { " (single step mode)" } else { "" };
    out!(mon, "VM status: {running}{stepped}");
    if !matches!(state, RunState::Running | RunState::Paused) {
        out!(mon, " ({})", state.as_str());
    }
    mon.print("\n");
    Ok(())
}

pub(crate) fn version(mon: &mut Session, _: &Args) -> Result<(), String> {
    mon.print("7.2.0\n");
    Ok(())
}

fn with_config<R>(f: impl FnOnce(&MachineConfig) -> R) -> Option<R> {
    current_machine()?.cast::<Machine>().map(|machine| f(machine.config()))
}

pub(crate) fn name(mon: &mut Session, _: &Args) -> Result<(), String> {
    if let Some(name) = with_config(|config| config.name.clone()).flatten() {
        out!(mon, "{name}\n");
    }
    Ok(())
}

pub(crate) fn uuid(mon: &mut Session, _: &Args) -> Result<(), String> {
    let uuid = with_config(|config| config.uuid).flatten().unwrap_or_default();
    for (at, byte) in uuid.iter().enumerate() {
        let dash = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
        out!(mon, "{dash}{byte:02x}");
    }
    mon.print("\n");
    Ok(())
}

pub(crate) fn kvm(mon: &mut Session, _: &Args) -> Result<(), String> {
    let enabled = qom::object_get_root().child("accel").is_some_and(|accel| accel.is_a("kvm-accel"));
    out!(mon, "kvm support: {}\n", if enabled { "enabled" } else { "disabled" });
    Ok(())
}

pub(crate) fn chardev(mon: &mut Session, _: &Args) -> Result<(), String> {
    for chardev in chardev::list() {
        out!(mon, "{}: filename={}\n", chardev.label(), chardev.filename());
    }
    Ok(())
}

pub(crate) fn history(mon: &mut Session, _: &Args) -> Result<(), String> {
    for (number, line) in std::mem::take(&mut mon.history).iter().enumerate() {
        out!(mon, "{number}: '{line}'\n");
    }
    Ok(())
}

pub(crate) fn trace_events(mon: &mut Session, args: &Args) -> Result<(), String> {
    let pattern = args.text("name").unwrap_or("*");
    let mut events = util::trace::list();
    events.retain(|(name, _)| util::trace::glob_match(pattern, name));
    if events.is_empty() && !pattern.contains('*') {
        return Err(format!("unknown event \"{pattern}\""));
    }
    for (name, on) in events {
        out!(mon, "{name} : state {}\n", u8::from(on));
    }
    Ok(())
}

pub(crate) fn balloon(mon: &mut Session, _: &Args) -> Result<(), String> {
    let info = qmp::run("query-balloon", [])?;
    out!(mon, "balloon: actual={}\n", number(&info, "actual") >> 20);
    Ok(())
}

fn number(object: &Value, member: &str) -> u64 {
    object.get(member).and_then(Value::as_u64).unwrap_or_default()
}

pub(crate) fn iothreads(mon: &mut Session, _: &Args) -> Result<(), String> {
    for thread in qmp::list("query-iothreads")? {
        out!(mon, "{}:\n", qmp::text(&thread, "id"));
        for member in ["thread-id", "poll-max-ns", "poll-grow", "poll-shrink", "aio-max-batch"] {
            let name = member.replace('-', if member == "thread-id" { "_" } else { "-" });
            out!(mon, "  {name}={}\n", number(&thread, member));
        }
    }
    Ok(())
}

pub(crate) fn memdev(mon: &mut Session, _: &Args) -> Result<(), String> {
    for backend in qmp::list("query-memdev")? {
        out!(mon, "memory backend: {}\n", qmp::text(&backend, "id"));
        out!(mon, "  size:  {}\n", number(&backend, "size"));
        for member in ["merge", "dump", "prealloc", "share"] {
            out!(mon, "  {member}: {}\n", qmp::flag(&backend, member));
        }
        if let Some(reserve) = backend.get("reserve").and_then(Value::as_bool) {
            out!(mon, "  reserve: {reserve}\n");
        }
        out!(mon, "  policy: {}\n", qmp::text(&backend, "policy"));
        let nodes = backend.get("host-nodes").and_then(Value::as_array).cloned().unwrap_or_default();
        let nodes = nodes.iter().map(Value::to_string).collect::<Vec<_>>().join(",");
        out!(mon, "  host nodes: {nodes}\n");
    }
    mon.print("\n");
    Ok(())
}

pub(crate) fn memory_devices(mon: &mut Session, _: &Args) -> Result<(), String> {
    for device in qmp::list("query-memory-devices")? {
        let data = device.get("data").cloned().unwrap_or_default();
        out!(mon, "Memory device [{}]: \"{}\"\n", qmp::text(&device, "type"), qmp::text(&data, "id"));
        out!(mon, "  addr: {:#x}\n", number(&data, "addr"));
        for name in ["slot", "node", "size"] {
            out!(mon, "  {name}: {}\n", number(&data, name));
        }
        out!(mon, "  memdev: {}\n", qmp::text(&data, "memdev"));
        for name in ["hotplugged", "hotpluggable"] {
            out!(mon, "  {name}: {}\n", qmp::flag(&data, name));
        }
    }
    Ok(())
}

pub(crate) fn memory_size_summary(mon: &mut Session, _: &Args) -> Result<(), String> {
    let info = qmp::run("query-memory-size-summary", [])?;
    out!(mon, "base memory: {}\n", number(&info, "base-memory"));
    if info.get("plugged-memory").is_some() {
        out!(mon, "plugged memory: {}\n", number(&info, "plugged-memory"));
    }
    Ok(())
}

pub(crate) fn sync_profile(mon: &mut Session, _: &Args) -> Result<(), String> {
    let line = "-".repeat(79);
    out!(
        mon,
        "Type               Object  Call site  Wait Time (s)         Count  Average (us)\n{line}\n{line}\n"
    );
    Ok(())
}

/// All blocks of RAM and ROM that address spaces show, by size; none is migrated, so offsets are those that the
/// blocks would have one behind the other.
pub(crate) fn ramblock(mon: &mut Session, _: &Args) -> Result<(), String> {
    out!(mon, "{:>24} {:>8}  {:>18} {:>18} {:>18}\n", "Block Name", "PSize", "Offset", "Used", "Total");
    let mut blocks: Vec<std::sync::Arc<memory::RamBlock>> = Vec::new();
    let mut waiting = vec![address_space_memory().root().clone(), address_space_io().root().clone()];
    let mut seen = Vec::new();
    while let Some(region) = waiting.pop() {
        if seen.contains(&region) {
            continue;
        }
        waiting.extend(region.subregions());
        if let RegionKind::Alias(target) = region.kind() {
            waiting.push(target.clone());
        }
        if let Some(block) = region.ram_block()
            && !blocks.iter().any(|known| std::sync::Arc::ptr_eq(known, block))
        {
            blocks.push(block.clone());
        }
        seen.push(region);
    }
    blocks.sort_by_key(|block| (std::cmp::Reverse(block.size()), block.name().to_owned()));
    let mut offset = 0_u64;
    for block in blocks {
        let (name, size) = (block.name(), block.size());
        out!(mon, "{name:>24} {:>8}  {offset:#018x} {size:#018x} {size:#018x}\n", "4 KiB");
        offset = offset.saturating_add(size).checked_next_multiple_of(1 << 18).unwrap_or(offset);
    }
    Ok(())
}

/// The firmware's file, as the machine chooses it (hw/i386/x86.c, `x86_bios_rom_init`).
fn firmware_name() -> String {
    let machine = current_machine();
    let named = machine.as_ref().and_then(|machine| machine.cast::<Machine>()?.firmware.get());
    let path = named.unwrap_or_else(|| "bios-256k.bin".to_owned());
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

/// What is loaded again at each reset: the firmware, and the tables that it finds as files
/// (hw/core/loader.c).
pub(crate) fn roms(mon: &mut Session, _: &Args) -> Result<(), String> {
    for rom in hw_core::option_rom::all() {
        let (folder, file, size) = (rom.kind.folder(), &rom.file, rom.bytes.len());
        out!(mon, "fw={folder}/{file} size={size:#08x} name=\"{file}\"\n");
    }
    let view = address_space_memory().view();
    for range in view.ranges() {
        let Some(block) = range.region.ram_block().filter(|_| range.writable_ram().is_none()) else {
            continue;
        };
        // Where option ROMs would be is memory of the board's.
        let is_whole = range.offset == 0 && range.len() == u128::from(block.size());
        if is_whole && block.name() != "pc.rom" {
            let name = if block.name() == "pc.bios" { firmware_name() } else { block.name().to_owned() };
            let (start, size) = (range.start, block.size());
            out!(mon, "addr={start:016x} size={size:#08x} mem=rom name=\"{name}\"\n");
        }
    }
    let Some(fw_cfg) = hw_nvram::fw_cfg_find() else { return Ok(()) };
    for name in ["etc/acpi/tables", "etc/table-loader", "etc/acpi/rsdp"] {
        if let Some(file) = fw_cfg.file(name) {
            out!(mon, "/rom@{name} size={:#08x} name=\"{name}\"\n", (*file).as_ref().len());
        }
    }
    Ok(())
}

/// The device models, those that only boards make among them.
pub(crate) fn qdm(mon: &mut Session, _: &Args) -> Result<(), String> {
    mon.print(&hw_core::qdev_monitor::device_list(true));
    Ok(())
}

/// How much of each node's memory was plugged, in bytes.
fn plugged(nodes: usize) -> Result<Vec<u64>, String> {
    let mut plugged = vec![0; nodes];
    for device in qmp::list("query-memory-devices")? {
        let data = device.get("data").cloned().unwrap_or_default();
        if let Some(node) = plugged.get_mut(number(&data, "node") as usize) {
            *node += number(&data, "size");
        }
    }
    Ok(plugged)
}

pub(crate) fn numa(mon: &mut Session, _: &Args) -> Result<(), String> {
    let machine = current_machine();
    let nodes: Vec<u64> = match machine.as_ref().and_then(|machine| machine.cast::<Machine>()) {
        Some(machine) => machine.numa().lock().nodes().map(|node| node.mem).collect(),
        None => Vec::new(),
    };
    out!(mon, "{} nodes\n", nodes.len());
    if nodes.is_empty() {
        return Ok(());
    }
    let cpus = qmp::list("query-cpus-fast")?;
    for ((node, size), plugged) in nodes.iter().enumerate().zip(plugged(nodes.len())?) {
        out!(mon, "node {node} cpus:");
        let own = |cpu: &&Value| cpu.pointer("/props/node-id").and_then(Value::as_u64) == Some(node as u64);
        for cpu in cpus.iter().filter(own) {
            out!(mon, " {}", number(cpu, "cpu-index"));
        }
        out!(mon, "\nnode {node} size: {} MB\n", (size + plugged) >> 20);
        out!(mon, "node {node} plugged: {} MB\n", plugged >> 20);
    }
    Ok(())
}

pub(crate) fn vm_generation_id(mon: &mut Session, _: &Args) -> Result<(), String> {
    let info = qmp::run("query-vm-generation-id", [])?;
    out!(mon, "{}\n", qmp::text(&info, "guid"));
    Ok(())
}
