//! What a line can be completed to (monitor/hmp.c, `monitor_find_completion`).

use std::fs;

use hw_core::qdev_monitor::find_device;
use hw_core::{Device, DeviceClass};
use hw_input::qkeycode::QKeyCode;
use qom::{Interface, UserCreatable};

use super::args::{self, skip_space};
use super::command::Command;
use super::objects::user_creatable_types;
use super::readline::Completions;
use super::table::COMMANDS;

/// Completes the last of a command's words, the command's own the first of them.
pub(crate) type Completer = fn(words: &[String]) -> Completions;

/// Words that a line can have; with more nothing is completed (MAX_ARGS).
const MAX_WORDS: usize = 16;
/// Files of a folder that are looked at.
const MAX_FILES: usize = 10_000;

/// What the line, as far as it goes before the cursor, can be completed to.
pub(crate) fn complete(line: &str) -> Completions {
    let mut words = Vec::new();
    let mut rest = skip_space(line);
    while !rest.is_empty() {
        let Some((word, after)) = args::word(rest) else { return Completions::default() };
        words.push(word);
        rest = skip_space(after);
    }
    if line.ends_with(args::is_space) {
        words.push(String::new());
    }
    if words.len() > MAX_WORDS {
        return Completions::default();
    }
    by_table(COMMANDS, &words)
}

fn by_table(table: &'static [Command], words: &[String]) -> Completions {
    let [name, arguments @ ..] = words else { return starting_with("", names(table)) };
    let Some(last) = arguments.last() else { return starting_with(name, names(table)) };
    let Some(command) = table.iter().find(|c| c.is_called(name) && c.is_available()) else {
        return Completions::default();
    };
    if let Some(subcommands) = command.subcommands() {
        return by_table(subcommands, arguments);
    }
    if command.is_called("help") {
        return by_table(table, arguments);
    }
    if let Some(completer) = command.completer {
        return completer(words);
    }
    // Options may be left out, so what is completed is the first argument that is none.
    let kinds = args::arg_types(command.args).map(|arg| arg.kind);
    let kind = kinds.skip(arguments.len() - 1).find(|kind| *kind != '-');
    if kind == Some('F') { files(last) } else { Completions::default() }
}

fn names(table: &'static [Command]) -> impl Iterator<Item = String> {
    table.iter().filter(|c| c.is_available()).flat_map(|c| c.names.split('|')).map(str::to_owned)
}

/// Those of `words` that begin with `prefix`.
fn starting_with(prefix: &str, words: impl IntoIterator<Item = String>) -> Completions {
    let words = words.into_iter().filter(|word| word.starts_with(prefix)).collect();
    Completions { words, typed: prefix.len() }
}

/// Files, and folders with a slash behind them, as `typed` begins.
fn files(typed: &str) -> Completions {
    let (folder, prefix) = typed.split_at(typed.rfind('/').map_or(0, |at| at + 1));
    let Ok(entries) = fs::read_dir(if folder.is_empty() { "." } else { folder }) else {
        return Completions::default();
    };
    let found = entries.take(MAX_FILES).flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok().filter(|name| name.starts_with(prefix))?;
        let is_folder = fs::metadata(entry.path()).is_ok_and(|data| data.is_dir());
        Some(format!("{folder}{name}{}", if is_folder { "/" } else { "" }))
    });
    starting_with(typed, found)
}

/// The last word, if it is the command's `position`th argument.
fn argument(words: &[String], position: usize) -> Option<&str> {
    words.last().filter(|_| words.len() == position + 1).map(String::as_str)
}

/// Completes the first argument.
fn first(words: &[String], choices: impl IntoIterator<Item = String>) -> Completions {
    argument(words, 1).map_or_else(Completions::default, |typed| starting_with(typed, choices))
}

pub(crate) fn device_add(words: &[String]) -> Completions {
    let classes = qom::class_list("device", false).into_iter();
    let usable = classes.filter(|class| class.get::<DeviceClass>().is_some_and(|device| !device.board_only));
    first(words, usable.map(|class| class.name().to_owned()))
}

/// Ids of devices that can be unplugged.
pub(crate) fn device_del(words: &[String]) -> Completions {
    let place = qom::container_get(&qom::object_get_root(), "/machine/peripheral");
    let ids = place.children().into_iter().map(|(id, _)| id).filter(|id| {
        let device = find_device(id).ok();
        device.is_some_and(|object| {
            let class = object.class().get::<DeviceClass>();
            class.is_some_and(|class| class.hotpluggable)
                && object.cast::<Device>().is_some_and(|device| device.parent_bus().is_some())
        })
    });
    first(words, ids)
}

pub(crate) fn object_add(words: &[String]) -> Completions {
    first(words, user_creatable_types().into_iter().map(str::to_owned))
}

pub(crate) fn object_del(words: &[String]) -> Completions {
    let objects = qom::object_get_objects_root().children().into_iter();
    let creatable = objects.filter(|(_, object)| object.is_a(<dyn UserCreatable>::TYPE_NAME));
    first(words, creatable.map(|(id, _)| id))
}

pub(crate) fn chardev_add(words: &[String]) -> Completions {
    // The help's lines, its heading aside, are the names.
    let help = chardev::backend_help();
    first(words, help.lines().skip(1).map(|line| line.trim().to_owned()).collect::<Vec<_>>())
}

pub(crate) fn chardev_remove(words: &[String]) -> Completions {
    first(words, chardev::list().iter().map(|chardev| chardev.label().to_owned()))
}

pub(crate) fn ringbuf(words: &[String]) -> Completions {
    let chardevs = chardev::list().into_iter();
    let ringbufs = chardevs.filter(|chardev| chardev.read_buffered(0).is_some());
    first(words, ringbufs.map(|chardev| chardev.label().to_owned()))
}

/// The last of the keys that dashes join.
pub(crate) fn sendkey(words: &[String]) -> Completions {
    let Some(typed) = argument(words, 1) else { return Completions::default() };
    let last = typed.rsplit('-').next().unwrap_or_default();
    starting_with(last, QKeyCode::ALL.iter().map(|key| key.name().to_owned()))
}

pub(crate) fn watchdog_action(words: &[String]) -> Completions {
    const ACTIONS: [&str; 7] = ["debug", "inject-nmi", "none", "pause", "poweroff", "reset", "shutdown"];
    first(words, ACTIONS.map(str::to_owned))
}

pub(crate) fn trace_events(words: &[String]) -> Completions {
    first(words, util::trace::list().into_iter().map(|(name, _)| name.to_owned()))
}

pub(crate) fn trace_event(words: &[String]) -> Completions {
    match argument(words, 2) {
        Some(typed) => starting_with(typed, ["on", "off"].map(str::to_owned)),
        None => trace_events(words),
    }
}

#[cfg(test)]
mod tests {
    use super::complete;

    fn words(line: &str) -> (Vec<String>, usize) {
        let mut found = complete(line);
        found.words.sort();
        (found.words, found.typed)
    }

    fn check(line: &str, expected: &[&str], typed: usize) {
        let (found, len) = words(line);
        assert_eq!(
            (found.iter().map(String::as_str).collect::<Vec<_>>(), len),
            (expected.to_vec(), typed),
            "{line:?}"
        );
    }

    #[test]
    fn commands_and_their_arguments_are_completed() {
        check("inf", &["info"], 3);
        check("qom", &["qom-get", "qom-list", "qom-set"], 3);
        check("help inf", &["info"], 3);
        check("info  kv", &["kvm"], 2);
        check("help info kv", &["kvm"], 2);
        check("nosuch x", &[], 0);
        check("info registers ", &[], 0);
        check("sendkey ctrl-alt-d", &["d", "delete", "dot", "down"], 1);
        check("watchdog_action p", &["pause", "poweroff"], 1);
        check("trace-event startup o", &["off", "on"], 1);
        check("info trace-events startu", &["startup"], 6);
        check("chardev-add ringb", &["ringbuf"], 5);
        assert!(words("").0.len() > 50);
        assert!(words("info ").0.len() > 40);
        check("\"unterminated", &[], 0);
        check(&"a ".repeat(20), &[], 0);
    }

    #[test]
    fn files_are_completed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(folder.path().join("submit"), "").unwrap();
        std::fs::write(folder.path().join("other"), "").unwrap();
        check(
            &format!("logfile {path}/sub"),
            &[&format!("{path}/sub/"), &format!("{path}/submit")],
            path.len() + 4,
        );
        check("logfile /nosuch/", &[], 0);
    }
}
