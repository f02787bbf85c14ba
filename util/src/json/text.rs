//! What stands between the quotes. Source: QEMU `qobject/json-parser.c`, `util/unicode.c`.

/// A code point that is no character: a surrogate, or one of those set aside for good.
pub(super) fn is_character(code: u32) -> bool {
    let noncharacter = matches!(code, 0xfdd0..=0xfdef) || code & 0xfffe == 0xfffe;
    char::from_u32(code).is_some() && !noncharacter
}

/// The four hexadecimal digits at the beginning of `digits`.
fn hex4(digits: &[u8]) -> Option<u32> {
    let digits = digits.get(..4)?;
    digits.iter().try_fold(0, |value, &digit| Some(value << 4 | char::from(digit).to_digit(16)?))
}

/// The code point of `\uXXXX`, or of a pair of surrogates written so, and the bytes that takes. `escape` begins
/// with the backslash.
fn unicode(escape: &[u8]) -> (Option<u32>, usize) {
    let Some(first) = escape.get(2..).and_then(hex4) else { return (None, 6) };
    let behind = escape.get(6..).unwrap_or_default();
    if matches!(first, 0xd800..=0xdbff) && behind.starts_with(b"\\u") {
        return match hex4(&behind[2..]) {
            Some(second @ 0xdc00..=0xdfff) => (Some(0x1_0000 + ((first & 0x3ff) << 10 | second & 0x3ff)), 12),
            _ => (None, 6),
        };
    }
    (Some(first), 6)
}

/// The string that a token is.
///
/// # Errors
/// Names the escape sequence that is none, or says that bytes are not UTF-8.
pub(super) fn unquote(token: &[u8]) -> Result<String, String> {
    let inner = token.get(1..token.len().saturating_sub(1)).unwrap_or_default();
    let mut rest = inner;
    let mut out = String::with_capacity(inner.len());
    while let Some(at) = rest.iter().position(|&byte| byte == b'\\') {
        let (plain, escape) = rest.split_at(at);
        push_utf8(&mut out, plain)?;
        let simple = match escape.get(1) {
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(&same @ (b'"' | b'\'' | b'\\' | b'/')) => char::from(same),
            Some(b'u') => {
                let (code, length) = unicode(escape);
                let code = code.filter(|&code| is_character(code)).and_then(char::from_u32);
                // The text goes on to the closing quote, as the message shows that, too.
                let shown = &token[1 + inner.len() - escape.len()..];
                let shown = String::from_utf8_lossy(&shown[..length.min(shown.len())]).into_owned();
                out.push(code.ok_or_else(|| format!("{shown} is not a valid Unicode character"))?);
                rest = escape.get(length..).unwrap_or_default();
                continue;
            }
            _ => return Err("invalid escape sequence in string".to_owned()),
        };
        out.push(simple);
        rest = escape.get(2..).unwrap_or_default();
    }
    push_utf8(&mut out, rest)?;
    Ok(out)
}

/// Adds what must be UTF-8, in which zero may be written as two bytes.
fn push_utf8(out: &mut String, mut bytes: &[u8]) -> Result<(), String> {
    let invalid = || "invalid UTF-8 sequence in string".to_owned();
    while !bytes.is_empty() {
        let (valid, rest) = match std::str::from_utf8(bytes) {
            Ok(text) => (text, &[][..]),
            Err(error) => {
                let (valid, rest) = bytes.split_at(error.valid_up_to());
                let rest = rest.strip_prefix(b"\xc0\x80").ok_or_else(invalid)?;
                (std::str::from_utf8(valid).map_err(|_| invalid())?, rest)
            }
        };
        if !valid.is_ascii() && !valid.chars().all(|c| is_character(c.into())) {
            return Err(invalid());
        }
        let zero = valid.len() + rest.len() < bytes.len();
        out.push_str(valid);
        if zero {
            out.push('\0');
        }
        bytes = rest;
    }
    Ok(())
}
