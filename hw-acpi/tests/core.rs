//! The ACPI registers as a guest sees them (ACPI 6.4, section 4.8).

use hw_acpi::core::{AcpiRegs, SleepRequest};
use hw_core::suspend::WakeupReason;
use proptest::prelude::*;

const PM1_STS: u64 = 0;
const PM1_EN: u64 = 2;
const PM1_CNT: u64 = 4;
const PM_TMR: u64 = 8;

const TMR: u64 = 1;
const PWRBTN: u64 = 1 << 8;
const RTC: u64 = 1 << 10;
const WAK: u64 = 1 << 15;
const SCI_EN: u64 = 1;
const SLP_EN: u64 = 1 << 13;

/// The PIIX4's: four bytes of GPE0, S4 is SLP_TYP 2.
fn piix4() -> AcpiRegs {
    AcpiRegs::new(4, 2, false)
}

/// A write that does not put the machine to sleep.
fn write(regs: &mut AcpiRegs, offset: u64, value: u64, now: u64) {
    assert_eq!(regs.write(offset, value as u16, now), None);
}

#[test]
fn timer_counts_at_3_579545_mhz_in_24_bits() {
    let regs = piix4();
    assert_eq!(regs.read(PM_TMR, 0), 0);
    assert_eq!(regs.read(PM_TMR, 1_000_000_000), 3_579_545);
    assert_eq!(regs.read(PM_TMR, 5_000_000_000), 17_897_725 - (1 << 24));
    assert_eq!(regs.read(PM_TMR + 1, 1_000_000_000), 3_579_545, "all of it at each of its ports, as in QEMU");
    assert!(regs.read(PM_TMR, u64::MAX) < 1 << 24);
}

#[test]
fn timer_is_read_only() {
    let mut regs = piix4();
    assert_eq!(regs.write(PM_TMR, 0xbeef, 0), None);
    assert_eq!(regs.read(PM_TMR, 0), 0);
}

#[test]
fn timer_status_follows_bit_23_and_raises_the_sci() {
    let mut regs = piix4();
    assert_eq!(regs.read(PM1_STS, 0), TMR, "set by a reset, as in QEMU");
    write(&mut regs, PM1_STS, TMR, 0);
    assert_eq!(regs.next_deadline(0), None, "not enabled");
    write(&mut regs, PM1_EN, TMR, 0);
    let deadline = regs.next_deadline(0).unwrap();
    assert_eq!(regs.read(PM_TMR, deadline - 1), 0x7f_ffff);
    assert!(!regs.sci_level(deadline - 1));
    assert_eq!(regs.read(PM_TMR, deadline), 0x80_0000);
    assert_eq!(regs.read(PM1_STS, deadline), TMR);
    assert!(regs.sci_level(deadline));
    assert_eq!(regs.next_deadline(deadline), None, "no more until the status is cleared");

    write(&mut regs, PM1_STS, TMR, deadline);
    assert!(!regs.sci_level(deadline));
    let second = regs.next_deadline(deadline).unwrap();
    assert_eq!(regs.read(PM_TMR, second - 1), 0xff_ffff);
    assert_eq!(regs.read(PM_TMR, second), 0);
    assert!(regs.sci_level(second));
}

#[test]
fn timer_status_does_not_need_the_enable_bit() {
    let mut regs = piix4();
    assert_eq!(regs.read(PM1_STS, 3_000_000_000), TMR);
    assert!(!regs.sci_level(3_000_000_000));
    write(&mut regs, PM1_EN, TMR, 3_000_000_000);
    assert!(regs.sci_level(3_000_000_000));
}

#[test]
fn power_button_counts_only_when_enabled() {
    let mut regs = piix4();
    write(&mut regs, PM1_STS, TMR, 0);
    regs.press_power_button();
    assert_eq!(regs.read(PM1_STS, 0), 0);
    write(&mut regs, PM1_EN, PWRBTN, 0);
    regs.press_power_button();
    assert_eq!(regs.read(PM1_STS, 0), PWRBTN);
    assert!(regs.sci_level(0));
    write(&mut regs, PM1_STS, RTC, 0);
    assert!(regs.sci_level(0), "another bit was cleared");
    write(&mut regs, PM1_STS, PWRBTN, 0);
    assert!(!regs.sci_level(0));
}

#[test]
fn accesses_reach_whole_registers() {
    let mut regs = piix4();
    write(&mut regs, PM1_EN, PWRBTN, 0);
    write(&mut regs, PM1_EN + 1, 0x21, 0);
    assert_eq!((regs.read(PM1_EN, 0), regs.read(PM1_EN + 1, 0)), (PWRBTN, 0), "at its first port only");
    write(&mut regs, PM1_CNT + 1, 0x21, 0);
    assert_eq!((regs.read(PM1_CNT, 0), regs.read(PM1_CNT + 1, 0)), (0x21, 0x21), "at both of its ports");
}

#[test]
fn slp_en_asks_for_the_state_in_slp_typ() {
    let mut regs = piix4();
    for (slp_typ, request) in [
        (0, Some(SleepRequest::SoftOff)),
        (1, Some(SleepRequest::SuspendToRam)),
        (2, Some(SleepRequest::SuspendToDisk)),
        (5, None),
    ] {
        let value = slp_typ << 10 | SCI_EN;
        write(&mut regs, PM1_CNT, value, 0);
        assert_eq!(regs.write(PM1_CNT, (value | SLP_EN) as u16, 0), request, "SLP_TYP {slp_typ}");
        assert_eq!(regs.read(PM1_CNT, 0), value, "SLP_EN reads 0");
    }
}

#[test]
fn smi_command_turns_acpi_on_and_off() {
    let mut regs = piix4();
    assert_eq!(regs.read(PM1_CNT, 0), 0);
    regs.set_sci_enabled(true);
    assert_eq!(regs.read(PM1_CNT, 0), SCI_EN);
    regs.set_sci_enabled(false);
    assert_eq!(regs.read(PM1_CNT, 0), 0);
}

#[test]
fn without_smi_acpi_is_on_until_the_guest_turns_it_off() {
    let mut regs = AcpiRegs::new(4, 2, true);
    regs.set_sci_enabled(false);
    assert_eq!(regs.read(PM1_CNT, 0), SCI_EN);
    write(&mut regs, PM1_CNT, 0, 0);
    assert_eq!(regs.read(PM1_CNT, 0), 0);
    regs.reset();
    assert_eq!(regs.read(PM1_CNT, 0), SCI_EN);
}

#[test]
fn general_purpose_events_raise_the_sci() {
    let mut regs = piix4();
    regs.raise_gpe(1);
    assert_eq!(regs.read_gpe(0), 0b10);
    assert!(!regs.sci_level(0));
    regs.write_gpe(2, 0b10);
    assert!(regs.sci_level(0));
    assert_eq!(regs.read_gpe(2), 0b10);
    regs.write_gpe(0, 0b01);
    assert!(regs.sci_level(0));
    regs.write_gpe(0, 0b10);
    assert!(!regs.sci_level(0));
    regs.raise_gpe(9);
    regs.write_gpe(3, 0b10);
    assert!(!regs.sci_level(0), "of the first byte only, as in QEMU");
    regs.raise_gpe(16);
    assert_eq!((regs.read_gpe(2), regs.read_gpe(4)), (0b10, 0), "there are 16 events");
}

#[test]
fn waking_sets_wak_sts_and_the_cause() {
    for (reason, cause) in
        [(WakeupReason::Rtc, RTC), (WakeupReason::PmTimer, TMR), (WakeupReason::Other, PWRBTN)]
    {
        let mut regs = piix4();
        write(&mut regs, PM1_STS, TMR, 0);
        regs.wake(reason);
        assert_eq!(regs.read(PM1_STS, 0), WAK | cause);
    }
    let mut regs = piix4();
    assert!(!regs.can_wake(WakeupReason::Rtc) && !regs.can_wake(WakeupReason::PmTimer));
    assert!(regs.can_wake(WakeupReason::Other));
    write(&mut regs, PM1_EN, RTC | TMR, 0);
    assert!(regs.can_wake(WakeupReason::Rtc) && regs.can_wake(WakeupReason::PmTimer));
}

#[test]
fn reset_clears_everything() {
    let mut regs = piix4();
    write(&mut regs, PM1_EN, 0xffff, 0);
    write(&mut regs, PM1_CNT, SCI_EN, 0);
    regs.press_power_button();
    regs.raise_gpe(0);
    regs.write_gpe(2, 0xff);
    regs.reset();
    assert_eq!([PM1_STS, PM1_EN, PM1_CNT].map(|at| regs.read(at, 9_000_000_000)), [TMR, 0, 0]);
    assert!((0..4).all(|offset| regs.read_gpe(offset) == 0));
    assert!(!regs.sci_level(9_000_000_000));
}

proptest! {
    #[test]
    fn random_accesses_never_panic(
        steps in prop::collection::vec((prop_oneof![0u64..20, any::<u64>()], any::<u64>(), any::<u64>()), 0..100),
    ) {
        let mut regs = piix4();
        for (offset, value, now) in steps {
            let _ = regs.write(offset, value as u16, now);
            regs.write_gpe(offset, value as u8);
            regs.raise_gpe(value as u8);
            regs.read(offset, now);
            regs.read_gpe(offset);
            if let Some(deadline) = regs.next_deadline(now) {
                prop_assert!(deadline > now);
                prop_assert!(regs.sci_level(deadline) || deadline == u64::MAX);
            }
            if value % 16 == 0 {
                regs.reset();
            }
        }
    }
}
