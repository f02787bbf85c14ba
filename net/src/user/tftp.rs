//! The TFTP server (RFC 1350, RFC 2347 to 2349): files of one folder, to be read only.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

pub(crate) const PORT: u16 = 69;
/// Transfers at one time; the oldest makes room.
const SESSIONS: usize = 20;
const BLOCK: usize = 512;
/// What fits a packet.
const BLOCK_MAX: usize = 1432;

const RRQ: u16 = 1;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OACK: u16 = 6;

const NOT_FOUND: u16 = 1;
const ACCESS: u16 = 2;
const ILLEGAL: u16 = 4;

struct Session {
    client: SocketAddr,
    file: File,
    block: usize,
}

/// A message's fields, each ended by a zero.
fn strings(bytes: &[u8]) -> Vec<&str> {
    let fields = bytes.split(|byte| *byte == 0).map(|field| std::str::from_utf8(field).unwrap_or_default());
    fields.collect()
}

fn message(kind: u16, number: u16, rest: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_be_bytes().to_vec();
    bytes.extend(number.to_be_bytes());
    bytes.extend_from_slice(rest);
    bytes
}

fn error(code: u16, text: &str) -> Option<Vec<u8>> {
    Some(message(ERROR, code, &[text.as_bytes(), &[0]].concat()))
}

/// The server.
#[derive(Default)]
pub(crate) struct Tftp {
    sessions: Vec<Session>,
}

impl Tftp {
    /// The answer to a client's message. `root` is the folder.
    pub fn handle(&mut self, root: &str, client: SocketAddr, data: &[u8]) -> Option<Vec<u8>> {
        let (kind, rest) = data.split_first_chunk::<2>()?;
        match u16::from_be_bytes(*kind) {
            RRQ => self.read_request(root, client, rest),
            ACK => {
                let number = u16::from_be_bytes(*rest.first_chunk()?);
                self.send(client, number.wrapping_add(1))
            }
            ERROR => {
                self.sessions.retain(|session| session.client != client);
                None
            }
            _ => error(ILLEGAL, "Illegal TFTP operation"),
        }
    }

    fn read_request(&mut self, root: &str, client: SocketAddr, rest: &[u8]) -> Option<Vec<u8>> {
        self.sessions.retain(|session| session.client != client);
        let fields = strings(rest);
        let [name, mode, options @ ..] = &fields[..] else {
            return error(ACCESS, "Access violation");
        };
        if !mode.eq_ignore_ascii_case("octet") {
            return error(ILLEGAL, "Unsupported transfer mode");
        }
        let Ok(file) = open_below(root, name) else { return error(NOT_FOUND, "File not found") };
        let size = file.metadata().map_or(0, |metadata| metadata.len());
        let mut session = Session { client, file, block: BLOCK };
        let mut accepted = Vec::new();
        for option in options.chunks_exact(2) {
            match (option[0].to_ascii_lowercase().as_str(), option[1].parse::<usize>()) {
                ("tsize", Ok(_)) => accepted.push(("tsize", size.to_string())),
                ("blksize", Ok(wanted)) if wanted >= 8 => {
                    session.block = wanted.min(BLOCK_MAX);
                    accepted.push(("blksize", session.block.to_string()));
                }
                _ => {}
            }
        }
        if self.sessions.len() >= SESSIONS {
            self.sessions.remove(0);
        }
        self.sessions.push(session);
        if accepted.is_empty() {
            return self.send(client, 1);
        }
        let mut answer = OACK.to_be_bytes().to_vec();
        for (name, value) in accepted {
            answer.extend([name.as_bytes(), &[0], value.as_bytes(), &[0]].concat());
        }
        Some(answer)
    }

    /// Block `number`; after the last, which is shorter, nothing.
    fn send(&mut self, client: SocketAddr, number: u16) -> Option<Vec<u8>> {
        let at = self.sessions.iter().position(|session| session.client == client)?;
        let session = &self.sessions[at];
        let mut block = vec![0; session.block];
        let offset = u64::from(number.wrapping_sub(1)) * session.block as u64;
        let Ok(read) = session.file.read_at(&mut block, offset) else {
            self.sessions.remove(at);
            return error(NOT_FOUND, "File not found");
        };
        let size = session.file.metadata().map_or(0, |metadata| metadata.len());
        if read == 0 && offset > size {
            self.sessions.remove(at);
            return None;
        }
        Some(message(DATA, number, &block[..read]))
    }
}

/// A file of the folder; no name leads out of it.
fn open_below(root: &str, name: &str) -> std::io::Result<File> {
    let folder = openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let name = name.trim_start_matches('/');
    let how = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(openat2(folder, name, how, Mode::empty(), ResolveFlags::BENEATH)?);
    if !file.metadata()?.is_file() {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    Ok(file)
}
