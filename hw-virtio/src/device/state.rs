//! What every virtio device saves.

use hw_core::VmState;
use qom::{Result, bail};
use serde::{Deserialize, Serialize};

use super::VirtIODevice;
use crate::queue::VirtQueueState;
use crate::spec::Status;

/// What every device saves.
#[derive(Debug, Serialize, Deserialize)]
pub struct VirtIODeviceState {
    status: u8,
    isr: u8,
    accepted: u64,
    config_vector: u16,
    config_generation: u8,
    broken: bool,
    queues: Vec<VirtQueueState>,
}

impl VmState for VirtIODevice {
    type State = VirtIODeviceState;

    fn save(&self) -> Option<VirtIODeviceState> {
        Some(VirtIODeviceState {
            status: self.status().bits(),
            isr: self.core.isr(),
            accepted: self.core.guest_features(),
            config_vector: self.core.config_vector(),
            config_generation: self.core.config_generation(),
            broken: self.is_broken(),
            queues: self.queues().iter().map(|queue| queue.save()).collect(),
        })
    }

    fn load(&self, state: VirtIODeviceState) -> Result<()> {
        let _life = self.life.lock();
        let queues = self.queues();
        if state.queues.len() != queues.len() {
            bail!("the state is of a device with {} queues", state.queues.len());
        }
        if state.accepted & !self.core.host_features() != 0 {
            let (wanted, offered) = (state.accepted, self.core.host_features());
            bail!("Features {wanted:#x} unsupported. Allowed features: {offered:#x}");
        }
        self.set_features(state.accepted);
        queues.iter().zip(&state.queues).try_for_each(|(queue, state)| queue.restore(state))?;
        self.core.set_isr(state.isr);
        self.core.set_config_vector(state.config_vector);
        self.core.set_config_generation(state.config_generation);
        self.core.set_status(Status::from_bits_retain(state.status));
        if state.broken {
            self.core.set_broken("so it was saved");
        }
        self.tell_status();
        Ok(())
    }
}
