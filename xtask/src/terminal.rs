//! This program's own terminal.

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::nested::quote;

/// The terminal as it was when this was made.
pub struct Terminal {
    modes: Option<Termios>,
    size: Option<(u16, u16)>,
}

impl Terminal {
    /// Notes modes and size of the terminal on stdin, if there is one.
    pub fn of_program() -> Self {
        let size = tcgetwinsize(rustix::stdio::stdin()).ok().filter(|size| size.ws_row > 0);
        Self {
            modes: tcgetattr(rustix::stdio::stdin()).ok(),
            size: size.map(|size| (size.ws_row, size.ws_col)),
        }
    }

    /// Puts the modes back, for programs that were killed before they did.
    pub fn restore(&self) {
        if let Some(modes) = &self.modes {
            // The terminal may be gone by now, and then there is nothing to restore.
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, modes);
        }
    }

    /// Arguments for a guest's `stty`: an ordinary terminal of this size.
    pub fn stty(&self) -> String {
        self.size.map_or("sane".to_owned(), |(rows, columns)| format!("sane rows {rows} columns {columns}"))
    }

    /// Environment variables that describe it, quoted for a shell.
    pub fn variables(&self) -> Vec<String> {
        let mut variables = Vec::new();
        if let Ok(term) = std::env::var("TERM") {
            variables.push(format!("TERM={}", quote(&term)));
        }
        if let Some((rows, columns)) = self.size {
            variables.extend([format!("LINES={rows}"), format!("COLUMNS={columns}")]);
        }
        variables
    }
}
