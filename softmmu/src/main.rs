//! The program `softmmu`: QEMU's command line, a PC on KVM.
//!
//! `main` walks QEMU's three phases: [`vl::qemu_init`], [`main_loop::qemu_main_loop`], [`vl::qemu_cleanup`].
#![forbid(unsafe_code)]

// Crates whose devices and objects users name; without a mention they would not be linked.
use {
    crypto as _, hw_block as _, hw_char as _, hw_i386 as _, hw_misc as _, hw_net as _, hw_pci_bridge as _,
    hw_scsi as _, hw_virtio as _, hw_watchdog as _,
};

use std::process::ExitCode;

use softmmu::{main_loop, report, vl};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // The message should reach a terminal that shows it.
        chardev::restore_terminal();
        hook(info);
    }));
    let result = match vl::qemu_init(&arguments) {
        Ok(vl::Init::Done) => return ExitCode::SUCCESS,
        Ok(vl::Init::Running(program)) => {
            let result = main_loop::qemu_main_loop();
            vl::qemu_cleanup();
            drop(program);
            result
        }
        Err(error) => {
            vl::qemu_cleanup();
            Err(error)
        }
    };
    match result {
        Ok(status) => ExitCode::from(status as u8),
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}
