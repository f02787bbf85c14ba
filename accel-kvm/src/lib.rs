//! The KVM accelerator (accel/kvm/).
