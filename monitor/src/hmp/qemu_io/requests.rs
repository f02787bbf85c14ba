//! The commands that read and write.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use block::backend::{BlockBackend, Op, Request, RequestMemory};
use block::node::BlockNode;
use memory::vm_memory::{Bytes, MmapRegion, VolatileMemory};
use util::log::OsError;

use super::Done;
use super::report::{Report, dump, say};
use super::words::{Words, pattern, size};

/// The most that one request moves, bytes (`BDRV_REQUEST_MAX_BYTES`).
const MOST: u64 = 0x7fff_fe00;
/// What data is made of where nothing is said.
const FOR_READS: u8 = 0xab;
const FOR_WRITES: u8 = 0xcd;
/// Size of the pieces in which memory is filled and looked at, bytes.
const PIECE: usize = 64 << 10;

const READ: &str =
    "read [-Cqv] [-P pattern [-s off] [-l len]] off len -- reads a number of bytes at a specified offset";
const WRITE: &str = "write [-Cfquz] [-P pattern] off len -- writes a number of bytes at a specified offset";
const AIO_READ: &str =
    "aio_read [-Ciqv] [-P pattern] off len [len..] -- asynchronously reads a number of bytes";
const AIO_WRITE: &str =
    "aio_write [-Ciquz] [-P pattern] off len [len..] -- asynchronously writes a number of bytes";
const DISCARD: &str = "discard [-Cq] off len -- discards a number of bytes at a specified offset";

/// The medium, or ENOMEDIUM.
pub(super) fn node_of(backend: &BlockBackend) -> io::Result<Arc<BlockNode>> {
    backend.node().ok_or_else(|| io::Error::from_raw_os_error(rustix::io::Errno::NOMEDIUM.raw_os_error()))
}

/// What a command was told.
struct Told<'a> {
    words: Words<'a>,
    report: Report,
    pattern: Option<u8>,
    offset: u64,
    bytes: u64,
}

/// Reads the words of a command with an offset and lengths; says what is wrong with them, or how it is used.
fn told<'a>(words: &[&'a str], flags: &str, valued: &str, usage: &str) -> Option<Told<'a>> {
    let sorted = Words::sort(words, flags, valued);
    let Some(words) = sorted.filter(|words| words.rest.len() >= 2) else {
        say!("{usage}");
        return None;
    };
    let pattern = match words.option('P') {
        Some(text) => Some(pattern(text)?),
        None => None,
    };
    let offset = size(words.rest[0])?;
    let mut bytes = 0;
    for text in &words.rest[1..] {
        bytes += size(text)?;
        if bytes > MOST {
            say!("length cannot exceed {MOST}, given {text}");
            return None;
        }
    }
    let report = Report { quiet: words.has('q'), parsable: words.has('C'), dump: words.has('v') };
    Some(Told { words, report, pattern, offset, bytes })
}

/// Of a command that takes one length.
fn told_one<'a>(words: &[&'a str], flags: &str, valued: &str, usage: &str) -> Option<Told<'a>> {
    let told = told(words, flags, valued, usage)?;
    if told.words.rest.len() > 2 {
        say!("{usage}");
        return None;
    }
    Some(told)
}

/// Memory of `bytes`, all of them `fill`.
fn memory(bytes: u64, fill: u8) -> io::Result<Box<dyn RequestMemory>> {
    if bytes == 0 {
        return Ok(Box::new(()));
    }
    let region = MmapRegion::<()>::new(bytes as usize).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let (slice, piece) = (region.as_volatile_slice(), [fill; PIECE]);
    for at in (0..slice.len()).step_by(PIECE) {
        let _ = slice.write(&piece, at);
    }
    Ok(Box::new(region))
}

/// The bytes of a range of a request's memory, piece by piece; stops where `f` says so.
fn look(memory: &dyn RequestMemory, range: Range<u64>, mut f: impl FnMut(&[u8], u64) -> bool) {
    let Some(part) = memory.parts().into_iter().next() else { return };
    let mut piece = [0; PIECE];
    let mut at = range.start;
    while at < range.end {
        let len = (range.end - at).min(PIECE as u64) as usize;
        if part.read_slice(&mut piece[..len], at as usize).is_err() || !f(&piece[..len], at) {
            return;
        }
        at += len as u64;
    }
}

/// Says where a range is not what it should be.
fn verify(request: &Request, range: Range<u64>, pattern: u8) {
    let mut is_right = true;
    look(&*request.memory, range.clone(), |piece, _| {
        is_right = piece.iter().all(|byte| *byte == pattern);
        is_right
    });
    if !is_right {
        let (at, len) = (request.offset + range.start, range.end - range.start);
        say!("Pattern verification failed at offset {at}, {len} bytes");
    }
}

/// Tells of a read that went well.
fn tell_read(request: &Request, report: Report, begun: Instant) {
    let took = begun.elapsed();
    if report.dump && !report.quiet {
        look(&*request.memory, 0..request.bytes, |piece, at| {
            dump(piece, request.offset + at);
            true
        });
    }
    report.print("read", request.offset, request.bytes, took);
}

/// The part of what is read that must be made of the pattern; says what is wrong.
fn checked_range(told: &Told<'_>) -> Option<Range<u64>> {
    let number = |name| told.words.option(name).map(size);
    let start = match number('s') {
        Some(start) => start?,
        None => 0,
    };
    let end = match number('l') {
        Some(len) => start.checked_add(len?)?,
        None => told.bytes,
    };
    if start > end || end > told.bytes {
        say!("pattern verification range exceeds end of read data");
        return None;
    }
    Some(start..end)
}

pub(super) fn read(backend: &BlockBackend, words: &[&str]) {
    let Some(told) = told_one(words, "Cpqv", "Pls", READ) else { return };
    if told.pattern.is_none() && (told.words.has('l') || told.words.has('s')) {
        return say!("{READ}");
    }
    let Some(range) = checked_range(&told) else { return };
    let Told { report, pattern, offset, bytes, .. } = told;
    let begun = Instant::now();
    let done = memory(bytes, FOR_READS).and_then(|memory| {
        let request = Request { op: Op::Read, offset, bytes, memory };
        backend.carry_out_uncounted(&request).map(|()| request)
    });
    match done {
        Ok(request) => {
            if let Some(pattern) = pattern {
                verify(&request, range, pattern);
            }
            tell_read(&request, report, begun);
        }
        Err(error) => say!("read failed: {}", OsError(error)),
    }
}

/// A medium that may be written (`BLK_PERM_WRITE`).
fn check_writable(backend: &BlockBackend) -> Done {
    match backend.node().is_some_and(|node| node.is_read_only()) {
        true => Err("Block node is read-only".to_owned()),
        false => Ok(()),
    }
}

/// What a command that writes is to do; says what is wrong.
fn write_op(told: &Told<'_>) -> Option<Op> {
    let words = &told.words;
    if words.has('u') && !words.has('z') {
        say!("-u requires -z to be specified");
        return None;
    }
    if words.has('z') && words.has('P') {
        say!("-z and -P cannot be specified at the same time");
        return None;
    }
    Some(if words.has('z') { Op::WriteZeroes { may_unmap: words.has('u') } } else { Op::Write })
}

/// The request of a command that writes.
fn write_request(told: &Told<'_>, op: Op) -> io::Result<Request> {
    let Told { offset, bytes, pattern, .. } = *told;
    let memory = match op {
        Op::Write => memory(bytes, pattern.unwrap_or(FOR_WRITES))?,
        _ => Box::new(()),
    };
    Ok(Request { op, offset, bytes, memory })
}

pub(super) fn write(backend: &BlockBackend, words: &[&str]) -> Done {
    check_writable(backend)?;
    let Some(told) = told_one(words, "Cfpquz", "P", WRITE) else { return Ok(()) };
    let Some(op) = write_op(&told) else { return Ok(()) };
    let begun = Instant::now();
    let done = write_request(&told, op).and_then(|request| {
        backend.carry_out_uncounted(&request)?;
        if told.words.has('f') { node_of(backend)?.flush() } else { Ok(()) }
    });
    match done {
        Ok(()) => told.report.print("wrote", told.offset, told.bytes, begun.elapsed()),
        Err(error) => say!("write failed: {}", OsError(error)),
    }
    Ok(())
}

pub(super) fn discard(backend: &BlockBackend, words: &[&str]) -> Done {
    check_writable(backend)?;
    let Some(told) = told_one(words, "Cq", "", DISCARD) else { return Ok(()) };
    let Told { report, offset, bytes, .. } = told;
    let begun = Instant::now();
    let request = Request { op: Op::Discard, offset, bytes, memory: Box::new(()) };
    match backend.carry_out_uncounted(&request) {
        Ok(()) => report.print("discard", offset, bytes, begun.elapsed()),
        Err(error) => say!("discard failed: {}", OsError(error)),
    }
    Ok(())
}

pub(super) fn flush(backend: &BlockBackend) -> Done {
    let flushed = node_of(backend).and_then(|node| node.flush());
    flushed.map_err(|error| OsError(error).to_string())
}

pub(super) fn aio_read(backend: &Arc<BlockBackend>, words: &[&str]) {
    if Words::sort(words, "Ciqv", "P").is_some_and(|words| words.has('i')) {
        say!("injecting invalid read request");
        return backend.stats.count_invalid(Op::Read);
    }
    let Some(Told { report, pattern, offset, bytes, .. }) = told(words, "Ciqv", "P", AIO_READ) else {
        return;
    };
    let memory = match memory(bytes, FOR_READS) {
        Ok(memory) => memory,
        Err(error) => return say!("readv failed: {}", OsError(error)),
    };
    let begun = Instant::now();
    let request = Request { op: Op::Read, offset, bytes, memory };
    let done = move |request: Request, result: io::Result<()>| match result {
        Ok(()) => {
            if let Some(pattern) = pattern {
                verify(&request, 0..request.bytes, pattern);
            }
            tell_read(&request, report, begun);
        }
        Err(error) => say!("readv failed: {}", OsError(error)),
    };
    backend.submit(request, Box::new(done));
}

pub(super) fn aio_write(backend: &Arc<BlockBackend>, words: &[&str]) -> Done {
    check_writable(backend)?;
    if Words::sort(words, "Ciquz", "P").is_some_and(|words| words.has('i')) {
        say!("injecting invalid write request");
        backend.stats.count_invalid(Op::Write);
        return Ok(());
    }
    let Some(told) = told(words, "Ciquz", "P", AIO_WRITE) else { return Ok(()) };
    let Some(op) = write_op(&told) else { return Ok(()) };
    if op != Op::Write && told.words.rest.len() > 2 {
        say!("-z supports only a single length parameter");
        return Ok(());
    }
    let report = told.report;
    let begun = Instant::now();
    match write_request(&told, op) {
        Ok(request) => {
            let done = move |request: Request, result: io::Result<()>| match result {
                Ok(()) => report.print("wrote", request.offset, request.bytes, begun.elapsed()),
                Err(error) => say!("aio_write failed: {}", OsError(error)),
            };
            backend.submit(request, Box::new(done));
        }
        Err(error) => say!("aio_write failed: {}", OsError(error)),
    }
    Ok(())
}
