//! The debug log of `-d` and `-D` (util/log.c), which trace events are written to as well.

use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU32, Ordering};

use bitflags::bitflags;
use parking_lot::Mutex;
use thiserror::Error;

use crate::trace;

bitflags! {
    /// What `-d` asks to be logged.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Mask: u32 {
        /// `out_asm`
        const TB_OUT_ASM = 1 << 0;
        /// `in_asm`
        const TB_IN_ASM = 1 << 1;
        /// `op`
        const TB_OP = 1 << 2;
        /// `op_opt`
        const TB_OP_OPT = 1 << 3;
        /// `int`: interrupts and exceptions.
        const INT = 1 << 4;
        /// `exec`
        const EXEC = 1 << 5;
        /// `pcall`
        const PCALL = 1 << 6;
        /// `cpu`: registers.
        const TB_CPU = 1 << 8;
        /// `cpu_reset`: CPU state before resets.
        const RESET = 1 << 9;
        /// `unimp`: what the guest asked for and we do not have.
        const UNIMP = 1 << 10;
        /// `guest_errors`: what the guest did that makes no sense to the device.
        const GUEST_ERROR = 1 << 11;
        /// `mmu`
        const MMU = 1 << 12;
        /// `nochain`
        const TB_NOCHAIN = 1 << 13;
        /// `page`
        const PAGE = 1 << 14;
        /// `op_ind`
        const TB_OP_IND = 1 << 16;
        /// `fpu`
        const TB_FPU = 1 << 17;
        /// `plugin`
        const PLUGIN = 1 << 18;
        /// `strace`
        const STRACE = 1 << 19;
        /// `tid`: a log file for each thread.
        const PER_THREAD = 1 << 20;
    }
}

/// The items of `-d`, in the order and words of QEMU's help.
pub const ITEMS: &[(Mask, &str, &str)] = &[
    (Mask::TB_OUT_ASM, "out_asm", "show generated host assembly code for each compiled TB"),
    (Mask::TB_IN_ASM, "in_asm", "show target assembly code for each compiled TB"),
    (Mask::TB_OP, "op", "show micro ops for each compiled TB"),
    (Mask::TB_OP_OPT, "op_opt", "show micro ops after optimization"),
    (Mask::TB_OP_IND, "op_ind", "show micro ops before indirect lowering"),
    (Mask::INT, "int", "show interrupts/exceptions in short format"),
    (Mask::EXEC, "exec", "show trace before each executed TB (lots of logs)"),
    (Mask::TB_CPU, "cpu", "show CPU registers before entering a TB (lots of logs)"),
    (Mask::TB_FPU, "fpu", "include FPU registers in the 'cpu' logging"),
    (Mask::MMU, "mmu", "log MMU-related activities"),
    (Mask::PCALL, "pcall", "x86 only: show protected mode far calls/returns/exceptions"),
    (Mask::RESET, "cpu_reset", "show CPU state before CPU resets"),
    (Mask::UNIMP, "unimp", "log unimplemented functionality"),
    (
        Mask::GUEST_ERROR,
        "guest_errors",
        "log when the guest OS does something invalid (eg accessing a\nnon-existent register)",
    ),
    (Mask::PAGE, "page", "dump pages at beginning of user mode emulation"),
    (
        Mask::TB_NOCHAIN,
        "nochain",
        "do not chain compiled TBs so that \"exec\" and \"cpu\" show\ncomplete traces",
    ),
    (Mask::PLUGIN, "plugin", "output from TCG plugins\n"),
    (Mask::STRACE, "strace", "log every user-mode syscall, its input, and its result"),
    (Mask::PER_THREAD, "tid", "open a separate log file per thread; filename must contain '%d'"),
];

/// What is wrong with `-d` or `-D`.
#[derive(Debug, Error)]
pub enum LogError {
    /// An item that `-d help` does not list.
    #[error("unknown log item '{0}' (see '-d help')")]
    Item(String),
    /// A `%` in the name that is not one `%d`.
    #[error("Bad logfile template: {0}")]
    Template(String),
    /// `-d tid` without a file for each thread.
    #[error("Filename template with '%d' required for 'tid'")]
    PerThread,
    /// The file cannot be written.
    #[error("Error opening logfile {0}: {1}")]
    Open(String, #[source] OsError),
}

/// An operating system's error without Rust's "(os error N)" after it.
#[derive(Debug)]
pub struct OsError(pub io::Error);

impl fmt::Display for OsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        f.write_str(text.split(" (os error").next().unwrap_or(&text))
    }
}

impl std::error::Error for OsError {}

static MASK: AtomicU32 = AtomicU32::new(0);
static SINK: Mutex<Sink> = Mutex::new(Sink::Stderr);

enum Sink {
    Stderr,
    File(File),
    /// A file for each thread, named by putting its id for the `%d`.
    PerThread(String),
}

thread_local! {
    static THREAD_FILE: RefCell<Option<File>> = const { RefCell::new(None) };
}

/// The text of `-d help`.
#[must_use]
pub fn help() -> String {
    let mut text = String::from("Log items (comma separated):\n");
    for (_, name, help) in ITEMS {
        text.push_str(&format!("{name:<15} {help}\n"));
    }
    text.push_str("trace:PATTERN   enable trace events\n");
    text.push_str("\nUse \"-d trace:help\" to get a list of trace events.\n\n");
    text
}

/// The mask that a comma-separated list of items stands for (qemu_str_to_log_mask); `all` is all of them.
/// A `trace:PATTERN` item switches the trace events on that it names.
///
/// # Errors
/// An item that is not one.
pub fn parse_mask(items: &str) -> Result<Mask, LogError> {
    let mut mask = Mask::empty();
    for item in items.split(',') {
        if item == "all" {
            mask |= ITEMS.iter().fold(Mask::empty(), |all, entry| all | entry.0);
        } else if let Some(pattern) = item.strip_prefix("trace:").filter(|pattern| !pattern.is_empty()) {
            trace::enable_or_warn(pattern, |warning| crate::warn_report!("{warning}"));
        } else {
            let entry = ITEMS.iter().find(|entry| entry.1 == item);
            mask |= entry.ok_or_else(|| LogError::Item(item.to_owned()))?.0;
        }
    }
    Ok(mask)
}

/// Starts logging what `mask` names into `filename` (`-D`; a `%d` in it is the process's id, or with
/// [`Mask::PER_THREAD`] the thread's), or to stderr without one. The file is truncated.
///
/// # Errors
/// A name that does not fit, a file that cannot be made.
pub fn set(mask: Mask, filename: Option<&str>) -> Result<(), LogError> {
    let sink = match filename {
        Some(name) => file_sink(name, mask.contains(Mask::PER_THREAD))?,
        None if mask.contains(Mask::PER_THREAD) => return Err(LogError::PerThread),
        None => Sink::Stderr,
    };
    *SINK.lock() = sink;
    MASK.store((mask - Mask::PER_THREAD).bits(), Ordering::Release);
    Ok(())
}

/// Changes what is logged, and leaves the file as it is (HMP's `log`).
///
/// # Errors
/// [`Mask::PER_THREAD`] without a file for each thread.
pub fn set_mask(mask: Mask) -> Result<(), LogError> {
    if mask.contains(Mask::PER_THREAD) && !matches!(*SINK.lock(), Sink::PerThread(_)) {
        return Err(LogError::PerThread);
    }
    MASK.store((mask - Mask::PER_THREAD).bits(), Ordering::Release);
    Ok(())
}

/// Changes the file, or stderr for `None`, and leaves what is logged as it is.
///
/// # Errors
/// As [`set`].
pub fn set_filename(filename: Option<&str>) -> Result<(), LogError> {
    set(mask(), filename)
}

fn file_sink(name: &str, per_thread: bool) -> Result<Sink, LogError> {
    match name.split_once('%') {
        Some((_, rest)) if !rest.starts_with('d') || rest.contains('%') => {
            Err(LogError::Template(name.to_owned()))
        }
        Some(_) if per_thread => Ok(Sink::PerThread(name.to_owned())),
        None if per_thread => Err(LogError::PerThread),
        Some(_) => open(&name.replace("%d", &std::process::id().to_string())).map(Sink::File),
        None => open(name).map(Sink::File),
    }
}

fn open(name: &str) -> Result<File, LogError> {
    File::create(name).map_err(|error| LogError::Open(name.to_owned(), OsError(error)))
}

/// What is being logged.
#[must_use]
pub fn mask() -> Mask {
    Mask::from_bits_truncate(MASK.load(Ordering::Relaxed))
}

/// Whether anything of `mask` is being logged: one relaxed load (qemu_loglevel_mask).
#[must_use]
#[inline]
pub fn enabled(mask: Mask) -> bool {
    MASK.load(Ordering::Relaxed) & mask.bits() != 0
}

/// Logs a line if anything of `mask` is being logged (qemu_log_mask); `text` is not made otherwise.
#[inline]
pub fn log_mask(mask: Mask, text: impl FnOnce() -> String) {
    if enabled(mask) {
        write_line(&text());
    }
}

/// Writes a line to the log whatever the mask (qemu_log). A log that cannot be written is dropped: a guest
/// must not stop because a disk is full.
pub fn write_line(line: &str) {
    let line = format!("{line}\n");
    let sink = SINK.lock();
    let _ = match &*sink {
        Sink::Stderr => io::stderr().write_all(line.as_bytes()),
        Sink::File(file) => (&*file).write_all(line.as_bytes()),
        Sink::PerThread(template) => write_to_thread_file(template, &line),
    };
}

fn write_to_thread_file(template: &str, line: &str) -> io::Result<()> {
    THREAD_FILE.with_borrow_mut(|slot| {
        let file = match slot {
            Some(file) => file,
            None => {
                let id = rustix::thread::gettid().as_raw_nonzero();
                slot.insert(File::create(template.replace("%d", &id.to_string()))?)
            }
        };
        file.write_all(line.as_bytes())
    })
}
