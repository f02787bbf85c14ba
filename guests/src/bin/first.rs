//! Its first instruction is an exit: `out` to port 0x80. Then it sends `F` to COM1 and leaves.
//! For the time from exec to the guest's first instruction. Uses the kit's headers, not its start.
#![no_std]
#![no_main]

use core::arch::global_asm;

global_asm!(include_str!("../../kit/src/headers.s"), options(att_syntax));
global_asm!(
    "
    .text
    .code32
    .globl linux_start, multiboot_start, pvh_start
linux_start:
multiboot_start:
pvh_start:
    outb %al, $0x80
    movw $0x3f8, %dx
    movb $'F', %al
    outb %al, %dx
    movb $'\\n', %al
    outb %al, %dx
    xorl %eax, %eax
    outl %eax, $0xf4
1:  hlt
    jmp 1b
    .code64
    ",
    options(att_syntax)
);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
