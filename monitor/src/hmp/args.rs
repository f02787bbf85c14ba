//! From what is typed after a command's name to its arguments (monitor/hmp.c, `monitor_parse_arguments`).
//!
//! What a command takes is written as in QEMU: `key:type` after `key:type`, with these types:
//!
//! | type | what it takes |
//! |---|---|
//! | `s` `F` `B` | a word, or text in quotes; a file's name; a block device's name |
//! | `O` | `driver,key=value,…`, if there is more |
//! | `S` | all the rest |
//! | `/` | `/fmt`, if it is there: the count, letter and size of items |
//! | `i` `l` | a number of 32 or 64 bits, as an expression |
//! | `M` | mebibytes, as an expression |
//! | `o` | a size with a suffix, in mebibytes without one |
//! | `b` | `on` or `off` |
//! | `-x` `-xs` | the option `-x`, with a word behind it |
//!
//! `?` after a type means that it may be left out, `.` that it is there if a dot comes before it.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use util::cutils::{SizeUnit, strtosz};

use super::expression::{self, Registers};

/// How memory is shown: `/COUNT` and letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// How many items.
    pub count: u64,
    /// One of `x d u o c i`.
    pub letter: char,
    /// Bytes an item; none for instructions whose size is the CPU's.
    pub size: Option<usize>,
}

/// The letter and size used last, which are those of the next command that says none.
static LAST_FORMAT: Mutex<(char, usize)> = Mutex::new(('x', 4));

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Text(String),
    Number(i64),
    Flag,
    Bool(bool),
}

/// A command's arguments, checked.
#[derive(Debug, Default)]
pub(crate) struct Args {
    values: BTreeMap<&'static str, Value>,
    format: Option<Format>,
}

impl Args {
    /// The text called `key`, if it was given.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.values.get(key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The text called `key`, empty where it was left out.
    pub fn word(&self, key: &str) -> &str {
        self.text(key).unwrap_or_default()
    }

    /// The number called `key`, if it was given.
    pub fn number(&self, key: &str) -> Option<i64> {
        match self.values.get(key) {
            Some(Value::Number(number)) => Some(*number),
            _ => None,
        }
    }

    /// The number called `key`, without its sign; 0 where it was left out.
    pub fn unsigned(&self, key: &str) -> u64 {
        self.number(key).unwrap_or_default() as u64
    }

    /// Whether an option was given, or an argument is `on`.
    pub fn is_set(&self, key: &str) -> bool {
        matches!(self.values.get(key), Some(Value::Flag | Value::Bool(true)))
    }

    /// How memory is to be shown.
    pub fn format(&self) -> Format {
        self.format.unwrap_or(Format { count: 1, letter: 'x', size: Some(4) })
    }
}

/// One `key:type`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ArgType {
    key: &'static str,
    /// The type's letter; `-` for options.
    pub kind: char,
    /// What follows the letter.
    modifier: &'static str,
}

impl ArgType {
    fn is_optional(self) -> bool {
        self.modifier.starts_with('?')
    }
}

/// What a command takes, in order.
pub(crate) fn arg_types(list: &'static str) -> impl Iterator<Item = ArgType> {
    list.split(',').filter_map(|entry| {
        let (key, kind) = entry.split_once(':')?;
        let mut chars = kind.chars();
        Some(ArgType { key, kind: chars.next()?, modifier: chars.as_str() })
    })
}

/// White space as C's `isspace` has it.
pub(crate) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

pub(crate) fn skip_space(text: &str) -> &str {
    text.trim_start_matches(is_space)
}

/// Parses `text` for the command called `name`, which takes `list`. Registers in expressions are `registers`'.
///
/// # Errors
/// Says what is wrong; empty where QEMU says nothing, either.
pub(crate) fn parse(
    name: &str,
    list: &'static str,
    text: &str,
    registers: Registers<'_>,
) -> Result<Args, String> {
    let mut parser = Parser { name, list, rest: text, registers, args: Args::default() };
    for arg in arg_types(list) {
        parser.rest = skip_space(parser.rest);
        parser.take(arg)?;
    }
    if skip_space(parser.rest).is_empty() {
        Ok(parser.args)
    } else {
        Err(format!("{name}: extraneous characters at the end of line"))
    }
}

struct Parser<'a> {
    name: &'a str,
    list: &'static str,
    rest: &'a str,
    registers: Registers<'a>,
    args: Args,
}

impl Parser<'_> {
    fn take(&mut self, arg: ArgType) -> Result<(), String> {
        if arg.is_optional() && self.rest.is_empty() {
            return Ok(());
        }
        let name = self.name;
        let value = match arg.kind {
            's' => Value::Text(self.word().ok_or_else(|| format!("{name}: string expected"))?),
            'F' => Value::Text(self.word().ok_or_else(|| format!("{name}: filename expected"))?),
            'B' => Value::Text(self.word().ok_or_else(|| format!("{name}: block device name expected"))?),
            'O' if self.rest.is_empty() => return Ok(()),
            'O' => Value::Text(self.word().ok_or_else(String::new)?),
            'S' if self.rest.is_empty() => return Err(format!("{name}: string expected")),
            'S' => Value::Text(std::mem::take(&mut self.rest).to_owned()),
            '/' => {
                self.args.format = Some(self.format()?);
                return Ok(());
            }
            'i' | 'l' | 'M' => match self.number(arg)? {
                Some(number) => Value::Number(number),
                None => return Ok(()),
            },
            'o' => Value::Number(self.size()?),
            'b' => Value::Bool(self.on_off()?),
            '-' => match self.option(arg)? {
                Some(value) => value,
                None => return Ok(()),
            },
            other => return Err(format!("{name}: unknown type '{other}'")),
        };
        self.args.values.insert(arg.key, value);
        Ok(())
    }

    fn word(&mut self) -> Option<String> {
        let (word, rest) = word(self.rest)?;
        self.rest = rest;
        Some(word)
    }

    fn number(&mut self, arg: ArgType) -> Result<Option<i64>, String> {
        if arg.modifier.starts_with('.') {
            match self.rest.strip_prefix('.') {
                Some(rest) => self.rest = rest,
                None => return Ok(None),
            }
        }
        let (value, rest) = expression::parse(self.rest, self.registers)?;
        self.rest = rest;
        let value = value as i64;
        match arg.kind {
            'i' if u32::try_from(value).is_err() => {
                Err(format!("'{}' has failed: integer is for 32-bit values", self.name))
            }
            'M' if value < 0 => Err("enter a positive value".to_owned()),
            'M' => Ok(Some(value.saturating_mul(1 << 20))),
            _ => Ok(Some(value)),
        }
    }

    /// The longest beginning that is a size.
    fn size(&mut self) -> Result<i64, String> {
        const LONGEST: usize = 32;
        let ends =
            self.rest.char_indices().map(|(at, c)| at + c.len_utf8()).take(LONGEST).collect::<Vec<_>>();
        for end in ends.into_iter().rev() {
            let (text, rest) = self.rest.split_at(end);
            if let Some(size) =
                strtosz(text, SizeUnit::Mebibytes).ok().and_then(|size| i64::try_from(size).ok())
            {
                self.rest = rest;
                return Ok(size);
            }
        }
        Err("invalid size".to_owned())
    }

    fn on_off(&mut self) -> Result<bool, String> {
        let end = self.rest.find(|c: char| !c.is_ascii_graphic()).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        match word {
            "on" => Ok(true),
            "off" => Ok(false),
            _ => Err("Expected 'on' or 'off'".to_owned()),
        }
    }

    fn option(&mut self, arg: ArgType) -> Result<Option<Value>, String> {
        let Some(rest) = self.rest.strip_prefix('-') else { return Ok(None) };
        let mut modifier = arg.modifier.chars();
        let letter = modifier.next();
        let mut chars = rest.chars();
        let given = chars.next();
        if given != letter {
            // One of the command's others, which has its turn.
            let others = arg_types(self.list).filter(|a| a.kind == '-');
            return match given {
                Some(given) if others.into_iter().any(|a| a.modifier.starts_with(given)) => Ok(None),
                other => Err(format!(
                    "{}: unsupported option -{}",
                    self.name,
                    other.map(String::from).unwrap_or_default()
                )),
            };
        }
        self.rest = chars.as_str();
        if modifier.next() != Some('s') {
            return Ok(Some(Value::Flag));
        }
        self.rest = skip_space(self.rest);
        let letter = letter.map(String::from).unwrap_or_default();
        let word = self.word().ok_or_else(|| format!("{}: value expected for -{letter}", self.name))?;
        Ok(Some(Value::Text(word)))
    }

    fn format(&mut self) -> Result<Format, String> {
        let mut last = LAST_FORMAT.lock();
        let Some(text) = self.rest.strip_prefix('/') else {
            let size = (last.0 != 'i').then_some(last.1);
            return Ok(Format { count: 1, letter: last.0, size });
        };
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (count, text) = text.split_at(end);
        let count = if count.is_empty() { 1 } else { count.parse().unwrap_or(u64::MAX) };
        let end = text.find(is_space).unwrap_or(text.len());
        let (letters, rest) = text.split_at(end);
        let (mut letter, mut size) = (last.0, None);
        for given in letters.chars() {
            match given {
                'o' | 'd' | 'u' | 'x' | 'i' | 'c' => letter = given,
                'b' => size = Some(1),
                'h' => size = Some(2),
                'w' => size = Some(4),
                'g' | 'L' => size = Some(8),
                other => return Err(format!("invalid char in format: '{other}'")),
            }
        }
        if letter != 'i' {
            last.1 = size.unwrap_or(last.1);
            size = Some(last.1);
        }
        last.0 = letter;
        self.rest = rest;
        Ok(Format { count, letter, size })
    }
}

/// The first word, or text in double quotes with backslashes for special characters, and what follows it. `None`
/// when there is none, and for quotes or a backslash gone wrong.
pub(crate) fn word(text: &str) -> Option<(String, &str)> {
    if text.is_empty() {
        return None;
    }
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(is_space).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        return Some((word.to_owned(), rest));
    };
    let mut word = String::new();
    let mut chars = quoted.chars();
    loop {
        match chars.next()? {
            '"' => return Some((word, chars.as_str())),
            '\\' => match chars.next()? {
                'n' => word.push('\n'),
                'r' => word.push('\r'),
                special @ ('\\' | '\'' | '"') => word.push(special),
                _ => return None,
            },
            other => word.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &'static str, text: &str) -> Result<Args, String> {
        super::parse("cmd", list, text, &|name| (name == "pc").then_some(0x7c00))
    }

    #[test]
    fn words_flags_numbers_and_formats() {
        let args = parse("fmt:/,addr:l", "/12gd 0x10 + 1").unwrap();
        assert_eq!(args.format(), Format { count: 12, letter: 'd', size: Some(8) });
        assert_eq!(args.unsigned("addr"), 0x11);
        let args = parse("fmt:/,addr:l", "$pc+ 1").unwrap();
        assert_eq!(args.format(), Format { count: 1, letter: 'd', size: Some(8) }, "the one used last");
        assert_eq!(args.unsigned("addr"), 0x7c01);
        let args = parse("fmt:/,addr:l", "/3i 0").unwrap();
        assert_eq!(args.format(), Format { count: 3, letter: 'i', size: None });
        let args = parse("all:-a,name:s,more:s?", r#"-a "b \"c" "#).unwrap();
        assert!(args.is_set("all"));
        assert_eq!((args.text("name"), args.text("more")), (Some("b \"c"), None));
        let args = parse("f:-f,d:-d,o:-o,text:-ts,rest:S?", "-d -t word  a b ").unwrap();
        assert_eq!((args.is_set("f"), args.is_set("d"), args.is_set("o")), (false, true, false));
        assert_eq!((args.word("text"), args.word("rest")), ("word", "a b "));
        let args = parse("addr:i,index:i.,up:b", "0x70 . 0xd on").unwrap();
        assert_eq!(
            (args.number("addr"), args.number("index"), args.is_set("up")),
            (Some(0x70), Some(0xd), true)
        );
        assert_eq!(parse("value:M", "3").unwrap().number("value"), Some(3 << 20));
        assert_eq!(parse("size:o", "1.5k").unwrap().number("size"), Some(1536));
        assert_eq!(parse("size:o", "2").unwrap().number("size"), Some(2 << 20));
    }

    #[test]
    fn wrong_arguments_are_refused() {
        let error = |list, text| parse(list, text).unwrap_err();
        assert_eq!(error("a:s", ""), "cmd: string expected");
        assert_eq!(error("a:F", " "), "cmd: filename expected");
        assert_eq!(error("a:B", " "), "cmd: block device name expected");
        assert_eq!(error("a:s", "a b"), "cmd: extraneous characters at the end of line");
        assert_eq!(error("a:s", "\"a"), "cmd: string expected");
        assert_eq!(error("a:s", "\"\\q\""), "cmd: string expected");
        assert_eq!(error("fmt:/", "/é"), "invalid char in format: 'é'");
        assert_eq!(error("", "-f"), "cmd: extraneous characters at the end of line");
        assert_eq!(error("f:-f", "-x"), "cmd: unsupported option -x");
        assert_eq!(error("f:-f", "-"), "cmd: unsupported option -");
        assert_eq!(error("f:-fs", "-f"), "cmd: value expected for -f");
        assert_eq!(error("up:b", "offf"), "Expected 'on' or 'off'");
        assert_eq!(error("n:i", "-1"), "'cmd' has failed: integer is for 32-bit values");
        assert_eq!(error("n:M", "-1"), "enter a positive value");
        assert_eq!(error("n:o", "x"), "invalid size");
        assert_eq!(error("n:o", "1foo"), "cmd: extraneous characters at the end of line");
        assert_eq!(error("n:l", "$nosuch"), "unknown register");
    }
}
