//! The headers of a core file (System V ABI, chapters 4 and 5).

/// Names and numbers as the ABI has them.
mod spec {
    pub const ET_CORE: u16 = 4;
    pub const EM_386: u16 = 3;
    pub const EM_X86_64: u16 = 62;
    pub const EV_CURRENT: u32 = 1;
    pub const PT_LOAD: u32 = 1;
    pub const PT_NOTE: u32 = 4;
    pub const ELFCLASS32: u8 = 1;
    pub const ELFCLASS64: u8 = 2;
    pub const ELFDATA2LSB: u8 = 1;
}

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// Whether the file has numbers of 64 bits.
    pub is_64bit: bool,
    /// Whether the guest is in long mode.
    pub long_mode: bool,
}

/// A part of memory and where the file has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    pub physical: u64,
    pub virtual_: u64,
    pub len: u64,
    /// Offset behind the notes.
    pub offset: u64,
}

impl Kind {
    fn header_size(self) -> u64 {
        if self.is_64bit { 64 } else { 52 }
    }

    fn program_header_size(self) -> u64 {
        if self.is_64bit { 56 } else { 32 }
    }

    /// An address or an offset.
    fn word(self, out: &mut Vec<u8>, value: u64) {
        match self.is_64bit {
            true => out.extend(value.to_le_bytes()),
            // A file of this class has nothing above 4 GiB.
            false => out.extend((value as u32).to_le_bytes()),
        }
    }

    fn program_header(self, out: &mut Vec<u8>, kind: u32, load: &Load) {
        out.extend(kind.to_le_bytes());
        if self.is_64bit {
            // Flags, which nobody asks for.
            out.extend(0_u32.to_le_bytes());
        }
        for value in [load.offset, load.virtual_, load.physical, load.len, load.len] {
            self.word(out, value);
        }
        if !self.is_64bit {
            out.extend(0_u32.to_le_bytes());
        }
        // Alignment.
        self.word(out, 0);
    }

    /// All that comes before the notes.
    pub fn headers(self, loads: &[Load], notes_len: u64) -> Vec<u8> {
        let count = loads.len() + 1;
        let notes_at = self.header_size() + self.program_header_size() * count as u64;
        let class = if self.is_64bit { spec::ELFCLASS64 } else { spec::ELFCLASS32 };
        let mut out = vec![0x7f, b'E', b'L', b'F', class, spec::ELFDATA2LSB, spec::EV_CURRENT as u8];
        out.resize(16, 0);
        let machine = if self.long_mode { spec::EM_X86_64 } else { spec::EM_386 };
        out.extend(spec::ET_CORE.to_le_bytes());
        out.extend(machine.to_le_bytes());
        out.extend(spec::EV_CURRENT.to_le_bytes());
        // No entry, the program headers, no sections, no flags.
        for value in [0, self.header_size(), 0] {
            self.word(&mut out, value);
        }
        out.extend(0_u32.to_le_bytes());
        let sizes = [self.header_size() as u16, self.program_header_size() as u16, count as u16, 0, 0, 0];
        out.extend(sizes.into_iter().flat_map(u16::to_le_bytes));
        let notes = Load { physical: 0, virtual_: 0, len: notes_len, offset: notes_at };
        self.program_header(&mut out, spec::PT_NOTE, &notes);
        for load in loads {
            let offset = notes_at + notes_len + load.offset;
            self.program_header(&mut out, spec::PT_LOAD, &Load { offset, ..*load });
        }
        out
    }
}

/// A note: 32-bit sizes and type, then name and contents, each filled up to a multiple of 4.
pub(super) fn note(out: &mut Vec<u8>, name: &str, kind: u32, contents: &[u8]) {
    let name = [name.as_bytes(), &[0]].concat();
    for value in [name.len() as u32, contents.len() as u32, kind] {
        out.extend(value.to_le_bytes());
    }
    for part in [&name[..], contents] {
        out.extend(part);
        out.resize(out.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_classes_have_their_sizes() {
        let load = Load { physical: 0x1000, virtual_: 0x2000, len: 0x3000, offset: 0x40 };
        let long = Kind { is_64bit: true, long_mode: true }.headers(&[load], 0x100);
        assert_eq!(long.len(), 64 + 2 * 56);
        assert_eq!(long[18..20], [62, 0]);
        let second = &long[64 + 56..];
        assert_eq!(second[8..16], (176_u64 + 0x100 + 0x40).to_le_bytes());
        assert_eq!(second[16..24], 0x2000_u64.to_le_bytes());
        assert_eq!(second[24..32], 0x1000_u64.to_le_bytes());
        let short = Kind { is_64bit: false, long_mode: false }.headers(&[load], 0x100);
        assert_eq!(short.len(), 52 + 2 * 32);
        assert_eq!(short[52 + 32 + 4..52 + 32 + 8], (116_u32 + 0x100 + 0x40).to_le_bytes());
    }

    #[test]
    fn notes_are_filled_up() {
        let mut out = Vec::new();
        note(&mut out, "CORE", 1, &[9; 5]);
        assert_eq!(out, *b"\x05\0\0\0\x05\0\0\0\x01\0\0\0CORE\0\0\0\0\x09\x09\x09\x09\x09\0\0\0");
    }
}
