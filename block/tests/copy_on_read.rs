//! `copy-on-read`, by drives and by the filter: what is read is the image's own afterwards, and nothing else.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use block::BlockNode;
use block::node::{self, Inherited};
use block::options::BlockdevOptions;
use qapi::{At, QapiType};
use serde_json::{Value, json};
use tempfile::TempDir;

const CLUSTER: usize = 64 << 10;
/// Clusters of the disk; the last one is half a cluster.
const CLUSTERS: usize = 12;
const SIZE: usize = CLUSTERS * CLUSTER - CLUSTER / 2;

fn qemu_img(arguments: &[&str]) {
    let status = Command::new("qemu-img").args(arguments).stdout(std::process::Stdio::null()).status();
    assert!(status.expect("qemu-img can be run (package qemu-utils)").success(), "qemu-img {arguments:?}");
}

/// A chain of images: `base` has all clusters but the third, filled with their number, `middle` the first two, filled
/// with 0x80 and their number, `top` has nothing.
struct Chain(TempDir);

impl Chain {
    fn new() -> Chain {
        let chain = Chain(tempfile::tempdir().expect("a folder"));
        let base = chain.text("base");
        qemu_img(&["create", "-q", "-f", "qcow2", &base, &SIZE.to_string()]);
        let write = |path: &str, cluster: usize, fill: u8| {
            let node = open(json!({ "driver": "qcow2", "file": { "driver": "file", "filename": path } }));
            let at = cluster * CLUSTER;
            node.expect("it opens").pwrite(at as u64, &vec![fill; CLUSTER.min(SIZE - at)]).expect("a write");
        };
        (0..CLUSTERS).filter(|n| *n != 2).for_each(|n| write(&base, n, n as u8));
        for (name, below) in [("middle", "base"), ("top", "middle")] {
            let (path, below) = (chain.text(name), chain.text(below));
            qemu_img(&["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", &below, &path]);
        }
        (0..2).for_each(|n| write(&chain.text("middle"), n, 0x80 | n as u8));
        chain
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    fn top(&self) -> Value {
        json!({ "driver": "qcow2", "file": { "driver": "file", "filename": self.path("top") } })
    }

    /// What the top has without those below.
    fn own(&self) -> Vec<u8> {
        let (top, raw) = (self.text("top"), self.text("raw"));
        qemu_img(&["check", &top]);
        qemu_img(&["rebase", "-u", "-b", "", &top]);
        qemu_img(&["convert", "-f", "qcow2", "-O", "raw", &top, &raw]);
        std::fs::read(Path::new(&raw)).expect("the copy")
    }
}

/// The disk as the guest reads it.
fn disk() -> Vec<u8> {
    let of = |n: usize| match n {
        0 | 1 => 0x80 | n as u8,
        2 => 0,
        _ => n as u8,
    };
    (0..SIZE).map(|at| of(at / CLUSTER)).collect()
}

fn open_as(options: Value, inherited: Inherited) -> qom::Result<Arc<BlockNode>> {
    node::open(&BlockdevOptions::from_json(options, At::Top)?, inherited)
}

fn open(options: Value) -> qom::Result<Arc<BlockNode>> {
    open_as(options, Inherited::default())
}

/// Only these clusters of the disk, zeroes elsewhere.
fn only(clusters: &[usize]) -> Vec<u8> {
    let mut all = disk();
    for (n, cluster) in all.chunks_mut(CLUSTER).enumerate() {
        if !clusters.contains(&n) {
            cluster.fill(0);
        }
    }
    all
}

fn read(node: &BlockNode, start: usize, end: usize) {
    let mut data = vec![0xaa; end - start];
    node.pread(start as u64, &mut data).expect("a read");
    assert!(data == disk()[start..end], "{start:#x} to {end:#x}");
}

#[test]
fn what_is_read_is_the_images_own_afterwards() {
    let filter = |top| json!({ "driver": "copy-on-read", "file": top });
    let over_raw = |top| filter(json!({ "driver": "raw", "file": top }));
    for how in ["flag", "filter", "filter over raw"] {
        let chain = Chain::new();
        let node = match how {
            "filter" => open(filter(chain.top())),
            "filter over raw" => open(over_raw(chain.top())),
            _ => open_as(chain.top(), Inherited { copy_on_read: true, ..Inherited::default() }),
        };
        let node = node.expect("it opens");
        // Parts of clusters: all of them come. The second is written meanwhile, which stays.
        read(&node, CLUSTER / 2, CLUSTER + 512);
        node.pwrite(CLUSTER as u64, &[0x55; 512]).expect("a write");
        read(&node, 2 * CLUSTER, 4 * CLUSTER);
        read(&node, SIZE - 512, SIZE);
        drop(node);
        let mut expected = only(&[0, 1, 2, 3, CLUSTERS - 1]);
        expected[CLUSTER..CLUSTER + 512].fill(0x55);
        assert!(chain.own() == expected, "by {how}");
    }
}

#[test]
fn nothing_below_the_bottom_is_copied() {
    let chain = Chain::new();
    let middle = json!({ "driver": "qcow2", "node-name": "middle", "read-only": true,
        "file": { "driver": "file", "filename": chain.path("middle") } });
    let keep = open(middle).expect("it opens");
    let mut top = chain.top();
    top["backing"] = "middle".into();
    let filter = json!({ "driver": "copy-on-read", "file": top, "bottom": "middle" });
    let node = open(filter).expect("it opens");
    read(&node, 0, SIZE);
    drop((node, keep));
    assert!(chain.own() == only(&[0, 1]));
}

#[test]
fn what_is_written_meanwhile_is_not_lost() {
    let chain = Chain::new();
    let node = open_as(chain.top(), Inherited { copy_on_read: true, ..Inherited::default() });
    let node = node.expect("it opens");
    thread::scope(|scope| {
        scope.spawn(|| {
            for at in (0..SIZE).step_by(512) {
                let mut data = [0; 512];
                node.pread(at as u64, &mut data).expect("a read");
            }
        });
        scope.spawn(|| {
            for at in (0..SIZE).step_by(1024) {
                node.pwrite(at as u64, &[0x99; 512]).expect("a write");
            }
        });
    });
    drop(node);
    let mut expected = disk();
    expected.chunks_mut(1024).for_each(|pair| pair[..512].fill(0x99));
    assert!(chain.own() == expected);
}

#[test]
fn mistakes_are_told_in_qemus_words() {
    let chain = Chain::new();
    let refused = |more: Value| {
        let mut options = json!({ "driver": "copy-on-read", "file": chain.top() });
        options.as_object_mut().expect("it is").extend(more.as_object().expect("it is").clone());
        open(options).map(drop).expect_err("it is refused").message
    };
    assert_eq!(refused(json!({ "bottom": "nobody" })), "Bottom node 'nobody' not found");
    assert_eq!(refused(json!({ "read-only": true })), "Block node is read-only");
    let by_flag = Inherited { copy_on_read: true, read_only: true, ..Inherited::default() };
    let error = open_as(chain.top(), by_flag).map(drop).expect_err("it is refused");
    assert_eq!(error.message, "Can't use copy-on-read on read-only device");
}
