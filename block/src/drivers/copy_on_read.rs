//! `copy-on-read`: a filter that has an image keep what is read from its backing files (block/copy-on-read.c).

use std::io;
use std::sync::Arc;

use qom::{Result, bail};

use super::filter::Filter;
use crate::driver::Child;
use crate::node::{self, BlockNode, Inherited};
use crate::options::{BlkdebugIOType, BlockdevOptionsCor};

/// The filter.
pub struct CopyOnRead {
    file: Child,
    /// The last of the backing files that is copied from; all are where there is none.
    bottom: Option<Child>,
}

/// The next backing file below a node, and below the filters on top of it.
fn backing_below(node: &Arc<BlockNode>) -> Option<Arc<BlockNode>> {
    let mut node = node.clone();
    while let Some(below) = node.filtered() {
        node = below;
    }
    node.backing()
}

impl CopyOnRead {
    pub(crate) fn open(options: &BlockdevOptionsCor, mode: Inherited) -> Result<Self> {
        let file = node::open_ref(&options.file, mode)?;
        if file.is_read_only() {
            bail!("Block node is read-only");
        }
        let bottom = options.bottom.as_deref().map(|name| Self::bottom(&file, name)).transpose()?;
        Ok(CopyOnRead {
            file: Child::new("file", file),
            bottom: bottom.map(|node| Child::new("bottom", node)),
        })
    }

    fn bottom(file: &Arc<BlockNode>, name: &str) -> Result<Arc<BlockNode>> {
        let Some(bottom) = node::find_node(name) else { bail!("Bottom node '{name}' not found") };
        if bottom.filtered().is_some() {
            bail!("Bottom node '{name}' is a filter");
        }
        let mut below = Some(file.clone());
        while let Some(node) = below {
            if Arc::ptr_eq(&node, &bottom) {
                return Ok(bottom);
            }
            below = backing_below(&node);
        }
        bail!("Bottom node '{name}' is not in the chain of backing files")
    }

    /// Whether the bytes from `offset` are in a backing file that may be copied from, and for how many that is so.
    fn is_above_bottom(&self, bottom: &Arc<BlockNode>, offset: u64, bytes: u64) -> io::Result<(bool, u64)> {
        let (mut node, mut bytes) = (backing_below(&self.file.node), bytes);
        if Arc::ptr_eq(&self.file.node, bottom) {
            return Ok((false, bytes));
        }
        while let Some(layer) = node {
            let length = layer.length()?;
            if offset < length {
                let (own, len) = layer.driver().allocation(offset, bytes.min(length - offset))?;
                if own {
                    return Ok((true, len));
                }
                bytes = bytes.min(len);
            }
            if Arc::ptr_eq(&layer, bottom) {
                break;
            }
            node = backing_below(&layer);
        }
        Ok((false, bytes))
    }

    fn copy(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let Some(bottom) = &self.bottom else { return self.file.node.populate(offset, bytes) };
        let mut done = 0;
        while done < bytes {
            let at = offset + done;
            let (own, mut len) = self.file.node.driver().allocation(at, bytes - done)?;
            if !own {
                let (wanted, part) = self.is_above_bottom(&bottom.node, at, len)?;
                len = part;
                if wanted {
                    self.file.node.populate(at, len)?;
                }
            }
            done += len.max(1);
        }
        Ok(())
    }
}

impl Filter for CopyOnRead {
    const FORMAT: &'static str = "copy-on-read";

    fn below(&self) -> &Child {
        &self.file
    }

    fn before(&self, what: BlkdebugIOType, offset: u64, bytes: u64) -> io::Result<()> {
        if what == BlkdebugIOType::Read { self.copy(offset, bytes) } else { Ok(()) }
    }
}
