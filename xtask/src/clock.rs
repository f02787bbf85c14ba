//! How far the clocks of two guests, ours and QEMU's, go from that of the machine that both run in.
//!
//! A guest is asked for its monotonic clock and answers some time between the question and the answer: that bounds how far it is
//! ahead of L1's. Of many questions the narrowest bounds are taken.

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::args::Args;
use crate::console::Console;
use crate::nested::{quote, quote_all, retry, this_program};
use crate::scenario::{is_wanted, nest_for};
use crate::vmm::Vmm;

/// A comparison.
pub struct Check {
    /// What `cargo xtask test NAME` picks.
    pub name: &'static str,
    seconds: u32,
    /// Whether it runs only where it is named: it takes too long.
    by_name: bool,
}

/// All of them.
pub const CHECKS: &[Check] = &[
    Check { name: "clock", seconds: 30, by_name: false },
    Check { name: "clock-for-10-minutes", seconds: 600, by_name: true },
];

/// What the guests run. The kernel prints the time that `/proc/timer_list` was opened at in its third line; the shell needs no
/// other program to read that.
pub const GUEST_SCRIPT: &str = r#"
exec </dev/ttyS0
echo clock-ready
while read -r question; do
    [ "$question" = end ] && break
    { read -r a; read -r a; read -r a a now a; } </proc/timer_list
    echo "now=$now;"
done
"#;

/// Where the nested machine has this program.
const PLACE: &str = "/bin/xtask";
const QUESTIONS: u32 = 40;
const ANSWER_TIME: Duration = Duration::from_secs(30);
const BOOT_TIME: Duration = Duration::from_secs(240);

/// The checks that a command line picks.
pub fn matching(filters: &[String]) -> Vec<&'static Check> {
    let runs = |check: &&Check| match filters {
        [] => !check.by_name,
        _ if check.by_name => filters.iter().any(|filter| filter == check.name),
        _ => is_wanted(check.name, filters),
    };
    CHECKS.iter().filter(runs).collect()
}

/// Runs comparisons and says on stdout how each went; the names of those that failed.
pub fn run(vmm: &Vmm, checks: &[&'static Check]) -> Result<Vec<&'static str>> {
    let mut failed = Vec::new();
    for check in checks {
        let (ours, qemu) = measured(vmm, check.seconds)?;
        let passed = ours.least() <= qemu.most();
        let verdict = if passed { "PASS" } else { "FAIL" };
        println!(
            "{verdict} {}: in {} s ours went {ours} from L1's, QEMU's {qemu}",
            check.name, check.seconds
        );
        failed.extend((!passed).then_some(check.name));
    }
    Ok(failed)
}

fn measured(vmm: &Vmm, seconds: u32) -> Result<(Span, Span)> {
    let mut nest = nest_for(vmm)?;
    let qemu = Vmm::qemu()?;
    qemu.carry_into(&mut nest)?;
    nest.carry(&this_program(), Some(PLACE))?;
    nest.timeout(BOOT_TIME * 3 + Duration::from_secs(seconds.into()));
    let line = |vmm: &Vmm| {
        let guest = |file: &str| std::path::Path::new("/guest").join(file);
        quote_all(&vmm.command_line(&guest("vmlinuz"), &guest("initrd"), "console=ttyS0 quiet script=clock"))
    };
    let script =
        format!("exec {PLACE} compare-clocks {seconds} {} {}\n", quote(&line(vmm)), quote(&line(&qemu)));
    retry(|| {
        let output = nest.attempt(&script)?.output;
        let text = String::from_utf8_lossy(&output);
        let mut spans = text.lines().filter_map(Span::parse);
        spans.next().zip(spans.next()).with_context(|| format!("no comparison came of it: {text}"))
    })
}

/// `xtask compare-clocks SECONDS CMD…`, for the nested machine: how far the clock of each command's guest goes from this machine's.
pub fn compare(args: Args) -> Result<u8> {
    let words = args.rest();
    let (seconds, commands) = words.split_first().context("compare-clocks: no time given")?;
    let seconds = seconds.parse().context("compare-clocks: the time")?;
    let (origin, time) = (Instant::now(), BOOT_TIME * 2 + Duration::from_secs(seconds));
    let mut guests = Vec::new();
    for line in commands {
        guests.push(Console::spawn(Command::new("sh").args(["-c", &format!("exec {line}")]), time)?);
    }
    for guest in &mut guests {
        guest.expect("clock-ready\n", BOOT_TIME).with_context(|| guest.last_words())?;
    }
    let look = |guests: &mut Vec<Console>| -> Result<Vec<Span>> {
        guests.iter_mut().map(|guest| ahead(guest, origin)).collect()
    };
    let before = look(&mut guests)?;
    sleep(Duration::from_secs(seconds));
    let after = look(&mut guests)?;
    for (before, after) in before.into_iter().zip(after) {
        println!("{}", after.minus(before).line());
    }
    guests.iter_mut().try_for_each(|guest| guest.send("end\n"))?;
    guests.into_iter().try_for_each(|guest| guest.drain(&mut |_| ()).map(drop))?;
    Ok(0)
}

/// How far a guest's clock is ahead of the time since `origin`.
fn ahead(guest: &mut Console, origin: Instant) -> Result<Span> {
    let now = || origin.elapsed().as_nanos() as i64;
    let mut bounds = Span { low: i64::MIN, high: i64::MAX };
    for _ in 0..QUESTIONS {
        let asked = now();
        guest.send("now\n")?;
        guest.expect("now=", ANSWER_TIME)?;
        let answer = guest.expect(";", ANSWER_TIME)?;
        let answered = now();
        let clock: i64 = String::from_utf8_lossy(&answer).parse().context("the guest's clock")?;
        bounds.low = bounds.low.max(clock - answered);
        bounds.high = bounds.high.min(clock - asked);
    }
    ensure!(bounds.low <= bounds.high, "the guest's clock jumped while it was asked");
    Ok(bounds)
}

/// What a difference of clocks is between, in ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    low: i64,
    high: i64,
}

impl Span {
    fn minus(self, other: Self) -> Self {
        Self { low: self.low - other.high, high: self.high - other.low }
    }

    /// The least that the difference may be, whatever its sign.
    fn least(self) -> i64 {
        self.low.max(-self.high).max(0)
    }

    /// The most that it may be.
    fn most(self) -> i64 {
        self.high.max(-self.low)
    }

    fn line(self) -> String {
        format!("drift {} {}", self.low, self.high)
    }

    fn parse(line: &str) -> Option<Self> {
        let (low, high) = line.trim().strip_prefix("drift ")?.split_once(' ')?;
        Some(Self { low: low.parse().ok()?, high: high.parse().ok()? })
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |ns: i64| ns as f64 / 1e6;
        write!(f, "{:.2} ± {:.2} ms", ms(self.low.midpoint(self.high)), ms((self.high - self.low) / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_of_bounds_is_bounded() {
        let (before, after) = (Span { low: 90, high: 110 }, Span { low: 130, high: 140 });
        let drift = after.minus(before);
        assert_eq!(drift, Span { low: 20, high: 50 });
        assert_eq!((drift.least(), drift.most()), (20, 50));
        assert_eq!(Span::parse(&format!("{}\r", drift.line())), Some(drift));
        let behind = before.minus(after);
        assert_eq!((behind.least(), behind.most()), (20, 50));
        assert_eq!(Span { low: -3, high: 5 }.least(), 0);
    }

    #[test]
    fn what_takes_long_runs_where_its_whole_name_is_given() {
        let names = |filters: &[&str]| {
            let filters: Vec<String> = filters.iter().map(|f| (*f).to_owned()).collect();
            matching(&filters).iter().map(|check| check.name).collect::<Vec<_>>()
        };
        assert_eq!((names(&[]), names(&["clock"])), (vec!["clock"], vec!["clock"]));
        assert_eq!(names(&["clock-for-10-minutes"]), ["clock-for-10-minutes"]);
        assert!(names(&["oracle"]).is_empty());
    }
}
