//! The control queue (virtio 1.2, section 5.1.6.5).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hw_virtio::{VirtQueue, VirtQueueElement};

use super::VirtIONet;
use super::spec::{S_ANNOUNCE, ctrl, feature};

/// Commands that are carried out before others of the loop have their turn.
const BATCH: u32 = 64;

impl VirtIONet {
    pub(super) fn handle_control(&self, queue: &Arc<VirtQueue>) {
        for _ in 0..BATCH {
            let Some(element) = queue.pop() else { return };
            if element.writable_len() < 1 || element.readable_len() < 2 {
                self.set_broken("virtio-net ctrl missing headers");
                queue.forget(&element);
                return;
            }
            let status = if self.carry_out(&element).is_some() { ctrl::OK } else { ctrl::ERR };
            let written = element.write(0, &[status]);
            queue.push(element, written as u32);
            queue.notify();
        }
        self.queue_again(queue);
    }

    /// Carries a command out; `None` for one that is wrong.
    fn carry_out(&self, element: &VirtQueueElement) -> Option<()> {
        let length = element.readable_len();
        if length > ctrl::MAX {
            return None;
        }
        let mut bytes = vec![0; length as usize];
        element.read(0, &mut bytes);
        let (&[class, command], data) = bytes.split_first_chunk::<2>()?;
        match class {
            ctrl::RX => self.filter.lock().rx_mode(command, data)?,
            ctrl::MAC => {
                self.filter.lock().set_mac(command, data)?;
                self.format_info();
            }
            ctrl::VLAN => self.filter.lock().vlan(command, data)?,
            ctrl::ANNOUNCE => {
                let due = command == ctrl::ANNOUNCE_ACK && self.has_status(S_ANNOUNCE);
                self.set_net_status(S_ANNOUNCE, false);
                return due.then_some(());
            }
            ctrl::MQ => return self.choose_pairs(command, data),
            ctrl::GUEST_OFFLOADS => return self.choose_offloads(command, data),
            _ => return None,
        }
        self.filter_changed();
        Some(())
    }

    fn choose_pairs(&self, command: u8, data: &[u8]) -> Option<()> {
        let pairs = usize::from(u16::from_le_bytes(*data.first_chunk()?));
        let possible = (1..=self.max_pairs()).contains(&pairs) && self.has_feature(feature::MQ);
        if command != ctrl::MQ_VQ_PAIRS_SET || !possible {
            return None;
        }
        self.serve_again(|| self.set_pairs(pairs));
        self.flush_later();
        Some(())
    }

    fn choose_offloads(&self, command: u8, data: &[u8]) -> Option<()> {
        let offloads = u64::from_le_bytes(*data.first_chunk()?);
        let supported = [
            feature::GUEST_CSUM,
            feature::GUEST_TSO4,
            feature::GUEST_TSO6,
            feature::GUEST_ECN,
            feature::GUEST_UFO,
        ];
        let supported = supported.iter().filter(|bit| self.has_feature(**bit)).fold(0, |all, bit| all | bit);
        let has_header = self.host_header.load(Ordering::Acquire) > 0;
        let possible =
            self.has_feature(feature::CTRL_GUEST_OFFLOADS) && has_header && offloads & !supported == 0;
        if command != ctrl::GUEST_OFFLOADS_SET || !possible {
            return None;
        }
        self.apply_offloads(offloads);
        Some(())
    }
}
