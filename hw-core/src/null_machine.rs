//! The machine `none`: nothing but an accelerator and a CPU that is asked for, for tools that ask questions.
//!
//! Source: QEMU `hw/core/null-machine.c`.

use std::sync::Arc;

use qom::{Class, Object, Result, bail};

use crate::device::qdev_create;
use crate::machine::{Machine, MachineClass, MachineImpl};

/// The machine.
#[derive(Object)]
#[object(name = "none-machine", parent = Machine, class_init = class_init)]
pub struct NullMachine {
    parent: Machine,
}
qom::type_init!(NullMachine);

fn class_init(class: &mut Class) {
    let machine = class.get_mut::<MachineClass>();
    machine.name = "none";
    machine.desc = "empty machine";
    machine.max_cpus = 1;
    machine.default_ram_size = 0;
    machine.default_ram_id = Some("ram");
}

impl MachineImpl for NullMachine {
    fn init(self: &Arc<Self>) -> Result<()> {
        if let Some(cpu_type) = &self.config().cpu_type {
            // Only if the user asked for one.
            qdev_create(cpu_type, None, &[])?;
        }
        if let Some(ram) = self.ram() {
            memory::get_system_memory().add_subregion(0, ram);
        }
        if self.kernel.get().is_some() {
            bail!("The -kernel parameter is not supported (use the generic 'loader' device instead).");
        }
        Ok(())
    }
}
