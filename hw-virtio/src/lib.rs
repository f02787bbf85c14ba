//! virtio devices and what brings drivers to them.
//!
//! A device is a struct with [`VirtIODevice`] as its parent that implements [`hw_core::DeviceImpl`] and
//! [`VirtioDeviceImpl`]: it knows queues, features and its configuration, and nothing of PCI. [`pci::VirtioPciType`]
//! makes PCI functions of it, under QEMU's names. [`rng`] is a small one with all there is to it.
//!
//! Sources followed: Virtual I/O Device (VIRTIO) Version 1.2; QEMU `hw/virtio/`.
#![deny(unsafe_code)]

pub mod balloon;
mod bus;

mod device;
mod element;
mod notifier;
pub mod pci;
mod qmp;
mod queue;
pub mod rng;
mod shared;
pub mod spec;
pub mod vhost;
pub mod vhost_user_fs;
pub mod vhost_vsock;
mod work;

pub use bus::{VirtioBus, VirtioPciBus, VirtioTransport};
pub use device::{VirtIODevice, VirtioDeviceClass, VirtioDeviceImpl};
pub use element::VirtQueueElement;
pub use queue::{VirtQueue, VirtQueueState};
pub use work::QueueWork;
