//! Carrying requests out: at once what is short, in slices what may be long.

use std::fmt::Write;

use accel_qtest::protocol::{BASE64, Encoding, Request};
use base64::Engine;
use memory::{address_space_io, address_space_memory};
use util::clock::{self, ClockType, now_ns};

use super::irq::{self, Side};
use super::server::Server;

/// Bytes of a slice: whole groups of base64.
const SLICE: usize = 3 << 12;
/// Deadlines that a slice passes.
const SLICE_DEADLINES: u32 = 256;

/// What is left to do of a request.
pub enum Job {
    /// Read memory, and send it.
    Read {
        /// Where it goes on.
        address: u64,
        /// Bytes to go.
        left: u64,
        /// How it is sent.
        encoding: Encoding,
    },
    /// Write the same byte to memory.
    Fill {
        /// Where it goes on.
        address: u64,
        /// Bytes to go.
        left: u64,
        /// What is written.
        byte: u8,
    },
    /// Move the clock.
    Clock {
        /// To so many ns.
        to: u64,
    },
}

/// What a request comes to.
pub enum Outcome {
    /// The answer, without the end of its line.
    Answer(String),
    /// A beginning of the answer, and what is to be done before the rest is known.
    Job(String, Job),
}

fn said(answer: &str) -> Outcome {
    Outcome::Answer(answer.to_owned())
}

fn ok() -> Outcome {
    said("OK")
}

/// Little-endian bytes as a number.
fn value(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// The clock's reading in `ns` from now, which is not before it. The protocol's times have 63 bits.
fn later(ns: i64) -> u64 {
    let later = now_ns(ClockType::Virtual).saturating_add(u64::try_from(ns).unwrap_or(0));
    later.min(i64::MAX as u64)
}

/// Carries out a request. What memory or ports refuse, the guest would not be told either.
pub fn execute(server: &Server, request: Request) -> Outcome {
    match request {
        Request::InterceptIn { path } => said(irq::intercept(server, &path, &Side::Inputs)),
        Request::InterceptOut { path, name } => said(irq::intercept(server, &path, &Side::Outputs(name))),
        Request::SetIrqIn { path, name, number, level } => said(irq::set_irq_in(&path, &name, number, level)),
        Request::Out { port, size, value } => {
            let bytes = value.to_le_bytes();
            let _ = address_space_io().write(port.into(), &bytes[..size]);
            ok()
        }
        Request::In { port, size } => {
            let mut bytes = [0; 8];
            let _ = address_space_io().read(port.into(), &mut bytes[..size]);
            Outcome::Answer(format!("OK 0x{:04x}", value(&bytes[..size])))
        }
        Request::Write { address, size, value } => {
            let _ = address_space_memory().write(address, &value.to_le_bytes()[..size]);
            ok()
        }
        Request::Read { address, size } => {
            let mut bytes = [0; 8];
            let _ = address_space_memory().read(address, &mut bytes[..size]);
            Outcome::Answer(format!("OK 0x{:016x}", value(&bytes[..size])))
        }
        Request::ReadBlock { address, len, encoding } => {
            let begin = match encoding {
                Encoding::Hex => "OK 0x",
                Encoding::Base64 => "OK ",
            };
            Outcome::Job(begin.to_owned(), Job::Read { address, left: len, encoding })
        }
        Request::WriteBlock { address, len, data } => {
            let _ = address_space_memory().write(address, &data);
            let written = data.len() as u64;
            fill(address.wrapping_add(written), len.saturating_sub(written), 0)
        }
        Request::Memset { address, len, byte } => fill(address, len, byte),
        Request::Endianness => said("OK little"),
        // Everything is built in, so there is nothing to load.
        Request::ModuleLoad => ok(),
        Request::ClockStep(Some(ns)) => clock(later(ns)),
        Request::ClockStep(None) => {
            let now = now_ns(ClockType::Virtual);
            clock(util::timer::next_deadline_ns(ClockType::Virtual).unwrap_or(now))
        }
        Request::ClockSet(ns) => clock(u64::try_from(ns).unwrap_or(0)),
    }
}

fn fill(address: u64, left: u64, byte: u8) -> Outcome {
    if left == 0 {
        return ok();
    }
    Outcome::Job("OK".to_owned(), Job::Fill { address, left, byte })
}

fn clock(to: u64) -> Outcome {
    Outcome::Job("OK ".to_owned(), Job::Clock { to })
}

impl Job {
    /// Does a slice; what is known of the answer is added to `answer`. `None` when nothing is left.
    pub fn step(self, answer: &mut String) -> Option<Job> {
        let slice = |left: u64| usize::try_from(left).unwrap_or(SLICE).min(SLICE);
        match self {
            Job::Read { address, left, encoding } => {
                let mut data = vec![0; slice(left)];
                let _ = address_space_memory().read(address, &mut data);
                match encoding {
                    Encoding::Hex => data.iter().for_each(|byte| {
                        // Writing to a string cannot fail.
                        let _ = write!(answer, "{byte:02x}");
                    }),
                    Encoding::Base64 => BASE64.encode_string(&data, answer),
                }
                let done = data.len() as u64;
                let (address, left) = (address.wrapping_add(done), left.saturating_sub(done));
                (left > 0).then_some(Job::Read { address, left, encoding })
            }
            Job::Fill { address, left, byte } => {
                let data = vec![byte; slice(left)];
                let _ = address_space_memory().write(address, &data);
                let done = data.len() as u64;
                let (address, left) = (address.wrapping_add(done), left.saturating_sub(done));
                (left > 0).then_some(Job::Fill { address, left, byte })
            }
            Job::Clock { to } => {
                if !clock::advance(to, SLICE_DEADLINES) {
                    return Some(Job::Clock { to });
                }
                let _ = write!(answer, "{}", now_ns(ClockType::Virtual));
                None
            }
        }
    }
}
