//! KVM's refusals as errors for the user.

use qom::Error;

/// A refusal without more words.
pub(crate) fn refused(error: kvm_ioctls::Error) -> Error {
    Error::new(std::io::Error::from(error).to_string())
}

/// `what` was refused by the kernel.
pub(crate) fn ioctl(what: &str, error: kvm_ioctls::Error) -> Error {
    Error::new(format!("{what} failed: {}", std::io::Error::from(error)))
}
