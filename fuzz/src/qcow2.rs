//! qcow2 images that mean no good: opened, read, written, resized and closed.

use std::fs;

use block::BlockNode;
use block::node::Inherited;

/// Bytes of a header that name a backing file, which could be any file of the host's.
const BACKING: std::ops::Range<usize> = 8..20;
/// Bytes of an operation: what, where, how much.
const OPERATION: usize = 4;
/// Most operations.
const MOST: usize = 16;

/// What headers and their extensions begin with.
pub(crate) fn words() -> Vec<String> {
    const WORDS: [&str; 10] = [
        "QFI\u{fb}",
        "\0\0\0\u{2}",
        "\0\0\0\u{3}",
        "\0\0\0\t",
        "\0\0\0\u{10}",
        "\0\0\0h",
        "Eshc",
        "dirty bit",
        "corrupt bit",
        "raw",
    ];
    WORDS.map(str::to_owned).into()
}

/// The first byte says how many operations follow; the rest is the image.
pub(crate) fn run(data: &[u8]) {
    let Some((&count, rest)) = data.split_first() else { return };
    let operations = usize::from(count).min(MOST) * OPERATION;
    let Some((operations, image)) = rest.split_at_checked(operations) else { return };
    let mut image = image.to_vec();
    if let Some(backing) = image.get_mut(BACKING) {
        backing.fill(0);
    }
    let file = tempfile::NamedTempFile::new_in("/dev/shm").expect("a file in memory");
    fs::write(file.path(), image).expect("a file in memory");
    let Some(path) = file.path().to_str() else { return };
    // Once with what the first left.
    for _ in 0..2 {
        let mode = Inherited { unmap: true, ..Inherited::default() };
        let Ok(node) = block::filename::open(path, Some("qcow2"), mode) else { return };
        operations.chunks_exact(OPERATION).for_each(|operation| carry_out(&node, operation));
        let _ = node.flush();
    }
}

/// Does what four bytes say; that it fails is fine.
fn carry_out(node: &BlockNode, operation: &[u8]) {
    let &[what, place, fraction, amount] = operation else { return };
    let size = node.length().unwrap_or(0);
    let offset = (size >> 8).saturating_mul(place.into()) + u64::from(fraction) * 256;
    let bytes = (u64::from(amount) * 256).min(size.saturating_sub(offset));
    let mut buffer = vec![what; bytes as usize];
    match what % 8 {
        0..=2 => drop(node.pread(offset, &mut buffer)),
        3 | 4 => drop(node.pwrite(offset, &buffer)),
        5 => drop(node.pwrite_zeroes(offset, bytes, place % 2 == 0)),
        6 => drop(node.pdiscard(offset, bytes)),
        _ => drop(node.truncate(u64::from(place) << 16 | u64::from(fraction) << 9)),
    }
    // What it tells of itself.
    let _ = (node.driver().image_details(), node.driver().allocated_size());
}
