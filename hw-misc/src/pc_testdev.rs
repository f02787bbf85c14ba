//! `pc-testdev`: ports and memory that keep what is written, and a way to raise any ISA line, for
//! kvm-unit-tests.
//!
//! Source: QEMU `hw/misc/pc-testdev.c`.

use std::sync::Arc;

use hw_core::{DeviceCategory, DeviceClass, DeviceImpl, VmState, vmstate};
use hw_isa::{IsaBus, IsaDevice};
use memory::{AccessLimits, AccessRules, MemoryRegion, RegionOps, address_space_memory};
use parking_lot::Mutex;
use qom::{Class, Object, Result, bail};
use serde::{Deserialize, Serialize};

/// A word that is read back.
const IOPORT: u32 = 0xe0;
/// A page whose host mapping is to be taken away and given back.
const FLUSH: u32 = 0xe4;
/// The same word as a byte.
const IOPORT_BYTE: u32 = 0xe8;
/// One port for each interrupt line.
const IRQ: u32 = 0x2000;
/// Number of interrupt lines.
const IRQ_LINES: u32 = 24;
/// Memory that is answered by handlers.
const IOMEM: u64 = 0xff00_0000;
/// Its size.
const IOMEM_SIZE: usize = 0x10000;

/// The device.
#[derive(Object)]
#[object(name = "pc-testdev", parent = IsaDevice, class_init = class_init)]
pub struct PcTestdev {
    parent: IsaDevice,
    word: Mutex<u32>,
    iomem: Mutex<Vec<u8>>,
}
qom::type_init!(PcTestdev);

fn class_init(class: &mut Class) {
    class.get_mut::<DeviceClass>().category = Some(DeviceCategory::Misc);
    vmstate::register::<PcTestdev>(class);
}

impl DeviceImpl for PcTestdev {
    fn realize(self: &Arc<Self>) -> Result<()> {
        *self.iomem.lock() = vec![0; IOMEM_SIZE];
        let bus = self.isa_bus()?;
        let this = || self.clone();
        self.register_ioport(Arc::new(Word(this(), 4)), "pc-testdev-ioport", IOPORT, 4)?;
        self.register_ioport(Arc::new(Word(this(), 1)), "pc-testdev-ioport-byte", IOPORT_BYTE, 4)?;
        self.register_ioport(Arc::new(Flush), "pc-testdev-flush-page", FLUSH, 4)?;
        self.register_ioport(Arc::new(IrqLines(bus.clone())), "pc-testdev-irq-line", IRQ, IRQ_LINES)?;
        let iomem = MemoryRegion::io("pc-testdev-iomem", IOMEM_SIZE as u64, Arc::new(IoMem(this())));
        bus.memory().add_subregion(IOMEM, &iomem);
        Ok(())
    }
}

/// What it saves.
#[derive(Debug, Serialize, Deserialize)]
pub struct PcTestdevState {
    word: u32,
    iomem: Vec<u8>,
}

impl VmState for PcTestdev {
    type State = PcTestdevState;

    fn save(&self) -> Option<PcTestdevState> {
        Some(PcTestdevState { word: *self.word.lock(), iomem: self.iomem.lock().clone() })
    }

    fn load(&self, state: PcTestdevState) -> Result<()> {
        if state.iomem.len() != IOMEM_SIZE {
            bail!("the state has {} bytes of memory instead of {IOMEM_SIZE}", state.iomem.len());
        }
        *self.word.lock() = state.word;
        *self.iomem.lock() = state.iomem;
        Ok(())
    }
}

struct Word(Arc<PcTestdev>, u8);

impl RegionOps for Word {
    fn read(&self, offset: u64, _size: u8) -> u64 {
        // The memory core takes as many bytes as were asked for.
        (*self.0.word.lock() >> ((offset & 3) * 8)).into()
    }

    fn write(&self, offset: u64, value: u64, size: u8) {
        let shift = (offset & 3) * 8;
        let mask = (u32::MAX >> (32 - 8 * u32::from(size.clamp(1, 4)))) << shift;
        let mut word = self.0.word.lock();
        *word = *word & !mask | (value as u32) << shift & mask;
    }

    fn rules(&self) -> AccessRules {
        // The byte port's handlers take single bytes, wider accesses are made of them.
        let implemented = AccessLimits::new(1, self.1);
        AccessRules { implemented, ..AccessRules::sizes(1, 4) }
    }
}

/// Has the host take a page's mapping away and give it back, so that KVM's shadow of it is dropped.
struct Flush;

impl RegionOps for Flush {
    fn read(&self, _offset: u64, _size: u8) -> u64 {
        0
    }

    fn write(&self, _offset: u64, value: u64, _size: u8) {
        let address = value & !0xfff;
        let view = address_space_memory().view();
        if let Some(range) = view.lookup(address)
            && let Some(ram) = range.writable_ram()
        {
            ram.drop_host_mapping(address - range.start + range.offset, 0x1000);
        }
    }

    fn rules(&self) -> AccessRules {
        AccessRules::sizes(4, 4)
    }
}

struct IrqLines(Arc<IsaBus>);

impl RegionOps for IrqLines {
    fn read(&self, _offset: u64, _size: u8) -> u64 {
        0
    }

    fn write(&self, offset: u64, value: u64, _size: u8) {
        if let Some(irq) = self.0.irq(offset as u32) {
            irq.set(value != 0);
        }
    }

    fn rules(&self) -> AccessRules {
        AccessRules::sizes(1, 1)
    }
}

struct IoMem(Arc<PcTestdev>);

impl RegionOps for IoMem {
    fn read(&self, offset: u64, size: u8) -> u64 {
        let mut value = [0; 8];
        let memory = self.0.iomem.lock();
        let bytes = memory.iter().skip(offset as usize).take(size.into());
        value.iter_mut().zip(bytes).for_each(|(v, b)| *v = *b);
        u64::from_le_bytes(value)
    }

    fn write(&self, offset: u64, value: u64, size: u8) {
        let mut memory = self.0.iomem.lock();
        let bytes = memory.iter_mut().skip(offset as usize).take(size.into());
        bytes.zip(value.to_le_bytes()).for_each(|(b, v)| *b = v);
    }

    fn rules(&self) -> AccessRules {
        AccessRules::sizes(1, 8).allow_unaligned()
    }
}
