//! Registers and bit fields of the National Semiconductor PC16550D data sheet (TL/C/8652), section 8.

/// Receiver Buffer Register when read, Transmitter Holding Register when written; Divisor Latch (LS) if DLAB.
pub const RBR_THR_DLL: u64 = 0;
/// Interrupt Enable Register (8.7); Divisor Latch (MS) if DLAB.
pub const IER_DLM: u64 = 1;
/// Interrupt Identification Register (8.6) when read, FIFO Control Register (8.5) when written.
pub const IIR_FCR: u64 = 2;
/// Line Control Register (8.1).
pub const LCR: u64 = 3;
/// Modem Control Register (8.8).
pub const MCR: u64 = 4;
/// Line Status Register (8.4).
pub const LSR: u64 = 5;
/// Modem Status Register (8.9).
pub const MSR: u64 = 6;
/// Scratchpad Register (8.10).
pub const SCR: u64 = 7;
/// The three address lines A0–A2.
pub const REGISTER_MASK: u64 = 0x7;

/// Entries of each FIFO (8.5).
pub const FIFO_LENGTH: usize = 16;

/// IER, ERBFI: received data available, and character timeout.
pub const IER_RDI: u8 = 1 << 0;
/// IER, ETBEI: transmitter holding register empty.
pub const IER_THRI: u8 = 1 << 1;
/// IER, ELSI: receiver line status.
pub const IER_RLSI: u8 = 1 << 2;
/// IER, EDSSI: modem status.
pub const IER_MSI: u8 = 1 << 3;
/// The bits of IER that exist.
pub const IER_MASK: u8 = 0x0f;

/// IIR: no interrupt is pending.
pub const IIR_NO_INT: u8 = 0x01;
/// IIR: modem status, the lowest priority.
pub const IIR_MSI: u8 = 0x00;
/// IIR: transmitter holding register empty.
pub const IIR_THRI: u8 = 0x02;
/// IIR: received data available.
pub const IIR_RDI: u8 = 0x04;
/// IIR: receiver line status, the highest priority.
pub const IIR_RLSI: u8 = 0x06;
/// IIR: character timeout indication.
pub const IIR_CTI: u8 = 0x0c;
/// IIR: FIFOs enabled.
pub const IIR_FIFO_ENABLED: u8 = 0xc0;

/// FCR: FIFO enable.
pub const FCR_FIFO_ENABLE: u8 = 1 << 0;
/// FCR: receiver FIFO reset.
pub const FCR_RCVR_RESET: u8 = 1 << 1;
/// FCR: transmitter FIFO reset.
pub const FCR_XMIT_RESET: u8 = 1 << 2;
/// FCR: position of the receiver trigger level.
pub const FCR_TRIGGER_SHIFT: u32 = 6;
/// FCR: the receiver trigger levels in bytes.
pub const FCR_TRIGGER_LEVELS: [u8; 4] = [1, 4, 8, 14];

/// LCR, WLS: word length less [`LCR_WLS_BASE`].
pub const LCR_WLS: u8 = 0x03;
/// The shortest word length.
pub const LCR_WLS_BASE: u8 = 5;
/// LCR, STB: two stop bits.
pub const LCR_STB: u8 = 1 << 2;
/// LCR, PEN: parity enable.
pub const LCR_PEN: u8 = 1 << 3;
/// LCR, EPS: even parity.
pub const LCR_EPS: u8 = 1 << 4;
/// LCR: break control.
pub const LCR_BREAK: u8 = 1 << 6;
/// LCR, DLAB: divisor latch access.
pub const LCR_DLAB: u8 = 1 << 7;

/// MCR: data terminal ready.
pub const MCR_DTR: u8 = 1 << 0;
/// MCR: request to send.
pub const MCR_RTS: u8 = 1 << 1;
/// MCR: user output 1.
pub const MCR_OUT1: u8 = 1 << 2;
/// MCR: user output 2.
pub const MCR_OUT2: u8 = 1 << 3;
/// MCR: local loopback.
pub const MCR_LOOP: u8 = 1 << 4;
/// The bits of MCR that exist.
pub const MCR_MASK: u8 = 0x1f;

/// LSR: data ready.
pub const LSR_DR: u8 = 1 << 0;
/// LSR: overrun error.
pub const LSR_OE: u8 = 1 << 1;
/// LSR: parity error.
pub const LSR_PE: u8 = 1 << 2;
/// LSR: framing error.
pub const LSR_FE: u8 = 1 << 3;
/// LSR: break interrupt.
pub const LSR_BI: u8 = 1 << 4;
/// LSR: transmitter holding register empty.
pub const LSR_THRE: u8 = 1 << 5;
/// LSR: transmitter empty.
pub const LSR_TEMT: u8 = 1 << 6;
/// LSR: the receiver FIFO holds an error or break.
pub const LSR_FIFO_ERROR: u8 = 1 << 7;
/// LSR: what raises the receiver line status interrupt.
pub const LSR_INT_ANY: u8 = LSR_OE | LSR_PE | LSR_FE | LSR_BI;

/// MSR: the clear-to-send input changed.
pub const MSR_DCTS: u8 = 1 << 0;
/// MSR: the data-set-ready input changed.
pub const MSR_DDSR: u8 = 1 << 1;
/// MSR: the ring indicator went off.
pub const MSR_TERI: u8 = 1 << 2;
/// MSR: the data-carrier-detect input changed.
pub const MSR_DDCD: u8 = 1 << 3;
/// MSR: clear to send.
pub const MSR_CTS: u8 = 1 << 4;
/// MSR: data set ready.
pub const MSR_DSR: u8 = 1 << 5;
/// MSR: ring indicator.
pub const MSR_RI: u8 = 1 << 6;
/// MSR: data carrier detect.
pub const MSR_DCD: u8 = 1 << 7;
/// MSR: the changes, which a read clears.
pub const MSR_ANY_DELTA: u8 = 0x0f;
/// MSR: the inputs.
pub const MSR_INPUTS: u8 = 0xf0;
/// MSR: from an input to its change.
pub const MSR_DELTA_SHIFT: u32 = 4;

/// Crystal of a PC's serial port divided by 16: the baud rate at divisor 1.
pub const BAUDBASE: u32 = 115_200;
/// The divisor for 9600 baud, which QEMU resets to.
pub const DIVISOR_9600: u16 = 12;
/// The baud rate that divisor 0 gives, as in QEMU.
pub const BAUD_OF_DIVISOR_0: u32 = 3500;
/// Character times without a read or a new character after which what the receiver FIFO holds is due (8.6).
pub const TIMEOUT_CHARACTERS: u64 = 4;

/// Number of registers.
pub const NUM_REGISTERS: u32 = 8;
