//! A client that says what it is told to.

use std::cell::RefCell;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use hw_9pfs::fsdev::MultiDevs;
use hw_9pfs::local::{LocalFs, LocalOptions, SecurityModel};
use hw_9pfs::server::{Broken, Message, Server, ServerOptions};
pub use hw_9pfs::spec::message as request;

pub const ENOENT: u32 = 2;
pub const EEXIST: u32 = 17;
pub const EISDIR: u32 = 21;
pub const EINVAL: u32 = 22;
pub const EROFS: u32 = 30;
pub const ENOTEMPTY: u32 = 39;

const MSIZE: u32 = 65536;

/// A part of a request.
#[derive(Clone, Copy)]
pub enum Part<'a> {
    B(u8),
    W(u16),
    D(u32),
    Q(u64),
    S(&'a [u8]),
    Raw(&'a [u8]),
}

impl Part<'_> {
    fn add_to(&self, bytes: &mut Vec<u8>) {
        match self {
            Part::B(value) => bytes.push(*value),
            Part::W(value) => bytes.extend(value.to_le_bytes()),
            Part::D(value) => bytes.extend(value.to_le_bytes()),
            Part::Q(value) => bytes.extend(value.to_le_bytes()),
            Part::S(string) => {
                bytes.extend((string.len() as u16).to_le_bytes());
                bytes.extend(*string);
            }
            Part::Raw(raw) => bytes.extend(*raw),
        }
    }
}

struct Buffers(Vec<u8>, RefCell<Vec<u8>>);

impl Message for Buffers {
    fn readable_len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, offset: u64, data: &mut [u8]) -> usize {
        let rest = self.0.get(offset as usize..).unwrap_or_default();
        data.iter_mut().zip(rest).map(|(to, from)| *to = *from).count()
    }

    fn writable_len(&self) -> u64 {
        self.1.borrow().len() as u64
    }

    fn write(&self, offset: u64, data: &[u8]) -> usize {
        let mut answer = self.1.borrow_mut();
        let rest = answer.get_mut(offset as usize..).unwrap_or_default();
        rest.iter_mut().zip(data).map(|(to, from)| *to = *from).count()
    }
}

/// The body of a reply.
pub struct Reply(Vec<u8>);

impl Reply {
    pub fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.0[at..at + 2].try_into().unwrap())
    }

    pub fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    pub fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().unwrap())
    }

    pub fn bytes(&self, at: usize) -> &[u8] {
        &self.0[at..]
    }

    pub fn string(&self, at: usize) -> &[u8] {
        &self.0[at + 2..at + 2 + usize::from(self.u16(at))]
    }

    /// A directory's, with where each ends.
    pub fn entries(&self) -> Vec<(u64, String)> {
        let (mut at, mut entries) = (4, Vec::new());
        while at < self.0.len() {
            let name = self.string(at + 22);
            entries.push((self.u64(at + 13), String::from_utf8_lossy(name).into_owned()));
            at += 24 + name.len();
        }
        entries
    }
}

pub enum Answer {
    Reply(Reply),
    Error(String, u32),
}

pub struct Client(Server);

pub fn plain() -> ServerOptions {
    ServerOptions { read_only: false, multidevs: MultiDevs::Remap, throttle: None, quiet: true }
}

impl Client {
    pub fn with(path: &Path, model: SecurityModel, options: ServerOptions) -> Client {
        let local = LocalOptions { model, fmode: 0o600, dmode: 0o700, writeout: false };
        let driver = LocalFs::open(path, local).expect("a folder");
        Client(Server::new(Box::new(driver), options).expect("a folder").0)
    }

    pub fn attached(path: &Path, model: SecurityModel) -> Client {
        let mut client = Client::with(path, model, plain());
        client.version(b"9P2000.L");
        client.attach();
        client
    }

    pub fn raw(&self, kind: u8, body: &[u8], room: usize) -> Result<Vec<u8>, Broken> {
        let header = (body.len() as u32 + 7).to_le_bytes().into_iter().chain([kind, 0x34, 0x12]);
        let message = Buffers(header.chain(body.iter().copied()).collect(), RefCell::new(vec![0; room]));
        let len = self.0.handle(&message, &AtomicBool::new(false))?;
        let mut answer = message.1.into_inner();
        answer.truncate(len);
        assert_eq!(answer[..4], (len as u32).to_le_bytes());
        assert_eq!(answer[5..7], [0x34, 0x12]);
        Ok(answer)
    }

    fn send(&self, kind: u8, parts: &[Part<'_>]) -> Vec<u8> {
        let mut body = Vec::new();
        parts.iter().for_each(|part| part.add_to(&mut body));
        self.raw(kind, &body, MSIZE as usize).expect("an answer")
    }

    pub fn call(&mut self, kind: u8, parts: &[Part<'_>]) -> Answer {
        let answer = self.send(kind, parts);
        let body = Reply(answer[7..].to_vec());
        match answer[4] {
            7 => Answer::Error(String::new(), body.u32(0)),
            107 => Answer::Error(String::from_utf8_lossy(body.string(0)).into_owned(), 0),
            reply => {
                assert_eq!(reply, kind + 1);
                Answer::Reply(body)
            }
        }
    }

    /// The same by 9P2000.u, whose errors are texts and numbers.
    pub fn call_u(&mut self, kind: u8, parts: &[Part<'_>]) -> Answer {
        let answer = self.send(kind, parts);
        let body = Reply(answer[7..].to_vec());
        if answer[4] != 107 {
            return Answer::Reply(body);
        }
        let text = String::from_utf8_lossy(body.string(0)).into_owned();
        let errno = body.u32(2 + text.len());
        Answer::Error(text, errno)
    }

    pub fn ok(&mut self, kind: u8, parts: &[Part<'_>]) -> Reply {
        match self.call(kind, parts) {
            Answer::Reply(reply) => reply,
            Answer::Error(text, errno) => panic!("request {kind}: error {errno} {text}"),
        }
    }

    pub fn error(&mut self, kind: u8, parts: &[Part<'_>]) -> u32 {
        match self.call(kind, parts) {
            Answer::Reply(_) => panic!("request {kind} is answered"),
            Answer::Error(_, errno) => errno,
        }
    }

    pub fn version(&mut self, name: &[u8]) {
        let answer = self.ok(request::VERSION, &[Part::D(MSIZE), Part::S(name)]);
        assert_eq!((answer.u32(0), answer.string(4)), (MSIZE, name));
    }

    pub fn attach(&mut self) {
        let none = Part::S(b"");
        self.ok(request::ATTACH, &[Part::D(0), Part::D(u32::MAX), none, none, Part::D(u32::MAX)]);
    }

    pub fn walk_parts<'a>(fid: u32, new: u32, names: &[&'a [u8]]) -> Vec<Part<'a>> {
        let names = names.iter().map(|name| Part::S(name));
        let fids = [Part::D(fid), Part::D(new), Part::W(names.len() as u16)];
        fids.into_iter().chain(names).collect()
    }

    pub fn walk(&mut self, fid: u32, new: u32, names: &[&[u8]]) -> Reply {
        self.ok(request::WALK, &Client::walk_parts(fid, new, names))
    }

    pub fn error_walk(&mut self, fid: u32, new: u32, names: &[&[u8]]) -> u32 {
        self.error(request::WALK, &Client::walk_parts(fid, new, names))
    }

    pub fn clone_fid(&mut self, fid: u32, new: u32) {
        self.walk(fid, new, &[]);
    }

    pub fn setattr(&self, fid: u32, valid: u32, mode: u32, size: u64) -> [Part<'static>; 10] {
        let times = [Part::Q(0); 4];
        let [a, b, c, d] = times;
        let fixed = [Part::D(fid), Part::D(valid), Part::D(mode), Part::D(5), Part::D(5), Part::Q(size)];
        let [e, f, g, h, i, j] = fixed;
        [e, f, g, h, i, j, a, b, c, d]
    }

    pub fn wstat<'a>(&self, fid: u32, name: &'a [u8], length: u64) -> Vec<Part<'a>> {
        let ones = Part::D(u32::MAX);
        let identity =
            [Part::W(0), Part::W(0), Part::W(u16::MAX), ones, Part::B(255), ones, Part::Q(u64::MAX)];
        let times = [ones, ones, ones, Part::Q(length), Part::S(name)];
        let rest = [Part::S(b""), Part::S(b""), Part::S(b""), Part::S(b""), ones, ones, ones];
        [Part::D(fid)].into_iter().chain(identity).chain(times).chain(rest).collect()
    }
}
