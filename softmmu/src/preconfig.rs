//! `--preconfig`: the machine is made when a client says so, not at the start.
//!
//! Source: QEMU `softmmu/vl.c` (`qmp_x_exit_preconfig`).

use std::sync::Arc;

use hw_core::numa::options::NumaOptions;
use hw_core::numa::set_numa_options;
use parking_lot::Mutex;
use qom::{Object, Result, bail};

use crate::options::Options;
use crate::vl;

/// What the machine is to be made of.
struct Pending {
    options: Options,
    machine: Arc<dyn Object>,
}

static PENDING: Mutex<Option<Pending>> = Mutex::new(None);

/// Has `x-exit-preconfig` make the machine.
pub fn hold(options: Options, machine: Arc<dyn Object>) {
    *PENDING.lock() = Some(Pending { options, machine });
}

/// Makes the machine and starts it, unless `-S` was given. Mistakes in its options end the program.
#[qapi::command("x-exit-preconfig", preconfig, features("unstable"))]
fn x_exit_preconfig() -> Result<()> {
    let pending = PENDING.lock().take();
    let Some(Pending { options, machine }) = pending else {
        bail!("The command is permitted only before machine initialization")
    };
    if let Err(error) = vl::qmp_x_exit_preconfig(&options, &machine) {
        crate::report(&error);
        vl::qemu_cleanup();
        std::process::exit(1);
    }
    Ok(())
}

/// Adds to the NUMA configuration.
#[qapi::command("set-numa-node", preconfig)]
fn set_numa_node(#[qapi(flatten)] options: NumaOptions) -> Result<()> {
    match PENDING.lock().as_ref() {
        Some(pending) => set_numa_options(&pending.machine, &options),
        None => bail!("The command is permitted only before the machine has been created"),
    }
}
