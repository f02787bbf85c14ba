//! Starting application processors (Intel SDM volume 3, section 9.4.4).

use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use crate::{apic, interrupts, io, pit};

/// The page real mode starts in: free memory below 1 MiB on every PC once the loader's structures
/// have been read.
const TRAMPOLINE: u64 = 0x8000;
/// Processors there are stacks for (start.s).
pub const MAXIMUM: u32 = 64;

static MAIN: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());
static STARTED: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" {
    static ap_trampoline: u8;
    static ap_trampoline_end: u8;
}

/// How many processors have reached their main function.
pub fn started() -> u32 {
    STARTED.load(Ordering::SeqCst)
}

/// Puts the trampoline in place and sets the function that started processors run, with their
/// number from 0 in order of arrival, the local APIC enabled. It may return: they then halt.
pub fn prepare(main: fn(u32)) {
    MAIN.store(main as *mut (), Ordering::SeqCst);
    let (start, end) = (
        io::address_of(symbol(&raw const ap_trampoline)),
        io::address_of(symbol(&raw const ap_trampoline_end)),
    );
    for at in start..end {
        io::write8(TRAMPOLINE + at - start, io::read8(at));
    }
}

fn symbol(at: *const u8) -> &'static u8 {
    // SAFETY: start.s defines the symbols in read-only data.
    unsafe { &*at }
}

/// INIT, then two start-up interrupts, to one processor or, with [`apic::OTHERS`] in `shorthand`,
/// to all others.
pub fn start(apic_id: u8, shorthand: u32) {
    apic::send(apic_id, shorthand | apic::INIT);
    pit::delay_ms(10);
    for _ in 0..2 {
        apic::send(apic_id, shorthand | apic::STARTUP | (TRAMPOLINE >> 12) as u32);
        pit::delay_ms(1);
    }
}

/// Where start.s arrives on an application processor.
// SAFETY: start.s is the only user of the symbol.
#[unsafe(no_mangle)]
extern "C" fn kit_ap_start(number: u32) {
    interrupts::load_idt();
    apic::enable();
    STARTED.fetch_add(1, Ordering::SeqCst);
    let main = MAIN.load(Ordering::SeqCst);
    if !main.is_null() {
        // SAFETY: only prepare stores here, and it stores a fn(u32).
        let main: fn(u32) = unsafe { core::mem::transmute(main) };
        main(number);
    }
}
