//! Line editing on a terminal: keys in, what the screen is to show out (util/readline.c).

use std::collections::VecDeque;

/// Bytes a line can have (READLINE_CMD_BUF_SIZE, with its end).
const MAX_LINE: usize = 4095;
/// Lines remembered (READLINE_MAX_CMDS).
const MAX_HISTORY: usize = 64;

const BACKSPACE: u8 = 0x08;
const ESCAPE: u8 = 0x1b;
const DELETE: u8 = 0x7f;

/// The letter that Ctrl gives this byte with.
const fn ctrl(letter: u8) -> u8 {
    letter & 0x1f
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    No,
    /// After ESC.
    Begun,
    /// After ESC [ or ESC O, with the number so far.
    Sequence(u16),
}

/// The line being typed.
#[derive(Debug, Default)]
pub(crate) struct Readline {
    line: Vec<u8>,
    cursor: usize,
    /// Where the terminal's cursor is, counted from the end of the prompt.
    shown_cursor: usize,
    shown: Vec<u8>,
    escape: Escape,
    history: VecDeque<Vec<u8>>,
    /// The line of the history that is shown; none while a new one is typed.
    recalled: Option<usize>,
}

impl Readline {
    /// Begins a new line (readline_restart).
    pub fn restart(&mut self) {
        self.line.clear();
        self.cursor = 0;
        self.escape = Escape::No;
        self.recalled = None;
        self.shown.clear();
        self.shown_cursor = 0;
    }

    /// Takes a byte of input; adds what the screen shall show to `screen`, and gives the line when it is done.
    pub fn take(&mut self, byte: u8, screen: &mut Vec<u8>) -> Option<String> {
        match self.escape {
            Escape::No => {
                if matches!(byte, b'\r' | b'\n') {
                    return Some(self.enter(screen));
                }
                self.key(byte);
            }
            Escape::Begun if matches!(byte, b'[' | b'O') => self.escape = Escape::Sequence(0),
            Escape::Begun => self.escape = Escape::No,
            Escape::Sequence(number) if byte.is_ascii_digit() => {
                let number = number.saturating_mul(10).saturating_add((byte - b'0').into());
                self.escape = Escape::Sequence(number);
            }
            Escape::Sequence(number) => {
                self.escape = Escape::No;
                self.sequence(number, byte);
            }
        }
        self.redraw(screen);
        None
    }

    fn enter(&mut self, screen: &mut Vec<u8>) -> String {
        let line = std::mem::take(&mut self.line);
        self.remember(&line);
        self.restart();
        screen.push(b'\n');
        String::from_utf8_lossy(&line).into_owned()
    }

    fn key(&mut self, byte: u8) {
        const HOME: u8 = ctrl(b'A');
        const DELETE_HERE: u8 = ctrl(b'D');
        const END: u8 = ctrl(b'E');
        const NEXT: u8 = ctrl(b'N');
        const PREVIOUS: u8 = ctrl(b'P');
        const KILL_LINE: u8 = ctrl(b'U');
        const KILL_WORD: u8 = ctrl(b'W');
        match byte {
            HOME => self.cursor = 0,
            END => self.cursor = self.line.len(),
            DELETE_HERE => self.delete(self.cursor, self.cursor + 1),
            BACKSPACE | DELETE => self.delete(self.cursor.saturating_sub(1), self.cursor),
            KILL_LINE => self.delete(0, self.cursor),
            KILL_WORD => self.delete(self.word_start(), self.cursor),
            PREVIOUS => self.recall_older(),
            NEXT => self.recall_newer(),
            ESCAPE => self.escape = Escape::Begun,
            // Ctrl-C is among those that do nothing.
            0..=0x1f => {}
            _ if self.line.len() < MAX_LINE => {
                self.line.insert(self.cursor, byte);
                self.cursor += 1;
            }
            _ => {}
        }
    }

    fn sequence(&mut self, number: u16, byte: u8) {
        match (byte, number) {
            (b'A', _) => self.recall_older(),
            (b'B', _) => self.recall_newer(),
            (b'C', _) => self.cursor = (self.cursor + 1).min(self.line.len()),
            (b'D', _) => self.cursor = self.cursor.saturating_sub(1),
            (b'H', _) | (b'~', 1) => self.cursor = 0,
            (b'F', _) | (b'~', 4) => self.cursor = self.line.len(),
            (b'~', 3) => self.delete(self.cursor, self.cursor + 1),
            _ => {}
        }
    }

    /// Takes the bytes from `start` to before `end` out; the cursor goes there.
    fn delete(&mut self, start: usize, end: usize) {
        let end = end.min(self.line.len());
        if start < end {
            self.line.drain(start..end);
            self.cursor = start;
        }
    }

    fn word_start(&self) -> usize {
        let before = &self.line[..self.cursor];
        let word_end = before.iter().rposition(|&b| b != b' ').map_or(0, |at| at + 1);
        before[..word_end].iter().rposition(|&b| b == b' ').map_or(0, |at| at + 1)
    }

    fn remember(&mut self, line: &[u8]) {
        if line.is_empty() {
            return;
        }
        // A line typed again moves to the end.
        self.history.retain(|old| old != line);
        if self.history.len() == MAX_HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(line.to_vec());
    }

    fn recall_older(&mut self) {
        let older = self.recalled.unwrap_or(self.history.len()).checked_sub(1);
        if let Some(index) = older {
            self.recalled = Some(index);
            self.show_recalled();
        }
    }

    fn recall_newer(&mut self) {
        if let Some(index) = self.recalled {
            self.recalled = (index + 1 < self.history.len()).then_some(index + 1);
            self.show_recalled();
        }
    }

    fn show_recalled(&mut self) {
        self.line = self.recalled.and_then(|index| self.history.get(index)).cloned().unwrap_or_default();
        self.cursor = self.line.len();
    }

    /// Brings the terminal's line up to date (readline_update).
    fn redraw(&mut self, screen: &mut Vec<u8>) {
        const LEFT: &[u8] = b"\x1b[D";
        const CLEAR_TO_END: &[u8] = b"\x1b[K";
        if self.shown != self.line {
            screen.extend(LEFT.repeat(self.shown_cursor));
            screen.extend_from_slice(&self.line);
            screen.extend_from_slice(CLEAR_TO_END);
            self.shown.clone_from(&self.line);
            self.shown_cursor = self.line.len();
        }
        let (from, to) = (self.shown_cursor, self.cursor);
        screen.extend(LEFT.repeat(from.saturating_sub(to)));
        screen.extend(b"\x1b[C".repeat(to.saturating_sub(from)));
        self.shown_cursor = to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn type_line(readline: &mut Readline, text: &str) -> String {
        let mut screen = Vec::new();
        let lines = text.bytes().chain([b'\n']).filter_map(|byte| readline.take(byte, &mut screen));
        lines.last().unwrap()
    }

    #[test]
    fn line_and_history_are_bounded() {
        let mut readline = Readline::default();
        assert_eq!(type_line(&mut readline, &"a".repeat(MAX_LINE + 100)).len(), MAX_LINE);
        for n in 0..100 {
            type_line(&mut readline, &n.to_string());
        }
        let oldest = type_line(&mut readline, &"\x1b[A".repeat(200));
        assert_eq!(oldest, (100 - MAX_HISTORY).to_string());
    }

    #[test]
    fn no_bytes_do_harm() {
        let mut readline = Readline::default();
        let mut screen = Vec::new();
        for first in 0..=255 {
            for second in 0..=255 {
                for byte in [0x1b, first, second, b'[', b'3', b'~', first, second] {
                    readline.take(byte, &mut screen);
                    screen.clear();
                }
            }
        }
        assert_eq!(type_line(&mut readline, "\x15\x05\x15\u{fffd}\u{e9}"), "\u{fffd}\u{e9}");
    }
}
