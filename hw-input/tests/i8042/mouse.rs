//! The mouse behind the controller.

use super::*;

#[test]
fn the_mouse_answers_commands() {
    let mut chip = raw();
    for (sent, expected) in [
        (&[0xe9][..], &[ACK, 0x00, 0, 0][..]),
        (&[0xff], &[ACK, 0xaa, 0x00]),
        (&[0xf2], &[ACK, 0]),
        (&[0xe9], &[ACK, 0x00, 2, 100]),
        (&[0xe8, 3], &[ACK, ACK]),
        (&[0xf3, 40], &[ACK, ACK]),
        (&[0xe7], &[ACK]),
        (&[0xf4], &[ACK]),
        (&[0xf0], &[ACK]),
        (&[0xe9], &[ACK, 0x70, 3, 40]),
        (&[0xe6], &[ACK]),
        (&[0xea], &[ACK]),
        (&[0xf5], &[ACK]),
        (&[0xe9], &[ACK, 0x00, 3, 40]),
        (&[0xf6], &[ACK]),
        (&[0xe9], &[ACK, 0x00, 2, 100]),
        (&[0xee], &[ACK]),
        (&[0xf2, 0x12], &[0xf2, 0x12]),
        (&[0xec], &[ACK]),
        (&[0xec], &[]),
        (&[0xe1], &[]),
    ] {
        assert_eq!(mouse(&mut chip, sent), expected, "to {sent:02x?}");
    }
}

#[test]
fn the_mouse_reports_movement_and_buttons() {
    let mut chip = enabled_mouse(&[]);
    chip.mouse_move(5, 3);
    chip.mouse_button(MouseButton::Left, true);
    assert_eq!(drain(&mut chip).1, [0; 0], "nothing before the event is complete");
    chip.mouse_sync();
    assert!(chip.irq12_level());
    assert_eq!(drain(&mut chip).1, [0x29, 5, 0xfd], "up is positive");
    for (button, bits) in [(MouseButton::Right, 0x0b), (MouseButton::Middle, 0x0f)] {
        chip.mouse_button(button, true);
        chip.mouse_sync();
        assert_eq!(drain(&mut chip).1, [bits, 0, 0]);
    }
    assert_eq!(mouse(&mut chip, &[0xe9]), [ACK, 0x20, 0, 0], "the status shows no buttons, as in QEMU");
}

#[test]
fn long_movements_take_several_packets() {
    let mut chip = enabled_mouse(&[]);
    chip.mouse_move(-300, 0);
    chip.mouse_sync();
    assert_eq!(drain(&mut chip).1, [0x18, 0x81, 0, 0x18, 0x81, 0, 0x18, 0xd2, 0]);
    chip.mouse_move(i32::MAX, i32::MIN);
    chip.mouse_move(i32::MAX, i32::MIN);
    chip.mouse_sync();
    assert_eq!(drain(&mut chip).1, [0x08, 127, 127].repeat(5), "no more than the queue holds");
}

#[test]
fn a_knock_adds_a_wheel() {
    let mut chip = enabled_mouse(&[200, 100, 80]);
    assert_eq!(mouse(&mut chip, &[0xf2]), [ACK, 3]);
    chip.mouse_button(MouseButton::WheelUp, true);
    chip.mouse_button(MouseButton::WheelUp, false);
    chip.mouse_button(MouseButton::Side, true);
    chip.mouse_sync();
    assert_eq!(drain(&mut chip).1, [0x08, 0, 0, 0xff]);
    assert_eq!(mouse(&mut chip, &[0xff]), [ACK, 0xaa, 0], "a reset takes it away");
}

#[test]
fn another_knock_adds_two_buttons_and_a_wheel() {
    let mut chip = enabled_mouse(&[200, 200, 80]);
    assert_eq!(mouse(&mut chip, &[0xf2]), [ACK, 4]);
    chip.mouse_button(MouseButton::Side, true);
    chip.mouse_button(MouseButton::WheelDown, true);
    chip.mouse_sync();
    assert_eq!(drain(&mut chip).1, [0x08, 0, 0, 0x11]);
    chip.mouse_button(MouseButton::Extra, true);
    for _ in 0..8 {
        chip.mouse_button(MouseButton::WheelUp, true);
    }
    chip.mouse_sync();
    assert_eq!(drain(&mut chip).1, [0x08, 0, 0, 0x39, 0x08, 0, 0, 0x3f]);
    chip.mouse_button(MouseButton::WheelRight, true);
    chip.mouse_sync();
    assert_eq!(drain(&mut chip).1, [0x08, 0, 0, 0x7f]);
}

#[test]
fn the_mouse_is_silent_when_disabled_and_asked_in_remote_mode() {
    let mut chip = raw();
    chip.mouse_move(1, 0);
    chip.mouse_sync();
    assert_eq!(drain(&mut chip).1, [0; 0]);
    let mut chip = enabled_mouse(&[]);
    mouse(&mut chip, &[0xf0]);
    chip.mouse_move(1, 0);
    chip.mouse_sync();
    assert_eq!(drain(&mut chip).1, [0; 0]);
    assert_eq!(mouse(&mut chip, &[0xeb]), [ACK, 0x08, 1, 0]);
    assert_eq!(mouse(&mut chip, &[0xeb]), [ACK, 0x08, 0, 0]);
}

#[test]
fn a_mouse_whose_queue_is_full_loses_its_answer() {
    let mut chip = enabled_mouse(&[]);
    command(&mut chip, 0xa7);
    chip.mouse_move(5000, 0);
    chip.mouse_sync();
    assert_eq!(
        mouse(&mut chip, &[0xe9]),
        [0x08, 127, 0].repeat(5),
        "four bytes have no room behind five packets"
    );
}
