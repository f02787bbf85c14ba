//! The registers of the CPUs, and what the guest says of itself, as notes (target/i386/arch_dump.c).

use std::sync::Arc;

use accel_kvm::kvm_bindings::{kvm_dtable, kvm_regs, kvm_segment, kvm_sregs};
use memory::{MemTxResult, address_space_memory};
use qom::Object;

use super::elf;
use crate::hmp::x86;

/// `NT_PRSTATUS`: the registers as Linux has them.
const NT_PRSTATUS: u32 = 1;
/// The longest note of a guest's, in bytes.
const MAX_GUEST_NOTE: u32 = 1 << 20;
/// `FW_CFG_VMCOREINFO_FORMAT_ELF`.
const FORMAT_ELF: u16 = 1;

/// A CPU's registers.
#[derive(Clone, Default)]
pub(super) struct Registers {
    regs: kvm_regs,
    pub sregs: kvm_sregs,
    kernel_gs_base: u64,
}

impl Registers {
    /// Those of a CPU that stands still; of one that no accelerator runs, zeroes.
    pub fn of(cpu: &Arc<dyn Object>) -> Registers {
        let (regs, sregs) = x86::registers(cpu).unwrap_or_default();
        Registers { regs, sregs, kernel_gs_base: x86::kernel_gs_base(cpu).unwrap_or_default() }
    }

    /// Linux's `struct elf_prstatus` of x86-64.
    fn prstatus_64(&self, id: u32) -> Vec<u8> {
        let (r, s) = (&self.regs, &self.sregs);
        let mut out = vec![0; 32];
        out.extend(id.to_le_bytes());
        out.resize(112, 0);
        let selector = |segment: &kvm_segment| u64::from(segment.selector);
        for value in [
            r.r15,
            r.r14,
            r.r13,
            r.r12,
            r.rbp,
            r.rbx,
            r.r11,
            r.r10,
            r.r9,
            r.r8,
            r.rax,
            r.rcx,
            r.rdx,
            r.rsi,
            r.rdi,
            // No system call.
            0,
            r.rip,
            selector(&s.cs),
            r.rflags,
            r.rsp,
            selector(&s.ss),
            s.fs.base,
            s.gs.base,
            selector(&s.ds),
            selector(&s.es),
            selector(&s.fs),
            selector(&s.gs),
        ] {
            out.extend(value.to_le_bytes());
        }
        out.resize(336, 0);
        out
    }

    /// Linux's `struct elf_prstatus` of i386.
    fn prstatus_32(&self, id: u32) -> Vec<u8> {
        let (r, s) = (&self.regs, &self.sregs);
        let mut out = vec![0; 24];
        out.extend(id.to_le_bytes());
        out.resize(72, 0);
        let selector = |segment: &kvm_segment| u64::from(segment.selector);
        for value in [
            r.rbx,
            r.rcx,
            r.rdx,
            r.rsi,
            r.rdi,
            r.rbp,
            r.rax,
            selector(&s.ds),
            selector(&s.es),
            selector(&s.fs),
            selector(&s.gs),
            // No system call.
            0,
            r.rip,
            selector(&s.cs),
            r.rflags,
            r.rsp,
            selector(&s.ss),
        ] {
            out.extend((value as u32).to_le_bytes());
        }
        out.resize(144, 0);
        out
    }

    /// QEMU's own `QEMUCPUState`, which has all that the other lacks.
    fn qemu_state(&self) -> Vec<u8> {
        const VERSION: u32 = 1;
        const SIZE: u32 = 440;
        let (r, s) = (&self.regs, &self.sregs);
        let mut out = Vec::new();
        out.extend(VERSION.to_le_bytes());
        out.extend(SIZE.to_le_bytes());
        let registers = [
            r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rsp, r.rbp, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13,
            r.r14, r.r15, r.rip, r.rflags,
        ];
        out.extend(registers.into_iter().flat_map(u64::to_le_bytes));
        for segment in [&s.cs, &s.ds, &s.es, &s.fs, &s.gs, &s.ss, &s.ldt, &s.tr] {
            segment_note(&mut out, segment);
        }
        for table in [&s.gdt, &s.idt] {
            table_note(&mut out, table);
        }
        let system = [s.cr0, 0, s.cr2, s.cr3, s.cr4, self.kernel_gs_base];
        out.extend(system.into_iter().flat_map(u64::to_le_bytes));
        out
    }
}

fn segment_note(out: &mut Vec<u8>, segment: &kvm_segment) {
    for value in [segment.selector.into(), segment.limit, target_i386::segment_flags(segment), 0] {
        out.extend(value.to_le_bytes());
    }
    out.extend(segment.base.to_le_bytes());
}

fn table_note(out: &mut Vec<u8>, table: &kvm_dtable) {
    for value in [0, u32::from(table.limit), 0, 0] {
        out.extend(value.to_le_bytes());
    }
    out.extend(table.base.to_le_bytes());
}

/// The notes of all CPUs, for a guest in long mode or not.
pub(super) fn cpu_notes(cpus: &[Registers], long_mode: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for (id, cpu) in (1..).zip(cpus) {
        let status = if long_mode { cpu.prstatus_64(id) } else { cpu.prstatus_32(id) };
        elf::note(&mut out, "CORE", NT_PRSTATUS, &status);
    }
    for cpu in cpus {
        elf::note(&mut out, "QEMU", 0, &cpu.qemu_state());
    }
    out
}

/// The note that the guest keeps in its memory, where there is the device `vmcoreinfo`; what is wrong with it is
/// a warning.
pub(super) fn guest_note() -> Vec<u8> {
    let Some(info) = hw_misc::vmcoreinfo::find() else { return Vec::new() };
    let note = match info.guest_info() {
        None => Err("guest note is not present".to_owned()),
        Some((_, size, _)) if !(12..=MAX_GUEST_NOTE).contains(&size) => {
            Err(format!("guest note size is invalid: {size}"))
        }
        Some((format, ..)) if format != FORMAT_ELF => {
            Err(format!("guest note format is unsupported: {format}"))
        }
        Some((_, size, address)) => read_note(address, size),
    };
    note.unwrap_or_else(|warning| {
        util::warn_report!("{warning}");
        Vec::new()
    })
}

fn read_note(address: u64, size: u32) -> Result<Vec<u8>, String> {
    let mut note = vec![0; size as usize];
    if address_space_memory().read(address, &mut note) != MemTxResult::Ok {
        return Err("Invalid guest note header".to_owned());
    }
    let word = |at: usize| {
        note.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, |b| u64::from(u32::from_le_bytes(b)))
    };
    let len = 12 + word(0).next_multiple_of(4) + word(4).next_multiple_of(4);
    if len > size.into() {
        return Err("Invalid guest note header".to_owned());
    }
    note.truncate(len as usize);
    Ok(note)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_lie_where_readers_look() {
        let mut cpu = Registers::default();
        (cpu.regs.rip, cpu.regs.rax, cpu.sregs.cs.selector) = (0x1234_5678_9abc, 7, 0x10);
        let long = cpu.prstatus_64(3);
        assert_eq!((long.len(), long[32]), (336, 3));
        assert_eq!(long[112 + 16 * 8..][..8], 0x1234_5678_9abc_u64.to_le_bytes());
        assert_eq!(long[112 + 17 * 8], 0x10);
        let short = cpu.prstatus_32(3);
        assert_eq!((short.len(), short[24]), (144, 3));
        assert_eq!(short[72 + 12 * 4..][..4], 0x5678_9abc_u32.to_le_bytes());
        assert_eq!(cpu.qemu_state().len(), 440);
        assert_eq!(cpu_notes(&[cpu.clone(), cpu], true).len(), 2 * (20 + 336 + 20 + 440));
    }
}
