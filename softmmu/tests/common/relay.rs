//! A program that connects to a server of ours and to one of another program's, and hands to each what the other
//! sends, descriptors too: Debian has no vhost-user program that connects by itself.

use std::io::{IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::daemon::wait_for_listener;

const MAX_FDS: usize = 8;

/// Waits in a thread of its own until somebody listens at `to`, then connects it with `with`; ends with either.
pub fn relay(to: PathBuf, with: PathBuf) {
    thread::spawn(move || {
        wait_for_listener(&to);
        let ends = [to, with].map(|path| UnixStream::connect(path).expect("somebody listens"));
        let back = ends.each_ref().map(|end| end.try_clone().expect("a descriptor"));
        thread::spawn(move || hand_on(&back[1], &back[0]));
        hand_on(&ends[0], &ends[1]);
    });
}

fn hand_on(from: &UnixStream, mut to: &UnixStream) {
    let mut bytes = [0; 4096];
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = recvmsg(from, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::empty());
        let length = got.map_or(0, |got| got.bytes);
        let fds: Vec<OwnedFd> = control.drain().flat_map(descriptors).collect();
        if length == 0 {
            // Either may be gone already.
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !borrowed.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(&borrowed)));
        }
        let sent = sendmsg(to, &[IoSlice::new(&bytes[..length])], &mut control, SendFlags::NOSIGNAL);
        let rest = &bytes[sent.unwrap_or(length).min(length)..length];
        let _ = to.write_all(rest);
    }
}

fn descriptors(message: RecvAncillaryMessage<'_>) -> Vec<OwnedFd> {
    match message {
        RecvAncillaryMessage::ScmRights(fds) => fds.collect(),
        _ => Vec::new(),
    }
}
