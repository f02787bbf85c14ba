//! New images (block/qcow2.c, `qcow2_co_create`): for `snapshot=on`.

use std::io;

use super::header::{MAGIC, V3_LENGTH};

/// Bits of a cluster's size, as `qemu-img create` has it.
const CLUSTER_BITS: u32 = 16;

/// The first clusters of an image of `size` bytes without data: header, table of counts, a block of counts, table of
/// addresses. It names no backing file: whoever opens it says what is below.
///
/// # Errors
/// A size that no image has.
pub fn create(size: u64) -> io::Result<Vec<u8>> {
    let cluster = 1u64 << CLUSTER_BITS;
    let l1_size = size.div_ceil(1 << (2 * CLUSTER_BITS - 3));
    let l1_clusters = (l1_size * 8).div_ceil(cluster).max(1);
    let used = 3 + l1_clusters;
    // The one block of counts has room for so many.
    if used > cluster / 2 || size > crate::node::MAX_LENGTH {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut image = vec![0; (used * cluster) as usize];
    let mut put =
        |at: u64, bytes: &[u8]| image[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    put(0, &MAGIC.to_be_bytes());
    put(4, &3u32.to_be_bytes());
    put(20, &CLUSTER_BITS.to_be_bytes());
    put(24, &size.to_be_bytes());
    put(36, &(l1_size as u32).to_be_bytes());
    put(40, &(3 * cluster).to_be_bytes());
    put(48, &cluster.to_be_bytes());
    put(56, &1u32.to_be_bytes());
    put(96, &4u32.to_be_bytes());
    put(100, &(V3_LENGTH as u32).to_be_bytes());
    put(cluster, &(2 * cluster).to_be_bytes());
    (0..used).for_each(|n| put(2 * cluster + n * 2, &1u16.to_be_bytes()));
    Ok(image)
}
