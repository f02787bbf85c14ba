//! Finding and running a command, and `help` (monitor/hmp.c).

use hw_core::machine::{current_machine, is_ready};

use super::args::{self, Args, is_space, skip_space};
use super::completion::Completer;
use super::info_table::INFO_COMMANDS;
use super::session::{Session, out};
use super::table::COMMANDS;
use super::{machine, x86};

/// Prints into the session; an error is a line that says what went wrong.
pub(crate) type Handler = fn(&mut Session, &Args) -> Result<(), String>;

/// What a command does.
pub(crate) enum Action {
    Run(Handler),
    /// Prints what QEMU prints where a machine has nothing of that kind.
    Text(&'static str),
    /// Leads on to commands of its own.
    Info(Handler),
}

pub(crate) struct Command {
    /// The name, and others for it after `|`.
    pub names: &'static str,
    /// What it takes, for [`args::parse`].
    pub args: &'static str,
    /// The same in words.
    pub params: &'static str,
    pub help: &'static str,
    pub action: Action,
    /// Whether it is there before the machine is made.
    preconfig: bool,
    /// How its last argument is completed, if not by its type.
    pub completer: Option<Completer>,
}

pub(crate) const fn command(
    names: &'static str,
    args: &'static str,
    params: &'static str,
    help: &'static str,
    action: Action,
) -> Command {
    Command { names, args, params, help, action, preconfig: false, completer: None }
}

impl Command {
    pub const fn preconfig(mut self) -> Command {
        self.preconfig = true;
        self
    }

    pub const fn completed_by(mut self, completer: Completer) -> Command {
        self.completer = Some(completer);
        self
    }

    pub fn is_called(&self, name: &str) -> bool {
        self.names.split('|').any(|n| n == name)
    }

    /// Whether it can be used now: under `--preconfig` there is a machine that is not made yet
    /// (`cmd_available`).
    pub fn is_available(&self) -> bool {
        self.preconfig || is_ready() || current_machine().is_none()
    }

    /// The commands it leads to.
    pub fn subcommands(&self) -> Option<&'static [Command]> {
        matches!(self.action, Action::Info(_)).then_some(INFO_COMMANDS)
    }
}

/// A command found in a line.
struct Found<'a> {
    command: &'static Command,
    /// The line up to the end of the command's name.
    typed: &'a str,
    rest: &'a str,
}

/// Finds what `line` names; `None` for a blank line.
///
/// # Errors
/// Says that there is no such command.
fn find(line: &str) -> Result<Option<Found<'_>>, String> {
    if skip_space(line).is_empty() {
        return Ok(None);
    }
    let mut table = COMMANDS;
    let mut rest = line;
    loop {
        let name = skip_space(rest);
        let (name, after) = name.split_at(name.find(|c| is_space(c) || c == '/').unwrap_or(name.len()));
        let typed = &line[..line.len() - after.len()];
        let Some(command) = table.iter().find(|c| c.is_called(name)) else {
            return Err(format!("unknown command: '{typed}'"));
        };
        if !command.is_available() {
            return Err(format!(
                "Command '{typed}' not available until machine initialization has completed."
            ));
        }
        rest = skip_space(after);
        match command.subcommands() {
            Some(subcommands) if !rest.is_empty() => table = subcommands,
            _ => return Ok(Some(Found { command, typed, rest })),
        }
    }
}

/// Carries out a line.
pub(crate) fn run(mon: &mut Session, line: &str) {
    util::trace_event!(handle_hmp_command, "mon {:p} cmdline: {line}", std::ptr::from_ref(mon));
    let found = match find(line) {
        Ok(Some(found)) => found,
        Ok(None) => return,
        Err(message) => return out!(mon, "{message}\n"),
    };
    let command = found.command;
    let handler = match &command.action {
        Action::Run(handler) | Action::Info(handler) => Ok(*handler),
        Action::Text(text) => Err(*text),
    };
    let cpu = mon.cpu();
    let registers = |name: &str| x86::register(cpu.as_ref()?, name);
    match args::parse(command.names, command.args, found.rest, &registers) {
        Ok(args) => match handler {
            Ok(handler) => {
                if let Err(message) = handler(mon, &args) {
                    out!(mon, "{message}\n");
                }
            }
            Err(text) => mon.print(text),
        },
        Err(message) => {
            if !message.is_empty() {
                out!(mon, "{message}\n");
            }
            out!(mon, "Try \"help {}\" for more information\n", found.typed);
        }
    }
}

fn print_help(mon: &mut Session, prefix: &str, command: &Command) {
    if command.is_available() {
        out!(mon, "{prefix}{} {} -- {}\n", command.names, command.params, command.help);
    }
}

/// `help` or `?`, alone, or with what it shall be about.
pub(crate) fn help(mon: &mut Session, args: &Args) -> Result<(), String> {
    let Some(line) = args.text("name") else {
        COMMANDS.iter().for_each(|c| print_help(mon, "", c));
        return Ok(());
    };
    if line == "log" {
        machine::log_help(mon);
        return Ok(());
    }
    let mut words = Vec::new();
    let mut rest = skip_space(line);
    while !rest.is_empty() {
        let Some((word, after)) = args::word(rest) else { return Ok(()) };
        words.push(word);
        rest = skip_space(after);
    }
    let mut table = COMMANDS;
    for (depth, word) in words.iter().enumerate() {
        let found = table.iter().find(|c| c.is_called(word) && c.is_available());
        let command = found.ok_or_else(|| format!("unknown command: '{}'", words[..=depth].join(" ")))?;
        let prefix = || words[..depth].iter().map(|word| format!("{word} ")).collect::<String>();
        let Some(subcommands) = command.subcommands() else {
            print_help(mon, &prefix(), command);
            return Ok(());
        };
        table = subcommands;
    }
    let prefix = words.iter().map(|word| format!("{word} ")).collect::<String>();
    table.iter().for_each(|c| print_help(mon, &prefix, c));
    Ok(())
}

/// `info` alone.
pub(crate) fn info(mon: &mut Session, _: &Args) -> Result<(), String> {
    INFO_COMMANDS.iter().for_each(|c| print_help(mon, "info ", c));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &str) -> String {
        let mut mon = Session::default();
        run(&mut mon, line);
        mon.into_text()
    }

    #[test]
    fn help_lists_every_command_and_explains_one() {
        let all = text("help");
        assert!(all.contains("\nhelp|? [cmd] -- show the help\n"), "{all}");
        assert_eq!(text("?  info  status"), "info status  -- show the current VM status (running|paused)\n");
        assert_eq!(text("help c"), "cont|c  -- resume emulation\n");
        assert_eq!(text("help nosuch"), "unknown command: 'nosuch'\n");
        assert_eq!(text("help info nosuch"), "unknown command: 'info nosuch'\n");
        assert_eq!(text("info"), text("help info"));
        assert!(text("help info").lines().all(|line| line.starts_with("info ")));
        assert!(text("help log").starts_with("Log items (comma separated):\nnone "), "{}", text("help log"));
        assert!(text("help log").contains("\"log trace:help\""));
    }

    #[test]
    fn the_tables_are_in_order_and_their_types_are_known() {
        for table in [COMMANDS, INFO_COMMANDS] {
            let names: Vec<_> = table.iter().map(|c| c.names).collect();
            assert!(names.is_sorted(), "{names:?}");
            for command in table {
                let known = |kind| "sFBOS/ilMob-".contains(kind);
                assert!(args::arg_types(command.args).all(|arg| known(arg.kind)), "{}", command.names);
                let parts = command.args.split(',').filter(|part| !part.is_empty()).count();
                assert_eq!(args::arg_types(command.args).count(), parts, "{}", command.names);
            }
        }
    }

    #[test]
    fn what_is_typed_wrong_is_told() {
        assert_eq!(text("foo bar"), "unknown command: 'foo'\n");
        assert_eq!(text("info foo"), "unknown command: 'info foo'\n");
        assert_eq!(text("info/x"), "unknown command: 'info'\n");
        assert_eq!(text("help/x"), "unknown command: '/x'\n");
        assert_eq!(
            text("info version 3"),
            "version: extraneous characters at the end of line\nTry \"help info version\" for more information\n"
        );
        assert_eq!(
            text("stop foo"),
            "stop|s: extraneous characters at the end of line\nTry \"help stop\" for more information\n"
        );
        assert_eq!(text("x/4x"), "unexpected end of expression\nTry \"help x\" for more information\n");
        assert_eq!(text("info jit"), "Error: JIT information is only available with accel=tcg\n");
        assert_eq!(text("info usbhost"), "");
        assert_eq!(text(" \t "), "");
    }
}
