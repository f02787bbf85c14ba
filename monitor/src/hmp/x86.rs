//! What the monitor knows of x86 CPUs: registers by name, where addresses lead, the local APIC
//! (target/i386/monitor.c, cpu-apic.c).

use std::sync::Arc;

use accel_kvm::kvm_bindings::{Msrs, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs};
use accel_kvm::kvm_ioctls::VcpuFd;
use accel_kvm::{KvmArchCpu, with_current_vcpu};
use hw_core::cpu::cpu_list;
use hw_intc::ApicDevice;
use qom::Object;
use target_i386::X86Cpu;

use super::args::Args;
use super::cpus::{index, on_cpu};
use super::session::{Session, out};

/// Bytes of a page.
pub(crate) const PAGE_SIZE: u64 = 4096;

/// Control registers' bits (Intel SDM volume 3A, 2.5).
pub(crate) mod spec {
    /// CR0: paging.
    pub const CR0_PG: u64 = 1 << 31;
    /// CR0: protected mode.
    pub const CR0_PE: u64 = 1;
    /// CR4: pages of 4 MiB.
    pub const CR4_PSE: u64 = 1 << 4;
    /// CR4: entries of 64 bits.
    pub const CR4_PAE: u64 = 1 << 5;
    /// CR4: five levels.
    pub const CR4_LA57: u64 = 1 << 12;
    /// EFER: long mode.
    pub const EFER_LMA: u64 = 1 << 10;
    /// The MSR whose value `swapgs` gives GS.
    pub const MSR_KERNEL_GS_BASE: u32 = 0xc000_0102;
}

/// Calls `work` with KVM's vCPU of `cpu`, which has by then what was changed outside the guest
/// (`cpu_synchronize_state`). `None` where KVM does not run it.
pub(crate) fn with_vcpu<R: Send + 'static>(
    cpu: &Arc<dyn Object>,
    work: impl FnOnce(&mut VcpuFd) -> R + Send + 'static,
) -> Option<R> {
    let arch = cpu.interface::<dyn KvmArchCpu>()?;
    on_cpu(cpu, move || {
        with_current_vcpu(|vcpu| {
            arch.put_registers(vcpu).ok()?;
            Some(work(vcpu))
        })
    })??
}

/// The registers of `cpu`; none where the accelerator has none.
pub(crate) fn registers(cpu: &Arc<dyn Object>) -> Option<(kvm_regs, kvm_sregs)> {
    let this = cpu.clone();
    on_cpu(cpu, move || target_i386::registers(this.cast()?))?
}

/// The control registers of `cpu`; none where the accelerator has none.
pub(crate) fn system_registers(cpu: &Arc<dyn Object>) -> Option<kvm_sregs> {
    registers(cpu).map(|(_, sregs)| sregs)
}

/// A model-specific register; none where KVM does not know it.
pub(crate) fn read_msr(vcpu: &VcpuFd, index: u32) -> Option<u64> {
    let mut msrs = Msrs::from_entries(&[kvm_msr_entry { index, ..Default::default() }]).ok()?;
    let count = vcpu.get_msrs(&mut msrs).unwrap_or_default();
    msrs.as_slice().first().filter(|_| count == 1).map(|msr| msr.data)
}

/// The base of GS that the guest's kernel has, while a program runs.
pub(crate) fn kernel_gs_base(cpu: &Arc<dyn Object>) -> Option<u64> {
    with_vcpu(cpu, |vcpu| read_msr(vcpu, spec::MSR_KERNEL_GS_BASE))?
}

/// The value of a register by the name that expressions have it by.
pub(crate) fn register(cpu: &Arc<dyn Object>, name: &str) -> Option<u64> {
    let (regs, sregs) = registers(cpu)?;
    Some(match name {
        "eax" => regs.rax,
        "ecx" => regs.rcx,
        "edx" => regs.rdx,
        "ebx" => regs.rbx,
        "esp" | "sp" => regs.rsp,
        "ebp" | "fp" => regs.rbp,
        "esi" => regs.rsi,
        "edi" => regs.rdi,
        "r8" => regs.r8,
        "r9" => regs.r9,
        "r10" => regs.r10,
        "r11" => regs.r11,
        "r12" => regs.r12,
        "r13" => regs.r13,
        "r14" => regs.r14,
        "r15" => regs.r15,
        "eflags" => regs.rflags,
        "eip" => regs.rip,
        "pc" => regs.rip.wrapping_add(sregs.cs.base),
        _ => return segment_register(&sregs, name),
    })
}

fn segment_register(sregs: &kvm_sregs, name: &str) -> Option<u64> {
    let (segment, part) = name.split_once('.').map_or((name, None), |(segment, part)| (segment, Some(part)));
    let segment: &kvm_segment = match segment {
        "cs" => &sregs.cs,
        "ds" => &sregs.ds,
        "es" => &sregs.es,
        "ss" => &sregs.ss,
        "fs" => &sregs.fs,
        "gs" => &sregs.gs,
        _ => return None,
    };
    match part {
        None => Some(segment.selector.into()),
        Some("base") => Some(segment.base),
        Some("limit") => Some(segment.limit.into()),
        Some(_) => None,
    }
}

/// 16, 32 or 64: the kind of code that the CPU is at.
pub(crate) fn code_bits(cpu: &Arc<dyn Object>) -> Option<u32> {
    let sregs = system_registers(cpu)?;
    Some(match (sregs.cs.l, sregs.cs.db) {
        (1, _) if sregs.efer & spec::EFER_LMA != 0 => 64,
        (_, 1) if sregs.cr0 & spec::CR0_PE != 0 => 32,
        _ => 16,
    })
}

/// Where the CPU's page tables lead.
pub(crate) fn translate(cpu: &Arc<dyn Object>, address: u64) -> Option<u64> {
    // Without KVM no code runs that could have switched paging on.
    let Some(translation) = with_vcpu(cpu, move |vcpu| vcpu.translate_gva(address)) else {
        return Some(address);
    };
    translation.ok().filter(|t| t.valid != 0).map(|t| t.physical_address)
}

/// Registers of the local APIC by their offsets (Intel SDM volume 3A, table 10-1).
mod apic {
    pub const TPR: usize = 0x80;
    pub const APR: usize = 0x90;
    pub const PPR: usize = 0xa0;
    pub const LDR: usize = 0xd0;
    pub const DFR: usize = 0xe0;
    pub const SPURIOUS: usize = 0xf0;
    pub const ISR: usize = 0x100;
    pub const TMR: usize = 0x180;
    pub const IRR: usize = 0x200;
    pub const ESR: usize = 0x280;
    pub const ICR: usize = 0x300;
    pub const ICR2: usize = 0x310;
    pub const LVT_TIMER: usize = 0x320;
    pub const LVT_THERMAL: usize = 0x330;
    pub const LVT_PERFORMANCE: usize = 0x340;
    pub const LVT_LINT0: usize = 0x350;
    pub const LVT_LINT1: usize = 0x360;
    pub const LVT_ERROR: usize = 0x370;
    pub const INITIAL_COUNT: usize = 0x380;
    pub const CURRENT_COUNT: usize = 0x390;
    pub const DIVIDE: usize = 0x3e0;

    pub const DELIVERY_MODES: [&str; 8] = ["Fixed", "...", "SMI", "...", "NMI", "INIT", "...", "ExtINT"];
    pub const MODE_NMI: u32 = 4;
    pub const PENDING: u32 = 1 << 12;
    pub const ACTIVE_LOW: u32 = 1 << 13;
    pub const LEVEL: u32 = 1 << 15;
    pub const MASKED: u32 = 1 << 16;
    pub const TIMER_PERIODIC: u32 = 1 << 17;
    pub const TIMER_DEADLINE: u32 = 1 << 18;
    pub const ENABLED: u32 = 1 << 8;
    pub const FOCUS: u32 = 1 << 9;
    pub const ICR_LOGICAL: u32 = 1 << 11;
    pub const ICR_ASSERT: u32 = 1 << 14;
    /// DFR: each of the logical id's bits is a CPU.
    pub const DFR_FLAT: u32 = 0xf;
    /// CPUID leaf 1, ECX: x2APIC.
    pub const CPUID_1_ECX_X2APIC: u32 = 1 << 21;
    pub const SHORTHANDS: [&str; 4] = ["no-shorthand", "self", "all-self", "all"];
}

/// A local APIC.
struct Lapic {
    /// Its page of registers.
    page: Vec<u8>,
    /// Whether its CPU knows APIC ids of 32 bits.
    is_x2apic: bool,
}

impl Lapic {
    fn register(&self, offset: usize) -> u32 {
        let bytes = self.page.get(offset..offset + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_le_bytes)
    }

    /// Whether a vector's bit is set in the eight registers from `offset`.
    fn bit(&self, offset: usize, vector: u32) -> bool {
        self.register(offset + 16 * (vector / 32) as usize) & 1 << (vector % 32) != 0
    }

    fn print_lvt(&self, mon: &mut Session, name: &str, offset: usize) {
        let lvt = self.register(offset);
        let is = |bit, yes, no| if lvt & bit != 0 { yes } else { no };
        let timer = match offset {
            apic::LVT_TIMER => {
                is(apic::TIMER_PERIODIC, "periodic", is(apic::TIMER_DEADLINE, "tsc-deadline", "one-shot"))
            }
            _ => "",
        };
        let mode = lvt >> 8 & 7;
        out!(
            mon,
            "{name}\t {lvt:#010x} {} {:<5} {:<6} {:<7} {timer:<12} {:<6}",
            is(apic::ACTIVE_LOW, "active-lo", "active-hi"),
            is(apic::LEVEL, "level", "edge"),
            is(apic::MASKED, "masked", ""),
            is(apic::PENDING, "pending", ""),
            apic::DELIVERY_MODES[mode as usize],
        );
        match mode {
            apic::MODE_NMI => mon.print("\n"),
            _ => out!(mon, " (vec {})\n", lvt & 0xff),
        }
    }

    fn print_icr(&self, mon: &mut Session) {
        let (icr, icr2) = (self.register(apic::ICR), self.register(apic::ICR2));
        let is = |bit, yes, no| if icr & bit != 0 { yes } else { no };
        let shorthand = icr >> 18 & 3;
        out!(
            mon,
            "ICR\t {icr:#010x} {} {} {} {}\nICR2\t {icr2:#010x}",
            is(apic::ICR_LOGICAL, "logical", "physical"),
            is(apic::LEVEL, "level", "edge"),
            is(apic::ICR_ASSERT, "assert", "de-assert"),
            apic::SHORTHANDS[shorthand as usize],
        );
        let logical = icr & apic::ICR_LOGICAL != 0;
        let flat = self.register(apic::DFR) >> 28 == apic::DFR_FLAT;
        let destination = icr2 >> 24;
        match (shorthand, logical, self.is_x2apic) {
            (1.., ..) => mon.print("\n"),
            (0, false, true) => out!(mon, " cpu {icr2} (X2APIC ID)\n"),
            (0, false, false) => out!(mon, " cpu {destination} (APIC ID)\n"),
            (0, true, true) => out!(mon, " cluster {} mask {:016b} (X2APIC ID)\n", icr2 >> 16, icr2 & 0xffff),
            (0, true, false) if flat => out!(mon, " mask {destination:08b} (APIC ID)\n"),
            (0, true, false) => {
                out!(mon, " cluster {} mask {:04b} (APIC ID)\n", destination >> 4, destination & 0xf);
            }
        }
    }

    fn print_vectors(&self, mon: &mut Session, name: &str, offset: usize) {
        let set = (0..256)
            .filter(|&vector| self.bit(offset, vector))
            .map(|vector| format!("{vector}{} ", if self.bit(apic::TMR, vector) { "(level)" } else { "" }));
        let set = set.collect::<String>();
        out!(mon, "{name}\t {}\n", if set.is_empty() { "(none)" } else { &set });
    }

    fn print(&self, mon: &mut Session) {
        for (name, offset) in [
            ("LVT0", apic::LVT_LINT0),
            ("LVT1", apic::LVT_LINT1),
            ("LVTPC", apic::LVT_PERFORMANCE),
            ("LVTERR", apic::LVT_ERROR),
            ("LVTTHMR", apic::LVT_THERMAL),
            ("LVTT", apic::LVT_TIMER),
        ] {
            self.print_lvt(mon, name, offset);
        }
        let divide = self.register(apic::DIVIDE);
        let divisor = match (divide & 8) >> 1 | divide & 3 {
            7 => 1,
            power => 2 << power,
        };
        let (initial, current) = (self.register(apic::INITIAL_COUNT), self.register(apic::CURRENT_COUNT));
        out!(
            mon,
            "Timer\t DCR={:#x} (divide by {divisor}) initial_count = {initial} current_count = {current}\n",
            divide & 0xf
        );
        let spurious = self.register(apic::SPURIOUS);
        let enabled = if spurious & apic::ENABLED != 0 { "enabled" } else { "disabled" };
        let focus = if spurious & apic::FOCUS != 0 { "on" } else { "off" };
        out!(
            mon,
            "SPIV\t {spurious:#010x} APIC {enabled}, focus={focus}, spurious vec {}\n",
            spurious & 0xff
        );
        self.print_icr(mon);
        out!(mon, "ESR\t {:#010x}\n", self.register(apic::ESR));
        self.print_vectors(mon, "ISR", apic::ISR);
        self.print_vectors(mon, "IRR", apic::IRR);
        let [apr, tpr, ppr] = [apic::APR, apic::TPR, apic::PPR].map(|offset| self.register(offset) & 0xff);
        // The format's four bits that say something, and the address's eight.
        let (dfr, ldr) = (self.register(apic::DFR) >> 28, self.register(apic::LDR) >> 24);
        out!(mon, "\nAPR {apr:#04x} TPR {tpr:#04x} DFR {dfr:#04x} LDR {ldr:#04x} PPR {ppr:#04x}\n");
    }
}

/// The registers of the local APIC of `cpu`, whoever emulates it.
fn apic_page(cpu: &Arc<dyn Object>) -> Option<Vec<u8>> {
    if let Some(device) = cpu.child("lapic")
        && let Some(apic) = device.cast::<ApicDevice>()
    {
        return Some(apic.page());
    }
    let lapic = with_vcpu(cpu, |vcpu| vcpu.get_lapic().ok())??;
    Some(lapic.regs.iter().map(|byte| byte.cast_unsigned()).collect())
}

pub(crate) fn info_lapic(mon: &mut Session, args: &Args) -> Result<(), String> {
    let cpu = match args.number("apic-id") {
        // Where CPUs have no gaps in their topology, the ids of their APICs are their indexes.
        Some(id) => cpu_list().into_iter().find(|cpu| i64::from(index(cpu)) == id),
        None => mon.cpu(),
    };
    let cpu = cpu.ok_or("No CPU available")?;
    let page = apic_page(&cpu).ok_or("local apic state not available")?;
    out!(mon, "dumping local APIC state for CPU {:<2}\n\n", index(&cpu));
    let leaf = cpu.cast::<X86Cpu>().and_then(|cpu| cpu.cpuid_leaf(1));
    Lapic { page, is_x2apic: leaf.is_some_and(|leaf| leaf.ecx & apic::CPUID_1_ECX_X2APIC != 0) }.print(mon);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_apic_reads_as_qemus() {
        let mut registers = vec![0_u8; 1024];
        let mut set =
            |offset: usize, value: u32| registers[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        set(apic::LVT_LINT0, 0x10700);
        set(apic::LVT_LINT1, 0x400);
        set(apic::LVT_TIMER, 0x400ec);
        set(apic::SPURIOUS, 0x1ff);
        set(apic::ICR, 0xfd);
        set(apic::ICR2, 5);
        set(apic::IRR + 16, 1 << 5);
        set(apic::TMR + 16, 1 << 5);
        set(apic::TPR, 0x10);
        set(apic::DFR, u32::MAX);
        let mut mon = Session::default();
        Lapic { page: registers, is_x2apic: true }.print(&mut mon);
        assert_eq!(
            mon.into_text(),
            "LVT0\t 0x00010700 active-hi edge  masked                      ExtINT (vec 0)\n\
             LVT1\t 0x00000400 active-hi edge                              NMI   \n\
             LVTPC\t 0x00000000 active-hi edge                              Fixed  (vec 0)\n\
             LVTERR\t 0x00000000 active-hi edge                              Fixed  (vec 0)\n\
             LVTTHMR\t 0x00000000 active-hi edge                              Fixed  (vec 0)\n\
             LVTT\t 0x000400ec active-hi edge                 tsc-deadline Fixed  (vec 236)\n\
             Timer\t DCR=0x0 (divide by 2) initial_count = 0 current_count = 0\n\
             SPIV\t 0x000001ff APIC enabled, focus=off, spurious vec 255\n\
             ICR\t 0x000000fd physical edge de-assert no-shorthand\n\
             ICR2\t 0x00000005 cpu 5 (X2APIC ID)\n\
             ESR\t 0x00000000\n\
             ISR\t (none)\n\
             IRR\t 37(level) \n\
             \nAPR 0x00 TPR 0x10 DFR 0x0f LDR 0x00 PPR 0x00\n"
        );
    }

    #[test]
    fn segments_have_parts() {
        let mut sregs = kvm_sregs::default();
        (sregs.cs.selector, sregs.cs.base, sregs.cs.limit) = (0xf000, 0xffff_0000, 0xffff);
        let values = ["cs", "cs.base", "cs.limit", "cs.x", "xs"].map(|name| segment_register(&sregs, name));
        assert_eq!(values, [Some(0xf000), Some(0xffff_0000), Some(0xffff), None, None]);
    }
}
