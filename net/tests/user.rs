//! `-netdev user` as a guest sees it: real connections to this machine's loopback, with `smoltcp` as the guest's stack.

mod common;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use common::{TestNic, free_port, turn, wait_for};
use net::user::{hostfwd_add, hostfwd_remove, info_usernet};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr};

const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

/// The guest's TCP, below which Ethernet is by hand: everything goes to the gateway.
struct Guest {
    nic: Arc<TestNic>,
    interface: Interface,
    sockets: SocketSet<'static>,
}

struct Link<'a>(&'a TestNic);
struct Rx(Vec<u8>);
struct Tx<'a>(&'a TestNic);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; 14 + len];
        let result = f(&mut frame[14..]);
        frame[..6].copy_from_slice(&[0x52, 0x55, 10, 0, 2, 2]);
        frame[6..12].copy_from_slice(&MAC);
        frame[12..14].copy_from_slice(&[8, 0]);
        self.0.send(&frame);
        result
    }
}

impl Device for Link<'_> {
    type RxToken<'a>
        = Rx
    where
        Self: 'a;
    type TxToken<'a>
        = Tx<'a>
    where
        Self: 'a;
    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        loop {
            let frame = self.0.frames.lock().pop_front()?;
            match &frame[12..14] {
                [8, 0] => return Some((Rx(frame[14..].to_vec()), Tx(self.0))),
                [8, 6] => answer_arp(self.0, &frame),
                other => panic!("unexpected frame {other:?}"),
            }
        }
    }
    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx(self.0))
    }
    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1500;
        capabilities
    }
}

fn answer_arp(nic: &TestNic, question: &[u8]) {
    if question[20..22] != [0, 1] || question[38..42] != GUEST.octets() {
        return;
    }
    let mut answer = question[..42].to_vec();
    answer[..6].copy_from_slice(&question[6..12]);
    answer[6..12].copy_from_slice(&MAC);
    answer[21] = 2;
    answer[22..28].copy_from_slice(&MAC);
    answer[28..32].copy_from_slice(&GUEST.octets());
    answer[32..38].copy_from_slice(&question[22..28]);
    answer[38..42].copy_from_slice(&question[28..32]);
    nic.send(&answer);
}

impl Guest {
    fn new(options: &str) -> Guest {
        let nic = TestNic::new(&format!("user,id=n{options}"));
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut Link(&nic), Instant::now());
        interface.update_ip_addrs(|addresses| addresses.push(IpCidr::new(GUEST.into(), 24)).unwrap());
        interface.routes_mut().add_default_ipv4_route(HOST).unwrap();
        Guest { nic, interface, sockets: SocketSet::new(Vec::new()) }
    }

    fn socket(&mut self) -> SocketHandle {
        let buffer = || SocketBuffer::new(vec![0; 65536]);
        self.sockets.add(Socket::new(buffer(), buffer()))
    }

    fn connect(&mut self, to: (Ipv4Addr, u16), from: u16) -> SocketHandle {
        let handle = self.socket();
        let socket = self.sockets.get_mut::<Socket>(handle);
        socket.connect(self.interface.context(), to, from).unwrap();
        handle
    }

    fn get(&mut self, handle: SocketHandle) -> &mut Socket<'static> {
        self.sockets.get_mut(handle)
    }

    fn poll(&mut self) {
        self.interface.poll(Instant::now(), &mut Link(&self.nic), &mut self.sockets);
        turn();
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while !done(self) {
            assert!(std::time::Instant::now() < end, "{what} did not happen");
            self.poll();
        }
    }

    fn wait_state(&mut self, handle: SocketHandle, state: State) {
        self.until(&format!("{state}"), |guest| guest.get(handle).state() == state);
    }

    /// Sends all of `data` and, if `close`, the end; gives what came back until the other's end.
    fn exchange(&mut self, handle: SocketHandle, mut data: &[u8], close: bool) -> Vec<u8> {
        let mut got = Vec::new();
        let mut closed = !close;
        self.until("the connection", |guest| {
            !matches!(guest.get(handle).state(), State::SynSent | State::SynReceived | State::Listen)
        });
        self.until("the other's end", |guest| {
            let socket = guest.get(handle);
            if socket.can_send() && !data.is_empty() {
                let sent = socket.send_slice(data).unwrap();
                data = &data[sent..];
            }
            if data.is_empty() && !closed && socket.may_send() {
                socket.close();
                closed = true;
            }
            while socket.can_recv() {
                socket.recv(|bytes| (bytes.len(), got.extend_from_slice(bytes))).unwrap();
            }
            closed && data.is_empty() && !socket.may_recv()
        });
        got
    }
}

/// A server of one connection on the loopback.
fn server(serve: impl FnOnce(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || serve(listener.accept().unwrap().0));
    port
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 7 + n / 251) as u8).collect()
}

#[test]
fn what_a_guest_sends_comes_back_in_full_after_it_has_closed_its_side() {
    let port = server(|mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(&all).unwrap();
    });
    let mut guest = Guest::new("");
    let handle = guest.connect((HOST, port), 40000);
    let data = pattern(3 << 20);
    let got = guest.exchange(handle, &data, true);
    assert_eq!(got.len(), data.len());
    assert!(got == data);
}

#[test]
fn the_hosts_end_reaches_the_guest_which_may_still_send() {
    let (tell, told) = std::sync::mpsc::channel();
    let port = server(move |mut stream| {
        stream.write_all(b"last words").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        tell.send(all).unwrap();
    });
    let mut guest = Guest::new("");
    let handle = guest.connect((HOST, port), 40000);
    assert_eq!(guest.exchange(handle, b"", false), b"last words");
    let data = pattern(100_000);
    guest.exchange(handle, &data, true);
    guest.until("all of it", |_| told.try_recv().is_ok_and(|all| all == data));
}

#[test]
fn a_port_where_nobody_listens_refuses_the_guest() {
    let port = free_port();
    let mut guest = Guest::new("");
    let handle = guest.connect((HOST, port), 40000);
    guest.wait_state(handle, State::Closed);
    // Nobody is in the guest's network but the host.
    let other = guest.connect((Ipv4Addr::new(10, 0, 2, 77), 80), 40001);
    guest.wait_state(other, State::Closed);
}

#[test]
fn a_guest_that_breaks_off_breaks_the_hosts_connection() {
    let (tell, told) = std::sync::mpsc::channel();
    let port = server(move |mut stream| {
        let error = stream.read(&mut [0; 8]).unwrap_err();
        tell.send(error.kind()).unwrap();
    });
    let mut guest = Guest::new("");
    let handle = guest.connect((HOST, port), 40000);
    guest.wait_state(handle, State::Established);
    guest.get(handle).abort();
    guest.until("the reset", |_| told.try_recv() == Ok(std::io::ErrorKind::ConnectionReset));
}

#[test]
fn a_guest_that_does_not_read_stops_the_host_and_later_gets_everything() {
    let data = pattern(8 << 20);
    let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (counter, all) = (sent.clone(), data.clone());
    let port = server(move |mut stream| {
        for chunk in all.chunks(65536) {
            stream.write_all(chunk).unwrap();
            counter.fetch_add(chunk.len(), std::sync::atomic::Ordering::SeqCst);
        }
    });
    let mut guest = Guest::new("");
    let handle = guest.connect((HOST, port), 40000);
    guest.wait_state(handle, State::Established);
    // Long enough for all that fits anywhere.
    for _ in 0..300 {
        guest.poll();
    }
    let stopped = sent.load(std::sync::atomic::Ordering::SeqCst);
    assert!(stopped < data.len(), "the host's sender must wait");
    guest.nic.set_full(true);
    for _ in 0..20 {
        guest.poll();
    }
    guest.nic.set_full(false);
    let got = guest.exchange(handle, b"", false);
    assert!(got == data, "{} of {}", got.len(), data.len());
}

#[test]
fn clients_of_the_host_come_in_by_hostfwd_until_it_is_removed() {
    let port = free_port();
    let mut guest = Guest::new(&format!(",hostfwd=tcp:127.0.0.1:{port}-:22"));
    let handle = guest.socket();
    guest.get(handle).listen(22).unwrap();
    let client = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(b"knock").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all
    });
    guest.wait_state(handle, State::CloseWait);
    let remote = guest.get(handle).remote_endpoint().unwrap();
    assert_eq!(remote.addr, HOST.into(), "the loopback is the gateway to the guest");
    assert!(info_usernet().contains("TCP[HOST_FORWARD]"), "{}", info_usernet());
    assert_eq!(guest.exchange(handle, b"who is there", true), b"knock");
    guest.until("the client's end", |_| client.is_finished());
    assert_eq!(client.join().unwrap(), b"who is there");
    assert!(hostfwd_remove(None, &format!("tcp:127.0.0.1:{port}")).unwrap());
    assert!(!hostfwd_remove(Some("n"), &format!("tcp:127.0.0.1:{port}")).unwrap());
    assert_eq!(
        TcpStream::connect(("127.0.0.1", port)).unwrap_err().kind(),
        std::io::ErrorKind::ConnectionRefused
    );
    hostfwd_add(Some("n"), &format!("tcp:127.0.0.1:{port}-10.0.2.15:22")).unwrap();
    TcpStream::connect(("127.0.0.1", port)).unwrap();
}

#[test]
fn the_host_chooses_a_port_and_tells_it() {
    let _guest = Guest::new(",hostfwd=:127.0.0.1:0-:22,hostfwd=udp:127.0.0.1:0-10.0.2.20:53");
    let text = info_usernet();
    let forwards = text.lines().filter(|line| line.contains("HOST_FORWARD"));
    let fields: Vec<Vec<&str>> = forwards.map(|line| line.split_whitespace().collect()).collect();
    let [tcp, udp] = [&fields[0], &fields[1]];
    assert_eq!((tcp[2], &tcp[4..]), ("127.0.0.1", &["10.0.2.15", "22", "0", "0"][..]), "{text}");
    assert_eq!((udp[2], &udp[4..6]), ("127.0.0.1", &["10.0.2.20", "53"][..]), "{text}");
    TcpStream::connect(("127.0.0.1", tcp[3].parse().unwrap())).unwrap();
    assert!(hostfwd_remove(None, &format!("tcp:127.0.0.1:{}", tcp[3])).unwrap());
    assert!(hostfwd_remove(None, &format!("udp:127.0.0.1:{}", udp[3])).unwrap());
    assert!(!info_usernet().contains("HOST_FORWARD"));
}

#[test]
fn a_command_serves_a_guestfwd() {
    let mut guest = Guest::new(",guestfwd=tcp:10.0.2.100:7-cmd:tr a-z A-Z");
    let handle = guest.connect((Ipv4Addr::new(10, 0, 2, 100), 7), 40000);
    assert_eq!(guest.exchange(handle, b"loud", true), b"LOUD");
}

#[test]
fn a_restricted_guest_reaches_what_is_forwarded_only() {
    let port = server(|_| ());
    let mut guest = Guest::new(",restrict=on,guestfwd=tcp:10.0.2.100:7-cmd:cat");
    let out = guest.connect((HOST, port), 40000);
    guest.wait_state(out, State::Closed);
    let allowed = guest.connect((Ipv4Addr::new(10, 0, 2, 100), 7), 40001);
    assert_eq!(guest.exchange(allowed, b"still there", true), b"still there");
}

/// A frame with a datagram; `None` as its checksum says that it has none.
fn datagram(from: u16, to: (Ipv4Addr, u16), data: &[u8]) -> Vec<u8> {
    let mut udp = Vec::new();
    udp.extend(from.to_be_bytes());
    udp.extend(to.1.to_be_bytes());
    udp.extend(((8 + data.len()) as u16).to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(data);
    packet(17, to.0, &udp)
}

fn packet(protocol: u8, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let source = if to.is_broadcast() { Ipv4Addr::UNSPECIFIED } else { GUEST };
    let mut ip = vec![0x45, 0];
    ip.extend(((20 + payload.len()) as u16).to_be_bytes());
    ip.extend([0, 1, 0, 0, 64, protocol, 0, 0]);
    ip.extend(source.octets());
    ip.extend(to.octets());
    let sum = ip.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u32>();
    let check = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&check.to_be_bytes());
    let mut frame = [0x52, 0x55, 10, 0, 2, 2].to_vec();
    frame.extend(MAC);
    frame.extend([8, 0]);
    frame.extend(ip);
    frame.extend(payload);
    frame
}

/// The datagrams' data in frames that come, behind 42 bytes of headers.
fn next_datagram(nic: &TestNic) -> (u16, Vec<u8>) {
    let frame = wait_for("a datagram", || {
        let frame = nic.frames.lock().pop_front()?;
        if frame[12..14] == [8, 6] {
            answer_arp(nic, &frame);
            return None;
        }
        Some(frame)
    });
    let length = usize::from(u16::from_be_bytes([frame[38], frame[39]]));
    (u16::from_be_bytes([frame[34], frame[35]]), frame[42..34 + length].to_vec())
}

#[test]
fn datagrams_go_out_and_answers_come_back_from_where_they_were_sent() {
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let port = peer.local_addr().unwrap().port();
    let nic = TestNic::new("user,id=n");
    nic.send(&datagram(5353, (HOST, port), b"ping"));
    let mut buffer = [0; 2000];
    let (size, from) = peer.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..size], b"ping");
    peer.send_to(b"pong", from).unwrap();
    assert_eq!(next_datagram(&nic), (port, b"pong".to_vec()));
    assert!(info_usernet().contains("UDP[2"), "{}", info_usernet());
}

#[test]
fn datagrams_longer_than_a_packet_go_both_ways_in_parts() {
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let port = peer.local_addr().unwrap().port();
    let nic = TestNic::new("user,id=n");
    let data = pattern(3000);
    let whole = datagram(5353, (HOST, port), &data);
    let payload = &whole[34..];
    for (n, part) in payload.chunks(1480).enumerate() {
        let mut frame = packet(17, HOST, part);
        let more = if (n + 1) * 1480 < payload.len() { 0x20 } else { 0 };
        let offset = n * 1480 / 8;
        frame[20] = more | (offset >> 8) as u8;
        frame[21] = offset as u8;
        frame[24..26].fill(0);
        let sum = frame[14..34].chunks(2).map(|p| u32::from(u16::from_be_bytes([p[0], p[1]]))).sum::<u32>();
        let check = !((sum & 0xffff) + (sum >> 16)) as u16;
        frame[24..26].copy_from_slice(&check.to_be_bytes());
        nic.send(&frame);
    }
    let mut buffer = [0; 4000];
    let (size, from) = peer.recv_from(&mut buffer).unwrap();
    assert!(buffer[..size] == data);
    peer.send_to(&data, from).unwrap();
    let mut got = Vec::new();
    while got.len() < data.len() + 8 {
        let frame = nic.receive();
        if frame[12..14] == [8, 6] {
            answer_arp(&nic, &frame);
            continue;
        }
        let length = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
        got.extend_from_slice(&frame[34..14 + length]);
    }
    assert!(got[8..] == data);
}

fn dhcp(kind: u8, options: &[u8]) -> Vec<u8> {
    let mut message = vec![1, 1, 6, 0, 1, 2, 3, 4];
    message.resize(28, 0);
    message.extend(MAC);
    message.resize(236, 0);
    message.extend([99, 130, 83, 99, 53, 1, kind]);
    message.extend(options);
    message.push(255);
    datagram(68, (Ipv4Addr::BROADCAST, 67), &message)
}

/// The value of an option of a DHCP answer.
fn option(message: &[u8], wanted: u8) -> Option<Vec<u8>> {
    let mut rest = &message[240..];
    while let [code, length, data @ ..] = rest {
        if *code == 255 {
            return None;
        }
        let value = &data[..usize::from(*length)];
        if *code == wanted {
            return Some(value.to_vec());
        }
        rest = &data[usize::from(*length)..];
    }
    None
}

#[test]
fn dhcp_tells_address_names_and_servers() {
    let nic = TestNic::new(
        "user,id=n,hostname=box,domainname=example.org,dnssearch=a.example,dnssearch=b.example,bootfile=pxe.0,\
         tftp-server-name=boot",
    );
    nic.send(&dhcp(1, &[]));
    let (from, offer) = next_datagram(&nic);
    assert_eq!((from, &offer[4..8]), (67, &[1, 2, 3, 4][..]));
    assert_eq!((offer[16..20].to_vec(), option(&offer, 53)), (vec![10, 0, 2, 15], Some(vec![2])));
    nic.send(&dhcp(3, &[50, 4, 10, 0, 2, 15]));
    let (_, ack) = next_datagram(&nic);
    let expected: [(u8, &[u8]); 9] = [
        (53, &[5]),
        (54, &[10, 0, 2, 2]),
        (1, &[255, 255, 255, 0]),
        (3, &[10, 0, 2, 2]),
        (6, &[10, 0, 2, 3]),
        (12, b"box"),
        (15, b"example.org"),
        (66, b"boot"),
        (119, b"\x01a\x07example\0\x01b\x07example\0"),
    ];
    for (code, value) in expected {
        assert_eq!(option(&ack, code).as_deref(), Some(value), "option {code}");
    }
    assert_eq!(&ack[108..114], b"pxe.0\0");
    // An address that is not to be had.
    nic.send(&dhcp(3, &[50, 4, 10, 0, 2, 99]));
    assert_eq!(option(&next_datagram(&nic).1, 53), Some(vec![6]));
}

#[test]
fn the_gateway_answers_arp_and_pings() {
    let nic = TestNic::new("user,id=n");
    let mut question = [0xff; 6].to_vec();
    question.extend(MAC);
    question.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    question.extend(MAC);
    question.extend(GUEST.octets());
    question.extend([0; 6]);
    question.extend(HOST.octets());
    nic.send(&question);
    let answer = nic.receive();
    assert_eq!(answer[20..32], [0, 2, 0x52, 0x55, 10, 0, 2, 2, 10, 0, 2, 2]);
    let mut echo = vec![8, 0, 0, 0, 0, 1, 0, 2, b'h', b'i'];
    let sum: u32 = echo.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    echo[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    nic.send(&packet(1, HOST, &echo));
    let answer = nic.receive();
    assert_eq!((answer[34], &answer[38..44]), (0, &[0, 1, 0, 2, b'h', b'i'][..]));
}

#[test]
fn the_answers_to_what_a_guest_sends_at_one_go_come_at_once() {
    let nic = TestNic::new("user,id=n");
    // An echo request whose checksum is that of its type alone.
    let echo = packet(1, HOST, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
    (0..5).for_each(|_| nic.send(&echo));
    assert_eq!(nic.frames.lock().len(), 0);
    wait_for("an answer", || nic.frames.lock().pop_front());
    assert_eq!((&nic.batches.lock()[..], nic.frames.lock().len()), (&[5][..], 4));
}

#[test]
fn tftp_serves_one_folder_and_nothing_outside() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("file"), pattern(1000)).unwrap();
    std::fs::write(folder.path().join("secret"), "x").unwrap();
    std::os::unix::fs::symlink(folder.path().join("secret"), root.join("link")).unwrap();
    let nic = TestNic::new(&format!("user,id=n,tftp={}", root.display()));
    let request = |name: &str| [&[0, 1][..], name.as_bytes(), b"\0octet\0"].concat();
    for name in ["../secret", "/../secret", "link", "missing", "."] {
        nic.send(&datagram(2000, (HOST, 69), &request(name)));
        assert_eq!(next_datagram(&nic).1[..4], [0, 5, 0, 1], "{name}");
    }
    nic.send(&datagram(2000, (HOST, 69), &request("/file")));
    let (_, first) = next_datagram(&nic);
    assert_eq!((&first[..4], &first[4..]), (&[0, 3, 0, 1][..], &pattern(1000)[..512]));
    nic.send(&datagram(2000, (HOST, 69), &[0, 4, 0, 1]));
    let (_, second) = next_datagram(&nic);
    assert_eq!((&second[..4], &second[4..]), (&[0, 3, 0, 2][..], &pattern(1000)[512..]));
    let options = [&request("file")[..], b"blksize\x001024\0tsize\x000\0"].concat();
    nic.send(&datagram(2001, (HOST, 69), &options));
    assert_eq!(next_datagram(&nic).1, b"\0\x06blksize\x001024\0tsize\x001000\0");
}

#[test]
fn whatever_a_guest_sends_is_no_harm() {
    let nic = TestNic::new("user,id=n");
    let mut seed = 12345u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as usize
    };
    let templates = [
        dhcp(1, &[50, 4, 10, 0, 2, 15]),
        datagram(69, (HOST, 69), b"\0\x01x\0octet\0"),
        packet(6, HOST, &[0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]),
        packet(1, HOST, &[8, 0, 0, 0, 0, 1, 0, 2]),
        [
            &[0x33, 0x33, 0, 0, 0, 2][..],
            &MAC,
            &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 58, 255],
            &[0xfe; 32],
            &[133; 8],
        ]
        .concat(),
    ];
    for n in 0..20_000 {
        let mut frame = templates[n % templates.len()].clone();
        for _ in 0..random() % 6 {
            let at = random() % frame.len();
            frame[at] = random() as u8;
        }
        // To this machine only.
        match frame.get(12..14) {
            Some([8, 0]) if frame[30..34] != [0xff; 4] => frame[30..34].copy_from_slice(&HOST.octets()),
            Some([0x86, 0xdd]) => {
                frame[38..54].copy_from_slice(&[0xfe, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2])
            }
            _ => {}
        }
        if random() % 4 == 0 {
            frame.truncate(random() % frame.len());
        }
        nic.send(&frame);
        nic.frames.lock().clear();
        if n % 64 == 0 {
            turn();
        }
    }
    assert!(info_usernet().lines().count() < 1100, "bounded");
}

#[test]
fn options_that_make_no_sense_are_refused_in_qemus_words() {
    let error = |options: &str| net::netdev_init(&format!("user,id=x{options}")).unwrap_err().message;
    assert_eq!(error(",net=10.0.0.0/33"), "Invalid netmask provided (must be in range 4-32)");
    assert_eq!(error(",host=1.2.3.4"), "Host doesn't belong to network");
    assert_eq!(error(",dhcpstart=10.0.2.2"), "DHCP must be different from host");
    assert_eq!(error(",dns=10.0.2.2"), "DNS must be different from host");
    assert_eq!(error(",ipv4=off,ipv6=off"), "IPv4 and IPv6 disabled");
    assert_eq!(error(",domainname="), "'domainname' parameter cannot be empty");
    assert_eq!(error(",restrict=maybe"), "Parameter 'restrict' expects 'on' or 'off'");
    assert_eq!(error(",foo=1"), "Invalid parameter 'foo'");
    assert_eq!(error(",hostfwd=x"), "Invalid host forwarding rule 'x' (No : separators)");
    assert_eq!(error(",hostfwd=tcp::x-:1"), "Invalid host forwarding rule 'tcp::x-:1' (Bad host port)");
    assert_eq!(error(",guestfwd=udp:1.2.3.4:5-null"), "Invalid guest forwarding rule 'udp:1.2.3.4:5-null'");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let rule = format!("tcp:127.0.0.1:{}-:22", taken.local_addr().unwrap().port());
    assert_eq!(error(&format!(",hostfwd={rule}")), format!("Could not set up host forwarding rule '{rule}'"));
}
