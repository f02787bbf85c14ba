//! The 16550A as a guest programs it (PC16550D data sheet).

use hw_char::serial::{LineParameters, Parity, Uart, UartActions};
use proptest::prelude::*;

const DATA: u64 = 0;
const IER: u64 = 1;
const IIR: u64 = 2;
const FCR: u64 = 2;
const LCR: u64 = 3;
const MCR: u64 = 4;
const LSR: u64 = 5;
const MSR: u64 = 6;
const SCR: u64 = 7;

const IDLE: u8 = 0x60;
/// One character of 10 bits at 9600 baud.
const CHARACTER_NS: u64 = 1_041_666;

fn uart() -> Uart {
    Uart::new(115_200)
}

/// A UART with FIFOs on and the trigger level of `code`.
fn fifo(code: u8) -> Uart {
    let mut uart = uart();
    assert_eq!(uart.write(FCR, 0x01 | code << 6, 0), UartActions::empty());
    uart
}

fn write(uart: &mut Uart, offset: u64, value: u8) {
    let _ = uart.write(offset, value, 0);
}

/// Writes `bytes` and lets the character device take whatever comes out.
fn send(uart: &mut Uart, bytes: &[u8]) -> Vec<u8> {
    let mut sent = Vec::new();
    for &byte in bytes {
        let actions = uart.write(DATA, byte, 0);
        let mut next = uart.tsr().filter(|_| actions.contains(UartActions::TRANSMIT));
        while let Some(byte) = next {
            sent.push(byte);
            next = uart.transmitted(0);
        }
    }
    sent
}

#[test]
fn registers_after_reset() {
    let mut uart = uart();
    let read: Vec<u8> = (0..8).map(|offset| uart.read(offset, 0)).collect();
    assert_eq!(read, [0, 0, 0x01, 0, 0x08, IDLE, 0xb0, 0]);
    assert!(!uart.irq_level());
}

#[test]
fn registers_keep_the_bits_that_exist() {
    let mut uart = uart();
    for (offset, kept) in [(IER, 0x0f), (LCR, 0x7f), (MCR, 0x1f), (SCR, 0xff)] {
        write(&mut uart, offset, if offset == LCR { 0x7f } else { 0xff });
        assert_eq!(uart.read(offset, 0), kept, "register {offset}");
    }
    for offset in [LSR, MSR] {
        let before = uart.read(offset, 0);
        write(&mut uart, offset, 0);
        assert_eq!(uart.read(offset, 0), before, "register {offset} is read-only");
    }
}

#[test]
fn the_divisor_hides_behind_dlab() {
    let mut uart = uart();
    write(&mut uart, LCR, 0x83);
    assert_eq!((uart.read(DATA, 0), uart.read(IER, 0)), (12, 0));
    assert_eq!(uart.write(DATA, 0x80, 0), UartActions::PARAMETERS);
    assert_eq!(uart.write(IER, 0x01, 0), UartActions::PARAMETERS);
    assert_eq!((uart.read(DATA, 0), uart.read(IER, 0)), (0x80, 0x01));
    write(&mut uart, LCR, 0x03);
    assert_eq!((uart.read(DATA, 0), uart.read(IER, 0)), (0, 0));
    assert_eq!(uart.parameters().speed, 300);
}

#[test]
fn line_parameters_follow_lcr_and_divisor() {
    let mut uart = uart();
    assert_eq!(uart.write(LCR, 0x03, 0), UartActions::PARAMETERS);
    assert_eq!(
        uart.parameters(),
        LineParameters { speed: 9600, parity: Parity::None, data_bits: 8, stop_bits: 1 }
    );
    assert_eq!(uart.character_time_ns(), CHARACTER_NS);
    write(&mut uart, LCR, 0x0e);
    assert_eq!(
        uart.parameters(),
        LineParameters { speed: 9600, parity: Parity::Odd, data_bits: 7, stop_bits: 2 }
    );
    assert_eq!(uart.character_time_ns(), 11 * 1_000_000_000 / 9600);
    write(&mut uart, LCR, 0x9a);
    assert_eq!(uart.parameters().parity, Parity::Even);
    write(&mut uart, DATA, 1);
    assert_eq!(uart.parameters().speed, 115_200);
    write(&mut uart, DATA, 0);
    assert_eq!(uart.parameters().speed, 3500, "divisor 0");
}

#[test]
fn transmits_at_once_and_is_empty_again() {
    let mut uart = uart();
    assert_eq!(send(&mut uart, b"hello"), b"hello");
    assert_eq!(uart.read_lsr(), IDLE);
}

#[test]
fn a_busy_character_device_holds_the_transmitter_up() {
    let mut uart = fifo(0);
    assert_eq!(uart.write(DATA, b'a', 0), UartActions::TRANSMIT);
    assert_eq!(uart.read_lsr(), 0x20, "the FIFO is empty, the shift register is not");
    assert_eq!(uart.write(DATA, b'b', 0), UartActions::empty());
    assert_eq!(uart.read_lsr(), 0x00);
    assert_eq!(uart.tsr(), Some(b'a'));
    assert_eq!(uart.transmitted(0), Some(b'b'));
    assert_eq!(uart.transmitted(0), None);
    assert_eq!(uart.read_lsr(), IDLE);
}

#[test]
fn an_overrun_of_the_transmitter_loses_the_oldest_byte() {
    let mut uart = fifo(0);
    for byte in 0..18 {
        write(&mut uart, DATA, byte);
    }
    let mut sent = vec![uart.tsr().unwrap()];
    while let Some(byte) = uart.transmitted(0) {
        sent.push(byte);
    }
    assert_eq!(sent, [[0].as_slice(), &(2..18).collect::<Vec<_>>()].concat());
}

#[test]
fn thr_empty_interrupts_until_iir_is_read_or_thr_written() {
    let mut uart = uart();
    write(&mut uart, IER, 0x02);
    assert!(uart.irq_level(), "enabling it while THR is empty raises it");
    assert_eq!(uart.read(IIR, 0), 0x02);
    assert!(!uart.irq_level());
    assert_eq!(uart.read(IIR, 0), 0x01);
    assert!(uart.take_irq_fall(), "it may have risen again before its line is looked at");
    send(&mut uart, b"x");
    assert!(uart.irq_level());
    assert!(!uart.take_irq_fall(), "a plain rise");
    send(&mut uart, b"y");
    assert!(uart.take_irq_fall(), "the write took the line down, the empty register up again");
    assert!(!uart.take_irq_fall());
    write(&mut uart, IER, 0x00);
    assert!(!uart.irq_level());
    write(&mut uart, IER, 0x02);
    assert_eq!(uart.read(IIR, 0), 0x02, "each time it is enabled");
}

#[test]
fn interrupts_have_priorities() {
    let mut uart = uart();
    send(&mut uart, b"x");
    write(&mut uart, IER, 0x0f);
    uart.set_modem_inputs(0);
    uart.receive(b"a", 0);
    uart.receive(b"b", 0);
    assert_eq!(uart.read(IIR, 0), 0x06, "overrun");
    assert_eq!(uart.read_lsr(), IDLE | 0x03);
    assert_eq!(uart.read(IIR, 0), 0x04, "received data");
    assert_eq!(uart.read(DATA, 0), b'b');
    assert_eq!(uart.read(IIR, 0), 0x02, "transmitter empty");
    assert_eq!(uart.read(IIR, 0), 0x00, "modem status");
    assert_eq!(uart.read(MSR, 0), 0x0b);
    assert_eq!(uart.read(IIR, 0), 0x01);
    assert!(!uart.irq_level());
}

#[test]
fn without_fifos_a_character_replaces_an_unread_one() {
    let mut uart = uart();
    assert_eq!(uart.can_receive(), 1);
    uart.receive(b"a", 0);
    assert_eq!(uart.can_receive(), 0);
    uart.receive(b"b", 0);
    assert_eq!(uart.read(DATA, 0), b'b');
    assert_eq!(uart.read_lsr(), IDLE | 0x02, "overrun");
    assert_eq!(uart.read_lsr(), IDLE);
    assert_eq!(uart.read(DATA, 0), b'b', "the buffer keeps what it had");
    assert_eq!(uart.can_receive(), 1);
}

#[test]
fn a_full_fifo_keeps_what_it_has() {
    let mut uart = fifo(3);
    uart.receive(b"0123456789abcdefXY", 0);
    assert_eq!(uart.read_lsr(), IDLE | 0x03);
    let read: Vec<u8> = (0..17).map(|_| uart.read(DATA, 0)).collect();
    assert_eq!(read, b"0123456789abcdef\0");
    assert_eq!(uart.read_lsr(), IDLE);
}

#[test]
fn the_trigger_level_interrupts_and_limits_what_is_asked_for() {
    for (code, level) in [(0, 1), (1, 4), (2, 8), (3, 14)] {
        let mut uart = fifo(code);
        write(&mut uart, IER, 0x01);
        assert_eq!(uart.can_receive(), level);
        uart.receive(&vec![b'x'; level - 1], 0);
        assert_eq!((uart.irq_level(), uart.can_receive()), (false, 1));
        uart.receive(b"x", 0);
        assert_eq!((uart.irq_level(), uart.can_receive()), (true, 0));
        assert_eq!(uart.read(IIR, 0), 0xc4);
        uart.read(DATA, 0);
        assert_eq!((uart.irq_level(), uart.can_receive()), (false, 1));
    }
}

#[test]
fn characters_below_the_trigger_level_time_out() {
    let mut uart = fifo(2);
    write(&mut uart, LCR, 0x03);
    write(&mut uart, IER, 0x01);
    assert_eq!(uart.next_deadline(), None);
    uart.receive(b"ab", 1000);
    assert_eq!(uart.next_deadline(), Some(1000 + 4 * CHARACTER_NS));
    uart.receive(b"c", 2000);
    let due = 2000 + 4 * CHARACTER_NS;
    assert_eq!(uart.next_deadline(), Some(due));
    uart.expire(due - 1);
    assert!(!uart.irq_level());
    uart.expire(due);
    assert_eq!(uart.read(IIR, due), 0xcc);
    assert_eq!(uart.read(DATA, due), b'a');
    assert!(!uart.irq_level(), "reading a character clears it");
    assert_eq!(uart.next_deadline(), Some(due + 4 * CHARACTER_NS));
    uart.read(DATA, due);
    uart.read(DATA, due);
    assert_eq!(uart.next_deadline(), None);
}

#[test]
fn a_break_belongs_to_its_place_in_the_fifo() {
    let mut uart = fifo(3);
    write(&mut uart, IER, 0x04);
    uart.receive(b"a", 0);
    uart.receive_break(0);
    uart.receive(b"b", 0);
    assert_eq!(uart.read_lsr(), IDLE | 0x81, "a break is in the FIFO");
    assert!(!uart.irq_level());
    assert_eq!(uart.read(DATA, 0), b'a');
    assert_eq!(uart.read(IIR, 0), 0xc6);
    assert_eq!(uart.read_lsr(), IDLE | 0x91);
    assert_eq!(uart.read_lsr(), IDLE | 0x01, "a read clears it");
    assert!(!uart.irq_level());
    assert_eq!((uart.read(DATA, 0), uart.read(DATA, 0)), (0, b'b'));
}

#[test]
fn a_break_reads_as_0_without_fifos() {
    let mut uart = uart();
    uart.receive_break(0);
    assert_eq!(uart.read_lsr(), IDLE | 0x11);
    assert_eq!(uart.read(DATA, 0), 0);
    assert_eq!(uart.read_lsr(), IDLE);
}

#[test]
fn fcr_resets_and_switches_fifos() {
    let mut uart = fifo(0);
    uart.receive(b"abc", 0);
    write(&mut uart, FCR, 0x03);
    assert_eq!((uart.read_lsr(), uart.next_deadline()), (IDLE, None));
    write(&mut uart, DATA, 1);
    write(&mut uart, DATA, 2);
    write(&mut uart, FCR, 0x05);
    assert_eq!(uart.transmitted(0), None, "the shift register goes on, the FIFO is empty");
    uart.receive(b"abc", 0);
    assert_eq!(uart.read(IIR, 0) & 0xc0, 0xc0);
    write(&mut uart, FCR, 0x00);
    assert_eq!(uart.read(IIR, 0) & 0xc0, 0);
    assert_eq!(uart.read_lsr(), IDLE);
}

#[test]
fn fifo_control_outlasts_a_reset_unseen() {
    let mut uart = fifo(0);
    uart.receive(b"abc", 0);
    uart.reset();
    assert_eq!((uart.read_lsr(), uart.read(IIR, 0)), (IDLE, 0x01));
    uart.receive(b"xyz", 0);
    assert_eq!([0; 3].map(|_| uart.read(DATA, 0)), *b"xyz");
    write(&mut uart, FCR, 0x01);
    assert_eq!(uart.read(IIR, 0), 0xc1);
}

#[test]
fn loopback_receives_what_it_transmits() {
    let mut uart = fifo(0);
    write(&mut uart, MCR, 0x10);
    assert_eq!(uart.can_receive(), 0, "the line is cut off");
    uart.receive(b"no", 0);
    uart.receive_break(0);
    assert_eq!(uart.write(DATA, b'a', 0), UartActions::empty());
    assert_eq!(send(&mut uart, b"b"), b"");
    assert_eq!(uart.read_lsr(), IDLE | 0x01);
    assert_eq!((uart.read(DATA, 0), uart.read(DATA, 0)), (b'a', b'b'));
    assert_eq!(uart.read_lsr(), IDLE);
}

#[test]
fn loopback_connects_modem_outputs_to_inputs() {
    let mut uart = uart();
    write(&mut uart, IER, 0x08);
    for (output, input) in [(0x01, 0x20), (0x02, 0x10), (0x04, 0x40), (0x08, 0x80)] {
        write(&mut uart, MCR, 0x10 | output);
        assert_eq!(uart.read(MSR, 0), input, "no changes are noted");
        assert!(!uart.irq_level());
    }
    // Linux's probe for a UART.
    write(&mut uart, MCR, 0x1a);
    assert_eq!(uart.read(MSR, 0) & 0xf0, 0x90);
    write(&mut uart, MCR, 0x08);
    assert_eq!(uart.read(MSR, 0), 0xb0, "the line's own inputs are back");
}

#[test]
fn modem_status_shows_and_interrupts_on_changes() {
    let mut uart = uart();
    write(&mut uart, IER, 0x08);
    uart.set_modem_inputs(0xb0 | 0x40);
    assert!(!uart.irq_level(), "only the trailing edge of the ring indicator counts");
    uart.set_modem_inputs(0xb0);
    assert!(uart.irq_level());
    assert_eq!(uart.read(MSR, 0), 0xb4);
    assert!(!uart.irq_level());
    uart.set_modem_inputs(0x80);
    uart.set_modem_inputs(0xb0);
    assert_eq!(uart.read(MSR, 0), 0xb3, "a change that went back is a change");
    assert_eq!(uart.read(MSR, 0), 0xb0);
}

#[test]
fn modem_outputs_and_break_reach_the_line() {
    let mut uart = uart();
    assert_eq!(uart.write(MCR, 0x0b, 0), UartActions::MODEM);
    assert_eq!(uart.modem_outputs(), 0x03);
    assert_eq!(uart.write(MCR, 0x0b, 0), UartActions::empty());
    assert_eq!(uart.write(MCR, 0x1b, 0), UartActions::MODEM);
    assert_eq!(uart.modem_outputs(), 0, "off in loopback");
    assert_eq!(uart.write(LCR, 0x40, 0), UartActions::BREAK);
    assert!(uart.break_control());
    assert_eq!(uart.write(LCR, 0xc0, 0), UartActions::empty(), "DLAB is not the line's");
    assert_eq!(uart.write(LCR, 0x00, 0), UartActions::BREAK);
    assert!(!uart.break_control());
}

#[test]
fn reset_keeps_the_modem_inputs() {
    let mut uart = fifo(3);
    uart.set_modem_inputs(0x10);
    write(&mut uart, IER, 0x0f);
    uart.receive(b"a", 0);
    write(&mut uart, SCR, 7);
    uart.reset();
    let read: Vec<u8> = (0..8).map(|offset| uart.read(offset, 0)).collect();
    assert_eq!(read, [0, 0, 0x01, 0, 0x08, IDLE, 0x10, 0]);
    assert_eq!((uart.irq_level(), uart.next_deadline()), (false, None));
}

#[derive(Clone, Debug)]
enum Step {
    Read(u64),
    Write(u64, u8),
    Receive(Vec<u8>),
    Break,
    Transmitted,
    ModemInputs(u8),
    Wait(u64),
    SaveAndLoad,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..9u64).prop_map(Step::Read),
        4 => (0..9u64, any::<u8>()).prop_map(|(offset, value)| Step::Write(offset, value)),
        2 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Step::Receive),
        1 => Just(Step::Break),
        2 => Just(Step::Transmitted),
        1 => any::<u8>().prop_map(Step::ModemInputs),
        1 => prop_oneof![0..10_000_000u64, any::<u64>()].prop_map(Step::Wait),
        1 => Just(Step::SaveAndLoad),
    ]
}

proptest! {
    #[test]
    fn holds_together_whatever_the_guest_does(
        steps in prop::collection::vec(step(), 1..200),
        baudbase in any::<u32>(),
    ) {
        let mut uart = Uart::new(baudbase);
        let mut now = 0u64;
        for step in steps {
            match step {
                Step::Read(offset) => { uart.read(offset, now); }
                Step::Write(offset, value) => {
                    let actions = uart.write(offset, value, now);
                    prop_assert!(!actions.contains(UartActions::TRANSMIT) || uart.tsr().is_some());
                }
                Step::Receive(bytes) => uart.receive(&bytes, now),
                Step::Break => uart.receive_break(now),
                Step::Transmitted => { uart.transmitted(now); }
                Step::ModemInputs(inputs) => uart.set_modem_inputs(inputs),
                Step::Wait(ns) => {
                    now = now.saturating_add(ns);
                    uart.expire(now);
                    prop_assert!(uart.next_deadline().is_none_or(|deadline| deadline > now || now == u64::MAX));
                }
                Step::SaveAndLoad => {
                    uart = serde_json::from_str(&serde_json::to_string(&uart).unwrap()).unwrap();
                }
            }
            prop_assert!(uart.can_receive() <= 14);
            prop_assert!(uart.tsr().is_some() || uart.clone().read_lsr() & 0x40 != 0, "nothing waits unsent");
            // The line and IIR say the same.
            prop_assert_eq!(uart.irq_level(), uart.clone().read(IIR, now) & 1 == 0);
        }
    }
}
