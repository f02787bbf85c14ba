//! Registers and code bytes as text, in QEMU's layout (`target/i386/cpu-dump.c`).

use std::fmt::Write;

use accel_kvm::kvm_bindings::{kvm_debugregs, kvm_dtable, kvm_fpu, kvm_regs, kvm_segment, kvm_sregs};
use accel_kvm::kvm_ioctls::VcpuFd;
use memory::address_space_memory;

use super::vectors::Vectors;
use super::{debug, put};
use crate::gdbstub::GdbRegisters;
use crate::reset::{MpState, X86State};

/// How many bytes around the instruction pointer are shown, and how many of them before it.
const CODE_BYTES: (u64, u64) = (50, 43);
const EFER_LMA: u64 = 1 << 10;
const CR0_PE: u64 = 1;
/// Bits of RFLAGS with the letters QEMU shows: direction, overflow, sign, zero, adjust, parity, carry.
const FLAGS: [(u64, char); 7] =
    [(1 << 10, 'D'), (1 << 11, 'O'), (1 << 7, 'S'), (1 << 6, 'Z'), (1 << 4, 'A'), (1 << 2, 'P'), (1, 'C')];
/// System segments' types, outside long mode and in it.
const SYSTEM_TYPES: [[&str; 16]; 2] = [
    [
        "Reserved",
        "TSS16-avl",
        "LDT",
        "TSS16-busy",
        "CallGate16",
        "TaskGate",
        "IntGate16",
        "TrapGate16",
        "Reserved",
        "TSS32-avl",
        "Reserved",
        "TSS32-busy",
        "CallGate32",
        "Reserved",
        "IntGate32",
        "TrapGate32",
    ],
    [
        "<hiword>",
        "Reserved",
        "LDT",
        "Reserved",
        "Reserved",
        "Reserved",
        "Reserved",
        "Reserved",
        "Reserved",
        "TSS64-avl",
        "Reserved",
        "TSS64-busy",
        "CallGate64",
        "Reserved",
        "IntGate64",
        "TrapGate64",
    ],
];

/// What is told of a CPU beyond its registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beyond {
    /// x87 and vector registers (CPU_DUMP_FPU).
    Fpu,
    /// The bytes of code around the instruction pointer (CPU_DUMP_CODE).
    Code,
}

/// Registers and what `beyond` says; tells where KVM does not give them.
pub(crate) fn dump_state(vcpu: &VcpuFd, beyond: Beyond) -> String {
    let Some(shown) = Shown::of(vcpu) else { return "KVM does not give the registers\n".to_owned() };
    let mut out = shown.text();
    match beyond {
        Beyond::Fpu => out.push_str(&shown.fpu_text()),
        Beyond::Code => code(&mut out, vcpu, &shown.regs, &shown.sregs),
    }
    out
}

/// Registers of a CPU that no guest code runs on, which are those after reset.
pub(crate) fn dump_reset_state(state: &X86State) -> String {
    let shown = Shown::after_reset(state);
    shown.text() + &shown.fpu_text()
}

/// Everything that is shown.
#[derive(Default)]
struct Shown {
    regs: kvm_regs,
    sregs: kvm_sregs,
    debug: kvm_debugregs,
    fpu: kvm_fpu,
    vectors: Vectors,
    smm: bool,
    /// An instruction that keeps interrupts off for one more came before.
    inhibits: bool,
    halted: bool,
}

impl Shown {
    fn of(vcpu: &VcpuFd) -> Option<Self> {
        let events = vcpu.get_vcpu_events().unwrap_or_default();
        let GdbRegisters { regs, sregs, fpu, .. } = debug::get_registers(vcpu)?;
        Some(Self {
            regs,
            sregs,
            debug: vcpu.get_debug_regs().unwrap_or_default(),
            vectors: Vectors::of(vcpu, &fpu),
            fpu,
            smm: events.smi.smm != 0,
            inhibits: events.interrupt.shadow != 0,
            halted: super::is_halted(vcpu),
        })
    }

    fn after_reset(state: &X86State) -> Self {
        Self {
            regs: put::regs(&state.registers),
            sregs: put::sregs(state),
            debug: kvm_debugregs { db: state.dr, dr6: state.dr6, dr7: state.dr7, ..Default::default() },
            fpu: kvm_fpu { fcw: state.fcw, mxcsr: state.mxcsr, ..Default::default() },
            halted: state.mp_state != MpState::Runnable,
            ..Self::default()
        }
    }

    fn text(&self) -> String {
        let mut out = String::new();
        let sregs = &self.sregs;
        // Writing to a String cannot fail.
        let _ = self.general(&mut out);
        for (name, segment) in [
            ("ES", &sregs.es),
            ("CS", &sregs.cs),
            ("SS", &sregs.ss),
            ("DS", &sregs.ds),
            ("FS", &sregs.fs),
            ("GS", &sregs.gs),
            ("LDT", &sregs.ldt),
            ("TR", &sregs.tr),
        ] {
            let _ = dump_segment(&mut out, name, segment, sregs);
        }
        let _ = self.system(&mut out);
        out
    }

    fn fpu_text(&self) -> String {
        let mut out = String::new();
        let fpu = &self.fpu;
        let top = fpu.fsw >> 11 & 7;
        let (fcw, fsw, ftw, mxcsr) = (fpu.fcw, fpu.fsw, fpu.ftwx, fpu.mxcsr);
        let _ = writeln!(out, "FCW={fcw:04x} FSW={fsw:04x} [ST={top}] FTW={ftw:02x} MXCSR={mxcsr:08x}");
        for (n, register) in fpu.fpr.iter().enumerate() {
            let value = u128::from_le_bytes(*register);
            let end = if n % 2 == 1 { '\n' } else { ' ' };
            let _ = write!(out, "FPR{n}={:016x} {:04x}{end}", value as u64, (value >> 64) as u16);
        }
        self.vectors.dump(&mut out, if is_64bit_code(&self.sregs) { 16 } else { 8 });
        out
    }

    fn general(&self, out: &mut String) -> std::fmt::Result {
        let (regs, sregs) = (&self.regs, &self.sregs);
        let flags: String =
            FLAGS.iter().map(|(bit, c)| if regs.rflags & bit != 0 { *c } else { '-' }).collect();
        let [inhibits, smm, halted] = [self.inhibits, self.smm, self.halted].map(u8::from);
        let status = format!("[{flags}] CPL={} II={inhibits} A20=1 SMM={smm} HLT={halted}", sregs.ss.dpl);
        let r = regs;
        if !is_64bit_code(sregs) {
            let low = |value: u64| value as u32;
            writeln!(
                out,
                "EAX={:08x} EBX={:08x} ECX={:08x} EDX={:08x}",
                low(r.rax),
                low(r.rbx),
                low(r.rcx),
                low(r.rdx)
            )?;
            writeln!(
                out,
                "ESI={:08x} EDI={:08x} EBP={:08x} ESP={:08x}",
                low(r.rsi),
                low(r.rdi),
                low(r.rbp),
                low(r.rsp)
            )?;
            return writeln!(out, "EIP={:08x} EFL={:08x} {status}", low(r.rip), low(r.rflags));
        }
        writeln!(out, "RAX={:016x} RBX={:016x} RCX={:016x} RDX={:016x}", r.rax, r.rbx, r.rcx, r.rdx)?;
        writeln!(out, "RSI={:016x} RDI={:016x} RBP={:016x} RSP={:016x}", r.rsi, r.rdi, r.rbp, r.rsp)?;
        writeln!(out, "R8 ={:016x} R9 ={:016x} R10={:016x} R11={:016x}", r.r8, r.r9, r.r10, r.r11)?;
        writeln!(out, "R12={:016x} R13={:016x} R14={:016x} R15={:016x}", r.r12, r.r13, r.r14, r.r15)?;
        writeln!(out, "RIP={:016x} RFL={:08x} {status}", r.rip, r.rflags)
    }

    fn system(&self, out: &mut String) -> std::fmt::Result {
        let sregs = &self.sregs;
        let width = if sregs.efer & EFER_LMA != 0 { 16 } else { 8 };
        let table = |t: &kvm_dtable| format!("{:0width$x} {:08x}", t.base, t.limit);
        writeln!(out, "GDT=     {}", table(&sregs.gdt))?;
        writeln!(out, "IDT=     {}", table(&sregs.idt))?;
        let (cr2, cr3) = (sregs.cr2, sregs.cr3);
        writeln!(out, "CR0={:08x} CR2={cr2:0width$x} CR3={cr3:0width$x} CR4={:08x}", sregs.cr0, sregs.cr4)?;
        let debug = &self.debug;
        for (n, value) in debug.db.iter().enumerate() {
            write!(out, "DR{n}={value:016x} ")?;
        }
        writeln!(out, "\nDR6={:016x} DR7={:016x}", debug.dr6, debug.dr7)?;
        writeln!(out, "EFER={:016x}", sregs.efer)
    }
}

fn is_64bit_code(sregs: &kvm_sregs) -> bool {
    sregs.cs.l != 0 && sregs.efer & EFER_LMA != 0
}

/// The second word of a segment's descriptor, without parts of its address (QEMU's `SegmentCache::flags`).
pub fn segment_flags(s: &kvm_segment) -> u32 {
    u32::from(s.type_) << 8
        | u32::from(s.s) << 12
        | u32::from(s.dpl) << 13
        | u32::from(s.present) << 15
        | u32::from(s.avl) << 20
        | u32::from(s.l) << 21
        | u32::from(s.db) << 22
        | u32::from(s.g) << 23
}

fn dump_segment(out: &mut String, name: &str, segment: &kvm_segment, sregs: &kvm_sregs) -> std::fmt::Result {
    let s = segment;
    let flags = segment_flags(s);
    let width = if is_64bit_code(sregs) { 16 } else { 8 };
    write!(out, "{name:<3}={:04x} {:0width$x} {:08x} {flags:08x}", s.selector, s.base, s.limit)?;
    if sregs.cr0 & CR0_PE == 0 || s.present == 0 {
        return writeln!(out);
    }
    let long = sregs.efer & EFER_LMA != 0;
    let letter = |bit: u8, c: char| if s.type_ & bit != 0 { c } else { '-' };
    write!(out, " DPL={} ", s.dpl)?;
    if s.s == 0 {
        let names = &SYSTEM_TYPES[usize::from(long)];
        return writeln!(out, "{}", names.get(usize::from(s.type_)).unwrap_or(&"Reserved"));
    }
    if s.type_ & 8 != 0 {
        let kind = if s.l != 0 {
            "CS64"
        } else if s.db != 0 {
            "CS32"
        } else {
            "CS16"
        };
        writeln!(out, "{kind} [{}{}{}]", letter(4, 'C'), letter(2, 'R'), letter(1, 'A'))
    } else {
        let kind = if s.db != 0 || long { "DS  " } else { "DS16" };
        writeln!(out, "{kind} [{}{}{}]", letter(4, 'E'), letter(2, 'W'), letter(1, 'A'))
    }
}

/// The bytes around the instruction pointer, that at it in angle brackets.
fn code(out: &mut String, vcpu: &VcpuFd, regs: &kvm_regs, sregs: &kvm_sregs) {
    let (total, before) = CODE_BYTES;
    let base = if is_64bit_code(sregs) { 0 } else { sregs.cs.base };
    let at = base.wrapping_add(regs.rip);
    let offset = before.min(regs.rip);
    out.push_str("Code=");
    for n in 0..total {
        let address = at.wrapping_sub(offset).wrapping_add(n);
        let text = match read_byte(vcpu, address) {
            Some(byte) => format!("{byte:02x}"),
            None => "??".to_owned(),
        };
        let gap = if n > 0 { " " } else { "" };
        let text = if n == offset { format!("<{text}>") } else { text };
        let _ = write!(out, "{gap}{text}");
    }
}

fn read_byte(vcpu: &VcpuFd, address: u64) -> Option<u8> {
    let translation = vcpu.translate_gva(address).ok().filter(|t| t.valid != 0)?;
    let view = address_space_memory().view();
    let range = view.lookup(translation.physical_address)?;
    // Memory only: reading a device would change it.
    let mut byte = [0];
    let offset = translation.physical_address - range.start + range.offset;
    range.readable_ram()?.slice(offset, 1)?.copy_to(&mut byte);
    Some(byte[0])
}
