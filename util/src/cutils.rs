//! Numbers, sizes and booleans as users write them (util/cutils.c).

use thiserror::Error;

/// Why a number is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NumberError {
    /// Not a number, or something follows it.
    #[error("Invalid argument")]
    Invalid,
    /// It does not fit.
    #[error("Numerical result out of range")]
    Range,
}

/// A whole string as a number, in base 10, 16, or by its prefix (`0x`, `0`) for base 0.
///
/// As C's `strtoull`: blanks before it are skipped, a sign is taken, a negative number wraps around
/// (`qemu_strtou64`).
///
/// # Errors
/// See [`NumberError`].
pub fn strtou64(text: &str, base: u32) -> Result<u64, NumberError> {
    match parse_integer(text, base)? {
        (magnitude, negative, "") => Ok(if negative { magnitude.wrapping_neg() } else { magnitude }),
        _ => Err(NumberError::Invalid),
    }
}

/// A whole string as a signed number; bases as for [`strtou64`] (`qemu_strtoi64`).
///
/// # Errors
/// See [`NumberError`].
pub fn strtoi64(text: &str, base: u32) -> Result<i64, NumberError> {
    let (magnitude, negative, rest) = parse_integer(text, base)?;
    if !rest.is_empty() {
        return Err(NumberError::Invalid);
    }
    let value = i128::from(magnitude);
    i64::try_from(if negative { -value } else { value }).map_err(|_| NumberError::Range)
}

/// The number a text begins with: its magnitude, whether a minus sign is there, and what follows.
fn parse_integer(text: &str, base: u32) -> Result<(u64, bool, &str), NumberError> {
    let text = text.trim_start_matches(is_space);
    let (negative, text) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let hex = hex.filter(|digits| digits.starts_with(|c: char| c.is_ascii_hexdigit()));
    let (base, digits) = match (base, hex) {
        (0 | 16, Some(hex)) => (16, hex),
        (0, None) if text.starts_with('0') => (8, text),
        (0, None) => (10, text),
        _ => (base, text),
    };
    let length = digits.find(|c: char| !c.is_digit(base)).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(length);
    if digits.is_empty() {
        return Err(NumberError::Invalid);
    }
    // Digits only, so that nothing but the range can be wrong.
    let magnitude = u64::from_str_radix(digits, base).map_err(|_| NumberError::Range)?;
    Ok((magnitude, negative, rest))
}

/// What C's `isspace` takes for a blank.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

/// A unit of sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeUnit {
    /// 1.
    Bytes,
    /// 2^20, what `-m` means by a plain number.
    Mebibytes,
}

/// A size: decimal, with a fraction before a suffix (`1.5G`), or hexadecimal, of bytes (`qemu_strtosz`).
///
/// Suffixes are b, k, M, G, T, P, E in either case; `unit` counts where there is none.
///
/// # Errors
/// See [`NumberError`].
pub fn strtosz(text: &str, unit: SizeUnit) -> Result<u64, NumberError> {
    let (mut value, negative, mut rest) = parse_integer(text, 10)?;
    if negative {
        return Err(NumberError::Invalid);
    }
    let mut fraction = 0;
    if value == 0 && rest.starts_with(['x', 'X']) {
        (value, _, rest) = parse_integer(text, 16)?;
        if rest.starts_with('.') {
            return Err(NumberError::Invalid);
        }
    } else if let Some(tail) = rest.strip_prefix('.') {
        let length = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        let (digits, tail) = tail.split_at(length);
        fraction = fixed_point(digits);
        rest = tail;
    }
    let shift = match rest {
        "" if unit == SizeUnit::Bytes => 0,
        "" => 20,
        "b" | "B" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        "t" | "T" => 40,
        "p" | "P" => 50,
        "e" | "E" => 60,
        _ => return Err(NumberError::Invalid),
    };
    if shift == 0 && fraction != 0 {
        return Err(NumberError::Invalid);
    }
    // The fraction counts 1/2^64: half a byte is rounded up.
    let scaled = (u128::from(value) << shift) + (((u128::from(fraction) << shift) + (1 << 63)) >> 64);
    u64::try_from(scaled).map_err(|_| NumberError::Range)
}

/// `0.DIGITS` in units of 1/2^64.
fn fixed_point(digits: &str) -> u64 {
    // More digits than these are below a 2^64th.
    const DIGITS: usize = 19;
    let (mut numerator, mut denominator) = (0u64, 1u64);
    for digit in digits.bytes().take(DIGITS) {
        numerator = numerator * 10 + u64::from(digit - b'0');
        denominator *= 10;
    }
    ((u128::from(numerator) << 64) / u128::from(denominator)) as u64
}

/// Whether a size is written as a hexadecimal number with a suffix, which QEMU warns about.
pub fn is_hex_with_suffix(text: &str) -> bool {
    let digits = text.trim_start_matches(is_space).trim_start_matches('+');
    let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    hex.is_some_and(|hex| hex.ends_with(|c: char| "kKmMgGtTpP".contains(c)))
}

/// `on`, `yes`, `true` and `y`, and their opposites (`qapi_bool_parse`).
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "on" | "yes" | "true" | "y" => Some(true),
        "off" | "no" | "false" | "n" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn size(text: &str) -> Result<u64, NumberError> {
        strtosz(text, SizeUnit::Bytes)
    }

    #[test]
    fn sizes_as_qemu_reads_them() {
        let mib = 1 << 20;
        let good = [
            ("0", 0),
            (" +64", 64),
            ("4096", 4096),
            ("64b", 64),
            ("64B", 64),
            ("1k", 1024),
            ("1K", 1024),
            ("8M", 8 * mib),
            ("1.5G", 1536 * mib),
            ("1.G", 1024 * mib),
            ("1.5k", 1536),
            ("1t", 1 << 40),
            ("1p", 1 << 50),
            ("15E", 15 << 60),
            ("12345.000", 12345),
            ("0x40", 64),
            ("0X40", 64),
            ("0x40M", 64 * mib),
            ("0xAB", 0xab),
            ("0.1k", 102),
            ("18446744073709551615", u64::MAX),
        ];
        for (text, value) in good {
            assert_eq!(size(text), Ok(value), "{text}");
        }
        assert_eq!(strtosz("64", SizeUnit::Mebibytes), Ok(64 * mib));
        assert_eq!(strtosz("64b", SizeUnit::Mebibytes), Ok(64));
    }

    #[test]
    fn what_is_no_size() {
        let bad = ["", " ", "k", ".5G", "1.5", "1.5b", "1e3", "1.0e1G", "0x4.8G", "-1", "-0", "64MB", "64 "];
        for text in bad.into_iter().chain(["infG", "nanG", "1,5G", "0x", "0xg", "1..5k"]) {
            assert_eq!(size(text), Err(NumberError::Invalid), "{text}");
        }
        for text in ["16E", "18446744073709551616", "15.9999999999999999999999E", "0x10000000000000000"] {
            assert_eq!(size(text), Err(NumberError::Range), "{text}");
        }
    }

    #[test]
    fn hex_with_a_suffix_is_told_apart() {
        assert!(is_hex_with_suffix("0x40M"));
        assert!(!is_hex_with_suffix("0x40"));
        assert!(!is_hex_with_suffix("40M"));
        assert!(!is_hex_with_suffix("0x4E"));
    }

    #[test]
    fn numbers_in_each_base() {
        assert_eq!(strtou64("0x1F", 0), Ok(31));
        assert_eq!(strtou64("017", 0), Ok(15));
        assert_eq!(strtou64("\t 17", 0), Ok(17));
        assert_eq!(strtou64("-1", 0), Ok(u64::MAX));
        assert_eq!(strtou64("1f", 16), Ok(31));
        assert_eq!(strtou64("08", 0), Err(NumberError::Invalid));
        assert_eq!(strtou64("0x", 0), Err(NumberError::Invalid));
        assert_eq!(strtou64("5 ", 0), Err(NumberError::Invalid));
        assert_eq!(strtou64("--5", 0), Err(NumberError::Invalid));
        assert_eq!(strtou64("99999999999999999999", 0), Err(NumberError::Range));
        assert_eq!(strtoi64("-9223372036854775808", 0), Ok(i64::MIN));
        assert_eq!(strtoi64("9223372036854775808", 0), Err(NumberError::Range));
    }

    #[test]
    fn booleans() {
        for text in ["on", "yes", "true", "y"] {
            assert_eq!(parse_bool(text), Some(true));
        }
        for text in ["off", "no", "false", "n"] {
            assert_eq!(parse_bool(text), Some(false));
        }
        assert_eq!(parse_bool("ON"), None);
        assert_eq!(parse_bool("1"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_size_or_an_error(text in "[ +-]?(0x)?[0-9a-fA-F]{0,25}[.]?[0-9]{0,30}[a-zA-Z]{0,2}|.*") {
            let _ = (size(&text), strtou64(&text, 0), strtoi64(&text, 0), is_hex_with_suffix(&text));
        }

        #[test]
        fn decimal_numbers_round_trip(value: u64) {
            prop_assert_eq!(size(&value.to_string()), Ok(value));
            prop_assert_eq!(strtou64(&format!("{value:#x}"), 0), Ok(value));
        }
    }
}
