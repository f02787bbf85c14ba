//! The KVM accelerator: `kvm_init`, memory slots that follow the memory map, the in-kernel interrupt
//! controller's routes, and the threads that run vCPUs.
//!
//! What is particular to a kind of CPU is behind two traits that the target implements: [`KvmArch`] for the
//! machine and [`KvmArchCpu`] for a vCPU. Neither this crate nor the target knows the board.
//!
//! `unsafe` is here for what KVM is: memory handed to the kernel by address, the page shared with it, and the
//! signal that gets a thread out of the guest.
//!
//! Source followed: QEMU `accel/kvm/kvm-all.c`, `accel/kvm/kvm-accel-ops.c`; the kernel's
//! `Documentation/virt/kvm/api.rst`.

mod arch;
mod coalesced;
mod debug;
mod error;
mod exec;
mod irqchip;
mod kick;
mod kvm;
mod slots;
pub mod stats;
mod vcpu;
mod vm;
mod xsave;

pub use arch::{KvmArch, KvmArchCpu, set_arch};
pub use debug::{DebugExit, HwBreakpoint};
pub use irqchip::{KvmIrqchip, ioapic_route, pic_route};
pub use kvm::{KernelIrqchip, KvmAccel, KvmState, kvm_state, x86_setup_mce};
pub use slots::KvmMemoryListener;
pub use vcpu::with_current_vcpu;
pub use vm::{KvmVm, create_vm_ahead};
pub use xsave::set_xsave;
pub use {hw_core, kvm_bindings, kvm_ioctls};
