//! The corpora of the virtio devices and of IDE: their machine wants a process of its own, without what other targets leave.

mod common;

#[test]
fn what_drivers_did_once_they_do_again() {
    common::try_again(|name| name == "ide" || name.starts_with("virtio-"));
}
