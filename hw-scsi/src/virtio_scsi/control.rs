//! The control queue: task management, and requests for events.

use std::any::Any;
use std::sync::Arc;

use hw_core::reset::cold_reset;
use hw_virtio::{QueueWork, VirtQueueElement};
use qom::Object;

use super::VirtIOSCSI;
use super::request::{Bad, Layout};
use super::spec::*;
use crate::device::ScsiDisk;
use crate::task::Outcome;

/// A task management request. It is answered when it is dropped: by then all commands that it called off are over.
struct Function {
    work: Arc<QueueWork>,
    element: Option<VirtQueueElement>,
    response: u8,
}

impl Drop for Function {
    fn drop(&mut self) {
        if let Some(element) = self.element.take() {
            element.write(0, &[self.response]);
            self.work.finish(element, TMF_RESPONSE as u64);
        }
    }
}

/// The fields of a task management request.
struct Fields {
    kind: u32,
    address: Option<(u32, u32)>,
    tag: u64,
}

/// Carries out a control request (`virtio_scsi_handle_ctrl_req`).
///
/// # Errors
/// The chain has no room for it or its answer.
pub fn handle(scsi: &VirtIOSCSI, work: &Arc<QueueWork>, element: VirtQueueElement) -> Result<(), Bad> {
    let mut head = [0; TMF_REQUEST];
    if element.read(0, &mut head) < 4 {
        return Err(Bad);
    }
    let word = |at: usize| head.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
    match word(0) {
        control::TMF => {
            Layout::of(scsi, &element, TMF_REQUEST as u64, TMF_RESPONSE as u64)?;
            let tag = u64::from(word(16)) | u64::from(word(20)) << 32;
            let fields = Fields { kind: word(4), address: head.get(8..16).and_then(address), tag };
            manage_tasks(scsi, work, element, &fields);
        }
        control::AN_QUERY | control::AN_SUBSCRIBE => {
            Layout::of(scsi, &element, AN_REQUEST as u64, AN_RESPONSE as u64)?;
            // There are none of these events.
            element.write(0, &[0, 0, 0, 0, response::OK]);
            work.finish(element, AN_RESPONSE as u64);
        }
        _ => work.finish(element, 0),
    }
    Ok(())
}

/// (`virtio_scsi_do_tmf`)
fn manage_tasks(scsi: &VirtIOSCSI, work: &Arc<QueueWork>, element: VirtQueueElement, fields: &Fields) {
    let device = fields.address.and_then(|(target, lun)| scsi.device(target, lun));
    let lun = fields.address.map(|(_, lun)| lun);
    let (response, called_off) = match fields.kind {
        tmf::I_T_NEXUS_RESET => {
            reset_target(scsi, fields.address);
            (response::OK, None)
        }
        tmf::ABORT_TASK
        | tmf::QUERY_TASK
        | tmf::ABORT_TASK_SET
        | tmf::CLEAR_TASK_SET
        | tmf::QUERY_TASK_SET
        | tmf::LOGICAL_UNIT_RESET => match device {
            None => (response::BAD_TARGET, None),
            Some(device) if Some(device.lun()) != lun => (response::INCORRECT_LUN, None),
            Some(device) => at_device(&device, fields),
        },
        _ => (response::FUNCTION_REJECTED, None),
    };
    let function = Arc::new(Function { work: work.clone(), element: Some(element), response });
    if let Some((device, tag)) = called_off {
        let waiter: Arc<dyn Any + Send + Sync> = function;
        device.cancel(tag, Outcome::Aborted, Some(&waiter));
    }
}

/// Commands of a device that are to be called off: the one with a tag, or all.
type CalledOff = (Arc<ScsiDisk>, Option<u64>);

fn at_device(device: &Arc<ScsiDisk>, fields: &Fields) -> (u8, Option<CalledOff>) {
    let queried = |found| (if found { response::FUNCTION_SUCCEEDED } else { response::OK }, None);
    match fields.kind {
        tmf::QUERY_TASK => queried(device.has_task(Some(fields.tag))),
        tmf::QUERY_TASK_SET => queried(device.has_task(None)),
        tmf::ABORT_TASK => (response::OK, Some((device.clone(), Some(fields.tag)))),
        tmf::LOGICAL_UNIT_RESET => {
            let object: Arc<dyn Object> = device.clone();
            cold_reset(&object);
            (response::OK, None)
        }
        _ => (response::OK, Some((device.clone(), None))),
    }
}

fn reset_target(scsi: &VirtIOSCSI, address: Option<(u32, u32)>) {
    let Some((bus, (target, _))) = scsi.scsi_bus().zip(address) else { return };
    for device in bus.devices().filter(|device| device.channel() == 0 && device.target() == target) {
        let object: Arc<dyn Object> = device;
        cold_reset(&object);
    }
}
