//! The commands of QMP, one file a subject; `qapi::command` registers each.
//!
//! What needs the CPU's or the board's own knowledge is defined where that is: `target-i386`, `softmmu`. A
//! command about something that no machine of this program has answers as QEMU 7.2 does of a machine without it.

mod absent;
mod balloon;
mod chardev;
mod chardev_types;
mod cpus;
mod human;
mod human_readable;
mod machine;
mod memory;
pub(crate) mod migration;
mod object_options;
mod objects;
pub(crate) mod pci;
mod qdev;
mod run_state;
pub(crate) mod stats;
mod trace;
mod ui;

use std::sync::Arc;

use hw_core::Cpu;
use hw_core::cpu::cpu_list;
use qom::{Error, Object, Result, bail};

/// The CPU of an index, the first without one (`qemu_get_cpu`).
fn cpu_of(index: Option<i64>) -> Result<Arc<dyn Object>> {
    let wanted = index.unwrap_or_default();
    let found =
        cpu_list().into_iter().find(|cpu| cpu.cast::<Cpu>().is_some_and(|c| i64::from(c.index()) == wanted));
    match found {
        Some(cpu) => Ok(cpu),
        None => bail!("Parameter 'cpu-index' expects a CPU number"),
    }
}

fn unsupported() -> Error {
    Error::new("this feature or command is not currently supported")
}
