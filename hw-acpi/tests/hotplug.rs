//! The blocks of hotplug registers: sequences, and any sequence at all.

use hw_acpi::cpu_hotplug::{CpuHotplug, CpuHotplugRequest};
use hw_acpi::memory_hotplug::{MemoryHotplug, MemoryHotplugRequest, MemoryModule};
use hw_acpi::pcihp::{PciHotplug, PciHotplugRequest};
use proptest::prelude::*;

fn modern(cpus: &[(u32, bool)]) -> CpuHotplug {
    let mut chip = CpuHotplug::new(cpus.iter().copied());
    assert_eq!(chip.write(0, 0), None);
    chip
}

#[test]
fn old_firmware_finds_a_bitmap_by_apic_id() {
    let mut chip = CpuHotplug::new([(0, true), (1, false), (9, true)]);
    assert_eq!((chip.read(0, 1), chip.read(1, 1), chip.read(0, 4)), (1, 2, 0x201));
    assert_eq!(chip.read(16, 4), 0);
    // Only a zero in the first byte turns it.
    let _ = chip.write(0, 1);
    let _ = chip.write(1, 0);
    assert_eq!(chip.read(0, 1), 1);
    let _ = chip.write(0, 0);
    assert_eq!((chip.read(8, 4), chip.read(16, 4)), (0, u64::MAX), "nobody is behind the registers");
    // An APIC id that the bitmap has no place for needs the registers.
    assert_eq!(CpuHotplug::new([(0, true), (256, true)]).read(12, 1), u64::MAX);
}

#[test]
fn the_first_cpu_and_those_that_are_not_there_are_not_ejected() {
    let mut chip = modern(&[(0, true), (1, false), (2, true)]);
    for (index, request) in [(0, None), (1, None), (2, Some(CpuHotplugRequest::Eject(2))), (3, None)] {
        let _ = chip.write(0, index);
        assert_eq!(chip.write(4, 8), request);
        // It is gone at once.
        assert_eq!(chip.write(4, 8), None);
    }
}

#[test]
fn the_next_cpu_with_an_event_is_found_round_the_end() {
    let mut chip = modern(&[(0, true), (1, true), (2, true)]);
    chip.unplug_request(1);
    let _ = chip.write(0, 2);
    let _ = chip.write(5, 0);
    assert_eq!((chip.read(8, 4), chip.read(4, 1)), (1, 5));
    let _ = chip.write(5, 3);
    assert_eq!((chip.read(8, 4), chip.read(0, 4)), (1, 0));
}

#[test]
fn a_module_is_ejected_once() {
    let mut chip = MemoryHotplug::new(2);
    chip.plug(1, MemoryModule { address: 5 << 32, size: 3 << 32, node: 7 }, true);
    let _ = chip.write(0, 1);
    let words: Vec<_> = (0..6).map(|n| chip.read(4 * n)).collect();
    assert_eq!(words, [0, 5, 0, 3, 7, 3]);
    assert_eq!(chip.write(0x14, 8), Some(MemoryHotplugRequest::Eject(1)));
    assert_eq!(chip.write(0x14, 8), None);
    let _ = chip.write(0, 2);
    assert_eq!((chip.read(0x14), chip.write(8, 1)), (0, None));
}

#[test]
fn each_bus_has_pci_slots_of_its_own() {
    let mut chip = PciHotplug::default();
    chip.plug(0, 3);
    chip.unplug_request(0, 5);
    chip.plug(1, 7);
    let _ = chip.write(0x10, 1);
    assert_eq!((chip.read(0), chip.read(0), chip.read(4), chip.read(0x10)), (1 << 7, 0, 0, 1));
    assert_eq!(chip.write(8, 1 << 3), Some(PciHotplugRequest::Eject(1, 3)));
    // No bus has such a number.
    let _ = chip.write(0x10, 256);
    assert_eq!((chip.read(0), chip.read(0xc), chip.write(8, 1), chip.write(0x14, 1)), (0, 0, None, None));
    let _ = chip.write(0x10, 0);
    assert_eq!((chip.read(0), chip.read(0), chip.read(4)), (8, 0, 32));
    assert_eq!(chip.write(8, 1 << 5), Some(PciHotplugRequest::Eject(0, 5)));
    assert_eq!((chip.read(4), chip.write(8, 0)), (0, None));
    assert_eq!(chip.write(0x14, 1 << 4), Some(PciHotplugRequest::Index(0, 4)));
    chip.set_index(77);
    assert_eq!((chip.read(0x14), chip.read(0x14)), (77, 0));
    assert_eq!((chip.reset(1, 0xff), chip.read(0xc)), (0, u64::from(u32::MAX)));
    let _ = chip.write(0x10, 1);
    assert_eq!(chip.read(0xc), 0xff);
}

#[test]
fn without_bridges_all_selects_are_the_root_buss() {
    let mut chip = PciHotplug::default();
    chip.set_legacy(true);
    chip.plug(0, 3);
    let _ = chip.write(0x10, 1);
    // A read clears nothing, as in the machines of old.
    assert_eq!((chip.read(0x10), chip.read(0), chip.read(0)), (0, 8, 8));
    assert_eq!(chip.write(8, 8), Some(PciHotplugRequest::Eject(0, 3)));
    assert_eq!(chip.read(0), 0);
}

proptest! {
    #[test]
    fn any_accesses_are_answered(accesses in prop::collection::vec((any::<bool>(), 0u64..64, any::<u64>(), 1u8..9), 0..200)) {
        let mut cpu = CpuHotplug::new([(0, true), (3, true), (300, false)]);
        let mut memory = MemoryHotplug::new(3);
        let mut pci = PciHotplug::default();
        memory.plug(0, MemoryModule { address: u64::MAX, size: u64::MAX, node: u32::MAX }, true);
        for (write, offset, value, size) in accesses {
            if write {
                let _ = (cpu.write(offset, value), memory.write(offset, value), pci.write(offset, value));
            } else {
                let _ = (cpu.read(offset, size), memory.read(offset), pci.read(offset));
            }
        }
        prop_assert_eq!((cpu.len(), memory.len()), (3, 3));
    }
}
