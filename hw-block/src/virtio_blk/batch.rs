//! Requests that a driver made available together: those that follow each other on the disk become one
//! (`virtio_blk_submit_multireq`).

use std::any::Any;

use block::backend::{Op, Request};

use super::request::Transfer;

/// Most requests of a batch (`VIRTIO_BLK_MAX_MERGE_REQS`).
const MOST: usize = 32;
/// Most bytes of what is merged (`BDRV_REQUEST_MAX_BYTES`).
const MAX_BYTES: u64 = (i32::MAX as u64) & !511;

/// Reads, or writes, or one other request.
#[derive(Default)]
pub struct Batch(Vec<Request>);

impl Batch {
    /// Whether a request may join those that are here.
    pub fn takes(&self, request: &Request) -> bool {
        let is_data = matches!(request.op, Op::Read | Op::Write);
        self.0.first().is_none_or(|first| is_data && first.op == request.op && self.0.len() < MOST)
    }

    /// Adds a request that it takes.
    pub fn add(&mut self, request: Request) {
        self.0.push(request);
    }

    /// What is to be submitted; nothing is left.
    pub fn take(&mut self, merging: bool) -> Vec<Request> {
        let mut requests = std::mem::take(&mut self.0);
        if !merging || requests.len() < 2 {
            return requests;
        }
        requests.sort_by_key(|request| request.offset);
        let mut merged: Vec<Request> = Vec::with_capacity(requests.len());
        for request in requests {
            let rest = match merged.last_mut() {
                Some(last) => absorb(last, request),
                None => Some(request),
            };
            merged.extend(rest);
        }
        merged
    }
}

/// Makes `next` a part of `request` if it begins at its end; gives it back if not.
fn absorb(request: &mut Request, next: Request) -> Option<Request> {
    let bytes = request.bytes.saturating_add(next.bytes);
    if request.offset.checked_add(request.bytes) != Some(next.offset) || bytes > MAX_BYTES {
        return Some(next);
    }
    let Some(chains) = (&mut *request.memory as &mut dyn Any).downcast_mut::<Transfer>() else {
        return Some(next);
    };
    let memory: Box<dyn Any> = next.memory;
    if let Ok(more) = memory.downcast::<Transfer>() {
        chains.elements.extend(more.elements);
        request.bytes = bytes;
    }
    None
}
