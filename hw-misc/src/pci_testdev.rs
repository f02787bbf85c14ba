//! `pci-testdev`: registers with and without an eventfd behind them, for kvm-unit-tests' VM-exit benchmark.
//!
//! Sources: QEMU `docs/specs/pci-testdev.txt`, `hw/misc/pci-testdev.c`.

use std::sync::{Arc, OnceLock, Weak};

use hw_core::{DeviceCategory, DeviceClass, DeviceImpl, VmState, vmstate};
use hw_pci::spec::{CLASS_OTHERS, VENDOR_ID_REDHAT};
use hw_pci::{BarKind, PciDevice, PciDeviceClass, PciDeviceImpl};
use memory::{AccessRules, IoEventFd, MemoryRegion, RegionOps};
use parking_lot::Mutex;
use qom::{Class, Error, Object, Property, Result, Size, bail};
use serde::{Deserialize, Serialize};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Device id.
const DEVICE_ID: u16 = 0x0005;
/// Tests of each kind.
const TESTS: [&str; 3] = ["no-eventfd", "wildcard-eventfd", "datamatch-eventfd"];
/// The test that any value counts for.
const WILDCARD: usize = 1;
/// Kinds, with where their tests' registers begin; as much lies before for the header.
const KINDS: [(&str, u32); 2] = [("mmio", 2048), ("portio", 128)];
/// The value that counts.
const DATA_MATCH: u8 = 0xfa;
/// What the header says where any value does.
const DATA_ANY: u8 = 0xce;
/// The header's part before the name (`struct pci_testdev_hdr`).
const HEADER_SIZE: usize = 16;

/// What is going on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// The test chosen, by number among those of both kinds.
    current: Option<usize>,
    /// Writes that came to each test by way of us.
    counts: [u32; KINDS.len() * TESTS.len()],
}

/// The device.
#[derive(Object)]
#[object(name = "pci-testdev", parent = PciDevice, class_init = class_init)]
pub struct PciTestdev {
    parent: PciDevice,
    /// Size of a further memory BAR, with nothing behind it
    #[property]
    membar: Property<Size>,
    state: Mutex<State>,
    regions: OnceLock<[MemoryRegion; KINDS.len()]>,
    /// The eventfd of the test chosen, where it has one.
    eventfd: Mutex<Option<(usize, IoEventFd)>>,
}
qom::type_init!(PciTestdev);

fn class_init(class: &mut Class) {
    let device = class.get_mut::<DeviceClass>();
    device.desc = "PCI Test Device";
    device.category = Some(DeviceCategory::Misc);
    let pci = class.get_mut::<PciDeviceClass>();
    (pci.vendor_id, pci.device_id) = (VENDOR_ID_REDHAT, DEVICE_ID);
    pci.class_id = CLASS_OTHERS;
    vmstate::register::<PciTestdev>(class);
}

fn kind(test: usize) -> usize {
    test / TESTS.len()
}

fn takes_any(test: usize) -> bool {
    test % TESTS.len() == WILDCARD
}

/// The register of a test.
fn offset(test: usize) -> u32 {
    KINDS.get(kind(test)).map_or(0, |(_, base)| base + test as u32)
}

fn data(test: usize) -> u8 {
    if takes_any(test) { DATA_ANY } else { DATA_MATCH }
}

/// The header as the guest reads it while a test is chosen.
fn header(test: usize, count: u32) -> Vec<u8> {
    let name = format!("{}-{}", KINDS[kind(test) % KINDS.len()].0, TESTS[test % TESTS.len()]);
    let mut header = vec![test as u8, 1, 0, 0];
    header.extend(offset(test).to_le_bytes());
    header.extend([data(test), 0, 0, 0]);
    header.extend(count.to_le_bytes());
    debug_assert_eq!(header.len(), HEADER_SIZE);
    header.extend(name.bytes());
    header
}

impl PciTestdev {
    /// Ends the test that is on, and begins `test`.
    fn choose(&self, test: Option<usize>) -> Result<()> {
        let mut eventfd = self.eventfd.lock();
        if let (Some((kind, fd)), Some(regions)) = (eventfd.take(), self.regions.get()) {
            regions[kind].del_eventfd(&fd);
        }
        self.state.lock().current = test;
        let Some(test) = test.filter(|test| test % TESTS.len() != 0) else { return Ok(()) };
        let fd =
            EventFd::new(EFD_NONBLOCK).map_err(|e| Error::new(format!("pci-testdev: no eventfd: {e}")))?;
        let fd = IoEventFd {
            address: offset(test).into(),
            // A write of any size to memory needs no decoding by KVM, which is what is to be measured.
            size: if takes_any(test) && kind(test) == 0 { 0 } else { 1 },
            data: (!takes_any(test)).then(|| DATA_MATCH.into()),
            eventfd: Arc::new(fd),
        };
        if let Some(region) = self.regions.get().and_then(|regions| regions.get(kind(test))) {
            region.add_eventfd(fd.clone());
            *eventfd = Some((kind(test), fd));
        }
        Ok(())
    }

    fn write(&self, kind: usize, offset_written: u64, value: u8) {
        let mut state = self.state.lock();
        if offset_written == 0 {
            let test = usize::from(value);
            let test = (test < TESTS.len()).then_some(kind * TESTS.len() + test);
            if let Some(count) = test.and_then(|test| state.counts.get_mut(test)) {
                *count = 0;
            }
            drop(state);
            if let Err(error) = self.choose(test) {
                util::error_report!("{error}");
            }
            return;
        }
        let Some(test) = state.current else { return };
        if offset_written == u64::from(offset(test))
            && (takes_any(test) || value == DATA_MATCH)
            && let Some(count) = state.counts.get_mut(test)
        {
            *count = count.wrapping_add(1);
        }
    }

    fn read(&self, offset: u64) -> u8 {
        let state = self.state.lock();
        let Some(test) = state.current else { return 0 };
        let header = header(test, state.counts.get(test).copied().unwrap_or_default());
        header.get(offset as usize).copied().unwrap_or(0)
    }
}

impl DeviceImpl for PciTestdev {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let region = |kind: usize| {
            let (name, size) = KINDS[kind];
            let registers = Registers { device: Arc::downgrade(self), kind };
            MemoryRegion::io(&format!("pci-testdev-{name}"), u64::from(size) * 2, Arc::new(registers))
        };
        let regions = [region(0), region(1)];
        self.register_bar(0, BarKind::Memory32, &regions[0]);
        self.register_bar(1, BarKind::Io, &regions[1]);
        let membar = self.membar.get().0;
        if membar != 0 {
            if !membar.is_power_of_two() {
                bail!("pci-testdev: membar must be a power of two");
            }
            let region = MemoryRegion::container("pci-testdev-membar", membar.into());
            self.register_bar(2, BarKind::Memory64Prefetch, &region);
        }
        let _ = self.regions.set(regions);
        Ok(())
    }

    fn unrealize(self: &Arc<Self>) {
        self.reset_hold();
    }

    fn reset_hold(&self) {
        // Without a test there is no eventfd, which is all that can fail.
        let _ = self.choose(None);
    }
}

impl PciDeviceImpl for PciTestdev {}

impl VmState for PciTestdev {
    type State = State;

    fn save(&self) -> Option<State> {
        Some(self.state.lock().clone())
    }

    fn load(&self, state: State) -> Result<()> {
        if state.current.is_some_and(|test| test >= state.counts.len()) {
            bail!("pci-testdev has no such test");
        }
        let current = state.current;
        *self.state.lock() = state;
        self.choose(current)
    }
}

/// One of the two BARs; the device is held weakly, as it holds the region.
struct Registers {
    device: Weak<PciTestdev>,
    kind: usize,
}

impl RegionOps for Registers {
    fn read(&self, offset: u64, _size: u8) -> u64 {
        self.device.upgrade().map_or(0, |device| device.read(offset)).into()
    }

    fn write(&self, offset: u64, value: u64, _size: u8) {
        if let Some(device) = self.device.upgrade() {
            device.write(self.kind, offset, value as u8);
        }
    }

    fn rules(&self) -> AccessRules {
        AccessRules::bytes(4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_says_where_to_write_what() {
        assert_eq!(header(0, 3), b"\x00\x01\0\0\x00\x08\0\0\xfa\0\0\0\x03\0\0\0mmio-no-eventfd");
        assert_eq!(header(4, 0), b"\x04\x01\0\0\x84\x00\0\0\xce\0\0\0\x00\0\0\0portio-wildcard-eventfd");
    }
}
