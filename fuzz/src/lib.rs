//! What is fuzzed: functions that take any bytes and panic where something is wrong.
//!
//! `cargo xtask fuzz TARGET` runs one under libFuzzer (`libfuzzer/`, a workspace of its own: its flags are for all of
//! a workspace). The files in `corpus/TARGET/`, which we wrote, are where it begins; the tests try each of them, too. A
//! new target is a file here, a line in [`TARGETS`] and such a folder.
#![forbid(unsafe_code)]

mod config;
mod ide;
mod options;
mod p9;
mod qcow2;
mod qmp;
mod qtest;
mod virtio;

/// Something to fuzz.
pub struct Target {
    /// What `cargo xtask fuzz` and the corpus call it.
    pub name: &'static str,
    /// Takes an input.
    pub run: fn(&[u8]),
    /// Words that its inputs are made of, which would not be found by chance.
    pub words: fn() -> Vec<String>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "config", run: config::run, words: options::words },
    Target { name: "options", run: options::run, words: options::words },
    Target { name: "9p", run: p9::run, words: p9::words },
    Target { name: "ide", run: ide::run, words: ide::words },
    Target { name: "qcow2", run: qcow2::run, words: qcow2::words },
    Target { name: "qmp", run: qmp::run, words: qmp::words },
    Target { name: "qtest", run: qtest::run, words: qtest::words },
    Target { name: "virtio-balloon", run: virtio::balloon, words: virtio::words },
    Target { name: "virtio-blk", run: virtio::blk, words: virtio::words },
    Target { name: "virtio-input", run: virtio::input, words: virtio::words },
    Target { name: "virtio-net", run: virtio::net, words: virtio::words },
    Target { name: "virtio-rng", run: virtio::rng, words: virtio::words },
    Target { name: "virtio-scsi", run: virtio::scsi, words: virtio::words },
    Target { name: "virtio-serial", run: virtio::serial, words: virtio::words },
];

/// The target of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
