//! A driver of IDE channels that means no good: an input is what it does to the ports, the bus master's tables and the
//! commands of a disk and a CD-ROM drive. The machine is that of the virtio devices.

use libqtest::ide::{BUSY, DRQ};

use crate::virtio::{Input, in_, machine, out, turn, write};

/// Command block, control block, and bus master.
const COMMAND: u64 = 0x1f0;
const CONTROL: u64 = 0x3f6;
const BUS_MASTER: u64 = 0xd000;
/// Where tables are, and what they name.
const TABLE: u64 = 0x10_0000;
const BUFFERS: u64 = 0x40_0000;
/// Most steps of an input, and words that go through the Data register in one.
const MOST_STEPS: usize = 128;
const MOST_WORDS: u64 = 1024;
/// The function, its command register and the bus master's base address register.
const FUNCTION: u8 = 1 << 3 | 1;

/// Steps, and the commands and packets that there are.
pub(crate) fn words() -> Vec<String> {
    let steps = (0..=8u8).map(|step| String::from(char::from(step)));
    let packets =
        ["\u{6}\u{28}\0\0\0\0\0\0\0\u{1}\0\0\0", "\u{6}\u{12}\0\0\0\u{24}\0\0\0\0\0\0\0", "\u{1}\u{7}\u{20}"];
    steps.chain(packets.map(str::to_owned)).collect()
}

/// Device 0 or 1 as after power-on, and the bus master where it was.
fn set_up() {
    out(CONTROL, 4, 1);
    out(CONTROL, 2, 1);
    crate::virtio::config_write_at(FUNCTION, 0x20, BUS_MASTER, 4);
    crate::virtio::config_write_at(FUNCTION, 4, 7, 2);
    out(BUS_MASTER, 0, 1);
    out(BUS_MASTER + 4, TABLE, 4);
}

fn step(input: &mut Input<'_>) -> Option<()> {
    match input.byte()? % 9 {
        0 | 1 => {
            let at = input.byte()?;
            out(COMMAND + u64::from(at & 7), input.number(1)?, 1);
        }
        2 => {
            let (words, width) = (input.number(2)? % MOST_WORDS, 1 << (input.byte()? % 3));
            for _ in 0..words {
                let _ = in_(COMMAND, width);
            }
        }
        3 => {
            let (words, value) = (input.number(2)? % MOST_WORDS, input.number(4)?);
            (0..words).for_each(|_| out(COMMAND, value, 2));
        }
        4 => out(BUS_MASTER + u64::from(input.byte()? & 15), input.number(4)?, 1 << (input.byte()? % 3)),
        5 => {
            // A descriptor: memory, mostly.
            let at = TABLE + 8 * (input.number(1)? & 63);
            let address = BUFFERS + (input.number(2)? << 6);
            write(at, if input.byte()? & 15 == 0 { input.number(4)? } else { address }, 4);
            write(at + 4, input.number(4)?, 4);
        }
        6 => {
            // A packet: the drive takes it if it waits for one.
            let packet = input.bytes(12)?;
            packet.chunks(2).for_each(|pair| out(COMMAND, u64::from(pair[0]) | u64::from(pair[1]) << 8, 2));
        }
        7 => out(CONTROL, input.number(1)?, 1),
        _ => crate::virtio::config_write_at(
            FUNCTION,
            input.byte()? & 0x3f,
            input.number(4)?,
            1 << (input.byte()? % 3),
        ),
    }
    turn();
    Some(())
}

pub(crate) fn run(data: &[u8]) {
    let _alone = machine().lock();
    set_up();
    let mut input = Input::new(data);
    for _ in 0..MOST_STEPS {
        if step(&mut input).is_none() {
            break;
        }
    }
    // A driver that behaves is served as if nothing had been.
    set_up();
    out(COMMAND + 6, 0x40, 1);
    out(COMMAND + 2, 1, 1);
    (3..6).for_each(|at| out(COMMAND + at, 0, 1));
    out(COMMAND + 7, 0x20, 1);
    while in_(CONTROL, 1) & u64::from(BUSY) != 0 {
        std::thread::yield_now();
    }
    assert_eq!(in_(CONTROL, 1) & u64::from(DRQ), u64::from(DRQ));
    for _ in 0..256 {
        let _ = in_(COMMAND, 2);
    }
    assert_eq!(in_(CONTROL, 1), 0x50, "all was read");
}
