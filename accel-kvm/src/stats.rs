//! What KVM counts (`KVM_GET_STATS_FD`).
//!
//! Source: the kernel's `Documentation/virt/kvm/api.rst`, 4.133; QEMU `accel/kvm/kvm-all.c` (`query_stats`).

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;

use kvm_bindings::KVMIO;
use qom::{Error, Result};
use vmm_sys_util::ioctl::ioctl;

use crate::{KvmState, with_current_vcpu};

/// Not in kvm-ioctls: as in the kernel's include/uapi/linux/kvm.h.
const KVM_GET_STATS_FD: u64 = (KVMIO as u64) << 8 | 0xce;
const KVM_CAP_BINARY_STATS_FD: u64 = 203;

/// Sizes of the header and of a descriptor without its name.
const HEADER: usize = 24;
const DESCRIPTOR: usize = 16;
/// More than any kernel has of each: names' length, values, descriptors.
const MAX_NAME: u32 = 256;
const MAX_VALUES: u16 = 1024;
const MAX_DESCRIPTORS: u32 = 4096;

/// How a value changes, or what its numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatsKind {
    /// It only grows.
    Cumulative,
    /// As it is now.
    Instant,
    /// The most that it was.
    Peak,
    /// A histogram whose buckets are that wide.
    LinearHistogram(u32),
    /// A histogram whose buckets double in width.
    Log2Histogram,
}

/// What a value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatsUnit {
    /// Things.
    None,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// Cycles of the processor.
    Cycles,
    /// Nothing: it is true or false.
    Boolean,
}

/// One thing that KVM counts.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Its name.
    pub name: String,
    /// How it changes.
    pub kind: StatsKind,
    /// What it counts,
    pub unit: StatsUnit,
    /// times a power of ten or two: base and exponent.
    pub scale: (u8, i16),
    /// One value, or those of a histogram's buckets.
    pub values: Vec<u64>,
}

/// Whether this KVM counts.
pub fn has_stats(kvm: &KvmState) -> bool {
    kvm.kvm.check_extension_raw(KVM_CAP_BINARY_STATS_FD) > 0
}

/// What was counted of the virtual machine.
///
/// # Errors
/// When the kernel refuses.
pub fn vm_stats(kvm: &KvmState) -> Result<Vec<Stats>> {
    get_stats(kvm.vm.get()?)
}

/// What was counted of the vCPU whose thread this is.
///
/// # Errors
/// When the kernel refuses, or there is none.
pub fn current_vcpu_stats() -> Result<Vec<Stats>> {
    with_current_vcpu(|vcpu| get_stats(vcpu)).unwrap_or_else(|| Err(Error::new("the CPU has no thread")))
}

fn get_stats(of: &impl AsRawFd) -> Result<Vec<Stats>> {
    // SAFETY: the ioctl takes nothing.
    let fd = unsafe { ioctl(of, KVM_GET_STATS_FD) };
    if fd < 0 {
        return Err(Error::new(format!("KVM stats: ioctl failed: {}", io::Error::last_os_error())));
    }
    // SAFETY: the descriptor is new and nobody else's.
    let file = unsafe { File::from_raw_fd(fd) };
    read(&file).map_err(|error| Error::new(format!("KVM stats: failed to read: {error}")))
}

fn read(file: &File) -> io::Result<Vec<Stats>> {
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, 0)?;
    let word = |n: usize| u32_at(&header, 4 * n);
    let (name_size, count) = (word(1), word(2));
    let (descriptors_at, data_at) = (word(4), word(5));
    if name_size > MAX_NAME || count > MAX_DESCRIPTORS {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let size = DESCRIPTOR + name_size as usize;
    let mut descriptors = vec![0; size * count as usize];
    file.read_exact_at(&mut descriptors, descriptors_at.into())?;
    let mut stats = Vec::new();
    for descriptor in descriptors.chunks_exact(size) {
        if let Some((mut entry, count, offset)) = parse(descriptor) {
            let mut data = vec![0; 8 * usize::from(count)];
            file.read_exact_at(&mut data, u64::from(data_at) + u64::from(offset))?;
            entry.values = data.as_chunks().0.iter().map(|value| u64::from_le_bytes(*value)).collect();
            stats.push(entry);
        }
    }
    Ok(stats)
}

/// What a descriptor says: the entry without values, how many there are, and where. None for what is not known here.
fn parse(descriptor: &[u8]) -> Option<(Stats, u16, u32)> {
    let (fixed, name) = descriptor.split_at_checked(DESCRIPTOR)?;
    let flags = u32_at(fixed, 0);
    let exponent = u32_at(fixed, 4) as u16 as i16;
    let count = (u32_at(fixed, 4) >> 16) as u16;
    let kind = match flags & 0xf {
        0 => StatsKind::Cumulative,
        1 => StatsKind::Instant,
        2 => StatsKind::Peak,
        3 => StatsKind::LinearHistogram(u32_at(fixed, 12)),
        4 => StatsKind::Log2Histogram,
        _ => return None,
    };
    let unit = match flags >> 4 & 0xf {
        0 => StatsUnit::None,
        1 => StatsUnit::Bytes,
        2 => StatsUnit::Seconds,
        3 => StatsUnit::Cycles,
        4 => StatsUnit::Boolean,
        _ => return None,
    };
    let base = match flags >> 8 & 0xf {
        0 => 10,
        1 => 2,
        _ => return None,
    };
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = String::from_utf8_lossy(name).into_owned();
    let stats = Stats { name, kind, unit, scale: (base, exponent), values: Vec::new() };
    (count <= MAX_VALUES).then_some((stats, count, u32_at(fixed, 8)))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
    u32::from_le_bytes(word)
}
