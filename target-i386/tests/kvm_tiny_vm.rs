//! The example is a program that works: a guest adds two numbers under the local KVM.

#[path = "../examples/tiny_vm.rs"]
#[expect(dead_code, reason = "the example's main prints what the test compares")]
mod tiny_vm;

#[test]
fn the_tiny_vm_adds_two_registers() {
    // One machine a program, hence one test: the sum does not fit the low byte, and wraps as AX does.
    assert_eq!(tiny_vm::add(0x1234, 0xff00).expect("the guest runs"), 0x1134);
}

#[test]
fn the_tiny_vm_fits_one_page() {
    let lines = include_str!("../examples/tiny_vm.rs").lines().count();
    assert!(lines < 50, "{lines} lines");
}
