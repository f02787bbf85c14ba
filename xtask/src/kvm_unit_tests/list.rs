//! `unittests.cfg`, the list of kvm-unit-tests.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// An entry of the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Test {
    /// Its heading.
    pub name: String,
    /// The kernel's file name.
    pub file: String,
    /// Number of CPUs.
    pub smp: String,
    /// More options of the VMM, as words of the shell.
    pub options: String,
    /// The kernel's command line, as one word of the shell; empty for none.
    pub append: String,
    /// How long it may take, in seconds; 0 if the entry does not say.
    pub seconds: u32,
    /// Whether it runs when no test is named.
    pub by_default: bool,
    /// Whether it is not for a KVM of 64 bits.
    elsewhere: bool,
}

/// The tests for 64 bits of a folder that has their list and their files.
pub fn read(folder: &Path) -> Result<Vec<Test>> {
    let file = folder.join("unittests.cfg");
    let text = fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
    let there = |test: &Test| !test.elsewhere && folder.join(&test.file).is_file();
    Ok(parse(&text).into_iter().filter(there).collect())
}

fn parse(text: &str) -> Vec<Test> {
    let mut tests: Vec<Test> = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let name = name.to_owned();
            tests.push(Test { name, smp: "1".to_owned(), by_default: true, ..Test::default() });
        } else if let (false, Some((key, value)), Some(test)) =
            (line.starts_with('#'), line.split_once('='), tests.last_mut())
        {
            let mut value = value.trim().to_owned();
            // A value of several lines.
            if let Some(mut rest) = value.strip_prefix("\"\"\"").map(str::to_owned) {
                while !rest.contains("\"\"\"") {
                    let Some(line) = lines.next() else { break };
                    rest = format!("{} {line}", rest.trim_end_matches('\\'));
                }
                value = rest.replace("\"\"\"", "");
            }
            test.take(key.trim(), value);
        }
    }
    tests
}

impl Test {
    fn take(&mut self, key: &str, value: String) {
        match key {
            "file" => self.file = value,
            // As many as the host has.
            "smp" => self.smp = if value.starts_with('$') { "2".to_owned() } else { value },
            "extra_params" | "qemu_params" => self.options = value,
            "test_args" => self.append = value,
            "timeout" => self.seconds = value.parse().unwrap_or(0),
            "groups" => self.by_default = !value.split(' ').any(|group| group == "nodefault"),
            "arch" => self.elsewhere |= value != "x86_64",
            "accel" => self.elsewhere |= value != "kvm",
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_have_options_arguments_and_times() {
        let text = "# [no]\n[a]\nfile = a.flat\nsmp = $MAX_SMP\ntest_args = \"x 'y'\"\nqemu_params = \"\"\"-cpu max \\\n-m 1G\"\"\"\n\
                    timeout = 240\ngroups = vmx nodefault\n\n[b]\nfile=b.flat\narch = i386\n";
        let tests = parse(text);
        assert_eq!(tests.len(), 2);
        let a = &tests[0];
        assert_eq!((&*a.name, &*a.file, &*a.smp, a.seconds), ("a", "a.flat", "2", 240));
        assert_eq!((&*a.append, &*a.options), ("\"x 'y'\"", "-cpu max  -m 1G"));
        assert!(!a.by_default && !a.elsewhere);
        assert!(tests[1].elsewhere && tests[1].smp == "1");
    }
}
