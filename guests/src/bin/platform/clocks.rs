//! The HPET, the ACPI PM timer and the PIT against each other.

use kit::acpi::Fadt;
use kit::check::{equal, fail, holds, within};
use kit::io::inl;
use kit::{hpet, pit, say};

/// ACPI PM timer, Hz.
const PM_TIMER_CLOCK: u64 = 3_579_545;
/// Femtoseconds in a nanosecond.
const FS: u64 = 1_000_000;

pub fn check() {
    let capabilities = hpet::read(hpet::CAPABILITIES);
    equal("hpet-vendor", (capabilities >> 16).into(), 0x8086);
    equal("hpet-revision", (capabilities & 0xff).into(), 1);
    equal("hpet-64-bit-legacy", (capabilities >> 13 & 5).into(), 5);
    equal("hpet-timers", (capabilities >> 8 & 0x1f).into(), 2);
    equal("hpet-period", hpet::period(), 10 * FS);
    hpet::run(false);
    let stopped = hpet::counter();
    pit::delay_ms(2);
    equal("hpet-stops", hpet::counter(), stopped);
    hpet::run(true);
    pit::delay_ms(2);
    holds("hpet-advances", hpet::counter() > stopped, stopped);
    let Some(fadt) = Fadt::find() else { return fail("fadt", 0) };
    pm_timer(fadt.pm_timer);
    pit_delay();
}

/// HPET nanoseconds and PM timer read as near to each other as this machine allows.
fn sample(port: u16) -> (u64, u64) {
    let mut best = (u64::MAX, 0, 0);
    for _ in 0..16 {
        let before = hpet::counter();
        let timer = inl(port);
        let after = hpet::counter();
        if after - before < best.0 {
            best = (after - before, (before + after) / 2 * hpet::period() / FS, timer.into());
        }
    }
    (best.1, best.2)
}

fn pm_timer(port: u16) {
    let (time0, timer0) = sample(port);
    for _ in 0..4 {
        pit::delay_ms(50);
    }
    let (time1, timer1) = sample(port);
    let ticks = timer1.wrapping_sub(timer0) & 0xff_ffff;
    // In hertz by the HPET's time; half a percent for the readings' distance.
    let frequency = ticks * 1_000_000_000 / (time1 - time0).max(1);
    say!("pm-timer hz ", frequency);
    within("pm-timer-frequency", frequency, PM_TIMER_CLOCK - 18_000, PM_TIMER_CLOCK + 18_000);
}

/// PIT channel 2 counts no slower than its clock says.
fn pit_delay() {
    let before = hpet::counter();
    pit::delay_ms(50);
    let ns = (hpet::counter() - before) * hpet::period() / FS;
    holds("pit-not-fast", ns >= 49_000_000, ns);
}
