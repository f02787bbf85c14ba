//! A view as vm-memory's [`GuestMemory`]: what rings of virtio devices and other users of that crate reach memory
//! through.
//!
//! A [`FlatView`] is a picture that does not change, so what was looked up in it stays valid as long as it is held,
//! whatever happens to the map. Whoever wants the map of now takes a new one ([`crate::AddressSpace::view`]).

use std::iter::FusedIterator;

use vm_memory::guest_memory::{Error, GuestMemorySliceIterator, Result};
use vm_memory::{GuestAddress, GuestMemory, GuestMemoryMmap, Permissions, VolatileSlice};

use crate::FlatView;

/// The pieces of memory that a range of addresses is made of. The first address that is no memory ends it with an
/// error.
struct Slices<'a> {
    view: &'a FlatView,
    address: u64,
    left: u64,
    access: Permissions,
}

impl<'a> Slices<'a> {
    fn piece(&self) -> Option<VolatileSlice<'a>> {
        let range = self.view.lookup(self.address)?;
        let ram = match self.access.has_write() {
            true => range.writable_ram(),
            false => range.readable_ram(),
        }?;
        let len = self.left.min((range.last - self.address).saturating_add(1));
        ram.slice(self.address - range.start + range.offset, len)
    }
}

impl<'a> Iterator for Slices<'a> {
    type Item = Result<VolatileSlice<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let Some(piece) = self.piece() else {
            self.left = 0;
            return Some(Err(Error::InvalidGuestAddress(GuestAddress(self.address))));
        };
        self.left -= piece.len() as u64;
        match self.address.checked_add(piece.len() as u64) {
            Some(next) => self.address = next,
            None if self.left == 0 => {}
            None => {
                self.left = 0;
                return Some(Err(Error::GuestAddressOverflow));
            }
        }
        Some(Ok(piece))
    }
}

impl FusedIterator for Slices<'_> {}
impl<'a> GuestMemorySliceIterator<'a, ()> for Slices<'a> {}

impl GuestMemory for FlatView {
    /// What is below a view is no vm-memory type; nothing asks for it.
    type PhysicalMemory = GuestMemoryMmap<()>;
    type Bitmap = ();

    fn check_range(&self, address: GuestAddress, count: usize, access: Permissions) -> bool {
        Slices { view: self, address: address.0, left: count as u64, access }.all(|piece| piece.is_ok())
    }

    fn get_slices<'a>(
        &'a self,
        address: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Result<impl GuestMemorySliceIterator<'a, ()>> {
        Ok(Slices { view: self, address: address.0, left: count as u64, access })
    }
}
