//! The chips of a PC: where their registers are, random requests to them, and which answers QEMU may give otherwise.

mod random;
mod table;

pub use random::Random;
pub use table::CHIPS;

use crate::{QTest, QTestBuilder};

/// The requests that belong together, as an index and the data behind it.
pub type Step = Vec<String>;

/// Has the machine reset, by QMP.
pub const RESET: &str = "reset";

/// What machines begin with: clocks that follow virtual time, nothing that ends the program, and little around the chips.
const MACHINE: [&str; 11] = [
    "-nodefaults",
    "-M",
    "pc",
    "-rtc",
    "base=2010-06-15T13:45:30,clock=vm",
    "-action",
    "shutdown=pause,panic=none,watchdog=none",
    "-vga",
    "none",
    "-net",
    "none",
];

/// A chip, or some that work together.
#[derive(Debug)]
pub struct Chip {
    /// What the command line calls it.
    pub name: &'static str,
    /// More options of both programs.
    pub arguments: &'static [&'static str],
    /// Requests before the first step.
    pub setup: &'static [&'static str],
    /// Where steps go.
    pub places: &'static [Place],
    /// Steps of the clock are below this power of two, in ns; there are none for 0.
    pub clock: u32,
    /// Answers that need not be the same.
    pub allowed: &'static [Allowed],
}

/// Where a chip is reached.
#[derive(Debug)]
pub enum Place {
    /// Ports: the first, how many, and the sizes of accesses.
    Ports(u64, u64, &'static [u64]),
    /// Addresses: the first, how many, and the sizes of accesses.
    Memory(u64, u64, &'static [u64]),
    /// The configuration space of a function of the first bus: device times 8 plus function.
    Config(u8),
    /// Data behind an index, with the requests' beginnings.
    Indexed {
        /// Sets the index.
        select: &'static str,
        /// How many there are.
        count: u64,
        /// From one to the next.
        stride: u64,
        /// Reads, as a whole.
        read: &'static str,
        /// Writes.
        write: &'static str,
        /// Bytes of a datum.
        size: u64,
    },
    /// Inputs of the device at a path.
    Lines(&'static str, u64),
    /// Requests as they are, those of one step separated by "; ".
    Requests(&'static [&'static str]),
}

/// An answer that may differ.
#[derive(Debug)]
pub struct Allowed {
    /// How the request begins.
    request: &'static str,
    /// The bits that may.
    bits: u64,
}

impl Chip {
    /// A machine with the chip, with a monitor, before [`Chip::set_up`].
    #[must_use]
    pub fn machine(&self, builder: QTestBuilder) -> QTestBuilder {
        builder.args(MACHINE).args(self.arguments).with_qmp()
    }

    /// Brings the chip within reach.
    ///
    /// # Panics
    /// As [`QTest::answers`].
    #[track_caller]
    pub fn set_up(&self, vm: &mut QTest) {
        for request in self.setup {
            vm.answers(request);
        }
    }

    /// Whether answers, this program's and QEMU's, are the same, but for what may differ.
    #[must_use]
    pub fn allows(&self, request: &str, answers: &[Vec<String>; 2]) -> bool {
        // The timer's line falls at other times than QEMU's, when nobody sees it.
        let [ours, qemu] = answers.each_ref().map(|lines| {
            let told = |line: &&String| !line.starts_with("IRQ ") || !line.ends_with(" 0");
            lines.iter().filter(told).collect::<Vec<_>>()
        });
        if ours == qemu {
            return true;
        }
        let rules = || self.allowed.iter().filter(|rule| request.starts_with(rule.request));
        let (Some((ours, before)), Some((qemu, qemus_before))) = (ours.split_last(), qemu.split_last())
        else {
            return false;
        };
        let number = |answer: &str| u64::from_str_radix(answer.strip_prefix("OK 0x")?, 16).ok();
        let (Some(ours), Some(qemu)) = (number(ours), number(qemu)) else { return false };
        before == qemus_before && rules().any(|rule| (ours ^ qemu) & !rule.bits == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_that_may_differ_are_left_out_of_the_comparison() {
        let mut chip = Chip { name: "", arguments: &[], setup: &[], places: &[], clock: 0, allowed: &[] };
        let answers = |ours: &str, qemu: &str| [vec![ours.to_owned()], vec![qemu.to_owned()]];
        assert!(!chip.allows("inb 0x61", &answers("OK 0x0010", "OK 0x0000")));
        chip.allowed = &[Allowed { request: "inb 0x61", bits: 0x10 }];
        assert!(chip.allows("inb 0x61", &answers("OK 0x0010", "OK 0x0000")));
        assert!(!chip.allows("inb 0x61", &answers("OK 0x0011", "OK 0x0000")));
        assert!(!chip.allows("inb 0x60", &answers("OK 0x0010", "OK 0x0000")));
        assert!(
            !chip.allows(
                "inb 0x61",
                &[vec!["IRQ raise 1".into(), "OK 0x0000".into()], vec!["OK 0x0000".into()]]
            )
        );
    }
}
