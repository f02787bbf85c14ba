//! What the loader told the guest, read from any of the three protocols into one form and copied,
//! so that the guest may use low memory afterwards.

use crate::io::{read8, read32, read64};

/// A loader's protocol, by the entry it jumped to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// The Linux 32-bit boot protocol: a zero page.
    Linux,
    /// Multiboot 1: an information structure.
    Multiboot,
    /// Xen's PVH: `hvm_start_info`.
    Pvh,
}

impl Protocol {
    /// The name guests print.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Linux => "linux",
            Protocol::Multiboot => "multiboot",
            Protocol::Pvh => "pvh",
        }
    }
}

/// A stretch of the memory map.
#[derive(Clone, Copy)]
pub struct Range {
    /// First byte.
    pub base: u64,
    /// Bytes.
    pub length: u64,
    /// e820 type: 1 is RAM.
    pub kind: u32,
}

/// An initrd or module.
#[derive(Clone, Copy)]
pub struct Module {
    /// First byte.
    pub base: u64,
    /// Bytes.
    pub length: u64,
    /// Its command line; a Linux initrd has none.
    pub cmdline: Text<128>,
}

/// Up to N bytes of text.
#[derive(Clone, Copy)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Text<N> {
    const EMPTY: Text<N> = Text { bytes: [0; N], length: 0 };

    /// Copies zero-terminated text from memory; address 0 is no text.
    fn read(address: u64) -> Text<N> {
        let mut text = Text::EMPTY;
        if address == 0 {
            return text;
        }
        for (slot, i) in text.bytes.iter_mut().zip(0..) {
            match read8(address + i) {
                0 => break,
                value => *slot = value,
            }
            text.length += 1;
        }
        text
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }
}

/// Up to N items.
#[derive(Clone, Copy)]
pub struct List<T: Copy, const N: usize> {
    items: [T; N],
    length: usize,
}

impl<T: Copy, const N: usize> List<T, N> {
    fn new(filler: T) -> Self {
        List { items: [filler; N], length: 0 }
    }

    fn push(&mut self, item: T) {
        if let Some(slot) = self.items.get_mut(self.length) {
            *slot = item;
            self.length += 1;
        }
    }

    /// The items.
    pub fn as_slice(&self) -> &[T] {
        self.items.get(..self.length).unwrap_or(&[])
    }
}

/// What the loader left.
pub struct BootInfo {
    /// Which protocol it used.
    pub protocol: Protocol,
    /// The kernel's command line.
    pub cmdline: Text<1024>,
    /// The memory map.
    pub memory: List<Range, 64>,
    /// Initrd or modules.
    pub modules: List<Module, 8>,
    /// The RSDP's address as the loader gave it, 0 if it gave none.
    pub rsdp: u64,
}

impl BootInfo {
    /// Reads the loader's structures.
    ///
    /// # Safety
    /// `address` must be what the loader of `protocol` (start.s's number) passed.
    pub(crate) unsafe fn read(protocol: u32, address: u64) -> BootInfo {
        let mut info = BootInfo {
            protocol: Protocol::Linux,
            cmdline: Text::EMPTY,
            memory: List::new(Range { base: 0, length: 0, kind: 0 }),
            modules: List::new(Module { base: 0, length: 0, cmdline: Text::EMPTY }),
            rsdp: 0,
        };
        match protocol {
            1 => info.read_linux(address),
            2 => info.read_multiboot(address),
            3 => info.read_pvh(address),
            _ => {
                crate::say!("FAIL multiboot-magic");
                crate::check::exit(1)
            }
        }
        info
    }

    /// `struct boot_params`, Documentation/arch/x86/zero-page.rst.
    fn read_linux(&mut self, at: u64) {
        self.protocol = Protocol::Linux;
        self.rsdp = read64(at + 0x70);
        self.cmdline = Text::read(u64::from(read32(at + 0x228)));
        let entries = u64::from(read8(at + 0x1e8));
        for entry in (0..entries).map(|i| at + 0x2d0 + i * 20) {
            self.memory.push(Range {
                base: read64(entry),
                length: read64(entry + 8),
                kind: read32(entry + 16),
            });
        }
        let (base, length) = (read32(at + 0x218), read32(at + 0x21c));
        if length != 0 {
            self.modules.push(Module { base: base.into(), length: length.into(), cmdline: Text::EMPTY });
        }
    }

    /// Multiboot Specification 0.6.96, section 3.3.
    fn read_multiboot(&mut self, at: u64) {
        self.protocol = Protocol::Multiboot;
        let flags = read32(at);
        if flags & 1 << 2 != 0 {
            self.cmdline = Text::read(u64::from(read32(at + 16)));
        }
        if flags & 1 << 3 != 0 {
            let (count, table) = (u64::from(read32(at + 20)), u64::from(read32(at + 24)));
            for module in (0..count).map(|i| table + i * 16) {
                let (base, end) = (read32(module), read32(module + 4));
                self.modules.push(Module {
                    base: base.into(),
                    length: u64::from(end) - u64::from(base),
                    cmdline: Text::read(u64::from(read32(module + 8))),
                });
            }
        }
        if flags & 1 << 6 != 0 {
            let (length, table) = (u64::from(read32(at + 44)), u64::from(read32(at + 48)));
            let mut entry = table;
            while entry < table + length {
                self.memory.push(Range {
                    base: read64(entry + 4),
                    length: read64(entry + 12),
                    kind: read32(entry + 20),
                });
                entry += u64::from(read32(entry)) + 4;
            }
        }
    }

    /// `struct hvm_start_info`, xen/include/public/arch-x86/hvm/start_info.h; its memory map is in
    /// version 1.
    fn read_pvh(&mut self, at: u64) {
        self.protocol = Protocol::Pvh;
        if read32(at) != 0x336e_c578 {
            crate::say!("FAIL pvh-magic got=", crate::print::Hex(read32(at).into()));
            crate::check::exit(1);
        }
        self.cmdline = Text::read(read64(at + 24));
        self.rsdp = read64(at + 32);
        let (count, table) = (u64::from(read32(at + 12)), read64(at + 16));
        for module in (0..count).map(|i| table + i * 32) {
            self.modules.push(Module {
                base: read64(module),
                length: read64(module + 8),
                cmdline: Text::read(read64(module + 16)),
            });
        }
        if read32(at + 4) < 1 {
            return;
        }
        let (table, count) = (read64(at + 40), u64::from(read32(at + 48)));
        for entry in (0..count).map(|i| table + i * 24) {
            self.memory.push(Range {
                base: read64(entry),
                length: read64(entry + 8),
                kind: read32(entry + 16),
            });
        }
    }

    /// The words of the command line.
    pub fn words(&self) -> impl Iterator<Item = &[u8]> {
        self.cmdline.as_bytes().split(|&b| b == b' ').filter(|word| !word.is_empty())
    }

    /// Whether the command line has this word.
    pub fn flag(&self, name: &str) -> bool {
        self.words().any(|word| word == name.as_bytes())
    }

    /// The value of `name=value` on the command line.
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        self.words().find_map(|word| word.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    }

    /// The value of `name=value` as a decimal number.
    pub fn number(&self, name: &str) -> Option<u64> {
        let digits = self.value(name)?;
        digits.iter().try_fold(0u64, |sum, &b| {
            let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
            sum.checked_mul(10)?.checked_add(digit)
        })
    }

    /// Ranges of RAM.
    pub fn ram(&self) -> impl Iterator<Item = &Range> {
        self.memory.as_slice().iter().filter(|range| range.kind == 1)
    }
}
