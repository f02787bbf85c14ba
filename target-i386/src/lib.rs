//! x86 CPUs: models, features, registers, MSRs (target/i386/).

#![forbid(unsafe_code)]

pub mod cache;
mod commands;
pub mod config;
mod cpu;
pub mod cpuid;
mod current;
pub mod expand;
pub mod features;
mod gdb_segment;
mod gdbstub;
pub mod help;
pub mod host;
pub mod hyperv;
mod kvm;
pub mod models;
pub mod msrs;
pub mod option;
pub mod props;
mod report;
pub mod reset;
pub mod topology;
pub mod xsave;

pub use cpu::{CpuPlace, X86Cpu, set_cpu_option, set_default_version};
pub use current::{current_tsc_khz, with_current_cpu};
pub use kvm::{IDENTITY_MAP_BASE, IDENTITY_MAP_SIZE, enable_cpu_pm, registers, segment_flags};
