//! The IDT: exceptions end the guest with a FAIL line, every other vector is counted and given to
//! a handler if one is set. Interrupts are taken in long mode, on the stack that runs.

use core::arch::{asm, naked_asm};
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use crate::io::{cli, sti};
use crate::print::Hex;
use crate::{check, pit, say};

/// A handler: it gets the vector, and sends the end-of-interrupt itself.
pub type Handler = fn(u8);

static HANDLERS: [AtomicPtr<()>; 256] = [const { AtomicPtr::new(core::ptr::null_mut()) }; 256];
static COUNTS: [AtomicU32; 256] = [const { AtomicU32::new(0) }; 256];

/// What `common` leaves on the stack, lowest address first.
#[repr(C)]
struct Frame {
    /// The registers a C function may clobber: r11 to r8, rdi, rsi, rdx, rcx, rax.
    registers: [u64; 9],
    vector: u64,
    error: u64,
    rip: u64,
}

/// The gates, two words each.
static IDT: [[AtomicU64; 2]; 256] = [const { [const { AtomicU64::new(0) }; 2] }; 256];

/// Not one function but 256 entries, 16 bytes apart: each pushes an error code where the processor
/// pushed none, then its vector.
#[unsafe(naked)]
extern "C" fn entries() {
    naked_asm!(
        ".balign 16",
        ".set vector, 0",
        ".rept 256",
        ".balign 16",
        ".if (vector - 8) * (vector - 10) * (vector - 11) * (vector - 12) * (vector - 13) * (vector - 14) * (vector - 17)",
        "push 0",
        ".endif",
        "push vector",
        "jmp {common}",
        ".set vector, vector + 1",
        ".endr",
        common = sym common,
    )
}

#[unsafe(naked)]
extern "C" fn common() {
    naked_asm!(
        "push rax", "push rcx", "push rdx", "push rsi", "push rdi",
        "push r8", "push r9", "push r10", "push r11",
        "mov rdi, rsp",
        // The processor aligned the stack before its five words; with the two of the entry and
        // nine here, 16 in all, it is aligned for the call.
        "cld",
        "call {dispatch}",
        "pop r11", "pop r10", "pop r9", "pop r8",
        "pop rdi", "pop rsi", "pop rdx", "pop rcx", "pop rax",
        "add rsp, 16",
        "iretq",
        dispatch = sym dispatch,
    )
}

extern "C" fn dispatch(frame: &Frame) {
    let vector = frame.vector as u8;
    if vector < 32 && vector != 2 {
        let cr2: u64;
        // SAFETY: reading CR2 changes nothing.
        unsafe { asm!("mov {}, cr2", out(reg) cr2, options(nostack, preserves_flags)) };
        say!(
            "FAIL exception vector=",
            frame.vector,
            " error=",
            Hex(frame.error),
            " rip=",
            Hex(frame.rip),
            " cr2=",
            Hex(cr2),
            " rax=",
            Hex(frame.registers[8])
        );
        check::exit(1);
    }
    COUNTS[usize::from(vector)].fetch_add(1, Ordering::SeqCst);
    let handler = HANDLERS[usize::from(vector)].load(Ordering::SeqCst);
    if !handler.is_null() {
        // SAFETY: only set_handler stores here, and it stores a Handler.
        let handler: Handler = unsafe { core::mem::transmute(handler) };
        handler(vector);
    }
}

/// Loads the IDT on this processor.
pub(crate) fn load_idt() {
    for (gate, i) in IDT.iter().zip(0..) {
        let entry = entries as *const () as u64 + i * 16;
        // Present interrupt gate, ring 0, selector 0x18 (start.s).
        let low = entry & 0xffff | 0x18 << 16 | 0x8e00 << 32 | (entry >> 16 & 0xffff) << 48;
        gate[0].store(low, Ordering::Relaxed);
        gate[1].store(entry >> 32, Ordering::Relaxed);
    }
    load_idt_register(size_of_val(&IDT) as u16 - 1);
}

/// Loads the IDT register with a limit: one too short for any gate makes the next exception a
/// triple fault.
pub fn load_idt_register(limit: u16) {
    #[repr(C, packed)]
    struct Register(u16, u64);
    let register = Register(limit, crate::io::address_of(&IDT));
    // SAFETY: the table is static and its gates lead to the entries above.
    unsafe { asm!("lidt [{}]", in(reg) &raw const register, options(nostack, preserves_flags)) };
}

/// Sets the handler of a vector and its count to 0.
pub fn set_handler(vector: u8, handler: Handler) {
    COUNTS[usize::from(vector)].store(0, Ordering::SeqCst);
    HANDLERS[usize::from(vector)].store(handler as *mut (), Ordering::SeqCst);
}

/// How often a vector has been taken since its handler was set, on all processors together.
pub fn count(vector: u8) -> u32 {
    COUNTS[usize::from(vector)].load(Ordering::SeqCst)
}

/// Milliseconds after which what has not come does not: generous, as the host's threads that bring it may have to wait
/// for others on a busy machine.
pub const PATIENCE: u32 = 20_000;

/// Takes interrupts until `done` holds or about `ms` milliseconds are over; whether it holds.
/// The time is PIT channel 2's, which raises no interrupt.
pub fn wait(ms: u32, done: impl Fn() -> bool) -> bool {
    for _ in 0..ms {
        if done() {
            return true;
        }
        sti();
        pit::delay_ms(1);
        cli();
    }
    done()
}

/// Takes interrupts until a vector was taken `times` or `ms` milliseconds are over; whether it was.
pub fn wait_count(ms: u32, vector: u8, times: u32) -> bool {
    wait(ms, || count(vector) >= times)
}
