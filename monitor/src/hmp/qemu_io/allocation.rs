//! `alloc` and `map`: what of a disk an image has itself.

use std::io;

use block::backend::BlockBackend;
use util::log::OsError;

use super::report::{say, size_text};
use super::requests::node_of;
use super::words::size;

/// The most parts of a disk that are told of: a monitor must not be kept busy.
const MOST_PARTS: usize = 10_000;

/// Calls `f` with each part of a range that the image has, or has not: where, how long, whether.
fn walk(backend: &BlockBackend, at: u64, bytes: u64, mut f: impl FnMut(u64, u64, bool)) -> io::Result<()> {
    let node = node_of(backend)?;
    let end = at.saturating_add(bytes).min(node.length()?);
    let (mut at, mut part) = (at, (at, 0, false));
    for _ in 0..MOST_PARTS {
        if at >= end {
            break;
        }
        let (is_there, len) = node.driver().allocation(at, end - at)?;
        let len = len.clamp(1, end - at);
        if is_there == part.2 {
            part.1 += len;
        } else {
            if part.1 > 0 {
                f(part.0, part.1, part.2);
            }
            part = (at, len, is_there);
        }
        at += len;
    }
    if part.1 > 0 {
        f(part.0, part.1, part.2);
    }
    Ok(())
}

pub(super) fn map(backend: &BlockBackend) {
    let walked = walk(backend, 0, u64::MAX, |at, len, is_there| {
        let is_there = if is_there { "    allocated" } else { "not allocated" };
        let (size, place) = (size_text(len as f64), size_text(at as f64));
        say!("{size} ({len:#x}) bytes {is_there} at offset {place} ({at:#x})");
    });
    if let Err(error) = walked {
        say!("Failed to get allocation status: {}", OsError(error));
    }
}

pub(super) fn alloc(backend: &BlockBackend, words: &[&str]) {
    const USAGE: &str = "alloc offset [count] -- checks if offset is allocated in the file";
    let (place, count) = match words {
        [place] => (size(place), Some(512)),
        [place, count] => (size(place), size(count)),
        _ => return say!("{USAGE}"),
    };
    let (Some(place), Some(count)) = (place, count) else { return };
    let mut there = 0;
    let walked = walk(backend, place, count, |_, len, is_there| there += if is_there { len } else { 0 });
    match walked {
        Ok(()) => say!("{there}/{count} bytes allocated at offset {}", size_text(place as f64)),
        Err(error) => say!("is_allocated failed: {}", OsError(error)),
    }
}
