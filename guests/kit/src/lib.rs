//! What the bare-metal test guests share: a start from three boot protocols, serial output, checks
//! with stable output lines, interrupts, timers, buses and tables of a PC.
//!
//! A guest owns its machine, so ports and physical memory are reached through safe functions; the
//! addresses named are devices, firmware tables or free RAM, never a Rust object.
//! Nothing here uses `core::fmt`: the shipped libcore formats with SSE instructions, which KVM's
//! instruction emulator lacks.
#![no_std]

use core::arch::global_asm;

pub mod acpi;
pub mod apic;
pub mod boot;
pub mod check;
pub mod fw_cfg;
pub mod hpet;
pub mod interrupts;
pub mod io;
mod libc;
pub mod paging;
pub mod pci;
pub mod pic;
pub mod pit;
pub mod print;
pub mod rtc;
pub mod smp;
pub mod virtio;

global_asm!(include_str!("headers.s"), options(att_syntax));
global_asm!(include_str!("start.s"), options(att_syntax));

/// Names the function that is the guest: `fn(&BootInfo)`. When it returns, the guest leaves
/// through the debug-exit port with 0 if every check passed, 1 if one failed.
#[macro_export]
macro_rules! guest {
    ($main:ident) => {
        // SAFETY: the symbol is the kit's own and each guest defines it once.
        #[unsafe(no_mangle)]
        extern "Rust" fn guest_main(info: &$crate::boot::BootInfo) {
            let main: fn(&$crate::boot::BootInfo) = $main;
            main(info)
        }
    };
}

unsafe extern "Rust" {
    fn guest_main(info: &boot::BootInfo);
}

/// Where start.s arrives in long mode.
///
/// # Safety
/// `information` must be what the loader of `protocol` left.
// SAFETY: start.s is the only user of the symbol.
#[unsafe(no_mangle)]
unsafe extern "C" fn kit_start(protocol: u32, information: u64) -> ! {
    print::init();
    // Firmware leaves IRQ 0 on, at a vector of the exceptions.
    pic::remap();
    interrupts::load_idt();
    // SAFETY: the caller's promise.
    let info = unsafe { boot::BootInfo::read(protocol, information) };
    // SAFETY: guest! defines it with this signature.
    unsafe { guest_main(&info) };
    check::finish()
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    match info.location() {
        Some(at) => say!("FAIL panic ", at.file(), ":", u64::from(at.line())),
        None => say!("FAIL panic"),
    }
    check::exit(1)
}
