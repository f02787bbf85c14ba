//! What is printed of a request.

use std::time::Duration;

/// Prints a line on standard output; that nobody reads it is no error.
macro_rules! say {
    ($($format:tt)+) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($format)+);
    }};
}
pub(super) use say;

/// How requests are reported, as the options of a command say.
#[derive(Clone, Copy, Default)]
pub(super) struct Report {
    /// Not at all (`-q`).
    pub quiet: bool,
    /// As values with commas between (`-C`).
    pub parsable: bool,
    /// With what was read (`-v`).
    pub dump: bool,
}

/// Bytes with the largest unit that leaves a whole part.
pub(super) fn size_text(value: f64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut scaled, mut unit) = (value, "bytes");
    for larger in UNITS {
        if scaled < 1024.0 {
            break;
        }
        (scaled, unit) = (scaled / 1024.0, larger);
    }
    let number = if unit == "bytes" { format!("{scaled:.6}") } else { format!("{scaled:.3}") };
    let whole = number.split_once('.').filter(|(_, fraction)| fraction.starts_with("000"));
    format!("{} {unit}", whole.map_or(&*number, |(whole, _)| whole))
}

/// Time as `seconds sec` below one second, as `hours:minutes:seconds` else, and wherever it is to be parsed.
fn time_text(took: Duration, parsable: bool) -> String {
    let (seconds, fraction) = (took.as_secs(), f64::from(took.subsec_nanos()) / 1e9);
    if seconds == 0 && !parsable {
        return format!("{fraction:05.2} sec");
    }
    let below_a_minute = (seconds % 60) as f64 + fraction;
    format!("{}:{:02}:{below_a_minute:05.2}", seconds / 3600, seconds / 60 % 60)
}

impl Report {
    /// Tells of a request that went well: `op` is what it did.
    pub fn print(self, op: &str, offset: u64, bytes: u64, took: Duration) {
        let a_second = |n: f64| n / took.as_secs_f64().max(1e-9);
        let (rate, times) = (a_second(bytes as f64), a_second(1.0));
        let time = time_text(took, self.parsable);
        if self.quiet {
        } else if self.parsable {
            say!("{bytes},1,{time},{rate:.3},{times:.3}");
        } else {
            say!("{op} {bytes}/{bytes} bytes at offset {offset}");
            let (size, rate) = (size_text(bytes as f64), size_text(rate));
            say!("{size}, 1 ops; {time} ({rate}/sec and {times:.4} ops/sec)");
        }
    }
}

/// Prints bytes that were read from `offset`, sixteen a line.
pub(super) fn dump(bytes: &[u8], offset: u64) {
    for (n, line) in bytes.chunks(16).enumerate() {
        let hex: String = line.iter().map(|byte| format!("{byte:02x} ")).collect();
        let is_shown = |byte: &u8| byte.is_ascii_alphanumeric();
        let text: String =
            line.iter().map(|byte| if is_shown(byte) { char::from(*byte) } else { '.' }).collect();
        say!("{:08x}:  {hex} {text}", offset + n as u64 * 16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_largest_unit_and_no_empty_fraction() {
        assert_eq!(size_text(512.0), "512 bytes");
        assert_eq!(size_text(1.5), "1.500000 bytes");
        assert_eq!(size_text(65536.0), "64 KiB");
        assert_eq!(size_text(1536.0 * 1024.0), "1.500 MiB");
    }

    #[test]
    fn times_above_a_second_have_hours_and_minutes() {
        assert_eq!(time_text(Duration::from_millis(20), false), "00.02 sec");
        assert_eq!(time_text(Duration::from_millis(20), true), "0:00:00.02");
        assert_eq!(time_text(Duration::from_millis(3_661_500), false), "1:01:01.50");
    }
}
