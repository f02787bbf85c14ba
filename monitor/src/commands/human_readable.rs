//! What the human monitor's `info` tells, as text for whoever shows it to people.
//!
//! Source: QEMU `qapi/machine.json`, `HumanReadableText`.

use qapi::QapiType;
use qom::{Error, Result};

use crate::hmp;

/// A text for people, whose form may change.
#[derive(QapiType)]
struct HumanReadableText {
    /// The text.
    human_readable_text: String,
}

fn info(item: &str) -> Result<HumanReadableText> {
    let text = hmp::run(&format!("info {item}"));
    match text.strip_prefix("Error: ") {
        Some(error) => Err(Error::new(error.trim_end())),
        None => Ok(HumanReadableText { human_readable_text: text }),
    }
}

/// The counts of interrupt controllers, as `info irq` tells them.
#[qapi::command("x-query-irq", features("unstable"))]
fn x_query_irq() -> Result<HumanReadableText> {
    info("irq")
}

/// What a compiler of guest code has made, as `info jit` tells it.
#[qapi::command("x-query-jit", features("unstable"))]
fn x_query_jit() -> Result<HumanReadableText> {
    info("jit")
}

/// The machine's NUMA nodes, as `info numa` tells them.
#[qapi::command("x-query-numa", features("unstable"))]
fn x_query_numa() -> Result<HumanReadableText> {
    info("numa")
}

/// Counts of a compiler of guest code, as `info opcount` tells them.
#[qapi::command("x-query-opcount", features("unstable"))]
fn x_query_opcount() -> Result<HumanReadableText> {
    info("opcount")
}

/// Where the program spends its time, as `info profile` tells it.
#[qapi::command("x-query-profile", features("unstable"))]
fn x_query_profile() -> Result<HumanReadableText> {
    info("profile")
}

/// Blocks of guest memory, as `info ramblock` tells them.
#[qapi::command("x-query-ramblock", features("unstable"))]
fn x_query_ramblock() -> Result<HumanReadableText> {
    info("ramblock")
}

/// The state of RDMA, as `info rdma` tells it.
#[qapi::command("x-query-rdma", features("unstable"))]
fn x_query_rdma() -> Result<HumanReadableText> {
    info("rdma")
}

/// Contents of ROMs, as `info roms` tells them.
#[qapi::command("x-query-roms", features("unstable"))]
fn x_query_roms() -> Result<HumanReadableText> {
    info("roms")
}

/// USB devices, as `info usb` tells them.
#[qapi::command("x-query-usb", features("unstable"))]
fn x_query_usb() -> Result<HumanReadableText> {
    info("usb")
}
