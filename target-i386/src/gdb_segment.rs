//! Loading a segment register for a debugger, as the processor would: SDM volume 3A, 3.4 and 21.1.

use accel_kvm::kvm_bindings::{kvm_segment, kvm_sregs};

/// The eight bytes of a segment descriptor.
pub(crate) type Descriptor = u64;

const CR0_PE: u64 = 1;
const RFLAGS_VM: u64 = 1 << 17;
/// Selector: from the local table; the privilege level in the lowest bits.
const SELECTOR_LOCAL: u16 = 4;
const SELECTOR_INDEX: u16 = !7;

/// What a segment register holds once `selector` is loaded; `None` when its descriptor is not there.
pub(crate) fn load(
    sregs: &kvm_sregs,
    rflags: u64,
    old: kvm_segment,
    selector: u16,
    read_memory: &mut dyn FnMut(u64) -> Option<Descriptor>,
) -> Option<kvm_segment> {
    if sregs.cr0 & CR0_PE == 0 || rflags & RFLAGS_VM != 0 {
        let base = u64::from(selector) << 4;
        return Some(kvm_segment { selector, base, ..old });
    }
    if selector & (SELECTOR_INDEX | SELECTOR_LOCAL) == 0 {
        return Some(kvm_segment { selector, unusable: 1, present: 0, ..kvm_segment::default() });
    }
    let (base, limit) = match selector & SELECTOR_LOCAL {
        0 => (sregs.gdt.base, u32::from(sregs.gdt.limit)),
        _ => (sregs.ldt.base, sregs.ldt.limit),
    };
    let offset = selector & SELECTOR_INDEX;
    if u32::from(offset) + 7 > limit {
        return None;
    }
    let segment = decode(selector, read_memory(base.wrapping_add(offset.into()))?);
    (segment.present != 0 && segment.s != 0).then_some(segment)
}

fn decode(selector: u16, descriptor: Descriptor) -> kvm_segment {
    let bits = |at: u32, count: u32| descriptor >> at & ((1 << count) - 1);
    let bit = |at: u32| bits(at, 1) as u8;
    let pages = bit(55) != 0;
    let limit = (bits(0, 16) | bits(48, 4) << 16) as u32;
    kvm_segment {
        base: bits(16, 24) | bits(56, 8) << 24,
        limit: if pages { limit << 12 | 0xfff } else { limit },
        selector,
        type_: bits(40, 4) as u8,
        s: bit(44),
        dpl: bits(45, 2) as u8,
        present: bit(47),
        avl: bit(52),
        l: bit(53),
        db: bit(54),
        g: bit(55),
        unusable: 0,
        padding: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_come_from_their_table() {
        let mut sregs = kvm_sregs { cr0: CR0_PE, ..Default::default() };
        (sregs.gdt.base, sregs.gdt.limit) = (0x1000, 0x1f);
        // Flat 32-bit data, accessed.
        let mut read = |address| (address == 0x1010).then_some(0x12cf_9334_5678_ffff);
        let load = |sregs: &kvm_sregs, selector, read: &mut dyn FnMut(u64) -> Option<u64>| {
            load(sregs, 0, kvm_segment { limit: 7, ..Default::default() }, selector, read)
        };
        let data = load(&sregs, 0x13, &mut read).unwrap();
        assert_eq!((data.selector, data.base, data.limit), (0x13, 0x1234_5678, u32::MAX));
        assert_eq!((data.type_, data.s, data.dpl, data.present, data.db, data.l), (3, 1, 0, 1, 1, 0));
        assert_eq!(load(&sregs, 0x8, &mut read), None, "no such memory");
        assert_eq!(load(&sregs, 0x20, &mut read), None, "beyond the table");
        assert_eq!(load(&sregs, 0x14, &mut read), None, "there is no local table");
        assert_eq!(load(&sregs, 0, &mut read).unwrap().unusable, 1);
        sregs.cr0 = 0;
        let real = load(&sregs, 0xf000, &mut read).unwrap();
        assert_eq!((real.base, real.limit), (0xf0000, 7));
    }
}
