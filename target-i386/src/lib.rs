//! x86 CPUs: models, features, registers, MSRs (target/i386/).

#![forbid(unsafe_code)]

pub mod cache;
pub mod config;
pub mod cpuid;
pub mod expand;
pub mod features;
pub mod host;
pub mod hyperv;
pub mod models;
pub mod option;
pub mod props;
pub mod topology;
pub mod xsave;
