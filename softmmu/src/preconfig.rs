//! `--preconfig`: the machine is made when a client says so, not at the start.
//!
//! Source: QEMU `softmmu/vl.c` (`qmp_x_exit_preconfig`).

use std::sync::Arc;

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
