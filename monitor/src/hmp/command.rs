//! The tables of commands, and finding and running one (hmp-commands.hx, hmp-commands-info.hx).

use super::args::{self, Arg, Args};
use super::output::{Output, out};
use super::{dump, info, machine, mtree, objects, pci, qtree};

/// Prints into the output; an error is a line that says what went wrong.
pub(crate) type Handler = fn(&mut Output, &Args) -> Result<(), String>;

pub(crate) struct Command {
    /// The name, and others for it after `|`.
    names: &'static str,
    /// What it takes, in words.
    params: &'static str,
    help: &'static str,
    args: &'static [Arg],
    handler: Handler,
}

const fn command(
    names: &'static str,
    args: &'static [Arg],
    params: &'static str,
    help: &'static str,
    handler: Handler,
) -> Command {
    Command { names, params, help, args, handler }
}

impl Command {
    fn is_called(&self, name: &str) -> bool {
        self.names.split('|').any(|n| n == name)
    }
}

use Arg::{Expression, Flag, Format, OptionalExpression, OptionalWord, Rest, Word};

/// In order of name, as `help` lists them.
const COMMANDS: &[Command] = &[
    command("cont|c", &[], "", "resume emulation", machine::cont),
    command(
        "device_add",
        &[Rest],
        "driver[,prop=value][,...]",
        "add device, like -device on the command line",
        objects::device_add,
    ),
    command("help|?", &[Rest], "[cmd]", "show the help", help),
    command("info", &[Rest], "[subcommand]", "show various information about the system state", info_list),
    command("logfile", &[Word], "filename", "output logs to 'filename'", machine::logfile),
    command("qom-get", &[Word, Word], "path property", "print QOM property", objects::qom_get),
    command("qom-list", &[OptionalWord], "path", "list QOM properties", objects::qom_list),
    command("quit|q", &[], "", "quit the emulator", machine::quit),
    command("stop|s", &[], "", "stop emulation", machine::stop),
    command("system_powerdown", &[], "", "send system power down event", machine::system_powerdown),
    command("system_reset", &[], "", "reset the system", machine::system_reset),
    command(
        "trace-event",
        &[Word, OptionalWord],
        "name on|off",
        "changes status of a specific trace event",
        machine::trace_event,
    ),
    command(
        "x",
        &[Format, Expression],
        "/fmt addr",
        "virtual memory dump starting at 'addr'",
        dump::virtual_memory,
    ),
    command(
        "xp",
        &[Format, Expression],
        "/fmt addr",
        "physical memory dump starting at 'addr'",
        dump::physical_memory,
    ),
];

const INFO_COMMANDS: &[Command] = &[
    command("chardev", &[], "", "show the character devices", info::chardev),
    command("cpus", &[], "", "show infos for each CPU", info::cpus),
    command("kvm", &[], "", "show KVM information", info::kvm),
    command(
        "mtree",
        &[Flag('f'), Flag('D')],
        "[-f][-D]",
        "show memory tree (-f: dump flat view for address spaces;\n\t\t\t-D: dump disabled regions)",
        mtree::info_mtree,
    ),
    command("name", &[], "", "show the current VM name", info::name),
    command("pci", &[], "", "show PCI info", pci::info_pci),
    command("qom-tree", &[OptionalWord], "[path]", "show QOM composition tree", objects::info_qom_tree),
    command("qtree", &[], "", "show device tree", qtree::info_qtree),
    command(
        "registers",
        &[Flag('a'), OptionalExpression],
        "[-a|vcpu]",
        "show the cpu registers (-a: show register info for all cpus; vcpu: specific vCPU to query; show the \
         current CPU's registers if no vcpu is specified)",
        info::registers,
    ),
    command("status", &[], "", "show the current VM status (running|paused)", info::status),
    command("uuid", &[], "", "show the current VM UUID", info::uuid),
    command("version", &[], "", "show the version of QEMU", info::version),
];

/// The first word and the rest.
fn split_word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()))
}

/// The command that `line` names, its name as typed, and its arguments; `Err` with what names none.
fn find(line: &str) -> Result<(&'static Command, String, &str), String> {
    let (name, rest) = split_word(line);
    let unknown = |name: &str| format!("unknown command: '{name}'");
    let command = COMMANDS.iter().find(|c| c.is_called(name)).ok_or_else(|| unknown(name))?;
    let (sub, sub_rest) = split_word(rest);
    if name != "info" || sub.is_empty() {
        return Ok((command, name.to_owned(), rest));
    }
    let full = format!("info {sub}");
    let command = INFO_COMMANDS.iter().find(|c| c.is_called(sub)).ok_or_else(|| unknown(&full))?;
    Ok((command, full, sub_rest))
}

/// Carries out a line and gives what it prints.
pub(crate) fn run(line: &str) -> Output {
    let mut output = Output::default();
    if line.trim().is_empty() {
        return output;
    }
    let (command, name, rest) = match find(line) {
        Ok(found) => found,
        Err(message) => {
            out!(output, "{message}\n");
            return output;
        }
    };
    let own_name = name.rsplit(' ').next().unwrap_or(&name);
    match args::parse(own_name, command.args, rest) {
        Ok(args) => {
            if let Err(message) = (command.handler)(&mut output, &args) {
                out!(output, "{message}\n");
            }
        }
        Err(message) => out!(output, "{message}\nTry \"help {name}\" for more information\n"),
    }
    output
}

fn print_help(output: &mut Output, prefix: &str, command: &Command) {
    out!(output, "{prefix}{} {} -- {}\n", command.names, command.params, command.help);
}

fn help(output: &mut Output, args: &Args) -> Result<(), String> {
    match args.word(0) {
        "" => COMMANDS.iter().for_each(|c| print_help(output, "", c)),
        "info" => return info_list(output, &Args::default()),
        line => {
            let (command, name, _) = find(line)?;
            print_help(output, if name.starts_with("info ") { "info " } else { "" }, command);
        }
    }
    Ok(())
}

fn info_list(output: &mut Output, _: &Args) -> Result<(), String> {
    INFO_COMMANDS.iter().for_each(|c| print_help(output, "info ", c));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &str) -> String {
        run(line).into_text()
    }

    #[test]
    fn help_lists_every_command_and_explains_one() {
        let all = text("help");
        assert!(all.contains("\nhelp|? [cmd] -- show the help\n"), "{all}");
        assert_eq!(all.lines().count(), COMMANDS.len());
        assert_eq!(text("?  info  status"), "info status  -- show the current VM status (running|paused)\n");
        assert_eq!(text("help c"), "cont|c  -- resume emulation\n");
        assert_eq!(text("help nosuch"), "unknown command: 'nosuch'\n");
        assert_eq!(text("info"), text("help info"));
        let names: Vec<_> = COMMANDS.iter().map(|c| c.names).collect();
        assert!(names.is_sorted(), "{names:?}");
    }

    #[test]
    fn what_is_typed_wrong_is_told() {
        assert_eq!(text("foo bar"), "unknown command: 'foo'\n");
        assert_eq!(text("info foo"), "unknown command: 'info foo'\n");
        assert_eq!(
            text("info version 3"),
            "version: extraneous characters at the end of line\nTry \"help info version\" for more information\n"
        );
        assert_eq!(text("x"), "unexpected end of expression\nTry \"help x\" for more information\n");
        assert_eq!(text(" \t "), "");
    }
}
