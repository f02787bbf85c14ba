//! Commands about single addresses: ports, translations, sums, memory into files (monitor/misc.c, hmp-cmds.c).

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use memory::{FlatRange, MemTxResult, address_space_io, address_space_memory};
use serde_json::json;

use super::args::Args;
use super::dump::hexadecimal;
use super::qmp;
use super::session::{Session, out};
use super::x86::{self, PAGE_SIZE};

/// The letter of an access to ports, its bytes, and its mask.
fn port_access(size: Option<usize>) -> (char, usize) {
    match size {
        Some(1) => ('b', 1),
        Some(2) => ('w', 2),
        _ => ('l', 4),
    }
}

pub(crate) fn ioport_read(mon: &mut Session, args: &Args) -> Result<(), String> {
    let mut port = args.unsigned("addr") as u16;
    if let Some(index) = args.number("index") {
        // Of two ports, one for the index and one for the data.
        // A port where nothing is takes and gives what it does.
        let _ = address_space_io().write(port.into(), &[index as u8]);
        port = port.wrapping_add(1);
    }
    let (letter, size) = port_access(args.format().size);
    let mut data = [0; 4];
    let _ = address_space_io().read(port.into(), &mut data[..size]);
    let value = u32::from_le_bytes(data);
    out!(mon, "port{letter}[{port:#06x}] = 0x{value:0width$x}\n", width = 2 * size);
    Ok(())
}

pub(crate) fn ioport_write(_: &mut Session, args: &Args) -> Result<(), String> {
    let port = args.unsigned("addr") as u16;
    let (_, size) = port_access(args.format().size);
    let value = (args.unsigned("val") as u32).to_le_bytes();
    let _ = address_space_io().write(port.into(), &value[..size]);
    Ok(())
}

/// What is at `address`, if it is memory, and its address in this process.
fn host_address(address: u64) -> Result<(FlatRange, u64), String> {
    let view = address_space_memory().view();
    let range = view.lookup(address).ok_or_else(|| format!("No memory is mapped at address {address:#x}"))?;
    let block = range.region.ram_block().filter(|_| range.readable_ram().is_some());
    let block = block.ok_or_else(|| format!("Memory at address {address:#x} is not RAM"))?;
    let offset = range.offset.wrapping_add(address.wrapping_sub(range.start));
    Ok((range.clone(), block.host_address().wrapping_add(offset)))
}

pub(crate) fn gpa2hva(mon: &mut Session, args: &Args) -> Result<(), String> {
    let address = args.unsigned("addr");
    let (range, host) = host_address(address)?;
    out!(mon, "Host virtual address for {address:#x} ({}) is {host:#x}\n", range.region.name());
    Ok(())
}

pub(crate) fn gpa2hpa(mon: &mut Session, args: &Args) -> Result<(), String> {
    let address = args.unsigned("addr");
    let (range, host) = host_address(address)?;
    let physical = pagemap(host).map_err(|e| format!("Error: {e}"))?;
    out!(mon, "Host physical address for {address:#x} ({}) is {physical:#x}\n", range.region.name());
    Ok(())
}

/// Where the host has a page of ours (the kernel's Documentation/admin-guide/mm/pagemap.rst).
fn pagemap(address: u64) -> Result<u64, String> {
    const PRESENT: u64 = 1 << 63;
    const FRAME: u64 = (1 << 55) - 1;
    let mut file =
        File::open("/proc/self/pagemap").map_err(|e| format!("Cannot open /proc/self/pagemap: {e}"))?;
    let mut entry = [0; 8];
    let read = file.seek(SeekFrom::Start(address / PAGE_SIZE * 8)).and_then(|_| file.read_exact(&mut entry));
    read.map_err(|e| format!("Cannot read pagemap: {e}"))?;
    let entry = u64::from_le_bytes(entry);
    if entry & PRESENT == 0 {
        return Err("Page not present".to_owned());
    }
    // Without privileges the kernel shows frames as 0.
    if entry & FRAME == 0 {
        return Err("Cannot read PFN".to_owned());
    }
    Ok((entry & FRAME) * PAGE_SIZE + address % PAGE_SIZE)
}

pub(crate) fn gva2gpa(mon: &mut Session, args: &Args) -> Result<(), String> {
    let address = args.unsigned("addr");
    let cpu = mon.cpu().ok_or("No cpu")?;
    match x86::translate(&cpu, address - address % PAGE_SIZE) {
        Some(page) => out!(mon, "gpa: {}\n", hexadecimal(page + address % PAGE_SIZE)),
        None => mon.print("Unmapped\n"),
    }
    Ok(())
}

pub(crate) fn memsave(mon: &mut Session, args: &Args) -> Result<(), String> {
    let cpu = mon.cpu().ok_or("No CPU available")?;
    let index = cpu.cast::<hw_core::Cpu>().map(hw_core::Cpu::index);
    save("memsave", args, json!(index))
}

pub(crate) fn pmemsave(_: &mut Session, args: &Args) -> Result<(), String> {
    save("pmemsave", args, json!(null))
}

fn save(command: &str, args: &Args, cpu: serde_json::Value) -> Result<(), String> {
    let arguments = [
        ("val", json!(args.number("val"))),
        ("size", json!(args.number("size"))),
        ("filename", json!(args.word("filename"))),
        ("cpu-index", cpu),
    ];
    qmp::carry_out(command, arguments)
}

pub(crate) fn dump_guest_memory(_: &mut Session, args: &Args) -> Result<(), String> {
    const FORMATS: [(&str, &str); 4] =
        [("windmp", "win-dmp"), ("zlib", "kdump-zlib"), ("lzo", "kdump-lzo"), ("snappy", "kdump-snappy")];
    let mut formats = FORMATS.iter().filter(|(option, _)| args.is_set(option)).map(|(_, format)| *format);
    let format = formats.next().unwrap_or("elf");
    if formats.next().is_some() {
        return Err("Error: only one of '-z|-l|-s|-w' can be set".to_owned());
    }
    let arguments = [
        ("paging", json!(args.is_set("paging"))),
        ("protocol", json!(format!("file:{}", args.word("filename")))),
        ("detach", json!(args.is_set("detach"))),
        ("begin", json!(args.number("begin"))),
        ("length", json!(args.number("length"))),
        ("format", json!(format)),
    ];
    qmp::carry_out("dump-guest-memory", arguments)
}

pub(crate) fn info_dump(mon: &mut Session, _: &Args) -> Result<(), String> {
    let dump = qmp::run("query-dump", [])?;
    out!(mon, "Status: {}\n", qmp::text(&dump, "status"));
    if qmp::text(&dump, "status") == "active" {
        let bytes = |member: &str| dump.get(member).and_then(serde_json::Value::as_f64).unwrap_or_default();
        out!(mon, "Finished: {:.2} %\n", 100.0 * bytes("completed") / bytes("total").max(1.0));
    }
    Ok(())
}

/// The most bytes that `sum` adds up: the monitor must not stand still for minutes.
const MAX_SUM: u64 = 1 << 30;

pub(crate) fn sum(mon: &mut Session, args: &Args) -> Result<(), String> {
    let (start, size) = (args.unsigned("start"), args.unsigned("size").min(MAX_SUM));
    let mut sum = 0_u16;
    let mut block = [0; 4096];
    let mut done = 0;
    while done < size {
        let len = (size - done).min(block.len() as u64);
        let part = &mut block[..len as usize];
        if address_space_memory().read(start.wrapping_add(done), part) != MemTxResult::Ok {
            part.fill(0);
        }
        for &byte in part.iter() {
            // BSD's checksum: rotate, then add.
            sum = sum.rotate_right(1).wrapping_add(byte.into());
        }
        done += len;
    }
    out!(mon, "{sum:05}\n");
    Ok(())
}
