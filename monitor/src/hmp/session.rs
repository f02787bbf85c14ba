//! What a command is given: where its output goes, and what the monitor that runs it remembers.

use std::fmt;
use std::sync::Arc;

use hw_core::Cpu;
use hw_core::cpu::cpu_list;
use qom::Object;

/// The most that one command prints: a terminal that reads slowly must not make us keep more.
const LIMIT: usize = 1 << 20;

/// A monitor while it runs a command. Output that exceeds the limit is dropped, and a command that could go on
/// asks [`Session::is_full`].
#[derive(Debug, Default)]
pub(crate) struct Session {
    text: String,
    full: bool,
    /// Set by `quit`: no prompt follows.
    pub ended: bool,
    /// The CPU that commands are about, once it was chosen.
    pub cpu_index: Option<u32>,
    /// The lines typed before, oldest first.
    pub history: Vec<String>,
}

impl Session {
    /// Of a monitor whose CPU and history these are.
    pub fn new(cpu_index: Option<u32>, history: Vec<String>) -> Session {
        Session { cpu_index, history, ..Session::default() }
    }

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

    /// The CPU that commands are about: the one chosen, while it is there, or the first (`mon_get_cpu`).
    pub fn cpu(&self) -> Option<Arc<dyn Object>> {
        let cpus = cpu_list();
        let chosen = cpus.iter().find(|cpu| cpu.cast::<Cpu>().map(Cpu::index) == self.cpu_index);
        chosen.or(cpus.first()).cloned()
    }
}

impl fmt::Write for Session {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.print(text);
        Ok(())
    }
}

/// `print!` into a [`Session`], which cannot fail.
macro_rules! out {
    ($mon:expr, $($format:tt)+) => { $mon.print(&format!($($format)+)) };
}
pub(crate) use out;
