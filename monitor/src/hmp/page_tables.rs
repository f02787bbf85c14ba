//! `info mem` and `info tlb`: where the page tables of a CPU lead (target/i386/monitor.c; Intel SDM volume 3A, 4).

use accel_kvm::kvm_bindings::kvm_sregs;
use memory::{MemTxResult, address_space_memory};

use super::args::Args;
use super::session::{Session, out};
use super::x86::{self, spec};

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const LARGE: u64 = 1 << 7;
/// The bits of an entry with the letters `info tlb` shows.
const LETTERS: [(u64, char); 9] = [
    (1 << 63, 'X'),
    (1 << 8, 'G'),
    (LARGE, 'P'),
    (1 << 6, 'D'),
    (1 << 5, 'A'),
    (1 << 4, 'C'),
    (1 << 3, 'T'),
    (USER, 'U'),
    (WRITABLE, 'W'),
];
/// Where an entry of 64 bits leads.
const ADDRESS: u64 = 0x3_ffff_ffff_f000;
/// Tables looked at: a guest can have tables that lead to themselves, and the monitor must come to an end.
const MAX_TABLES: u32 = 1 << 14;

/// A way of paging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Paging {
    root: u64,
    /// The root's level; pages are at level 0.
    levels: u32,
    /// Bytes of an entry.
    entry: usize,
    /// Entries of the root.
    root_entries: u64,
    /// The levels that can have pages of their own.
    large: [bool; 5],
}

impl Paging {
    /// As the registers say; `None` without paging.
    fn of(cr0: u64, cr3: u64, cr4: u64, efer: u64) -> Option<Paging> {
        if cr0 & spec::CR0_PG == 0 {
            return None;
        }
        let (pae, long) = (cr4 & spec::CR4_PAE != 0, efer & spec::EFER_LMA != 0);
        Some(match (pae, long) {
            (false, _) => Paging {
                root: cr3 & 0xffff_f000,
                levels: 2,
                entry: 4,
                root_entries: 1024,
                large: [false, cr4 & spec::CR4_PSE != 0, false, false, false],
            },
            (true, false) => Paging {
                root: cr3 & 0xffff_ffe0,
                levels: 3,
                entry: 8,
                root_entries: 4,
                large: [false, true, false, false, false],
            },
            (true, true) => Paging {
                root: cr3 & ADDRESS,
                levels: if cr4 & spec::CR4_LA57 != 0 { 5 } else { 4 },
                entry: 8,
                root_entries: 512,
                large: [false, true, true, false, false],
            },
        })
    }

    fn index_bits(self) -> u32 {
        if self.entry == 4 { 10 } else { 9 }
    }

    /// The bits of an address below what an entry of this level stands for.
    fn shift(self, level: u32) -> u32 {
        12 + level * self.index_bits()
    }

    /// The address with the sign that the hardware asks for.
    fn canonical(self, address: u64) -> u64 {
        match self.levels {
            4 | 5 => {
                let unused = 64 - self.shift(self.levels);
                ((address << unused) as i64 >> unused) as u64
            }
            _ => address,
        }
    }
}

/// What the entries of tables mean, told in order of address.
trait Visitor {
    /// An entry for `address` that is a page: the entry, its level, and the rights of all tables on the way.
    fn page(&mut self, address: u64, entry: u64, level: u32, rights: u64);
    /// Nothing is at `address`.
    fn hole(&mut self, address: u64);
    /// Whether to go on.
    fn wants_more(&self) -> bool;
}

struct Walk<'a> {
    paging: Paging,
    read: &'a dyn Fn(u64, &mut [u8]) -> bool,
    tables: u32,
}

impl Walk<'_> {
    fn table(&mut self, at: u64, level: u32, base: u64, rights: u64, visitor: &mut dyn Visitor) {
        let Some(level) = level.checked_sub(1) else { return };
        self.tables += 1;
        let paging = self.paging;
        let entries = if level + 1 == paging.levels { paging.root_entries } else { 1 << paging.index_bits() };
        let mut bytes = [0; 4096];
        let bytes = &mut bytes[..entries as usize * paging.entry];
        if !(self.read)(at, bytes) {
            bytes.fill(0);
        }
        for (number, entry) in (0_u64..).zip(bytes.chunks_exact(paging.entry)) {
            if !visitor.wants_more() || self.tables > MAX_TABLES {
                return;
            }
            let entry = entry.iter().rev().fold(0, |value: u64, &byte| value << 8 | u64::from(byte));
            let address = base | number << paging.shift(level);
            // The root's entries of PAE have no rights.
            let has_rights = !(paging.levels == 3 && level == 2);
            let rights = if has_rights { rights & entry } else { rights };
            let is_page = level == 0 || entry & LARGE != 0 && paging.large[level as usize];
            match (entry & PRESENT != 0, is_page) {
                (false, _) => visitor.hole(address),
                (true, true) => visitor.page(address, entry, level, rights),
                (true, false) => {
                    let mask = if paging.entry == 4 { 0xffff_f000 } else { ADDRESS };
                    self.table(entry & mask, level, address, rights, visitor);
                }
            }
        }
    }
}

fn walk(paging: Paging, read: &dyn Fn(u64, &mut [u8]) -> bool, visitor: &mut dyn Visitor) -> bool {
    let mut walk = Walk { paging, read, tables: 0 };
    walk.table(paging.root, paging.levels, 0, u64::MAX, visitor);
    walk.tables <= MAX_TABLES
}

/// `info tlb`: each page.
struct Pages<'a> {
    mon: &'a mut Session,
    paging: Paging,
}

impl Visitor for Pages<'_> {
    fn page(&mut self, address: u64, entry: u64, level: u32, _rights: u64) {
        let shift = self.paging.shift(level);
        let mask = match (self.paging.entry, self.paging.levels) {
            // As QEMU has them, which shows a bit more than the address.
            (4, _) if level == 1 => 0xffe0_0000,
            (_, 3) if level == 1 => !((1 << 20) - 1),
            (4, _) => 0xffff_f000,
            (_, 3) => !0xfff,
            _ => ADDRESS & !((1 << shift) - 1),
        };
        let shown = if level == 0 { entry & !LARGE } else { entry };
        let letters: String =
            LETTERS.iter().map(|&(bit, c)| if shown & bit != 0 { c } else { '-' }).collect();
        out!(self.mon, "{:016x}: {:016x} {letters}\n", self.paging.canonical(address), shown & mask);
    }
    fn hole(&mut self, _address: u64) {}
    fn wants_more(&self) -> bool {
        !self.mon.is_full()
    }
}

/// `info mem`: ranges of pages with the same rights.
struct Ranges<'a> {
    mon: &'a mut Session,
    paging: Paging,
    /// Where the range began, and its rights; none in a hole.
    range: Option<(u64, u64)>,
}

impl Ranges<'_> {
    fn go_on(&mut self, address: u64, rights: Option<u64>) {
        let same = self.range.map(|(_, rights)| rights) == rights;
        if same {
            return;
        }
        if let Some((start, rights)) = self.range {
            let [from, to, size] =
                [start, address, address.wrapping_sub(start)].map(|a| self.paging.canonical(a));
            let (user, write) =
                (if rights & USER != 0 { 'u' } else { '-' }, if rights & WRITABLE != 0 { 'w' } else { '-' });
            out!(self.mon, "{from:016x}-{to:016x} {size:016x} {user}r{write}\n");
        }
        self.range = rights.map(|rights| (address, rights));
    }
}

impl Visitor for Ranges<'_> {
    fn page(&mut self, address: u64, _entry: u64, _level: u32, rights: u64) {
        self.go_on(address, Some(rights & (USER | WRITABLE)));
    }
    fn hole(&mut self, address: u64) {
        self.go_on(address, None);
    }
    fn wants_more(&self) -> bool {
        !self.mon.is_full()
    }
}

/// Tells of each page: its address, where it leads, and its size; whether to go on.
type Tell<'a> = &'a mut dyn FnMut(u64, u64, u64) -> bool;

/// For a dump: where pages lead.
struct Places<'a> {
    paging: Paging,
    tell: Tell<'a>,
    more: bool,
}

impl Visitor for Places<'_> {
    fn page(&mut self, address: u64, entry: u64, level: u32, _rights: u64) {
        let size = 1 << self.paging.shift(level);
        // Large pages of the 386's tables can lie above 4 GiB (PSE-36).
        let high = if self.paging.entry == 4 && level == 1 { (entry & 0x1f_e000) << 19 } else { 0 };
        let mask = if self.paging.entry == 4 { 0xffff_f000 } else { ADDRESS };
        self.more &= (self.tell)(self.paging.canonical(address), high | entry & mask & !(size - 1), size);
    }
    fn hole(&mut self, _address: u64) {}
    fn wants_more(&self) -> bool {
        self.more
    }
}

/// Tells `tell` of each page of a CPU with these registers; `None` without paging, and whether those were all.
pub(crate) fn mappings(sregs: &kvm_sregs, tell: Tell<'_>) -> Option<bool> {
    let paging = Paging::of(sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer)?;
    let mut places = Places { paging, tell, more: true };
    Some(walk(paging, &read, &mut places) && places.more)
}

/// Whether a CPU with these registers is in long mode.
pub(crate) fn is_long_mode(sregs: &kvm_sregs) -> bool {
    sregs.efer & spec::EFER_LMA != 0
}

/// How the monitor's CPU has paging set up.
fn paging(mon: &Session) -> Result<Paging, String> {
    let cpu = mon.cpu().ok_or("No CPU available")?;
    let sregs = x86::system_registers(&cpu);
    sregs.and_then(|s| Paging::of(s.cr0, s.cr3, s.cr4, s.efer)).ok_or_else(|| "PG disabled".to_owned())
}

fn read(address: u64, data: &mut [u8]) -> bool {
    address_space_memory().read(address, data) == MemTxResult::Ok
}

fn cut(complete: bool) -> Result<(), String> {
    if complete { Ok(()) } else { Err("(too many tables, cut here)".to_owned()) }
}

pub(crate) fn info_tlb(mon: &mut Session, _: &Args) -> Result<(), String> {
    let paging = paging(mon)?;
    cut(walk(paging, &read, &mut Pages { mon, paging }))
}

pub(crate) fn info_mem(mon: &mut Session, _: &Args) -> Result<(), String> {
    let paging = paging(mon)?;
    let mut ranges = Ranges { mon, paging, range: None };
    let complete = walk(paging, &read, &mut ranges);
    ranges.go_on(1 << paging.shift(paging.levels).min(63), None);
    cut(complete)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tables in a memory of 64 KiB: entries as (address, entry).
    fn shown(paging: Paging, entries: &[(usize, u64)], tlb: bool) -> String {
        let mut memory = vec![0; 1 << 16];
        for &(at, entry) in entries {
            memory[at..at + paging.entry].copy_from_slice(&entry.to_le_bytes()[..paging.entry]);
        }
        let read = |at: u64, data: &mut [u8]| match memory.get(at as usize..at as usize + data.len()) {
            Some(bytes) => {
                data.copy_from_slice(bytes);
                true
            }
            None => false,
        };
        let mut mon = Session::default();
        if tlb {
            walk(paging, &read, &mut Pages { mon: &mut mon, paging });
        } else {
            let mut ranges = Ranges { mon: &mut mon, paging, range: None };
            walk(paging, &read, &mut ranges);
            ranges.go_on(1 << paging.shift(paging.levels), None);
        }
        mon.into_text()
    }

    #[test]
    fn long_mode_has_pages_of_three_sizes() {
        let paging = Paging::of(spec::CR0_PG, 0x1000, spec::CR4_PAE, spec::EFER_LMA).unwrap();
        let last = 511 * 8;
        let entries = [
            (0x1000, 0x2007),
            (0x1000 + last, 0x2003),
            (0x2000, 0x3007),
            (0x2000 + last, 0x4000_0083),
            (0x3000, 0x4007),
            (0x3008, 0x20_00e3),
            (0x4000, 0x7067),
            (0x4008, 0x8067),
            (0x4010, 1 << 63 | 0x9001),
        ];
        let tlb = shown(paging, &entries, true);
        let low = "0000000000000000: 0000000000007000 ---DA--UW\n0000000000001000: 0000000000008000 ---DA--UW\n\
                   0000000000002000: 0000000000009000 X--------\n0000000000200000: 0000000000200000 --PDA---W\n\
                   0000007fc0000000: 0000000040000000 --P-----W\n";
        assert!(tlb.starts_with(low), "{tlb}");
        assert!(tlb.contains("ffffff8000002000: 0000000000009000 X--------\n"), "{tlb}");
        let mem = shown(paging, &entries, false);
        assert!(
            mem.starts_with(
                "0000000000000000-0000000000002000 0000000000002000 urw\n\
                 0000000000002000-0000000000003000 0000000000001000 -r-\n\
                 0000000000200000-0000000000400000 0000000000200000 -rw\n\
                 0000007fc0000000-0000008000000000 0000000040000000 -rw\n"
            ),
            "{mem}"
        );
    }

    #[test]
    fn pae_and_the_386s_tables() {
        let paging = Paging::of(spec::CR0_PG, 0x1000, spec::CR4_PSE, 0).unwrap();
        let entries = [(0x1000, 0x2003), (0x1004, 0x40_0083), (0x2004, 0x5003)];
        assert_eq!(
            shown(paging, &entries, true),
            "0000000000001000: 0000000000005000 --------W\n0000000000400000: 0000000000400000 --P-----W\n"
        );
        let paging = Paging::of(spec::CR0_PG, 0x1020, spec::CR4_PAE, 0).unwrap();
        let entries = [(0x1028, 0x2001), (0x2000, 0x20_0087)];
        assert_eq!(
            shown(paging, &entries, false),
            "0000000040000000-0000000040200000 0000000000200000 urw\n"
        );
        assert_eq!(Paging::of(0, 0x1000, spec::CR4_PAE, 0), None);
    }

    #[test]
    fn tables_that_lead_to_themselves_come_to_an_end() {
        let paging = Paging::of(spec::CR0_PG, 0x1000, spec::CR4_PAE, spec::EFER_LMA).unwrap();
        let entries: Vec<_> = (0..512).map(|n| (0x1000 + 8 * n, 0x1003)).collect();
        assert!(shown(paging, &entries, true).ends_with("(output too long, cut here)\n"));
        shown(paging, &entries, false);
    }
}
