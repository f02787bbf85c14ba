//! What a command prints.

use std::fmt;

/// The most that one command prints: a terminal that reads slowly must not make us keep more.
const LIMIT: usize = 1 << 20;

/// A command's output. What exceeds the limit is dropped, and a command that could go on asks
/// [`Output::is_full`].
#[derive(Debug, Default)]
pub(crate) struct Output {
    text: String,
    full: bool,
    /// Set by `quit`: no prompt follows.
    pub ends_session: bool,
}

impl Output {
    pub fn is_full(&self) -> bool {
        self.full
    }

    pub fn print(&mut self, text: &str) {
        self.full |= self.text.len() + text.len() > LIMIT;
        if !self.full {
            self.text.push_str(text);
        }
    }

    /// The text, which says so when it was cut.
    pub fn into_text(mut self) -> String {
        if self.full {
            self.text.push_str("\n(output too long, cut here)\n");
        }
        self.text
    }
}

impl fmt::Write for Output {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.print(text);
        Ok(())
    }
}

/// `print!` into an [`Output`], which cannot fail.
macro_rules! out {
    ($out:expr, $($format:tt)+) => { $out.print(&format!($($format)+)) };
}
pub(crate) use out;
