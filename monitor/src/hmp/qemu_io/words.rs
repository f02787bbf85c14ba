//! The words of a command: its options, and numbers.

use util::cutils::{NumberError, SizeUnit, strtosz, strtou64};

use super::report::say;

/// Options with their values, and the words that are none.
pub(super) struct Words<'a> {
    options: Vec<(char, &'a str)>,
    /// What is no option, in order.
    pub rest: Vec<&'a str>,
}

impl<'a> Words<'a> {
    /// Sorts `words`; `flags` are the options without, `valued` those with a value. `None`: there is another.
    pub fn sort(words: &[&'a str], flags: &str, valued: &str) -> Option<Words<'a>> {
        let (mut options, mut rest) = (Vec::new(), Vec::new());
        let mut words = words.iter().copied();
        while let Some(word) = words.next() {
            let Some(mut letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
                rest.push(word);
                continue;
            };
            while let Some(option) = letters.chars().next() {
                letters = &letters[option.len_utf8()..];
                if valued.contains(option) {
                    let value = if letters.is_empty() { words.next()? } else { letters };
                    options.push((option, value));
                    break;
                }
                if !flags.contains(option) {
                    return None;
                }
                options.push((option, ""));
            }
        }
        Some(Words { options, rest })
    }

    /// The value of an option, empty for one without.
    pub fn option(&self, name: char) -> Option<&'a str> {
        self.options.iter().rev().find(|(option, _)| *option == name).map(|(_, value)| *value)
    }

    /// Whether an option is there.
    pub fn has(&self, name: char) -> bool {
        self.option(name).is_some()
    }
}

/// A number of bytes; says so where it is none.
pub(super) fn size(text: &str) -> Option<u64> {
    match strtosz(text, SizeUnit::Bytes) {
        Ok(size) if i64::try_from(size).is_ok() => return Some(size),
        Ok(_) | Err(NumberError::Range) => say!("Parsing error: argument too large -- {text}"),
        Err(_) => {
            say!("Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- {text}");
        }
    }
    None
}

/// The byte that data is made of; says so where it is none.
pub(super) fn pattern(text: &str) -> Option<u8> {
    let byte = strtou64(text, 0).ok().and_then(|value| u8::try_from(value).ok());
    if byte.is_none() {
        say!("{text} is not a valid pattern byte");
    }
    byte
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_may_share_a_dash_and_have_their_value_at_once() {
        let words = Words::sort(&["-qP", "0x11", "0", "-l4k", "64k"], "q", "Pl").unwrap();
        assert_eq!((words.option('P'), words.option('l')), (Some("0x11"), Some("4k")));
        assert!(words.has('q') && !words.has('v'));
        assert_eq!(words.rest, ["0", "64k"]);
        assert!(Words::sort(&["-x", "0"], "q", "P").is_none());
        assert!(Words::sort(&["0", "-P"], "q", "P").is_none());
    }

    #[test]
    fn patterns_are_bytes() {
        assert_eq!(
            (pattern("0xa5"), pattern("17"), pattern("256"), pattern("x")),
            (Some(0xa5), Some(17), None, None)
        );
    }
}
