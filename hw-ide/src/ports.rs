//! A channel's ports: command block, control block, bus master (PIIX3 data sheet, section 2.6; SFF-8038i).

use std::sync::Arc;

use memory::{AccessRules, MemoryRegion, RegionOps};

use crate::bus::IdeBus;
use crate::spec::{bm, reg};

/// The command block. Data is 16 or 32 bits wide, all else bytes.
struct Command(Arc<IdeBus>);

/// Device Control when written, the status without its effects when read.
struct Control(Arc<IdeBus>);

/// The bus master's command and status.
struct BusMaster(Arc<IdeBus>);

/// Where its table is.
struct Table(Arc<IdeBus>);

/// The regions of a channel's command and control blocks.
pub fn channel_regions(bus: &Arc<IdeBus>) -> [MemoryRegion; 2] {
    [
        MemoryRegion::io("ide", 8, Arc::new(Command(bus.clone()))),
        MemoryRegion::io("ide", 1, Arc::new(Control(bus.clone()))),
    ]
}

/// The region of two channels' bus masters.
pub fn bus_master_region(buses: &[Arc<IdeBus>; 2]) -> MemoryRegion {
    let all = MemoryRegion::container("piix-bmdma-container", 16);
    for (bus, at) in buses.iter().zip([0, 8]) {
        all.add_subregion(at, &MemoryRegion::io("piix-bmdma", 4, Arc::new(BusMaster(bus.clone()))));
        all.add_subregion(at + 4, &MemoryRegion::io("bmdma", 4, Arc::new(Table(bus.clone()))));
    }
    all
}

/// All ones, of so many bytes.
fn ones(size: u8) -> u64 {
    u64::MAX >> (64 - 8 * u32::from(size.clamp(1, 8)))
}

impl RegionOps for Command {
    fn read(&self, offset: u64, size: u8) -> u64 {
        let read = |at| u64::from(self.0.change(|channel| channel.read(at)));
        match (offset, size) {
            (_, 1) => read(offset),
            (reg::DATA, _) => self.0.change(|channel| channel.read_data(size.into())),
            (_, 2) => read(offset) | read(offset + 1) << 8,
            _ => ones(size),
        }
    }

    fn write(&self, offset: u64, value: u64, size: u8) {
        let write = |at, value: u64| self.0.change(|channel| channel.write(at, value as u8));
        match (offset, size) {
            (_, 1) => write(offset, value),
            (reg::DATA, _) => self.0.change(|channel| channel.write_data(value, size.into())),
            (_, 2) => {
                write(offset, value);
                write(offset + 1, value >> 8);
            }
            _ => {}
        }
    }

    fn rules(&self) -> AccessRules {
        AccessRules::sizes(1, 4).allow_unaligned()
    }
}

impl RegionOps for Control {
    fn read(&self, _offset: u64, _size: u8) -> u64 {
        self.0.change(|channel| channel.alternate_status()).into()
    }

    fn write(&self, _offset: u64, value: u64, _size: u8) {
        if self.0.look(|channel| channel.begins_reset(value as u8)) {
            self.0.quiesce();
        }
        self.0.change(|channel| channel.write_control(value as u8));
    }

    fn rules(&self) -> AccessRules {
        AccessRules::bytes(4)
    }
}

impl RegionOps for BusMaster {
    fn read(&self, offset: u64, size: u8) -> u64 {
        // A guest that sees the interrupt's bit must find the interrupt raised, whose thread may not be that far.
        let (command, status) = self.0.change(|channel| channel.bus_master());
        match (offset, size) {
            (bm::COMMAND, 1) => command.into(),
            (bm::STATUS, 1) => status.into(),
            _ => ones(size),
        }
    }

    fn write(&self, offset: u64, value: u64, size: u8) {
        match (offset, size) {
            (bm::COMMAND, 1) => {
                if self.0.look(|channel| channel.stops_dma(value as u8)) {
                    // It ends as if it had ended just before.
                    self.0.quiesce();
                }
                self.0.change(|channel| channel.write_bm_command(value as u8));
            }
            (bm::STATUS, 1) => self.0.change(|channel| channel.write_bm_status(value as u8)),
            _ => {}
        }
    }
}

impl RegionOps for Table {
    fn read(&self, offset: u64, size: u8) -> u64 {
        self.0.look(|channel| channel.read_table(offset, size))
    }

    fn write(&self, offset: u64, value: u64, size: u8) {
        self.0.change(|channel| channel.write_table(offset, value, size));
    }
}
