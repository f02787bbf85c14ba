//! Sequences of registers, as ATA/ATAPI-6 has them; disks are memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::channel::{Channel, Job};
use crate::drive::{Drive, Kind, Medium};
use crate::jobs::Ended;
use crate::spec::{CD_SECTOR, SECTOR, cmd, control, feature, packet, reg, status};

const READY: u8 = status::READY | status::SEEK;
const FAILED: u8 = status::READY | status::ERR;

struct Disk {
    sectors: AtomicU64,
    cache: AtomicBool,
}

impl Medium for Disk {
    fn sectors(&self) -> u64 {
        self.sectors.load(Ordering::Relaxed)
    }
    fn is_inserted(&self) -> bool {
        self.sectors() > 0
    }
    fn write_cache(&self) -> bool {
        self.cache.load(Ordering::Relaxed)
    }
    fn set_write_cache(&self, on: bool) {
        self.cache.store(on, Ordering::Relaxed);
    }
}

/// A channel with a disk of 1 MiB in the first place, and a CD of that size in the second.
struct Machine {
    channel: Channel,
    media: [Arc<Disk>; 2],
    /// What is on both.
    data: Mutex<Vec<u8>>,
    /// Jobs are left alone.
    is_slow: bool,
    pending: Option<crate::channel::Task>,
}

fn drive(kind: Kind, medium: &Arc<Disk>) -> Drive {
    Drive {
        kind,
        serial: "SERIAL".to_owned(),
        model: "MODEL".to_owned(),
        version: "1.0".to_owned(),
        wwn: 0,
        geometry: (2, 16, 63),
        trims: true,
        physical_exponent: 0,
        rotation_rate: 0,
        medium: medium.clone(),
    }
}

impl Machine {
    fn new() -> Machine {
        let disk = || Arc::new(Disk { sectors: AtomicU64::new(2048), cache: AtomicBool::new(true) });
        let (media, mut channel) = ([disk(), disk()], Channel::new());
        channel.add(0, drive(Kind::Disk, &media[0]));
        channel.add(1, drive(Kind::Cd, &media[1]));
        let data = (0..1usize << 20).map(|n| (n / 512) as u8 ^ n as u8).collect();
        Machine { channel, media, data: Mutex::new(data), is_slow: false, pending: None }
    }

    /// Does the jobs that there are.
    fn settle(&mut self) {
        if let Some(task) = self.channel.take_effects().task {
            self.pending = Some(task);
        }
        while let Some(task) = self.pending.take_if(|_| !self.is_slow) {
            if matches!(task.job, Job::Dma(_)) {
                if self.channel.prepare_dma(&task, None).is_some() {
                    self.channel.finish(&task, Ended::Done(Vec::new()), None);
                }
            } else {
                let data = self.carry_out(task.job);
                self.channel.finish(&task, Ended::Done(data), None);
            }
            self.pending = self.channel.take_effects().task;
        }
    }

    fn carry_out(&self, job: Job) -> Vec<u8> {
        let (at, len) = match job {
            Job::Read { sector, count } | Job::Write { sector, count } => {
                (sector * SECTOR, u64::from(count) * SECTOR)
            }
            Job::ReadCd { lba, count } | Job::ReadCdDma { lba, count } => {
                (u64::from(lba) * u64::from(CD_SECTOR), u64::from(count) * u64::from(CD_SECTOR))
            }
            _ => return Vec::new(),
        };
        let mut data = self.data.lock();
        let place = &mut data[at as usize..(at + len) as usize];
        if matches!(job, Job::Write { .. }) {
            place.copy_from_slice(&self.channel.outgoing()[..len as usize]);
        }
        place.to_vec()
    }

    fn write(&mut self, at: u64, value: u8) {
        self.channel.write(at, value);
        self.settle();
    }

    /// Features, Sector Count, Sector Number, Cylinder Low and High, Device; then the command.
    fn command(&mut self, registers: [u8; 6], command: u8) -> u8 {
        let [features, count, sector, low, high, device] = registers;
        self.write(reg::DEVICE, device);
        for (at, value) in (reg::ERROR..).zip([features, count, sector, low, high]) {
            self.write(at, value);
        }
        self.write(7, command);
        self.status()
    }

    fn status(&mut self) -> u8 {
        self.channel.read(7)
    }

    fn read_data(&mut self, len: usize) -> Vec<u8> {
        let mut data = Vec::new();
        while data.len() < len {
            data.extend((self.channel.read_data(2) as u16).to_le_bytes());
            self.settle();
        }
        data
    }

    fn write_data(&mut self, data: &[u8]) {
        for word in data.chunks(2) {
            self.channel.write_data(u64::from(word[0]) | u64::from(word[1]) << 8, 2);
            self.settle();
        }
    }

    fn sectors(&self, sector: usize, count: usize) -> Vec<u8> {
        self.data.lock()[sector * 512..(sector + count) * 512].to_vec()
    }

    /// Gives the CD-ROM drive a packet, with this many bytes at once.
    fn packet(&mut self, limit: u16, packet: &[u8]) -> u8 {
        let [low, high] = limit.to_le_bytes();
        assert_eq!(self.command([0, 0, 0, low, high, 0x10], cmd::PACKET), READY | status::DRQ);
        let mut bytes = packet.to_vec();
        bytes.resize(12, 0);
        self.write_data(&bytes);
        self.status()
    }

    /// What a packet command gives.
    fn answer(&mut self, packet: &[u8]) -> Vec<u8> {
        assert_eq!(self.packet(0xfffe, packet), READY | status::DRQ, "{packet:x?}");
        let len = u16::from_le_bytes([self.channel.read(4), self.channel.read(5)]);
        let mut data = self.read_data(len.into());
        data.truncate(len.into());
        assert_eq!(self.status(), READY);
        data
    }
}

#[test]
fn sectors_are_read_and_written_by_each_kind_of_address() {
    let mut machine = Machine::new();
    // Cylinder 1, head 2, sector 3.
    let at = (16 + 2) * 63 + 2;
    assert_eq!(machine.command([0, 2, 3, 1, 0, 2], cmd::READ_SECTORS), READY | status::DRQ);
    assert_eq!(machine.read_data(512), machine.sectors(at, 1));
    assert_eq!(machine.status(), READY | status::DRQ, "the second");
    assert_eq!(machine.read_data(512), machine.sectors(at + 1, 1));
    assert_eq!(machine.status(), READY);
    let wanted = machine.sectors(0x123, 1);
    machine.command([0, 1, 0x23, 1, 0, 0x40], cmd::READ_SECTORS);
    assert_eq!(machine.read_data(512), wanted);
    // 48 bits: what was written before is the upper half.
    machine.write(reg::DEVICE, 0x40);
    for (at, values) in (reg::SECTOR_COUNT..).zip([[0, 1], [0, 0x23], [0, 1], [0, 0]]) {
        values.into_iter().for_each(|value| machine.write(at, value));
    }
    machine.write(7, cmd::READ_SECTORS_EXT);
    assert_eq!(machine.read_data(512), wanted);
    assert_eq!(machine.command([0, 2, 0xff, 7, 0, 0x40], cmd::WRITE_SECTORS), READY | status::DRQ);
    machine.write_data(&[0x5a; 512]);
    assert_eq!(machine.sectors(2047, 1), [0x5a; 512]);
    assert_eq!(machine.status(), READY | status::DRQ);
    machine.write_data(&[0x5a; 512]);
    assert_eq!((machine.status(), machine.channel.read(1)), (FAILED, 4), "the second is beyond the end");
}

/// A command that failed leaves 256 where a count of 0 was, and the next takes that for the sectors of a track.
#[test]
fn tracks_may_have_more_sectors_than_their_register_counts() {
    let mut machine = Machine::new();
    assert_eq!(machine.command([0, 0, 0xff, 0xff, 0xff, 0x40], cmd::READ_SECTORS), FAILED);
    machine.write(reg::DEVICE, 0);
    machine.write(7, cmd::INITIALIZE_DEVICE_PARAMETERS);
    machine.write(7, cmd::READ_NATIVE_MAX);
    assert_eq!(machine.status(), READY);
    let registers = [reg::SECTOR_NUMBER, reg::CYLINDER_LOW].map(|at| machine.channel.read(at));
    assert_eq!(registers, [0, 7], "the last of 2048 sectors");
}

#[test]
fn as_many_sectors_come_at_once_as_was_chosen() {
    let mut machine = Machine::new();
    assert_eq!(machine.command([0, 3, 0, 0, 0, 0x40], cmd::SET_MULTIPLE_MODE), FAILED);
    assert_eq!(machine.command([0, 4, 0, 0, 0, 0x40], cmd::SET_MULTIPLE_MODE), READY);
    assert_eq!(machine.command([0, 6, 0, 0, 0, 0x40], cmd::READ_MULTIPLE), READY | status::DRQ);
    machine.channel.read(7);
    assert_eq!(machine.read_data(4 * 512), machine.sectors(0, 4));
    assert!(machine.channel.irq_level(), "then comes the rest");
    assert_eq!(machine.read_data(2 * 512), machine.sectors(4, 2));
    assert_eq!(machine.status(), READY);
    machine.command([0, 0, 0, 0, 0, 0x40], cmd::SET_MULTIPLE_MODE);
    assert_eq!(machine.command([0, 6, 0, 0, 0, 0x40], cmd::READ_MULTIPLE), FAILED, "switched off");
}

#[test]
fn a_disk_says_what_it_is_and_what_was_chosen() {
    let mut machine = Machine::new();
    let identify = |machine: &mut Machine| {
        machine.command([0, 0, 0, 0, 0, 0], cmd::IDENTIFY_DEVICE);
        let bytes = machine.read_data(512);
        bytes.chunks(2).map(|word| u16::from_le_bytes([word[0], word[1]])).collect::<Vec<_>>()
    };
    let words = identify(&mut machine);
    assert_eq!((words[1], words[3], words[6]), (2, 16, 63));
    assert_eq!((words[10], words[60], words[88], words[85] & 0x20), (0x5345, 2048, 0x203f, 0x20));
    machine.command([feature::DISABLE_WRITE_CACHE, 0, 0, 0, 0, 0], cmd::SET_FEATURES);
    machine.command([feature::SET_TRANSFER_MODE, 0x22, 0, 0, 0, 0], cmd::SET_FEATURES);
    machine.command([0, 32, 0, 0, 0, 7], cmd::INITIALIZE_DEVICE_PARAMETERS);
    let words = identify(&mut machine);
    assert_eq!((words[63], words[88], words[85] & 0x20), (0x407, 0x3f, 0));
    assert_eq!((words[54], words[55], words[56], words[57]), (2, 8, 32, 512));
    assert_eq!(machine.command([0x77, 0, 0, 0, 0, 0], cmd::SET_FEATURES), FAILED);
    // A packet device is told by its registers.
    machine.command([0, 0, 0, 0, 0, 0x10], cmd::IDENTIFY_DEVICE);
    assert_eq!((machine.channel.read(4), machine.channel.read(5)), (0x14, 0xeb));
}

#[test]
fn a_reset_in_mid_transfer_is_a_reset() {
    let mut machine = Machine::new();
    machine.is_slow = true;
    machine.command([0, 1, 0, 0, 0, 0x40], cmd::READ_SECTORS);
    assert_eq!(machine.status() & status::BUSY, status::BUSY);
    let late = machine.pending.expect("it is read");
    machine.write(reg::SECTOR_COUNT, 7);
    assert_eq!(machine.channel.read(2), 1, "busy devices take nothing");
    machine.channel.write_control(control::SRST | control::NIEN);
    machine.channel.write_control(control::NIEN);
    machine.channel.finish(&late, Ended::Done(vec![1; 512]), None);
    assert_eq!((machine.status(), machine.channel.read(1)), (READY, 1));
    assert_eq!([2, 3, 4, 5].map(|at| machine.channel.read(at)), [1, 1, 0, 0]);
    assert_eq!(machine.channel.read_data(2), 0);
    machine.write(reg::DEVICE, 0x10);
    assert_eq!((machine.status(), machine.channel.read(4), machine.channel.read(5)), (0, 0x14, 0xeb));
    assert!(!machine.channel.irq_level(), "nobody wants interrupts");
}

#[test]
fn what_failed_and_stopped_the_machine_is_tried_again() {
    let mut machine = Machine::new();
    machine.is_slow = true;
    machine.command([0, 1, 5, 0, 0, 0x40], cmd::WRITE_SECTORS);
    machine.write_data(&[0x77; 512]);
    let task = machine.pending.take().expect("it is written");
    machine.channel.finish(&task, Ended::Stopped, None);
    let saved = machine.channel.save();
    assert!(machine.pending.is_none());
    let mut other = Machine::new();
    other.channel.load(saved).expect("its own state");
    for machine in [&mut machine, &mut other] {
        machine.is_slow = false;
        machine.channel.resume();
        machine.settle();
        assert_eq!((machine.status(), machine.sectors(5, 1)), (READY, vec![0x77; 512]));
    }
}

#[test]
fn a_transfer_goes_on_after_its_state_was_restored() {
    let mut machine = Machine::new();
    machine.command([0, 2, 0, 0, 0, 0x40], cmd::READ_SECTORS);
    let first = machine.read_data(100);
    let mut other = Machine::new();
    other.channel.load(machine.channel.save()).expect("its own state");
    let rest = other.read_data(924);
    assert_eq!([first, rest].concat(), machine.sectors(0, 2));
    let mut bad = machine.channel.save();
    bad.devices[0].end = 5000;
    assert!(other.channel.load(bad).is_err());
}

#[test]
fn smart_says_that_all_is_well() {
    let mut machine = Machine::new();
    let smart =
        |machine: &mut Machine, what, sector| machine.command([what, 0, sector, 0x4f, 0xc2, 0], cmd::SMART);
    assert_eq!(machine.command([feature::SMART_READ_DATA, 0, 0, 0, 0, 0], cmd::SMART), FAILED);
    for what in [feature::SMART_READ_DATA, feature::SMART_READ_THRESHOLDS] {
        assert_eq!(smart(&mut machine, what, 0), READY | status::DRQ);
        let page = machine.read_data(512);
        assert_eq!(page.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), 0, "the checksum");
    }
    for kind in (0..3).cycle().take(22) {
        assert_eq!(smart(&mut machine, feature::SMART_EXECUTE_OFFLINE, kind), READY);
    }
    smart(&mut machine, feature::SMART_READ_LOG, 6);
    let log = machine.read_data(512);
    assert_eq!((log[508], log[2], log[26]), (1, 0, 1), "the 22nd took the first one's place");
    smart(&mut machine, feature::SMART_DISABLE, 0);
    assert_eq!(smart(&mut machine, feature::SMART_RETURN_STATUS, 0), FAILED);
}

#[test]
fn packets_have_their_data_in_pieces_of_the_guests_choice() {
    let mut machine = Machine::new();
    let read = [packet::READ_10, 0, 0, 0, 0, 2, 0, 0, 3];
    assert_eq!(machine.packet(2500, &read), READY | status::DRQ);
    let mut data = Vec::new();
    for size in [2500u16, 2500, 1144] {
        assert_eq!(machine.status(), READY | status::DRQ);
        assert_eq!([machine.channel.read(4), machine.channel.read(5)], size.to_le_bytes());
        assert_eq!(machine.channel.read(2) & 7, 2, "to the host");
        data.extend(machine.read_data(size.into()));
    }
    assert_eq!((machine.status(), machine.channel.read(2) & 7), (READY, 3));
    assert_eq!(data, machine.sectors(8, 12));
    assert_eq!(machine.packet(0, &read), FAILED, "no data without a limit");
    assert_eq!(machine.packet(0, &[0; 12]), READY);
    // All of a sector, and what is around it.
    let raw = machine.answer(&[packet::READ_CD, 0, 0, 0, 0, 1, 0, 0, 1, 0xf8]);
    assert_eq!(
        (raw.len(), &raw[..16]),
        (2352, &[0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 2, 1, 1][..])
    );
    assert_eq!(raw[16..2064], machine.sectors(4, 4));
    assert_eq!(machine.packet(2048, &[packet::READ_10, 0, 0, 0, 2, 0, 0, 0, 1]), FAILED);
    assert_eq!(
        machine.answer(&[packet::REQUEST_SENSE, 0, 0, 0, 18])[..14],
        [0xf0, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x21, 0]
    );
    // An odd byte at the end comes with a zero.
    assert_eq!(machine.answer(&[packet::REQUEST_SENSE, 0, 0, 0, 3]), [0xf0, 0, 5]);
}

#[test]
fn a_medium_goes_before_another_comes() {
    let mut machine = Machine::new();
    assert_eq!(machine.answer(&[packet::READ_CAPACITY]), [0, 0, 1, 255, 0, 0, 8, 0]);
    machine.media[1].sectors.store(4096, Ordering::Relaxed);
    machine.channel.change_media(1, false);
    assert_eq!(machine.channel.tray(1), (true, false));
    assert_eq!(machine.packet(64, &[0]), FAILED);
    machine.channel.change_media(1, true);
    let sense = |machine: &mut Machine| {
        let data = machine.answer(&[packet::REQUEST_SENSE, 0, 0, 0, 18]);
        (data[2], data[12])
    };
    assert_eq!(machine.packet(64, &[0]), FAILED);
    assert_eq!(sense(&mut machine), (2, 0x3a), "the old one is gone");
    assert_eq!(machine.packet(64, &[0]), FAILED);
    assert_eq!(machine.packet(64, &[0]), status::ERR, "that is to be asked first");
    assert_eq!(sense(&mut machine), (6, 0x28), "there is a new one");
    assert_eq!(machine.packet(64, &[0]), READY);
    assert_eq!(machine.answer(&[packet::READ_CAPACITY]), [0, 0, 3, 255, 0, 0, 8, 0]);
    let event = [packet::GET_EVENT_STATUS_NOTIFICATION, 1, 0, 0, 16, 0, 0, 0, 8];
    assert_eq!(machine.answer(&event), [0, 4, 4, 16, 2, 2, 0, 0]);
    assert_eq!(machine.answer(&event), [0, 4, 4, 16, 0, 2, 0, 0], "which is told once");
    machine.packet(64, &[packet::PREVENT_ALLOW_MEDIUM_REMOVAL, 0, 0, 0, 1]);
    assert_eq!(machine.packet(64, &[packet::START_STOP_UNIT, 0, 0, 0, 2]), FAILED);
    machine.channel.eject_request(1, true);
    assert_eq!(machine.answer(&event), [0, 4, 4, 16, 1, 2, 0, 0], "somebody wants it out");
    assert_eq!(machine.packet(64, &[packet::START_STOP_UNIT, 0, 0, 0, 2]), READY);
    assert!(machine.channel.tray(1).0);
}

#[test]
fn no_access_is_too_strange() {
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let packets = [
        0u8, 3, 0x12, 0x1b, 0x1e, 0x25, 0x28, 0x2b, 0x43, 0x46, 0x4a, 0x51, 0x5a, 0xa8, 0xad, 0xbb, 0xbd,
        0xbe,
    ];
    let mut machine = Machine::new();
    for round in 0..200_000 {
        let value = next();
        match value % 16 {
            0..=4 => machine.write(value >> 8 & 7, (value >> 16) as u8),
            5 => {
                machine.write(7, [0xa0, 0xec, 0xc8, 0x20, 0x30, 0xc4, 0xe7, 0x06][(value >> 16) as usize & 7])
            }
            6 => machine.channel.write_bm_command((value >> 16) as u8),
            7 => machine.channel.write_table(0, value >> 16, 4),
            8 if value >> 8 & 63 == 0 => machine.channel.write_control((value >> 16) as u8),
            9 => {
                let bytes =
                    [&[packets[(value >> 16) as usize % packets.len()]], &next().to_le_bytes()[..], &[0; 3]];
                machine.write_data(&bytes.concat());
            }
            10 => machine.channel.change_media(1, value & 64 != 0),
            11 => machine.is_slow = value & 64 != 0,
            12 if value & 64 != 0 => machine.channel.write_bm_status((value >> 16) as u8),
            _ => drop(machine.read_data((value >> 8 & 1023) as usize)),
        }
        machine.settle();
        if round % 64 == 0 {
            let state = machine.channel.save();
            assert!(state.devices.iter().all(|device| device.check().is_ok()), "{round}");
            machine.channel.load(state).expect("its own state");
            machine.channel.resume();
            machine.settle();
        }
    }
    machine.is_slow = false;
    machine.channel.reset();
    machine.pending = None;
    assert_eq!(machine.channel.bus_master(), (0, 0));
    assert_eq!(machine.channel.job(), None);
    machine.command([0, 1, 0, 0, 0, 0x40], cmd::READ_SECTORS);
    assert_eq!(machine.read_data(512), machine.sectors(0, 1));
}
