//! What goes to and fro, with the seconds since the client came (`-qtest-log`).

use std::fmt::Display;
use std::fs::File;
use std::io::Write;
use std::time::Instant;

use parking_lot::Mutex;
use qom::{Error, Result};

/// A log, or none.
pub struct Log {
    target: Option<Box<dyn Write + Send>>,
    /// When the client came; none while there is none.
    opened: Option<Instant>,
}

impl Log {
    /// Opens `file`; `none` is no log, and nothing said is stderr.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn open(file: Option<&str>) -> Result<Mutex<Log>> {
        let target: Option<Box<dyn Write + Send>> = match file {
            // Nobody would see it.
            Some("none" | "/dev/null") => None,
            Some(path) => {
                let refuse = |error| Error::new(format!("-qtest-log {path}: {error}"));
                Some(Box::new(File::create(path).map_err(refuse)?))
            }
            None => Some(Box::new(std::io::stderr())),
        };
        Ok(Mutex::new(Log { target, opened: None }))
    }

    fn seconds(&self) -> f64 {
        self.opened.map_or(0.0, |opened| opened.elapsed().as_secs_f64())
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        let Some(target) = &mut self.target else { return };
        // A whole line at once; a full disk must not end the test.
        let _ = target.write_all(format!("{line}\n").as_bytes());
    }

    /// The client came.
    pub fn opened(&mut self) {
        self.opened = Some(Instant::now());
        self.line(format_args!("[I 0.000000] OPENED"));
    }

    /// The client went.
    pub fn closed(&mut self) {
        let seconds = self.seconds();
        self.opened = None;
        self.line(format_args!("[I +{seconds:.6}] CLOSED"));
    }

    /// A request came.
    pub fn received(&mut self, line: &str) {
        if self.target.is_some() {
            let seconds = self.seconds();
            self.line(format_args!("[R +{seconds:.6}] {line}"));
        }
    }

    /// An answer or a line about an interrupt goes.
    pub fn sent(&mut self, line: impl Display) {
        if self.target.is_some() && self.opened.is_some() {
            let seconds = self.seconds();
            self.line(format_args!("[S +{seconds:.6}] {line}"));
        }
    }
}
