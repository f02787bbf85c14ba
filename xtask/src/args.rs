//! A command line as the chores take it: `--option value` pairs, then words.

use std::collections::VecDeque;

use anyhow::{Context, Error, Result, anyhow};

/// The arguments that are left.
pub struct Args(VecDeque<String>);

impl Args {
    /// All arguments of this program, without its name.
    pub fn of_program() -> Self {
        Self(std::env::args().skip(1).collect())
    }

    /// The next word, whatever it is.
    pub fn word(&mut self) -> Option<String> {
        self.0.pop_front()
    }

    /// The next argument if it is an option; `--` ends the options.
    pub fn next_option(&mut self) -> Option<String> {
        if self.0.front()? == "--" {
            self.0.pop_front();
            return None;
        }
        if self.0.front()?.starts_with('-') { self.0.pop_front() } else { None }
    }

    /// The value of an option.
    pub fn value(&mut self, option: &str) -> Result<String> {
        self.0.pop_front().with_context(|| format!("{option}: a value is missing"))
    }

    /// The value of an option, as a number or name.
    pub fn parsed<T>(&mut self, option: &str) -> Result<T>
    where
        T: std::str::FromStr,
        T::Err: Into<Error>,
    {
        let value = self.value(option)?;
        value.parse().map_err(|error: T::Err| error.into().context(format!("{option} {value}")))
    }

    /// What is left.
    pub fn rest(self) -> Vec<String> {
        self.0.into()
    }

    /// The error for an option that a chore does not have.
    pub fn unknown(chore: &str, option: &str) -> Error {
        anyhow!("{chore}: unknown option '{option}' (see cargo xtask help)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_end_at_the_first_word_or_two_dashes() {
        let mut args = Args(["--smp", "3", "--", "-x", "y"].map(String::from).into());
        assert_eq!(args.next_option().as_deref(), Some("--smp"));
        assert_eq!(args.parsed::<u32>("--smp").unwrap(), 3);
        assert_eq!(args.next_option(), None);
        assert_eq!(args.rest(), ["-x", "y"]);
    }

    #[test]
    fn a_bad_value_is_named() {
        let mut args = Args(["many"].map(String::from).into());
        let error = format!("{:#}", args.parsed::<u32>("--smp").unwrap_err());
        assert!(error.starts_with("--smp many: "), "{error}");
    }
}
