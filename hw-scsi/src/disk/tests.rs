//! Sequences of commands, as SPC-4, SBC-3 and MMC-6 have them.

use block::backend::Op;

use super::*;
use crate::plan::Step;

/// A disk of 1 MiB, or a CD of that size.
fn disk(is_rom: bool) -> Disk {
    let sizes = BlockSizes { logical: 512, physical: 4096, min_io: 0, opt_io: 0, discard: None };
    let mut disk = Disk::new(DiskConf {
        is_rom,
        removable: is_rom,
        dpofua: true,
        serial: Some("abc".to_owned()),
        vendor: "QEMU".to_owned(),
        product: "THING".to_owned(),
        version: "1".to_owned(),
        device_id: None,
        wwn: 0,
        port_wwn: 0,
        port_index: 0,
        max_unmap_size: 1 << 30,
        max_io_size: i32::MAX as u64,
        rotation_rate: 0,
        scsi_version: 5,
        sizes,
        discard_granularity: 4096,
        geometry: (2, 16, 63),
        block_size: if is_rom { 2048 } else { 512 },
        queues_commands: true,
        quirks: Quirks::default(),
    });
    disk.reset(&MEDIUM);
    disk
}

/// What commands without data give.
const NOTHING: [u8; 0] = [];

const MEDIUM: Medium = Medium { is_inserted: true, sectors: 2048, is_writable: true, write_cache: true };

/// Gives a command with its data to a drive.
fn run(disk: &mut Disk, cdb: &[u8], data: &[u8], medium: &Medium) -> Reply {
    let cdb = Cdb::parse(cdb, disk.target()).expect("a command");
    disk.execute(&cdb, data, medium)
}

fn data(reply: Reply) -> Vec<u8> {
    match reply {
        Reply::Data(bytes) => bytes,
        other => panic!("no data: {other:?}"),
    }
}

fn sense(reply: Reply) -> Sense {
    match reply {
        Reply::Check(sense) => sense,
        other => panic!("no failure: {other:?}"),
    }
}

/// What the backend is to do: each request's operation, offset and length, and how the command ends.
fn requests(reply: Reply) -> (Vec<(Op, u64, u64)>, Option<Sense>) {
    let Reply::Io(mut plan) = reply else { panic!("no requests: {reply:?}") };
    let mut found = Vec::new();
    while let Some(Step { op, offset, bytes, .. }) = plan.now() {
        found.push((op, offset, bytes));
        plan.advance();
    }
    (found, plan.failure)
}

fn cdb10(opcode: u8, flags: u8, lba: u32, blocks: u16) -> [u8; 10] {
    let ([a, b, c, d], [e, f]) = (lba.to_be_bytes(), blocks.to_be_bytes());
    [opcode, flags, a, b, c, d, 0, e, f, 0]
}

#[test]
fn reads_and_writes_are_within_the_disk() {
    let mut disk = disk(false);
    let read = |disk: &mut Disk, lba, blocks| run(disk, &cdb10(op::READ_10, 0, lba, blocks), &[], &MEDIUM);
    assert_eq!(requests(read(&mut disk, 2046, 2)).0, [(Op::Read, 2046 * 512, 1024)]);
    assert_eq!(sense(read(&mut disk, 2046, 3)), Sense::LBA_OUT_OF_RANGE);
    assert_eq!(sense(read(&mut disk, u32::MAX, u16::MAX)), Sense::LBA_OUT_OF_RANGE);
    assert_eq!(requests(read(&mut disk, 0, 0)).0, []);
    // In commands of 6 bytes no blocks are 256.
    let six = run(&mut disk, &[op::READ_6, 0, 0, 1, 0, 0], &[], &MEDIUM);
    assert_eq!(requests(six).0, [(Op::Read, 512, 256 * 512)]);
    let forced = run(&mut disk, &cdb10(op::WRITE_10, 8, 1, 1), &[], &MEDIUM);
    assert_eq!(requests(forced).0, [(Op::Write, 512, 512), (Op::Flush, 0, 0)]);
    let read_only = Medium { is_writable: false, ..MEDIUM };
    let write = run(&mut disk, &cdb10(op::WRITE_10, 0, 1, 1), &[], &read_only);
    assert_eq!(sense(write), Sense::WRITE_PROTECTED);
}

#[test]
fn a_disk_that_grew_is_as_large_as_the_guest_knows() {
    let mut disk = disk(false);
    let grown = Medium { sectors: 4096, ..MEDIUM };
    let at_end = cdb10(op::READ_10, 0, 4095, 1);
    assert_eq!(sense(run(&mut disk, &at_end, &[], &grown)), Sense::LBA_OUT_OF_RANGE);
    let capacity = data(run(&mut disk, &cdb10(op::READ_CAPACITY_10, 0, 0, 0), &[], &grown));
    assert_eq!(capacity, [0, 0, 0x0f, 0xff, 0, 0, 2, 0]);
    assert_eq!(requests(run(&mut disk, &at_end, &[], &grown)).0, [(Op::Read, 4095 * 512, 512)]);
    let mut sixteen = [0; 16];
    (sixteen[0], sixteen[1], sixteen[13]) = (op::SERVICE_ACTION_IN_16, SAI_READ_CAPACITY_16, 32);
    let capacity = data(run(&mut disk, &sixteen, &[], &grown));
    assert_eq!(
        (&capacity[..12], capacity[13], capacity[14]),
        (&[0, 0, 0, 0, 0, 0, 0xf, 0xff, 0, 0, 2, 0][..], 3, 0x80)
    );
}

#[test]
fn what_is_unmapped_is_looked_at_in_order() {
    let mut disk = disk(false);
    let descriptor =
        |lba: u64, blocks: u32| [&lba.to_be_bytes()[..], &blocks.to_be_bytes(), &[0; 4]].concat();
    let list = [&[0, 38, 0, 32, 0, 0, 0, 0][..], &descriptor(8, 16), &descriptor(2048, 1)].concat();
    let unmap = |disk: &mut Disk, flags, list: &[u8]| {
        run(disk, &cdb10(op::UNMAP, flags, 0, list.len() as u16), list, &MEDIUM)
    };
    let (done, failure) = requests(unmap(&mut disk, 0, &list));
    assert_eq!(
        (&done[..], failure),
        (&[(Op::Discard, 8 * 512, 16 * 512)][..], Some(Sense::LBA_OUT_OF_RANGE))
    );
    assert_eq!(sense(unmap(&mut disk, 1, &list)), Sense::INVALID_FIELD);
    assert_eq!(sense(unmap(&mut disk, 0, &list[..39])), Sense::INVALID_PARAM_LEN);
    assert_eq!(data(unmap(&mut disk, 0, &[])), NOTHING);
}

#[test]
fn the_same_block_is_written_again_and_again() {
    let mut disk = disk(false);
    let same = |disk: &mut Disk, flags, blocks, block: &[u8]| {
        run(disk, &cdb10(op::WRITE_SAME_10, flags, 2, blocks), block, &MEDIUM)
    };
    let zeroes = |may_unmap| [(Op::WriteZeroes { may_unmap }, 1024, 1024)];
    assert_eq!(requests(same(&mut disk, 0, 2, &[0; 512])).0, zeroes(false));
    assert_eq!(requests(same(&mut disk, 8, 2, &[0; 512])).0, zeroes(true));
    // Without a block it is one of zeroes.
    assert_eq!(requests(same(&mut disk, 1, 2, &[])).0, zeroes(false));
    assert_eq!(requests(same(&mut disk, 0, 2, &[7; 512])).0, [(Op::Write, 1024, 1024)]);
    let long = requests(same(&mut disk, 0, 2046, &[7; 512])).0;
    assert_eq!(long.iter().map(|(_, _, bytes)| bytes).sum::<u64>(), 2046 * 512);
    assert_eq!(sense(same(&mut disk, 0, 0, &[0; 512])), Sense::INVALID_FIELD);
    assert_eq!(sense(same(&mut disk, 0, 2047, &[0; 512])), Sense::LBA_OUT_OF_RANGE);
    assert_eq!(sense(same(&mut disk, 2, 2, &[0; 512])), Sense::INVALID_FIELD);
}

#[test]
fn a_tray_that_is_locked_stays_shut() {
    let mut disk = disk(true);
    let start_stop = |disk: &mut Disk, what| run(disk, &[op::START_STOP, 0, 0, 0, what, 0], &[], &MEDIUM);
    let lock = |disk: &mut Disk, on| run(disk, &[op::ALLOW_MEDIUM_REMOVAL, 0, 0, 0, on, 0], &[], &MEDIUM);
    assert_eq!(data(lock(&mut disk, 1)), NOTHING);
    assert_eq!(sense(start_stop(&mut disk, 2)), Sense::ILLEGAL_REQ_REMOVAL_PREVENTED);
    assert_eq!(data(lock(&mut disk, 0)), NOTHING);
    assert!(matches!(start_stop(&mut disk, 2), Reply::Tray(true)));
    assert_eq!(data(start_stop(&mut disk, 2)), NOTHING, "it is open");
    assert_eq!(sense(run(&mut disk, &[0; 6], &[], &MEDIUM)), Sense::NO_MEDIUM);
    assert!(matches!(start_stop(&mut disk, 3), Reply::Tray(false)));
    assert_eq!(data(run(&mut disk, &[0; 6], &[], &MEDIUM)), NOTHING);
    assert_eq!(sense(run(&mut disk, &cdb10(op::WRITE_10, 0, 0, 1), &[], &MEDIUM)), Sense::WRITE_PROTECTED);
}

#[test]
fn a_medium_goes_before_another_comes() {
    let mut disk = disk(true);
    assert_eq!(disk.state.unit_attention.take(), Some(Sense::RESET));
    disk.change_media(true);
    assert_eq!(disk.state.unit_attention.take(), Some(Sense::UNIT_ATTENTION_NO_MEDIUM));
    disk.unit_attention_reported();
    assert_eq!(disk.state.unit_attention.take(), Some(Sense::MEDIUM_CHANGED));
    disk.unit_attention_reported();
    assert_eq!(disk.state.unit_attention, None);
    let event = |disk: &mut Disk| {
        data(run(disk, &cdb10(op::GET_EVENT_STATUS_NOTIFICATION, 1, 0x1000, 8), &[], &MEDIUM))
    };
    assert_eq!(event(&mut disk), [0, 4, 4, 16, 2, 2, 0, 0], "there is a new medium");
    assert_eq!(event(&mut disk), [0, 4, 4, 16, 0, 2, 0, 0], "which is told once");
    let toc = data(run(&mut disk, &cdb10(op::READ_TOC, 0, 0, 64), &[], &MEDIUM));
    assert_eq!(toc, [0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x16, 0xaa, 0, 0, 0, 2, 0]);
}

#[test]
fn no_command_is_too_strange() {
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for is_rom in [false, true] {
        let mut disk = disk(is_rom);
        for _ in 0..20_000 {
            let bytes = [next().to_le_bytes(), (next() & next()).to_le_bytes()].concat();
            let Some(cdb) = Cdb::parse(&bytes, disk.target()) else { continue };
            let given = bytes.repeat(8);
            let len = usize::try_from(cdb.transfer).unwrap_or(0).min(given.len());
            let medium = Medium { is_inserted: next() % 8 > 0, sectors: 2048, ..MEDIUM };
            if let Reply::Io(plan) = disk.execute(&cdb, &given[..len], &medium) {
                let (found, _) = requests(Reply::Io(plan));
                assert!(found.iter().all(|(_, offset, bytes)| offset + bytes <= 2048 * 512), "{cdb:?}");
            }
            assert!(disk.state.check().is_ok(), "{cdb:?}");
            if next() % 64 == 0 {
                disk.reset(&MEDIUM);
            }
        }
    }
}

#[test]
fn old_macintosh_systems_find_their_pages() {
    let sense_page = |page: u8, control: u8| [0x1a, 0, control << 6 | page, 0, 255, 0];
    let mut cd = disk(true);
    assert_eq!(sense(run(&mut cd, &sense_page(0x30, 0), &[], &MEDIUM)), Sense::INVALID_FIELD);
    cd.conf.quirks.apple_vendor_page = true;
    let page = data(run(&mut cd, &sense_page(0x30, 0), &[], &MEDIUM));
    assert_eq!((page[3], page[4], page[5], &page[14..36]), (0, 0x30, 0x1e, &b"APPLE COMPUTER, INC   "[..]));
    // A descriptor, but not beside Apple's page.
    let caching = sense_page(8, 0);
    assert_eq!(data(run(&mut cd, &caching, &[], &MEDIUM))[3], 0);
    cd.conf.quirks.rom_has_descriptor = true;
    assert_eq!(data(run(&mut cd, &caching, &[], &MEDIUM))[3], 8);
    assert_eq!(data(run(&mut cd, &sense_page(0x30, 0), &[], &MEDIUM))[3], 0);

    let mut disk = disk(false);
    let without_format = [0x15, 0, 0, 0, 8, 0];
    let select = [0, 0, 0, 0, 0, 2, 0x12, 0x34];
    assert_eq!(sense(run(&mut disk, &without_format, &select, &MEDIUM)), Sense::INVALID_FIELD);
    disk.conf.quirks.vendor_specific_page = true;
    assert!(matches!(run(&mut disk, &without_format, &select, &MEDIUM), Reply::WriteCache(None)));
    assert_eq!(data(run(&mut disk, &sense_page(0, 1), &[], &MEDIUM))[12..], [0, 2, 0xff, 0xff]);
}

#[test]
fn the_last_page_may_be_cut_short_where_that_is_wanted() {
    let mut disk = disk(false);
    let (cdb, select) = ([0x15, 0x10, 0, 0, 7, 0], [0, 0, 0, 0, 8, 0x12, 4]);
    assert_eq!(sense(run(&mut disk, &cdb, &select, &MEDIUM)), Sense::INVALID_PARAM_LEN);
    disk.conf.quirks.truncated_pages = true;
    assert!(matches!(run(&mut disk, &cdb, &select, &MEDIUM), Reply::WriteCache(Some(true))));
}
