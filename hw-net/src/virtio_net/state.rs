//! What the device saves, besides what every virtio device does.

use std::sync::atomic::Ordering;

use hw_core::VmState;
use qom::{Result, bail};
use serde::{Deserialize, Serialize};

use super::VirtIONet;
use super::filter::RxFilter;

/// All that a driver has told the device, but for features and rings.
#[derive(Debug, Serialize, Deserialize)]
pub struct VirtIONetState {
    filter: RxFilter,
    status: u32,
    /// Pairs of queues that the driver uses.
    pairs: usize,
    /// Offloads that it takes at present.
    offloads: u64,
}

impl VmState for VirtIONet {
    type State = VirtIONetState;

    fn save(&self) -> Option<VirtIONetState> {
        Some(VirtIONetState {
            filter: self.filter.lock().clone(),
            status: self.net_status.load(Ordering::Acquire),
            pairs: self.current_pairs.load(Ordering::Acquire),
            offloads: self.offloads.load(Ordering::Acquire),
        })
    }

    fn load(&self, state: VirtIONetState) -> Result<()> {
        if !(1..=self.max_pairs()).contains(&state.pairs) {
            bail!("the state is of a device with {} pairs of queues", state.pairs);
        }
        if !state.filter.is_possible() {
            bail!("the state has a filter that no device has");
        }
        // What was taken is taken again from the rings.
        self.pairs.get().into_iter().flatten().for_each(|pair| pair.reset());
        self.clients().iter().for_each(|client| client.purge_sent());
        *self.filter.lock() = state.filter;
        self.net_status.store(state.status, Ordering::Release);
        self.set_pairs(state.pairs);
        self.apply_offloads(state.offloads);
        self.format_info();
        Ok(())
    }
}
