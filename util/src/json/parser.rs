//! The tokens of a message to a value, without recursion. Source: QEMU `qobject/json-parser.c`.

use serde_json::{Map, Number, Value};

use super::lexer::Kind;
use super::text;

/// A token and its text.
pub(super) type Token<'a> = (Kind, &'a [u8]);

/// A container that is not complete.
enum Open {
    Array(Vec<Value>),
    /// With the key whose value is to come.
    Object(Map<String, Value>, Option<String>),
}

/// What an error message says behind "JSON parse error, ".
type Wrong = String;

struct Parser<'a, I: Iterator<Item = Token<'a>>> {
    tokens: std::iter::Peekable<I>,
    open: Vec<Open>,
}

/// Reads the one value that `tokens` are.
///
/// # Errors
/// What is wrong first, in QEMU's words.
pub(super) fn parse<'a>(tokens: impl Iterator<Item = Token<'a>>) -> Result<Value, Wrong> {
    let mut parser = Parser { tokens: tokens.peekable(), open: Vec::new() };
    loop {
        let Some(mut value) = parser.begin_value()? else { continue };
        // A value may be the last of its container, and that of its own.
        loop {
            match parser.add(value)? {
                Added::More => break,
                Added::Closed(container) => value = container,
                Added::Top(value) => return Ok(value),
            }
        }
    }
}

enum Added {
    /// The container goes on with another value.
    More,
    /// The container is complete: a value itself.
    Closed(Value),
    /// There is no container.
    Top(Value),
}

impl<'a, I: Iterator<Item = Token<'a>>> Parser<'a, I> {
    fn next(&mut self) -> Result<Token<'a>, Wrong> {
        self.tokens.next().ok_or_else(|| "premature EOI".to_owned())
    }

    fn ends(&mut self, kind: Kind) -> bool {
        self.tokens.next_if(|token| token.0 == kind).is_some()
    }

    /// A value, or the beginning of one that holds others.
    fn begin_value(&mut self) -> Result<Option<Value>, Wrong> {
        let (kind, token) = self.next()?;
        Ok(Some(match kind {
            Kind::OpenBrace if self.ends(Kind::CloseBrace) => Value::Object(Map::new()),
            Kind::OpenBracket if self.ends(Kind::CloseBracket) => Value::Array(Vec::new()),
            Kind::OpenBrace => {
                self.open.push(Open::Object(Map::new(), None));
                return Ok(None);
            }
            Kind::OpenBracket => {
                self.open.push(Open::Array(Vec::new()));
                return Ok(None);
            }
            Kind::String => Value::String(text::unquote(token)?),
            Kind::Integer | Kind::Float => number(token),
            Kind::Keyword => match token {
                b"true" => Value::Bool(true),
                b"false" => Value::Bool(false),
                b"null" => Value::Null,
                other => return Err(format!("invalid keyword '{}'", String::from_utf8_lossy(other))),
            },
            Kind::CloseBrace | Kind::CloseBracket | Kind::Colon | Kind::Comma => {
                return Err("expecting value".to_owned());
            }
        }))
    }

    /// Adds a value to the innermost container, and reads what is behind it.
    fn add(&mut self, value: Value) -> Result<Added, Wrong> {
        let (end, separator) = match self.open.last_mut() {
            None => return Ok(Added::Top(value)),
            Some(Open::Array(values)) => {
                values.push(value);
                (Kind::CloseBracket, "expected separator in list")
            }
            Some(Open::Object(_, key @ None)) => {
                let Value::String(name) = value else {
                    return Err("key is not a string in object".to_owned());
                };
                *key = Some(name);
                return match self.next()?.0 {
                    Kind::Colon => Ok(Added::More),
                    _ => Err("missing : in object pair".to_owned()),
                };
            }
            Some(Open::Object(map, key)) => {
                let old = key.take().and_then(|key| map.insert(key, value));
                if old.is_some() {
                    return Err("duplicate key".to_owned());
                }
                (Kind::CloseBrace, "expected separator in dict")
            }
        };
        match self.next()?.0 {
            Kind::Comma => Ok(Added::More),
            kind if kind == end => Ok(match self.open.pop() {
                Some(Open::Array(values)) => Added::Closed(Value::Array(values)),
                Some(Open::Object(map, _)) => Added::Closed(Value::Object(map)),
                None => Added::More,
            }),
            _ => Err(separator.to_owned()),
        }
    }
}

/// A whole number that 64 bits of either sign hold, or else a floating-point number.
fn number(token: &[u8]) -> Value {
    // Only ASCII came through the lexer.
    let text = String::from_utf8_lossy(token);
    if text != "-0" {
        if let Ok(number) = text.parse::<i64>() {
            return number.into();
        }
        if let Ok(number) = text.parse::<u64>() {
            return number.into();
        }
    } else {
        return 0.into();
    }
    // JSON has no infinity: the largest number stands for what is beyond.
    let number = text.parse::<f64>().unwrap_or_default().clamp(f64::MIN, f64::MAX);
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}
