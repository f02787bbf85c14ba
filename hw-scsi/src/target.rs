//! What a target answers itself: which logical units it has, and commands to those that it has not
//! (`reqops_target_command` in QEMU's `hw/scsi/scsi-bus.c`).

use crate::bus::ScsiBus;
use crate::cdb::Cdb;
use crate::device::ScsiDisk;
use crate::sense::Sense;
use crate::spec::{device_type, op, vpd};

/// Bytes of an INQUIRY's answer.
const INQUIRY_LEN: usize = 36;
/// Fewer bytes have no room for one logical unit.
const MIN_REPORT: u64 = 16;

/// Carries out a command that came to `device` for the logical unit `lun`, which may be another; `own_sense` is what
/// went wrong last.
///
/// # Errors
/// What is wrong.
pub fn execute(
    device: &ScsiDisk,
    bus: &ScsiBus,
    cdb: &Cdb,
    lun: u32,
    own_sense: Option<Sense>,
) -> Result<Vec<u8>, Sense> {
    let opcode = cdb.opcode();
    if lun != 0 && lun != device.lun() && opcode != op::INQUIRY && opcode != op::REQUEST_SENSE {
        return Err(Sense::LUN_NOT_SUPPORTED);
    }
    let mut data = match opcode {
        op::REPORT_LUNS => report_luns(device, bus, cdb)?,
        op::INQUIRY => inquiry(bus, cdb, lun)?,
        op::REQUEST_SENSE => {
            let sense = if lun == device.lun() { own_sense } else { Some(Sense::LUN_NOT_SUPPORTED) };
            sense.unwrap_or(Sense::NO_SENSE).bytes(cdb.byte(1) & 1 == 0)
        }
        op::TEST_UNIT_READY => Vec::new(),
        _ => return Err(Sense::INVALID_OPCODE),
    };
    data.truncate(usize::try_from(cdb.transfer).unwrap_or(usize::MAX));
    Ok(data)
}

/// The logical units of the device's target; 0 is always one (SPC-4, section 6.33).
fn report_luns(device: &ScsiDisk, bus: &ScsiBus, cdb: &Cdb) -> Result<Vec<u8>, Sense> {
    if cdb.transfer < MIN_REPORT || cdb.byte(2) > 2 {
        return Err(Sense::INVALID_FIELD);
    }
    let same_target = |other: &std::sync::Arc<ScsiDisk>| {
        (other.channel(), other.target()) == (device.channel(), device.target())
    };
    let others = bus.devices().filter(same_target).map(|other| other.lun()).filter(|lun| *lun != 0);
    let mut list = Vec::new();
    for lun in std::iter::once(0).chain(others) {
        // Small numbers as devices of a bus, others by flat addresses (SAM-5, section 4.7.7).
        let address = if lun < 256 { lun as u16 } else { 0x4000 | lun as u16 };
        list.extend(address.to_be_bytes());
        list.extend([0; 6]);
    }
    Ok([&(list.len() as u32).to_be_bytes()[..], &[0; 4], &list].concat())
}

fn inquiry(bus: &ScsiBus, cdb: &Cdb, lun: u32) -> Result<Vec<u8>, Sense> {
    let (flags, page) = (cdb.byte(1), cdb.byte(2));
    if flags & 2 != 0 || page != vpd::SUPPORTED {
        return Err(Sense::INVALID_FIELD);
    }
    if flags & 1 != 0 {
        return Ok(vec![page, 0, 1, vpd::SUPPORTED]);
    }
    let mut data = vec![0; INQUIRY_LEN];
    if lun != 0 {
        data.splice(..1, [device_type::NO_LUN]);
        return Ok(data);
    }
    let len = cdb.transfer.min(INQUIRY_LEN as u64) as u8;
    let queues = if bus.limits().queues_commands { 2 } else { 0 };
    let head = [device_type::NOT_PRESENT, 0, 5, 0x12, len.saturating_sub(5), 0, 0, 0x10 | queues];
    let text = b"QEMU    QEMU TARGET     2.5";
    data.splice(..head.len() + text.len(), [&head[..], text].concat());
    Ok(data)
}
