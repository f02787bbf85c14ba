//! The chips of a PC: where their registers are, random requests to them, and which answers QEMU may give otherwise.

mod random;

pub use random::Random;

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

/// Has interrupts be told of.
const INTERRUPTS: &str = "irq_intercept_in ioapic";
/// Requests that move lines of the PIC, as no path of its own is the same in both programs: the timer's counter 0, the keyboard
/// controller's two and a UART's.
const LINES: &[&str] = &[
    "outb 0x43 0x30",
    "outb 0x43 0x34",
    "outb 0x64 0xd2; outb 0x60 0x1c",
    "outb 0x64 0xd3; outb 0x60 0x1c",
    "inb 0x60",
    "outb 0x3fc 0x08; outb 0x3f9 0x02",
    "outb 0x3f9 0x00",
];
/// The timer's counter 0 as it drives no line.
const PIT_AT_REST: [&str; 3] = ["outb 0x43 0x30", "outb 0x40 1", "outb 0x40 0"];
/// PIIX4's power management at port 0x600.
const PM_AT_600: [&str; 4] =
    ["outl 0xcf8 0x80000b40", "outl 0xcfc 0x601", "outl 0xcf8 0x80000b80", "outb 0xcfc 1"];

/// All of them.
pub const CHIPS: &[Chip] = &[
    Chip {
        name: "i8259",
        arguments: &["-serial", "null"],
        setup: &[],
        places: &[
            Place::Ports(0x21, 1, &[1]),
            Place::Ports(0xa0, 2, &[1]),
            Place::Requests(&[
                "inb 0x20",
                "inw 0x20",
                "outb 0x20 0x0a; inb 0x20",
                "outb 0x20 0x0b; inb 0x20",
                "outb 0x20 0x0c; inb 0x20",
                "outb 0x20 0x0c; inb 0x21",
                "outb 0x20 0x20",
                "outb 0x20 0x64",
                "outb 0x20 0x80",
                "outb 0x20 0x00",
                "outb 0x20 0xa0",
                "outb 0x20 0xc3",
                "outb 0x20 0xe2",
                "outb 0x20 0x68",
                "outb 0x20 0x48",
                // After the master's ICW1 the slave is to tell its level, which some lines of QEMU's do not have to change for.
                "outb 0x20 0x11; outb 0x21 0x30; outb 0x21 0x04; outb 0x21 0x01; outb 0xa1 0x00",
                "outb 0x20 0x11; outb 0x21 0x08; outb 0x21 0x04; outb 0x21 0x13; outb 0xa1 0x00",
                "outb 0x20 0x12; outb 0x21 0x50; outb 0xa1 0x10",
            ]),
            Place::Requests(LINES),
        ],
        clock: 24,
        allowed: &[],
    },
    Chip {
        name: "ioapic",
        arguments: &[],
        setup: &[],
        places: &[
            Place::Indexed {
                select: "writel 0xfec00000",
                count: 0x40,
                stride: 1,
                read: "readl 0xfec00010",
                write: "writel 0xfec00010",
                size: 4,
            },
            Place::Memory(0xfec0_0000, 0x50, &[1, 2, 4, 8]),
            Place::Lines("ioapic", 24),
        ],
        clock: 0,
        allowed: &[],
    },
    Chip {
        name: "i8254",
        arguments: &[],
        setup: &["outb 0x43 0x34", "outb 0x40 0", "outb 0x40 0x10"],
        places: &[
            // Counter 0 only with periods of some length: the rate of its edges has a limit here.
            Place::Ports(0x41, 3, &[1]),
            Place::Ports(0x61, 1, &[1]),
            Place::Requests(&[
                "inb 0x40",
                "inw 0x40",
                "outb 0x43 0x34; outb 0x40 0x00; outb 0x40 0x10",
                "outb 0x43 0x36; outb 0x40 0x01; outb 0x40 0x20",
                "outb 0x43 0x26; outb 0x40 0x08",
                "outb 0x43 0x10; outb 0x40 0x80",
                "outb 0x43 0x12; outb 0x40 0x80",
                "outb 0x43 0x38; outb 0x40 0x00; outb 0x40 0x40",
                "outb 0x43 0x1a; outb 0x40 0xff",
                "outb 0x43 0x00; inb 0x40; inb 0x40",
                "outb 0x43 0xc2; inb 0x40; inb 0x40; inb 0x40",
            ]),
            // Whether there was an edge: the PIC's requests, and polling it to take them.
            Place::Requests(&["outb 0x20 0x0a; inb 0x20", "outb 0x20 0x0c; inb 0x20; outb 0x20 0x20"]),
        ],
        clock: 28,
        allowed: &[],
    },
    Chip {
        name: "hpet",
        arguments: &[],
        setup: &[INTERRUPTS, PIT_AT_REST[0], PIT_AT_REST[1], PIT_AT_REST[2]],
        places: &[
            Place::Memory(0xfed0_0000, 0x100, &[4, 8]),
            Place::Memory(0xfed0_0010, 4, &[4]),
            // QEMU has storage for a timer behind the last one.
            Place::Memory(0xfed0_0180, 0x280, &[1, 2, 4, 8]),
            // Values that QEMU does not count with for minutes: periods of some length, in 32 bits.
            Place::Requests(&[
                "writel 0xfed00010 1",
                "writel 0xfed00010 0",
                "writel 0xfed00010 3",
                "readl 0xfed000f0",
                "readq 0xfed000f0",
                "readl 0xfed00020",
                "writel 0xfed00020 7",
                "writel 0xfed00100 0x004; writel 0xfed00108 0x100000",
                "writel 0xfed00120 0xe06; writel 0xfed00128 0x200000",
                "writel 0xfed00120 0xe04",
                "writel 0xfed00120 0x102",
                "writel 0xfed00120 0x4002; writeq 0xfed00130 0x0123456789abcdef",
                "writel 0xfed00140 0x14e; writel 0xfed00148 0x300000; writel 0xfed00148 0x8000",
                "writel 0xfed00140 0x14c; writel 0xfed00148 0x400000; writel 0xfed00148 0x10000",
                "writel 0xfed00140 0xffffffb7",
                "writel 0xfed000f0 0; writel 0xfed000f4 0",
                "writel 0xfed00010 0; writel 0xfed000f0 0xffff0000; writel 0xfed00010 1",
                "readq 0xfed00100; readq 0xfed00108; readq 0xfed00110",
                "readq 0xfed00120; readq 0xfed00128; readq 0xfed00130",
                "readq 0xfed00140; readq 0xfed00148; readq 0xfed00150",
            ]),
        ],
        // Guests can have QEMU's clock go from tick to tick.
        clock: 24,
        allowed: &[],
    },
    Chip {
        name: "rtc",
        arguments: &[],
        setup: &[INTERRUPTS, PIT_AT_REST[0], PIT_AT_REST[1], PIT_AT_REST[2]],
        places: &[
            // What it shows.
            Place::Requests(&[
                "outb 0x70 0x00; inb 0x71; outb 0x70 0x02; inb 0x71; outb 0x70 0x04; inb 0x71",
                "outb 0x70 0x06; inb 0x71; outb 0x70 0x07; inb 0x71; outb 0x70 0x08; inb 0x71",
                "outb 0x70 0x09; inb 0x71; outb 0x70 0x32; inb 0x71; outb 0x70 0x37; inb 0x71",
                "outb 0x70 0x8f; inb 0x71; outb 0x71 0x05; inb 0x70; inw 0x70",
                "outb 0x70 0x40; outb 0x71 0xaa; outb 0x70 0xc0; inb 0x71",
                "outb 0x70 0x5b; inb 0x71; outb 0x70 0x35; inb 0x71; outb 0x70 0x14; inb 0x71; outb 0x70 0x5f; inb 0x71",
            ]),
            Place::Requests(&[
                "outb 0x70 0x0c; inb 0x71",
                "outb 0x70 0x0d; inb 0x71; outb 0x71 0",
                "outb 0x70 0x0a; inb 0x71",
                "outb 0x70 0x0a; outb 0x71 0x26",
                "outb 0x70 0x0a; outb 0x71 0x2f",
                "outb 0x70 0x0a; outb 0x71 0x20",
                "outb 0x70 0x0a; outb 0x71 0x66",
                "outb 0x70 0x0a; outb 0x71 0x76",
                "outb 0x70 0x0b; outb 0x71 0x02",
                "outb 0x70 0x0b; outb 0x71 0x12",
                "outb 0x70 0x0b; outb 0x71 0x32",
                "outb 0x70 0x0b; outb 0x71 0x72",
                "outb 0x70 0x0b; outb 0x71 0x82",
                "outb 0x70 0x0b; outb 0x71 0xf2",
                "outb 0x70 0x0b; inb 0x71",
                // The time: QEMU's registers stand still where nobody looks, so they are read before they are written.
                "outb 0x70 0x00; inb 0x71; outb 0x71 0x58",
                "outb 0x70 0x02; inb 0x71; outb 0x71 0x59",
                "outb 0x70 0x04; inb 0x71; outb 0x71 0x23",
                "outb 0x70 0x07; inb 0x71; outb 0x71 0x28",
                "outb 0x70 0x08; inb 0x71; outb 0x71 0x02",
                "outb 0x70 0x09; inb 0x71; outb 0x71 0x24",
                "outb 0x70 0x32; inb 0x71; outb 0x71 0x20",
                // The alarm.
                "outb 0x70 0x01; outb 0x71 0x00; outb 0x70 0x03; outb 0x71 0xc0; outb 0x70 0x05; outb 0x71 0xff",
                "outb 0x70 0x01; outb 0x71 0xff",
                "outb 0x70 0x03; outb 0x71 0x00",
                "outb 0x70 0x05; outb 0x71 0x00",
            ]),
        ],
        clock: 34,
        allowed: &[],
    },
    Chip {
        name: "i8257",
        arguments: &[],
        setup: &[],
        places: &[
            Place::Ports(0x00, 0x10, &[1]),
            Place::Ports(0xc0, 0x20, &[1]),
            Place::Ports(0x80, 0x10, &[1]),
            Place::Ports(0x480, 8, &[1]),
            Place::Ports(0x00, 0x10, &[1, 2, 4]),
            Place::Ports(0xc0, 0x20, &[1, 2, 4]),
        ],
        clock: 0,
        allowed: &[],
    },
    Chip {
        name: "i440fx",
        arguments: &[],
        setup: &[],
        places: &[
            Place::Config(0),
            Place::Ports(0xcf8, 8, &[1, 2, 4]),
            Place::Memory(0xa_0000, 0x6_0000, &[1, 4]),
        ],
        clock: 0,
        allowed: &[],
    },
    Chip {
        name: "piix3",
        arguments: &[],
        setup: &[],
        places: &[Place::Config(8), Place::Ports(0xcf9, 1, &[1]), Place::Ports(0x4d0, 2, &[1])],
        clock: 0,
        allowed: &[],
    },
    Chip {
        name: "piix4-pm",
        arguments: &[],
        setup: &[INTERRUPTS, PM_AT_600[0], PM_AT_600[1], PM_AT_600[2], PM_AT_600[3]],
        places: &[
            Place::Config(11),
            // The control register not with what has the machine sleep.
            Place::Ports(0x600, 4, &[1, 2, 4]),
            Place::Ports(0x606, 0x3a, &[1, 2, 4]),
            Place::Requests(&[
                "inb 0x604; inb 0x605; inw 0x604; inl 0x604",
                "outw 0x604 0x1c05; inw 0x604",
                "outb 0x605 0x07; inw 0x604",
                "outb 0x604 0x80; inw 0x604",
                "outb 0x600 1; inw 0x600",
                "outw 0x602 0x121; inw 0x602",
            ]),
            Place::Ports(0xb2, 2, &[1]),
            Place::Ports(0xafe0, 4, &[1]),
        ],
        clock: 34,
        allowed: &[],
    },
    Chip {
        name: "smbus",
        arguments: &[],
        setup: &[],
        places: &[
            // All but the control register: what ends a transfer in the middle confuses QEMU's memories.
            Place::Ports(0xb103, 0xb, &[1]),
            Place::Ports(0xb107, 1, &[1]),
            Place::Ports(0xb108, 0x38, &[1, 2, 4]),
            Place::Requests(&[
                "inb 0xb100",
                "outb 0xb100 0xff; inb 0xb100",
                "outb 0xb104 0xa0; outb 0xb102 0x40; inb 0xb100; inb 0xb100",
                "outb 0xb104 0xa0; outb 0xb102 0x48; inb 0xb100; inb 0xb100",
                "outb 0xb104 0xa1; outb 0xb102 0x49; inb 0xb105",
                "outb 0xb104 0xa3; outb 0xb102 0x4d; inb 0xb105; inb 0xb106",
                "outb 0xb104 0xa2; outb 0xb102 0x4d",
                "outb 0xb104 0xa3; outb 0xb102 0x55; inb 0xb100; inb 0xb105; inb 0xb107; inb 0xb107",
                "outb 0xb10d 2; inb 0xb102; outb 0xb105 2; outb 0xb107 5; outb 0xb107 6; outb 0xb104 0xa4; outb 0xb102 0x55",
                "outb 0xb104 0x10; outb 0xb102 0x49; inb 0xb100",
            ]),
        ],
        clock: 0,
        allowed: &[],
    },
    Chip {
        name: "acpi-hotplug",
        arguments: &[
            "-smp",
            "2,maxcpus=6",
            "-m",
            "256,slots=3,maxmem=1G",
            "-device",
            "pci-bridge,chassis_nr=1,addr=4,shpc=off",
        ],
        setup: &[INTERRUPTS, PM_AT_600[0], PM_AT_600[1], PM_AT_600[2], PM_AT_600[3]],
        places: &[
            Place::Ports(0xae00, 0x18, &[1, 2, 4]),
            Place::Ports(0xaf00, 0x20, &[1, 2, 4]),
            Place::Ports(0xa00, 0x18, &[1, 2, 4]),
            Place::Ports(0xafe0, 4, &[1, 2, 4]),
        ],
        clock: 0,
        allowed: &[],
    },
    Chip {
        name: "fw_cfg",
        arguments: &["-fw_cfg", "name=opt/test,string=0123456789"],
        setup: &[],
        places: &[
            Place::Ports(0x510, 12, &[1, 2, 4]),
            Place::Ports(0x511, 1, &[1]),
            Place::Indexed {
                select: "outw 0x510",
                count: 0x20,
                stride: 1,
                read: "inb 0x511",
                write: "outb 0x511",
                size: 1,
            },
            Place::Memory(0x1000, 0x40, &[4]),
            Place::Requests(&[
                "writel 0x1000 0x0a000000; writel 0x1004 0x08000000; writeq 0x1008 0x0010000000000000; outl 0x514 0; \
                 outl 0x518 0x00100000; readl 0x1000; readq 0x1000",
            ]),
        ],
        clock: 0,
        allowed: &[],
    },
    Chip {
        name: "serial",
        arguments: &["-serial", "null", "-serial", "null"],
        setup: &[INTERRUPTS],
        places: &[
            Place::Ports(0x3f8, 8, &[1]),
            Place::Ports(0x2f8, 8, &[1, 2, 4]),
            Place::Requests(&[
                "outb 0x3fc 0x18",
                "outb 0x3fb 0x03",
                "outb 0x3fa 0xc1",
                "inb 0x3fa",
                "inb 0x3fd",
            ]),
        ],
        clock: 28,
        allowed: &[],
    },
    Chip {
        name: "i8042",
        arguments: &[],
        setup: &[INTERRUPTS, PIT_AT_REST[0], PIT_AT_REST[1], PIT_AT_REST[2]],
        places: &[
            Place::Ports(0x60, 1, &[1]),
            // Not the commands that reset: QEMU's controller waits for a command's data after a reset, too.
            Place::Requests(&[
                "inb 0x60; inb 0x64",
                "outb 0x64 0x20; inb 0x64; inb 0x60",
                "outb 0x64 0x60; outb 0x60 0x43",
                "outb 0x64 0x60; outb 0x60 0x03",
                "outb 0x64 0x60; outb 0x60 0x30",
                "outb 0x64 0xa7",
                "outb 0x64 0xa8",
                "outb 0x64 0xa9; inb 0x60",
                "outb 0x64 0xaa; inb 0x64; inb 0x60",
                "outb 0x64 0xab; inb 0x60",
                "outb 0x64 0xad",
                "outb 0x64 0xae",
                "outb 0x64 0xc0; inb 0x60",
                "outb 0x64 0xd0; inb 0x60",
                "outb 0x64 0xd1; outb 0x60 0xdf; outb 0x64 0xd0; inb 0x60",
                "outb 0x64 0xd2; outb 0x60 0x5a; inb 0x64; inb 0x60",
                "outb 0x64 0xd3; outb 0x60 0xa5; inb 0x64; inb 0x60",
                "outb 0x64 0xdd; outb 0x64 0xdf",
                "outb 0x64 0x00; outb 0x64 0xff",
            ]),
            // The keyboard.
            Place::Requests(&[
                "outb 0x60 0xf0; outb 0x60 0x00; inb 0x60; inb 0x60; inb 0x60",
                "outb 0x60 0xf0; outb 0x60 0x01",
                "outb 0x60 0xf0; outb 0x60 0x03",
                "outb 0x60 0xed; outb 0x60 0x07",
                "outb 0x60 0xee; inb 0x60",
                "outb 0x60 0xf2; inb 0x60; inb 0x60; inb 0x60",
                "outb 0x60 0xf3; outb 0x60 0x20",
                "outb 0x60 0xf5",
                "outb 0x60 0xf6",
                "outb 0x60 0xfe; inb 0x60",
                "outb 0x60 0xff; inb 0x60; inb 0x60",
            ]),
            // The mouse.
            Place::Requests(&[
                "outb 0x64 0xd4; outb 0x60 0xf2; inb 0x64; inb 0x60; inb 0x60",
                "outb 0x64 0xd4; outb 0x60 0xe9; inb 0x60; inb 0x60; inb 0x60; inb 0x60",
                "outb 0x64 0xd4; outb 0x60 0xe8; outb 0x64 0xd4; outb 0x60 0x02",
                "outb 0x64 0xd4; outb 0x60 0xf3; outb 0x64 0xd4; outb 0x60 0xc8",
                "outb 0x64 0xd4; outb 0x60 0xf3; outb 0x64 0xd4; outb 0x60 0x64",
                "outb 0x64 0xd4; outb 0x60 0xf3; outb 0x64 0xd4; outb 0x60 0x50",
                "outb 0x64 0xd4; outb 0x60 0xeb; inb 0x60; inb 0x60; inb 0x60; inb 0x60",
                "outb 0x64 0xd4; outb 0x60 0xee; outb 0x64 0xd4; outb 0x60 0x12",
                "outb 0x64 0xd4; outb 0x60 0xec",
                "outb 0x64 0xd4; outb 0x60 0xff; inb 0x60; inb 0x60; inb 0x60",
                "outb 0x64 0xd4; outb 0x60 0xf4",
                "outb 0x64 0xd4; outb 0x60 0x01",
            ]),
        ],
        clock: 26,
        allowed: &[],
    },
    Chip {
        name: "ports",
        arguments: &["-device", "pvpanic", "-device", "ib700", "-debugcon", "null"],
        setup: &[],
        places: &[
            Place::Ports(0x61, 1, &[1, 2]),
            Place::Ports(0x80, 1, &[1]),
            Place::Ports(0xf0, 1, &[1]),
            Place::Ports(0x92, 1, &[1]),
            Place::Ports(0xe9, 1, &[1, 2, 4]),
            Place::Ports(0x505, 1, &[1]),
            Place::Ports(0x441, 3, &[1, 2]),
            Place::Ports(0x5658, 4, &[4]),
        ],
        clock: 32,
        allowed: &[],
    },
    Chip {
        name: "testdevs",
        arguments: &["-device", "pc-testdev", "-device", "pci-testdev,addr=5"],
        setup: &[
            "outl 0xcf8 0x80002804",
            "outw 0xcfc 7",
            "outl 0xcf8 0x80002810",
            "outl 0xcfc 0xe0000000",
            "outl 0xcf8 0x80002814",
            "outl 0xcfc 0xc001",
        ],
        places: &[
            Place::Ports(0xe0, 0x10, &[1, 2, 4]),
            Place::Ports(0xf1, 1, &[1]),
            // QEMU ends at the other eight.
            Place::Ports(0x2000, 16, &[1]),
            Place::Memory(0xff00_0000, 0x1000, &[1, 2, 4]),
            Place::Memory(0xe000_0000, 0x1000, &[1, 2, 4]),
            Place::Ports(0xc000, 0x100, &[1, 2, 4]),
            Place::Config(0x28),
        ],
        clock: 0,
        allowed: &[],
    },
    Chip {
        name: "watchdog",
        arguments: &["-device", "i6300esb,addr=5", "-device", "pvpanic-pci,addr=6"],
        setup: &["outl 0xcf8 0x80002804", "outw 0xcfc 6", "outl 0xcf8 0x80002810", "outl 0xcfc 0xe0000000"],
        places: &[
            Place::Memory(0xe000_0000, 0x10, &[1, 2, 4]),
            Place::Requests(&[
                "writew 0xe000000c 0x80; writew 0xe000000c 0x86",
                "outl 0xcf8 0x80002868; outb 0xcfc 2",
            ]),
            Place::Config(0x28),
            // Not its base address: two bytes long, it has no room for its type's bits in QEMU.
            Place::Requests(&[
                "outl 0xcf8 0x80003000; inl 0xcfc",
                "outl 0xcf8 0x80003008; inl 0xcfc",
                "outl 0xcf8 0x80003004; outw 0xcfc 2; inl 0xcfc",
                "outl 0xcf8 0x80003010; outl 0xcfc 0xd0000000; inl 0xcfc",
                "readb 0xd0000000",
                "writeb 0xd0000000 2",
            ]),
        ],
        clock: 36,
        allowed: &[],
    },
];

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
