//! Option lists `a=1,b=2` (util/qemu-option.c).

/// The value at the start of a list, up to the first single comma, `,,` read as a comma; and what follows,
/// the comma first.
pub fn get_opt_value(list: &str) -> (String, &str) {
    let mut value = String::new();
    let mut rest = list;
    loop {
        let end = rest.find(',').unwrap_or(rest.len());
        value.push_str(&rest[..end]);
        rest = &rest[end..];
        match rest.strip_prefix(",,") {
            Some(tail) => {
                value.push(',');
                rest = tail;
            }
            None => return (value, rest),
        }
    }
}
