//! Sockets, with real clients and servers.

mod common;

use std::fs;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::Ordering;

use chardev::{CharFrontend, Event};
use common::{Bench, Recorder, error, new, run_until, settle};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

fn unix_server() -> (tempfile::TempDir, String, std::sync::Arc<chardev::Chardev>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s").display().to_string();
    let server = new("s", &format!("backend=socket,path={path},server=on,wait=off")).unwrap();
    (dir, path, server)
}

#[test]
fn a_unix_server_has_one_client_after_another() {
    let _bench = Bench::new();
    let (_dir, path, server) = unix_server();
    assert_eq!(server.filename(), format!("disconnected:unix:{path},server=on"));
    assert!(!server.is_open());
    let recorder = Recorder::on(&server);
    // Nobody is there: it is lost, and nobody waits for room.
    assert_eq!(recorder.frontend.write(b"lost"), 4);
    assert!(!recorder.frontend.add_watch(|| ()));

    let mut client = UnixStream::connect(&path).unwrap();
    recorder.wait_for_event(Event::Opened);
    assert_eq!(server.filename(), format!("unix:{path},server=on"));
    client.write_all(b"hello").unwrap();
    recorder.wait_for("hello");
    recorder.frontend.write(b"there");
    let mut buffer = [0; 5];
    client.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"there");

    client.write_all(b" bye").unwrap();
    drop(client);
    recorder.wait_for_event(Event::Closed);
    assert_eq!(recorder.text(), "hello bye");
    assert!(!recorder.frontend.is_open());

    let mut client = UnixStream::connect(&path).unwrap();
    recorder.wait_for_event(Event::Opened);
    client.write_all(b"!").unwrap();
    recorder.wait_for("hello bye!");
    recorder.frontend.disconnect();
    recorder.wait_for_event(Event::Closed);
    assert_eq!(client.read(&mut buffer).unwrap(), 0);
}

#[test]
fn a_socket_file_is_gone_after_a_clean_end_and_a_path_in_use_is_refused() {
    let _bench = Bench::new();
    let (dir, path, _server) = unix_server();
    let options = format!("backend=socket,path={path},server=on,wait=off");
    let taken = format!("Failed to bind socket to {path}: Address already in use");
    assert_eq!(new("t", &options).unwrap_err().to_string(), taken);
    chardev::remove_all();
    assert!(!fs::exists(&path).unwrap());

    // A leftover that nobody listens on is replaced, and an empty file; one with something in it is not.
    let leftovers: [fn(&str); 2] =
        [|path| drop(UnixListener::bind(path).unwrap()), |path| fs::write(path, "").unwrap()];
    for leave in leftovers {
        leave(&path);
        let server = new("s", &options).unwrap();
        UnixStream::connect(&path).unwrap();
        drop(server);
        chardev::remove("s").unwrap();
        assert!(!fs::exists(&path).unwrap());
    }
    fs::write(&path, "precious").unwrap();
    assert_eq!(new("s", &options).unwrap_err().to_string(), taken);
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    let dir = dir.path().display();
    assert_eq!(
        error(&format!("backend=socket,path={dir}/no/s,server=on,wait=off")),
        format!("Failed to bind socket to {dir}/no/s: No such file or directory")
    );
    // Waiting for a client that cannot come is not begun before the options are known to be right.
    assert_eq!(
        error(&format!("backend=socket,path={dir}/u,server=on,size=1")),
        "Parameter 'size' is not supported by chardev backend 'socket'"
    );
}

#[test]
fn an_abstract_name_needs_no_file() {
    let _bench = Bench::new();
    let name = format!("chardev-test-{}", std::process::id());
    let server = new("s", &format!("backend=socket,path={name},abstract=on,server=on,wait=off")).unwrap();
    assert_eq!(server.filename(), format!("disconnected:unix:{name},abstract=on,tight=on,server=on"));
    let recorder = Recorder::on(&server);
    let client = new("c", &format!("backend=socket,path={name},abstract=on")).unwrap();
    let client = Recorder::on(&client);
    client.wait_for_event(Event::Opened);
    client.frontend.write(b"x");
    recorder.wait_for("x");
}

#[test]
fn a_frontend_without_room_holds_input_back_and_a_client_that_leaves_is_noticed() {
    let _bench = Bench::new();
    let (_dir, path, server) = unix_server();
    let recorder = Recorder::on(&server);
    recorder.room.store(2, Ordering::SeqCst);
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"abcd").unwrap();
    recorder.wait_for("ab");
    settle();
    assert_eq!(recorder.text(), "ab");
    recorder.room.store(1, Ordering::SeqCst);
    recorder.frontend.accept_input();
    recorder.wait_for("abc");
    drop(client);
    recorder.wait_for_event(Event::Closed);
    let _next = UnixStream::connect(&path).unwrap();
    recorder.wait_for_event(Event::Opened);
}

#[test]
fn a_client_that_does_not_read_holds_only_itself_up() {
    let _bench = Bench::new();
    let (_dir, path, server) = unix_server();
    let recorder = Recorder::on(&server);
    let mut client = UnixStream::connect(&path).unwrap();
    recorder.wait_for_event(Event::Opened);
    let mut total = 0;
    loop {
        match recorder.frontend.write(&[b'x'; 4096]) {
            0 => break,
            taken => total += taken,
        }
    }
    let told = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = told.clone();
    assert!(recorder.frontend.add_watch(move || flag.store(true, Ordering::SeqCst)));
    settle();
    assert!(!told.load(Ordering::SeqCst));
    client.read_exact(&mut vec![0; total]).unwrap();
    run_until(|| told.load(Ordering::SeqCst), || "not told that there is room".into());

    // One that hangs up while it is waited for lets go too.
    while recorder.frontend.write(&[b'x'; 4096]) > 0 {}
    let flag = told.clone();
    told.store(false, Ordering::SeqCst);
    assert!(recorder.frontend.add_watch(move || flag.store(true, Ordering::SeqCst)));
    drop(client);
    run_until(|| told.load(Ordering::SeqCst), || "still waiting for room".into());
}

#[test]
fn descriptors_pass_over_unix_sockets() {
    let _bench = Bench::new();
    let (_dir, path, server) = unix_server();
    let recorder = Recorder::on(&server);
    let client = UnixStream::connect(&path).unwrap();
    recorder.wait_for_event(Event::Opened);

    let (mut here, there) = UnixStream::pair().unwrap();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [there.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(&client, &[IoSlice::new(b"m")], &mut control, SendFlags::empty()).unwrap();
    recorder.wait_for("m");
    let fds = recorder.frontend.take_fds();
    assert_eq!(fds.len(), 1);
    UnixStream::from(fds.into_iter().next().unwrap()).write_all(b"z").unwrap();
    let mut buffer = [0];
    here.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"z");
    assert!(recorder.frontend.take_fds().is_empty());

    recorder.frontend.set_fds(vec![there.into()]).unwrap();
    recorder.frontend.write(b"r");
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(&client, &mut [IoSliceMut::new(&mut buffer)], &mut control, RecvFlags::empty()).unwrap();
    assert!(matches!(control.drain().next(), Some(RecvAncillaryMessage::ScmRights(_))));
}

#[test]
fn a_server_may_wait_for_its_client_before_it_goes_on() {
    let _bench = Bench::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let address = path.clone();
    let client = std::thread::spawn(move || {
        loop {
            match UnixStream::connect(&address) {
                Ok(stream) => return stream,
                Err(_) => std::thread::yield_now(),
            }
        }
    });
    let server = new("s", &format!("backend=socket,path={},server=on", path.display())).unwrap();
    assert!(server.is_open());
    let recorder = Recorder::on(&server);
    let mut client = client.join().unwrap();
    client.write_all(b"first").unwrap();
    recorder.wait_for("first");
    drop(client);
    recorder.wait_for_event(Event::Closed);
    let _next = UnixStream::connect(&path).unwrap();
    recorder.wait_for_event(Event::Opened);
}

#[test]
fn a_frontend_may_wait_until_the_other_end_is_there() {
    let _bench = Bench::new();
    let (_dir, path, server) = unix_server();
    let frontend = CharFrontend::default();
    frontend.wait_connected().unwrap();
    frontend.attach(&server).unwrap();
    let client = UnixStream::connect(&path).unwrap();
    frontend.wait_connected().unwrap();
    assert!(server.is_open());
    frontend.wait_connected().unwrap();
    let next = UnixStream::connect(&path).unwrap();
    frontend.connect_anew().unwrap();
    assert_eq!((&client).read(&mut [0]).unwrap(), 0);
    frontend.write(b"x");
    assert_eq!((&next).read(&mut [0]).unwrap(), 1);

    let gone = format!("{path}2");
    let listener = UnixListener::bind(&gone).unwrap();
    let once = new("c", &format!("backend=socket,path={gone}")).unwrap();
    frontend.attach(&once).unwrap();
    drop(listener);
    let told = frontend.connect_anew().unwrap_err().to_string();
    assert_eq!(told, format!("Failed to connect to '{gone}': Connection refused"));
}

fn port_of(filename: &str) -> u16 {
    let address = filename.strip_suffix(",server=on").unwrap();
    address.rsplit(':').next().unwrap().parse().unwrap()
}

#[test]
fn a_tcp_server_listens_and_the_range_finds_a_free_port() {
    let _bench = Bench::new();
    let server = new("s", "backend=socket,host=127.0.0.1,port=0,server=on,wait=off,nodelay=on").unwrap();
    assert!(server.filename().starts_with("disconnected:tcp:127.0.0.1:"));
    let port = port_of(&server.filename());
    let recorder = Recorder::on(&server);
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.write_all(b"hi").unwrap();
    recorder.wait_for("hi");
    let local = client.local_addr().unwrap();
    assert_eq!(server.filename(), format!("tcp:127.0.0.1:{port},server=on <-> {local}"));

    assert_eq!(
        error(&format!("backend=socket,host=127.0.0.1,port={port},server=on,wait=off")),
        "Failed to find an available port: Address already in use"
    );
    let last = port.saturating_add(50);
    let next = new("t", &format!("backend=socket,host=127.0.0.1,port={port},to={last},server=on,wait=off"));
    assert!(port_of(&next.unwrap().filename()) > port);
}

#[test]
fn an_empty_host_listens_for_ipv4_too() {
    let _bench = Bench::new();
    let server = new("s", "backend=socket,host=,port=0,server=on,wait=off").unwrap();
    let recorder = Recorder::on(&server);
    let _client = TcpStream::connect(("127.0.0.1", port_of(&server.filename()))).unwrap();
    recorder.wait_for_event(Event::Opened);
}

#[test]
fn a_telnet_client_is_greeted_and_its_commands_are_not_input() {
    let _bench = Bench::new();
    let options = "backend=socket,host=127.0.0.1,port=0,server=on,wait=off,telnet=on";
    let server = new("s", options).unwrap();
    assert!(server.filename().starts_with("disconnected:telnet:"));
    let recorder = Recorder::on(&server);
    let mut client = TcpStream::connect(("127.0.0.1", port_of(&server.filename()))).unwrap();
    recorder.wait_for_event(Event::Opened);
    let mut greeting = [0; 12];
    client.read_exact(&mut greeting).unwrap();
    assert_eq!(greeting, [255, 251, 1, 255, 251, 3, 255, 251, 0, 255, 253, 0]);
    client.write_all(b"a\xff\xfd\x01b\xff\xf3").unwrap();
    recorder.wait_for("ab");
    recorder.wait_for_event(Event::Break);
}

#[test]
fn a_client_connects_and_connects_again() {
    let _bench = Bench::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s").display().to_string();
    assert_eq!(
        error(&format!("backend=socket,path={path}")),
        format!("Failed to connect to '{path}': No such file or directory")
    );
    let client = new("c", &format!("backend=socket,path={path},reconnect=1")).unwrap();
    let recorder = Recorder::on(&client);
    assert_eq!(client.filename(), format!("disconnected:unix:{path}"));
    let listener = UnixListener::bind(&path).unwrap();
    recorder.wait_for_event(Event::Opened);
    assert_eq!(client.filename(), format!("unix:{path}"));
    drop(listener.accept().unwrap());
    recorder.wait_for_event(Event::Closed);
    recorder.wait_for_event(Event::Opened);
}

#[test]
fn a_tcp_client_connects_without_waiting() {
    let _bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = new("c", &format!("backend=socket,host=127.0.0.1,port={port},reconnect=1")).unwrap();
    let recorder = Recorder::on(&client);
    recorder.wait_for_event(Event::Opened);
    let (mut peer, _) = listener.accept().unwrap();
    peer.write_all(b"hi").unwrap();
    recorder.wait_for("hi");
}

#[test]
fn udp_datagrams_arrive_whole_however_little_the_frontend_takes() {
    let _bench = Bench::new();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = peer.local_addr().unwrap().port();
    let udp = new("u", &format!("backend=udp,host=127.0.0.1,port={port},localaddr=127.0.0.1")).unwrap();
    let recorder = Recorder::on(&udp);
    recorder.room.store(2, Ordering::SeqCst);
    recorder.frontend.write(b"hello");
    let mut buffer = [0; 16];
    let (length, from) = peer.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"hello");
    peer.send_to(b"abcde", from).unwrap();
    peer.send_to(b"f", from).unwrap();
    recorder.wait_for("ab");
    recorder.room.store(2, Ordering::SeqCst);
    recorder.frontend.accept_input();
    recorder.wait_for("abcd");
    recorder.room.store(100, Ordering::SeqCst);
    recorder.frontend.accept_input();
    recorder.wait_for("abcdef");
}

#[test]
fn options_that_do_not_go_together_are_refused() {
    let _bench = Bench::new();
    for (options, expected) in [
        ("host=127.0.0.1", "chardev: socket: no port given"),
        ("path=/x,wait=off", "'wait' option is incompatible with socket in client connect mode"),
        (
            "path=/x,server=on,reconnect=1",
            "'reconnect' option is incompatible with socket in server listen mode",
        ),
        ("path=/x,host=y,port=1", "None or one of 'path', 'fd' or 'host' option required."),
        ("fd=foo", "Unable to parse FD number foo"),
        ("fd=0,size=1", "Parameter 'size' is not supported by chardev backend 'socket'"),
        ("fd=7777", "File descriptor '7777' is not a socket"),
        ("host=127.0.0.1,port=1,reconnect=x", "Parameter 'reconnect' expects a number"),
        ("host=127.0.0.1,port=1", "Failed to connect to '127.0.0.1:1': Connection refused"),
        (
            "host=127.0.0.1,port=abc",
            "address resolution failed for 127.0.0.1:abc: Servname not supported for ai_socktype",
        ),
        ("host=h,port=1,ipv4=off,ipv6=off", "Cannot disable IPv4 and IPv6 at same time"),
        ("host=h,port=1,websocket=on,server=on", "chardev: socket: 'websocket' is not supported"),
        ("path=/x,tls-creds=c", "chardev: socket: 'tls-creds' is not supported"),
        ("path=/x,delay=on,nodelay=on", "'delay' and 'nodelay' are mutually exclusive"),
    ] {
        assert_eq!(error(&format!("backend=socket,{options}")), expected);
    }
    let long = "x".repeat(108);
    assert_eq!(
        error(&format!("backend=socket,path={long}")),
        format!("UNIX socket path '{long}' is too long: it must be less than 108 bytes")
    );
}

#[test]
fn an_inherited_socket_is_used() {
    use std::os::fd::AsRawFd;
    let _bench = Bench::new();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let chardev = new("f", &format!("backend=socket,fd={}", ours.as_raw_fd())).unwrap();
    let frontend = CharFrontend::default();
    frontend.attach(&chardev).unwrap();
    frontend.write(b"x");
    let mut buffer = [0];
    theirs.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"x");
}
