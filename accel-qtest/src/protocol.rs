//! The requests of the qtest protocol: a line of words each. What they mean is in QEMU `softmmu/qtest.c`.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use util::cutils::{strtoi64, strtou64};

/// Base64 with or without padding and with whatever bits remain at its end.
pub const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// How a block of memory is written in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `0x` and two digits a byte.
    Hex,
    /// Base64.
    Base64,
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `irq_intercept_in`: report the changes of a device's inputs.
    InterceptIn {
        /// Path of the device.
        path: String,
    },
    /// `irq_intercept_out`: report the changes of a device's outputs.
    InterceptOut {
        /// Path of the device.
        path: String,
        /// Which outputs; the unnamed ones where nothing is said.
        name: String,
    },
    /// `set_irq_in`: set an input.
    SetIrqIn {
        /// Path of the device.
        path: String,
        /// Which inputs; empty for the unnamed ones.
        name: String,
        /// Which of them.
        number: u32,
        /// Its level.
        level: bool,
    },
    /// `outb`, `outw`, `outl`.
    Out {
        /// The port.
        port: u16,
        /// Bytes.
        size: usize,
        /// What is written; its low bytes count.
        value: u64,
    },
    /// `inb`, `inw`, `inl`.
    In {
        /// The port.
        port: u16,
        /// Bytes.
        size: usize,
    },
    /// `writeb` to `writeq`.
    Write {
        /// Guest physical address.
        address: u64,
        /// Bytes.
        size: usize,
        /// What is written; its low bytes count.
        value: u64,
    },
    /// `readb` to `readq`.
    Read {
        /// Guest physical address.
        address: u64,
        /// Bytes.
        size: usize,
    },
    /// `read`, `b64read`.
    ReadBlock {
        /// Guest physical address.
        address: u64,
        /// Bytes.
        len: u64,
        /// How the answer is written.
        encoding: Encoding,
    },
    /// `write`, `b64write`: `data`, then zeros up to `len` bytes.
    WriteBlock {
        /// Guest physical address.
        address: u64,
        /// Bytes.
        len: u64,
        /// The first of them, `len` at most.
        data: Vec<u8>,
    },
    /// `memset`.
    Memset {
        /// Guest physical address.
        address: u64,
        /// Bytes.
        len: u64,
        /// What they become.
        byte: u8,
    },
    /// `endianness`.
    Endianness,
    /// `module_load`.
    ModuleLoad,
    /// `clock_step`: by so many ns, or to the next deadline.
    ClockStep(Option<i64>),
    /// `clock_set`: to so many ns.
    ClockSet(i64),
}

/// Why a line is no request; what is displayed is the answer to it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The first word is no command.
    #[error("FAIL Unknown command '{0}'")]
    Unknown(String),
    /// A word after it is missing or wrong.
    #[error("FAIL Invalid arguments for '{0}'")]
    Arguments(String),
    /// The data of `write` and `b64write` is too short to be any.
    #[error("ERR invalid argument size")]
    DataSize,
}

/// The words after the command.
struct Words<'a>(std::str::Split<'a, char>);

impl<'a> Words<'a> {
    fn text(&mut self) -> Option<&'a str> {
        self.0.next()
    }

    fn owned(&mut self) -> Option<String> {
        self.text().map(str::to_owned)
    }

    fn number(&mut self) -> Option<u64> {
        strtou64(self.text()?, 0).ok()
    }

    fn signed(&mut self) -> Option<i64> {
        strtoi64(self.text()?, 0).ok()
    }

    fn port(&mut self) -> Option<u16> {
        u16::try_from(self.number()?).ok()
    }
}

/// The bytes that the last letter of an access command stands for.
fn access_size(command: &str, verb: &str, sizes: &str) -> Option<usize> {
    let letter = command.strip_prefix(verb).filter(|letter| letter.len() == 1)?;
    Some(1 << sizes.find(letter)?)
}

/// Bytes written as hexadecimal digits behind a prefix of two characters, `len` at most. A last digit alone
/// does not count.
fn decode_hex(text: &str, len: u64) -> Option<Vec<u8>> {
    let digits = text.as_bytes().get(2..)?;
    let nibble = |digit: u8| char::from(digit).to_digit(16);
    let wanted = usize::try_from(len).unwrap_or(usize::MAX);
    digits
        .chunks_exact(2)
        .take(wanted)
        .map(|pair| match pair {
            [high, low] => u8::try_from(nibble(*high)? << 4 | nibble(*low)?).ok(),
            _ => None,
        })
        .collect()
}

fn decode_base64(text: &str, len: u64) -> Option<Vec<u8>> {
    let mut data = BASE64.decode(text).ok()?;
    data.truncate(usize::try_from(len).unwrap_or(usize::MAX));
    Some(data)
}

impl Request {
    /// Reads a line, without its end. Clock commands are known only where the client owns the time.
    ///
    /// # Errors
    /// The line is no request: the answer to it.
    pub fn parse(line: &str, owns_clock: bool) -> Result<Request, RequestError> {
        let mut words = Words(line.split(' '));
        let command = words.text().unwrap_or_default();
        let request = match command {
            "write" | "b64write" => return Request::parse_write(command, &mut words),
            "clock_step" | "clock_set" if !owns_clock => {
                return Err(RequestError::Unknown(command.to_owned()));
            }
            "clock_step" => match words.text() {
                None => Some(Request::ClockStep(None)),
                Some(ns) => strtoi64(ns, 0).ok().map(|ns| Request::ClockStep(Some(ns))),
            },
            "clock_set" => words.signed().map(Request::ClockSet),
            "endianness" => Some(Request::Endianness),
            "module_load" => words.text().and(words.text()).map(|_| Request::ModuleLoad),
            _ => match Request::parse_irq(command, &mut words) {
                None => Request::parse_access(command, &mut words)
                    .ok_or_else(|| RequestError::Unknown(command.to_owned()))?,
                Some(request) => request,
            },
        };
        request.ok_or_else(|| RequestError::Arguments(command.to_owned()))
    }

    /// The outer `None`: another command.
    fn parse_irq(command: &str, words: &mut Words<'_>) -> Option<Option<Request>> {
        let request = match command {
            "irq_intercept_in" => words.owned().map(|path| Request::InterceptIn { path }),
            "irq_intercept_out" => words
                .owned()
                .map(|path| Request::InterceptOut { path, name: words.owned().unwrap_or_default() }),
            "set_irq_in" => Request::parse_set_irq(words),
            _ => return None,
        };
        Some(request)
    }

    fn parse_set_irq(words: &mut Words<'_>) -> Option<Request> {
        let path = words.owned()?;
        let name = words.text()?;
        let name = if name == "unnamed-gpio-in" { "" } else { name }.to_owned();
        let number = u32::try_from(words.signed()?).ok()?;
        Some(Request::SetIrqIn { path, name, number, level: words.signed()? != 0 })
    }

    /// The outer `None`: another command.
    fn parse_access(command: &str, words: &mut Words<'_>) -> Option<Option<Request>> {
        let size = |verb, sizes| access_size(command, verb, sizes);
        let two = |words: &mut Words<'_>| Some((words.number()?, words.number()?));
        let request =
            if let Some(size) = size("out", "bwl") {
                words.port().and_then(|port| Some(Request::Out { port, size, value: words.number()? }))
            } else if let Some(size) = size("in", "bwl") {
                words.port().map(|port| Request::In { port, size })
            } else if let Some(size) = size("write", "bwlq") {
                two(words).map(|(address, value)| Request::Write { address, size, value })
            } else if let Some(size) = size("read", "bwlq") {
                words.number().map(|address| Request::Read { address, size })
            } else {
                match command {
                    // An answer with no data would be no answer.
                    "read" => two(words)
                        .filter(|(_, len)| *len > 0)
                        .map(|(address, len)| Request::ReadBlock { address, len, encoding: Encoding::Hex }),
                    "b64read" => two(words).map(|(address, len)| Request::ReadBlock {
                        address,
                        len,
                        encoding: Encoding::Base64,
                    }),
                    "memset" => two(words).and_then(|(address, len)| {
                        // As C's memset takes it.
                        Some(Request::Memset { address, len, byte: words.number()? as u8 })
                    }),
                    _ => return None,
                }
            };
        Some(request)
    }

    fn parse_write(command: &str, words: &mut Words<'_>) -> Result<Request, RequestError> {
        let wrong = || RequestError::Arguments(command.to_owned());
        let address = words.number().ok_or_else(wrong)?;
        let len = words.number().ok_or_else(wrong)?;
        let text = words.text().ok_or_else(wrong)?;
        if text.len() < 3 {
            return Err(RequestError::DataSize);
        }
        if command == "write" {
            let data = decode_hex(text, len).ok_or_else(wrong)?;
            return Ok(Request::WriteBlock { address, len, data });
        }
        let data = decode_base64(text, len).ok_or_else(wrong)?;
        Ok(Request::WriteBlock { address, len: data.len() as u64, data })
    }
}
