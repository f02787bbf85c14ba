//! PCI host bridges. So far: Intel 440FX.
#![forbid(unsafe_code)]

pub mod i440fx;
