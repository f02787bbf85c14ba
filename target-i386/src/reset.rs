//! The registers of a vCPU after reset, and where a kernel is entered without firmware.
//!
//! Reset: Intel SDM volume 3A, table 9-1 (10-1 in newer editions), as `x86_cpu_reset` of QEMU 7.2 has
//! it. MSRs have a module of their own, [`crate::msrs`].

use serde::{Deserialize, Serialize};

use crate::expand::Expanded;

/// Bits and values of registers (SDM volume 3A, 2.5, 3.4.5, 10.4.4; volume 1, 8.1, 10.2.3).
pub mod spec {
    /// CR0: protected mode.
    pub const CR0_PE: u64 = 1;
    /// CR0: CD and NW.
    pub const CR0_CACHES_OFF: u64 = 0x6000_0000;
    /// CR0 after reset: caches off, extension type.
    pub const CR0_RESET: u64 = 0x6000_0010;
    /// RFLAGS: the bit that is always 1.
    pub const RFLAGS_FIXED: u64 = 2;
    /// DR6 after reset.
    pub const DR6_RESET: u64 = 0xffff_0ff0;
    /// DR7 after reset.
    pub const DR7_RESET: u64 = 0x400;
    /// IA32_APIC_BASE: where the registers are.
    pub const APIC_BASE_ADDRESS: u64 = 0xfee0_0000;
    /// IA32_APIC_BASE: this is the bootstrap processor.
    pub const APIC_BASE_BSP: u64 = 1 << 8;
    /// IA32_APIC_BASE: the APIC is on.
    pub const APIC_BASE_ENABLE: u64 = 1 << 11;
    /// x87 control word after FNINIT.
    pub const FCW_RESET: u16 = 0x37f;
    /// MXCSR after reset.
    pub const MXCSR_RESET: u32 = 0x1f80;
    /// XCR0: x87 state.
    pub const XCR0_X87: u64 = 1;
    /// Descriptor types: a local descriptor table, a busy 32-bit task state, code and data that have
    /// been used.
    pub const TYPE_LDT: u8 = 2;
    /// See [`TYPE_LDT`].
    pub const TYPE_TSS_BUSY: u8 = 11;
    /// Code: readable, accessed.
    pub const TYPE_CODE: u8 = 11;
    /// Data: writable, accessed.
    pub const TYPE_DATA: u8 = 3;
}

/// A segment register with the descriptor it caches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Selector.
    pub selector: u16,
    /// Base address.
    pub base: u64,
    /// Limit in bytes, whatever the granularity.
    pub limit: u32,
    /// Type.
    pub kind: u8,
    /// Code or data, not a system segment.
    pub s: bool,
    /// Privilege level.
    pub dpl: u8,
    /// Present.
    pub present: bool,
    /// For the operating system.
    pub avl: bool,
    /// 64-bit code.
    pub l: bool,
    /// 32-bit.
    pub db: bool,
    /// The limit counts pages.
    pub g: bool,
}

/// A descriptor table register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Base address.
    pub base: u64,
    /// Limit in bytes.
    pub limit: u16,
}

/// General registers, instruction pointer and flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each is the register of its name")]
pub struct Registers {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rsp: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    pub rflags: u64,
}

/// Whether a vCPU runs (`KVM_SET_MP_STATE`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MpState {
    /// It runs.
    #[default]
    Runnable,
    /// It waits for a start-up IPI.
    InitReceived,
    /// It waits for an interrupt.
    Halted,
}

/// The state of a vCPU, its MSRs, local APIC and pending events aside; those are empty after reset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct X86State {
    /// General registers, instruction pointer and flags.
    pub registers: Registers,
    /// Code segment.
    pub cs: Segment,
    /// Data segment.
    pub ds: Segment,
    /// Extra segment.
    pub es: Segment,
    /// Stack segment.
    pub ss: Segment,
    /// FS.
    pub fs: Segment,
    /// GS.
    pub gs: Segment,
    /// Task register.
    pub tr: Segment,
    /// Local descriptor table.
    pub ldt: Segment,
    /// Global descriptor table.
    pub gdt: Table,
    /// Interrupt descriptor table.
    pub idt: Table,
    /// CR0.
    pub cr0: u64,
    /// CR2.
    pub cr2: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// CR8, the task priority.
    pub cr8: u64,
    /// IA32_EFER.
    pub efer: u64,
    /// IA32_APIC_BASE.
    pub apic_base: u64,
    /// XCR0.
    pub xcr0: u64,
    /// DR0 to DR3.
    pub dr: [u64; 4],
    /// DR6.
    pub dr6: u64,
    /// DR7.
    pub dr7: u64,
    /// x87 control word; all else of x87, SSE and AVX is zero, its tags empty.
    pub fcw: u16,
    /// MXCSR.
    pub mxcsr: u32,
    /// Whether it runs.
    pub mp_state: MpState,
}

/// How a kernel is entered in 32-bit protected mode without paging, all segments flat: Linux's
/// 32-bit boot protocol, PVH and Multiboot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlatEntry {
    /// Where it starts.
    pub eip: u32,
    /// EAX: Multiboot's magic number.
    pub eax: u32,
    /// EBX: address of Multiboot's or PVH's information.
    pub ebx: u32,
    /// ESI: address of Linux's boot parameters.
    pub esi: u32,
    /// ESP.
    pub esp: u32,
    /// Selector of CS; Linux wants 0x10.
    pub code_selector: u16,
    /// Selector of the others; Linux wants 0x18.
    pub data_selector: u16,
    /// A table in guest memory that has descriptors at these selectors.
    pub gdt: Table,
}

impl X86State {
    /// The state after reset. `bootstrap` is whether this vCPU runs first; the others wait.
    pub fn reset(cpu: &Expanded, bootstrap: bool) -> Self {
        let real = |selector, base, kind| Segment {
            selector,
            base,
            limit: 0xffff,
            kind,
            s: true,
            present: true,
            ..Segment::default()
        };
        let data = real(0, 0, spec::TYPE_DATA);
        let table = Table { base: 0, limit: 0xffff };
        let bsp = if bootstrap { spec::APIC_BASE_BSP } else { 0 };
        Self {
            registers: Registers {
                rdx: cpu.config.signature.into(),
                rip: 0xfff0,
                rflags: spec::RFLAGS_FIXED,
                ..Registers::default()
            },
            cs: real(0xf000, 0xffff_0000, spec::TYPE_CODE),
            ds: data,
            es: data,
            ss: data,
            fs: data,
            gs: data,
            tr: Segment { s: false, ..real(0, 0, spec::TYPE_TSS_BUSY) },
            ldt: Segment { s: false, ..real(0, 0, spec::TYPE_LDT) },
            gdt: table,
            idt: table,
            cr0: spec::CR0_RESET,
            apic_base: spec::APIC_BASE_ADDRESS | spec::APIC_BASE_ENABLE | bsp,
            xcr0: spec::XCR0_X87,
            dr6: spec::DR6_RESET,
            dr7: spec::DR7_RESET,
            fcw: spec::FCW_RESET,
            mxcsr: spec::MXCSR_RESET,
            mp_state: if bootstrap { MpState::Runnable } else { MpState::InitReceived },
            ..Self::default()
        }
    }

    /// Changes the state after reset to one in which real-mode code is entered at a physical address below 1 MiB.
    pub fn enter_real_mode(&mut self, address: u32) {
        self.cs.selector = (address >> 4) as u16;
        self.cs.base = u64::from(self.cs.selector) << 4;
        self.registers.rip = u64::from(address & 0xf);
        // Firmware turns the caches on.
        self.cr0 &= !spec::CR0_CACHES_OFF;
    }

    /// Changes the state after reset to one in which a kernel is entered.
    pub fn enter_flat(&mut self, entry: &FlatEntry) {
        let flat = |selector, kind| Segment {
            selector,
            limit: u32::MAX,
            kind,
            s: true,
            present: true,
            db: true,
            g: true,
            ..Segment::default()
        };
        let data = flat(entry.data_selector, spec::TYPE_DATA);
        self.registers = Registers {
            rax: entry.eax.into(),
            rbx: entry.ebx.into(),
            rsi: entry.esi.into(),
            rsp: entry.esp.into(),
            rip: entry.eip.into(),
            rflags: spec::RFLAGS_FIXED,
            ..Registers::default()
        };
        self.cs = flat(entry.code_selector, spec::TYPE_CODE);
        (self.ds, self.es, self.ss, self.fs, self.gs) = (data, data, data, data, data);
        self.gdt = entry.gdt;
        // Firmware turns the caches on.
        self.cr0 = spec::CR0_RESET & !spec::CR0_CACHES_OFF | spec::CR0_PE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CpuConfig;
    use crate::expand::expand_features;
    use crate::host::HostCpu;
    use crate::models::{CpuModel, DefaultVersion};
    use crate::topology::Topology;

    fn state(bootstrap: bool) -> X86State {
        let host = HostCpu::default();
        let config = CpuConfig::new(CpuModel::by_name("qemu64").unwrap(), DefaultVersion::Number(1), &host);
        let cpu = expand_features(config, &host, &Topology { dies: 1, cores: 1, threads: 1 }).unwrap();
        X86State::reset(&cpu, bootstrap)
    }

    #[test]
    fn reset_starts_16_bytes_below_4_gib() {
        let state = state(true);
        assert_eq!(state.cs.base + state.registers.rip, 0xffff_fff0);
        assert_eq!((state.cs.selector, state.cs.limit, state.cs.kind), (0xf000, 0xffff, 11));
        assert_eq!(state.registers.rdx, 0x60fb1, "the signature of qemu64");
        assert_eq!((state.registers.rflags, state.cr0, state.efer), (2, 0x6000_0010, 0));
        assert_eq!(state.apic_base, 0xfee0_0900);
        assert_eq!((state.tr.kind, state.ldt.kind, state.tr.s), (11, 2, false));
    }

    #[test]
    fn other_processors_wait() {
        let state = state(false);
        assert_eq!(state.mp_state, MpState::InitReceived);
        assert_eq!(state.apic_base, 0xfee0_0800);
    }

    #[test]
    fn a_kernel_is_entered_in_flat_protected_mode() {
        let mut state = state(true);
        let gdt = Table { base: 0x500, limit: 0x1f };
        state.enter_flat(&FlatEntry {
            eip: 0x10_0000,
            esi: 0x9_0000,
            code_selector: 0x10,
            data_selector: 0x18,
            gdt,
            ..Default::default()
        });
        assert_eq!((state.registers.rip, state.registers.rsi, state.registers.rdx), (0x10_0000, 0x9_0000, 0));
        assert_eq!((state.cs.base, state.cs.limit, state.cs.db, state.cs.l), (0, u32::MAX, true, false));
        assert_eq!((state.cs.selector, state.ss.selector, state.gdt), (0x10, 0x18, gdt));
        assert_eq!(state.cr0, 0x11);
    }
}
