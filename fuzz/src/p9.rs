//! Drivers of `virtio-9p` that mean no good: messages to a folder of the host, and to a file system that is made up.

use std::cell::RefCell;
use std::fs;
use std::sync::atomic::AtomicBool;

use hw_9pfs::fs::FsDriver;
use hw_9pfs::fsdev::MultiDevs;
use hw_9pfs::local::{LocalFs, LocalOptions, SecurityModel};
use hw_9pfs::server::{Message, Server, ServerOptions};
use hw_9pfs::spec::{NO_FID, message};
use hw_9pfs::synth::SynthFs;

/// Room for an answer.
const ROOM: usize = 5000;
/// Most messages of an input.
const MOST: usize = 64;

struct Buffers(Vec<u8>, RefCell<Vec<u8>>);

impl Message for Buffers {
    fn readable_len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, offset: u64, data: &mut [u8]) -> usize {
        let rest = usize::try_from(offset).ok().and_then(|at| self.0.get(at..)).unwrap_or_default();
        data.iter_mut().zip(rest).map(|(to, from)| *to = *from).count()
    }

    fn writable_len(&self) -> u64 {
        self.1.borrow().len() as u64
    }

    fn write(&self, offset: u64, data: &[u8]) -> usize {
        let mut answer = self.1.borrow_mut();
        let rest = usize::try_from(offset).ok().and_then(|at| answer.get_mut(at..)).unwrap_or_default();
        rest.iter_mut().zip(data).map(|(to, from)| *to = *from).count()
    }
}

/// Names that there are, and versions.
pub(crate) fn words() -> Vec<String> {
    const WORDS: [&str; 14] = [
        "9P2000.L",
        "9P2000.u",
        "\u{4}\0file",
        "\u{3}\0dir",
        "\u{4}\0link",
        "\u{2}\0..",
        "\u{1}\0.",
        "\u{5}\0WRITE",
        "\u{5}\0FLUSH",
        "\u{a}\0ReadDirDir",
        "user.x",
        "user.virtfs.uid",
        "system.posix_acl_access",
        ".virtfs_metadata",
    ];
    WORDS.map(str::to_owned).into()
}

/// The first byte chooses the file system and the protocol; then come messages: a type, a length and a body.
pub(crate) fn run(data: &[u8]) {
    let Some((&choice, mut rest)) = data.split_first() else { return };
    let outside = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    fs::write(outside.path().join("secret"), b"secret").expect("a file in memory");
    let folder = outside.path().join("inside");
    fs::create_dir_all(folder.join("dir")).expect("a folder in memory");
    fs::write(folder.join("file"), b"hello").expect("a file in memory");
    std::os::unix::fs::symlink(outside.path(), folder.join("link")).expect("a link in memory");
    let model = match choice & 3 {
        0 => SecurityModel::None,
        1 => SecurityModel::MappedXattr,
        2 => SecurityModel::MappedFile,
        _ => SecurityModel::Passthrough,
    };
    let options = LocalOptions { model, fmode: 0o600, dmode: 0o700, writeout: false };
    let driver: Box<dyn FsDriver> = match choice & 4 {
        0 => Box::new(LocalFs::open(&folder, options).expect("a folder")),
        _ => Box::new(SynthFs::new(true)),
    };
    let options = ServerOptions {
        read_only: choice & 8 != 0,
        multidevs: MultiDevs::Remap,
        throttle: None,
        quiet: true,
    };
    let (server, _) = Server::new(driver, options).expect("a folder");
    begin(&server, choice & 16 == 0);
    for _ in 0..MOST {
        let [kind, len, body @ ..] = rest else { break };
        let (body, others) = body.split_at_checked(usize::from(*len)).unwrap_or((body, &[]));
        send(&server, *kind, body);
        rest = others;
    }
    assert_eq!(fs::read(outside.path().join("secret")).expect("it is there still"), b"secret");
    let there = fs::read_dir(outside.path()).expect("a folder in memory").count();
    assert_eq!(there, 2, "nothing is made outside");
}

/// A client that attached as fid 0.
fn begin(server: &Server, linux: bool) {
    let version: &[u8] = if linux { b"\x08\09P2000.L" } else { b"\x08\09P2000.u" };
    send(server, message::VERSION, &[&8192u32.to_le_bytes(), version].concat());
    let attach = [0, NO_FID, 0, NO_FID].map(u32::to_le_bytes).concat();
    send(server, message::ATTACH, &attach);
}

fn send(server: &Server, kind: u8, body: &[u8]) {
    let header = (body.len() as u32 + 7).to_le_bytes().into_iter().chain([kind, 1, 0]);
    let message = Buffers(header.chain(body.iter().copied()).collect(), RefCell::new(vec![0; ROOM]));
    // There are writes that end only so.
    let cancelled = AtomicBool::new(kind == message::WRITE);
    if let Ok(len) = server.handle(&message, &cancelled) {
        assert!(len <= ROOM);
    }
}
