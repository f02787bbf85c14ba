//! Writing JSON as QEMU does: ASCII only, a blank behind colons and commas, or indented by four.
//!
//! Source: QEMU `qobject/json-writer.c`.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};

use super::text::is_character;

/// The form of output.
struct Form {
    /// How deep, if it is indented.
    indent: Option<usize>,
}

impl Form {
    fn open(&mut self) {
        self.indent = self.indent.map(|n| n + 1);
    }

    fn line(&self, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
        match self.indent {
            Some(depth) => write!(out, "\n{:1$}", "", depth * 4),
            None => Ok(()),
        }
    }

    fn separate(&self, out: &mut (impl Write + ?Sized), first: bool) -> io::Result<()> {
        match (first, self.indent) {
            (true, _) => {}
            (false, Some(_)) => out.write_all(b",")?,
            (false, None) => out.write_all(b", ")?,
        }
        self.line(out)
    }

    /// Empty ones have a line of their own between their brackets, too.
    fn close(&mut self, out: &mut (impl Write + ?Sized), bracket: &[u8]) -> io::Result<()> {
        self.indent = self.indent.map(|n| n.saturating_sub(1));
        self.line(out)?;
        out.write_all(bracket)
    }
}

impl Formatter for Form {
    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open();
        out.write_all(b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.separate(out, first)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open();
        out.write_all(b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.separate(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }

    fn write_f64<W: ?Sized + Write>(&mut self, out: &mut W, value: f64) -> io::Result<()> {
        out.write_all(number(value).as_bytes())
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, text: &str) -> io::Result<()> {
        if text.bytes().all(|byte| byte < 0x7f) {
            return out.write_all(text.as_bytes());
        }
        for c in text.chars() {
            let shown = if is_character(c.into()) { c } else { char::REPLACEMENT_CHARACTER };
            match shown {
                ' '..='~' => write!(out, "{shown}")?,
                _ => shown
                    .encode_utf16(&mut [0; 2])
                    .iter()
                    .try_for_each(|unit| write!(out, "\\u{unit:04X}"))?,
            }
        }
        Ok(())
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, out: &mut W, escape: CharEscape) -> io::Result<()> {
        let escape = match escape {
            CharEscape::Quote => b"\\\"",
            CharEscape::ReverseSolidus => b"\\\\",
            CharEscape::Solidus => b"\\/",
            CharEscape::Backspace => b"\\b",
            CharEscape::FormFeed => b"\\f",
            CharEscape::LineFeed => b"\\n",
            CharEscape::CarriageReturn => b"\\r",
            CharEscape::Tab => b"\\t",
            CharEscape::AsciiControl(byte) => return write!(out, "\\u{byte:04X}"),
        };
        out.write_all(escape)
    }
}

/// With 17 digits, which bring back the same number, in the form of C's `%.17g`.
fn number(value: f64) -> String {
    let scientific = format!("{value:.16e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i32 = exponent.parse().unwrap_or_default();
    let shorten = |text: &str| text.trim_end_matches('0').trim_end_matches('.').to_owned();
    match usize::try_from(16 - power) {
        Ok(places) if power >= -4 && places > 0 => shorten(&format!("{value:.places$}")),
        Ok(0) => format!("{value:.0}"),
        _ => {
            let sign = if power < 0 { '-' } else { '+' };
            format!("{}e{sign}{:02}", shorten(digits), power.abs())
        }
    }
}

/// The value as text, in one line or indented.
pub fn to_text(value: &impl Serialize, pretty: bool) -> String {
    let mut text = Vec::new();
    let form = Form { indent: pretty.then_some(0) };
    // Writing to memory does not fail, and what is written is ASCII.
    let _ = value.serialize(&mut Serializer::with_formatter(&mut text, form));
    String::from_utf8(text).unwrap_or_default()
}
