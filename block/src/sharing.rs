//! Who may use a medium at the same time: other programs, and other backends here.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use qom::{Result, bail};

use crate::backend::{BlockBackend, all_backends};
use crate::node::BlockNode;

impl BlockBackend {
    /// Keeps other programs from writing to the medium, and to those that [`BlockBackend::insert_alone`] puts in later,
    /// until the device is done with it.
    ///
    /// # Errors
    /// For the user: another has it.
    pub fn keep_writers_out(&self) -> Result<()> {
        self.check_shared(false)?;
        if let Some(node) = self.node() {
            node.driver().keep_writers_out(false)?;
        }
        self.alone.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether others that use the medium here, and this one, may do so at the same time; `shares_writes` says whether
    /// this one lets others write (`bdrv_parent_perms_conflict`).
    ///
    /// # Errors
    /// For the user: who has it for itself.
    pub fn check_shared(&self, shares_writes: bool) -> Result<()> {
        // Nobody writes to a read-only node.
        let Some(node) = self.node().filter(|node| !node.is_read_only()) else { return Ok(()) };
        let is_other = |other: &Arc<BlockBackend>| {
            let uses = other.node().is_some_and(|its| Arc::ptr_eq(&its, &node));
            uses && other.is_attached() && !std::ptr::eq(&**other, self)
        };
        for other in all_backends().into_iter().filter(is_other) {
            let (writer, alone) = match (shares_writes, other.alone.load(Ordering::Acquire)) {
                (false, _) => (&*other, self),
                (true, true) => (self, &*other),
                (true, false) => continue,
            };
            let name = node.node_name();
            bail!(
                "Permission conflict on node '{name}': permissions 'write' are both required by {} (uses node '{name}' as \
                 'root' child) and unshared by {} (uses node '{name}' as 'root' child).",
                writer.description(),
                alone.description()
            );
        }
        Ok(())
    }

    /// Who it is in messages (`blk_root_get_parent_desc`).
    fn description(&self) -> String {
        match (self.name(), self.device()) {
            ("", None) => "an unnamed block device".to_owned(),
            ("", Some(device)) => format!("block device '{}'", device.id()),
            (name, _) => format!("block device '{name}'"),
        }
    }

    /// Puts a medium in, as the device shares it (`blk_insert_bs`).
    ///
    /// # Errors
    /// For the user: another has it.
    pub fn insert_alone(&self, node: Arc<BlockNode>) -> Result<()> {
        if self.alone.load(Ordering::Acquire) {
            node.driver().keep_writers_out(false)?;
        }
        self.insert(node);
        Ok(())
    }
}
