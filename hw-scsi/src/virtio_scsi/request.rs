//! Requests: from a chain of descriptors to a device's command, and back.

use std::any::Any;
use std::sync::Arc;

use block::backend::RequestMemory;
use hw_virtio::spec::feature;
use hw_virtio::{QueueWork, VirtQueueElement};
use memory::vm_memory::VolatileSlice;

use super::VirtIOSCSI;
use super::spec::{REQUEST_HEAD, RESPONSE_HEAD, address, response};
use crate::cdb::Direction;
use crate::sense::Sense;
use crate::task::Outcome;

/// What the driver must not do: the device is broken then.
pub struct Bad;

/// Where in a chain what is.
pub struct Layout {
    /// Where data from the guest begins among the readable buffers, and its length.
    output: (u64, u64),
    /// The same of data for the guest among the writable ones.
    input: (u64, u64),
}

impl Layout {
    /// Of a chain with so many bytes of request and response (`virtio_scsi_parse_req`).
    ///
    /// # Errors
    /// It has no room for them.
    pub fn of(
        scsi: &VirtIOSCSI,
        element: &VirtQueueElement,
        request: u64,
        response: u64,
    ) -> Result<Layout, Bad> {
        let (readable, writable) = (element.readable_len(), element.writable_len());
        if readable < request || writable < response {
            return Err(Bad);
        }
        let (mut request, mut response) = (request, response);
        if !scsi.has_feature(feature::ANY_LAYOUT) {
            // Old drivers have a buffer for each, which may be longer than need be.
            let (first_readable, first_writable) = element.first_lens();
            (request, response) = (first_readable.max(request), first_writable.max(response));
        }
        Ok(Layout {
            output: (request, readable.saturating_sub(request)),
            input: (response, writable.saturating_sub(response)),
        })
    }
}

/// A chain, as the memory of a command.
struct Payload {
    element: VirtQueueElement,
    layout: Layout,
    direction: Direction,
    /// Bytes of the response, data apart.
    response: u64,
}

impl RequestMemory for Payload {
    fn parts(&self) -> Vec<VolatileSlice<'_>> {
        let Layout { output, input } = &self.layout;
        match self.direction {
            Direction::None => Vec::new(),
            Direction::ToDevice => self.element.readable_slices(output.0, output.1).collect(),
            Direction::FromDevice => self.element.writable_slices(input.0, input.1).collect(),
        }
    }
}

/// What answers a command.
#[derive(Default)]
struct Answer {
    response: u8,
    status: u8,
    residual: u32,
    sense: Vec<u8>,
}

impl Answer {
    fn of(outcome: Outcome) -> Answer {
        match outcome {
            Outcome::Done { status, sense, residual } => Answer {
                response: response::OK,
                status,
                residual: u32::try_from(residual).unwrap_or(u32::MAX),
                sense: sense.map(|sense: Sense| sense.bytes(true)).unwrap_or_default(),
            },
            Outcome::Aborted => Answer::only(response::ABORTED),
            Outcome::Reset => Answer::only(response::RESET),
        }
    }

    fn only(response: u8) -> Answer {
        Answer { response, ..Answer::default() }
    }
}

impl Payload {
    fn finish(self, work: &QueueWork, answer: &Answer) {
        let room = usize::try_from(self.response).unwrap_or(usize::MAX).saturating_sub(RESPONSE_HEAD);
        let sense = answer.sense.get(..room.min(answer.sense.len())).unwrap_or_default();
        let mut head = Vec::with_capacity(RESPONSE_HEAD + sense.len());
        head.extend((sense.len() as u32).to_le_bytes());
        head.extend(answer.residual.to_le_bytes());
        // No status qualifier.
        head.extend([0, 0, answer.status, answer.response]);
        head.extend(sense);
        self.element.write(0, &head);
        let data = if self.direction == Direction::FromDevice { self.layout.input.1 } else { 0 };
        work.finish(self.element, self.response + data);
    }
}

/// Begins a command (`virtio_scsi_handle_cmd_req_prepare` and `_submit`).
///
/// # Errors
/// The chain has no room for a request or its response.
pub fn handle(scsi: &VirtIOSCSI, work: &Arc<QueueWork>, element: VirtQueueElement) -> Result<(), Bad> {
    let (cdb_size, sense_size) = scsi.sizes();
    let (request, response) =
        (REQUEST_HEAD as u64 + u64::from(cdb_size), RESPONSE_HEAD as u64 + u64::from(sense_size));
    let layout = Layout::of(scsi, &element, request, response)?;
    let (output, input) = (layout.output.1, layout.input.1);
    let (direction, len) = match (output, input) {
        (0, 0) => (Direction::None, 0),
        (_, 0) => (Direction::ToDevice, output),
        (0, _) => (Direction::FromDevice, input),
        // Not both ways at once: the feature for that is not offered.
        _ => (Direction::None, 0),
    };
    let mut head = vec![0; request as usize];
    element.read(0, &mut head);
    let payload = Payload { element, layout, direction, response };
    if output > 0 && input > 0 {
        payload.finish(work, &Answer::only(response::FAILURE));
        return Ok(());
    }
    let found =
        head.get(..8).and_then(address).and_then(|(target, lun)| Some((scsi.device(target, lun)?, lun)));
    let Some((device, lun)) = found else {
        payload.finish(work, &Answer::only(response::BAD_TARGET));
        return Ok(());
    };
    let tag = head.get(8..16).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
    let command = device.command(tag, lun, head.get(REQUEST_HEAD..).unwrap_or_default());
    let wanted = command.direction();
    if wanted != Direction::None && (wanted != direction || command.transfer() > len) {
        payload.finish(work, &Answer::only(response::OVERRUN));
        return Ok(());
    }
    let work = work.clone();
    let done = move |memory: Box<dyn RequestMemory>, outcome| {
        let memory: Box<dyn Any> = memory;
        if let Ok(payload) = memory.downcast::<Payload>() {
            payload.finish(&work, &Answer::of(outcome));
        }
    };
    device.run(command, Box::new(payload), Box::new(done));
    Ok(())
}
