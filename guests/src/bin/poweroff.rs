//! ACPI S5: SLP_TYPa from the DSDT's `\_S5`, written with SLP_EN to PM1a control.
#![no_std]
#![no_main]

use kit::boot::BootInfo;
use kit::check::{equal, fail};
use kit::interrupts::PATIENCE;
use kit::{acpi, pit};

kit::guest!(main);

fn main(_: &BootInfo) {
    let Some(fadt) = acpi::Fadt::find() else { return fail("fadt", 0) };
    equal("sci-enabled", fadt.enable().into(), 1);
    let Some(sleep_type) = fadt.sleep_type(b"_S5_") else { return fail("s5-package", fadt.dsdt.length()) };
    kit::say!("poweroff");
    fadt.sleep(sleep_type);
    for _ in 0..PATIENCE {
        pit::delay_ms(1);
    }
    fail("still-running", sleep_type.into());
}
