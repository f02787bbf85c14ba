//! `virtio-net-pci` over qtest: packets both ways, in one buffer and in several, the control queue, the link, what a
//! reset forgets and what a saved state brings back.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use libqtest::QTest;
use libqtest::pci::PciFunction;
use libqtest::virtio::*;
use serde_json::{Value, json};

const NET: PciFunction = PciFunction(4 << 3);
/// Each queue has 64 KiB.
const QUEUES: u64 = 0x10_0000;
const BUFFERS: u64 = 0x30_0000;
const COMMAND: u64 = 0x40_0000;
const ACK: u64 = 0x40_1000;
/// Bytes of a packet's header, of modern drivers.
const HEADER: u32 = 12;
const OWN: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 9];

const MRG_RXBUF: u64 = 1 << 15;
const STATUS: u64 = 1 << 16;
const CTRL_VQ: u64 = 1 << 17;
const CTRL_RX: u64 = 1 << 18;
const CTRL_VLAN: u64 = 1 << 19;
const GUEST_ANNOUNCE: u64 = 1 << 21;
const CTRL_MAC_ADDR: u64 = 1 << 23;
const CONTROL: u64 = CTRL_VQ | CTRL_RX | CTRL_VLAN | CTRL_MAC_ADDR | GUEST_ANNOUNCE | STATUS;
/// Of the configuration's status.
const LINK_UP: u16 = 1;
const ANNOUNCE: u16 = 2;
/// What a change of the configuration sets: QEMU sets the queues' bit, too.
const ISR_CONFIG: u8 = 3;

/// The machine, its driver, and the other end of its network.
struct Bench {
    vm: QTest,
    device: VirtioPci,
    rx: VirtQueue,
    tx: VirtQueue,
    control: VirtQueue,
    host: UnixStream,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new(features: u64) -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("net");
        let listener = UnixListener::bind(&path).expect("a socket");
        let netdev = format!("stream,id=n0,addr.type=unix,addr.path={}", path.display());
        let card = "virtio-net-pci,id=card,netdev=n0,addr=4,mac=52:54:00:12:34:56,mq=on";
        let mut vm = QTest::builder(env!("CARGO_BIN_EXE_softmmu"))
            .args(["-nodefaults", "-netdev", &netdev, "-device", card])
            .with_qmp()
            .start();
        let (host, _) = listener.accept().expect("a connection");
        let (device, [rx, tx, control]) = drive(&mut vm, features);
        Bench { vm, device, rx, tx, control, host, _folder: folder }
    }

    fn qmp(&mut self, name: &str, arguments: Value) -> Value {
        self.vm.qmp(&json!({"execute": name, "arguments": arguments}).to_string())
    }

    /// The network sends a packet.
    fn arrives(&mut self, packet: &[u8]) {
        let length = (packet.len() as u32).to_be_bytes();
        self.host.write_all(&[&length[..], packet].concat()).expect("the network is there");
    }

    /// The next packet that the network gets.
    fn leaves(&mut self) -> Vec<u8> {
        let mut length = [0; 4];
        self.host.read_exact(&mut length).expect("a packet");
        let mut packet = vec![0; u32::from_be_bytes(length) as usize];
        self.host.read_exact(&mut packet).expect("a packet");
        packet
    }

    /// Offers a buffer for a packet.
    fn offer(&mut self, n: u64, len: u32) {
        self.rx.add(&mut self.vm, &[(BUFFERS + 0x1000 * n, len, true)]);
        self.rx.kick(&mut self.vm);
    }

    /// What the next buffer holds behind the header.
    fn received(&mut self) -> Vec<u8> {
        let (head, written) = self.rx.wait_used(&mut self.vm);
        let bytes = self.vm.memread(BUFFERS + 0x1000 * u64::from(head), written as usize);
        assert_eq!(bytes[..HEADER as usize], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
        bytes[HEADER as usize..].to_vec()
    }

    /// Whether the device carries a command out.
    fn command(&mut self, class: u8, command: u8, data: &[u8]) -> bool {
        self.vm.memwrite(COMMAND, &[&[class, command], data].concat());
        self.vm.writeb(ACK, 0xff);
        self.control.add(&mut self.vm, &[(COMMAND, data.len() as u32 + 2, false), (ACK, 1, true)]);
        self.control.kick(&mut self.vm);
        assert_eq!(self.control.wait_used(&mut self.vm).1, 1);
        match self.vm.readb(ACK) {
            0 => true,
            1 => false,
            other => panic!("{other} is no answer"),
        }
    }

    fn filter(&mut self) -> Value {
        self.qmp("query-rx-filter", json!({"name": "card"}))[0].clone()
    }

    fn net_status(&mut self) -> u16 {
        self.vm.readw(self.device.device + 6)
    }
}

fn drive(vm: &mut QTest, features: u64) -> (VirtioPci, [VirtQueue; 3]) {
    let device = VirtioPci::open(vm, NET);
    assert!(device.negotiate(vm, VERSION_1 | features));
    let queues = [0, 1, 2].map(|n| device.queue(vm, n, QUEUES + 0x1_0000 * u64::from(n)));
    device.driver_ok(vm);
    (device, queues)
}

fn frame(to: [u8; 6], text: &[u8]) -> Vec<u8> {
    [&to[..], &[2, 0, 0, 0, 0, 1, 0x88, 0xb5], text].concat()
}

fn vlan_frame(id: u16, text: &[u8]) -> Vec<u8> {
    [&OWN[..], &[2, 0, 0, 0, 0, 1, 0x81, 0], &id.to_be_bytes(), &[0x88, 0xb5], text].concat()
}

#[test]
fn packets_go_both_ways_without_their_header() {
    let mut bench = Bench::new(0);
    bench.vm.memset(BUFFERS, 0, u64::from(HEADER));
    bench.vm.memwrite(BUFFERS + u64::from(HEADER), &frame(OTHER, b"out"));
    // In two pieces that have nothing to do with the header.
    bench.tx.add(&mut bench.vm, &[(BUFFERS, 5, false), (BUFFERS + 5, HEADER - 5 + 17, false)]);
    bench.tx.kick(&mut bench.vm);
    assert_eq!(bench.leaves(), frame(OTHER, b"out"));
    assert_eq!(bench.tx.wait_used(&mut bench.vm), (0, 0));
    // The first comes before there is a buffer.
    bench.arrives(&frame(OWN, b"early"));
    bench.offer(0, 100);
    assert_eq!(bench.received(), frame(OWN, b"early"));
    bench.offer(1, 100);
    bench.arrives(&frame(OWN, b"late"));
    assert_eq!(bench.received(), frame(OWN, b"late"));
}

#[test]
fn a_packet_that_is_longer_than_its_buffer_is_lost_unless_buffers_can_be_merged() {
    let long = frame(OWN, &[7; 1000]);
    let mut bench = Bench::new(0);
    bench.offer(0, 400);
    bench.arrives(&long);
    bench.arrives(&frame(OWN, b"short"));
    assert_eq!(bench.received(), frame(OWN, b"short"));

    let mut bench = Bench::new(MRG_RXBUF);
    (0..3).for_each(|n| bench.offer(n, 400));
    bench.arrives(&long);
    let mut bytes = Vec::new();
    for (n, len) in [400, 400, HEADER + 1014 - 800].into_iter().enumerate() {
        assert_eq!(bench.rx.wait_used(&mut bench.vm), (n as u32, len));
        bytes.extend(bench.vm.memread(BUFFERS + 0x1000 * n as u64, len as usize));
    }
    assert_eq!((bytes[10], &bytes[HEADER as usize..]), (3, &long[..]), "the header says how many buffers");
}

#[test]
fn a_packet_of_more_than_4_gib_is_lost_and_the_next_one_is_sent() {
    const PIECE: u32 = 64 << 20;
    let mut bench = Bench::new(0);
    // All of them are the same memory.
    bench.tx.add(&mut bench.vm, &[(0, PIECE, false); 65]);
    bench.vm.memset(BUFFERS, 0, u64::from(HEADER));
    bench.vm.memwrite(BUFFERS + u64::from(HEADER), &frame(OTHER, b"next"));
    bench.tx.add(&mut bench.vm, &[(BUFFERS, HEADER + 18, false)]);
    bench.tx.kick(&mut bench.vm);
    assert_eq!(bench.leaves(), frame(OTHER, b"next"));
    assert_eq!([0, 1].map(|_| bench.tx.wait_used(&mut bench.vm)), [(0, 0), (65, 0)]);
    assert_eq!(bench.device.status(&mut bench.vm) & NEEDS_RESET, 0);
}

#[test]
fn a_header_that_is_not_whole_breaks_the_device() {
    let mut bench = Bench::new(0);
    bench.tx.add(&mut bench.vm, &[(BUFFERS, HEADER - 1, false)]);
    bench.tx.kick(&mut bench.vm);
    bench.device.wait_broken(&mut bench.vm);
    assert_eq!(bench.tx.used(&mut bench.vm), None);
    bench.device.set_status(&mut bench.vm, 0);
    let (_, [mut rx, ..]) = drive(&mut bench.vm, 0);
    rx.add(&mut bench.vm, &[(BUFFERS, 100, true)]);
    rx.kick(&mut bench.vm);
    bench.arrives(&frame(OWN, b"again"));
    assert_eq!(rx.wait_used(&mut bench.vm), (0, HEADER + 19));
}

#[test]
fn the_filter_does_as_the_control_queue_says_until_a_reset() {
    let mut bench = Bench::new(CONTROL);
    assert_eq!(bench.filter()["promiscuous"], true);
    assert!(bench.command(0, 0, &[0]), "not promiscuous");
    (0..4).for_each(|n| bench.offer(n, 100));
    bench.arrives(&frame(OTHER, b"for another"));
    bench.arrives(&vlan_frame(7, b"a VLAN that was not added"));
    bench.arrives(&frame(OWN, b"mine"));
    assert_eq!(bench.received(), frame(OWN, b"mine"));
    // One unicast address, no multicast address; a VLAN.
    let table = [&[1, 0, 0, 0][..], &OTHER, &[0; 4]].concat();
    assert!(bench.command(1, 0, &table) && bench.command(2, 0, &[7, 0]));
    bench.arrives(&frame(OTHER, b"in the table"));
    bench.arrives(&vlan_frame(7, b"added"));
    assert_eq!(bench.received(), frame(OTHER, b"in the table"));
    assert_eq!(bench.received(), vlan_frame(7, b"added"));
    assert!(bench.command(1, 1, &[2, 0, 0, 0, 0, 8]), "another address");
    assert_eq!(bench.vm.memread(bench.device.device, 6), [2, 0, 0, 0, 0, 8]);
    let filter = bench.filter();
    assert_eq!((&filter["main-mac"], &filter["vlan-table"]), (&json!("02:00:00:00:00:08"), &json!([7])));
    assert_eq!(filter["unicast-table"], json!(["02:00:00:00:00:09"]));
    // Classes, commands, lengths that there are not; two pairs of queues, where the backend has one.
    for (class, command, data) in
        [(9, 0, &[0][..]), (0, 9, &[0]), (1, 1, &[1; 5]), (2, 0, &[0, 0x10]), (4, 0, &[2, 0]), (3, 0, &[])]
    {
        assert!(!bench.command(class, command, data), "{class} {command}");
    }
    assert_eq!(bench.filter(), filter, "nothing changed");
    bench.device.set_status(&mut bench.vm, 0);
    let filter = bench.filter();
    assert_eq!((&filter["promiscuous"], &filter["unicast-table"]), (&json!(true), &json!([])));
    assert_eq!(filter["main-mac"], "52:54:00:12:34:56");
}

#[test]
fn the_driver_hears_of_the_link_and_is_asked_to_announce_itself() {
    let mut bench = Bench::new(CONTROL);
    assert_eq!(bench.net_status(), LINK_UP);
    bench.qmp("set_link", json!({"name": "card", "up": false}));
    assert_eq!((bench.net_status(), bench.device.read_isr(&mut bench.vm)), (0, ISR_CONFIG));
    bench.qmp("set_link", json!({"name": "card", "up": true}));
    assert_eq!((bench.net_status(), bench.device.read_isr(&mut bench.vm)), (LINK_UP, ISR_CONFIG));
    bench.qmp("announce-self", json!({"initial": 50, "max": 550, "rounds": 1, "step": 50}));
    // The device's own announcement (RARP), then the driver's turn.
    assert_eq!(bench.leaves()[12..14], [0x80, 0x35]);
    assert_eq!(bench.net_status(), LINK_UP | ANNOUNCE);
    assert!(bench.command(3, 0, &[]), "acknowledged");
    assert_eq!(bench.net_status(), LINK_UP);
}

#[test]
fn a_saved_state_brings_the_driver_back() {
    let mut bench = Bench::new(CONTROL);
    assert!(bench.command(0, 0, &[0]) && bench.command(1, 1, &OTHER) && bench.command(2, 0, &[9, 0]));
    bench.offer(0, 100);
    let path = json!({"path": "/machine/peripheral/card/virtio-backend", "property": "state"});
    let (state, filter) = (bench.qmp("qom-get", path.clone()), bench.filter());
    bench.device.set_status(&mut bench.vm, 0);
    assert_ne!(bench.filter(), filter);
    bench.qmp("stop", json!({}));
    let mut with_value = path.clone();
    with_value["value"] = state.clone();
    bench.qmp("qom-set", with_value);
    assert_eq!((bench.filter(), bench.qmp("qom-get", path.clone())), (filter, state.clone()));
    let mut impossible = path;
    impossible["value"] = state;
    impossible["value"]["virtio-net-device"]["state"]["pairs"] = json!(2);
    let refused = bench.vm.qmp_raw(&json!({"execute": "qom-set", "arguments": impossible}).to_string());
    assert_eq!(refused["error"]["desc"], "the state is of a device with 2 pairs of queues");
    bench.qmp("cont", json!({}));
    bench.arrives(&frame(OWN, b"not its address any more"));
    bench.arrives(&frame(OTHER, b"its address"));
    assert_eq!(bench.received(), frame(OTHER, b"its address"));
}
