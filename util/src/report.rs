//! Messages to the user, on standard error: what `-msg` asks for, the program's name, the text (util/error-report.c).

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use chrono::{SecondsFormat, Utc};

/// What messages begin with (`-msg`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageOptions {
    /// The time, as ISO 8601 has it.
    pub timestamp: bool,
    /// The name of the guest.
    pub guest_name: Option<String>,
}

static OPTIONS: OnceLock<MessageOptions> = OnceLock::new();

/// What messages begin with from now on; said once.
pub fn set_options(options: MessageOptions) {
    let _ = OPTIONS.set(options);
}

/// The name that the program was called by, without its folder.
pub fn program_name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let called = std::env::args_os().next().unwrap_or_default();
        Path::new(&called)
            .file_name()
            .map_or("softmmu".to_owned(), |name| name.to_string_lossy().into_owned())
    })
}

/// A line for the user, as it is but for what `-msg` asks for.
pub fn report(text: fmt::Arguments) {
    let options = OPTIONS.get();
    let time = match options {
        Some(MessageOptions { timestamp: true, .. }) => {
            Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true) + " "
        }
        _ => String::new(),
    };
    let guest = options.and_then(|options| options.guest_name.as_ref());
    let guest = guest.map_or(String::new(), |name| format!("{name} "));
    print_line(format_args!("{time}{guest}{text}"));
}

/// A line for the user, as it is. Where standard error is a terminal that a character device has set not to block, it is waited
/// for, not long; what does not go out is lost.
pub fn print_line(text: fmt::Arguments) {
    const PATIENCE: u32 = 100;
    let line = format!("{text}\n");
    let (mut rest, mut waits) = (line.as_bytes(), 0);
    let mut stderr = io::stderr().lock();
    while !rest.is_empty() {
        match stderr.write(rest) {
            Ok(0) => return,
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock && waits < PATIENCE => {
                waits += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(_) => return,
        }
    }
}

/// Tells the user what went wrong (`error_report`); takes what `format!` takes.
#[macro_export]
macro_rules! error_report {
    ($($text:tt)+) => {
        $crate::report::report(format_args!("{}: {}", $crate::report::program_name(), format_args!($($text)+)))
    };
}

/// Warns the user (`warn_report`); takes what `format!` takes.
#[macro_export]
macro_rules! warn_report {
    ($($text:tt)+) => { $crate::error_report!("warning: {}", format_args!($($text)+)) };
}
