//! Reading JSON as it comes in: in pieces of any size, with garbage between.
//!
//! `serde_json` reads one document and gives up at the first mistake. What a monitor reads has no end: a
//! mistake is answered, and what follows is read on. A message is kept as tokens until its brackets match, at
//! most [`MAX_TOKEN_SIZE`] bytes, [`MAX_TOKEN_COUNT`] tokens and [`MAX_NESTING`] levels of it; then it is parsed, without
//! recursion. Source: QEMU `qobject/json-streamer.c`.

mod lexer;
mod parser;
mod text;
mod writer;

use lexer::{Kind, State, Step};
use serde_json::Value;

pub use writer::to_text;

/// The bytes of all tokens of a message.
pub const MAX_TOKEN_SIZE: usize = 64 << 20;
/// The tokens of a message.
pub const MAX_TOKEN_COUNT: usize = 2 << 20;
/// How deep arrays and objects may lie in each other.
pub const MAX_NESTING: i64 = 1 << 10;

/// Room for a message that is kept for the next one.
const KEPT: usize = 64 << 10;

/// A message: a value, or what is wrong with it in QEMU's words.
pub type Message = Result<Value, String>;

/// The one value that `text` is (`qobject_from_json`).
///
/// # Errors
/// In QEMU's words.
pub fn from_text(text: &str) -> Message {
    let mut reader = Reader::default();
    let mut rest = text.as_bytes();
    let mut value = None;
    while !rest.is_empty() {
        let (used, message) = reader.feed(rest);
        rest = &rest[used..];
        if let Some(found) = message.transpose()?
            && value.replace(found).is_some()
        {
            return Err("Expecting at most one JSON value".to_owned());
        }
    }
    // A number or a keyword ends with the text.
    let last = reader.feed(b"\n").1.transpose()?;
    match (value, last) {
        (Some(_), Some(_)) => Err("Expecting at most one JSON value".to_owned()),
        _ if !reader.tokens.is_empty() => Err("JSON parse error, premature EOI".to_owned()),
        (value, last) => value.or(last).ok_or_else(|| "Expecting a JSON value".to_owned()),
    }
}

/// Reads messages from a stream of bytes.
#[derive(Debug, Default)]
pub struct Reader {
    state: State,
    /// The text of the message's tokens, the last of which may be incomplete.
    text: Vec<u8>,
    /// Kind and end in `text` of the tokens that are complete.
    tokens: Vec<(Kind, u32)>,
    /// Where in `text` the incomplete token begins.
    begun: usize,
    braces: i64,
    brackets: i64,
}

impl Reader {
    /// Reads on in `data` up to the end of a message or of `data`; gives how much was read, and the message.
    pub fn feed(&mut self, data: &[u8]) -> (usize, Option<Message>) {
        let mut at = 0;
        while let Some(&byte) = data.get(at) {
            if let State::String(quote) = self.state {
                let plain = data[at..].iter().take_while(|&&byte| lexer::is_plain(byte, quote)).count();
                let room = (MAX_TOKEN_SIZE + 1).saturating_sub(self.text.len() - self.begun);
                let plain = plain.min(room);
                self.text.extend_from_slice(&data[at..at + plain]);
                at += plain;
                if let Some(message) = self.check_size() {
                    return (at, Some(message));
                }
                if plain > 0 {
                    continue;
                }
            }
            let (used, message) = self.byte(byte);
            at += usize::from(used);
            if message.is_some() {
                return (at, message);
            }
        }
        (at, None)
    }

    /// A byte: whether it is used up, and a message it completes.
    fn byte(&mut self, byte: u8) -> (bool, Option<Message>) {
        match lexer::step(self.state, byte) {
            Step::Add(state) => {
                self.state = state;
                self.text.push(byte);
                (true, self.check_size())
            }
            Step::Last(kind) => {
                self.text.push(byte);
                (true, self.token(kind))
            }
            Step::Behind(kind) => (false, self.token(kind)),
            Step::Skip(state) => {
                self.state = state;
                (true, None)
            }
            Step::Again => {
                self.state = State::Start;
                (false, None)
            }
            Step::Stray => {
                self.text.push(byte);
                let token = &self.text[self.begun..];
                // QEMU's message ends at a zero byte.
                let shown = token.split(|&byte| byte == 0).next().unwrap_or_default();
                let message = format!("JSON parse error, stray '{}'", String::from_utf8_lossy(shown));
                self.restart();
                self.state = State::Recovery;
                (true, Some(Err(message)))
            }
        }
    }

    /// Gives up a token that became too long while it was read.
    fn check_size(&mut self) -> Option<Message> {
        if self.text.len() - self.begun <= MAX_TOKEN_SIZE {
            return None;
        }
        self.restart();
        Some(Err("JSON token size limit exceeded".to_owned()))
    }

    /// Forgets the message.
    fn restart(&mut self) {
        self.text.clear();
        self.tokens.clear();
        self.text.shrink_to(KEPT);
        self.tokens.shrink_to(KEPT);
        (self.braces, self.brackets, self.begun) = (0, 0, 0);
        self.state = State::Start;
    }

    /// A token is complete.
    fn token(&mut self, kind: Kind) -> Option<Message> {
        self.state = State::Start;
        match kind {
            Kind::OpenBrace => self.braces += 1,
            Kind::CloseBrace => self.braces -= 1,
            Kind::OpenBracket => self.brackets += 1,
            Kind::CloseBracket => self.brackets -= 1,
            _ => {}
        }
        let exceeded = if self.text.len() >= MAX_TOKEN_SIZE {
            Some("JSON token size limit exceeded")
        } else if self.tokens.len() >= MAX_TOKEN_COUNT {
            Some("JSON token count limit exceeded")
        } else if self.braces + self.brackets > MAX_NESTING {
            Some("JSON nesting depth limit exceeded")
        } else {
            None
        };
        if let Some(message) = exceeded {
            self.restart();
            return Some(Err(message.to_owned()));
        }
        self.begun = self.text.len();
        // The size was checked to be far below 4 GiB.
        self.tokens.push((kind, self.begun as u32));
        if self.braces >= 0 && self.brackets >= 0 && (self.braces > 0 || self.brackets > 0) {
            return None;
        }
        let mut begin = 0;
        let tokens = self.tokens.iter().map(|&(kind, end)| {
            let text = &self.text[begin..end as usize];
            begin = end as usize;
            (kind, text)
        });
        let message = parser::parse(tokens).map_err(|wrong| format!("JSON parse error, {wrong}"));
        self.restart();
        Some(message)
    }
}
