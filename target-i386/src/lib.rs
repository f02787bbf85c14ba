//! x86 CPUs: models, features, registers, MSRs (target/i386/).

#![forbid(unsafe_code)]

pub mod cache;
pub mod config;
pub mod cpuid;
pub mod expand;
pub mod features;
pub mod help;
pub mod host;
pub mod hyperv;
pub mod models;
pub mod msrs;
pub mod option;
pub mod props;
pub mod reset;
pub mod topology;
pub mod xsave;
