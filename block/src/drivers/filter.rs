//! Filters: drivers that pass requests on to one node below, with something done before.

use std::io;

use qom::Result;

use crate::breakpoints::Breakpoints;
use crate::driver::{BlockDriver, Child, DebugEvent, IoVec, iov_size};
use crate::options::BlkdebugIOType;

/// A filter; it is a driver by this.
pub(super) trait Filter: Send + Sync {
    /// Its name as a driver.
    const FORMAT: &'static str;

    /// What requests are passed on to.
    fn below(&self) -> &Child;

    /// Called before a request is passed on, which may wait for this.
    ///
    /// # Errors
    /// The request's end.
    fn before(&self, what: BlkdebugIOType, offset: u64, bytes: u64) -> io::Result<()>;

    /// A name that opens the same again, where one line of text does.
    fn name_of_file(&self) -> Option<String> {
        None
    }

    /// Lets go what waits for its turn; whether anything ever does.
    fn let_go(&self) -> bool {
        self.below().node.driver().release()
    }

    /// Where requests can be held, for tests.
    fn own_breakpoints(&self) -> Option<&Breakpoints> {
        None
    }

    /// A moment in the work of the driver above, before the one below hears of it.
    fn notice(&self, event: DebugEvent) {
        let _ = event;
    }
}

impl<F: Filter> BlockDriver for F {
    fn format_name(&self) -> &'static str {
        F::FORMAT
    }

    fn length(&self) -> io::Result<u64> {
        self.below().node.length()
    }

    fn preadv(&self, offset: u64, to: IoVec<'_, '_>) -> io::Result<()> {
        self.before(BlkdebugIOType::Read, offset, iov_size(to))?;
        self.below().node.preadv(offset, to)
    }

    fn pwritev(&self, offset: u64, from: IoVec<'_, '_>) -> io::Result<()> {
        self.before(BlkdebugIOType::Write, offset, iov_size(from))?;
        self.below().node.pwritev(offset, from)
    }

    fn pwrite_zeroes(&self, offset: u64, bytes: u64, may_unmap: bool) -> io::Result<()> {
        self.before(BlkdebugIOType::WriteZeroes, offset, bytes)?;
        self.below().node.pwrite_zeroes(offset, bytes, may_unmap)
    }

    fn pdiscard(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.before(BlkdebugIOType::Discard, offset, bytes)?;
        self.below().node.pdiscard(offset, bytes)
    }

    fn flush(&self) -> io::Result<()> {
        self.before(BlkdebugIOType::Flush, 0, 0)?;
        self.below().node.flush()
    }

    fn truncate(&self, size: u64) -> Result<()> {
        self.below().node.truncate(size)
    }

    fn allocation(&self, offset: u64, bytes: u64) -> io::Result<(bool, u64)> {
        self.below().node.driver().allocation(offset, bytes)
    }

    fn populate(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.below().node.populate(offset, bytes)
    }

    fn children(&self) -> Vec<&Child> {
        vec![self.below()]
    }

    fn filename(&self) -> Option<String> {
        self.name_of_file()
    }

    fn breakpoints(&self) -> Option<&Breakpoints> {
        self.own_breakpoints()
    }

    fn release(&self) -> bool {
        self.let_go()
    }

    fn debug_event(&self, event: DebugEvent) {
        self.notice(event);
        self.below().node.driver().debug_event(event);
    }
}
