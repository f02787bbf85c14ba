//! What CD-ROM drives of every kind tell of a disc with one session of one track (MMC-6, chapter 6).

use crate::sense::Sense;

/// Sectors before the first of a disc, by the clock that music counts with.
const LEAD_IN: u64 = 150;
/// Sectors a second.
const PER_SECOND: u64 = 75;
/// The track that stands for the end of the disc.
const LEAD_OUT: u8 = 0xaa;
/// Formats of READ DVD STRUCTURE, and bytes of an answer.
const STRUCTURES: [(u8, u16); 4] = [(0, 2048 + 4), (1, 4 + 4), (3, 188 + 4), (4, 2048 + 4)];
/// The format of READ DVD STRUCTURE that lists the others.
pub const STRUCTURE_LIST: u8 = 0xff;
/// The answer to MECHANISM STATUS: one slot, which is no changer's.
pub const MECHANISM_STATUS: [u8; 8] = [0, 0, 0, 0, 0, 1, 0, 0];

/// The data of an answer, or what is wrong with the command.
type Answer = Result<Vec<u8>, Sense>;

/// Minute, second and frame of a sector.
pub fn msf(sector: u64) -> [u8; 3] {
    let at = sector.wrapping_add(LEAD_IN);
    let seconds = at / PER_SECOND;
    [(seconds / 60) as u8, (seconds % 60) as u8, (at % PER_SECOND) as u8]
}

/// A sector as 4 bytes: its number, or minute, second and frame.
fn address(sector: u64, as_msf: bool) -> [u8; 4] {
    if !as_msf {
        return (sector as u32).to_be_bytes();
    }
    let [minute, second, frame] = msf(sector);
    [0, minute, second, frame]
}

/// `body` with its length before it.
fn with_len(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u16).to_be_bytes()[..], body].concat()
}

/// READ TOC of a disc of so many sectors (`cdrom_read_toc`, `cdrom_read_toc_raw`).
///
/// # Errors
/// There is no such format, or no such track.
pub fn toc(format: u8, sectors: u64, as_msf: bool, start_track: u8) -> Answer {
    match format {
        0 => tracks(sectors, as_msf, start_track),
        // There is one session.
        1 => Ok(vec![0, 0x0a, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
        2 => Ok(raw_toc(sectors, as_msf)),
        _ => Err(Sense::INVALID_FIELD),
    }
}

/// The one track, and the end.
fn tracks(sectors: u64, as_msf: bool, start_track: u8) -> Answer {
    if start_track > 1 && start_track != LEAD_OUT {
        return Err(Sense::INVALID_FIELD);
    }
    let mut body = vec![1, 1];
    if start_track <= 1 {
        body.extend([0, 0x14, 1, 0]);
        body.extend(address(0, as_msf));
    }
    body.extend([0, 0x16, LEAD_OUT, 0]);
    body.extend(address(sectors, as_msf));
    Ok(with_len(&body))
}

/// The same as the disc has it: first track, last track, end, the track.
fn raw_toc(sectors: u64, as_msf: bool) -> Vec<u8> {
    let mut body = vec![1, 1];
    let entries = [
        (0xa0, [0, 1, 0, 0]),
        (0xa1, [0, 1, 0, 0]),
        (0xa2, address(sectors, as_msf)),
        (1, address(0, as_msf)),
    ];
    for (point, place) in entries {
        body.extend([1, 0x14, 0, point, 0, 0, 0]);
        body.extend(place);
    }
    with_len(&body)
}

/// READ DISC INFORMATION, whose second byte is `kind`: one complete session with one track, that anybody may use.
///
/// # Errors
/// Only Blu-ray discs have others.
pub fn information(kind: u8) -> Answer {
    if kind & 7 != 0 {
        return Err(Sense::INVALID_FIELD);
    }
    let mut bytes = vec![0; 34];
    bytes.splice(1..8, [32, 0xe, 1, 1, 1, 1, 0x20]);
    Ok(bytes)
}

/// READ DVD STRUCTURE of a DVD-ROM with so many sectors of 512 bytes.
///
/// # Errors
/// There is no such structure: no burst cutting area, say.
pub fn structure(format: u8, layer: u8, sectors: u64) -> Answer {
    if format == STRUCTURE_LIST {
        let mut body = vec![0, 0];
        for (format, size) in STRUCTURES {
            body.extend([format, 0x40]);
            body.extend(size.to_be_bytes());
        }
        return Ok(with_len(&body));
    }
    let size = STRUCTURES.iter().find(|(known, _)| *known == format).map(|(_, size)| usize::from(*size));
    let Some(size) = size.filter(|_| format != 3) else { return Err(Sense::INVALID_FIELD) };
    let mut body = vec![0; size - 2];
    if format == 0 {
        if layer != 0 {
            return Err(Sense::INVALID_FIELD);
        }
        let end = ((sectors >> 2) as u32).wrapping_sub(1).to_be_bytes();
        // A DVD-ROM of 120 mm with one layer.
        body.splice(2..6, [1, 0xf, 1, 0]);
        body.splice(10..14, end);
        body.splice(14..18, end);
    }
    Ok(with_len(&body))
}
