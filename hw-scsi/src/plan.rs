//! What a command has the backend do, one request after the other.

use std::collections::VecDeque;
use std::sync::Arc;

use block::backend::{Op, RequestMemory};
use memory::vm_memory::{Bytes, MmapRegion, VolatileMemory, VolatileSlice};

use crate::sense::Sense;

/// Bytes that a pattern is written in at once (`SCSI_WRITE_SAME_MAX`).
const PATTERN_LEN: usize = 512 << 10;

/// Where the data of a step is.
#[derive(Clone, Debug)]
pub enum StepData {
    /// There is none.
    None,
    /// In the guest's buffers.
    Guest,
    /// A block, again and again.
    Pattern(Arc<MmapRegion>),
}

/// A request of the backend's.
#[derive(Clone, Debug)]
pub struct Step {
    /// What it does.
    pub op: Op,
    /// Where, bytes.
    pub offset: u64,
    /// How much, bytes.
    pub bytes: u64,
    /// Its data.
    pub data: StepData,
}

impl Step {
    /// A step without data.
    pub fn without_data(op: Op, offset: u64, bytes: u64) -> Step {
        Step { op, offset, bytes, data: StepData::None }
    }
}

/// Requests, in order, and how the command ends after them.
#[derive(Clone, Debug)]
pub struct Plan {
    steps: VecDeque<Step>,
    /// The command fails, though all that was done.
    pub failure: Option<Sense>,
}

impl Plan {
    /// These requests.
    pub fn of(steps: impl IntoIterator<Item = Step>) -> Plan {
        Plan { steps: steps.into_iter().collect(), failure: None }
    }

    /// A flush.
    pub fn flush() -> Plan {
        Plan::of([Step::without_data(Op::Flush, 0, 0)])
    }

    /// Writes a block again and again; `None` where the host has no memory for it.
    pub fn repeat(offset: u64, bytes: u64, block: &[u8]) -> Option<Plan> {
        let whole = PATTERN_LEN / block.len().max(1) * block.len();
        let len = usize::try_from(bytes).map_or(whole, |bytes| bytes.min(whole));
        let pattern: MmapRegion = MmapRegion::new(len).ok()?;
        let slice = pattern.as_volatile_slice();
        for at in (0..len).step_by(block.len().max(1)) {
            // It was made long enough.
            let _ = slice.write_slice(block.get(..block.len().min(len - at))?, at);
        }
        let data = StepData::Pattern(Arc::new(pattern));
        Some(Plan::of([Step { op: Op::Write, offset, bytes, data }]))
    }

    /// What is to be done now; a pattern in pieces.
    pub fn now(&self) -> Option<Step> {
        let mut step = self.steps.front()?.clone();
        if let StepData::Pattern(pattern) = &step.data {
            step.bytes = step.bytes.min(pattern.len() as u64);
        }
        Some(step)
    }

    /// That is done.
    pub fn advance(&mut self) {
        let Some(now) = self.now() else { return };
        if let Some(step) = self.steps.front_mut()
            && step.bytes > now.bytes
        {
            step.offset += now.bytes;
            step.bytes -= now.bytes;
            return;
        }
        self.steps.pop_front();
    }
}

/// The memory of a step.
pub enum StepMemory {
    /// The guest's, of which no more than the step has is used; without it for steps that have no data.
    Guest(Box<dyn RequestMemory>, u64),
    /// Ours; the guest's is kept.
    Pattern(Box<dyn RequestMemory>, Arc<MmapRegion>, u64),
}

impl StepMemory {
    /// For `step`, with the guest's memory.
    pub fn of(step: &Step, guest: Box<dyn RequestMemory>) -> StepMemory {
        match &step.data {
            StepData::None => StepMemory::Guest(guest, 0),
            StepData::Guest => StepMemory::Guest(guest, step.bytes),
            StepData::Pattern(pattern) => StepMemory::Pattern(guest, pattern.clone(), step.bytes),
        }
    }

    /// The guest's memory back.
    pub fn into_guest(self) -> Box<dyn RequestMemory> {
        match self {
            StepMemory::Guest(guest, _) | StepMemory::Pattern(guest, ..) => guest,
        }
    }
}

impl RequestMemory for StepMemory {
    fn parts(&self) -> Vec<VolatileSlice<'_>> {
        match self {
            StepMemory::Guest(guest, bytes) => first(guest.parts(), *bytes),
            StepMemory::Pattern(_, pattern, bytes) => first(vec![pattern.as_volatile_slice()], *bytes),
        }
    }
}

/// The first `bytes` of what `parts` have.
fn first(parts: Vec<VolatileSlice<'_>>, bytes: u64) -> Vec<VolatileSlice<'_>> {
    let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
    let mut taken = Vec::with_capacity(parts.len());
    for part in parts {
        let len = part.len().min(left);
        left -= len;
        if len > 0
            && let Ok(part) = part.subslice(0, len)
        {
            taken.push(part);
        }
    }
    taken
}

/// Copies `data` to guest memory, as far as that goes.
pub fn scatter(memory: &dyn RequestMemory, data: &[u8]) {
    let mut rest = data;
    for part in memory.parts() {
        let (now, later) = rest.split_at(part.len().min(rest.len()));
        part.copy_from(now);
        rest = later;
    }
}

/// Copies `len` bytes from guest memory, or as many as there are.
pub fn gather(memory: &dyn RequestMemory, len: usize) -> Vec<u8> {
    let mut data = Vec::with_capacity(len);
    for part in memory.parts() {
        let mut piece = vec![0; part.len().min(len - data.len())];
        part.copy_to(&mut piece);
        data.extend(piece);
    }
    data
}
