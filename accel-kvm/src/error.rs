//! KVM's refusals as errors for the user.

use qom::Error;

/// `what` was refused by the kernel.
pub(crate) fn ioctl(what: &str, error: kvm_ioctls::Error) -> Error {
    Error::new(format!("{what} failed: {}", std::io::Error::from(error)))
}
