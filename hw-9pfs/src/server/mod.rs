//! Answers to messages (hw/9pfs/9p.c), on any thread, several at once.
//!
//! What a client does wrong in a message is answered with an error. A message that does not hold what it should, or
//! leaves no room for the answer, is [`Broken`].

mod attributes;
mod fid;
mod io;
mod names;
mod session;
mod stat_u;
mod xattrs;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use block::throttle_group::ThrottleGroup;
use parking_lot::{Mutex, RwLock};
use rustix::io::Errno;

use crate::fs::{Cred, FsDriver, FsPath, Stat};
use crate::qid::{MultiDevs, Qid, Qids};
use crate::spec::{HEADER, IO_HEADER, MAX_WALK, MIN_MSIZE, message as m};
use crate::wire::{Reader, Truncated, Writer};
use fid::{Fid, Fids};

/// Bytes of a request that are looked at, but for the data of a write: as many names as there can be.
const MAX_REQUEST: u64 = HEADER as u64 + 64 + MAX_WALK as u64 * (2 + u16::MAX as u64);

/// A request and the room for its answer, in a client's memory.
pub trait Message {
    /// Bytes of the request.
    fn readable_len(&self) -> u64;

    /// Copies from the request; gives how many bytes there were.
    fn read(&self, offset: u64, data: &mut [u8]) -> usize;

    /// Bytes there are for the answer.
    fn writable_len(&self) -> u64;

    /// Copies into the answer; gives how many bytes fitted.
    fn write(&self, offset: u64, data: &[u8]) -> usize;
}

/// The client is so wrong that there is no answer; why, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(pub String);

/// Why a request is not answered as it asks.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fail {
    Errno(Errno),
    Broken(Broken),
    Truncated,
}

impl From<Errno> for Fail {
    fn from(error: Errno) -> Self {
        Fail::Errno(error)
    }
}

impl From<Truncated> for Fail {
    fn from(_: Truncated) -> Self {
        Fail::Truncated
    }
}

type Done = Result<(), Fail>;

/// Which protocol was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    None,
    Unix,
    Linux,
}

/// How a file system is served.
pub struct ServerOptions {
    /// Nothing may change.
    pub read_only: bool,
    /// What is done about several devices.
    pub multidevs: MultiDevs,
    /// Limits of reads and writes.
    pub throttle: Option<Arc<ThrottleGroup>>,
    /// Say nothing of small messages, which tests use.
    pub quiet: bool,
}

/// A file system and its client.
pub struct Server {
    driver: Box<dyn FsDriver>,
    options: ServerOptions,
    version: Mutex<Version>,
    msize: AtomicU32,
    fids: Fids,
    qids: Mutex<Qids>,
    /// The shared folder when a client attached last.
    root: Mutex<Stat>,
    /// Written to while files get other names, so that paths lead to what they led to.
    names: RwLock<()>,
}

/// A request that is carried out.
struct Call<'a> {
    message: &'a dyn Message,
    kind: u8,
    body: Reader<'a>,
    reply: Writer,
    /// Bytes that are in the answer already, behind what is in `reply`.
    further: usize,
    cancelled: &'a AtomicBool,
}

impl Call<'_> {
    /// Whether the client does not want it any more.
    ///
    /// # Errors
    /// Then.
    fn check_cancelled(&self) -> Done {
        if self.cancelled.load(Ordering::Acquire) { Err(Errno::INTR.into()) } else { Ok(()) }
    }

    fn reply_qid(&mut self, qid: &Qid) {
        self.reply.u8(qid.kind);
        self.reply.u32(qid.version);
        self.reply.u64(qid.path);
    }

    /// # Errors
    /// When there is less room than the client says.
    fn check_room(&self, needed: u64) -> Done {
        let there = self.message.writable_len();
        if there >= needed {
            return Ok(());
        }
        let reply = self.kind.wrapping_add(1);
        Err(Fail::Broken(Broken(format!(
            "VirtFS reply type {reply} needs {needed} bytes, buffer has {there}"
        ))))
    }
}

/// A name for a new file.
///
/// # Errors
/// When it cannot be one; `dots` where it is a directory's own.
fn check_name(name: &[u8], dots: Errno) -> Result<(), Errno> {
    match name {
        b"." | b".." => Err(dots),
        _ if name.is_empty() || name.contains(&b'/') || name.contains(&0) => Err(Errno::NOENT),
        _ => Ok(()),
    }
}

impl Server {
    /// Serves what `driver` has.
    ///
    /// # Errors
    /// What the host says of the shared folder.
    pub fn new(driver: Box<dyn FsDriver>, options: ServerOptions) -> Result<(Server, Stat), Errno> {
        let root = driver.lstat(&FsPath::default())?;
        let qids = Mutex::new(Qids::new(options.multidevs, root.dev));
        let server = Server {
            driver,
            options,
            version: Mutex::new(Version::None),
            msize: AtomicU32::new(MIN_MSIZE),
            fids: Fids::default(),
            qids,
            root: Mutex::new(root),
            names: RwLock::default(),
        };
        Ok((server, root))
    }

    /// The client is gone: its fids go.
    pub fn reset(&self) {
        self.fids.clear();
    }

    /// Carries a request out and writes the answer; gives its length, 0 where there is none: somebody set `cancelled`.
    ///
    /// # Errors
    /// When nothing more is to be expected of the client.
    pub fn handle(&self, message: &dyn Message, cancelled: &AtomicBool) -> Result<usize, Broken> {
        let mut header = [0; HEADER];
        message.read(0, &mut header);
        let [_, _, _, _, kind, tag @ ..] = header;
        let tag = u16::from_le_bytes(tag);
        // A write's data stays where it is.
        let most = if kind == m::WRITE { u64::from(IO_HEADER) } else { MAX_REQUEST };
        let body_len = message.readable_len().min(most).saturating_sub(HEADER as u64);
        let mut body = vec![0; body_len as usize];
        message.read(HEADER as u64, &mut body);
        let (reply, further) = (Writer::default(), 0);
        let mut call = Call { message, kind, body: Reader::new(&body), reply, further, cancelled };
        let (reply, kind) = match self.carry_out(&mut call) {
            Ok(()) => (std::mem::take(&mut call.reply), kind.wrapping_add(1)),
            Err(Fail::Errno(Errno::INTR)) if cancelled.load(Ordering::Acquire) => return Ok(0),
            Err(Fail::Errno(error)) => {
                call.further = 0;
                self.error(error)
            }
            Err(Fail::Broken(broken)) => return Err(broken),
            Err(Fail::Truncated) => {
                return Err(Broken(format!("Failed to decode VirtFS request type {kind}")));
            }
        };
        let message_len = reply.len() + call.further;
        if message_len as u64 > message.writable_len() {
            return Err(Broken(format!("Failed to encode VirtFS reply type {kind}")));
        }
        message.write(0, &reply.finish(kind, tag, call.further));
        Ok(message_len)
    }

    fn error(&self, error: Errno) -> (Writer, u8) {
        let mut reply = Writer::default();
        let number = error.raw_os_error();
        if self.version() == Version::Linux {
            reply.u32(number as u32);
            return (reply, m::LERROR + 1);
        }
        let text = std::io::Error::from(error).to_string();
        reply.string(text.split(" (os error").next().unwrap_or_default().as_bytes());
        reply.u32(number as u32);
        (reply, m::ERROR + 1)
    }

    fn carry_out(&self, call: &mut Call<'_>) -> Done {
        if self.options.read_only && !is_read_only(call.kind) && is_known(call.kind) {
            return Err(Errno::ROFS.into());
        }
        // These take the lock themselves, or need no path.
        let _names = match call.kind {
            m::RENAME | m::RENAMEAT | m::WSTAT | m::READ | m::WRITE | m::FSYNC | m::VERSION => None,
            _ => Some(self.names.read()),
        };
        match call.kind {
            m::VERSION => self.agree(call),
            m::ATTACH => self.attach(call),
            m::WALK => self.walk(call),
            m::CLUNK => self.clunk(call),
            // Whoever hands requests on knows which are under way.
            m::FLUSH => call.body.u16().map(|_| ()).map_err(Fail::from),
            m::LOPEN | m::OPEN => self.open(call),
            m::LCREATE => self.lcreate(call),
            m::CREATE => self.create(call),
            m::READ => self.read(call),
            m::WRITE => self.write(call),
            m::READDIR => self.readdir(call),
            m::FSYNC => self.fsync(call),
            m::LOCK => self.lock(call),
            m::GETLOCK => self.getlock(call),
            m::STATFS => self.statfs(call),
            m::GETATTR => self.getattr(call),
            m::SETATTR => self.setattr(call),
            m::STAT => self.stat(call),
            m::WSTAT => self.wstat(call),
            m::XATTRWALK => self.xattrwalk(call),
            m::XATTRCREATE => self.xattrcreate(call),
            m::MKDIR => self.mkdir(call),
            m::MKNOD => self.mknod(call),
            m::SYMLINK => self.symlink(call),
            m::LINK => self.link(call),
            m::READLINK => self.readlink(call),
            m::RENAME => self.rename(call),
            m::RENAMEAT => self.renameat(call),
            m::UNLINKAT => self.unlinkat(call),
            m::REMOVE => self.remove(call),
            _ => Err(Errno::OPNOTSUPP.into()),
        }
    }

    fn version(&self) -> Version {
        *self.version.lock()
    }

    fn msize(&self) -> u32 {
        self.msize.load(Ordering::Acquire)
    }

    /// A fid that must be there; `error` where it is not.
    fn fid(&self, number: u32, error: Errno) -> Result<Arc<Fid>, Fail> {
        self.fids.get(number).ok_or(Fail::Errno(error))
    }

    fn qid(&self, stat: &Stat) -> Result<Qid, Errno> {
        self.qids.lock().of(stat)
    }

    /// What is known of a file that was just made, and where it is.
    fn new_file(&self, directory: &FsPath, name: &[u8]) -> Result<(FsPath, Qid), Errno> {
        let path = self.driver.child(directory, name)?;
        let stat = self.driver.lstat(&path)?;
        Ok((path, self.qid(&stat)?))
    }

    /// Bytes that are best read at once (`blksize_to_iounit`).
    fn io_unit(&self, block_size: u64) -> u32 {
        let most = self.msize().saturating_sub(IO_HEADER);
        let rest = u64::from(most).checked_rem(block_size).unwrap_or_default() as u32;
        if rest == most { most } else { most - rest }
    }
}

/// Owner, group and permissions of a new file; nobody stands for nothing said.
fn cred_of(uid: u32, gid: u32, mode: u32) -> Cred {
    let said = |id: u32| Some(id).filter(|id| *id != u32::MAX);
    Cred { uid: said(uid), gid: said(gid), mode: Some(mode), rdev: None }
}

/// Whether a request changes nothing (`is_read_only_op`). Opening is looked at when it is carried out.
fn is_read_only(kind: u8) -> bool {
    matches!(
        kind,
        m::READDIR
            | m::STATFS
            | m::GETATTR
            | m::XATTRWALK
            | m::LOCK
            | m::GETLOCK
            | m::READLINK
            | m::VERSION
            | m::LOPEN
            | m::ATTACH
            | m::STAT
            | m::WALK
            | m::CLUNK
            | m::FSYNC
            | m::OPEN
            | m::READ
            | m::FLUSH
    )
}

/// Whether there is such a request that changes something.
fn is_known(kind: u8) -> bool {
    matches!(
        kind,
        m::SETATTR
            | m::XATTRCREATE
            | m::MKNOD
            | m::RENAME
            | m::RENAMEAT
            | m::UNLINKAT
            | m::MKDIR
            | m::LINK
            | m::SYMLINK
            | m::CREATE
            | m::LCREATE
            | m::WRITE
            | m::WSTAT
            | m::REMOVE
    )
}
