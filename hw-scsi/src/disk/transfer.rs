//! Reads, writes, UNMAP and WRITE SAME (SBC-3, chapter 5).

use block::backend::Op;

use super::{Disk, Medium, be};
use crate::cdb::Cdb;
use crate::plan::{Plan, Step, StepData};
use crate::sense::Sense;
use crate::spec::op::*;

/// Bytes of a descriptor of UNMAP's.
const UNMAP_DESCRIPTOR: usize = 16;
/// Bytes before the descriptors.
const UNMAP_HEADER: usize = 8;

/// Whether a command reads or writes blocks.
pub(super) fn moves_blocks(opcode: u8) -> bool {
    is_read(opcode) || is_write(opcode)
}

fn is_read(opcode: u8) -> bool {
    matches!(opcode, READ_6 | READ_10 | READ_12 | READ_16)
}

fn is_write(opcode: u8) -> bool {
    matches!(opcode, WRITE_6 | WRITE_10 | WRITE_12 | WRITE_16) || is_write_verify(opcode)
}

fn is_write_verify(opcode: u8) -> bool {
    matches!(opcode, WRITE_VERIFY_10 | WRITE_VERIFY_12 | WRITE_VERIFY_16)
}

/// Whether a command goes to the medium, not the cache (`scsi_is_cmd_fua`).
fn forces_unit_access(cdb: &Cdb) -> bool {
    match cdb.opcode() {
        READ_6 | WRITE_6 => false,
        opcode => is_write_verify(opcode) || cdb.byte(1) & 8 != 0,
    }
}

impl Disk {
    /// (`scsi_disk_dma_command`)
    pub(super) fn transfer(&self, cdb: &Cdb, medium: &Medium) -> Result<Plan, Sense> {
        if !self.is_available(medium) {
            return Err(Sense::NO_MEDIUM);
        }
        let reads = is_read(cdb.opcode());
        if !reads && !self.is_writable(medium) {
            return Err(Sense::WRITE_PROTECTED);
        }
        // The bits are the logical unit in commands of 6 bytes, and of old; protection information there is none.
        if cdb.byte(1) & 0xe0 != 0 && self.conf.scsi_version > 2 {
            return Err(Sense::INVALID_FIELD);
        }
        let (lba, blocks) = (cdb.lba(), cdb.blocks());
        if !self.is_in_range(lba, blocks) {
            return Err(Sense::LBA_OUT_OF_RANGE);
        }
        if blocks == 0 {
            return Ok(Plan::of([]));
        }
        let operation = if reads { Op::Read } else { Op::Write };
        let (offset, bytes) = (self.bytes(lba), self.bytes(blocks));
        let step = Step { op: operation, offset, bytes, data: StepData::Guest };
        let flush = Step::without_data(Op::Flush, 0, 0);
        Ok(match (forces_unit_access(cdb), reads) {
            (false, _) => Plan::of([step]),
            // What is cached is written first, so that the medium is what is read.
            (true, true) => Plan::of([flush, step]),
            (true, false) => Plan::of([step, flush]),
        })
    }

    fn is_writable(&self, medium: &Medium) -> bool {
        medium.is_writable && !self.conf.is_rom
    }

    /// (`scsi_disk_emulate_unmap`)
    pub(super) fn unmap(&self, cdb: &Cdb, data: &[u8], medium: &Medium) -> Result<Plan, Sense> {
        if cdb.byte(1) & 1 != 0 {
            // Anchored blocks.
            return Err(Sense::INVALID_FIELD);
        }
        let (all, descriptors) = (be(data, 0, 2) as usize, be(data, 2, 2) as usize);
        let fits = data.len() >= UNMAP_HEADER
            && data.len() >= all + 2
            && data.len() >= descriptors + UNMAP_HEADER
            && descriptors.is_multiple_of(UNMAP_DESCRIPTOR);
        if !fits {
            return Err(Sense::INVALID_PARAM_LEN);
        }
        if !self.is_writable(medium) {
            return Err(Sense::WRITE_PROTECTED);
        }
        let descriptors = data.get(UNMAP_HEADER..UNMAP_HEADER + descriptors).unwrap_or_default();
        let mut steps = Vec::new();
        for descriptor in descriptors.chunks_exact(UNMAP_DESCRIPTOR) {
            let (lba, blocks) = (be(descriptor, 0, 8), be(descriptor, 8, 4));
            if !self.is_in_range(lba, blocks) {
                let mut plan = Plan::of(steps);
                plan.failure = Some(Sense::LBA_OUT_OF_RANGE);
                return Ok(plan);
            }
            steps.push(Step::without_data(Op::Discard, self.bytes(lba), self.bytes(blocks)));
        }
        Ok(Plan::of(steps))
    }

    /// (`scsi_disk_emulate_write_same`)
    pub(super) fn write_same(&self, cdb: &Cdb, data: &[u8], medium: &Medium) -> Result<Plan, Sense> {
        let blocks = cdb.blocks();
        // Neither what puts addresses into the blocks, nor anchored ones.
        if blocks == 0 || cdb.byte(1) & 0x16 != 0 {
            return Err(Sense::INVALID_FIELD);
        }
        if !self.is_writable(medium) {
            return Err(Sense::WRITE_PROTECTED);
        }
        let lba = cdb.lba();
        if !self.is_in_range(lba, blocks) {
            return Err(Sense::LBA_OUT_OF_RANGE);
        }
        let (offset, bytes) = (self.bytes(lba), self.bytes(blocks));
        let has_block = cdb.byte(1) & 1 == 0;
        if has_block && data.iter().any(|byte| *byte != 0) {
            return Plan::repeat(offset, bytes, data).ok_or(Sense::TARGET_FAILURE);
        }
        let may_unmap = cdb.byte(1) & 8 != 0;
        Ok(Plan::of([Step::without_data(Op::WriteZeroes { may_unmap }, offset, bytes)]))
    }
}
