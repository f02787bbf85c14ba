//! The registers by gdb's numbers, and the description of them.
//!
//! Numbers and widths are those of QEMU's `target/i386/gdbstub.c`: the description is always that of the 64-bit
//! processor, and outside 64-bit code registers show their low 32 bits. gdb's manual, "Standard Target Features, i386".

use std::fmt::Write;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use accel_kvm::kvm_bindings::{kvm_fpu, kvm_regs, kvm_segment, kvm_sregs};
use hw_core::debug::GdbClass;
use qom::Object;

use crate::cpu::X86Cpu;
use crate::gdb_segment::{Descriptor, load};
use crate::kvm;

/// Where groups of registers begin.
mod number {
    pub const GENERAL: u32 = 0;
    pub const RIP: u32 = 16;
    pub const EFLAGS: u32 = 17;
    pub const SEGMENT: u32 = 18;
    pub const BASE: u32 = 24;
    pub const CONTROL: u32 = 27;
    pub const ST: u32 = 33;
    pub const FPU_CONTROL: u32 = 41;
    pub const XMM: u32 = 49;
    pub const MXCSR: u32 = 65;
    pub const COUNT: u32 = 66;
}

/// General registers after which only 64-bit code has more.
const GENERAL_32: u32 = 8;
/// FSW: the top of the stack.
const FSW_TOP_SHIFT: u32 = 11;

/// What gdb sees of a CPU.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct GdbRegisters {
    pub regs: kvm_regs,
    pub sregs: kvm_sregs,
    pub fpu: kvm_fpu,
    pub kernel_gs_base: u64,
}

fn general(regs: &mut kvm_regs, n: u32) -> Option<&mut u64> {
    Some(match n {
        0 => &mut regs.rax,
        1 => &mut regs.rbx,
        2 => &mut regs.rcx,
        3 => &mut regs.rdx,
        4 => &mut regs.rsi,
        5 => &mut regs.rdi,
        6 => &mut regs.rbp,
        7 => &mut regs.rsp,
        8 => &mut regs.r8,
        9 => &mut regs.r9,
        10 => &mut regs.r10,
        11 => &mut regs.r11,
        12 => &mut regs.r12,
        13 => &mut regs.r13,
        14 => &mut regs.r14,
        15 => &mut regs.r15,
        _ => return None,
    })
}

fn segment(sregs: &mut kvm_sregs, n: u32) -> Option<&mut kvm_segment> {
    Some(match n {
        0 => &mut sregs.cs,
        1 => &mut sregs.ss,
        2 => &mut sregs.ds,
        3 => &mut sregs.es,
        4 => &mut sregs.fs,
        5 => &mut sregs.gs,
        _ => return None,
    })
}

fn control(sregs: &mut kvm_sregs, n: u32) -> Option<&mut u64> {
    Some(match n {
        0 => &mut sregs.cr0,
        1 => &mut sregs.cr2,
        2 => &mut sregs.cr3,
        3 => &mut sregs.cr4,
        4 => &mut sregs.cr8,
        5 => &mut sregs.efer,
        _ => return None,
    })
}

/// How many bytes a register has for gdb; none when there is no such register.
fn size(n: u32) -> Option<usize> {
    Some(match n {
        number::EFLAGS..number::BASE | number::FPU_CONTROL..number::XMM | number::MXCSR => 4,
        number::GENERAL..number::ST => 8,
        number::ST..number::FPU_CONTROL => 10,
        number::XMM..number::MXCSR => 16,
        _ => return None,
    })
}

impl GdbRegisters {
    fn is_64bit_code(&self) -> bool {
        self.sregs.cs.l != 0
    }

    /// The 64-bit register of a number below [`number::ST`].
    fn wide(&mut self, n: u32) -> Option<&mut u64> {
        match n {
            number::RIP => Some(&mut self.regs.rip),
            number::GENERAL..number::RIP => general(&mut self.regs, n),
            24 => Some(&mut self.sregs.fs.base),
            25 => Some(&mut self.sregs.gs.base),
            26 => Some(&mut self.kernel_gs_base),
            number::CONTROL..number::ST => control(&mut self.sregs, n - number::CONTROL),
            _ => None,
        }
    }

    fn fpu_control(&self, n: u32) -> u32 {
        match n {
            0 => self.fpu.fcw.into(),
            1 => self.fpu.fsw.into(),
            2 => self.tag_word(),
            // Selectors are no longer kept by processors.
            3 | 5 => 0,
            4 => self.fpu.last_ip as u32,
            6 => self.fpu.last_dp as u32,
            _ => self.fpu.last_opcode.into(),
        }
    }

    /// Two bits a physical register from the one a register that KVM has (SDM volume 1, 8.1.7 and 10.5.1.1).
    fn tag_word(&self) -> u32 {
        let top = u32::from(self.fpu.fsw) >> FSW_TOP_SHIFT;
        (0..8).fold(0, |word, physical: u32| {
            let register = self.fpu.fpr[(physical.wrapping_sub(top) % 8) as usize];
            let tag = if self.fpu.ftwx & 1 << physical == 0 { 3 } else { tag(&register) };
            word | tag << (2 * physical)
        })
    }

    fn set_fpu_control(&mut self, n: u32, value: u32) {
        match n {
            0 => self.fpu.fcw = value as u16,
            1 => self.fpu.fsw = value as u16,
            2 => {
                self.fpu.ftwx = (0..8).filter(|n| value >> (2 * n) & 3 != 3).fold(0, |tags, n| tags | 1 << n);
            }
            4 => self.fpu.last_ip = value.into(),
            6 => self.fpu.last_dp = value.into(),
            7 => self.fpu.last_opcode = value as u16,
            _ => {}
        }
    }

    /// The bytes of a register; none when there is no such register.
    fn read(&mut self, n: u32) -> Option<Vec<u8>> {
        let size = size(n)?;
        let hidden = !self.is_64bit_code();
        Some(match n {
            number::EFLAGS => (self.regs.rflags as u32).to_le_bytes().to_vec(),
            number::SEGMENT..number::BASE => {
                let selector = segment(&mut self.sregs, n - number::SEGMENT)?.selector;
                u32::from(selector).to_le_bytes().to_vec()
            }
            number::ST..number::FPU_CONTROL => {
                self.fpu.fpr.get((n - number::ST) as usize)?.get(..size)?.to_vec()
            }
            number::FPU_CONTROL..number::XMM => {
                self.fpu_control(n - number::FPU_CONTROL).to_le_bytes().to_vec()
            }
            number::XMM..number::MXCSR => self.fpu.xmm.get((n - number::XMM) as usize)?.to_vec(),
            number::MXCSR => self.fpu.mxcsr.to_le_bytes().to_vec(),
            _ if hidden && (GENERAL_32..number::RIP).contains(&n) => vec![0; size],
            _ => {
                let value = *self.wide(n)?;
                let value = if hidden { value & u64::from(u32::MAX) } else { value };
                value.to_le_bytes().to_vec()
            }
        })
    }

    /// Sets a register from the start of `data`; gives how many bytes that took. `read_memory` reads descriptors.
    fn write(
        &mut self,
        n: u32,
        data: &[u8],
        read_memory: &mut dyn FnMut(u64) -> Option<Descriptor>,
    ) -> Option<usize> {
        let size = size(n)?;
        let data = data.get(..size)?;
        let low = data.iter().take(8).rev().fold(0, |value: u64, byte| value << 8 | u64::from(*byte));
        let hidden = !self.is_64bit_code();
        match n {
            number::EFLAGS => self.regs.rflags = low,
            number::SEGMENT..number::BASE => {
                let (sregs, which) = (self.sregs, n - number::SEGMENT);
                let selector = u16::try_from(low).ok()?;
                let old = segment(&mut self.sregs, which)?;
                // gdb writes back what it read, too.
                if old.selector != selector {
                    *old = load(&sregs, self.regs.rflags, *old, selector, read_memory)?;
                }
            }
            number::ST..number::FPU_CONTROL => {
                let register = self.fpu.fpr.get_mut((n - number::ST) as usize)?;
                register.get_mut(..size)?.copy_from_slice(data);
            }
            number::FPU_CONTROL..number::XMM => {
                self.set_fpu_control(n - number::FPU_CONTROL, low as u32);
            }
            number::XMM..number::MXCSR => {
                self.fpu.xmm.get_mut((n - number::XMM) as usize)?.copy_from_slice(data);
            }
            number::MXCSR => self.fpu.mxcsr = low as u32,
            _ if hidden && (GENERAL_32..number::RIP).contains(&n) => {}
            _ => *self.wide(n)? = if hidden { low & u64::from(u32::MAX) } else { low },
        }
        Some(size)
    }
}

/// The tag of a register in use: valid 0, zero 1, special 2.
fn tag(register: &[u8; 16]) -> u32 {
    let mantissa = register.iter().take(8).rev().fold(0, |m: u64, byte| m << 8 | u64::from(*byte));
    match u16::from_le_bytes([register[8], register[9]]) & 0x7fff {
        0 if mantissa == 0 => 1,
        0 | 0x7fff => 2,
        _ if mantissa >> 63 == 0 => 2,
        _ => 0,
    }
}

/// Calls `f` with the registers of the CPU whose thread this is, and hands what it changes to KVM; `None` when KVM
/// refuses.
fn with_registers<R>(object: &Arc<dyn Object>, f: impl FnOnce(&mut GdbRegisters) -> R) -> Option<R> {
    let cpu = object.cast::<X86Cpu>()?;
    kvm::synchronized(cpu, |vcpu| {
        let before = kvm::debug::get_registers(vcpu)?;
        let mut registers = before.clone();
        let result = f(&mut registers);
        kvm::debug::put_registers(vcpu, &before, &registers).then_some(result)
    })?
}

fn read_registers(object: &Arc<dyn Object>, which: Range<u32>) -> Vec<u8> {
    let bytes =
        with_registers(object, |registers| which.filter_map(|n| registers.read(n)).flatten().collect());
    bytes.unwrap_or_default()
}

fn write_registers(object: &Arc<dyn Object>, first: u32, data: &[u8]) -> bool {
    let Some(cpu) = object.cast::<X86Cpu>() else { return false };
    let mut read_memory = |address| kvm::synchronized(cpu, |vcpu| kvm::read_linear(vcpu, address))?;
    // Read first: the vCPU cannot be asked for memory while its registers are at hand.
    let Some(before) = kvm::synchronized(cpu, kvm::debug::get_registers).flatten() else { return false };
    let mut after = before.clone();
    let (mut n, mut at) = (first, 0);
    while let Some(rest) = data.get(at..).filter(|rest| !rest.is_empty()) {
        match after.write(n, rest, &mut read_memory) {
            Some(size) => at += size,
            // What follows the last register is nothing's.
            None if n >= number::COUNT && n > first => break,
            None => return false,
        }
        n += 1;
    }
    kvm::synchronized(cpu, |vcpu| kvm::debug::put_registers(vcpu, &before, &after)) == Some(true)
}

fn set_pc(object: &Arc<dyn Object>, pc: u64) {
    with_registers(object, |registers| registers.regs.rip = pc);
}

fn is_halted(object: &Arc<dyn Object>) -> bool {
    object.cast::<X86Cpu>().and_then(|cpu| kvm::synchronized(cpu, kvm::is_halted)) == Some(true)
}

fn get_phys_page(object: &Arc<dyn Object>, page: u64) -> Option<u64> {
    kvm::synchronized(object.cast::<X86Cpu>()?, |vcpu| kvm::translate(vcpu, page))?
}

const CORE_XML: &str = "i386-64bit.xml";
const SSE_XML: &str = "i386-64bit-sse.xml";

/// What gdb is told of x86 CPUs.
pub(crate) const GDB_CLASS: GdbClass = GdbClass {
    arch_name: "i386:x86-64",
    xml_files: &[CORE_XML, SSE_XML],
    xml: |name| match name {
        CORE_XML => Some(&CORE_DESCRIPTION),
        SSE_XML => Some(&SSE_DESCRIPTION),
        _ => None,
    },
    num_core_regs: number::COUNT,
    read_registers,
    write_registers,
    set_pc,
    is_halted,
    get_phys_page,
};

static CORE_DESCRIPTION: LazyLock<String> = LazyLock::new(core_description);
static SSE_DESCRIPTION: LazyLock<String> = LazyLock::new(sse_description);

/// Names of flags and where they are, from bit to bit.
type Fields = &'static [(&'static str, u32, u32)];

const EFLAGS: Fields = &[
    ("ID", 21, 21),
    ("VIP", 20, 20),
    ("VIF", 19, 19),
    ("AC", 18, 18),
    ("VM", 17, 17),
    ("RF", 16, 16),
    ("NT", 14, 14),
    ("IOPL", 12, 13),
    ("OF", 11, 11),
    ("DF", 10, 10),
    ("IF", 9, 9),
    ("TF", 8, 8),
    ("SF", 7, 7),
    ("ZF", 6, 6),
    ("AF", 4, 4),
    ("PF", 2, 2),
    ("CF", 0, 0),
];
const CR0: Fields = &[
    ("PG", 31, 31),
    ("CD", 30, 30),
    ("NW", 29, 29),
    ("AM", 18, 18),
    ("WP", 16, 16),
    ("NE", 5, 5),
    ("ET", 4, 4),
    ("TS", 3, 3),
    ("EM", 2, 2),
    ("MP", 1, 1),
    ("PE", 0, 0),
];
const CR3: Fields = &[("PDBR", 12, 63), ("PCID", 0, 11)];
const CR4: Fields = &[
    ("PKE", 22, 22),
    ("SMAP", 21, 21),
    ("SMEP", 20, 20),
    ("OSXSAVE", 18, 18),
    ("PCIDE", 17, 17),
    ("FSGSBASE", 16, 16),
    ("SMXE", 14, 14),
    ("VMXE", 13, 13),
    ("LA57", 12, 12),
    ("UMIP", 11, 11),
    ("OSXMMEXCPT", 10, 10),
    ("OSFXSR", 9, 9),
    ("PCE", 8, 8),
    ("PGE", 7, 7),
    ("MCE", 6, 6),
    ("PAE", 5, 5),
    ("PSE", 4, 4),
    ("DE", 3, 3),
    ("TSD", 2, 2),
    ("PVI", 1, 1),
    ("VME", 0, 0),
];
const EFER: Fields = &[
    ("TCE", 15, 15),
    ("FFXSR", 14, 14),
    ("LMSLE", 13, 13),
    ("SVME", 12, 12),
    ("NXE", 11, 11),
    ("LMA", 10, 10),
    ("LME", 8, 8),
    ("SCE", 0, 0),
];
const MXCSR: Fields = &[
    ("IE", 0, 0),
    ("DE", 1, 1),
    ("ZE", 2, 2),
    ("OE", 3, 3),
    ("UE", 4, 4),
    ("PE", 5, 5),
    ("DAZ", 6, 6),
    ("IM", 7, 7),
    ("DM", 8, 8),
    ("ZM", 9, 9),
    ("OM", 10, 10),
    ("UM", 11, 11),
    ("PM", 12, 12),
    ("FZ", 15, 15),
];

fn flags(out: &mut String, id: &str, size: u32, fields: Fields) {
    let _ = writeln!(out, "  <flags id=\"{id}\" size=\"{size}\">");
    for (name, start, end) in fields {
        let _ = writeln!(out, "    <field name=\"{name}\" start=\"{start}\" end=\"{end}\"/>");
    }
    out.push_str("  </flags>\n");
}

/// An SSE register as vectors of all kinds.
fn vectors(out: &mut String) {
    const KINDS: [(&str, &str, u32); 6] = [
        ("v4f", "ieee_single", 4),
        ("v2d", "ieee_double", 2),
        ("v16i8", "int8", 16),
        ("v8i16", "int16", 8),
        ("v4i32", "int32", 4),
        ("v2i64", "int64", 2),
    ];
    const NAMES: [&str; 6] = ["v4_float", "v2_double", "v16_int8", "v8_int16", "v4_int32", "v2_int64"];
    for (id, kind, count) in KINDS {
        let _ = writeln!(out, "  <vector id=\"{id}\" type=\"{kind}\" count=\"{count}\"/>");
    }
    out.push_str("  <union id=\"vec128\">\n");
    for (name, (id, ..)) in NAMES.iter().zip(KINDS) {
        let _ = writeln!(out, "    <field name=\"{name}\" type=\"{id}\"/>");
    }
    out.push_str("    <field name=\"uint128\" type=\"uint128\"/>\n  </union>\n");
}

/// Writes registers one after the other, numbered.
struct Registers<'a> {
    out: &'a mut String,
    next: u32,
}

impl Registers<'_> {
    fn add(&mut self, name: &str, kind: &str, attributes: &str) {
        let bits = size(self.next).unwrap_or_default() * 8;
        let next = self.next;
        let _ = writeln!(
            self.out,
            "  <reg name=\"{name}\" bitsize=\"{bits}\" type=\"{kind}\"{attributes} regnum=\"{next}\"/>"
        );
        self.next += 1;
    }

    fn all(&mut self, names: &[&str], kind: &str, attributes: &str) {
        names.iter().for_each(|name| self.add(name, kind, attributes));
    }
}

/// A file of gdb's target description: one feature.
fn feature(name: &str, content: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?>\n<!DOCTYPE feature SYSTEM \"gdb-target.dtd\">\n\
         <feature name=\"{name}\">\n{content}</feature>\n"
    )
}

fn core_description() -> String {
    let mut out = String::new();
    flags(&mut out, "x64_eflags", 4, EFLAGS);
    flags(&mut out, "x64_cr0", 8, CR0);
    flags(&mut out, "x64_cr3", 8, CR3);
    flags(&mut out, "x64_cr4", 8, CR4);
    flags(&mut out, "x64_efer", 8, EFER);
    let mut registers = Registers { out: &mut out, next: number::GENERAL };
    registers.all(&["rax", "rbx", "rcx", "rdx", "rsi", "rdi"], "int64", "");
    registers.all(&["rbp", "rsp"], "data_ptr", "");
    (8..16).for_each(|n| registers.add(&format!("r{n}"), "int64", ""));
    registers.add("rip", "code_ptr", "");
    registers.add("eflags", "x64_eflags", "");
    registers.all(&["cs", "ss", "ds", "es", "fs", "gs"], "int32", "");
    registers.all(&["fs_base", "gs_base", "k_gs_base"], "int", "");
    registers.add("cr0", "x64_cr0", "");
    registers.add("cr2", "int", "");
    registers.add("cr3", "x64_cr3", "");
    registers.add("cr4", "x64_cr4", "");
    registers.add("cr8", "int", "");
    registers.add("efer", "x64_efer", "");
    (0..8).for_each(|n| registers.add(&format!("st{n}"), "i387_ext", ""));
    let names = ["fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop"];
    registers.all(&names, "int", " group=\"float\"");
    feature("org.gnu.gdb.i386.core", &out)
}

fn sse_description() -> String {
    let mut out = String::new();
    vectors(&mut out);
    flags(&mut out, "x64_mxcsr", 4, MXCSR);
    let mut registers = Registers { out: &mut out, next: number::XMM };
    (0..16).for_each(|n| registers.add(&format!("xmm{n}"), "vec128", ""));
    registers.add("mxcsr", "x64_mxcsr", " group=\"vector\"");
    feature("org.gnu.gdb.i386.sse", &out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long_mode() -> GdbRegisters {
        let mut registers = GdbRegisters::default();
        registers.sregs.cs.l = 1;
        registers
    }

    fn nothing(_: u64) -> Option<Descriptor> {
        None
    }

    #[test]
    fn every_register_can_be_written_and_read() {
        let mut registers = long_mode();
        // Selectors, bits that the processor does not keep, and a tag word have tests of their own.
        let plain = |n: &u32| !(18..24).contains(n) && !(41..49).contains(n);
        for n in (0..number::COUNT).filter(plain) {
            let value: Vec<u8> = (0..size(n).unwrap()).map(|at| (n as usize + at) as u8).collect();
            assert_eq!(registers.write(n, &value, &mut nothing), Some(value.len()), "{n}");
            assert_eq!(registers.read(n), Some(value), "{n}");
        }
        assert_eq!(registers.regs.r15, 0x1615_1413_1211_100f);
        assert_eq!(registers.kernel_gs_base, 0x2120_1f1e_1d1c_1b1a);
        assert_eq!(registers.sregs.efer, 0x2726_2524_2322_2120);
        for n in [number::COUNT, u32::MAX] {
            assert_eq!((registers.read(n), registers.write(n, &[0; 16], &mut nothing)), (None, None), "{n}");
        }
        assert_eq!(registers.write(0, &[0; 7], &mut nothing), None, "too few bytes");
    }

    #[test]
    fn outside_64_bit_code_registers_are_narrow() {
        let mut registers = GdbRegisters::default();
        registers.regs.rax = 0x1122_3344_5566_7788;
        registers.regs.r8 = 1;
        assert_eq!(registers.read(0), Some(vec![0x88, 0x77, 0x66, 0x55, 0, 0, 0, 0]));
        assert_eq!(registers.read(8), Some(vec![0; 8]));
        assert_eq!(registers.write(8, &[9; 8], &mut nothing), Some(8));
        assert_eq!(registers.write(number::RIP, &[9; 8], &mut nothing), Some(8));
        assert_eq!((registers.regs.r8, registers.regs.rip), (1, 0x0909_0909));
    }

    #[test]
    fn the_tag_word_tells_kinds_of_numbers_apart() {
        let mut registers = long_mode();
        assert_eq!(registers.read(43), Some(vec![0xff, 0xff, 0, 0]), "all empty");
        // The top is 6: ST0 is R6, ST1 is R7; 1.0 and 0.0.
        registers.fpu.fsw = 6 << FSW_TOP_SHIFT;
        registers.fpu.ftwx = 0xc0;
        registers.fpu.fpr[0][7..10].copy_from_slice(&[0x80, 0xff, 0x3f]);
        assert_eq!(registers.read(43), Some(vec![0xff, 0x4f, 0, 0]));
        registers.write(43, &[0xff, 0x3f, 0, 0], &mut nothing);
        assert_eq!(registers.fpu.ftwx, 0x80);
    }

    #[test]
    fn the_description_names_every_register_once() {
        let text = GDB_CLASS.xml_files.iter().filter_map(|name| (GDB_CLASS.xml)(name)).collect::<String>();
        for n in 0..number::COUNT {
            assert_eq!(text.matches(&format!(" regnum=\"{n}\"")).count(), 1, "{n}");
        }
        assert!(
            text.contains("<reg name=\"efer\" bitsize=\"64\" type=\"x64_efer\" regnum=\"32\"/>"),
            "{text}"
        );
        assert!(
            text.contains("<reg name=\"st0\" bitsize=\"80\" type=\"i387_ext\" regnum=\"33\"/>"),
            "{text}"
        );
        assert!(
            text.contains("name=\"mxcsr\" bitsize=\"32\" type=\"x64_mxcsr\" group=\"vector\" regnum=\"65\"")
        );
        assert_eq!((GDB_CLASS.xml)("nosuch.xml"), None);
    }
}
