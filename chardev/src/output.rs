//! A chardev's output: the log of it, and bytes that are held back for a moment.
//!
//! A guest sends byte by byte through a UART. To hand each on at once costs a system call, and wakes the
//! reader, for each: more than the VM exit that brought it. So the first byte after a pause goes at once, and
//! those that follow closely go together.

use std::fs::File;
use std::io::{self, Write};

use crate::backend::Backend;

/// How long a byte is held back at most, in nanoseconds.
pub(crate) const HOLD_NS: u64 = 1_000_000;
/// Bytes held back at most.
const HELD_MAX: usize = 1024;

/// Who has it locked is the only writer.
#[derive(Default)]
pub(crate) struct Output {
    /// The file of `logfile=`.
    log: Option<File>,
    held: Vec<u8>,
    /// Until when bytes are held back.
    burst_end_ns: u64,
}

impl Output {
    pub fn new(log: Option<File>) -> Self {
        Output { log, ..Output::default() }
    }

    /// Writes without waiting, after what is held back; `WouldBlock` is 0 bytes.
    pub fn write(&mut self, backend: &dyn Backend, data: &[u8]) -> io::Result<usize> {
        if self.send_held(backend) { put(&mut self.log, backend, data) } else { Ok(0) }
    }

    /// Writes or holds back, at a time of the realtime clock. Returns whether something is held back from now on.
    pub fn write_soon(
        &mut self,
        backend: &dyn Backend,
        data: &[u8],
        now_ns: u64,
    ) -> (io::Result<usize>, bool) {
        if now_ns >= self.burst_end_ns && self.held.is_empty() {
            self.burst_end_ns = now_ns.saturating_add(HOLD_NS);
            return (put(&mut self.log, backend, data), false);
        }
        if self.held.len() + data.len() > HELD_MAX {
            let taken = self.write(backend, data);
            return (taken, false);
        }
        let first = self.held.is_empty();
        self.held.extend_from_slice(data);
        (Ok(data.len()), first)
    }

    /// The moment is over: sends what is held back. `false` if the reader is slow and some is left.
    pub fn end_hold(&mut self, backend: &dyn Backend, now_ns: u64) -> bool {
        self.burst_end_ns = now_ns.saturating_add(HOLD_NS);
        self.send_held(backend)
    }

    /// Takes what is held back.
    pub fn take_held(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    fn send_held(&mut self, backend: &dyn Backend) -> bool {
        if !self.held.is_empty() {
            match put(&mut self.log, backend, &self.held) {
                Ok(taken) => drop(self.held.drain(..taken)),
                // It goes to nobody.
                Err(_) => self.held.clear(),
            }
        }
        self.held.is_empty()
    }
}

fn put(log: &mut Option<File>, backend: &dyn Backend, data: &[u8]) -> io::Result<usize> {
    let taken = match backend.write(data) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        other => other,
    };
    if let Some(file) = log {
        // What is lost for good is logged all the same. A log is best effort.
        let _ = file.write_all(&data[..*taken.as_ref().unwrap_or(&data.len())]);
    }
    taken
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    /// Notes each write, and takes so many bytes altogether.
    struct Reader {
        writes: Mutex<Vec<Vec<u8>>>,
        room: Mutex<usize>,
    }

    impl Reader {
        fn with_room(room: usize) -> Self {
            Reader { writes: Mutex::default(), room: Mutex::new(room) }
        }

        fn writes(&self) -> Vec<String> {
            self.writes.lock().iter().map(|data| String::from_utf8_lossy(data).into_owned()).collect()
        }
    }

    impl Backend for Reader {
        fn write(&self, data: &[u8]) -> io::Result<usize> {
            let mut room = self.room.lock();
            let taken = data.len().min(*room);
            if taken == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            *room -= taken;
            self.writes.lock().push(data[..taken].to_vec());
            Ok(taken)
        }
    }

    fn send(output: &mut Output, reader: &Reader, text: &str, at: u64) -> (usize, bool) {
        let (taken, holds) = output.write_soon(reader, text.as_bytes(), at);
        (taken.unwrap(), holds)
    }

    #[test]
    fn the_first_byte_goes_at_once_and_those_that_follow_go_together() {
        let (mut output, reader) = (Output::default(), Reader::with_room(100));
        assert_eq!(send(&mut output, &reader, "a", 5), (1, false));
        // The caller sets a timer at the first that is held back.
        assert_eq!(send(&mut output, &reader, "b", 6), (1, true));
        assert_eq!(send(&mut output, &reader, "c", 7), (1, false));
        assert_eq!(reader.writes(), ["a"]);
        assert!(output.end_hold(&reader, 6 + HOLD_NS));
        assert_eq!(reader.writes(), ["a", "bc"]);
        assert_eq!(send(&mut output, &reader, "d", 7 + HOLD_NS), (1, true), "still close");
        output.end_hold(&reader, 7 + 2 * HOLD_NS);
        assert_eq!(send(&mut output, &reader, "e", 7 + 3 * HOLD_NS), (1, false), "after a pause");
        assert_eq!(reader.writes(), ["a", "bc", "d", "e"]);
    }

    #[test]
    fn what_is_written_otherwise_comes_after_what_is_held_back() {
        let (mut output, reader) = (Output::default(), Reader::with_room(100));
        send(&mut output, &reader, "a", 0);
        send(&mut output, &reader, "b", 0);
        assert_eq!(output.write(&reader, b"(qemu)").unwrap(), 6);
        assert_eq!(reader.writes(), ["a", "b", "(qemu)"]);
    }

    #[test]
    fn a_slow_reader_stops_the_sender_and_loses_nothing() {
        let (mut output, reader) = (Output::default(), Reader::with_room(3));
        let mut sent = 0;
        while send(&mut output, &reader, "x", 0).0 == 1 {
            sent += 1;
        }
        assert_eq!(sent, 1 + HELD_MAX);
        assert!(!output.end_hold(&reader, HOLD_NS));
        assert_eq!(output.write(&reader, b"y").unwrap(), 0, "behind what is held back");
        *reader.room.lock() = usize::MAX;
        assert!(output.end_hold(&reader, HOLD_NS));
        assert_eq!(reader.writes().concat().len(), sent);
    }
}
