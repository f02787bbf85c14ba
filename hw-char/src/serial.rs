//! The 16550A UART: PC16550D data sheet, with the choices of QEMU's hw/char/serial.c.
//!
//! As in QEMU a character leaves the transmitter as soon as the character device takes it, whatever the baud
//! rate; the baud rate counts for the character timeout. The interrupt output does not depend on OUT2.

pub mod spec;

use std::collections::VecDeque;

use bitflags::bitflags;
use serde::{Deserialize, Serialize};

const NS_PER_SECOND: u64 = 1_000_000_000;

bitflags! {
    /// What the device around the chip has to do after a register write.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct UartActions: u8 {
        /// A byte arrived in the empty shift register: send [`Uart::tsr`].
        const TRANSMIT = 1 << 0;
        /// [`Uart::parameters`] changed.
        const PARAMETERS = 1 << 1;
        /// [`Uart::break_control`] changed.
        const BREAK = 1 << 2;
        /// [`Uart::modem_outputs`] changed.
        const MODEM = 1 << 3;
    }
}

/// The parity bit of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parity {
    /// No parity bit.
    None,
    /// Odd parity.
    Odd,
    /// Even parity.
    Even,
}

/// How characters are framed on the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineParameters {
    /// Bits a second.
    pub speed: u32,
    /// Parity bit.
    pub parity: Parity,
    /// Data bits, 5–8.
    pub data_bits: u8,
    /// Stop bits, 1 or 2.
    pub stop_bits: u8,
}

/// What came in on the line: a character, or a break, which reads as the character 0.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Received {
    byte: u8,
    is_break: bool,
}

/// The chip.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Uart {
    baudbase: u32,
    divisor: u16,
    ier: u8,
    /// Interrupt identification without the FIFO bits.
    iir: u8,
    /// FIFO control, which outlasts a reset, as in QEMU.
    fcr: u8,
    /// Whether interrupt identification has the FIFO bits: not from a reset until FCR is written again.
    #[serde(default)]
    shows_fifos: bool,
    lcr: u8,
    mcr: u8,
    lsr: u8,
    msr: u8,
    scr: u8,
    /// The last character that came without FIFOs, which stays readable.
    rbr: u8,
    receiver: VecDeque<Received>,
    transmitter: VecDeque<u8>,
    tsr: Option<u8>,
    thr_interrupt: bool,
    timeout_interrupt: bool,
    /// When a character timeout is due.
    timeout_ns: Option<u64>,
    /// The modem inputs as bits of MSR, while they count (not in loopback).
    modem_inputs: u8,
    irq_fell: bool,
}

impl Uart {
    /// The state after power-on. `baudbase` is the baud rate at divisor 1, [`spec::BAUDBASE`] on a PC.
    pub fn new(baudbase: u32) -> Self {
        let modem_inputs = spec::MSR_DCD | spec::MSR_DSR | spec::MSR_CTS;
        Self {
            baudbase,
            divisor: spec::DIVISOR_9600,
            ier: 0,
            iir: spec::IIR_NO_INT,
            fcr: 0,
            shows_fifos: false,
            lcr: 0,
            mcr: spec::MCR_OUT2,
            lsr: spec::LSR_THRE | spec::LSR_TEMT,
            msr: modem_inputs,
            scr: 0,
            rbr: 0,
            receiver: VecDeque::new(),
            transmitter: VecDeque::new(),
            tsr: None,
            thr_interrupt: false,
            timeout_interrupt: false,
            timeout_ns: None,
            modem_inputs,
            irq_fell: false,
        }
    }

    /// Returns to the state after power-on, but for the modem inputs and FIFO control.
    pub fn reset(&mut self) {
        let Self { modem_inputs, fcr, .. } = *self;
        *self = Self { modem_inputs, msr: modem_inputs, fcr, ..Self::new(self.baudbase) };
    }

    /// Level of the interrupt output.
    pub fn irq_level(&self) -> bool {
        self.iir != spec::IIR_NO_INT
    }

    /// Whether the interrupt output fell since this was last asked. Another thread may raise it before its line has
    /// followed: [`Self::irq_level`] alone does not show the edge then.
    pub fn take_irq_fall(&mut self) -> bool {
        std::mem::take(&mut self.irq_fell)
    }

    /// Reads the line status register, the one that guests poll.
    #[inline]
    pub fn read_lsr(&mut self) -> u8 {
        let lsr = self.lsr;
        if lsr & spec::LSR_INT_ANY != 0 {
            self.clear_line_errors();
        }
        lsr
    }

    /// Reads register `offset` (0–7). After a read of the receiver, [`Self::can_receive`] may have grown.
    pub fn read(&mut self, offset: u64, now_ns: u64) -> u8 {
        let [dll, dlm] = self.divisor.to_le_bytes();
        let dlab = self.lcr & spec::LCR_DLAB != 0;
        match offset & spec::REGISTER_MASK {
            spec::LSR => self.read_lsr(),
            spec::RBR_THR_DLL if dlab => dll,
            spec::RBR_THR_DLL => self.read_rbr(now_ns),
            spec::IER_DLM if dlab => dlm,
            spec::IER_DLM => self.ier,
            spec::IIR_FCR => self.read_iir(),
            spec::LCR => self.lcr,
            spec::MCR => self.mcr,
            spec::MSR => self.read_msr(),
            _ => self.scr,
        }
    }

    /// Writes register `offset` (0–7).
    #[must_use]
    pub fn write(&mut self, offset: u64, value: u8, now_ns: u64) -> UartActions {
        let [dll, dlm] = self.divisor.to_le_bytes();
        let dlab = self.lcr & spec::LCR_DLAB != 0;
        match offset & spec::REGISTER_MASK {
            spec::RBR_THR_DLL if dlab => self.write_divisor([value, dlm]),
            spec::RBR_THR_DLL => self.write_thr(value, now_ns),
            spec::IER_DLM if dlab => self.write_divisor([dll, value]),
            spec::IER_DLM => self.write_ier(value),
            spec::IIR_FCR => self.write_fcr(value),
            spec::LCR => self.write_lcr(value),
            spec::MCR => self.write_mcr(value),
            spec::SCR => {
                self.scr = value;
                UartActions::empty()
            }
            // LSR and MSR are read-only.
            _ => UartActions::empty(),
        }
    }

    /// The byte in the transmitter's shift register, which the character device is to take.
    pub fn tsr(&self) -> Option<u8> {
        self.tsr
    }

    /// The character device took [`Self::tsr`]. Returns the byte that follows it.
    pub fn transmitted(&mut self, now_ns: u64) -> Option<u8> {
        self.tsr = None;
        self.shift(now_ns);
        self.tsr
    }

    /// How many bytes the receiver wants now: up to the trigger level, so that the guest's choice of how often
    /// it is interrupted holds. None in loopback.
    pub fn can_receive(&self) -> usize {
        let held = self.receiver.len();
        if self.is_loopback() || held >= self.fifo_length() {
            return 0;
        }
        if self.fifo_enabled() && held <= self.trigger_level() { self.trigger_level() - held } else { 1 }
    }

    /// Characters come in on the line. More than the receiver can hold is an overrun; in loopback the line
    /// is cut off.
    pub fn receive(&mut self, bytes: &[u8], now_ns: u64) {
        if self.is_loopback() {
            return;
        }
        for &byte in bytes {
            self.receive_one(Received { byte, is_break: false }, now_ns);
        }
        self.update();
    }

    /// A break comes in on the line.
    pub fn receive_break(&mut self, now_ns: u64) {
        if self.is_loopback() {
            return;
        }
        self.receive_one(Received { byte: 0, is_break: true }, now_ns);
        self.update();
    }

    /// Sets the modem inputs, given as the bits [`spec::MSR_CTS`], `MSR_DSR`, `MSR_RI` and `MSR_DCD`.
    pub fn set_modem_inputs(&mut self, inputs: u8) {
        self.modem_inputs = inputs & spec::MSR_INPUTS;
        self.follow_modem_inputs();
        self.update();
    }

    /// The modem outputs, as the bits [`spec::MCR_DTR`] and [`spec::MCR_RTS`]: off in loopback.
    pub fn modem_outputs(&self) -> u8 {
        if self.is_loopback() { 0 } else { self.mcr & (spec::MCR_DTR | spec::MCR_RTS) }
    }

    /// Whether the transmitter sends a break.
    pub fn break_control(&self) -> bool {
        self.lcr & spec::LCR_BREAK != 0
    }

    /// How characters are framed on the line.
    pub fn parameters(&self) -> LineParameters {
        let parity = match self.lcr & (spec::LCR_PEN | spec::LCR_EPS) {
            spec::LCR_PEN => Parity::Odd,
            bits if bits & spec::LCR_PEN != 0 => Parity::Even,
            _ => Parity::None,
        };
        LineParameters {
            speed: self.baudbase.checked_div(self.divisor.into()).unwrap_or(spec::BAUD_OF_DIVISOR_0),
            parity,
            data_bits: spec::LCR_WLS_BASE + (self.lcr & spec::LCR_WLS),
            stop_bits: if self.lcr & spec::LCR_STB != 0 { 2 } else { 1 },
        }
    }

    /// How long one character takes on the line in nanoseconds.
    pub fn character_time_ns(&self) -> u64 {
        let LineParameters { parity, data_bits, stop_bits, .. } = self.parameters();
        let bits = 1 + u64::from(data_bits) + u64::from(parity != Parity::None) + u64::from(stop_bits);
        let (baudbase, divisor) = match self.divisor {
            0 => (spec::BAUD_OF_DIVISOR_0, 1),
            divisor => (self.baudbase.max(1), divisor),
        };
        bits * NS_PER_SECOND * u64::from(divisor) / u64::from(baudbase)
    }

    /// The virtual time at which [`Self::expire`] is next due: the character timeout.
    pub fn next_deadline(&self) -> Option<u64> {
        self.timeout_ns
    }

    /// Raises the character timeout if it is due.
    pub fn expire(&mut self, now_ns: u64) {
        if self.timeout_ns.is_some_and(|deadline_ns| deadline_ns <= now_ns) {
            self.timeout_ns = None;
            self.timeout_interrupt = true;
            self.update();
        }
    }

    fn is_loopback(&self) -> bool {
        self.mcr & spec::MCR_LOOP != 0
    }

    fn fifo_enabled(&self) -> bool {
        self.fcr & spec::FCR_FIFO_ENABLE != 0
    }

    fn fifo_length(&self) -> usize {
        if self.fifo_enabled() { spec::FIFO_LENGTH } else { 1 }
    }

    fn trigger_level(&self) -> usize {
        let [one, four, eight, fourteen] = spec::FCR_TRIGGER_LEVELS;
        match self.fcr >> spec::FCR_TRIGGER_SHIFT {
            0 => one.into(),
            1 => four.into(),
            2 => eight.into(),
            _ => fourteen.into(),
        }
    }

    fn read_rbr(&mut self, now_ns: u64) -> u8 {
        let first = self.receiver.pop_front().map_or(0, |received| received.byte);
        let value = if self.fifo_enabled() { first } else { self.rbr };
        self.timeout_interrupt = false;
        self.restart_timeout(now_ns);
        self.update();
        value
    }

    fn read_iir(&mut self) -> u8 {
        let iir = self.iir;
        if iir == spec::IIR_THRI {
            self.thr_interrupt = false;
            self.update();
        }
        if self.shows_fifos { iir | spec::IIR_FIFO_ENABLED } else { iir }
    }

    fn read_msr(&mut self) -> u8 {
        if self.is_loopback() {
            return self.looped_outputs();
        }
        let msr = self.msr;
        self.msr &= spec::MSR_INPUTS;
        self.update();
        msr
    }

    fn clear_line_errors(&mut self) {
        self.lsr &= !spec::LSR_OE;
        if let Some(received) = self.receiver.front_mut() {
            received.is_break = false;
        }
        self.update();
    }

    fn write_divisor(&mut self, bytes: [u8; 2]) -> UartActions {
        self.divisor = u16::from_le_bytes(bytes);
        UartActions::PARAMETERS
    }

    fn write_thr(&mut self, value: u8, now_ns: u64) -> UartActions {
        if self.transmitter.len() >= self.fifo_length() {
            self.transmitter.pop_front();
        }
        self.transmitter.push_back(value);
        self.thr_interrupt = false;
        self.update();
        if self.tsr.is_some() {
            return UartActions::empty();
        }
        self.shift(now_ns);
        if self.tsr.is_some() { UartActions::TRANSMIT } else { UartActions::empty() }
    }

    /// Fills the empty shift register. In loopback what it shifts out is received at once.
    fn shift(&mut self, now_ns: u64) {
        while let Some(byte) = self.transmitter.pop_front() {
            if self.transmitter.is_empty() {
                self.thr_interrupt = true;
            }
            if !self.is_loopback() {
                self.tsr = Some(byte);
                break;
            }
            self.receive_one(Received { byte, is_break: false }, now_ns);
        }
        self.update();
    }

    fn receive_one(&mut self, received: Received, now_ns: u64) {
        if !self.fifo_enabled() || received.is_break {
            self.rbr = received.byte;
        }
        if self.receiver.len() < self.fifo_length() {
            self.receiver.push_back(received);
        } else {
            self.lsr |= spec::LSR_OE;
            // Without FIFOs the newer character replaces the older one.
            if !self.fifo_enabled() {
                self.receiver.clear();
                self.receiver.push_back(received);
            }
        }
        self.restart_timeout(now_ns);
    }

    fn restart_timeout(&mut self, now_ns: u64) {
        self.timeout_ns = (self.fifo_enabled() && !self.receiver.is_empty())
            .then(|| now_ns.saturating_add(spec::TIMEOUT_CHARACTERS * self.character_time_ns()));
    }

    fn write_ier(&mut self, value: u8) -> UartActions {
        let changed = (self.ier ^ value) & spec::IER_MASK;
        self.ier = value & spec::IER_MASK;
        if changed & spec::IER_THRI != 0 {
            // Not in the data sheet, but on chips and relied upon: enabling the interrupt while the register
            // is empty raises it, also if it was acknowledged before.
            self.thr_interrupt = self.ier & spec::IER_THRI != 0 && self.lsr & spec::LSR_THRE != 0;
        }
        self.update();
        UartActions::empty()
    }

    fn write_fcr(&mut self, value: u8) -> UartActions {
        let switched = (value ^ self.fcr) & spec::FCR_FIFO_ENABLE != 0;
        self.fcr = value & !(spec::FCR_RCVR_RESET | spec::FCR_XMIT_RESET);
        self.shows_fifos = self.fifo_enabled();
        if switched || value & spec::FCR_RCVR_RESET != 0 {
            self.receiver.clear();
            self.timeout_interrupt = false;
            self.timeout_ns = None;
        }
        if switched || value & spec::FCR_XMIT_RESET != 0 {
            self.transmitter.clear();
            self.thr_interrupt = true;
        }
        self.update();
        UartActions::empty()
    }

    fn write_lcr(&mut self, value: u8) -> UartActions {
        let changed = self.lcr ^ value;
        self.lcr = value;
        let mut actions = UartActions::empty();
        actions.set(UartActions::BREAK, changed & spec::LCR_BREAK != 0);
        actions.set(UartActions::PARAMETERS, changed & !(spec::LCR_BREAK | spec::LCR_DLAB) != 0);
        actions
    }

    fn write_mcr(&mut self, value: u8) -> UartActions {
        let outputs = self.modem_outputs();
        self.mcr = value & spec::MCR_MASK;
        if self.modem_outputs() != outputs { UartActions::MODEM } else { UartActions::empty() }
    }

    /// Brings MSR up to the inputs.
    fn follow_modem_inputs(&mut self) {
        let inputs = self.modem_inputs;
        let mut changed = (self.msr & spec::MSR_INPUTS) ^ inputs;
        if inputs & spec::MSR_RI != 0 {
            // Only the trailing edge of the ring indicator counts.
            changed &= !spec::MSR_RI;
        }
        self.msr = inputs | self.msr & spec::MSR_ANY_DELTA | changed >> spec::MSR_DELTA_SHIFT;
    }

    /// MSR in loopback: the modem control outputs, of which QEMU notes no changes.
    fn looped_outputs(&self) -> u8 {
        [
            (spec::MCR_RTS, spec::MSR_CTS),
            (spec::MCR_DTR, spec::MSR_DSR),
            (spec::MCR_OUT1, spec::MSR_RI),
            (spec::MCR_OUT2, spec::MSR_DCD),
        ]
        .into_iter()
        .filter(|&(output, _)| self.mcr & output != 0)
        .fold(0, |inputs, (_, input)| inputs | input)
    }

    /// Works out the line status and the interrupt with the highest priority.
    fn update(&mut self) {
        let mut lsr = self.lsr & spec::LSR_OE;
        if let Some(received) = self.receiver.front() {
            lsr |= spec::LSR_DR;
            if received.is_break {
                lsr |= spec::LSR_BI;
            }
        }
        if self.fifo_enabled() && self.receiver.iter().any(|received| received.is_break) {
            lsr |= spec::LSR_FIFO_ERROR;
        }
        if self.transmitter.is_empty() {
            lsr |= spec::LSR_THRE;
            if self.tsr.is_none() {
                lsr |= spec::LSR_TEMT;
            }
        }
        self.lsr = lsr;
        let was_high = self.irq_level();
        self.iir = self.interrupt();
        self.irq_fell |= was_high && !self.irq_level();
    }

    fn interrupt(&self) -> u8 {
        let enabled = |bit: u8| self.ier & bit != 0;
        let triggered = !self.fifo_enabled() || self.receiver.len() >= self.trigger_level();
        if enabled(spec::IER_RLSI) && self.lsr & spec::LSR_INT_ANY != 0 {
            spec::IIR_RLSI
        } else if enabled(spec::IER_RDI) && self.timeout_interrupt {
            spec::IIR_CTI
        } else if enabled(spec::IER_RDI) && self.lsr & spec::LSR_DR != 0 && triggered {
            spec::IIR_RDI
        } else if enabled(spec::IER_THRI) && self.thr_interrupt {
            spec::IIR_THRI
        } else if enabled(spec::IER_MSI) && self.msr & spec::MSR_ANY_DELTA != 0 {
            spec::IIR_MSI
        } else {
            spec::IIR_NO_INT
        }
    }
}
