//! `dump-guest-memory`: the guest's memory and its CPUs' registers in a core file, which gdb and crash read.
//!
//! Only ELF is written, not the compressed formats. Sources: QEMU `dump/dump.c`, `qapi/dump.json`.

mod elf;
mod memory;
mod notes;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicU64, Ordering};

use hw_core::cpu::cpu_list;
use hw_core::runstate::{self, RunState};
use parking_lot::Mutex;
use qapi::{QapiEvent, QapiType};
use qom::{Error, Result, bail};
use util::event_loop::EventLoop;

use crate::hmp::page_tables;
use elf::{Kind, Load};
use memory::{Block, Mapping, Mappings};
use notes::Registers;

/// How much is copied at a time.
const CHUNK: u64 = 1 << 18;

/// How far a dump is.
#[derive(QapiType, Clone, Copy, PartialEq, Eq)]
enum DumpStatus {
    None,
    Active,
    Completed,
    Failed,
}

/// The last dump.
#[derive(QapiType)]
struct DumpQueryResult {
    status: DumpStatus,
    /// Bytes of memory that are written.
    completed: i64,
    /// Bytes of memory to be written.
    total: i64,
}

/// A dump has ended.
#[derive(QapiType, QapiEvent)]
#[qapi(name = "q_obj_DUMP_COMPLETED-arg", event = "DUMP_COMPLETED")]
struct DumpCompleted {
    result: DumpQueryResult,
    error: Option<String>,
}

/// Forms that a dump can have.
#[derive(QapiType, Clone, Copy, PartialEq, Eq)]
enum DumpGuestMemoryFormat {
    Elf,
    KdumpZlib,
    KdumpLzo,
    KdumpSnappy,
    WinDmp,
}

#[derive(QapiType)]
struct DumpGuestMemoryCapability {
    formats: Vec<DumpGuestMemoryFormat>,
}

static STATUS: Mutex<DumpStatus> = Mutex::new(DumpStatus::None);
static COMPLETED: AtomicU64 = AtomicU64::new(0);
static TOTAL: AtomicU64 = AtomicU64::new(0);

/// Whether a dump is being written, which the machine must stand still for.
pub(crate) fn in_progress() -> bool {
    *STATUS.lock() == DumpStatus::Active
}

/// Tells how far a dump of the guest's memory is.
#[qapi::command("query-dump")]
fn query_dump() -> Result<DumpQueryResult> {
    let bytes = |count: &AtomicU64| count.load(Ordering::Relaxed) as i64;
    Ok(DumpQueryResult { status: *STATUS.lock(), completed: bytes(&COMPLETED), total: bytes(&TOTAL) })
}

/// Lists the formats that the guest's memory can be dumped in.
#[qapi::command("query-dump-guest-memory-capability")]
fn query_dump_guest_memory_capability() -> Result<DumpGuestMemoryCapability> {
    Ok(DumpGuestMemoryCapability { formats: vec![DumpGuestMemoryFormat::Elf] })
}

/// Writes the guest's memory and registers to a file.
#[qapi::command("dump-guest-memory")]
fn dump_guest_memory(
    /// Whether addresses are those of the guest's page tables.
    paging: bool,
    /// `file:` and a path, or `fd:` and the name of a descriptor.
    protocol: String,
    /// Whether to answer before the dump is complete.
    detach: Option<bool>,
    /// The first physical address; with `length`.
    begin: Option<i64>,
    /// Bytes from there.
    length: Option<i64>,
    format: Option<DumpGuestMemoryFormat>,
) -> Result<()> {
    if in_progress() {
        bail!("There is a dump in process, please wait.");
    }
    let range = match (begin, length) {
        (Some(_), None) => bail!("Parameter 'length' is missing"),
        (None, Some(_)) => bail!("Parameter 'begin' is missing"),
        (begin, length) => begin.zip(length).map(|(begin, length)| (begin as u64, length as u64)),
    };
    match format.unwrap_or(DumpGuestMemoryFormat::Elf) {
        DumpGuestMemoryFormat::Elf => {}
        _ if paging || range.is_some() => {
            bail!("kdump-compressed format doesn't support paging or filter")
        }
        DumpGuestMemoryFormat::KdumpZlib => bail!("kdump-zlib is not available now"),
        DumpGuestMemoryFormat::KdumpLzo => bail!("kdump-lzo is not available now"),
        DumpGuestMemoryFormat::KdumpSnappy => bail!("kdump-snappy is not available now"),
        DumpGuestMemoryFormat::WinDmp => bail!("win-dmp is not available now"),
    }
    let file = open(&protocol)?;
    begin_dump(file, paging, range, detach.unwrap_or_default())
}

fn open(protocol: &str) -> Result<File> {
    if let Some(name) = protocol.strip_prefix("fd:") {
        return match util::fdset::take_named(name) {
            Some(Ok(fd)) => Ok(fd.into()),
            Some(Err(error)) => bail!("{error}"),
            None => bail!("File descriptor named '{name}' has not been found"),
        };
    }
    let Some(path) = protocol.strip_prefix("file:") else { bail!("Invalid parameter 'protocol'") };
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o400);
    let flags = rustix::fs::OFlags::WRONLY;
    util::fdset::open(path, flags, &options)
        .map_err(|error| Error::new(format!("Could not open '{path}': {}", system_text(&error))))
}

/// The system's text alone.
fn system_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn begin_dump(file: File, paging: bool, range: Option<(u64, u64)>, detach: bool) -> Result<()> {
    COMPLETED.store(0, Ordering::Relaxed);
    TOTAL.store(0, Ordering::Relaxed);
    *STATUS.lock() = DumpStatus::Active;
    let resume = runstate::is_running();
    if resume {
        runstate::vm_stop(RunState::SaveVm);
    }
    let dump = match Dump::prepare(paging, range) {
        Ok(dump) => dump,
        Err(error) => {
            *STATUS.lock() = DumpStatus::Failed;
            go_on(resume);
            return Err(error);
        }
    };
    TOTAL.store(dump.blocks.iter().map(|block| block.len).sum(), Ordering::Relaxed);
    if !detach {
        let outcome = dump.write(file);
        complete(&outcome, resume);
        return outcome;
    }
    let work = move || {
        let outcome = dump.write(file);
        EventLoop::main().schedule(move || complete(&outcome, resume));
    };
    let spawned = std::thread::Builder::new().name("dump_thread".to_owned()).spawn(work);
    spawned.map(drop).map_err(|error| {
        *STATUS.lock() = DumpStatus::Failed;
        go_on(resume);
        Error::new(format!("dump: cannot make a thread: {}", system_text(&error)))
    })
}

fn go_on(resume: bool) {
    if resume {
        runstate::vm_start();
    }
}

fn complete(outcome: &Result<()>, resume: bool) {
    let status = if outcome.is_ok() { DumpStatus::Completed } else { DumpStatus::Failed };
    *STATUS.lock() = status;
    if let Ok(result) = query_dump() {
        qapi::emit(&DumpCompleted { result, error: outcome.as_ref().err().map(|e| e.message.clone()) });
    }
    go_on(resume);
}

/// All that goes into a file.
struct Dump {
    head: Vec<u8>,
    blocks: Vec<Block>,
}

impl Dump {
    /// Looks at the machine, which stands still (dump_init).
    fn prepare(paging: bool, range: Option<(u64, u64)>) -> Result<Dump> {
        if range.is_some_and(|(_, length)| length == 0) {
            bail!("Invalid parameter 'length'");
        }
        let all = memory::blocks(&::memory::address_space_memory().view());
        let blocks = match range {
            Some((begin, length)) => memory::filter(&all, begin, length),
            None => all.clone(),
        };
        if blocks.is_empty() {
            bail!("dump: no guest memory to dump");
        }
        let cpus: Vec<Registers> = cpu_list().iter().map(Registers::of).collect();
        let long_mode = cpus.first().is_some_and(|cpu| page_tables::is_long_mode(&cpu.sregs));
        let above_4g = all.iter().any(|block| block.end() > u32::MAX.into());
        let kind = Kind { is_64bit: long_mode || above_4g, long_mode };
        let mut notes = notes::cpu_notes(&cpus, long_mode);
        notes.extend(notes::guest_note());
        let shown = if paging { mappings(&cpus, &all)? } else { memory::simple(&all) };
        let loads = loads(&memory::clip(&shown, &blocks), &blocks);
        let mut head = kind.headers(&loads, notes.len() as u64);
        head.extend(notes);
        Ok(Dump { head, blocks })
    }

    fn write(&self, mut file: File) -> Result<()> {
        let failed = |what: &str, error: std::io::Error| {
            Error::new(format!("dump: failed to {what}: {}", system_text(&error)))
        };
        file.write_all(&self.head).map_err(|error| failed("write elf header", error))?;
        let mut buffer = vec![0; CHUNK as usize];
        for block in &self.blocks {
            let mut at = 0;
            while at < block.len {
                let len = (block.len - at).min(CHUNK);
                let chunk = &mut buffer[..len as usize];
                block.copy_to(at, chunk);
                file.write_all(chunk).map_err(|error| failed("save memory", error))?;
                at += len;
                COMPLETED.fetch_add(len, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

/// Where the file has what `mappings` show, each of which lies in one block.
fn loads(mappings: &[Mapping], blocks: &[Block]) -> Vec<Load> {
    let starts: Vec<u64> = blocks
        .iter()
        .scan(0, |next, block| {
            let start = *next;
            *next += block.len;
            Some(start)
        })
        .collect();
    let load = |m: &Mapping| {
        let at = blocks.partition_point(|b| b.start <= m.physical).checked_sub(1)?;
        let offset = starts.get(at)? + (m.physical - blocks.get(at)?.start);
        Some(Load { physical: m.physical, virtual_: m.virtual_, len: m.len, offset })
    };
    mappings.iter().filter_map(load).collect()
}

/// Where the page tables of the CPUs that have some show memory; addresses are physical where none has
/// (qemu_get_guest_memory_mapping).
fn mappings(cpus: &[Registers], blocks: &[Block]) -> Result<Vec<Mapping>> {
    let mut all = Mappings::default();
    let mut any = false;
    let is_memory = |physical: u64| {
        let at = blocks.partition_point(|b| b.start <= physical);
        at.checked_sub(1).and_then(|at| blocks.get(at)).is_some_and(|b| physical - b.start < b.len)
    };
    for cpu in cpus {
        let complete = page_tables::mappings(&cpu.sregs, &mut |virtual_, physical, len| {
            !is_memory(physical) || all.add(Mapping { physical, virtual_, len })
        });
        match complete {
            Some(true) => any = true,
            Some(false) => bail!("dump: too many memory mappings"),
            None => {}
        }
    }
    if any { all.finish() } else { Ok(memory::simple(blocks)) }
}
