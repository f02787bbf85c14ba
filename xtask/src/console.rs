//! A child program whose terminal is held: its output is read with a deadline, waited for, typed at.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

enum Event {
    Output(Vec<u8>),
    Log(Vec<u8>),
}

/// The child, with pipes to its stdin, stdout (the console) and stderr (the log).
///
/// The child is killed when this is dropped.
pub struct Console {
    child: Child,
    input: Option<ChildStdin>,
    events: Receiver<Event>,
    deadline: Instant,
    /// All console output, for [`Console::expect`].
    transcript: Vec<u8>,
    /// How much of it was matched.
    matched: usize,
    log: Vec<u8>,
}

/// How a wait ended that did not find its text.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The text did not come in time.
    #[error("timed out")]
    Timeout,
    /// The program ended first.
    #[error("the program ended")]
    Ended,
}

impl Console {
    /// Starts a program, which must end within `timeout`.
    pub fn spawn(command: &mut Command, timeout: Duration) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context(program)?;
        let (sender, events) = channel();
        forward(child.stdout.take().context("no stdout")?, sender.clone(), Event::Output);
        forward(child.stderr.take().context("no stderr")?, sender, Event::Log);
        let input = child.stdin.take();
        let deadline = Instant::now() + timeout;
        Ok(Self { child, input, events, deadline, transcript: Vec::new(), matched: 0, log: Vec::new() })
    }

    /// Types text.
    pub fn send(&mut self, text: &str) -> Result<()> {
        let input = self.input.as_mut().context("the input is closed")?;
        input.write_all(text.as_bytes())?;
        Ok(input.flush()?)
    }

    /// Waits for text on the console and returns what came before it.
    pub fn expect(&mut self, text: &str, timeout: Duration) -> Result<Vec<u8>, Failure> {
        self.expect_any(&[text], timeout).map(|(_, before)| before)
    }

    /// Waits for the first of several texts: which of them it was, and what came before it.
    pub fn expect_any(&mut self, texts: &[&str], timeout: Duration) -> Result<(usize, Vec<u8>), Failure> {
        let deadline = self.deadline.min(Instant::now() + timeout);
        let longest = texts.iter().map(|text| text.len()).max().unwrap_or(0);
        // Up to here none of the texts begins: some programs print megabytes.
        let mut looked_at = self.matched;
        loop {
            let unmatched = &self.transcript[looked_at..];
            let first = texts
                .iter()
                .enumerate()
                .filter_map(|(which, text)| Some((find(unmatched, text.as_bytes())?, which)))
                .min();
            if let Some((at, which)) = first {
                let before = self.transcript[self.matched..looked_at + at].to_vec();
                self.matched = looked_at + at + texts[which].len();
                return Ok((which, before));
            }
            looked_at = looked_at.max(self.transcript.len().saturating_sub(longest));
            match self.receive(deadline)? {
                Event::Output(bytes) => self.transcript.extend(bytes),
                Event::Log(bytes) => self.log.extend(bytes),
            }
        }
    }

    /// Hands all output to `sink` as it comes until the program ends; its status, and its log.
    pub fn drain(mut self, sink: &mut dyn FnMut(&[u8])) -> Result<(ExitStatus, Vec<u8>)> {
        // Nothing more is typed: programs that read to the end of their input see it.
        self.input = None;
        sink(&self.transcript[self.matched..]);
        loop {
            match self.receive(self.deadline) {
                Ok(Event::Output(bytes)) => sink(&bytes),
                Ok(Event::Log(bytes)) => self.log.extend(bytes),
                Err(Failure::Ended) => break,
                Err(Failure::Timeout) => bail!("timed out; its last words: {}", last_words(&self.log)),
            }
        }
        let status = self.child.wait()?;
        Ok((status, std::mem::take(&mut self.log)))
    }

    /// The end of what the console and the log show, to explain a failure.
    pub fn last_words(&self) -> String {
        format!("console:\n{}\nlog:\n{}", last_words(&self.transcript), last_words(&self.log))
    }

    fn receive(&self, deadline: Instant) -> Result<Event, Failure> {
        let left = deadline.saturating_duration_since(Instant::now());
        self.events.recv_timeout(left).map_err(|error| match error {
            RecvTimeoutError::Timeout => Failure::Timeout,
            RecvTimeoutError::Disconnected => Failure::Ended,
        })
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // Both fail when the child has ended and been waited for, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn forward<R: Read + Send + 'static>(mut from: R, to: Sender<Event>, event: fn(Vec<u8>) -> Event) {
    std::thread::spawn(move || {
        let mut buffer = [0; 16384];
        // A read error is how a pipe of a killed child may end: the same as its end.
        while let Ok(length) = from.read(&mut buffer)
            && length > 0
            && to.send(event(buffer[..length].to_vec())).is_ok()
        {}
    });
}

/// A command that ends when this program does, however that ends: with SIGTERM, on which a VMM restores
/// the terminal.
pub fn tied(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--", program]);
    command
}

/// Where `needle` starts in `haystack`.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// The last lines of a text, for an error message.
pub fn last_words(bytes: &[u8]) -> String {
    const LINES: usize = 25;
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const AMPLE: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Console {
        Console::spawn(Command::new("sh").args(["-c", script]), AMPLE).unwrap()
    }

    #[test]
    fn answers_what_was_typed() {
        let mut console = shell("echo name?; read name; echo hello $name; echo end");
        console.expect("name?\n", AMPLE).unwrap();
        console.send("guest\n").unwrap();
        assert_eq!(console.expect("\nend", AMPLE).unwrap(), b"hello guest");
    }

    #[test]
    fn text_that_never_comes_is_a_failure() {
        let mut console = shell("echo something else");
        assert!(matches!(console.expect("prompt", AMPLE), Err(Failure::Ended)));
    }

    #[test]
    fn output_log_and_status_are_told_apart() {
        let mut output = Vec::new();
        let (status, log) =
            shell("echo out; echo err >&2; exit 3").drain(&mut |bytes| output.extend(bytes)).unwrap();
        assert_eq!((output, log, status.code()), (b"out\n".to_vec(), b"err\n".to_vec(), Some(3)));
    }
}
