//! Line editing on a terminal: keys in, what the screen is to show out (util/readline.c).

use std::collections::VecDeque;

/// Columns of the screen that completions are listed on.
const COLUMNS: usize = 80;
/// Completions looked at (READLINE_MAX_COMPLETIONS).
const MAX_COMPLETIONS: usize = 256;

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

/// What a byte of input led to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    /// Editing.
    Nothing,
    /// The line is done.
    Line(String),
    /// What is before the cursor is to be completed ([`Readline::complete`]).
    Complete(String),
}

/// What a line can be completed to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Completions {
    /// Whole words.
    pub words: Vec<String>,
    /// How many bytes of them are there already.
    pub typed: usize,
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

    /// The lines remembered, oldest first.
    pub fn history(&self) -> Vec<String> {
        self.history.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect()
    }

    /// Takes a byte of input; adds what the screen shall show to `screen`.
    pub fn take(&mut self, byte: u8, screen: &mut Vec<u8>) -> Typed {
        match self.escape {
            Escape::No => match byte {
                b'\r' | b'\n' => return Typed::Line(self.enter(screen)),
                b'\t' => {
                    return Typed::Complete(String::from_utf8_lossy(&self.line[..self.cursor]).into_owned());
                }
                _ => self.key(byte),
            },
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
        Typed::Nothing
    }

    /// Goes on with what the line before the cursor can be completed to: the one word, or what all have in common
    /// and a list of them (readline_completion).
    pub fn complete(&mut self, mut found: Completions, prompt: &str, screen: &mut Vec<u8>) {
        found.words.truncate(MAX_COMPLETIONS);
        found.words.sort();
        found.words.dedup();
        match found.words.as_slice() {
            [] => {}
            [word] => {
                self.insert(word.as_bytes().get(found.typed..).unwrap_or_default());
                if !word.is_empty() && !word.ends_with('/') {
                    self.insert(b" ");
                }
            }
            [first, others @ ..] => {
                let first = first.as_bytes();
                let common = others.iter().fold(first.len(), |len, word| {
                    first[..len].iter().zip(word.as_bytes()).take_while(|(a, b)| a == b).count()
                });
                self.insert(first.get(found.typed..common).unwrap_or_default());
                screen.push(b'\n');
                screen.extend(columns(&found.words));
                screen.extend_from_slice(prompt.as_bytes());
                self.shown.clear();
                self.shown_cursor = 0;
            }
        }
        self.redraw(screen);
    }

    fn insert(&mut self, text: &[u8]) {
        let room = MAX_LINE.saturating_sub(self.line.len());
        let text = &text[..text.len().min(room)];
        self.line.splice(self.cursor..self.cursor, text.iter().copied());
        self.cursor += text.len();
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
        const KILL_WORD: u8 = ctrl(b'W');
        match byte {
            HOME => self.cursor = 0,
            END => self.cursor = self.line.len(),
            DELETE_HERE => self.delete(self.cursor, self.cursor + 1),
            BACKSPACE | DELETE => self.delete(self.cursor.saturating_sub(1), self.cursor),
            KILL_WORD => self.delete(self.word_start(), self.cursor),
            ESCAPE => self.escape = Escape::Begun,
            // Ctrl-C is among those that do nothing.
            0..=0x1f => {}
            _ => self.insert(&[byte]),
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

/// Words side by side, in columns as wide as the widest.
fn columns(words: &[String]) -> Vec<u8> {
    const NARROWEST: usize = 10;
    let width = words.iter().map(String::len).max().unwrap_or_default() + 2;
    let width = width.clamp(NARROWEST, COLUMNS);
    let mut text = Vec::new();
    for row in words.chunks(COLUMNS / width) {
        row.iter().for_each(|word| text.extend(format!("{word:width$}").into_bytes()));
        text.push(b'\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn type_line(readline: &mut Readline, text: &str) -> String {
        let mut screen = Vec::new();
        let mut lines = Vec::new();
        for byte in text.bytes().chain([b'\n']) {
            if let Typed::Line(line) = readline.take(byte, &mut screen) {
                lines.push(line);
            }
        }
        lines.pop().unwrap()
    }

    /// Types `text` and a tab, answers with `words`, and gives the screen since then and the line.
    fn completed(text: &str, words: &[&str], typed: usize) -> (String, String) {
        let mut readline = Readline::default();
        let mut screen = Vec::new();
        text.bytes().for_each(|byte| assert_eq!(readline.take(byte, &mut screen), Typed::Nothing));
        assert_eq!(readline.take(b'\t', &mut screen), Typed::Complete(text.to_owned()));
        screen.clear();
        let words = words.iter().map(|&word| word.to_owned()).collect();
        readline.complete(Completions { words, typed }, "> ", &mut screen);
        (String::from_utf8(screen).unwrap(), type_line(&mut readline, ""))
    }

    #[test]
    fn a_tab_completes_or_lists() {
        assert_eq!(completed("x", &[], 0), (String::new(), "x".to_owned()));
        let (screen, line) = completed("inf", &["info"], 3);
        assert_eq!((screen.as_str(), line.as_str()), ("\x1b[D\x1b[D\x1b[Dinfo \x1b[K", "info "));
        assert_eq!(completed("log /us", &["/usr/"], 3).1, "log /usr/");
        let (screen, line) = completed("q", &["qom-set", "qom-get", "qom-list"], 1);
        assert_eq!(screen, "\nqom-get   qom-list  qom-set   \n> qom-\x1b[K");
        assert_eq!(line, "qom-");
        let long = "a".repeat(50);
        let (screen, _) = completed("", &[&long, "b"], 0);
        assert_eq!(screen, format!("\n{long}  \nb{:51}\n> \x1b[K", "").replace("> \x1b[K", "> "));
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
        assert_eq!(
            {
                readline.restart();
                type_line(&mut readline, "\u{fffd}\u{e9}")
            },
            "\u{fffd}\u{e9}"
        );
    }
}
