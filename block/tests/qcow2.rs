//! Images that `qemu-img` makes, and what `qemu-img` says of them after we have written to them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use block::BlockNode;
use block::node::Inherited;
use tempfile::TempDir;

/// Runs `qemu-img`; what it printed.
fn qemu_img(arguments: &[&str]) -> String {
    let output =
        Command::new("qemu-img").args(arguments).output().expect("qemu-img can be run (package qemu-utils)");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "qemu-img {arguments:?}: {text}");
    text
}

/// A folder for images.
struct Images(TempDir);

impl Images {
    fn new() -> Self {
        Images(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Makes an image with options of `qemu-img create`.
    fn create(&self, name: &str, options: &[&str], size: &str) -> PathBuf {
        let path = self.path(name);
        let text = path.to_str().unwrap().to_owned();
        qemu_img(&[&["create", "-q", "-f", "qcow2"], options, &[text.as_str(), size]].concat());
        path
    }

    /// The contents, as `qemu-img` reads them.
    fn contents(&self, image: &Path) -> Vec<u8> {
        let raw = self.path("contents.raw");
        qemu_img(&["convert", "-f", "qcow2", "-O", "raw", image.to_str().unwrap(), raw.to_str().unwrap()]);
        std::fs::read(raw).unwrap()
    }
}

fn open(path: &Path) -> Arc<BlockNode> {
    let mode = Inherited { unmap: true, ..Inherited::default() };
    block::filename::open(path.to_str().unwrap(), None, mode).unwrap()
}

fn check(path: &Path) {
    let text = qemu_img(&["check", path.to_str().unwrap()]);
    assert!(text.contains("No errors were found"), "{text}");
}

/// Numbers that look random, the same each time (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Does `steps` random things to a disk and to a model of it, which must agree all the time.
fn exercise(node: &BlockNode, model: &mut [u8], numbers: &mut Numbers, steps: u32, discards: bool) {
    let size = model.len() as u64;
    for step in 0..steps {
        let offset = numbers.below(size / 512) * 512;
        let bytes = (1 + numbers.below(400)) * 512;
        let bytes = bytes.min(size - offset);
        let range = offset as usize..(offset + bytes) as usize;
        match numbers.below(10) {
            0..=3 => {
                let data: Vec<u8> = (0..bytes).map(|n| (n as u32 ^ step) as u8 | 1).collect();
                node.pwrite(offset, &data).unwrap();
                model[range].copy_from_slice(&data);
            }
            4 => {
                node.pwrite_zeroes(offset, bytes, numbers.below(2) == 0).unwrap();
                model[range].fill(0);
            }
            5 if discards => {
                node.pdiscard(offset, bytes).unwrap();
                // What was discarded is zeroes or what it was; from now on it is what it is.
                let mut now = vec![0; bytes as usize];
                node.pread(offset, &mut now).unwrap();
                let same = now.iter().zip(&model[range.clone()]).all(|(new, old)| *new == 0 || new == old);
                assert!(same, "step {step}");
                model[range].copy_from_slice(&now);
            }
            6 => node.flush().unwrap(),
            _ => {
                let mut data = vec![0xaa; bytes as usize];
                node.pread(offset, &mut data).unwrap();
                assert!(data == model[range], "step {step}: read at {offset:#x}, {bytes:#x} bytes");
            }
        }
    }
}

fn random_writes_are_what_qemu_img_reads(options: &[&str], size: usize) {
    let images = Images::new();
    let path = images.create("a.qcow2", options, &size.to_string());
    let mut model = vec![0; size];
    let mut numbers = Numbers(0x1234_5678);
    for _ in 0..3 {
        let node = open(&path);
        exercise(&node, &mut model, &mut numbers, 300, true);
        drop(node);
        check(&path);
        assert!(images.contents(&path) == model);
    }
}

#[test]
fn version_3_with_the_default_cluster_size() {
    random_writes_are_what_qemu_img_reads(&[], 16 << 20);
}

#[test]
fn version_2() {
    random_writes_are_what_qemu_img_reads(&["-o", "compat=0.10"], 16 << 20);
}

#[test]
fn small_clusters_whose_counts_need_more_tables() {
    random_writes_are_what_qemu_img_reads(&["-o", "cluster_size=512"], (12 << 20) + 512);
}

#[test]
fn large_clusters_and_wide_and_narrow_counts() {
    random_writes_are_what_qemu_img_reads(&["-o", "cluster_size=2M,refcount_bits=64"], 16 << 20);
    random_writes_are_what_qemu_img_reads(&["-o", "cluster_size=4k,refcount_bits=1"], (4 << 20) + 1024);
    random_writes_are_what_qemu_img_reads(&["-o", "lazy_refcounts=on,preallocation=metadata"], 8 << 20);
}

#[test]
fn a_chain_shows_what_is_below_and_changes_only_the_top() {
    let images = Images::new();
    let base = images.create("base.qcow2", &[], "4M");
    let mut model = vec![0; 8 << 20];
    let node = open(&base);
    exercise(&node, &mut model[..4 << 20], &mut Numbers(7), 200, false);
    drop(node);
    let before = std::fs::read(&base).unwrap();
    for (name, options) in [("v3.qcow2", "compat=1.1"), ("v2.qcow2", "compat=0.10")] {
        // A relative name is from the image's own folder.
        let top = images.create(name, &["-b", "base.qcow2", "-F", "qcow2", "-o", options], "8M");
        let mut model = model.clone();
        let node = open(&top);
        exercise(&node, &mut model, &mut Numbers(9), 300, true);
        assert_eq!(node.backing().unwrap().driver().format_name(), "qcow2");
        drop(node);
        check(&top);
        assert!(images.contents(&top) == model, "{options}");
    }
    assert!(std::fs::read(&base).unwrap() == before);
}

#[test]
fn compressed_clusters_are_read_and_replaced() {
    let images = Images::new();
    let plain = images.create("plain.qcow2", &[], "4M");
    let mut model = vec![0; 4 << 20];
    let node = open(&plain);
    exercise(&node, &mut model, &mut Numbers(3), 200, false);
    drop(node);
    let packed = images.path("packed.qcow2");
    qemu_img(&["convert", "-c", "-O", "qcow2", plain.to_str().unwrap(), packed.to_str().unwrap()]);
    let node = open(&packed);
    let mut all = vec![0xaa; model.len()];
    node.pread(0, &mut all).unwrap();
    assert!(all == model);
    exercise(&node, &mut model, &mut Numbers(5), 300, true);
    drop(node);
    check(&packed);
    assert!(images.contents(&packed) == model);
}

#[test]
fn what_a_snapshot_holds_stays() {
    let images = Images::new();
    let path = images.create("a.qcow2", &[], "4M");
    let mut model = vec![0; 4 << 20];
    let mut numbers = Numbers(11);
    let node = open(&path);
    exercise(&node, &mut model, &mut numbers, 200, true);
    drop(node);
    let then = model.clone();
    qemu_img(&["snapshot", "-c", "then", path.to_str().unwrap()]);
    let node = open(&path);
    exercise(&node, &mut model, &mut numbers, 300, true);
    drop(node);
    check(&path);
    assert!(images.contents(&path) == model);
    qemu_img(&["snapshot", "-a", "then", path.to_str().unwrap()]);
    assert!(images.contents(&path) == then);
}

#[test]
fn a_disk_grows_and_shrinks() {
    let images = Images::new();
    let path = images.create("a.qcow2", &["-o", "cluster_size=4k"], "1M");
    let node = open(&path);
    let mut model = vec![0; 1 << 20];
    let mut numbers = Numbers(13);
    for size in [(5 << 20) + 512, (2 << 20) - 1024, 9 << 20] {
        exercise(&node, &mut model, &mut numbers, 100, true);
        node.truncate(size as u64).unwrap();
        model.resize(size, 0);
        assert_eq!(node.length().unwrap(), size as u64);
    }
    exercise(&node, &mut model, &mut numbers, 100, true);
    drop(node);
    check(&path);
    assert!(images.contents(&path) == model);
}

/// What is on the host's disk when the program is killed at any moment: a copy of the file as it is then.
#[test]
fn a_copy_of_the_file_has_what_was_flushed_and_is_whole() {
    let images = Images::new();
    for options in ["compat=1.1", "compat=0.10"] {
        let path = images.create(&format!("{options}.qcow2"), &["-o", options], "16M");
        let node = open(&path);
        let mut model = vec![0; 16 << 20];
        let mut numbers = Numbers(17);
        for round in 0..8 {
            exercise(&node, &mut model, &mut numbers, 20, true);
            node.flush().unwrap();
            let copy = images.path("copy.qcow2");
            std::fs::copy(&path, &copy).unwrap();
            check(&copy);
            assert!(images.contents(&copy) == model, "{options}, round {round}");
            // And after more that was not flushed, what is there is still whole.
            exercise(&node, &mut model.clone(), &mut Numbers(round + 1), 20, false);
            std::fs::copy(&path, &copy).unwrap();
            check(&copy);
            let again = open(&copy);
            let mut all = vec![0; 16 << 20];
            again.pread(0, &mut all).unwrap();
            drop(again);
            check(&copy);
            node.pread(0, &mut model).unwrap();
        }
    }
}

#[test]
fn counts_are_made_anew_where_the_mark_says_that_they_may_be_wrong() {
    let images = Images::new();
    let path = images.create("a.qcow2", &[], "16M");
    let node = open(&path);
    let mut model = vec![0; 16 << 20];
    exercise(&node, &mut model, &mut Numbers(19), 100, true);
    node.flush().unwrap();
    let copy = images.path("copy.qcow2");
    std::fs::copy(&path, &copy).unwrap();
    let mut bytes = std::fs::read(&copy).unwrap();
    assert_eq!(bytes[79] & 1, 1, "the mark is set while the image is open");
    // The block of counts, lost.
    bytes[2 << 16..3 << 16].fill(0);
    std::fs::write(&copy, bytes).unwrap();
    drop(open(&copy));
    check(&copy);
    assert!(images.contents(&copy) == model);
    assert_eq!(std::fs::read(&copy).unwrap()[79] & 1, 0, "the mark is gone when it was closed");
}

#[test]
fn two_writers_are_refused() {
    let images = Images::new();
    let path = images.create("a.qcow2", &[], "1M");
    let name = path.to_str().unwrap();
    let _node = open(&path);
    let error = block::filename::open(name, None, Inherited::default()).unwrap_err();
    assert_eq!(error.message, "Failed to get \"write\" lock");
    assert_eq!(error.hint.unwrap(), format!("Is another process using the image [{name}]?"));
    let info = Command::new("qemu-img").args(["info", name]).output().unwrap();
    let text = String::from_utf8_lossy(&info.stderr).into_owned();
    assert!(text.contains("Failed to get shared \"write\" lock"), "{text}");
}

#[test]
fn images_that_make_no_sense_are_refused_or_fail() {
    let images = Images::new();
    let path = images.create("a.qcow2", &[], "16M");
    let node = open(&path);
    exercise(&node, &mut vec![0; 16 << 20], &mut Numbers(23), 100, true);
    drop(node);
    let good = std::fs::read(&path).unwrap();
    let mut numbers = Numbers(29);
    let bad = images.path("bad.qcow2");
    for _ in 0..80 {
        let mut bytes = good.clone();
        for _ in 0..1 + numbers.below(4) {
            // Header and tables are where it hurts.
            let at = match numbers.below(3) {
                0 => numbers.below(112),
                _ => numbers.below(5 << 16),
            };
            let at = (at as usize).min(bytes.len() - 1);
            bytes[at] = numbers.below(256) as u8;
        }
        std::fs::write(&bad, &bytes).unwrap();
        let mode = Inherited { unmap: true, ..Inherited::default() };
        let Ok(node) = block::filename::open(bad.to_str().unwrap(), Some("qcow2"), mode) else { continue };
        let size = node.length().unwrap().min(16 << 20);
        for _ in 0..20 {
            let offset = numbers.below(size.max(1));
            let mut data = vec![1; numbers.below(200_000).min(size - offset.min(size)) as usize];
            // Whatever they say: nothing panics, hangs or takes all memory.
            let _ = (node.pread(offset, &mut data), node.pwrite(offset, &data), node.flush());
            let _ = node.pdiscard(offset, data.len() as u64);
        }
    }
}
