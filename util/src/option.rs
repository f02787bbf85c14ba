//! Options of the form `value,name=value,flag` (util/qemu-option.c).
//!
//! An [`OptsDesc`] says what a group of options is called and takes; an [`OptsList`] holds what was given.

use std::fmt::Write as _;

use thiserror::Error;

use crate::cutils::{NumberError, SizeUnit, parse_bool, strtosz, strtou64};

/// What an option's value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptType {
    /// Anything.
    String,
    /// `on` or `off`.
    Bool,
    /// A number, decimal or with `0x` or `0` before it.
    Number,
    /// A size in bytes, with or without a suffix.
    Size,
}

/// An option that a group takes.
#[derive(Debug, Clone, Copy)]
pub struct OptDesc {
    /// Its name.
    pub name: &'static str,
    /// What its value must be.
    pub kind: OptType,
}

/// A group of options (`QemuOptsList`).
#[derive(Debug)]
pub struct OptsDesc {
    /// The group's name, as in `-readconfig` files.
    pub name: &'static str,
    /// The option that a first value without a name is for.
    pub implied: Option<&'static str>,
    /// Whether several options add up to one set.
    pub merge: bool,
    /// The options; none: whatever comes is taken.
    pub descs: &'static [OptDesc],
}

/// Why options are refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OptError {
    /// The group has no such option.
    #[error("Invalid parameter '{0}'")]
    InvalidParameter(String),
    /// The value is of the wrong kind.
    #[error("Parameter '{name}' expects {expected}")]
    Expects {
        /// The option.
        name: String,
        /// What it takes.
        expected: &'static str,
    },
    /// The number or size does not fit.
    #[error("Value '{value}' is out of range for parameter '{name}'")]
    OutOfRange {
        /// The option.
        name: String,
        /// What was given.
        value: String,
    },
    /// Two sets have one id.
    #[error("Duplicate ID '{id}' for {group}")]
    DuplicateId {
        /// The id.
        id: String,
        /// The group.
        group: &'static str,
    },
    /// No error: `help` was asked for. The text lists the group's options.
    #[error("{0}")]
    Help(String),
}

/// What `id=` takes.
const AN_IDENTIFIER: &str =
    "an identifier\nIdentifiers consist of letters, digits, '-', '.', '_', starting with a letter.";
/// What a size takes.
const A_SIZE: &str = "a non-negative number below 2^64\n\
    Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively.";

/// One set of options: names and values in the order given, the later of a name counting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opts {
    /// The id, where one was given.
    pub id: Option<String>,
    /// Names and values.
    pub values: Vec<(String, String)>,
}

impl Opts {
    /// Parses and checks options. Deprecated ways to write them end up in `warnings`.
    ///
    /// # Errors
    /// An unknown option, a value of the wrong kind, or a wish for help.
    pub fn parse(desc: &OptsDesc, text: &str, warnings: &mut Vec<String>) -> Result<Self, OptError> {
        let mut opts = Self::default();
        let mut rest = text;
        let mut implied = desc.implied;
        while !rest.is_empty() {
            let item;
            (item, rest) = next_item(rest, implied.take());
            match item {
                Item::Help if !desc.descs.is_empty() => return Err(OptError::Help(desc.help())),
                Item::Help => opts.values.push(("help".to_owned(), "on".to_owned())),
                Item::Flag { name, value } => {
                    let text = if value { name.clone() } else { format!("no{name}") };
                    let value = if value { "on" } else { "off" };
                    warnings.push(format!(
                        "short-form boolean option '{text}' deprecated\nPlease use {name}={value} instead"
                    ));
                    opts.set(desc, name, value.to_owned())?;
                }
                Item::Value { name, value } => opts.set(desc, name, value)?,
            }
        }
        Ok(opts)
    }

    /// Checks and adds an option; `id` becomes the set's id.
    ///
    /// # Errors
    /// An unknown option or a value of the wrong kind.
    pub fn set(&mut self, desc: &OptsDesc, name: String, value: String) -> Result<(), OptError> {
        if name == "id" && !desc.descs.iter().any(|known| known.name == "id") {
            if !id_wellformed(&value) {
                return Err(OptError::Expects { name, expected: AN_IDENTIFIER });
            }
            // The first one counts.
            self.id.get_or_insert(value);
            return Ok(());
        }
        match desc.descs.iter().find(|known| known.name == name) {
            Some(known) => check(known, &value)?,
            None if desc.descs.is_empty() => (),
            None => return Err(OptError::InvalidParameter(name)),
        }
        self.values.push((name, value));
        Ok(())
    }

    /// The value of an option.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of a [`OptType::Bool`] option.
    pub fn get_bool(&self, name: &str) -> Option<bool> {
        self.get(name).and_then(parse_bool)
    }

    /// The value of a [`OptType::Number`] option.
    pub fn get_number(&self, name: &str) -> Option<u64> {
        self.get(name).and_then(|value| strtou64(value, 0).ok())
    }

    /// The value of a [`OptType::Size`] option.
    pub fn get_size(&self, name: &str) -> Option<u64> {
        self.get(name).and_then(|value| strtosz(value, SizeUnit::Bytes).ok())
    }
}

/// The sets of options given for a group.
#[derive(Debug)]
pub struct OptsList {
    desc: &'static OptsDesc,
    /// The sets, in the order given.
    pub opts: Vec<Opts>,
}

impl OptsList {
    /// A group of which nothing was given yet.
    pub fn new(desc: &'static OptsDesc) -> Self {
        Self { desc, opts: Vec::new() }
    }

    /// Adds options: to the set there is, for groups that merge; as a new set otherwise.
    ///
    /// # Errors
    /// Those of [`Opts::parse`], and an id that a set has already.
    pub fn parse(&mut self, text: &str, warnings: &mut Vec<String>) -> Result<&Opts, OptError> {
        let opts = Opts::parse(self.desc, text, warnings)?;
        let same = self.opts.iter().position(|other| other.id == opts.id);
        match same {
            Some(index) if self.desc.merge => {
                self.opts[index].values.extend(opts.values);
                Ok(&self.opts[index])
            }
            Some(_) if opts.id.is_some() => {
                Err(OptError::DuplicateId { id: opts.id.unwrap_or_default(), group: self.desc.name })
            }
            _ => {
                self.opts.push(opts);
                Ok(&self.opts[self.opts.len() - 1])
            }
        }
    }
}

impl OptsDesc {
    /// The group's options, as `help` shows them.
    pub fn help(&self) -> String {
        let mut lines: Vec<String> = self.descs.iter().map(OptDesc::help).collect();
        lines.sort();
        let mut text = format!("{} options:", self.name);
        for line in lines {
            let _ = write!(text, "\n  {line}");
        }
        text
    }
}

impl OptDesc {
    fn help(&self) -> String {
        let value = match self.kind {
            OptType::String => "str",
            OptType::Bool => "bool (on/off)",
            OptType::Number => "num",
            OptType::Size => "size",
        };
        format!("{}=<{value}>", self.name)
    }
}

enum Item {
    Help,
    /// A name alone, with or without `no` before it.
    Flag {
        name: String,
        value: bool,
    },
    Value {
        name: String,
        value: String,
    },
}

/// The first item of a list, and the rest.
fn next_item<'a>(list: &'a str, implied: Option<&str>) -> (Item, &'a str) {
    let end = list.find(['=', ',']).unwrap_or(list.len());
    let (item, rest) = if list[end..].starts_with('=') {
        let (value, rest) = get_opt_value(&list[end + 1..]);
        (Item::Value { name: list[..end].to_owned(), value }, rest)
    } else if let Some(implied) = implied {
        let (value, rest) = get_opt_value(list);
        (Item::Value { name: implied.to_owned(), value }, rest)
    } else {
        let name = &list[..end];
        let item = match name.strip_prefix("no") {
            _ if is_help_option(name) => Item::Help,
            Some(name) => Item::Flag { name: name.to_owned(), value: false },
            None => Item::Flag { name: name.to_owned(), value: true },
        };
        (item, &list[end..])
    };
    (item, rest.strip_prefix(',').unwrap_or(rest))
}

/// Checks a value.
fn check(desc: &OptDesc, value: &str) -> Result<(), OptError> {
    let (result, expected) = match desc.kind {
        OptType::String => (Ok(()), ""),
        OptType::Bool => (parse_bool(value).map(drop).ok_or(NumberError::Invalid), "'on' or 'off'"),
        OptType::Number => (strtou64(value, 0).map(drop), "a number"),
        OptType::Size => (strtosz(value, SizeUnit::Bytes).map(drop), A_SIZE),
    };
    result.map_err(|error| match error {
        NumberError::Invalid => OptError::Expects { name: desc.name.to_owned(), expected },
        NumberError::Range => OptError::OutOfRange { name: desc.name.to_owned(), value: value.to_owned() },
    })
}

/// The value at the start of a list, up to the first single comma, `,,` read as a comma; and what follows,
/// the comma first.
pub fn get_opt_value(list: &str) -> (String, &str) {
    let mut value = String::new();
    let mut rest = list;
    loop {
        let end = rest.find(',').unwrap_or(rest.len());
        value.push_str(&rest[..end]);
        rest = &rest[end..];
        match rest.strip_prefix(",,") {
            Some(tail) => {
                value.push(',');
                rest = tail;
            }
            None => return (value, rest),
        }
    }
}

/// A value as it is written in a list: commas doubled.
pub fn escape_value(value: &str) -> String {
    value.replace(',', ",,")
}

/// `help` or `?`.
pub fn is_help_option(text: &str) -> bool {
    matches!(text, "help" | "?")
}

/// Whether an id is letters, digits, `-`, `.` and `_`, a letter first.
pub fn id_wellformed(id: &str) -> bool {
    id.starts_with(|c: char| c.is_ascii_alphabetic())
        && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    static MEMORY: OptsDesc = OptsDesc {
        name: "memory",
        implied: Some("size"),
        merge: true,
        descs: &[
            OptDesc { name: "size", kind: OptType::Size },
            OptDesc { name: "slots", kind: OptType::Number },
            OptDesc { name: "lock", kind: OptType::Bool },
            OptDesc { name: "path", kind: OptType::String },
        ],
    };
    static DEVICE: OptsDesc = OptsDesc { name: "device", implied: Some("driver"), merge: false, descs: &[] };

    fn parse(desc: &OptsDesc, text: &str) -> Result<Opts, String> {
        Opts::parse(desc, text, &mut Vec::new()).map_err(|error| error.to_string())
    }

    #[test]
    fn values_names_and_the_implied_first() {
        let opts = parse(&MEMORY, "64M,slots=0x10,path=a,,b=c,lock=on").unwrap();
        assert_eq!(opts.get_size("size"), Some(64 << 20));
        assert_eq!(opts.get_number("slots"), Some(16));
        assert_eq!(opts.get("path"), Some("a,b=c"));
        assert_eq!(opts.get_bool("lock"), Some(true));
        assert_eq!(opts.get("other"), None);
        let opts = parse(&MEMORY, "slots=1,slots=2").unwrap();
        assert_eq!(opts.get_number("slots"), Some(2), "the later counts");
        assert_eq!(parse(&MEMORY, "").unwrap(), Opts::default());
    }

    #[test]
    fn refusals_in_qemus_words() {
        let error = |text| parse(&MEMORY, text).unwrap_err();
        assert_eq!(error("foo=1"), "Invalid parameter 'foo'");
        assert_eq!(error("=1"), "Invalid parameter ''");
        assert_eq!(error("slots=x"), "Parameter 'slots' expects a number");
        assert_eq!(error("lock=1"), "Parameter 'lock' expects 'on' or 'off'");
        assert!(
            error("1.5").starts_with("Parameter 'size' expects a non-negative number below 2^64\nOptional")
        );
        assert!(error("help").starts_with("Parameter 'size' expects"), "the implied option comes first");
        assert_eq!(error("16E"), "Value '16E' is out of range for parameter 'size'");
        assert_eq!(
            error("slots=99999999999999999999"),
            "Value '99999999999999999999' is out of range for parameter 'slots'"
        );
        assert!(error("id=1").starts_with("Parameter 'id' expects an identifier\nIdentifiers consist of"));
    }

    #[test]
    fn flags_are_deprecated() {
        let mut warnings = Vec::new();
        let opts = Opts::parse(&MEMORY, "1G,lock,nolock", &mut warnings).unwrap();
        assert_eq!(opts.get_bool("lock"), Some(false));
        let expected = [
            "short-form boolean option 'lock' deprecated\nPlease use lock=on instead",
            "short-form boolean option 'nolock' deprecated\nPlease use lock=off instead",
        ];
        assert_eq!(warnings, expected);
    }

    #[test]
    fn help_lists_the_options() {
        let text = "memory options:\n  lock=<bool (on/off)>\n  path=<str>\n  size=<size>\n  slots=<num>";
        let help = Opts::parse(&MEMORY, "1G,help", &mut Vec::new());
        assert_eq!(help, Err(OptError::Help(text.to_owned())));
        assert_eq!(parse(&DEVICE, "foo,?").unwrap().get("help"), Some("on"));
    }

    #[test]
    fn lists_merge_or_refuse_an_id_twice() {
        let mut memory = OptsList::new(&MEMORY);
        memory.parse("1G,slots=2", &mut Vec::new()).unwrap();
        memory.parse("2G", &mut Vec::new()).unwrap();
        assert_eq!(memory.opts.len(), 1);
        assert_eq!((memory.opts[0].get("size"), memory.opts[0].get("slots")), (Some("2G"), Some("2")));
        let mut devices = OptsList::new(&DEVICE);
        devices.parse("a", &mut Vec::new()).unwrap();
        devices.parse("a,id=x", &mut Vec::new()).unwrap();
        devices.parse("a", &mut Vec::new()).unwrap();
        let error = devices.parse("b,id=x", &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "Duplicate ID 'x' for device");
        assert_eq!(devices.opts.len(), 3);
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused(text in "[a-z,=.?0-9 ]{0,40}|.*") {
            let _ = (parse(&MEMORY, &text), parse(&DEVICE, &text));
        }

        #[test]
        fn escaped_values_come_back(value in ".*", tail in ".*") {
            let text = format!("{},x{tail}", escape_value(&value));
            let (got, rest) = get_opt_value(&text);
            prop_assert_eq!(got, value);
            prop_assert_eq!(rest, format!(",x{tail}"));
        }
    }
}
