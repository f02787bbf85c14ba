//! The QMP monitor beside the qtest connection.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use serde_json::Value;

/// A connection that is in command mode.
#[derive(Debug)]
pub(crate) struct Qmp {
    stream: BufReader<UnixStream>,
    events: Vec<Value>,
}

impl Qmp {
    /// Reads the greeting and ends the negotiation.
    #[track_caller]
    pub(crate) fn new(stream: UnixStream) -> Qmp {
        let mut qmp = Qmp { stream: BufReader::new(stream), events: Vec::new() };
        let greeting = qmp.receive();
        assert!(greeting.get("QMP").is_some(), "no greeting: {greeting}");
        let answer = qmp.request(r#"{"execute": "qmp_capabilities"}"#);
        assert!(answer.get("return").is_some(), "qmp_capabilities: {answer}");
        qmp
    }

    #[track_caller]
    fn receive(&mut self) -> Value {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => panic!("the program closed the monitor"),
            Ok(_) => {
                serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?} is no JSON: {error}"))
            }
            Err(error) => panic!("no answer from the monitor: {error}"),
        }
    }

    /// Sends a command; gives the answer to it.
    #[track_caller]
    pub(crate) fn request(&mut self, command: &str) -> Value {
        if let Err(error) = self.stream.get_mut().write_all(format!("{command}\n").as_bytes()) {
            panic!("the monitor takes no command: {error}");
        }
        loop {
            let message = self.receive();
            if message.get("event").is_none() {
                return message;
            }
            self.events.push(message);
        }
    }

    /// The events so far.
    pub(crate) fn take_events(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.events)
    }
}
