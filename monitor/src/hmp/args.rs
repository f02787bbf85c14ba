//! From what is typed after a command's name to its arguments (monitor/hmp.c, `monitor_parse_arguments`).

use super::expression;

/// What a command takes, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arg {
    /// A word, or a text in quotes.
    Word,
    /// The same, if there is more.
    OptionalWord,
    /// All the rest, which may be nothing.
    Rest,
    /// `-x`, if it is there.
    Flag(char),
    /// `/fmt`, if it is there.
    Format,
    /// A number.
    Expression,
    /// The same, if there is more.
    OptionalExpression,
}

/// How memory is shown: `/COUNT` and letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// How many items.
    pub count: u64,
    /// One of `x d u o c i`.
    pub letter: char,
    /// Bytes an item.
    pub size: usize,
}

impl Default for Format {
    fn default() -> Self {
        Format { count: 1, letter: 'x', size: 4 }
    }
}

/// A command's arguments, checked.
#[derive(Debug, Default)]
pub(crate) struct Args {
    words: Vec<String>,
    flags: Vec<char>,
    pub format: Format,
    pub number: Option<u64>,
}

impl Args {
    /// The `index`th word, empty where it was left out.
    pub fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }

    pub fn has_flag(&self, flag: char) -> bool {
        self.flags.contains(&flag)
    }
}

/// Parses `text` for the command called `name`, which takes `list`.
///
/// # Errors
/// Says what is wrong.
pub(crate) fn parse(name: &str, list: &[Arg], text: &str) -> Result<Args, String> {
    let mut args = Args::default();
    let mut rest = text.trim();
    for arg in list {
        rest = match arg {
            Arg::Word if rest.is_empty() => return Err(format!("{name}: string expected")),
            Arg::OptionalWord | Arg::OptionalExpression if rest.is_empty() => rest,
            Arg::Word | Arg::OptionalWord => {
                let (word, rest) =
                    word(rest).ok_or_else(|| format!("{name}: unterminated string literal"))?;
                args.words.push(word);
                rest
            }
            Arg::Rest => {
                args.words.push(rest.to_owned());
                ""
            }
            Arg::Flag(flag) => match rest.strip_prefix('-').and_then(|rest| rest.strip_prefix(*flag)) {
                Some(rest) => {
                    args.flags.push(*flag);
                    rest
                }
                None => rest,
            },
            Arg::Format => {
                let (format, rest) = format(rest)?;
                args.format = format;
                rest
            }
            Arg::Expression | Arg::OptionalExpression => {
                let (value, rest) = expression::parse(rest)?;
                args.number = Some(value);
                rest
            }
        }
        .trim_start();
    }
    if rest.is_empty() { Ok(args) } else { Err(format!("{name}: extraneous characters at the end of line")) }
}

/// The first word, or text in double quotes with backslashes for special characters, and what follows it.
fn word(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
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
                other => word.push(other),
            },
            other => word.push(other),
        }
    }
}

fn format(text: &str) -> Result<(Format, &str), String> {
    let mut format = Format::default();
    let Some(text) = text.strip_prefix('/') else { return Ok((format, text)) };
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (count, text) = text.split_at(end);
    if !count.is_empty() {
        format.count = count.parse().unwrap_or(u64::MAX);
    }
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (letters, rest) = text.split_at(end);
    for letter in letters.chars() {
        match letter {
            'o' | 'd' | 'u' | 'x' | 'i' | 'c' => format.letter = letter,
            'b' => format.size = 1,
            'h' => format.size = 2,
            'w' => format.size = 4,
            'g' | 'L' => format.size = 8,
            other => return Err(format!("invalid char in format: '{other}'")),
        }
    }
    Ok((format, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_flags_and_formats() {
        let args = parse("x", &[Arg::Format, Arg::Expression], "/12gd 0x10 + 1").unwrap();
        assert_eq!(args.format, Format { count: 12, letter: 'd', size: 8 });
        assert_eq!(args.number, Some(0x11));
        let args = parse("x", &[Arg::Flag('a'), Arg::Word, Arg::OptionalWord], r#"-a "b \"c" "#).unwrap();
        assert!(args.has_flag('a'));
        assert_eq!((args.word(0), args.word(1)), ("b \"c", ""));
    }

    #[test]
    fn wrong_arguments_are_refused() {
        let error = |list, text| parse("cmd", list, text).unwrap_err();
        assert_eq!(error(&[Arg::Word], " "), "cmd: string expected");
        assert_eq!(error(&[Arg::Word], "a b"), "cmd: extraneous characters at the end of line");
        assert_eq!(error(&[Arg::Word], "\"a"), "cmd: unterminated string literal");
        assert_eq!(error(&[Arg::Format], "/é"), "invalid char in format: 'é'");
        assert_eq!(error(&[], "-f"), "cmd: extraneous characters at the end of line");
    }
}
