//! The guest's memory: saved to files, dumps, memory devices.
//!
//! Source: QEMU `softmmu/cpus.c`, `dump/dump.c`, `qapi/machine.json`, `qapi/dump.json`.

use std::fs::File;
use std::io::Write;

use hw_core::debug::cpu_memory_read_debug;
use memory::address_space_memory;
use qom::{Error, Result, bail};

use super::cpu_of;

/// How much is copied at a time.
const CHUNK: usize = 4096;

fn wrong(error: &std::io::Error) -> Error {
    // The system's text alone.
    let text = error.to_string();
    Error::new(text.split(" (os error").next().unwrap_or_default())
}

/// Copies `size` bytes from `address` on into a new file.
fn save(
    filename: &str,
    address: u64,
    size: i64,
    mut read: impl FnMut(u64, &mut [u8]) -> Result<()>,
) -> Result<()> {
    let mut file = File::create(filename)
        .map_err(|error| wrong(&error).prepend(format!("Could not open '{filename}': ")))?;
    let mut buffer = [0; CHUNK];
    let mut done = 0;
    while let Some(left) = u64::try_from(size).unwrap_or_default().checked_sub(done).filter(|left| *left > 0)
    {
        let length = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let Some(chunk) = buffer.get_mut(..length) else { break };
        read(address.wrapping_add(done), chunk)?;
        file.write_all(chunk).map_err(|_| Error::new("An IO error has occurred"))?;
        done += length as u64;
    }
    Ok(())
}

/// Saves memory as a CPU sees it to a file.
#[qapi::command("memsave")]
fn memsave(
    /// The virtual address.
    val: i64,
    size: i64,
    filename: String,
    /// Whose page tables count.
    #[qapi(name = "cpu-index")]
    index: Option<i64>,
) -> Result<()> {
    let cpu = cpu_of(index)?;
    save(&filename, val as u64, size, |address, chunk| match cpu_memory_read_debug(&cpu, address, chunk) {
        Some(()) => Ok(()),
        None => bail!("Invalid addr {:#018x}/size {size} specified", val as u64),
    })
}

/// Saves physical memory to a file.
#[qapi::command("pmemsave")]
fn pmemsave(
    /// The physical address.
    val: i64,
    size: i64,
    filename: String,
) -> Result<()> {
    save(&filename, val as u64, size, |address, chunk| {
        // What is not memory reads as the bus answers.
        let _ = address_space_memory().read(address, chunk);
        Ok(())
    })
}
