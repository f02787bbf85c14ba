//! READ CAPACITY (SBC-3, sections 5.15 and 5.16).

use super::{Answer, Disk, Medium, put};
use crate::cdb::Cdb;
use crate::sense::Sense;

impl Disk {
    /// The last block, which is remembered: the guest knows of no more. `pmi` is the byte of the command that says
    /// that a block is given.
    fn last_block(&mut self, cdb: &Cdb, pmi: u8, medium: &Medium) -> Result<u64, Sense> {
        let Some(last) = self.blocks(medium).checked_sub(1) else { return Err(Sense::LUN_NOT_READY) };
        if pmi & 1 == 0 && cdb.lba() != 0 {
            return Err(Sense::INVALID_FIELD);
        }
        self.state.max_lba = last;
        Ok(last)
    }

    pub(super) fn read_capacity_10(&mut self, cdb: &Cdb, medium: &Medium) -> Answer {
        let last = u32::try_from(self.last_block(cdb, cdb.byte(8), medium)?).unwrap_or(u32::MAX);
        Ok([last.to_be_bytes(), self.state.block_size.to_be_bytes()].concat())
    }

    pub(super) fn read_capacity_16(&mut self, cdb: &Cdb, medium: &Medium) -> Answer {
        let last = self.last_block(cdb, cdb.byte(14), medium)?;
        let mut bytes = vec![0; 32];
        put(&mut bytes, 0, &last.to_be_bytes());
        put(&mut bytes, 8, &self.state.block_size.to_be_bytes());
        let sizes = &self.conf.sizes;
        let exponent = (sizes.physical / sizes.logical.max(1)).max(1).ilog2();
        put(&mut bytes, 13, &[exponent as u8]);
        if self.conf.discard_granularity > 0 {
            // Blocks can be unmapped.
            put(&mut bytes, 14, &[0x80]);
        }
        Ok(bytes)
    }
}
