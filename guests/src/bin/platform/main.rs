//! The rest of the board: system ports, fw_cfg, PCI and its chipset, tables, and clocks against
//! each other. On the command line, `debugcon` says that a debug console is there, `strict` asks for
//! the hardware's behaviour where QEMU's differs.
#![no_std]
#![no_main]

use kit::boot::BootInfo;

mod bios;
mod chipset;
mod clocks;
mod firmware;
mod ports;
mod tables;

kit::guest!(main);

fn main(info: &BootInfo) {
    bios::check();
    ports::check(info);
    firmware::check();
    chipset::check(info);
    tables::check(info);
    clocks::check();
}
