//! The command line, and what each of its options is parsed with.

use std::ffi::OsString;

use softmmu::cli::options::OPTIONS;
use softmmu::cli::{CliError, CommandLine, OptionId, Request, SmpLimits};

const PC: SmpLimits = SmpLimits {
    machine: "pc-i440fx-7.2",
    min_cpus: 1,
    max_cpus: 255,
    dies_supported: true,
    clusters_supported: false,
    prefer_sockets: false,
};

pub(crate) fn words() -> Vec<String> {
    let keys = "driver id backend chardev mode size maxmem slots cpus sockets cores threads accel type value property \
                path server wait on off help base clock qom-type";
    let names = OPTIONS.iter().map(|option| format!("-{}", option.name));
    names.chain(keys.split_whitespace().map(|key| format!("{key}="))).collect()
}

/// An argument a line.
pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let arguments: Vec<&str> = text.split('\n').collect();
    // What files say is another target's.
    if arguments.iter().any(|argument| argument.trim_start_matches('-') == "readconfig") {
        return;
    }
    match CommandLine::parse(arguments.into_iter().map(OsString::from)) {
        Ok(Request::Run(line)) => read(line),
        Ok(Request::Help | Request::Version) => {}
        Err(error) => told(&error),
    }
}

/// The user is told something, in lines that a terminal can show as they are.
fn told(error: &CliError) {
    assert!(!error.report("softmmu").is_empty());
}

/// Reads all options as the program does.
pub(crate) fn read(mut line: CommandLine) {
    let all = [
        line.name().err(),
        line.uuid().err(),
        line.action().err(),
        line.overcommit().err(),
        line.boot().err(),
        line.machine().err(),
        line.accelerators().err(),
        line.objects().err(),
        line.devices().err(),
        line.globals().err(),
        line.chardevs().err(),
        line.monitors().err(),
        line.rtc().err(),
        line.memory(128 << 20).err(),
        line.smp(&PC).err(),
    ];
    all.iter().flatten().for_each(told);
    for occurrence in &line.occurrences {
        match occurrence.id {
            OptionId::Cpu => drop(target_i386::option::parse_cpu_option(occurrence.text())),
            OptionId::Serial | OptionId::Monitor | OptionId::Qmp | OptionId::Gdb | OptionId::Debugcon => {
                drop(chardev::parse_compat("label", occurrence.text(), true));
            }
            _ => {}
        }
    }
}
