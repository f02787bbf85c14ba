//! What a firmware leaves below 1 MiB for code in real mode: interrupt vectors, the BIOS data area, and handlers, which end
//! their interrupt and count the timer's ticks. Services there are none: their vectors return at once.
//!
//! Source followed: SeaBIOS `src/post.c` (`ivt_init`, `bda_init`), `src/clock.c`, `src/serial.c`, for the values that it
//! leaves; the places are those of the IBM PC/AT Technical Reference.

use hw_intc::i8259::spec::FIRMWARE_VECTORS;

/// Segment of the code.
const SEGMENT: u16 = 0xf000;
/// Where a PC has the handler that does nothing.
const NOTHING: u16 = 0xff53;
/// The handler of the first PIC's interrupts, and that of the second's.
const OF_PICS: [u16; 2] = [NOTHING + 1, NOTHING + 8];
const RETURN: [u8; 17] = [
    0xcf, // iret
    0x50, 0xb0, 0x20, 0xe6, 0x20, 0x58, 0xcf, // push ax; mov al, 0x20; out 0x20, al; pop ax; iret
    0x50, 0xb0, 0x20, 0xe6, 0xa0, 0xe6, 0x20, 0x58, 0xcf, // the same, and out 0xa0, al before
];
/// The timer's handler.
const TICK: u16 = 0xff80;
const COUNT_TICK: [u8; 44] = [
    0x1e, 0x50, 0x31, 0xc0, 0x8e, 0xd8, // push ds; push ax; xor ax, ax; mov ds, ax
    0x66, 0xff, 0x06, 0x6c, 0x04, // inc dword [0x46c]
    0x66, 0x81, 0x3e, 0x6c, 0x04, 0xb0, 0x00, 0x18, 0x00, // cmp dword [0x46c], TICKS_A_DAY
    0x72, 0x0d, // jb over the next two
    0x66, 0xc7, 0x06, 0x6c, 0x04, 0x00, 0x00, 0x00, 0x00, // mov dword [0x46c], 0
    0xfe, 0x06, 0x70, 0x04, // inc byte [0x470]
    0xcd, 0x1c, // int 0x1c
    0xb0, 0x20, 0xe6, 0x20, 0x58, 0x1f, 0xcf, // mov al, 0x20; out 0x20, al; pop ax; pop ds; iret
];
/// What the reset vector leads to.
const RESET: u16 = 0xff70;
const RESET_MACHINE: [u8; 10] = [
    0xfa, 0xe4, 0x92, 0x0c, 0x01, 0xe6, 0x92, // cli; in al, 0x92; or al, 1; out 0x92, al
    0xf4, 0xeb, 0xfd, // hlt; jmp to it
];
/// The reset vector: a far jump, the date that every PC's BIOS has here, and the model, an AT.
const VECTOR: u16 = 0xfff0;
const JUMP_DATE_MODEL: [u8; 15] = *b"\xea\x70\xff\x00\xf006/23/99\0\xfc";
/// Interrupt of the timer.
const TIMER: u8 = 0x08;
/// Ticks of the timer from one midnight to the next.
const TICKS_A_DAY: u64 = 0x18_00b0;
const SECONDS_A_DAY: i64 = 24 * 60 * 60;

/// The BIOS data area.
mod bda {
    /// Its place, and its length.
    pub const ADDRESS: u64 = 0x400;
    pub const LENGTH: usize = 0x100;
    /// Ports of COM1 to COM4, words.
    pub const COM: usize = 0x00;
    /// Segment of the extended BIOS data area.
    pub const EBDA: usize = 0x0e;
    /// Equipment: the low byte is CMOS byte 0x14's, and bits 9–11 count serial ports.
    pub const EQUIPMENT: usize = 0x10;
    pub const EQUIPMENT_COM_SHIFT: u32 = 9;
    /// KiB of memory below the extended BIOS data area.
    pub const MEMORY: usize = 0x13;
    /// The keyboard's buffer: head, tail, start and end, offsets from here.
    pub const KEYS: [(usize, u16); 4] = [(0x1a, 0x1e), (0x1c, 0x1e), (0x80, 0x1e), (0x82, 0x3e)];
    /// Last status of a floppy disk and of a hard disk: a bad command, as no disk is there. Control of hard disks.
    pub const DISKS: [(usize, u8); 3] = [(0x41, 0x01), (0x74, 0x01), (0x76, 0xc0)];
    /// Ticks since midnight.
    pub const TICKS: usize = 0x6c;
    /// Timeouts of COM1 to COM4.
    pub const COM_TIMEOUT: usize = 0x7c;
    pub const TIMEOUT: u8 = 0x0a;
    /// The keyboard has 101 or 102 keys.
    pub const KEYBOARD: (usize, u8) = (0x96, 0x10);
}

/// What the data area tells of the machine.
#[derive(Debug, Default)]
pub struct Found<'a> {
    /// Ports of COM1 to COM4, those that are there.
    pub serial_ports: &'a [u16],
    /// Byte 0x14 of the CMOS.
    pub equipment: u8,
    /// The clock, in seconds since any midnight.
    pub seconds: i64,
    /// Where the extended BIOS data area begins.
    pub ebda: u64,
}

/// Has `write` put everything in its place.
pub fn place(found: &Found, mut write: impl FnMut(u64, &[u8])) {
    let at = |offset: u16| u64::from(SEGMENT) * 16 + u64::from(offset);
    write(0, &VECTORS);
    write(bda::ADDRESS, &data_area(found));
    write(at(NOTHING), &RETURN);
    write(at(RESET), &RESET_MACHINE);
    write(at(TICK), &COUNT_TICK);
    write(at(VECTOR), &JUMP_DATE_MODEL);
}

/// The interrupt vectors. Made with the program, as it is for every start.
static VECTORS: [u8; 1024] = {
    let mut table = [0; 1024];
    let mut vector = 0;
    while vector < 256 {
        let [low, high] = handler(vector as u8).to_le_bytes();
        let [segment_low, segment_high] = SEGMENT.to_le_bytes();
        if !is_empty(vector as u8) {
            table[4 * vector] = low;
            table[4 * vector + 1] = high;
            table[4 * vector + 2] = segment_low;
            table[4 * vector + 3] = segment_high;
        }
        vector += 1;
    }
    table
};

const fn handler(vector: u8) -> u16 {
    let [first_pic, second_pic] = FIRMWARE_VECTORS;
    match vector {
        TIMER => TICK,
        _ if vector & !7 == first_pic => OF_PICS[0],
        _ if vector & !7 == second_pic => OF_PICS[1],
        _ => NOTHING,
    }
}

/// Vectors that are the user's, and one that old programs look at: they lead nowhere.
const fn is_empty(vector: u8) -> bool {
    matches!(vector, 0x60..=0x67 | 0x79)
}

fn data_area(found: &Found) -> [u8; bda::LENGTH] {
    let mut area = [0; bda::LENGTH];
    let mut put = |at: usize, bytes: &[u8]| {
        area.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
    };
    for (n, port) in found.serial_ports.iter().take(4).enumerate() {
        put(bda::COM + 2 * n, &port.to_le_bytes());
        put(bda::COM_TIMEOUT + n, &[bda::TIMEOUT]);
    }
    let ports = found.serial_ports.len().min(4) as u16;
    let equipment = u16::from(found.equipment) | ports << bda::EQUIPMENT_COM_SHIFT;
    put(bda::EQUIPMENT, &equipment.to_le_bytes());
    put(bda::EBDA, &((found.ebda >> 4) as u16).to_le_bytes());
    put(bda::MEMORY, &((found.ebda >> 10) as u16).to_le_bytes());
    bda::KEYS.into_iter().for_each(|(at, offset)| put(at, &offset.to_le_bytes()));
    bda::DISKS.into_iter().chain([bda::KEYBOARD]).for_each(|(at, value)| put(at, &[value]));
    let seconds = found.seconds.rem_euclid(SECONDS_A_DAY) as u64;
    let ticks = seconds * TICKS_A_DAY / SECONDS_A_DAY as u64;
    put(bda::TICKS, &(ticks as u32).to_le_bytes());
    area
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> Found<'static> {
        Found { serial_ports: &[0x3f8, 0x2f8], equipment: 0x06, seconds: 86_399, ebda: 0x9_fc00 }
    }

    fn contents(found: &Found) -> Vec<(u64, Vec<u8>)> {
        let mut contents = Vec::new();
        place(found, |at, bytes| contents.push((at, bytes.to_vec())));
        contents
    }

    #[test]
    fn each_vector_leads_to_a_handler_that_returns() {
        let contents = contents(&found());
        let low = &contents[0].1;
        let handler = |vector: usize| {
            let [low, high, segment_low, segment_high] = low[4 * vector..][..4] else { unreachable!() };
            assert_eq!([segment_low, segment_high], [0x00, 0xf0]);
            let at = 0xf_0000 + u64::from(u16::from_le_bytes([low, high]));
            let (start, code) = contents.iter().rfind(|(start, _)| *start <= at).unwrap();
            let code = &code[(at - start) as usize..];
            let end = code.iter().position(|byte| *byte == 0xcf).unwrap();
            // Which ports are written.
            let writes = code[..end].windows(2).filter(|pair| pair[0] == 0xe6);
            writes.map(|pair| pair[1]).collect::<Vec<_>>()
        };
        assert_eq!((handler(0x08), handler(0x09), handler(0x0f)), (vec![0x20], vec![0x20], vec![0x20]));
        assert_eq!((handler(0x70), handler(0x77)), (vec![0xa0, 0x20], vec![0xa0, 0x20]));
        assert!([0x00, 0x07, 0x10, 0x6f, 0x78, 0xff].into_iter().all(|vector| handler(vector).is_empty()));
        assert_eq!((&low[4 * 0x60..4 * 0x68], &low[4 * 0x79..4 * 0x7a]), (&[0; 32][..], &[0; 4][..]));
    }

    /// SeaBIOS 1.16 of Debian leaves the same under QEMU with two serial ports and no disk, at another time.
    #[test]
    fn the_data_area_tells_of_the_machine() {
        let area = &contents(&found())[1].1;
        let words = |at: usize| area[at..at + 16].as_chunks::<4>().0.iter().map(|w| u32::from_le_bytes(*w));
        assert!(words(0x00).eq([0x02f8_03f8, 0, 0, 0x9fc0_0000]));
        assert!(words(0x10).eq([0x7f00_0406, 2, 0x001e_0000, 0x1e]));
        assert!(words(0x40).eq([0x100, 0, 0, 0]));
        assert!(words(0x60).eq([0, 0, 0, 0x18_009d]));
        assert!(words(0x70).eq([0, 0x00c0_0001, 0, 0x0a0a]));
        assert!(words(0x80).eq([0x003e_001e, 0, 0, 0]));
        assert!(words(0x90).eq([0, 0x0010_0000, 0, 0]));
    }
}
