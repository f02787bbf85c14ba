//! The server and a folder of the host, message by message.

mod common;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

use common::{Answer, Client, EEXIST, EINVAL, EISDIR, ENOENT, ENOTEMPTY, EROFS, Part, request as t};
use hw_9pfs::local::SecurityModel;
use hw_9pfs::server::ServerOptions;
use tempfile::TempDir;

const O_RDONLY: u32 = 0;
const O_RDWR: u32 = 2;
const ELOOP: u32 = 40;
const ENXIO: u32 = 6;
const ENOTDIR: u32 = 20;
const EOPNOTSUPP: u32 = 95;
const ENODATA: u32 = 61;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn passthrough(folder: &TempDir) -> Client {
    Client::attached(folder.path(), SecurityModel::None)
}

#[test]
fn files_are_made_written_read_and_removed() {
    let folder = folder();
    let mut client = passthrough(&folder);
    client.clone_fid(0, 1);
    client
        .ok(t::LCREATE, &[Part::D(1), Part::S(b"file"), Part::D(O_RDWR), Part::D(0o640), Part::D(u32::MAX)]);
    let written = client.ok(t::WRITE, &[Part::D(1), Part::Q(3), Part::D(5), Part::Raw(b"hello")]);
    assert_eq!(written.u32(0), 5);
    assert_eq!(fs::read(folder.path().join("file")).unwrap(), b"\0\0\0hello");
    assert_eq!(fs::metadata(folder.path().join("file")).unwrap().permissions().mode() & 0o777, 0o640);
    let read = client.ok(t::READ, &[Part::D(1), Part::Q(2), Part::D(100)]);
    assert_eq!((read.u32(0), read.bytes(4)), (6, &b"\0hello"[..]));
    assert_eq!(client.ok(t::READ, &[Part::D(1), Part::Q(8), Part::D(100)]).u32(0), 0, "the end");
    client.ok(t::FSYNC, &[Part::D(1), Part::D(0)]);
    let attributes = client.ok(t::GETATTR, &[Part::D(1), Part::Q(0x7ff)]);
    assert_eq!(attributes.u64(8 + 13 + 12 + 16), 8, "its size");
    client.ok(t::UNLINKAT, &[Part::D(0), Part::S(b"file"), Part::D(0)]);
    assert!(!folder.path().join("file").exists());
    // It is open still.
    assert_eq!(client.ok(t::READ, &[Part::D(1), Part::Q(3), Part::D(100)]).bytes(4), b"hello");
    client.ok(t::CLUNK, &[Part::D(1)]);
    assert_eq!(client.error(t::CLUNK, &[Part::D(1)]), ENOENT);
}

#[test]
fn no_name_leads_out() {
    let outside = folder();
    fs::write(outside.path().join("secret"), b"secret").unwrap();
    let inside = outside.path().join("inside");
    fs::create_dir(&inside).unwrap();
    symlink(outside.path(), inside.join("absolute")).unwrap();
    symlink("..", inside.join("relative")).unwrap();
    symlink("/proc/self/cwd", inside.join("magic")).unwrap();
    let mut client = Client::attached(&inside, SecurityModel::None);
    let root = client.walk(0, 1, &[b".."]).bytes(2).to_vec();
    assert_eq!(client.walk(1, 2, &[b"..", b".."]).bytes(2), [&root[..], &root].concat());
    for name in [&b"../secret"[..], b"/etc/passwd", b"a/b", b"", b"..\0"] {
        assert_eq!(client.error_walk(0, 9, &[name]), ENOENT, "{name:?}");
        for (kind, errno) in [(t::MKDIR, ENOENT), (t::UNLINKAT, ENOENT)] {
            let parts = [Part::D(0), Part::S(name), Part::D(0), Part::D(0)];
            assert_eq!(client.error(kind, &parts), errno, "{name:?}");
        }
    }
    for link in [&b"absolute"[..], b"relative", b"magic"] {
        // The link itself can be named, and nothing behind it.
        assert_eq!(client.walk(0, 3, &[link]).u16(0), 1);
        assert_eq!(client.walk(0, 9, &[link, b"secret"]).u16(0), 1, "as far as the link");
        assert_eq!(client.error(t::LOPEN, &[Part::D(3), Part::D(O_RDONLY)]), ELOOP);
        let file = [Part::D(3), Part::S(b"new"), Part::D(O_RDWR), Part::D(0o600), Part::D(0)];
        assert!([ELOOP, ENOTDIR].contains(&client.error(t::LCREATE, &file)));
        let directory = [Part::D(3), Part::S(b"new"), Part::D(0o700), Part::D(0)];
        assert!([ELOOP, ENOTDIR].contains(&client.error(t::MKDIR, &directory)));
        assert!(
            [ELOOP, ENOTDIR]
                .contains(&client.error(t::UNLINKAT, &[Part::D(3), Part::S(b"secret"), Part::D(0)]))
        );
        let attributes = client.setattr(3, 1 << 3 | 1, 0o777, 0);
        assert_eq!(client.error(t::SETATTR, &attributes), ELOOP);
        client.ok(t::CLUNK, &[Part::D(3)]);
    }
    assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"secret");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 2);
}

/// What a fid names may be put elsewhere by others, and something else in its place.
#[test]
fn a_directory_that_becomes_a_link_leads_nowhere() {
    let outside = folder();
    fs::write(outside.path().join("file"), b"secret").unwrap();
    let inside = folder();
    let directory = inside.path().join("directory");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("file"), b"mine").unwrap();
    let mut client = passthrough(&inside);
    client.walk(0, 1, &[b"directory"]);
    client.walk(0, 2, &[b"directory", b"file"]);
    fs::rename(&directory, inside.path().join("other")).unwrap();
    symlink(outside.path(), &directory).unwrap();
    assert!([ELOOP, ENOTDIR].contains(&client.error(t::LOPEN, &[Part::D(2), Part::D(O_RDONLY)])));
    assert!([ELOOP, ENOTDIR].contains(&client.error_walk(1, 3, &[b"file"])));
    let target = [Part::D(1), Part::S(b"file"), Part::D(0), Part::S(b"stolen")];
    assert!([ELOOP, ENOTDIR].contains(&client.error(t::RENAMEAT, &target)));
    assert!([ELOOP, ENOTDIR].contains(&client.error(t::LINK, &[Part::D(0), Part::D(2), Part::S(b"stolen")])));
    assert_eq!(fs::read(outside.path().join("file")).unwrap(), b"secret");
}

#[test]
fn devices_and_pipes_of_the_host_are_not_opened() {
    let folder = folder();
    let mut client = passthrough(&folder);
    let node = [Part::D(0), Part::S(b"pipe"), Part::D(0o010_600), Part::D(0), Part::D(0), Part::D(0)];
    client.ok(t::MKNOD, &node);
    assert!(fs::symlink_metadata(folder.path().join("pipe")).unwrap().file_type().is_fifo());
    client.walk(0, 1, &[b"pipe"]);
    assert_eq!(client.error(t::LOPEN, &[Part::D(1), Part::D(O_RDONLY)]), ENXIO);
}

#[test]
fn what_is_renamed_is_found_by_the_fids_it_had() {
    let folder = folder();
    fs::create_dir_all(folder.path().join("a/b")).unwrap();
    fs::write(folder.path().join("a/b/file"), b"x").unwrap();
    let mut client = passthrough(&folder);
    client.walk(0, 1, &[b"a", b"b"]);
    client.walk(0, 2, &[b"a", b"b", b"file"]);
    client.ok(t::RENAMEAT, &[Part::D(0), Part::S(b"a"), Part::D(0), Part::S(b"c")]);
    client.ok(t::LOPEN, &[Part::D(2), Part::D(O_RDONLY)]);
    client.walk(1, 3, &[b"file"]);
    client.ok(t::RENAME, &[Part::D(3), Part::D(0), Part::S(b"moved")]);
    assert!(folder.path().join("moved").exists());
    client.ok(t::REMOVE, &[Part::D(3)]);
    assert!(!folder.path().join("moved").exists());
    assert_eq!(client.error(t::CLUNK, &[Part::D(3)]), ENOENT, "it went with the file");
    for name in [&b"."[..], b".."] {
        assert_eq!(client.error(t::RENAME, &[Part::D(1), Part::D(0), Part::S(name)]), EISDIR);
        assert_eq!(client.error(t::MKDIR, &[Part::D(0), Part::S(name), Part::D(0), Part::D(0)]), EEXIST);
    }
    assert_eq!(client.error(t::UNLINKAT, &[Part::D(0), Part::S(b"."), Part::D(0x200)]), EINVAL);
    assert_eq!(client.error(t::UNLINKAT, &[Part::D(0), Part::S(b".."), Part::D(0x200)]), ENOTEMPTY);
}

#[test]
fn a_directory_is_read_in_parts() {
    let folder = folder();
    (0..300).for_each(|n| fs::write(folder.path().join(format!("file{n:03}")), b"").unwrap());
    let mut client = passthrough(&folder);
    client.clone_fid(0, 1);
    client.ok(t::LOPEN, &[Part::D(1), Part::D(0o200_000)]);
    let mut names = Vec::new();
    let mut position = 0;
    loop {
        let answer = client.ok(t::READDIR, &[Part::D(1), Part::Q(position), Part::D(500)]);
        assert!(answer.u32(0) <= 500);
        let entries = answer.entries();
        let Some(last) = entries.last() else { break };
        position = last.0;
        names.extend(entries.into_iter().map(|(_, name)| name));
    }
    names.sort();
    assert_eq!(names.len(), 302);
    assert_eq!(names[..3], [".", "..", "file000"]);
    let first = client.ok(t::READDIR, &[Part::D(1), Part::Q(0), Part::D(100)]);
    assert!(!first.entries().is_empty(), "from the start again");
    assert_eq!(client.error(t::READDIR, &[Part::D(1), Part::Q(u64::MAX), Part::D(100)]), EINVAL);
}

#[test]
fn owners_and_types_are_kept_in_attributes_or_files() {
    for model in [SecurityModel::MappedXattr, SecurityModel::MappedFile] {
        let folder = folder();
        let mut client = Client::attached(folder.path(), model);
        let node = [Part::D(0), Part::S(b"null"), Part::D(0o020_644), Part::D(1), Part::D(3), Part::D(7)];
        client.ok(t::MKNOD, &node);
        client.ok(t::SYMLINK, &[Part::D(0), Part::S(b"link"), Part::S(b"/etc/passwd"), Part::D(8)]);
        client.ok(t::MKDIR, &[Part::D(0), Part::S(b"dir"), Part::D(0o755), Part::D(9)]);
        for (name, mode, gid) in
            [(&b"null"[..], 0o020_644, 7), (b"link", 0o120_777, 8), (b"dir", 0o040_755, 9)]
        {
            client.walk(0, 1, &[name]);
            let answer = client.ok(t::GETATTR, &[Part::D(1), Part::Q(0x7ff)]);
            assert_eq!((answer.u32(21), answer.u32(29)), (mode, gid), "{model:?} {name:?}");
            client.ok(t::CLUNK, &[Part::D(1)]);
            let host = folder.path().join(String::from_utf8_lossy(name).as_ref());
            let host = fs::symlink_metadata(host).unwrap();
            assert!(host.is_file() || host.is_dir(), "to the host nothing else");
            assert_eq!(host.mode() & 0o077, 0, "and nobody else's");
        }
        client.walk(0, 1, &[b"link"]);
        let link = client.ok(t::READLINK, &[Part::D(1)]);
        assert_eq!(link.string(0), b"/etc/passwd");
        client.ok(t::SETATTR, &client.setattr(1, 1 << 1, 0, 0));
        // What it is kept in is not the guest's.
        let own = [&b".virtfs_metadata"[..], b".virtfs_metadata_root"];
        if model == SecurityModel::MappedFile {
            assert!(own.iter().all(|name| client.error_walk(0, 9, &[name]) == EINVAL));
        } else {
            assert_eq!(
                client.error(t::XATTRWALK, &[Part::D(1), Part::D(9), Part::S(b"user.virtfs.uid")]),
                ENODATA
            );
        }
        client.clone_fid(0, 5);
        client.ok(t::LOPEN, &[Part::D(5), Part::D(0)]);
        let names = client.ok(t::READDIR, &[Part::D(5), Part::Q(0), Part::D(4000)]);
        assert_eq!(names.entries().len(), 5);
        client.ok(t::RENAMEAT, &[Part::D(0), Part::S(b"null"), Part::D(0), Part::S(b"zero")]);
        client.walk(0, 2, &[b"zero"]);
        assert_eq!(client.ok(t::GETATTR, &[Part::D(2), Part::Q(0x7ff)]).u32(29), 7, "it went along");
        client.ok(t::UNLINKAT, &[Part::D(0), Part::S(b"dir"), Part::D(0x200)]);
    }
}

#[test]
fn attributes_are_set_and_read() {
    let folder = folder();
    fs::write(folder.path().join("file"), b"").unwrap();
    let mut client = passthrough(&folder);
    client.walk(0, 1, &[b"file"]);
    client.clone_fid(1, 2);
    let name = Part::S(b"user.color");
    client.ok(t::XATTRCREATE, &[Part::D(2), name, Part::Q(4), Part::D(0)]);
    client.ok(t::WRITE, &[Part::D(2), Part::Q(0), Part::D(4), Part::Raw(b"blue")]);
    client.ok(t::CLUNK, &[Part::D(2)]);
    assert_eq!(client.ok(t::XATTRWALK, &[Part::D(1), Part::D(2), name]).u64(0), 4);
    assert_eq!(client.ok(t::READ, &[Part::D(2), Part::Q(1), Part::D(9)]).bytes(4), b"lue");
    assert_eq!(client.ok(t::READ, &[Part::D(2), Part::Q(9), Part::D(9)]).u32(0), 0);
    client.ok(t::CLUNK, &[Part::D(2)]);
    let names = client.ok(t::XATTRWALK, &[Part::D(1), Part::D(2), Part::S(b"")]);
    assert_eq!(names.u64(0), 11);
    client.ok(t::CLUNK, &[Part::D(2)]);
    // One that is not written to its end is not set.
    client.clone_fid(1, 2);
    client.ok(t::XATTRCREATE, &[Part::D(2), Part::S(b"user.half"), Part::Q(4), Part::D(0)]);
    client.ok(t::WRITE, &[Part::D(2), Part::Q(0), Part::D(2), Part::Raw(b"bl")]);
    assert_eq!(client.error(t::WRITE, &[Part::D(2), Part::Q(5), Part::D(2), Part::Raw(b"bl")]), 28);
    assert_eq!(client.error(t::CLUNK, &[Part::D(2)]), EINVAL);
    assert_eq!(client.error(t::XATTRWALK, &[Part::D(1), Part::D(2), Part::S(b"user.half")]), ENODATA);
    assert_eq!(client.error(t::XATTRCREATE, &[Part::D(1), name, Part::Q(1 << 40), Part::D(0)]), 7);
    assert_eq!(client.error(t::XATTRWALK, &[Part::D(1), Part::D(2), Part::S(b"trusted.x")]), EOPNOTSUPP);
}

#[test]
fn memory_and_fids_have_an_end() {
    let folder = folder();
    fs::write(folder.path().join("file"), b"").unwrap();
    let mut client = passthrough(&folder);
    let made = (1..1000).take_while(|n| {
        client.walk(0, *n, &[b"file"]);
        let create = [Part::D(*n), Part::S(b"user.x"), Part::Q(65536), Part::D(0)];
        matches!(client.call(t::XATTRCREATE, &create), Answer::Reply(_))
    });
    assert_eq!(made.count(), 256);
    client.version(b"9P2000.L");
    client.attach();
    let fids = (1..100_000).take_while(|n| {
        let walk = [Part::D(0), Part::D(*n), Part::W(0)];
        matches!(client.call(t::WALK, &walk), Answer::Reply(_))
    });
    assert_eq!(fids.count(), 65535);
}

#[test]
fn nothing_changes_where_nothing_may() {
    let folder = folder();
    fs::write(folder.path().join("file"), b"x").unwrap();
    let options = ServerOptions { read_only: true, ..common::plain() };
    let mut client = Client::with(folder.path(), SecurityModel::None, options);
    client.version(b"9P2000.L");
    client.attach();
    client.walk(0, 1, &[b"file"]);
    assert_eq!(client.error(t::LOPEN, &[Part::D(1), Part::D(O_RDWR)]), EROFS);
    assert_eq!(client.error(t::MKDIR, &[Part::D(0), Part::S(b"d"), Part::D(0), Part::D(0)]), EROFS);
    assert_eq!(client.error(t::SETATTR, &client.setattr(1, 8, 0, 0)), EROFS);
    client.ok(t::LOPEN, &[Part::D(1), Part::D(O_RDONLY)]);
    assert_eq!(client.ok(t::READ, &[Part::D(1), Part::Q(0), Part::D(5)]).bytes(4), b"x");
    assert_eq!(client.error(200, &[]), EOPNOTSUPP);
}

#[test]
fn the_older_protocol_has_texts_and_descriptions() {
    let folder = folder();
    fs::write(folder.path().join("file"), b"hello").unwrap();
    let mut client = Client::with(folder.path(), SecurityModel::None, common::plain());
    client.version(b"9P2000.u");
    client.attach();
    let Answer::Error(text, errno) = client.call_u(t::WALK, &Client::walk_parts(0, 1, &[b"none"])) else {
        panic!("there is no such file")
    };
    assert_eq!((&text[..], errno), ("No such file or directory", ENOENT));
    client.walk(0, 1, &[b"file"]);
    let stat = client.ok(t::STAT, &[Part::D(1)]);
    assert_eq!(stat.u16(2), 61 + 4 + 15);
    assert_eq!(stat.string(2 + 2 + 39), b"file");
    client.clone_fid(0, 2);
    client.ok(t::OPEN, &[Part::D(2), Part::B(0)]);
    let all = client.ok(t::READ, &[Part::D(2), Part::Q(0), Part::D(4000)]);
    assert!(all.u32(0) > 3 * 61);
    assert_eq!(
        client.ok(t::READ, &[Part::D(2), Part::Q(1), Part::D(4000)]).u32(0),
        0,
        "it was read to its end"
    );
    client.clone_fid(0, 3);
    let create = [Part::D(3), Part::S(b"new"), Part::D(0o644), Part::B(1), Part::S(b"")];
    client.ok(t::CREATE, &create);
    client.ok(t::WRITE, &[Part::D(3), Part::Q(0), Part::D(1), Part::Raw(b"!")]);
    client.ok(t::WSTAT, &client.wstat(3, b"renamed", 5));
    assert_eq!(fs::read(folder.path().join("renamed")).unwrap(), b"!\0\0\0\0");
    assert!(matches!(client.call_u(t::WSTAT, &client.wstat(3, b"../x", u64::MAX)), Answer::Error(..)));
}

#[test]
fn messages_that_are_too_short_break_the_device() {
    let folder = folder();
    let client = passthrough(&folder);
    let broken = client.raw(t::ATTACH, &[1, 2, 3], 4096).unwrap_err();
    assert_eq!(broken.0, "Failed to decode VirtFS request type 104");
    let broken = client.raw(t::STATFS, &[0, 0, 0, 0], 20).unwrap_err();
    assert_eq!(broken.0, "Failed to encode VirtFS reply type 9");
    let mut read = vec![0; 12];
    read.extend(5000u32.to_le_bytes());
    let mut client = passthrough(&folder);
    fs::write(folder.path().join("file"), b"x").unwrap();
    client.walk(0, 7, &[b"file"]);
    client.ok(t::LOPEN, &[Part::D(7), Part::D(O_RDONLY)]);
    read[0] = 7;
    let broken = client.raw(t::READ, &read, 4096).unwrap_err();
    assert_eq!(broken.0, "VirtFS reply type 117 needs 5011 bytes, buffer has 4096");
}
