//! Secrets that users give to devices and backends: the object `secret`. libvirt makes one for every guest, the
//! key that later secrets are encrypted with.
//!
//! Source followed: QEMU `crypto/`.
#![forbid(unsafe_code)]

mod secret;

pub use secret::{Secret, qcrypto_secret_lookup};
