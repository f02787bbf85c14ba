//! What a region answers to accesses of any size and alignment.
//!
//! Source: QEMU `softmmu/memory.c` (`memory_region_access_valid`, `access_with_adjusted_size`).

use std::ops::BitOrAssign;

use util::log::{self, Mask};

use crate::MemoryRegion;

/// The outcome of an access, as the bus would signal it. An access in several parts has the worst outcome of
/// its parts, and all parts are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[must_use]
pub enum MemTxResult {
    /// Done.
    Ok,
    /// The device refused.
    Error,
    /// Nothing is there, or it does not take accesses of this kind.
    DecodeError,
}

impl BitOrAssign for MemTxResult {
    fn bitor_assign(&mut self, other: MemTxResult) {
        *self = (*self).max(other);
    }
}

/// Byte order of a device's registers wider than a byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Endianness {
    /// Least significant byte first, as everything of a PC.
    #[default]
    Little,
    /// Most significant byte first, as fw_cfg's DMA register.
    Big,
}

/// Which access sizes, in bytes, and alignments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessLimits {
    /// Smallest size.
    pub min: u8,
    /// Largest size.
    pub max: u8,
    /// Whether an address need not be a multiple of the size.
    pub unaligned: bool,
}

impl AccessLimits {
    /// Aligned accesses of `min` to `max` bytes.
    pub const fn new(min: u8, max: u8) -> AccessLimits {
        AccessLimits { min, max, unaligned: false }
    }
}

/// The accesses a region takes from the guest, and those its handlers are written for. What is valid but not
/// implemented is made of implemented accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessRules {
    /// What the guest may do; anything else is a decode error. Accesses that are wider are split.
    pub valid: AccessLimits,
    /// What the handlers take.
    pub implemented: AccessLimits,
    /// Byte order of the handlers' values.
    pub endianness: Endianness,
    /// Whether [`RegionOps::accepts`] has a say, too.
    pub asks: bool,
}

impl Default for AccessRules {
    /// QEMU's defaults: one to four bytes valid (anything for a region that says nothing), one to four
    /// implemented.
    fn default() -> Self {
        AccessRules {
            valid: AccessLimits::new(1, 4),
            implemented: AccessLimits::new(1, 4),
            endianness: Endianness::Little,
            asks: false,
        }
    }
}

impl AccessRules {
    /// `min` to `max` bytes both valid and implemented.
    pub const fn sizes(min: u8, max: u8) -> AccessRules {
        AccessRules {
            valid: AccessLimits::new(min, max),
            implemented: AccessLimits::new(min, max),
            endianness: Endianness::Little,
            asks: false,
        }
    }

    /// One to `max` bytes valid, made of single bytes: a device with 8-bit registers.
    pub const fn bytes(max: u8) -> AccessRules {
        AccessRules {
            valid: AccessLimits::new(1, max),
            implemented: AccessLimits::new(1, 1),
            endianness: Endianness::Little,
            asks: false,
        }
    }

    /// The same with misaligned accesses valid, too.
    pub const fn allow_unaligned(mut self) -> AccessRules {
        self.valid.unaligned = true;
        self
    }

    /// The same, with [`RegionOps::accepts`] asked before each access.
    pub const fn asking(mut self) -> AccessRules {
        self.asks = true;
        self
    }

    /// The same with another byte order.
    pub const fn with_endianness(mut self, endianness: Endianness) -> AccessRules {
        self.endianness = endianness;
        self
    }
}

/// The handlers of an I/O region. Offsets are from the start of the region, sizes in bytes (1, 2, 4 or 8).
///
/// They are called from any thread, several at once, with no lock held.
pub trait RegionOps: Send + Sync {
    /// A guest's read.
    fn read(&self, offset: u64, size: u8) -> u64;
    /// A guest's write.
    fn write(&self, offset: u64, value: u64, size: u8);
    /// Sizes and alignments; asked once, when the region is made.
    fn rules(&self) -> AccessRules {
        AccessRules::default()
    }
    /// Refuses accesses that no rule describes (`valid.accepts`); asked where the rules say so
    /// ([`AccessRules::asking`]).
    fn accepts(&self, _offset: u64, _size: u8, _is_write: bool) -> bool {
        true
    }
}

/// Logs an access that a region refused (`memory_region_access_valid`). `ops`: its handlers, if it has any.
#[cold]
pub(crate) fn log_invalid(
    region: &MemoryRegion,
    ops: Option<&dyn RegionOps>,
    offset: u64,
    size: u8,
    is_write: bool,
) {
    log_refused(region.name(), offset, size, is_write, || match ops {
        Some(ops) => region.rules().reason(ops, offset, size, is_write),
        None => "rejected".to_owned(),
    });
}

/// Logs the accesses that one of `len` bytes to where nothing is becomes.
#[cold]
pub(crate) fn log_unassigned(address: u64, len: usize, is_write: bool) {
    if !log::enabled(Mask::GUEST_ERROR) {
        return;
    }
    let mut at = 0;
    while at < len {
        let address = address.wrapping_add(at as u64);
        let size = AccessRules::default().split(address, len - at);
        log_refused("(null)", address, size, is_write, || "rejected".to_owned());
        at += usize::from(size);
    }
}

fn log_refused(region: &str, at: u64, size: u8, is_write: bool, reason: impl FnOnce() -> String) {
    log::log_mask(Mask::GUEST_ERROR, || {
        let what = if is_write { "write" } else { "read" };
        format!("Invalid {what} at addr 0x{at:X}, size {size}, region '{region}', reason: {}", reason())
    });
}

/// The bits of a value of `size` bytes.
#[inline]
pub(crate) fn mask(size: u8) -> u64 {
    if size >= 8 { u64::MAX } else { (1 << (8 * size)) - 1 }
}

/// `value` shifted left by `bits`, right where they are negative.
fn shift_left(value: u64, bits: i32) -> u64 {
    let shifted = if bits < 0 {
        value.checked_shr(bits.unsigned_abs())
    } else {
        value.checked_shl(bits.unsigned_abs())
    };
    shifted.unwrap_or_default()
}

fn swap(value: u64, size: u8, endianness: Endianness) -> u64 {
    match (endianness, size) {
        (Endianness::Big, 1..=8) => value.swap_bytes() >> (64 - 8 * u32::from(size)),
        _ => value,
    }
}

impl AccessRules {
    /// The largest part of an access of `len` bytes at `offset` that can be done at once
    /// (`memory_access_size`).
    pub(crate) fn split(&self, offset: u64, len: usize) -> u8 {
        let mut max = u64::from(self.valid.max.max(1));
        if !self.implemented.unaligned && offset != 0 {
            max = max.min(1 << offset.trailing_zeros().min(3));
        }
        let len = max.min(len as u64).min(8);
        1 << len.max(1).ilog2()
    }

    fn is_valid(&self, ops: &dyn RegionOps, offset: u64, size: u8, is_write: bool) -> bool {
        (self.valid.unaligned || offset & u64::from(size - 1) == 0)
            && (self.valid.min..=self.valid.max).contains(&size)
            && (!self.asks || ops.accepts(offset, size, is_write))
    }

    /// Why an access is not valid.
    fn reason(&self, ops: &dyn RegionOps, offset: u64, size: u8, is_write: bool) -> String {
        let AccessLimits { min, max, unaligned } = self.valid;
        if self.asks && !ops.accepts(offset, size, is_write) {
            "rejected".to_owned()
        } else if !unaligned && offset & u64::from(size - 1) != 0 {
            "unaligned".to_owned()
        } else {
            format!("invalid size (min:{min} max:{max})")
        }
    }

    /// Whether an access is valid, aligned, and one that the handlers take as it is: the common case, for
    /// which nothing else needs a look.
    #[inline]
    pub(crate) fn is_plain(&self, offset: u64, size: u8) -> bool {
        self.plain_sizes() & size != 0 && offset & u64::from(size - 1) == 0
    }

    /// The sizes, one a bit, that are valid and implemented and need no conversion.
    #[inline]
    fn plain_sizes(&self) -> u8 {
        if self.asks || self.endianness == Endianness::Big {
            return 0;
        }
        let from = self.valid.min.max(self.implemented.min);
        let to = self.valid.max.min(self.implemented.max);
        // Sizes are powers of two: as bits they are themselves.
        (to << 1).wrapping_sub(1) & !from.wrapping_sub(1) & 0xf
    }

    /// Whether the handlers take an access of this size as it is.
    #[inline]
    fn direct(&self, size: u8) -> bool {
        self.implemented.min <= size && size <= self.implemented.max && self.endianness == Endianness::Little
    }

    /// How many bits left in an access of `size` bytes the part of `part` bytes lies that starts at byte `at`;
    /// negative where the first bytes of a wider part are wanted, which a big-endian value has at its top.
    fn place(&self, at: u8, part: u8, size: u8) -> i32 {
        8 * match self.endianness {
            Endianness::Little => i32::from(at),
            Endianness::Big => i32::from(size) - i32::from(part) - i32::from(at),
        }
    }

    /// A read of `size` bytes (a power of two up to 8) in the order of the guest.
    #[inline]
    pub(crate) fn dispatch_read(&self, ops: &dyn RegionOps, offset: u64, size: u8) -> (u64, MemTxResult) {
        if !self.is_valid(ops, offset, size, false) {
            return (0, MemTxResult::DecodeError);
        }
        if self.direct(size) {
            return (ops.read(offset, size) & mask(size), MemTxResult::Ok);
        }
        let part = size.min(self.implemented.max).max(self.implemented.min).clamp(1, 8);
        let mut value = 0;
        for at in (0..size).step_by(usize::from(part)) {
            let piece = ops.read(offset.wrapping_add(at.into()), part) & mask(part);
            value |= shift_left(piece, self.place(at, part, size));
        }
        (swap(value & mask(size), size, self.endianness), MemTxResult::Ok)
    }

    /// A write of `size` bytes (a power of two up to 8).
    #[inline]
    pub(crate) fn dispatch_write(
        &self,
        ops: &dyn RegionOps,
        offset: u64,
        value: u64,
        size: u8,
    ) -> MemTxResult {
        if !self.is_valid(ops, offset, size, true) {
            return MemTxResult::DecodeError;
        }
        if self.direct(size) {
            ops.write(offset, value & mask(size), size);
            return MemTxResult::Ok;
        }
        let value = swap(value & mask(size), size, self.endianness);
        let part = size.min(self.implemented.max).max(self.implemented.min).clamp(1, 8);
        for at in (0..size).step_by(usize::from(part)) {
            let piece = shift_left(value, -self.place(at, part, size));
            ops.write(offset.wrapping_add(at.into()), piece & mask(part), part);
        }
        MemTxResult::Ok
    }
}
