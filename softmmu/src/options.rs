//! What the command line means to this program: the options of `cli`, brought together.

use std::ffi::OsString;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hw_core::global::GlobalProperty;
use hw_core::machine::{BootConfig, CpuTopology, MachineClass};
use hw_core::numa::options::NumaOptions;
use hw_core::qdev_monitor::{DeviceOptions, OptionValue};
use hw_core::runstate::{PanicAction, RebootAction, ShutdownAction, WatchdogAction};
use hw_rtc::{LostTickPolicy, RtcOptions};
use qom::{Error, Result, Value, bail};
use util::clock::ClockType;
use util::option::Opts;

use crate::accel::AccelOptions;
use crate::audiodev;
use crate::chardevs::CharOptions;
use crate::cli::{self, CliError, CommandLine, OptionId, OvercommitOptions, Request, SmpLimits};
use crate::drives::BlockOptions;
use crate::networks::NetOptions;
use crate::privileges::{Privileges, RunAs};

/// Machine options that are the accelerator's.
const ACCELERATOR_PROPERTIES: [&str; 2] = ["kernel-irqchip", "kvm-shadow-mem"];
/// Highest memory size that any machine could have.
const MEMORY_MAX: u64 = 1 << 52;

/// An object to be made (`-object`).
#[derive(Clone, Debug)]
pub struct ObjectOptions {
    /// Its type.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// Its properties.
    pub properties: Vec<(String, OptionValue)>,
    /// For messages.
    pub location: String,
}

/// The guest's memory in bytes, and slots for more.
#[derive(Clone, Copy, Debug)]
pub struct MemorySize {
    /// At the start.
    pub size: u64,
    /// With all that can be plugged.
    pub maximum: u64,
    /// Slots for DIMMs.
    pub slots: u32,
}

/// A device to be made, and where it was asked for.
#[derive(Clone, Debug)]
pub struct Device {
    /// What it is.
    pub options: DeviceOptions,
    /// For messages.
    pub location: String,
}

/// Everything that was asked for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub machine_type: Option<String>,
    pub machine_properties: Vec<(String, OptionValue)>,
    pub objects: Vec<ObjectOptions>,
    pub devices: Vec<Device>,
    pub globals: Vec<GlobalProperty>,
    pub chars: CharOptions,
    pub nets: NetOptions,
    pub disks: BlockOptions,
    /// What is shared, and the option as given.
    pub fsdevs: Vec<(Opts, String)>,
    pub cpu: Option<String>,
    pub name: Option<String>,
    pub uuid: Option<[u8; 16]>,
    pub reboot_action: Option<RebootAction>,
    pub shutdown_action: Option<ShutdownAction>,
    pub panic_action: Option<PanicAction>,
    pub watchdog_action: Option<WatchdogAction>,
    pub boot: BootConfig,
    pub overcommit: OvercommitOptions,
    /// `-mem-path`.
    pub mem_path: Option<String>,
    /// `-mem-prealloc`.
    pub mem_prealloc: bool,
    /// `-add-fd`.
    pub add_fds: Vec<cli::AddFdOptions>,
    /// Whether `-icount` wants instructions counted.
    pub icount: bool,
    /// `-sandbox`.
    pub sandbox: Option<cli::SandboxOptions>,
    /// `-fw_cfg`.
    pub fw_cfg: Vec<cli::FwCfgOptions>,
    /// `-option-rom`.
    pub option_roms: Vec<cli::OptionRomOptions>,
    /// `-numa`, and where each was given.
    pub numa: Vec<(NumaOptions, String)>,
    pub start_stopped: bool,
    /// `--preconfig`.
    pub preconfig: bool,
    pub daemonize: bool,
    /// `-chroot`, `-runas`.
    pub privileges: Privileges,
    pub pidfile: Option<String>,
    /// `-trace`: key, value, and the option.
    pub trace: Vec<(String, String, String)>,
    pub log_items: Option<String>,
    pub log_file: Option<String>,
    /// `-gdb` and `-s`: the device, and the option.
    pub gdb: Vec<(String, String)>,
    /// `-qtest`: the chardev that a test is at.
    pub qtest: Option<String>,
    /// `-qtest-log`.
    pub qtest_log: Option<String>,
    /// A text that was asked for: which, and of what.
    pub help: Option<Help>,
    accelerators: Vec<AccelOptions>,
    command_line: CommandLine,
}

/// A text to be printed instead of running a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Help {
    /// `-machine help`.
    Machines,
    /// `-machine NAME,help`.
    MachineProperties,
    /// `-accel help`.
    Accelerators,
    /// `-accel NAME,help`.
    AcceleratorProperties(String),
    /// `-cpu help`.
    Cpus,
    /// `-device help`.
    Devices,
    /// `-device NAME,help`.
    DeviceProperties(String),
    /// `-object help`.
    Objects,
    /// `-object NAME,help`.
    ObjectProperties(String),
    /// `-chardev help`.
    Chardevs,
    /// `-chardev NAME,help`.
    ChardevOptions,
    /// `-netdev help`.
    Netdevs,
    /// `-audiodev help`.
    Audiodevs,
}

fn wrong(error: CliError) -> Error {
    match error {
        CliError::Help(text) => {
            print!("{text}");
            std::process::exit(0);
        }
        // Told here: a message about a file does not begin with the program's name.
        mistake => {
            util::report::report(format_args!("{}", mistake.report(util::report::program_name())));
            Error::new("")
        }
    }
}

/// A property's value given as text.
pub fn text(value: &str) -> OptionValue {
    OptionValue::Text(value.to_owned())
}

/// Values from JSON keep their type; other strings are what the command line writes.
fn value(from: Value, json: bool) -> OptionValue {
    match from {
        Value::String(text) if !json => OptionValue::Text(text),
        other => OptionValue::Json(other),
    }
}

fn is_help(text: &str) -> bool {
    matches!(text, "help" | "?")
}

impl Options {
    /// Reads the arguments; prints the program's help or version and ends, where that was asked for.
    ///
    /// # Errors
    /// Names the option that is wrong.
    pub fn parse(arguments: &[String]) -> Result<Options> {
        let command_line = match CommandLine::parse(arguments.iter().map(OsString::from)).map_err(wrong)? {
            Request::Run(command_line) => command_line,
            Request::Help => return Err(wrong(CliError::Help(cli::options::help()))),
            Request::Version => return Err(wrong(CliError::Help(cli::options::version()))),
        };
        let mut options = Options { command_line, ..Options::default() };
        options.read_simple()?;
        options.read_machine()?;
        options.read_accelerators()?;
        options.read_objects_and_devices()?;
        options.read_chars()?;
        options.read_nets();
        options.read_audiodevs()?;
        options.read_disks()?;
        options.read_fsdevs()?;
        options.read_rtc()?;
        options.command_line.warnings.iter().for_each(|w| util::error_report!("{w}"));
        Ok(options)
    }

    fn last(&self, id: OptionId) -> Option<String> {
        self.command_line.last(id).map(str::to_owned)
    }

    /// What needs nothing that other options say.
    fn read_simple(&mut self) -> Result<()> {
        util::report::set_options(self.command_line.messages().map_err(wrong)?);
        self.read_identity()?;
        self.read_actions()?;
        self.read_firmware()?;
        self.read_process()?;
        self.read_logs();
        let numa = self.command_line.numa().map_err(wrong)?;
        self.numa = numa.into_iter().map(|(options, location)| (options, location.to_string())).collect();
        self.icount = self.command_line.icount().map_err(wrong)?;
        self.overcommit = self.command_line.overcommit().map_err(wrong)?;
        self.mem_path = self.last(OptionId::MemPath);
        self.mem_prealloc = self.command_line.has(OptionId::MemPrealloc);
        self.add_fds = self.command_line.add_fds().map_err(wrong)?;
        if let Some(escape) = self.last(OptionId::Echr) {
            match qom::property::parse_int(&escape).and_then(|n| u8::try_from(n).ok()) {
                Some(escape) => chardev::set_escape_char(escape),
                None => bail!("Bad argument to echr: {escape}"),
            }
        }
        self.cpu = self.last(OptionId::Cpu);
        if self.cpu.as_deref().is_some_and(is_help) {
            self.help = Some(Help::Cpus);
        }
        Ok(())
    }

    fn read_identity(&mut self) -> Result<()> {
        let name = self.command_line.name().map_err(wrong)?;
        self.name = name.guest;
        if let Some(process) = name.process {
            std::fs::write("/proc/self/comm", process)
                .map_err(|e| Error::new(format!("-name process=: {e}")))?;
        }
        self.uuid = self.command_line.uuid().map_err(wrong)?;
        Ok(())
    }

    fn read_actions(&mut self) -> Result<()> {
        let action = self.command_line.action().map_err(wrong)?;
        self.panic_action = Some(match action.panic {
            cli::PanicAction::Pause => PanicAction::Pause,
            cli::PanicAction::Shutdown => PanicAction::Shutdown,
            cli::PanicAction::ExitFailure => PanicAction::ExitFailure,
            cli::PanicAction::None => PanicAction::None,
        });
        self.watchdog_action = Some(match action.watchdog {
            cli::WatchdogAction::Reset => WatchdogAction::Reset,
            cli::WatchdogAction::Shutdown => WatchdogAction::Shutdown,
            cli::WatchdogAction::Poweroff => WatchdogAction::Poweroff,
            cli::WatchdogAction::Pause => WatchdogAction::Pause,
            cli::WatchdogAction::Debug => WatchdogAction::Debug,
            cli::WatchdogAction::None => WatchdogAction::None,
            cli::WatchdogAction::InjectNmi => WatchdogAction::InjectNmi,
        });
        self.reboot_action = Some(match action.reboot {
            cli::RebootAction::Reset => RebootAction::Reset,
            cli::RebootAction::Shutdown => RebootAction::Shutdown,
        });
        self.shutdown_action = Some(match action.shutdown {
            cli::ShutdownAction::Poweroff => ShutdownAction::Poweroff,
            cli::ShutdownAction::Pause => ShutdownAction::Pause,
        });
        self.start_stopped = self.command_line.has(OptionId::Stop);
        self.preconfig = self.command_line.has(OptionId::Preconfig);
        Ok(())
    }

    /// What a firmware finds.
    fn read_firmware(&mut self) -> Result<()> {
        self.boot = self.command_line.boot().map_err(wrong)?;
        self.boot.no_fd_bootchk = self.command_line.has(OptionId::NoFdBootchk);
        self.fw_cfg = self.command_line.fw_cfg().map_err(wrong)?;
        self.option_roms = self.command_line.option_roms().map_err(wrong)?;
        let (smbios, uuid) = self.command_line.smbios().map_err(wrong)?;
        self.uuid = uuid.or(self.uuid);
        hw_i386::set_smbios_options(smbios);
        hw_i386::set_user_tables(self.command_line.acpi_tables().map_err(wrong)?);
        self.command_line.all(OptionId::DataDir).for_each(|o| hw_core::datadir::add_data_dir(o.text()));
        Ok(())
    }

    /// How the host sees the program, and what it may do there.
    fn read_process(&mut self) -> Result<()> {
        self.sandbox = self.command_line.sandbox().map_err(wrong)?;
        self.daemonize = self.command_line.has(OptionId::Daemonize);
        self.privileges.root = self.last(OptionId::Chroot);
        if let Some(occurrence) = self.command_line.all(OptionId::Runas).last() {
            let user = RunAs::parse(occurrence.text()).map_err(|error| wrong(occurrence.error(error)))?;
            self.privileges.user = Some(user);
        }
        if self.preconfig && self.daemonize {
            bail!("'preconfig' and 'daemonize' options are mutually exclusive");
        }
        self.pidfile = self.last(OptionId::Pidfile);
        Ok(())
    }

    fn read_logs(&mut self) {
        self.log_items = self.last(OptionId::LogItems);
        self.log_file = self.last(OptionId::LogFile);
        self.qtest = self.last(OptionId::Qtest);
        self.qtest_log = self.last(OptionId::QtestLog);
        for occurrence in self.command_line.all(OptionId::Trace) {
            for item in occurrence.text().split(',') {
                let (key, value) = item.split_once('=').unwrap_or(("enable", item));
                let location = occurrence.location.to_string();
                self.trace.push((key.to_owned(), value.to_owned(), location));
            }
        }
    }

    fn read_machine(&mut self) -> Result<()> {
        let machine = self.command_line.machine().map_err(wrong)?;
        match machine.name.as_deref() {
            Some(name) if is_help(name) => self.help = Some(Help::Machines),
            _ if machine.help => self.help = Some(Help::MachineProperties),
            _ => {}
        }
        self.machine_type = machine.name;
        if self.mem_path.is_some() && machine.properties.iter().any(|(name, _)| name == "memory-backend") {
            bail!("'-mem-path' can't be used together with'-machine memory-backend'");
        }
        for (name, from) in machine.properties {
            let name = name.replace('_', "-");
            match ACCELERATOR_PROPERTIES.contains(&name.as_str()) {
                true => self.globals.push(GlobalProperty {
                    driver: "accel".to_owned(),
                    property: name,
                    value: from.as_str().unwrap_or_default().to_owned(),
                    optional: true,
                }),
                false => self.machine_properties.push((name, value(from, false))),
            }
        }
        let switched_off =
            [("acpi", OptionId::NoAcpi), ("hpet", OptionId::NoHpet), ("graphics", OptionId::Nographic)];
        for (property, id) in switched_off {
            if self.command_line.has(id) {
                self.machine_properties.push((property.to_owned(), text("off")));
            }
        }
        let files = [
            ("kernel", OptionId::Kernel),
            ("initrd", OptionId::Initrd),
            ("append", OptionId::Append),
            ("firmware", OptionId::Bios),
        ];
        for (property, id) in files {
            if let Some(given) = self.last(id) {
                self.machine_properties.push((property.to_owned(), OptionValue::Text(given)));
            }
        }
        Ok(())
    }

    fn read_accelerators(&mut self) -> Result<()> {
        for accelerator in self.command_line.accelerators().map_err(wrong)? {
            if is_help(&accelerator.name) {
                self.help = Some(Help::Accelerators);
            }
            if accelerator.properties.iter().any(|(name, _)| is_help(name)) {
                self.help = Some(Help::AcceleratorProperties(accelerator.name.clone()));
            }
            let cli::AcceleratorOptions { name, properties, location } = accelerator;
            let location = location.map(|l| format!("{l}: ")).unwrap_or_default();
            self.accelerators.push(AccelOptions { name, properties, location });
        }
        Ok(())
    }

    fn read_objects_and_devices(&mut self) -> Result<()> {
        for object in self.command_line.objects().map_err(wrong)? {
            if is_help(&object.qom_type) {
                self.help = Some(Help::Objects);
            } else if object.help {
                self.help = Some(Help::ObjectProperties(object.qom_type.clone()));
            }
            let properties =
                object.properties.into_iter().map(|(name, from)| (name, value(from, object.json))).collect();
            if self.objects.iter().any(|other| other.id == object.id) && self.help.is_none() {
                bail!("{}: Duplicate ID '{}' for object", object.location, object.id);
            }
            let location = object.location.to_string();
            self.objects.push(ObjectOptions { kind: object.qom_type, id: object.id, properties, location });
        }
        for device in self.command_line.devices().map_err(wrong)? {
            if is_help(&device.driver) {
                self.help = Some(Help::Devices);
            } else if device.help {
                self.help = Some(Help::DeviceProperties(device.driver.clone()));
            }
            let framework = [("driver", Some(device.driver)), ("id", device.id)];
            let framework =
                framework.into_iter().filter_map(|(n, v)| Some((n.to_owned(), OptionValue::Text(v?))));
            let own = device.properties.into_iter().map(|(name, from)| (name, value(from, device.json)));
            let options = DeviceOptions::from_list(framework.chain(own))?;
            self.devices.push(Device { options, location: device.location.to_string() });
        }
        for global in self.command_line.globals().map_err(wrong)? {
            let cli::GlobalProperty { driver, property, value, .. } = global;
            self.globals.push(GlobalProperty { driver, property, value, optional: false });
        }
        Ok(())
    }

    fn read_chars(&mut self) -> Result<()> {
        for chardev in self.command_line.chardevs().map_err(wrong)? {
            let backend = chardev.values.iter().find(|(name, _)| name == "backend");
            if chardev.values.iter().any(|(name, _)| is_help(name)) {
                self.help = Some(Help::ChardevOptions);
            }
            if backend.is_some_and(|(_, name)| is_help(name)) {
                self.help = Some(Help::Chardevs);
            }
            let Some(id) = chardev.id else {
                if self.help.is_some() {
                    continue;
                }
                bail!("{}: chardev: no id specified", chardev.location)
            };
            let (options, location) = (chardev.values, chardev.location.to_string());
            self.chars.chardevs.push((id, options, location));
        }
        self.chars.monitors = self.command_line.monitors().map_err(wrong)?;
        self.chars.serials = self.command_line.all(OptionId::Serial).map(|o| o.text().to_owned()).collect();
        let places = self.command_line.occurrences.iter().filter_map(|given| match given.id {
            OptionId::Gdb => Some((given.text().to_owned(), given.location.to_string())),
            OptionId::GdbDefault => Some(("tcp::1234".to_owned(), given.location.to_string())),
            _ => None,
        });
        self.gdb = places.collect();
        self.chars.debugcon = self.last(OptionId::Debugcon);
        self.chars.nographic = self.command_line.has(OptionId::Nographic);
        self.chars.defaults = !self.command_line.has(OptionId::Nodefaults);
        self.chars.default_serial = self.has_default(&["isa-serial"]);
        Ok(())
    }

    /// Whether a machine has a device that nobody asked for: who says anything of such devices, which these are, means to
    /// have chosen them (`default_driver_check`).
    fn has_default(&self, drivers: &[&str]) -> bool {
        let devices = self.devices.iter().map(|device| device.options.driver.as_str());
        let mut chosen = devices.chain(self.globals.iter().map(|global| global.driver.as_str()));
        !self.command_line.has(OptionId::Nodefaults) && !chosen.any(|driver| drivers.contains(&driver))
    }

    fn read_nets(&mut self) {
        let arguments = |id| {
            let all = self.command_line.all(id);
            all.map(|o| (o.text().to_owned(), o.location.to_string())).collect::<Vec<_>>()
        };
        self.nets = NetOptions {
            netdevs: arguments(OptionId::Netdev),
            nics: arguments(OptionId::Nic),
            nets: arguments(OptionId::Net),
        };
        if self.nets.netdevs.iter().any(|(text, _)| net::netdev_wants_help(text)) {
            self.help = Some(Help::Netdevs);
        }
    }

    fn read_audiodevs(&mut self) -> Result<()> {
        if self.command_line.all(OptionId::Audiodev).any(|o| is_help(o.text())) {
            self.help = Some(Help::Audiodevs);
            return Ok(());
        }
        self.command_line.trees(OptionId::Audiodev).map_err(wrong)?.iter().try_for_each(audiodev::check)
    }

    fn read_disks(&mut self) -> Result<()> {
        self.disks.blockdevs = self.command_line.trees(OptionId::Blockdev).map_err(wrong)?;
        for drive in self.command_line.drives().map_err(wrong)? {
            self.disks.drives.push((drive.id, drive.values, drive.location.to_string()));
        }
        self.disks.snapshot = self.command_line.has(OptionId::Snapshot);
        self.disks.default_cdrom = self.has_default(&["ide-cd", "ide-hd", "scsi-cd", "scsi-hd"]);
        Ok(())
    }

    fn read_fsdevs(&mut self) -> Result<()> {
        let fsdevs = self.command_line.fsdevs().map_err(wrong)?;
        self.fsdevs = fsdevs.into_iter().map(|(opts, location)| (opts, location.to_string())).collect();
        Ok(())
    }

    fn read_rtc(&mut self) -> Result<()> {
        let rtc = self.command_line.rtc().map_err(wrong)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (offset, phase) = match rtc.base {
            cli::RtcBase::Utc => (0, Duration::ZERO),
            cli::RtcBase::LocalTime => {
                (chrono::Local::now().offset().local_minus_utc().into(), Duration::ZERO)
            }
            cli::RtcBase::DateTime(seconds) => {
                let phase = Duration::from_nanos(now.subsec_nanos().into());
                (seconds.saturating_sub(now.as_secs() as i64), phase)
            }
        };
        let clock = match rtc.clock {
            cli::RtcClock::Host => ClockType::Host,
            cli::RtcClock::Rt => ClockType::Realtime,
            cli::RtcClock::Vm => ClockType::Virtual,
        };
        let lost_tick_policy = if rtc.slew { LostTickPolicy::Slew } else { LostTickPolicy::Discard };
        hw_rtc::set_rtc_options(RtcOptions { offset, phase, clock, lost_tick_policy });
        Ok(())
    }

    /// The accelerators to try, in order.
    pub fn accelerators(&self) -> Vec<AccelOptions> {
        if self.accelerators.is_empty() {
            return vec![AccelOptions { name: "kvm".to_owned(), ..AccelOptions::default() }];
        }
        self.accelerators.clone()
    }

    /// Whether it is plain from the options alone that a machine of KVM will be needed, by this very process and before
    /// anything that new threads would have to inherit.
    pub fn kvm_comes_first(&self) -> bool {
        let first = self.accelerators.first().is_none_or(|accelerator| accelerator.name == "kvm");
        first && self.help.is_none() && self.sandbox.is_none() && !self.daemonize
    }

    /// `-m`, for a machine with memory of `default` bytes where nothing is said.
    ///
    /// # Errors
    /// A size that no machine has.
    pub fn memory(&mut self, default: u64) -> Result<MemorySize> {
        let memory = self.command_line.memory(default).map_err(wrong)?;
        if memory.size > MEMORY_MAX {
            bail!("-m: ram size {:#x} is too large", memory.size);
        }
        let slots = u32::try_from(memory.slots).unwrap_or(u32::MAX);
        Ok(MemorySize { size: memory.size, maximum: memory.maxmem, slots })
    }

    /// `-smp`, for a machine.
    ///
    /// # Errors
    /// Numbers that do not multiply up, or too many.
    pub fn smp(&mut self, machine: &MachineClass) -> Result<CpuTopology> {
        let limits = SmpLimits {
            machine: machine.name,
            min_cpus: 1,
            max_cpus: machine.max_cpus.into(),
            dies_supported: true,
            clusters_supported: false,
            prefer_sockets: machine.prefer_sockets,
        };
        let before = self.command_line.warnings.len();
        let smp = self.command_line.smp(&limits).map_err(wrong)?;
        self.command_line.warnings.iter().skip(before).for_each(|w| util::error_report!("{w}"));
        let cli::CpuTopology { cpus, max_cpus, sockets, dies, cores, threads, .. } = smp;
        Ok(CpuTopology { cpus, sockets, dies, cores, threads, max_cpus })
    }

    /// The type of CPU that `-cpu` names, or `default`; its settings become globals.
    ///
    /// # Errors
    /// A model or a setting that does not exist.
    pub fn cpu_type(&self, default: Option<&str>) -> Result<Option<String>> {
        let Some(given) = &self.cpu else { return Ok(default.map(str::to_owned)) };
        let option = target_i386::option::parse_cpu_option(given).map_err(|e| Error::new(e.to_string()))?;
        option.warnings.iter().for_each(|w| util::warn_report!("{w}"));
        let driver = option.model.type_name();
        for (property, value) in option.settings.iter().cloned() {
            hw_core::global::register(GlobalProperty {
                driver: driver.clone(),
                property,
                value,
                optional: false,
            });
        }
        target_i386::set_cpu_option(option);
        Ok(Some(driver))
    }
}
