//! What users type, and what they are told: texts noted from qemu-system-x86_64 7.2.

mod others;

use std::fs;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use super::{action::Action, identity::NameOptions, memory::MemoryOptions, rtc::RtcOptions};

const PC: SmpLimits = SmpLimits {
    machine: "pc-i440fx-7.2",
    min_cpus: 1,
    max_cpus: 255,
    dies_supported: true,
    clusters_supported: false,
    prefer_sockets: false,
};

/// What the `pc` machine has without `-m`.
const DEFAULT_RAM: u64 = 128 << 20;

fn request(args: &[&str]) -> Result<Request, CliError> {
    CommandLine::parse(args.iter().map(OsString::from))
}

fn parse(args: &[&str]) -> CommandLine {
    match request(args) {
        Ok(Request::Run(command_line)) => command_line,
        other => panic!("{args:?}: {other:?}"),
    }
}

/// What the user sees when the arguments are refused.
fn refused(args: &[&str]) -> String {
    request(args).unwrap_err().report("softmmu")
}

/// What reading one option yields, a refusal as its text.
fn read<T>(args: &[&str], read: impl FnOnce(&mut CommandLine) -> Result<T, CliError>) -> Result<T, String> {
    read(&mut parse(args)).map_err(|error| error.to_string())
}

mod arguments {
    use super::*;

    #[test]
    fn options_keep_their_order_and_place() {
        let command_line = parse(&["-m", "64", "--name", "a", "-S", "-M", "pc", "-m", "1G"]);
        let ids: Vec<OptionId> = command_line.occurrences.iter().map(|occurrence| occurrence.id).collect();
        use OptionId::*;
        assert_eq!(ids, [Memory, Name, Stop, Machine, Memory]);
        assert_eq!(command_line.last(Memory), Some("1G"));
        assert_eq!(command_line.all(Memory).count(), 2);
        assert!(command_line.has(Stop) && !command_line.has(Daemonize));
        assert_eq!(command_line.occurrences[1].location.to_string(), "--name a");
    }

    #[test]
    fn what_is_no_option_is_refused() {
        assert_eq!(refused(&["-foo"]), "softmmu: -foo: invalid option");
        assert_eq!(refused(&["---m", "64"]), "softmmu: ---m: invalid option");
        assert_eq!(refused(&["-"]), "softmmu: -: invalid option");
        assert_eq!(refused(&["-name=foo"]), "softmmu: -name=foo: invalid option");
        assert_eq!(refused(&["-m"]), "softmmu: -m: requires an argument");
        assert_eq!(refused(&["-h", "-foo"]), "softmmu: -foo: invalid option", "all are looked up first");
    }

    #[test]
    fn what_is_not_there_yet_is_refused_by_name() {
        assert_eq!(refused(&["-sd", "x"]), "softmmu: -sd x: -sd: not supported yet");
        assert_eq!(refused(&["-usb"]), "softmmu: -usb: -usb: not supported yet");
        assert_eq!(refused(&["-vnc", ":1"]), "softmmu: -vnc :1: -vnc: only 'none' is supported yet");
        assert_eq!(refused(&["-g", "1x1"]), "softmmu: -g 1x1: Option not supported for this target");
        for option in ["-vga", "-parallel", "-vnc", "-display"] {
            assert_eq!(parse(&[option, "none"]).occurrences.len(), 1);
            assert!(refused(&[option, "other"]).ends_with("only 'none' is supported yet"));
        }
    }

    #[test]
    fn help_and_version_end_it() {
        assert_eq!(request(&["-h"]), Ok(Request::Help));
        assert_eq!(request(&["-S", "--help", "-hda", "x"]), Ok(Request::Help));
        assert_eq!(request(&["-version", "-h"]), Ok(Request::Version));
    }

    #[test]
    fn table_knows_qemus_options() {
        for name in "machine M cpu accel smp numa m device blockdev drive netdev chardev serial qmp rtc trace preconfig s"
            .split(' ')
        {
            assert!(options::lookup(name).is_some(), "{name}");
        }
        for (number, option) in options::OPTIONS.iter().enumerate() {
            assert_eq!(option.id as usize, number);
            assert!(
                std::ptr::eq(options::lookup(option.name).unwrap(), option),
                "{} is there twice",
                option.name
            );
        }
    }

    #[test]
    fn help_shows_every_option_in_two_columns() {
        let help = options::help();
        assert!(help.starts_with("QEMU emulator version 7.2.0 (softmmu "));
        assert!(help.contains("\n-h or -help     print this and exit\n"), "{help}");
        assert!(help.contains("\n-kernel FILE    boot this kernel"));
        assert!(help.contains("\n-m [size=]MIB[,slots=N,maxmem=SIZE]\n                guest memory"));
        assert!(help.contains("\n-sd FILE        image for an SD card (not supported yet)\n"));
        assert!(help.contains("\nDisplay options:\n"));
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        use std::os::unix::ffi::OsStringExt;
        let error = CommandLine::parse([OsString::from_vec(vec![b'-', 0xff])]).unwrap_err();
        assert!(error.to_string().ends_with("not UTF-8"));
    }

    proptest! {
        #[test]
        fn any_arguments_are_read_or_refused(
            option in prop::sample::select(vec!["-m", "-smp", "-M", "-accel", "-rtc", "-name", "-uuid",
                "-global", "-device", "-object", "-chardev", "-action", "-set"]),
            text in "[a-z0-9=,.:{}\"-]{0,30}|(cpus|cores|sockets|threads|dies|maxcpus)=[0-9]{1,12},(cores|threads)=[0-9]{1,12}|.*",
        ) {
            let Ok(Request::Run(mut line)) = request(&[option, &text]) else { return Ok(()) };
            let _ = (line.memory(DEFAULT_RAM), line.smp(&PC), line.machine(), line.accelerators(), line.rtc(), line.name());
            let _ = (line.uuid(), line.globals(), line.devices(), line.objects(), line.chardevs());
            let _ = line.action();
        }
    }
}

mod config_files {
    use super::*;

    fn with_file(text: &str, args: &[&str]) -> (String, Result<Request, CliError>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vm.cfg").to_str().unwrap().to_owned();
        fs::write(&path, text).unwrap();
        let request = request(&[&["-readconfig", path.as_str()], args].concat());
        (path, request)
    }

    #[test]
    fn groups_are_options() {
        let text = "[machine]\n  type = \"pc\"\n[memory]\n  size = \"1G\"\n[smp-opts]\n  cpus = \"2\"\n\
                    [device \"d\"]\n  driver = \"isa-debugcon\"\n  a = \"x,y\"\n";
        let (path, request) = with_file(text, &[]);
        let Ok(Request::Run(mut line)) = request else { panic!("{request:?}") };
        assert_eq!(line.machine().unwrap().name.as_deref(), Some("pc"));
        assert_eq!(line.memory(DEFAULT_RAM).unwrap().size, 1 << 30);
        assert_eq!(line.smp(&PC).unwrap().cpus, 2);
        let devices = line.devices().unwrap();
        assert_eq!((devices[0].driver.as_str(), devices[0].id.as_deref()), ("isa-debugcon", Some("d")));
        assert_eq!(devices[0].properties, [("a".to_owned(), json!("x,y"))]);
        assert_eq!(devices[0].location, Location::File { name: path, line: 9 });
    }

    #[test]
    fn mistakes_are_told_with_file_and_line() {
        let error = |text: &str| {
            let (path, request) = with_file(text, &[]);
            let error = match request {
                Ok(Request::Run(mut line)) => line.memory(DEFAULT_RAM).unwrap_err(),
                other => other.unwrap_err(),
            };
            error.report("softmmu").replace(&path, "F")
        };
        assert_eq!(error("\n[foo]\n a = \"b\"\n"), "softmmu:F:3: There is no option group 'foo'");
        assert_eq!(error(" a = \"b\"\n"), "softmmu:F:1: no group defined");
        assert_eq!(error("[memory]\nfoo\n"), "softmmu:F:2: parse error");
        assert_eq!(error("[iscsi]\n  user = \"x\"\n"), "softmmu:F:2: -iscsi: not supported yet");
        assert!(error("[memory]\n  size = \"64x\"\n").starts_with("softmmu:F:2: Parameter 'size' expects"));
    }

    #[test]
    fn files_that_cannot_be_read_are_named() {
        let text =
            "softmmu: -readconfig /nonexistent: Could not open '/nonexistent': No such file or directory";
        assert_eq!(refused(&["-readconfig", "/nonexistent"]), text);
        let text = "softmmu: -readconfig /tmp: Cannot read config file: Is a directory";
        assert_eq!(refused(&["-readconfig", "/tmp"]), text);
    }

    #[test]
    fn set_changes_an_earlier_option() {
        let mut line = parse(&["-device", "a,id=x,p=1", "-device", "a,id=y", "-set", "device.x.p=2,3"]);
        let devices = line.devices().unwrap();
        assert_eq!(devices[0].properties.last(), Some(&("p".to_owned(), json!("2,3"))));
        assert!(devices[1].properties.is_empty());
    }

    #[test]
    fn set_needs_something_to_change() {
        let error = |set: &str| refused(&["-device", "a,id=x", "-set", set]).replace("softmmu: -set ", "");
        assert_eq!(error("foo"), "foo: can't parse: \"foo\"");
        assert_eq!(error("device.z.b=c"), "device.z.b=c: there is no device \"z\" defined");
        assert_eq!(error("foo.a.b=c"), "foo.a.b=c: There is no option group 'foo'");
        assert_eq!(error("object.a.b=c"), "object.a.b=c: -set is not supported with object");
    }
}

mod memory {
    use super::*;

    fn memory(args: &[&str]) -> Result<MemoryOptions, String> {
        read(args, |line| line.memory(DEFAULT_RAM))
    }

    fn size(text: &str) -> u64 {
        memory(&["-m", text]).unwrap().size
    }

    #[test]
    fn sizes_in_all_forms() {
        const MIB: u64 = 1 << 20;
        assert_eq!(memory(&[]).unwrap(), MemoryOptions { size: 128 * MIB, slots: 0, maxmem: 128 * MIB });
        assert_eq!(size("64"), 64 * MIB);
        assert_eq!(size("size=64"), 64 * MIB);
        assert_eq!(size("1.5G"), 1536 * MIB);
        assert_eq!(size("65536k"), 64 * MIB);
        assert_eq!(size("0x40"), 64 * MIB);
        assert_eq!(size("1E"), 1 << 60);
        assert_eq!(size("0"), 128 * MIB, "0 is the default");
        assert_eq!(size(""), 128 * MIB);
        assert_eq!(size("8193b"), 16384, "rounded up");
        assert_eq!(memory(&["-m", "1G", "-m", "2G"]).unwrap().size, 2048 * MIB);
        let slots = memory(&["-m", "1G,slots=2,maxmem=4G"]).unwrap();
        assert_eq!((slots.slots, slots.maxmem), (2, 4096 * MIB));
        assert_eq!(memory(&["-m", "1G", "-m", "slots=2,maxmem=4G"]).unwrap(), slots);
    }

    #[test]
    fn members_of_the_machines_memory_stand_for_m() {
        const MIB: u64 = 1 << 20;
        let members = "pc,memory.size=1G,memory.max-size=4G,memory.slots=2";
        let slots = MemoryOptions { size: 1024 * MIB, slots: 2, maxmem: 4096 * MIB };
        assert_eq!(memory(&["-M", members]).unwrap(), slots);
        let smaller = MemoryOptions { size: 64 * MIB, ..slots };
        assert_eq!(memory(&["-M", members, "-m", "64"]).unwrap(), smaller, "-m goes first");
        assert_eq!(memory(&["-M", "memory.size=8192"]).unwrap().size, 8192, "bytes");
        assert_eq!(memory(&["-M", "memory.slots=1"]).unwrap_err(), "slots specified but no max-size");
        assert_eq!(
            memory(&["-M", "memory.sloths=1"]).unwrap_err(),
            "Parameter 'memory.sloths' is unexpected"
        );
        assert_eq!(memory(&["-M", "memory.size=x"]).unwrap_err(), "Parameter 'memory.size' expects size");
    }

    #[test]
    fn hex_with_a_suffix_is_warned_about() {
        let mut line = parse(&["-m", "0x40M"]);
        line.memory(DEFAULT_RAM).unwrap();
        assert_eq!(line.warnings, ["warning: Using a multiplier suffix on hex numbers is deprecated: 0x40M"]);
    }

    #[test]
    fn refusals_in_qemus_words() {
        let error = |text: &str| memory(&["-m", text]).unwrap_err();
        assert_eq!(
            error("1.5"),
            "-m 1.5: Parameter 'size' expects a non-negative number below 2^64\n\
             Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively."
        );
        assert_eq!(error("16E"), "-m 16E: Value '16E' is out of range for parameter 'size'");
        assert_eq!(error("17592186044416"), "Parameter 'memory.size' expects size");
        assert_eq!(error("size=1G,foo=1"), "-m size=1G,foo=1: Invalid parameter 'foo'");
        assert_eq!(
            error("1G,slots=a,maxmem=2G"),
            "-m 1G,slots=a,maxmem=2G: Parameter 'slots' expects a number"
        );
        assert_eq!(error("1G,slots=0"), "slots specified but no max-size");
        assert_eq!(
            error("1G,slots=1,maxmem=512M"),
            "invalid value of maxmem: maximum memory size (0x20000000) must be at least the initial memory size \
             (0x40000000)"
        );
        assert_eq!(
            error("1G,maxmem=1G,slots=1"),
            "invalid value of maxmem: memory slots were specified but maximum memory size (0x40000000) is equal to \
             the initial memory size (0x40000000)"
        );
        assert_eq!(error("1G,help"), "memory options:\n  maxmem=<size>\n  size=<size>\n  slots=<num>");
    }
}

mod smp {
    use super::*;

    fn smp(text: &str) -> Result<[u32; 6], String> {
        let topology = read(&["-smp", text], |line| line.smp(&PC))?;
        let CpuTopology { cpus, max_cpus, sockets, dies, clusters, cores, threads } = topology;
        assert_eq!(clusters, 1);
        Ok([cpus, max_cpus, sockets, dies, cores, threads])
    }

    #[test]
    fn what_is_not_given_is_worked_out() {
        assert_eq!(read(&[], |line| line.smp(&PC)).unwrap().cpus, 1);
        for (text, topology) in [
            ("1", [1, 1, 1, 1, 1, 1]),
            ("0x4", [4, 4, 1, 1, 4, 1]),
            ("cpus=255", [255, 255, 1, 1, 255, 1]),
            ("4,sockets=2", [4, 4, 2, 1, 2, 1]),
            ("4,sockets=2,cores=2", [4, 4, 2, 1, 2, 1]),
            ("4,threads=2", [4, 4, 1, 1, 2, 2]),
            ("4,sockets=1,cores=2", [4, 4, 1, 1, 2, 2]),
            ("4,cores=2", [4, 4, 2, 1, 2, 1]),
            ("sockets=2,cores=2,threads=2", [8, 8, 2, 1, 2, 2]),
            ("4,maxcpus=8", [4, 8, 1, 1, 8, 1]),
            ("maxcpus=4", [4, 4, 1, 1, 4, 1]),
            ("4,dies=2", [4, 4, 1, 2, 2, 1]),
            ("4,clusters=1", [4, 4, 1, 1, 4, 1]),
            ("1,cpus=2", [2, 2, 1, 1, 2, 1]),
            ("sockets=2", [2, 2, 2, 1, 1, 1]),
        ] {
            assert_eq!(smp(text), Ok(topology), "{text}");
        }
        let merged = read(&["-smp", "4", "-smp", "cores=2"], |line| line.smp(&PC)).unwrap();
        assert_eq!((merged.cpus, merged.sockets, merged.cores), (4, 2, 2));
        let old = SmpLimits { prefer_sockets: true, ..PC };
        let old = read(&["-smp", "4"], |line| line.smp(&old)).unwrap();
        assert_eq!((old.sockets, old.cores), (4, 1));
    }

    #[test]
    fn zero_is_deprecated() {
        for text in ["0", "cpus=0", "0,sockets=2", "4,dies=0", "clusters=0"] {
            let mut line = parse(&["-smp", text]);
            line.smp(&PC).unwrap();
            let warning = "warning: Deprecated CPU topology (considered invalid): \
                           CPU topology parameters must be greater than zero";
            assert_eq!(line.warnings, [warning], "{text}");
        }
    }

    #[test]
    fn topologies_that_do_not_multiply_up() {
        let mismatch = "Invalid CPU topology: product of the hierarchy must match maxcpus: ";
        for (text, product) in [
            ("4,cores=3", "sockets (1) * dies (1) * cores (3) * threads (1) != maxcpus (4)"),
            (
                "4,sockets=2,cores=2,threads=2",
                "sockets (2) * dies (1) * cores (2) * threads (2) != maxcpus (4)",
            ),
            ("8,maxcpus=9,cores=2", "sockets (4) * dies (1) * cores (2) * threads (1) != maxcpus (9)"),
            (
                "4,maxcpus=8,sockets=2,cores=2,threads=1",
                "sockets (2) * dies (1) * cores (2) * threads (1) != maxcpus (8)",
            ),
        ] {
            assert_eq!(smp(text), Err(format!("{mismatch}{product}")), "{text}");
        }
        let error = "Invalid CPU topology: maxcpus must be equal to or greater than smp: sockets (1) * dies (1) * \
                     cores (2) * threads (1) == maxcpus (2) < smp_cpus (4)";
        assert_eq!(smp("4,maxcpus=2"), Err(error.to_owned()));
    }

    #[test]
    fn more_than_the_machine_can_have() {
        let too_many = |count: &str| {
            Err(format!("Invalid SMP CPUs {count}. The max CPUs supported by machine 'pc-i440fx-7.2' is 255"))
        };
        for (text, count) in [("9999", "9999"), ("256", "256"), ("-1", "-1"), ("8,maxcpus=300", "300")] {
            assert_eq!(smp(text), too_many(count), "{text}");
        }
        assert_eq!(smp("4294967296"), too_many("4294967296"));
        assert_eq!(smp("sockets=65536,cores=65536"), too_many("more than 2^32"));
        let isapc = SmpLimits { machine: "isapc", max_cpus: 1, ..PC };
        let error = read(&["-smp", "2"], |line| line.smp(&isapc)).unwrap_err();
        assert_eq!(error, "Invalid SMP CPUs 2. The max CPUs supported by machine 'isapc' is 1");
    }

    #[test]
    fn what_is_no_topology() {
        for text in ["foo", "2.5", "1k", "99999999999999999999"] {
            assert_eq!(smp(text), Err("Parameter 'smp.cpus' expects integer".to_owned()), "{text}");
        }
        assert_eq!(smp("cpus=4,cores=x"), Err("Parameter 'smp.cores' expects integer".to_owned()));
        assert_eq!(smp("4,foo=1"), Err("Parameter 'smp.foo' is unexpected".to_owned()));
        assert_eq!(
            smp("4,clusters=2"),
            Err("clusters not supported by this machine's CPU topology".to_owned())
        );
        assert!(smp("help").unwrap_err().starts_with("smp-opts options:\n  clusters=<num>\n"));
    }
}

mod machine {
    use super::*;

    #[test]
    fn options_of_all_occurrences_add_up() {
        let line = parse(&["-M", "pc,usb=on", "-machine", "vmport=off,type=isapc", "-M", "usb=off"]);
        let machine = line.machine().unwrap();
        assert_eq!(machine.name.as_deref(), Some("isapc"));
        assert_eq!(serde_json::Value::Object(machine.properties), json!({"usb": "off", "vmport": "off"}));
        assert!(!machine.help);
    }

    #[test]
    fn help_for_machines_and_for_one() {
        let help = parse(&["-M", "help"]).machine().unwrap();
        assert_eq!(help.name.as_deref(), Some("help"));
        let help = parse(&["-M", "pc,help"]).machine().unwrap();
        assert_eq!((help.name.as_deref(), help.help), (Some("pc"), true));
    }

    #[test]
    fn refusals_in_qemus_words() {
        let error = |args: &[&str]| read(args, |line| line.machine()).unwrap_err();
        assert_eq!(error(&["-machine", "pc,="]), "-machine pc,=: Invalid parameter ''");
        assert_eq!(error(&["-machine", "pc,usb"]), "-machine pc,usb: Expected '=' after parameter 'usb'");
        assert_eq!(
            error(&["-M", "memory.size=1", "-M", "memory=2"]),
            "Parameter 'memory' used inconsistently"
        );
    }

    fn names(args: &[&str]) -> Result<Vec<String>, String> {
        let accelerators = read(args, CommandLine::accelerators)?;
        Ok(accelerators.into_iter().map(|accelerator| accelerator.name).collect())
    }

    #[test]
    fn accelerators_in_the_order_to_try() {
        assert_eq!(names(&[]), Ok(vec![]));
        assert_eq!(names(&["-accel", "foo", "-accel", "kvm"]).unwrap(), ["foo", "kvm"]);
        assert_eq!(names(&["-M", "pc,accel=xen:kvm"]).unwrap(), ["xen", "kvm"]);
        assert_eq!(names(&["-M", "accel=xen", "-enable-kvm"]).unwrap(), ["kvm"]);
        assert_eq!(names(&["-enable-kvm", "-M", "accel=xen"]).unwrap(), ["xen"]);
        let kvm = &parse(&["-accel", "kvm,kernel-irqchip=on"]).accelerators().unwrap()[0];
        assert_eq!(kvm.properties, [("kernel-irqchip".to_owned(), "on".to_owned())]);
        assert_eq!(
            kvm.location.as_ref().map(ToString::to_string).as_deref(),
            Some("-accel kvm,kernel-irqchip=on")
        );
    }

    #[test]
    fn accelerators_are_given_in_one_way() {
        let error = "The -accel and \"-machine accel=\" options are incompatible";
        assert_eq!(names(&["-accel", "kvm", "-enable-kvm"]), Err(error.to_owned()));
        assert_eq!(names(&["-accel", "kvm", "-M", "accel=kvm"]), Err(error.to_owned()));
        assert_eq!(names(&["-M", "accel="]), Err("no accelerator found".to_owned()));
    }
}

mod rtc {
    use super::*;

    fn rtc(text: &str) -> Result<RtcOptions, String> {
        read(&["-rtc", text], CommandLine::rtc)
    }

    #[test]
    fn base_clock_and_drift() {
        assert_eq!(read(&[], CommandLine::rtc).unwrap(), RtcOptions::default());
        let rtc_options = rtc("base=localtime,clock=vm,driftfix=slew").unwrap();
        assert_eq!(rtc_options, RtcOptions { base: RtcBase::LocalTime, clock: RtcClock::Vm, slew: true });
        let base = |text: &str| rtc(&format!("base={text}")).unwrap().base;
        assert_eq!(base("utc"), RtcBase::Utc);
        assert_eq!(base("2006-06-17T16:01:21"), RtcBase::DateTime(1_150_560_081));
        assert_eq!(base("2006-06-17"), RtcBase::DateTime(1_150_502_400));
        assert_eq!(base("1970-01-01"), RtcBase::DateTime(0));
        assert_eq!(base("2000-02-29T23:59:59"), RtcBase::DateTime(951_868_799));
        assert_eq!(base("1969-12-31T23:59:59"), RtcBase::DateTime(-1));
    }

    #[test]
    fn refusals_in_qemus_words() {
        let bad_date = "invalid datetime format\nvalid formats: '2006-06-17T16:01:21' or '2006-06-17'";
        for text in [
            "foo",
            "",
            "2020-13-01",
            "2021-02-29",
            "2020-01-01T24:00:00",
            "2020-01-01T00:00",
            "2020-01-01T00:00:00Z",
        ] {
            assert_eq!(rtc(&format!("base={text}")), Err(bad_date.to_owned()), "{text}");
        }
        assert_eq!(rtc("clock=foo"), Err("invalid option value 'foo'".to_owned()));
        assert_eq!(rtc("driftfix=foo"), Err("invalid option value 'foo'".to_owned()));
        assert_eq!(rtc("foo=1"), Err("-rtc foo=1: Invalid parameter 'foo'".to_owned()));
        assert_eq!(
            rtc("help"),
            Err("rtc options:\n  base=<str>\n  clock=<str>\n  driftfix=<str>".to_owned())
        );
    }
}
