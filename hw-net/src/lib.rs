//! Network devices (hw/net/): [`virtio_net`].
#![forbid(unsafe_code)]

pub mod virtio_net;
