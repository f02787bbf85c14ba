//! Keyboard controller, keyboard and mouse as a guest programs them through ports 0x60 and 0x64 (IBM's PC AT and
//! PS/2 technical references).

mod mouse;

use hw_input::i8042::{I8042, I8042Actions};
use hw_input::ps2::MouseButton;
use hw_input::qkeycode::QKeyCode;
use proptest::prelude::*;

const ACK: u8 = 0xfa;
const OBF: u8 = 0x01;
const AUX_OBF: u8 = 0x21;
const NONE: I8042Actions = I8042Actions { a20: None, reset: false, leds: None };

/// A controller as firmware leaves it: both interrupts, translation.
fn translating() -> I8042 {
    let mut chip = I8042::new(false);
    set_mode(&mut chip, 0x43);
    chip
}

/// A controller that hands out the keyboard's own codes.
fn raw() -> I8042 {
    I8042::new(false)
}

fn command(chip: &mut I8042, command: u8) {
    assert_eq!(chip.write_command(command), NONE);
}

fn set_mode(chip: &mut I8042, mode: u8) {
    command(chip, 0x60);
    assert_eq!(chip.write_data(mode), NONE);
}

fn mode(chip: &mut I8042) -> u8 {
    command(chip, 0x20);
    chip.read_data(0)
}

/// Everything in the output buffer and behind it, and which of it is the mouse's.
fn drain(chip: &mut I8042) -> (Vec<u8>, Vec<u8>) {
    let (mut keyboard, mut mouse) = (Vec::new(), Vec::new());
    while chip.read_status() & OBF != 0 {
        let aux = chip.read_status() & AUX_OBF == AUX_OBF;
        (if aux { &mut mouse } else { &mut keyboard }).push(chip.read_data(0));
    }
    (keyboard, mouse)
}

/// Sends `bytes` to the keyboard and returns all that it says.
fn keyboard(chip: &mut I8042, bytes: &[u8]) -> Vec<u8> {
    let mut replies = Vec::new();
    for &byte in bytes {
        let _ = chip.write_data(byte);
        replies.extend(drain(chip).0);
    }
    replies
}

/// Sends `bytes` to the mouse and returns all that it says.
fn mouse(chip: &mut I8042, bytes: &[u8]) -> Vec<u8> {
    let mut replies = Vec::new();
    for &byte in bytes {
        command(chip, 0xd4);
        assert_eq!(chip.write_data(byte), NONE);
        replies.extend(drain(chip).1);
    }
    replies
}

fn keys(chip: &mut I8042, events: &[(QKeyCode, bool)]) -> Vec<u8> {
    let mut codes = Vec::new();
    for &(key, down) in events {
        chip.key_event(key, down);
        codes.extend(drain(chip).0);
    }
    codes
}

fn press_and_release(chip: &mut I8042, key: QKeyCode) -> Vec<u8> {
    keys(chip, &[(key, true), (key, false)])
}

/// Enables the mouse and sets the sampling rates `knock`.
fn enabled_mouse(knock: &[u8]) -> I8042 {
    let mut chip = raw();
    for &rate in knock {
        mouse(&mut chip, &[0xf3, rate]);
    }
    mouse(&mut chip, &[0xf4]);
    chip
}

#[test]
fn status_and_data_after_power_on() {
    let mut chip = I8042::new(false);
    assert_eq!((chip.read_status(), chip.read_data(0)), (0x18, 0));
    assert!(chip.a20() && !chip.irq1_level() && !chip.irq12_level());
    assert_eq!(mode(&mut chip), 0x03);
}

#[test]
fn the_controller_tests_itself_and_its_interfaces() {
    let mut chip = I8042::new(false);
    for (test, result) in [(0xaa, 0x55), (0xab, 0x00), (0xa9, 0x00)] {
        command(&mut chip, test);
        assert_eq!(chip.read_status() & OBF, OBF);
        assert_eq!(chip.read_data(0), result, "command {test:#x}");
        assert_eq!(chip.read_status() & AUX_OBF, 0);
    }
    assert_eq!(chip.read_status(), 0x1c, "the system flag is set");
}

#[test]
fn status_does_not_tell_commands_from_data() {
    let mut chip = I8042::new(false);
    command(&mut chip, 0x60);
    assert_eq!(chip.read_status() & 0x08, 0x08);
    assert_eq!(chip.write_data(0x03), NONE);
    assert_eq!(chip.read_status() & 0x08, 0x08, "set for good, as in QEMU");
}

#[test]
fn the_command_byte_reads_back_and_follows_enable_and_disable() {
    let mut chip = I8042::new(false);
    set_mode(&mut chip, 0x47);
    assert_eq!(mode(&mut chip), 0x47);
    for (disable, enable, bit) in [(0xad, 0xae, 0x10), (0xa7, 0xa8, 0x20)] {
        command(&mut chip, disable);
        assert_eq!(mode(&mut chip), 0x47 | bit);
        command(&mut chip, enable);
        assert_eq!(mode(&mut chip), 0x47);
    }
}

#[test]
fn ports_read_back() {
    let mut chip = I8042::new(false);
    for (read, value) in [(0xc0, 0x80), (0xd0, 0xcf), (0xe0, 0x03)] {
        command(&mut chip, read);
        assert_eq!(chip.read_data(0), value, "command {read:#x}");
    }
    command(&mut chip, 0xad);
    command(&mut chip, 0xe0);
    assert_eq!(chip.read_data(0), 0x02, "the keyboard's clock is held low");
    command(&mut chip, 0xd2);
    assert_eq!(chip.write_data(0), NONE);
    command(&mut chip, 0xd0);
    assert_eq!(
        (chip.read_data(0), chip.read_data(0)),
        (0xdf, 0xdf),
        "the newer reply took the older one's place"
    );
}

#[test]
fn a20_follows_the_output_port() {
    let mut chip = I8042::new(false);
    for (value, level) in [(0xdd, false), (0xdf, true)] {
        let a20 = I8042Actions { a20: Some(level), ..NONE };
        command(&mut chip, 0xd1);
        assert_eq!(chip.write_data(value), a20);
        assert_eq!(chip.a20(), level);
        assert_eq!(chip.write_command(if level { 0xdd } else { 0xdf }).a20, Some(!level));
        assert_eq!(chip.write_command(value), a20, "also a command of its own");
        command(&mut chip, 0xd0);
        assert_eq!(chip.read_data(0) & 0x02, if level { 0x02 } else { 0 });
    }
}

#[test]
fn bit_0_of_the_output_port_resets_the_machine() {
    let mut chip = I8042::new(false);
    for pulse in 0xf0..=0xff {
        assert_eq!(chip.write_command(pulse), I8042Actions { reset: pulse & 1 == 0, ..NONE });
    }
    command(&mut chip, 0xd1);
    assert_eq!(chip.write_data(0xfe), I8042Actions { a20: Some(true), reset: true, leds: None });
}

#[test]
fn a_key_raises_line_1_until_it_is_read() {
    let mut chip = translating();
    chip.key_event(QKeyCode::A, true);
    assert_eq!(chip.read_status() & AUX_OBF, OBF);
    assert!(chip.irq1_level() && !chip.irq12_level());
    assert!(!chip.take_irq1_fall());
    chip.key_event(QKeyCode::A, false);
    assert_eq!(chip.read_data(0), 0x1e);
    assert!(chip.irq1_level() && chip.take_irq1_fall(), "the next byte is an edge of its own");
    assert_eq!(chip.read_data(0), 0x9e);
    assert!(!chip.irq1_level());
    assert_eq!(chip.read_data(0), 0x9e, "the last byte stays");
}

#[test]
fn interrupts_can_be_off() {
    let mut chip = translating();
    set_mode(&mut chip, 0x40);
    chip.key_event(QKeyCode::A, true);
    assert_eq!((chip.irq1_level(), chip.read_status() & OBF), (false, OBF));
    set_mode(&mut chip, 0x41);
    assert!(chip.irq1_level());
    assert_eq!(mouse(&mut chip, &[0xf4]), [ACK], "behind the key");
    set_mode(&mut chip, 0x42);
    chip.mouse_move(1, 1);
    chip.mouse_sync();
    assert!(chip.irq12_level() && !chip.irq1_level());
}

#[test]
fn a_disabled_keyboard_keeps_its_codes() {
    let mut chip = translating();
    command(&mut chip, 0xad);
    chip.key_event(QKeyCode::A, true);
    assert_eq!(chip.read_status() & OBF, 0);
    assert_eq!(mode(&mut chip), 0x53);
    command(&mut chip, 0xae);
    assert_eq!((chip.irq1_level(), chip.read_data(0)), (true, 0x1e));
    // Sending to the keyboard enables it.
    command(&mut chip, 0xad);
    assert_eq!(keyboard(&mut chip, &[0xee]), [0xee]);
    assert_eq!(mode(&mut chip), 0x43);
}

#[test]
fn the_output_buffer_can_be_written() {
    let mut chip = translating();
    command(&mut chip, 0xd2);
    assert_eq!(chip.write_data(0x12), NONE);
    assert!(chip.irq1_level());
    assert_eq!(chip.read_data(0), 0x12);
    // Linux's test for a multiplexer and for the auxiliary line.
    command(&mut chip, 0xd3);
    assert_eq!(chip.write_data(0xa5), NONE);
    assert!(chip.irq12_level() && !chip.irq1_level());
    assert_eq!(chip.read_status() & AUX_OBF, AUX_OBF);
    assert_eq!(chip.read_data(0), 0xa5);
}

#[test]
fn the_keyboard_answers_commands() {
    let mut chip = raw();
    for (sent, expected) in [
        (&[0xff][..], &[ACK, 0xaa][..]),
        (&[0xf2], &[ACK, 0xab, 0x83]),
        (&[0xee], &[0xee]),
        (&[0xf5], &[ACK]),
        (&[0xf4], &[ACK]),
        (&[0xf6], &[ACK]),
        (&[0xf3, 0x20], &[ACK, ACK]),
        (&[0xf0, 0x00], &[ACK, ACK, 2]),
        (&[0xf0, 0x03], &[ACK, ACK]),
        (&[0xf0, 0x00], &[ACK, ACK, 3]),
        (&[0xf0, 0x04], &[ACK, 0xfe]),
        (&[0x00], &[ACK]),
        (&[0x05], &[0xfe]),
        (&[0xfe], &[0xfe]),
    ] {
        assert_eq!(keyboard(&mut chip, sent), expected, "to {sent:02x?}");
    }
    assert_eq!(keyboard(&mut translating(), &[0xf2]), [ACK, 0xab, 0x41]);
    assert_eq!(keyboard(&mut translating(), &[0xf0, 0x00]), [ACK, ACK, 0x41]);
}

#[test]
fn replies_overtake_keys_and_resets_drop_them() {
    let mut chip = translating();
    command(&mut chip, 0xad);
    chip.key_event(QKeyCode::A, true);
    assert_eq!(keyboard(&mut chip, &[0xf4]), [ACK, 0x1e]);
    chip.key_event(QKeyCode::A, true);
    assert_eq!(keyboard(&mut chip, &[0xff]), [ACK, 0xaa]);
}

#[test]
fn leds_reach_the_host() {
    let mut chip = raw();
    assert_eq!(chip.write_data(0xed), NONE);
    assert_eq!(chip.write_data(0x02).leds, Some(2));
    assert_eq!(chip.leds(), 2);
    assert_eq!(chip.write_data(0xff).leds, Some(0), "off by a reset");
}

#[test]
fn keys_have_codes_in_three_sets() {
    for (set, expected) in [
        (1, &[0x1e, 0x9e, 0xe0, 0x48, 0xe0, 0xc8, 0x41, 0xc1][..]),
        (2, &[0x1c, 0xf0, 0x1c, 0xe0, 0x75, 0xe0, 0xf0, 0x75, 0x83, 0xf0, 0x83]),
        (3, &[0x1c, 0xf0, 0x1c, 0x63, 0xf0, 0x63, 0x37, 0xf0, 0x37]),
    ] {
        let mut chip = raw();
        keyboard(&mut chip, &[0xf0, set]);
        let codes: Vec<u8> = [QKeyCode::A, QKeyCode::Up, QKeyCode::F7]
            .into_iter()
            .flat_map(|key| press_and_release(&mut chip, key))
            .collect();
        assert_eq!(codes, expected, "set {set}");
    }
}

/// Every key that sets 1 and 2 both know reads the same in set 1 and translated from set 2.
#[test]
fn translation_makes_set_1_of_set_2() {
    let (mut set_1, mut set_2, mut translated) = (raw(), raw(), translating());
    keyboard(&mut set_1, &[0xf0, 1]);
    let mut unknown = Vec::new();
    for &key in QKeyCode::ALL {
        let raw_2 = press_and_release(&mut set_2, key);
        let codes = press_and_release(&mut translated, key);
        let raw_1 = press_and_release(&mut set_1, key);
        if raw_2.is_empty() {
            unknown.push(key.name());
        } else {
            assert_eq!(codes, raw_1, "{key}");
        }
    }
    // Keys of Sun keyboards.
    let sun = "menu again props undo front copy open paste find cut lf help";
    assert_eq!(unknown.join(" "), format!("unmapped {sun}"));
}

#[test]
fn print_and_pause_depend_on_what_else_is_down() {
    use QKeyCode::{Alt, AltR, CtrlR, Pause, Print, Shift};
    let print = &[(Print, true), (Print, false)][..];
    let pause = &[(Pause, true), (Pause, false)][..];
    let cases: [(&[QKeyCode], _, &[u8], &[u8]); 6] = [
        (
            &[],
            print,
            &[0xe0, 0x2a, 0xe0, 0x37, 0xe0, 0xb7, 0xe0, 0xaa],
            &[0xe0, 0x12, 0xe0, 0x7c, 0xe0, 0xf0, 0x7c, 0xe0, 0xf0, 0x12],
        ),
        (&[Shift], print, &[0xe0, 0x37, 0xe0, 0xb7], &[0xe0, 0x7c, 0xe0, 0xf0, 0x7c]),
        (
            &[Alt],
            print,
            &[0xb8, 0x38, 0x54, 0xd4, 0xb8, 0x38],
            &[0xf0, 0x11, 0x11, 0x84, 0xf0, 0x84, 0xf0, 0x11, 0x11],
        ),
        (
            &[AltR],
            print,
            &[0xe0, 0xb8, 0xe0, 0x38, 0x54, 0xd4, 0xe0, 0xb8, 0xe0, 0x38],
            &[0xe0, 0xf0, 0x11, 0xe0, 0x11, 0x84, 0xf0, 0x84, 0xe0, 0xf0, 0x11, 0xe0, 0x11],
        ),
        (
            &[],
            pause,
            &[0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5],
            &[0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77],
        ),
        (&[CtrlR], pause, &[0xe0, 0x46, 0xe0, 0xc6], &[0xe0, 0x7e, 0xe0, 0xf0, 0x7e]),
    ];
    for (held, events, set_1, set_2) in cases {
        let (mut one, mut two) = (raw(), raw());
        keyboard(&mut one, &[0xf0, 1]);
        for &key in held {
            keys(&mut one, &[(key, true)]);
            keys(&mut two, &[(key, true)]);
        }
        assert_eq!(keys(&mut one, events), set_1, "{held:?} {events:?}");
        assert_eq!(keys(&mut two, events), set_2, "{held:?} {events:?}");
    }
}

#[test]
fn the_keyboard_holds_16_bytes_and_no_half_codes() {
    let mut chip = raw();
    for _ in 0..20 {
        chip.key_event(QKeyCode::Up, false);
    }
    assert_eq!(drain(&mut chip).0, [0xe0, 0xf0, 0x75].repeat(5));
    keyboard(&mut chip, &[0xf5]);
    chip.key_event(QKeyCode::Up, true);
    assert_eq!(drain(&mut chip).0, [0; 0], "scanning is disabled");
}

#[test]
fn throttling_spaces_the_bytes_of_the_keyboard() {
    let mut chip = I8042::new(true);
    chip.key_event(QKeyCode::Up, true);
    assert_eq!((chip.read_data(5), chip.next_deadline()), (0xe0, Some(1_000_005)));
    chip.expire(1_000_004);
    assert_eq!(chip.read_status() & OBF, 0);
    command(&mut chip, 0xaa);
    assert_eq!(chip.read_data(6), 0x55, "the controller itself is not throttled");
    chip.expire(1_000_005);
    assert_eq!((chip.irq1_level(), chip.read_data(1_000_005)), (true, 0x75));
}

#[test]
fn reset_is_power_on() {
    let mut chip = enabled_mouse(&[200, 200, 80]);
    keyboard(&mut chip, &[0xf0, 3]);
    set_mode(&mut chip, 0x40);
    let _ = chip.write_command(0xdd);
    chip.key_event(QKeyCode::A, true);
    let _ = chip.write_command(0xd4);
    chip.reset();
    assert_eq!((chip.read_status(), chip.a20(), chip.irq1_level()), (0x18, true, false));
    assert_eq!(mode(&mut chip), 0x03);
    assert_eq!(keyboard(&mut chip, &[0xf0, 0]), [ACK, ACK, 2]);
    assert_eq!(mouse(&mut chip, &[0xf2]), [ACK, 0]);
}

#[test]
fn keys_have_qapi_names() {
    assert_eq!("kp_enter".parse(), Ok(QKeyCode::KpEnter));
    assert_eq!("1".parse(), Ok(QKeyCode::Digit1));
    assert!("altgr".parse::<QKeyCode>().is_err());
    for &key in QKeyCode::ALL {
        assert_eq!(key.name().parse(), Ok(key));
        assert_eq!(serde_json::to_value(key).unwrap(), key.to_string());
    }
}

#[derive(Clone, Debug)]
enum Step {
    ReadStatus,
    ReadData,
    Command(u8),
    Data(u8),
    Key(usize, bool),
    Move(i32, i32),
    Button(MouseButton, bool),
    Sync,
    Wait(u64),
    SaveAndLoad,
}

fn step() -> impl Strategy<Value = Step> {
    let byte = || prop_oneof![3 => 0xd0..=0xffu8, 2 => any::<u8>()];
    let button = prop::sample::select(vec![
        MouseButton::Left,
        MouseButton::Middle,
        MouseButton::Right,
        MouseButton::WheelUp,
        MouseButton::WheelDown,
        MouseButton::Side,
        MouseButton::Extra,
        MouseButton::WheelLeft,
        MouseButton::WheelRight,
    ]);
    prop_oneof![
        1 => Just(Step::ReadStatus),
        4 => Just(Step::ReadData),
        4 => byte().prop_map(Step::Command),
        4 => byte().prop_map(Step::Data),
        3 => (0..QKeyCode::ALL.len(), any::<bool>()).prop_map(|(key, down)| Step::Key(key, down)),
        2 => (any::<i32>(), any::<i32>()).prop_map(|(dx, dy)| Step::Move(dx, dy)),
        2 => (button, any::<bool>()).prop_map(|(button, down)| Step::Button(button, down)),
        2 => Just(Step::Sync),
        1 => prop_oneof![0..2_000_000u64, any::<u64>()].prop_map(Step::Wait),
        1 => Just(Step::SaveAndLoad),
    ]
}

proptest! {
    #[test]
    fn holds_together_whatever_the_guest_does(
        steps in prop::collection::vec(step(), 1..300),
        throttle in any::<bool>(),
    ) {
        let mut chip = I8042::new(throttle);
        let mut now = 0u64;
        for step in steps {
            match step {
                Step::ReadStatus => { chip.read_status(); }
                Step::ReadData => { chip.read_data(now); }
                Step::Command(value) => { let _ = chip.write_command(value); }
                Step::Data(value) => { let _ = chip.write_data(value); }
                Step::Key(key, down) => chip.key_event(QKeyCode::ALL[key], down),
                Step::Move(dx, dy) => chip.mouse_move(dx, dy),
                Step::Button(button, down) => chip.mouse_button(button, down),
                Step::Sync => chip.mouse_sync(),
                Step::Wait(ns) => now = now.saturating_add(ns),
                Step::SaveAndLoad => {
                    chip = serde_json::from_str(&serde_json::to_string(&chip).unwrap()).unwrap();
                }
            }
            chip.expire(now);
            let full = chip.read_status() & OBF != 0;
            prop_assert!(!(chip.irq1_level() && chip.irq12_level()), "one byte is one line's");
            prop_assert!(full || !chip.irq1_level() && !chip.irq12_level());
        }
        // No more is kept than the two queues, a reply each and the output buffer.
        let _ = chip.write_command(0x60);
        let _ = chip.write_data(0x43);
        let mut left = 0;
        while chip.read_status() & OBF != 0 || chip.next_deadline().is_some() {
            chip.read_data(now);
            now = chip.next_deadline().unwrap_or(now);
            chip.expire(now);
            left += 1;
            prop_assert!(left <= 40);
        }
    }
}
