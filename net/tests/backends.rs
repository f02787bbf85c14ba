//! Backends, the queue between peers, hubs and filters: with real sockets, and with TAP in a network namespace of its own.

mod common;

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::Command;

use common::{TestNic, free_port, turn, wait_for};
use net::{find_netdev, info_network, netdev_init};

fn framed(packet: &[u8]) -> Vec<u8> {
    [&(packet.len() as u32).to_be_bytes()[..], packet].concat()
}

fn error(netdev: &str) -> String {
    netdev_init(netdev).unwrap_err().message
}

#[test]
fn a_stream_carries_packets_both_ways_and_its_end_takes_the_link_down() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let nic = TestNic::new(&format!("stream,id=s,addr.type=unix,addr.path={}", path.display()));
    let (mut other, _) = listener.accept().unwrap();
    wait_for("the link", || (!find_netdev("s").unwrap().link_down()).then_some(()));
    assert!(info_network().contains(&format!("s: index=0,type=stream,unix:{}\n", path.display())));
    nic.send(b"out");
    let mut got = [0; 7];
    other.read_exact(&mut got).unwrap();
    assert_eq!(got, *framed(b"out"));
    // In pieces that have nothing to do with the packets.
    let stream: Vec<u8> = [framed(b"first"), framed(b""), framed(b"second")].concat();
    for piece in stream.chunks(3) {
        other.write_all(piece).unwrap();
        turn();
    }
    assert_eq!(nic.receive(), b"first");
    assert_eq!(nic.receive(), b"");
    assert_eq!(nic.receive(), b"second");
    drop(other);
    wait_for("the end", || find_netdev("s").unwrap().link_down().then_some(()));
}

#[test]
fn a_stream_server_takes_one_client_after_another_and_drops_one_that_talks_nonsense() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let nic = TestNic::new(&format!("stream,id=s,server=on,addr.type=unix,addr.path={}", path.display()));
    for text in [&b"one"[..], b"two"] {
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(&framed(text)).unwrap();
        assert_eq!(nic.receive(), text);
        client.write_all(&[0xff; 8]).unwrap();
        let mut buffer = [0; 1];
        client.set_nonblocking(true).unwrap();
        wait_for("the end", || matches!(client.read(&mut buffer), Ok(0)).then_some(()));
    }
}

#[test]
fn a_peer_that_takes_nothing_stops_the_sender_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let nic = TestNic::new(&format!("stream,id=s,addr.type=unix,addr.path={}", path.display()));
    let (mut other, _) = listener.accept().unwrap();
    wait_for("the link", || (!find_netdev("s").unwrap().link_down()).then_some(()));
    // Towards the device: what it does not take stays with the sender.
    nic.set_full(true);
    other.set_nonblocking(true).unwrap();
    let packet = framed(&[7; 60_000]);
    let mut sent = 0;
    for _ in 0..200 {
        match other.write(&packet[sent % packet.len()..]) {
            Ok(count) => sent += count,
            Err(_) => turn(),
        }
    }
    assert!(sent < 2_000_000, "{sent} bytes were taken by nobody");
    nic.set_full(false);
    let whole = sent / packet.len();
    for _ in 0..whole {
        assert_eq!(nic.receive().len(), 60_000);
    }
    // Towards the backend: the device is told to wait, and then that it may go on.
    let mut taken = 0;
    while nic.nc().send_async(&[9; 60_000]) {
        taken += 1;
        assert!(taken < 100, "the socket takes everything");
    }
    let mut got = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    wait_for("the rest", || {
        while let Ok(count @ 1..) = other.read(&mut buffer) {
            got.extend_from_slice(&buffer[..count]);
        }
        (got.len() >= (taken + 1) * 60_004).then_some(())
    });
    assert_eq!((got.len(), *nic.told.lock()), ((taken + 1) * 60_004, 1));
}

#[test]
fn datagrams_are_packets() {
    let folder = tempfile::tempdir().unwrap();
    let (own, other) = (folder.path().join("a"), folder.path().join("b"));
    let peer = UnixDatagram::bind(&other).unwrap();
    let nic = TestNic::new(&format!(
        "dgram,id=d,local.type=unix,local.path={},remote.type=unix,remote.path={}",
        own.display(),
        other.display()
    ));
    nic.send(b"to the other");
    let mut buffer = [0; 100];
    let size = peer.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..size], b"to the other");
    peer.send_to(b"and back", &own).unwrap();
    assert_eq!(nic.receive(), b"and back");
    assert_eq!(error("dgram,id=e"), "dgram requires local= parameter");
    assert_eq!(
        error("dgram,id=e,local.type=unix,local.path=/x"),
        "type=inet or type=unix requires remote parameter"
    );
}

#[test]
fn two_machines_meet_over_socket() {
    let port = free_port();
    let one = TestNic::new(&format!("socket,id=a,listen=127.0.0.1:{port}"));
    let two = TestNic::new(&format!("socket,id=b,connect=127.0.0.1:{port}"));
    wait_for("the link", || (!find_netdev("a").unwrap().link_down()).then_some(()));
    one.send(b"hello");
    assert_eq!(two.receive(), b"hello");
    two.send(b"hello yourself");
    assert_eq!(one.receive(), b"hello yourself");
    assert!(info_network().contains("type=socket,socket: connection from 127.0.0.1:"));
    let mistakes = [
        ("", "exactly one of listen=, connect=, mcast= or udp= is required"),
        (",listen=:1,localaddr=1.1.1.1", "localaddr= is only valid with mcast= or udp="),
        (",listen=x", "host address 'x' doesn't contain ':' separating host from port"),
        (",udp=127.0.0.1:1", "localaddr= is mandatory with udp="),
        (
            ",mcast=127.0.0.1:1",
            "specified mcastaddr 127.0.0.1 (0x7f000001) does not contain a multicast address",
        ),
        (",fd=nonsense", "Invalid file descriptor number 'nonsense'"),
    ];
    mistakes.iter().for_each(|(options, text)| assert_eq!(error(&format!("socket,id=c{options}")), *text));
}

#[test]
fn a_descriptor_of_either_kind_will_do() {
    let (stream, mut other) = UnixStream::pair().unwrap();
    let nic = TestNic::new(&format!("socket,id=s,fd={}", stream.as_raw_fd()));
    nic.send(b"x");
    let mut got = [0; 5];
    other.read_exact(&mut got).unwrap();
    assert_eq!(got, [0, 0, 0, 1, b'x']);
    let (datagram, other) = UnixDatagram::pair().unwrap();
    let nic = TestNic::new(&format!("socket,id=d,fd={}", datagram.as_raw_fd()));
    other.send(b"y").unwrap();
    assert_eq!(nic.receive(), b"y");
}

#[test]
fn what_enters_a_hub_leaves_at_all_other_ports() {
    for id in ["a", "b", "c"] {
        netdev_init(&format!("hubport,id={id},hubid=3")).unwrap();
    }
    let [a, b, c] = ["a", "b", "c"].map(TestNic::on);
    a.send(b"all");
    assert_eq!((b.receive(), c.receive()), (b"all".to_vec(), b"all".to_vec()));
    assert!(a.frames.lock().is_empty());
    assert!(info_network().starts_with("hub 3\n \\ c: test-nic.2: index=0,type=nic,"), "{}", info_network());
    assert_eq!(error("hubport,id=a,hubid=1"), "Duplicate ID 'a' for netdev");
    assert_eq!(error("hubport,id=d,hubid=1,netdev=none"), "netdev 'none' not found");
}

#[test]
fn links_go_down_and_up_and_netdevs_go() {
    let (stream, mut other) = UnixStream::pair().unwrap();
    let nic = TestNic::new(&format!("socket,id=s,fd={}", stream.as_raw_fd()));
    drop(stream);
    let run = |name: &str, arguments: serde_json::Value| {
        let arguments = arguments.as_object().unwrap().clone();
        qapi::find_command(name).unwrap().run(arguments).map_err(|error| error.message)
    };
    run("set_link", serde_json::json!({"name": "test-nic.0", "up": false})).unwrap();
    nic.send(b"lost");
    run("set_link", serde_json::json!({"name": "test-nic.0", "up": true})).unwrap();
    nic.send(b"kept");
    let mut got = [0; 8];
    other.read_exact(&mut got).unwrap();
    assert_eq!(got, *framed(b"kept"));
    let missing = run("set_link", serde_json::json!({"name": "x", "up": true}));
    assert_eq!(missing.unwrap_err(), "Device 'x' not found");
    run("netdev_del", serde_json::json!({"id": "s"})).unwrap();
    assert_eq!(run("netdev_del", serde_json::json!({"id": "s"})).unwrap_err(), "Device 's' not found");
    assert!(find_netdev("s").is_none() && nic.nc().peer().unwrap().link_down());
}

#[test]
fn a_dump_is_a_file_that_tcpdump_reads() {
    qom::module_call_init(qom::ModuleInitType::Qom);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dump");
    let (stream, _other) = UnixStream::pair().unwrap();
    let nic = TestNic::new(&format!("socket,id=s,fd={}", stream.as_raw_fd()));
    let text = path.display().to_string();
    add_filter("filter-dump", "f0", &[("netdev", "s"), ("file", &text), ("maxlen", "40")]).unwrap();
    let mut arp = vec![0xff; 6];
    arp.extend([
        2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10,
        0, 0, 2,
    ]);
    arp.resize(60, 0);
    nic.send(&arp);
    qom::user_creatable_del("f0").unwrap();
    nic.send(b"not written");
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes[..8], [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0]);
    assert_eq!(
        (bytes.len(), &bytes[32..40], &bytes[40..]),
        (80, &[40, 0, 0, 0, 60, 0, 0, 0][..], &arp[..40])
    );
}

fn add_filter(kind: &str, id: &str, properties: &[(&str, &str)]) -> qom::Result<()> {
    qom::module_call_init(qom::ModuleInitType::Qom);
    let inputs = properties.iter().map(|(name, value)| (*name, qom::property::PropertyInput::Text(value)));
    qom::user_creatable_add(kind, id, inputs).map(drop)
}

fn next_frame(stream: &mut UnixStream) -> Vec<u8> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut packet = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut packet).unwrap();
    packet
}

#[test]
fn a_mirror_copies_a_redirector_takes_and_their_order_counts() {
    let (backend, mut host) = UnixStream::pair().unwrap();
    let nic = TestNic::new(&format!("socket,id=s,fd={}", backend.as_raw_fd()));
    let folder = tempfile::tempdir().unwrap();
    let [mut copied, mut took] = ["copies", "taken"].map(|id| {
        let path = folder.path().join(id);
        let options =
            [("backend", "socket"), ("path", path.to_str().unwrap()), ("server", "on"), ("wait", "off")];
        chardev::new_from_opts(id, &options.map(|(name, value)| (name.to_owned(), value.to_owned())))
            .unwrap();
        let stream = UnixStream::connect(path).unwrap();
        wait_for("a connection", || chardev::find(id).unwrap().is_open().then_some(()));
        stream
    });
    add_filter("filter-redirector", "r", &[("netdev", "s"), ("queue", "rx"), ("outdev", "taken")]).unwrap();
    // What goes to the backend is seen by the last filter first.
    add_filter("filter-mirror", "m", &[("netdev", "s"), ("outdev", "copies")]).unwrap();
    nic.send(b"from the guest");
    assert_eq!(next_frame(&mut copied), b"from the guest");
    assert_eq!(next_frame(&mut took), b"from the guest");
    host.write_all(&framed(b"for the guest")).unwrap();
    assert_eq!(nic.receive(), b"for the guest");
    assert_eq!(next_frame(&mut copied), b"for the guest");
    qom::user_creatable_del("m").unwrap();
    qom::user_creatable_del("r").unwrap();
    nic.send(b"unfiltered");
    assert_eq!(next_frame(&mut host), b"unfiltered", "what was redirected never came");
}

#[test]
fn a_buffer_lets_packets_go_when_its_interval_ends_and_its_backend_takes_filters_along() {
    util::clock::set_manual();
    let (backend, mut host) = UnixStream::pair().unwrap();
    let nic = TestNic::new(&format!("socket,id=s,fd={}", backend.as_raw_fd()));
    let none = add_filter("filter-buffer", "b", &[("netdev", "s"), ("interval", "0")]).unwrap_err();
    assert_eq!(none.message, "Property 'filter-buffer.interval' requires a positive value");
    let wrong = add_filter("filter-buffer", "b", &[("insert", "x")]).unwrap_err();
    assert_eq!(wrong.message, "Parameter 'insert' does not accept value 'x'");
    add_filter("filter-buffer", "b", &[("netdev", "s"), ("interval", "1000")]).unwrap();
    nic.send(b"one");
    nic.send(b"two");
    host.set_nonblocking(true).unwrap();
    turn();
    assert!(host.read(&mut [0]).is_err(), "the buffer holds the packets");
    util::clock::step(1_000_000);
    turn();
    host.set_nonblocking(false).unwrap();
    assert_eq!((next_frame(&mut host), next_frame(&mut host)), (b"one".to_vec(), b"two".to_vec()));
    nic.send(b"three");
    let object = qom::object_get_objects_root().child("b").unwrap();
    object.property_set_str("status", "off").unwrap();
    nic.send(b"four");
    assert_eq!((next_frame(&mut host), next_frame(&mut host)), (b"three".to_vec(), b"four".to_vec()));
    drop(object);
    net::del_client("s");
    assert!(qom::object_get_objects_root().child("b").is_none());
}

/// Runs this test again, alone, as root of user, network and mount namespaces of its own.
fn in_own_network(test: &str) -> bool {
    if std::env::var_os("OWN_NETWORK").is_some() {
        return true;
    }
    let program = std::env::current_exe().unwrap();
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--mount"])
        .arg(program)
        .args(["--exact", test, "--nocapture"])
        .env("OWN_NETWORK", "1")
        .status()
        .unwrap();
    assert!(status.success());
    false
}

/// An executable script of the shell's.
fn script(folder: &tempfile::TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[test]
fn tap_is_an_interface_of_the_host() {
    if !in_own_network("tap_is_an_interface_of_the_host") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = |name: &str, text: &str| script(&folder, name, text);
    let seen = folder.path().join("down").display().to_string();
    let up = script("up.sh", "ip addr add 10.9.0.1/24 dev $1 && ip link set $1 up");
    let down = script("down.sh", &format!("echo $1 > {seen}"));
    let nic = TestNic::new(&format!("tap,id=t,ifname=tap7,script={up},downscript={down}"));
    assert!(
        info_network().contains(&format!("t: index=0,type=tap,ifname=tap7,script={up},downscript={down}\n"))
    );
    let socket = std::net::UdpSocket::bind("10.9.0.1:700").unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    socket.send_to(b"over the cable", "10.9.0.2:800").unwrap();
    // Whoever it is for is asked for by ARP first.
    let question = wait_for("an ARP question", || {
        let frame = nic.frames.lock().pop_front()?;
        (frame.len() >= 42 && frame[12..14] == [8, 6] && frame[38..42] == [10, 9, 0, 2]).then_some(frame)
    });
    let mut answer = question[..42].to_vec();
    answer[..6].copy_from_slice(&question[6..12]);
    answer[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
    answer[21] = 2;
    answer[22..28].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
    answer[28..32].copy_from_slice(&[10, 9, 0, 2]);
    answer[32..42].copy_from_slice(&question[22..32]);
    nic.send(&answer);
    // Linux waits for an answer for three seconds, and then forgets what it wanted to send.
    socket.send_to(b"over the cable", "10.9.0.2:800").unwrap();
    let mut datagram = wait_for("the datagram", || {
        let frame = nic.frames.lock().pop_front()?;
        frame.ends_with(b"over the cable").then_some(frame)
    });
    // The same goes back: both addresses and ports change places, which no checksum of IPv4 minds.
    let (frame, packet) = (datagram[..12].to_vec(), datagram[26..38].to_vec());
    datagram[..12].copy_from_slice(&[&frame[6..], &frame[..6]].concat());
    datagram[26..38].copy_from_slice(&[&packet[4..8], &packet[..4], &packet[10..], &packet[8..10]].concat());
    datagram[40..42].fill(0);
    nic.send(&datagram);
    let mut buffer = [0; 100];
    let (size, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..size], from.to_string().as_str()), (&b"over the cable"[..], "10.9.0.2:800"));
    assert!(
        error("tap,id=u,ifname=tap7,script=no,downscript=no")
            .contains("could not configure /dev/net/tun (tap7): ")
    );
    let failing = script("fail.sh", "exit 3");
    assert_eq!(
        error(&format!("tap,id=v,script={failing},downscript=no")),
        format!("network script {failing} failed with status 768")
    );
    net::del_client("t");
    assert_eq!(std::fs::read_to_string(seen).unwrap(), "tap7\n");
}

/// The question who has `10.9.1.1`, and its answer's beginning.
const ARP_QUESTION: &[u8] = b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x02\x08\x06\0\x01\x08\0\x06\x04\0\x01\
    \x02\0\0\0\0\x02\x0a\x09\x01\x02\0\0\0\0\0\0\x0a\x09\x01\x01";
const ARP_ANSWER: &[u8] = b"\x08\x06\0\x01\x08\0\x06\x04\0\x02";

/// QEMU's own helper, of Debian's package `qemu-system-common`.
#[test]
fn bridge_is_an_interface_that_a_helper_opens() {
    if !in_own_network("bridge_is_an_interface_that_a_helper_opens") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // It looks for what it may do in `/etc/qemu/bridge.conf`.
    let etc = folder.path().join("etc");
    std::fs::create_dir_all(etc.join("qemu")).unwrap();
    std::fs::write(etc.join("qemu/bridge.conf"), "allow br0\nallow br9\n").unwrap();
    let set_up = script(
        &folder,
        "up",
        "set -e; mount --bind $1 /etc; for br in br0 br9; do ip link add $br type bridge; ip link set $br up; done
        ip addr add 10.9.1.1/24 dev br9",
    );
    assert!(Command::new(set_up).arg(&etc).status().unwrap().success());
    let asks = |nic: &TestNic| {
        nic.send(ARP_QUESTION);
        wait_for("an answer", || {
            nic.frames.lock().pop_front().filter(|frame| frame[12..].starts_with(ARP_ANSWER))
        })
    };
    let helper = "/usr/lib/qemu/qemu-bridge-helper";
    let cases = [
        ("bridge,id=b,br=br9".to_owned(), format!("helper={helper},br=br9")),
        (format!("tap,id=b,br=br9,helper={helper}"), format!("helper={helper}")),
        (format!("bridge,id=b,helper={helper} --br=br9"), format!("helper={helper} --br=br9,br=br0")),
    ];
    for (count, (netdev, info)) in cases.iter().enumerate() {
        let nic = TestNic::new(netdev);
        assert!(info_network().contains(&format!("b: index=0,type=tap,{info}\n")), "{}", info_network());
        asks(&nic);
        // Any interface answers for any of the host's addresses. Those of the devices before are still there.
        let on_it = Command::new("ip").args(["-o", "link", "show", "master", "br9"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&on_it.stdout).lines().count(), count + 1, "{netdev}");
        net::del_client("b");
    }
    netdev_init("bridge,id=b").unwrap();
    net::del_client("b");
    // Whatever else this helper says goes to the terminal.
    assert_eq!(error("bridge,id=c,br=br7"), "bridge helper failed");
    assert_eq!(error("bridge,id=c,helper=/no/helper"), "bridge helper failed");
    let quiet = script(&folder, "quiet", "exit 0");
    assert_eq!(error(&format!("bridge,id=c,helper={quiet}")), "failed to recv file descriptor");
    let told = folder.path().join("told");
    let failing = script(&folder, "failing", &format!("echo $1 $3 > {}; exit 1", told.display()));
    assert_eq!(error(&format!("tap,id=c,helper={failing},br=x")), "bridge helper failed");
    assert_eq!(std::fs::read_to_string(told).unwrap(), "--use-vnet --br=x\n");
    assert_eq!(
        error(&format!("tap,id=c,helper={quiet},ifname=x")),
        "ifname=, script=, downscript=, vnet_hdr=, queues=, and vhostfds= are invalid with helper="
    );
    assert!(find_netdev("c").is_none());
}
