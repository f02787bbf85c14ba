//! Bytes to tokens, one byte at a time.
//!
//! Source: QEMU `qobject/json-lexer.c`; RFC 8259 with strings in single quotes, too. Strings and keywords are only
//! delimited here; the parser looks inside.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    OpenBrace,
    CloseBrace,
    OpenBracket,
    CloseBracket,
    Colon,
    Comma,
    Integer,
    Float,
    Keyword,
    /// Its text has the quotes.
    String,
}

/// Inside which token the lexer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Start,
    /// After garbage: goes on at the next byte that can begin or end something.
    Recovery,
    /// In a string with this quote.
    String(u8),
    /// In such a string, behind a backslash.
    Escape(u8),
    Sign,
    Zero,
    Digits,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
    Keyword,
}

/// What a byte does to the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is part of it.
    Add(State),
    /// It ends it, as its last byte.
    Last(Kind),
    /// It is the first byte behind it.
    Behind(Kind),
    /// It is no part of any token.
    Skip(State),
    /// Look at it again from the start.
    Again,
    /// Nothing can go on with it.
    Stray,
}

/// A byte that strings are made of.
pub(super) fn is_plain(byte: u8, quote: u8) -> bool {
    matches!(byte, 0x20..=0xfd) && byte != quote && byte != b'\\'
}

fn start(byte: u8) -> Step {
    match byte {
        b' ' | b'\t' | b'\r' | b'\n' => Step::Skip(State::Start),
        b'"' | b'\'' => Step::Add(State::String(byte)),
        b'{' => Step::Last(Kind::OpenBrace),
        b'}' => Step::Last(Kind::CloseBrace),
        b'[' => Step::Last(Kind::OpenBracket),
        b']' => Step::Last(Kind::CloseBracket),
        b':' => Step::Last(Kind::Colon),
        b',' => Step::Last(Kind::Comma),
        b'0' => Step::Add(State::Zero),
        b'1'..=b'9' => Step::Add(State::Digits),
        b'-' => Step::Add(State::Sign),
        b'a'..=b'z' => Step::Add(State::Keyword),
        _ => Step::Stray,
    }
}

/// What `byte` does in `state`.
pub(super) fn step(state: State, byte: u8) -> Step {
    let digit = byte.is_ascii_digit();
    let exponent = matches!(byte, b'e' | b'E');
    match state {
        State::Start => start(byte),
        State::Recovery => match byte {
            0..=8 | 0xa..=0x1f | 0xfe | 0xff | b'{' | b'}' | b'[' | b']' | b':' | b',' => Step::Again,
            _ => Step::Skip(State::Recovery),
        },
        State::String(quote) => match byte {
            b'\\' => Step::Add(State::Escape(quote)),
            _ if byte == quote => Step::Last(Kind::String),
            0x20..=0xfd => Step::Add(state),
            _ => Step::Stray,
        },
        State::Escape(quote) => match byte {
            0x20..=0xfd => Step::Add(State::String(quote)),
            _ => Step::Stray,
        },
        State::Sign => match byte {
            b'0' => Step::Add(State::Zero),
            b'1'..=b'9' => Step::Add(State::Digits),
            _ => Step::Stray,
        },
        State::Zero if digit => Step::Stray,
        State::Digits if digit => Step::Add(State::Digits),
        State::Zero | State::Digits if byte == b'.' => Step::Add(State::Point),
        State::Digits if exponent => Step::Add(State::Exponent),
        State::Zero | State::Digits => Step::Behind(Kind::Integer),
        State::Point | State::Fraction if digit => Step::Add(State::Fraction),
        State::Fraction if exponent => Step::Add(State::Exponent),
        State::Exponent if matches!(byte, b'+' | b'-') => Step::Add(State::ExponentSign),
        State::Exponent | State::ExponentSign | State::ExponentDigits if digit => {
            Step::Add(State::ExponentDigits)
        }
        State::Fraction | State::ExponentDigits => Step::Behind(Kind::Float),
        State::Point | State::Exponent | State::ExponentSign => Step::Stray,
        State::Keyword if byte.is_ascii_lowercase() => Step::Add(State::Keyword),
        State::Keyword => Step::Behind(Kind::Keyword),
    }
}
