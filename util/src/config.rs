//! Options from a file, and options changed afterwards (util/qemu-config.c, `-readconfig` and `-set`).

use thiserror::Error;

/// A group of a configuration file: `[name]` or `[name "id"]` and the lines below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The group's name.
    pub name: String,
    /// The id.
    pub id: Option<String>,
    /// Names and values, in order.
    pub options: Vec<(String, String)>,
    /// The group's last line with something on it, from 1: the place for messages about it.
    pub line: usize,
}

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// A line is neither a group nor `name = "value"`.
    #[error("{file}:{line}: parse error")]
    Parse {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
    },
    /// A line before the first group.
    #[error("{file}:{line}: no group defined")]
    NoGroup {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
    },
    /// Not `group.id.arg=value`.
    #[error("can't parse: \"{0}\"")]
    Set(String),
}

/// Parses the contents of a configuration file. Lines that are empty or begin with `#` do not count.
///
/// # Errors
/// [`ConfigError::Parse`] and [`ConfigError::NoGroup`].
pub fn parse(file: &str, text: &str) -> Result<Vec<Group>, ConfigError> {
    let mut groups: Vec<Group> = Vec::new();
    for (number, text) in text.lines().enumerate() {
        let line = number + 1;
        let parse_error = || ConfigError::Parse { file: file.to_owned(), line };
        if text.trim().is_empty() || text.starts_with('#') {
            continue;
        }
        if text.starts_with('[') {
            let (name, id) = group_header(text).ok_or_else(parse_error)?;
            groups.push(Group { name, id, options: Vec::new(), line });
            continue;
        }
        let option = option_line(text).ok_or_else(parse_error)?;
        let no_group = || ConfigError::NoGroup { file: file.to_owned(), line };
        let group = groups.last_mut().ok_or_else(no_group)?;
        group.options.push(option);
        group.line = line;
    }
    Ok(groups)
}

/// `[name]` or `[name "id"]`.
fn group_header(line: &str) -> Option<(String, Option<String>)> {
    let (header, rest) = line.strip_prefix('[')?.split_once(']')?;
    if !is_blank_or_comment(rest) {
        return None;
    }
    let Some((name, id)) = header.split_once('"') else {
        let name = header.trim();
        return (!name.is_empty()).then(|| (name.to_owned(), None));
    };
    let id = id.strip_suffix('"')?;
    (!id.is_empty() && !name.trim().is_empty()).then(|| (name.trim().to_owned(), Some(id.to_owned())))
}

/// `name = "value"`.
fn option_line(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once('=')?;
    let (value, rest) = value.trim_start().strip_prefix('"')?.split_once('"')?;
    let name = name.trim();
    let well_formed = !name.is_empty() && !name.contains(char::is_whitespace) && is_blank_or_comment(rest);
    well_formed.then(|| (name.to_owned(), value.to_owned()))
}

fn is_blank_or_comment(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || text.starts_with('#')
}

/// `-set group.id.arg=value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetOption<'a> {
    /// The group.
    pub group: &'a str,
    /// Whose option.
    pub id: &'a str,
    /// The option.
    pub arg: &'a str,
    /// Its new value.
    pub value: &'a str,
}

/// Parses the argument of `-set`.
///
/// # Errors
/// [`ConfigError::Set`].
pub fn parse_set(text: &str) -> Result<SetOption<'_>, ConfigError> {
    let parts = || {
        let (group, rest) = text.split_once('.')?;
        let (id, rest) = rest.split_once('.')?;
        let (arg, value) = rest.split_once('=')?;
        let given = ![group, id, arg].contains(&"");
        given.then_some(SetOption { group, id, arg, value })
    };
    parts().ok_or_else(|| ConfigError::Set(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(text: &str) -> String {
        parse("vm.cfg", text).unwrap_err().to_string()
    }

    #[test]
    fn groups_with_and_without_id() {
        let text = "# a machine\n[device \"net0\"]\n  driver = \"e1000\"\n\tmac= \"52:54:00:12:34:56\" # x\n\n[machine]\n  type =\"pc\"\n  usb = \"\"\n";
        let groups = parse("vm.cfg", text).unwrap();
        assert_eq!(groups.len(), 2);
        assert_eq!(
            (groups[0].name.as_str(), groups[0].id.as_deref(), groups[0].line),
            ("device", Some("net0"), 4)
        );
        let options: Vec<(&str, &str)> =
            groups[0].options.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(options, [("driver", "e1000"), ("mac", "52:54:00:12:34:56")]);
        assert_eq!((groups[1].name.as_str(), &groups[1].id, groups[1].line), ("machine", &None, 8));
        assert_eq!(groups[1].options[1], ("usb".to_owned(), String::new()));
    }

    #[test]
    fn what_does_not_parse_names_its_line() {
        assert_eq!(error(" a = \"b\"\n"), "vm.cfg:1: no group defined");
        for bad in
            ["size = 64", "size \"64\"", "= \"64\"", "a b = \"c\"", "x = \"1\" y", "[memory", "[]", "[a \"b]"]
        {
            assert_eq!(error(&format!("[memory]\n\n{bad}\n")), "vm.cfg:3: parse error", "{bad}");
        }
    }

    #[test]
    fn set_names_group_id_and_argument() {
        let set = parse_set("device.a.mac=x=y.z").unwrap();
        assert_eq!((set.group, set.id, set.arg, set.value), ("device", "a", "mac", "x=y.z"));
        for bad in ["foo", "device.a.b", "device..b=c", ".a.b=c", "device.a.=c", ""] {
            assert_eq!(parse_set(bad).unwrap_err().to_string(), format!("can't parse: \"{bad}\""));
        }
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused(text in "(\\[?[a-z\" =#.\\]]{0,12}\n?){0,6}|.*") {
            let _ = (parse("x", &text), parse_set(&text));
        }
    }
}
