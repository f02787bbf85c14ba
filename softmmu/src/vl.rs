//! From options to a running machine: `qemu_init`, and back: `qemu_cleanup`.
//!
//! Source: QEMU `softmmu/vl.c`.

use std::sync::Arc;

use hw_core::accel::current_accel;
use hw_core::machine::{
    Machine, MachineClass, MachineConfig, current_machine, machine_run_board_init,
    qdev_machine_creation_done, set_current_machine,
};
use hw_core::numa::set_numa_options;
use hw_core::qdev_monitor::qdev_device_add;
use hw_core::runstate::{self, ShutdownCause, vm_start};
use hw_core::sysbus::sysbus_get_default;
use hw_core::{cpu, global};
use qom::{Class, Error, Object, Result, bail, module_call_init};
use util::trace::{span, span_with};

use crate::accel::configure_accelerators;
use crate::cli::{FwCfgContent, FwCfgOptions};
use crate::daemon::{PidFile, daemonize};
use crate::main_loop::qemu_system_reset;
use crate::options::Options;
use crate::qtest::qtest_server_init;
use crate::signals::{self, Signals};
use crate::{chardevs, drives, help, networks, preconfig, sandbox};

/// What lives as long as the program runs.
pub struct Program {
    _signals: Signals,
    _pidfile: Option<PidFile>,
}

/// What `qemu_init` came to.
pub enum Init {
    /// The machine is set up and runs, unless `-S` was given.
    Running(Box<Program>),
    /// The user asked for a text, which was printed.
    Done,
}

/// Sets everything up as `arguments` say (the program's name not among them).
///
/// # Errors
/// Names the option, file or property that is wrong, or what the host refuses.
pub fn qemu_init(arguments: &[String]) -> Result<Init> {
    let mut options = Options::parse(arguments)?;
    configure_logging(&options)?;
    let _span = span("qemu_init");
    if options.kvm_comes_first() {
        accel_kvm::create_vm_ahead();
    }
    {
        let _span = span_with("module_call_init", || "MODULE_INIT_QOM".to_owned());
        module_call_init(qom::ModuleInitType::Qom);
    }
    if let Some(text) = help::wanted(&options)? {
        print!("{text}");
        return Ok(Init::Done);
    }
    let daemon = if options.daemonize { Some(daemonize()?) } else { None };
    add_fds(&options)?;
    // Before the file that tells others whom to signal.
    let signals = signals::setup()?;
    options.sandbox.as_ref().map_or(Ok(()), sandbox::start)?;
    let pidfile = options.pidfile.as_deref().map(PidFile::create).transpose()?;
    set_actions(&options);
    overcommit(&options)?;
    let machine = qemu_create_machine(&mut options)?;
    create_objects(&options, object_create_early)?;
    chardev::suspend_mux_open();
    chardevs::create(&options.chars)?;
    let kind = machine.class().get::<MachineClass>().map_or("", |class| class.name);
    for (opts, location) in &options.fsdevs {
        hw_9pfs::fsdev::add(opts).map_err(|e| e.prepend(format!("{location}: ")))?;
    }
    if !drives::create(&options.disks, kind)? {
        return Ok(Init::Done);
    }
    qemu_apply_machine_options(&options, &machine)?;
    configure_accelerators(&options.accelerators(), &machine, options.qtest.is_some())?;
    if options.icount {
        bail!("-icount is not allowed with hardware virtualization");
    }
    if let Some(chardev) = &options.qtest {
        qtest_server_init(chardev, options.qtest_log.as_deref())?;
    }
    networks::create(&options.nets)?;
    create_objects(&options, |kind| !object_create_early(kind))?;
    let monitors = chardevs::connect(&options.chars)?;
    for (node, location) in &options.numa {
        set_numa_options(&machine, node).map_err(|e| e.prepend(format!("{location}: ")))?;
    }
    // Before the devices, so that of those who share the terminal the guest's port is listened to first.
    monitors.iter().try_for_each(chardevs::Monitor::init)?;
    let privileges = std::mem::take(&mut options.privileges);
    if options.preconfig {
        preconfig::hold(options, machine);
    } else {
        qmp_x_exit_preconfig(&options, &machine)?;
    }
    match daemon {
        Some(daemon) => daemon.ready(&privileges)?,
        None => privileges.give_up()?,
    }
    chardev::resume_mux_open();
    Ok(Init::Running(Box::new(Program { _signals: signals, _pidfile: pidfile })))
}

/// Makes the machine and starts it, unless `-S` was given.
///
/// # Errors
/// As [`qemu_init`].
pub fn qmp_x_exit_preconfig(options: &Options, machine: &Arc<dyn Object>) -> Result<()> {
    set_up_machine(options, machine)?;
    for (device, location) in &options.gdb {
        gdbserver::gdbserver_start(device).map_err(|error| error.prepend(format!("{location}: ")))?;
    }
    if !options.start_stopped {
        let _span = span("vm_start");
        vm_start();
    }
    Ok(())
}

fn configure_logging(options: &Options) -> Result<()> {
    for (key, value, location) in &options.trace {
        let warn = |warning: &str| util::error_report!("{location}: warning: {warning}");
        let result = util::trace::apply(&[(key, value)], warn);
        if let Some(text) = result.map_err(|e| Error::new(e.to_string()))? {
            print!("{text}");
            std::process::exit(0);
        }
    }
    if options.log_items.is_none() && options.log_file.is_none() {
        return Ok(());
    }
    let items = options.log_items.as_deref().unwrap_or_default();
    if items == "help" {
        print!("{}", util::log::help());
        std::process::exit(0);
    }
    let mask = match items {
        "" => util::log::mask(),
        items => util::log::parse_mask(items).map_err(|e| Error::new(e.to_string()))?,
    };
    util::log::set(mask, options.log_file.as_deref()).map_err(|e| Error::new(e.to_string()))
}

/// Before there is guest memory, which is locked as it comes.
fn overcommit(options: &Options) -> Result<()> {
    use rustix::mm::{MlockAllFlags, mlockall};
    if options.overcommit.cpu_pm {
        target_i386::enable_cpu_pm();
    }
    if options.overcommit.mem_lock
        && let Err(error) = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE)
    {
        util::error_report!("mlockall: {}", util::log::OsError(error.into()));
        bail!("locking memory failed");
    }
    Ok(())
}

/// What others than this file have the program do.
fn set_actions(options: &Options) {
    runstate::set_action(options.reboot_action, options.shutdown_action);
    runstate::set_guest_action(options.panic_action, options.watchdog_action);
    chardev::set_quit_handler(|| runstate::shutdown_request(ShutdownCause::HostUi));
    monitor::hmp::set_gdb_server(|device| gdbserver::gdbserver_start(device).map_err(|error| error.message));
}

/// The class of machine that was chosen (`select_machine`).
///
/// # Errors
/// When there is no such machine.
pub fn select_machine(options: &Options) -> Result<&'static Class> {
    let found = match &options.machine_type {
        Some(name) => hw_core::machine::find_machine(name),
        None => qom::class_list("machine", false)
            .into_iter()
            .find(|c| c.get::<MachineClass>().is_some_and(|m| m.is_default)),
    };
    match (found, &options.machine_type) {
        (Some(class), _) => Ok(class),
        (None, Some(_)) => {
            Err(Error::new("unsupported machine type")
                .with_hint("Use -machine help to list supported machines"))
        }
        (None, None) => Err(Error::new("No machine specified, and there is no default")
            .with_hint("Use -machine help to list supported machines")),
    }
}

/// Takes the descriptors of `-add-fd` (`parse_add_fd`). What the program was started with stays open besides.
fn add_fds(options: &Options) -> Result<()> {
    for option in &options.add_fds {
        let fd = util::fdset::inherited(option.fd);
        let fd = fd.map_err(|error| Error::new(error).prepend(format!("{}: ", option.location)))?;
        util::fdset::add(fd, Some(option.set), option.opaque.clone());
    }
    Ok(())
}

/// Makes the machine object (`qemu_create_machine`).
fn qemu_create_machine(options: &mut Options) -> Result<Arc<dyn Object>> {
    let _span = span("qemu_create_machine");
    let class = select_machine(options)?;
    let table = class.get::<MachineClass>().cloned().unwrap_or_default();
    // The user's come later, and win.
    table.compat_props.iter().copied().for_each(global::register_compat);
    options.globals.iter().cloned().for_each(global::register);
    let machine = qom::object::object_new_with_class(class)?;
    set_current_machine(&machine)?;
    for place in ["peripheral", "peripheral-anon", "unattached"] {
        qom::container_get(&machine, place);
    }
    sysbus_get_default();
    let Some(state) = machine.cast::<Machine>() else { bail!("'{}' is not a machine", class.name()) };
    let memory = options.memory(table.default_ram_size)?;
    let smp = options.smp(&table)?;
    let cpu_type = options.cpu_type(table.default_cpu_type)?;
    state.set_config(MachineConfig {
        ram_size: memory.size,
        maxram_size: memory.maximum,
        ram_slots: memory.slots,
        mem_path: options.mem_path.clone(),
        mem_prealloc: options.mem_prealloc,
        smp,
        cpu_type,
        uuid: options.uuid,
        name: options.name.clone(),
        boot: options.boot.clone(),
    });
    Ok(machine)
}

/// Sets the machine's properties, which may name objects and drives (`qemu_apply_machine_options`).
fn qemu_apply_machine_options(options: &Options, machine: &Arc<dyn Object>) -> Result<()> {
    let mut properties = options.machine_properties.iter();
    properties.try_for_each(|(name, value)| machine.property_set(name, value.as_input()))?;
    if let Some(machine) = machine.cast::<Machine>() {
        machine.set_host_memory_defaults();
    }
    Ok(())
}

/// Whether objects of a type are made before the chardevs, the accelerator and what the machine says of its memory
/// (`object_create_early`).
fn object_create_early(kind: &str) -> bool {
    kind != "qtest" && !kind.starts_with("filter-") && !kind.starts_with("memory-backend-")
}

fn create_objects(options: &Options, wanted: impl Fn(&str) -> bool) -> Result<()> {
    for object in options.objects.iter().filter(|object| wanted(&object.kind)) {
        let properties = object.properties.iter().map(|(name, value)| (name.as_str(), value.as_input()));
        let made = qom::user_creatable_new(&object.kind, properties)
            .map_err(|e| e.prepend(format!("{}: ", object.location)))?;
        qom::user_creatable_complete(&object.id, &made)?;
    }
    Ok(())
}

/// The board, the user's devices, and the first reset. All of the memory map shows at once at the end.
fn set_up_machine(options: &Options, machine: &Arc<dyn Object>) -> Result<()> {
    let transaction = memory::transaction();
    machine_run_board_init(machine)?;
    if let Some(what) = &options.chars.debugcon {
        let chardev =
            chardev::new_from_compat("debugcon", what, false).map_err(|e| Error::new(e.to_string()))?;
        let device = [("driver", "isa-debugcon"), ("chardev", chardev.0.label())];
        let list = device.map(|(name, value)| (name.to_owned(), crate::options::text(value)));
        qdev_device_add(&hw_core::qdev_monitor::DeviceOptions::from_list(list)?, false)?;
    }
    {
        let _span = span("qemu_create_cli_devices");
        options.fw_cfg.iter().try_for_each(|file| add_fw_cfg_file(machine, file))?;
        for rom in &options.option_roms {
            hw_i386::add_option_rom(machine, &rom.file, rom.bootindex)
                .map_err(|error| error.prepend(format!("{}: ", rom.location)))?;
        }
        for device in options.devices.iter().chain(&drives::devices()?) {
            qdev_device_add(&device.options, false)
                .map_err(|e| e.prepend(format!("{}: ", device.location)))?;
        }
    }
    block::drive::check_orphaned()?;
    qdev_machine_creation_done()?;
    let warnings = net::net_check_clients(options.qtest.is_some());
    warnings.iter().for_each(|warning| util::warn_report!("{warning}"));
    if let Some(error) = global::take_error() {
        return Err(error);
    }
    global::check().iter().for_each(|warning| util::warn_report!("{warning}"));
    if let Some(accel) = current_accel() {
        let _span = span("accel_finish_init");
        accel.finish_init()?;
    }
    qemu_system_reset(ShutdownCause::None);
    let _span = span("memory_region_transaction_commit");
    drop(transaction);
    Ok(())
}

/// A file that the user gives, or that an object makes; none of the objects there are does so
/// (`fw_cfg_add_from_generator`).
fn add_fw_cfg_file(machine: &Arc<dyn Object>, file: &FwCfgOptions) -> Result<()> {
    let result = match &file.content {
        FwCfgContent::Bytes(bytes) => hw_i386::add_user_file(machine, &file.name, bytes.clone()),
        FwCfgContent::Generated(id) => Err(Error::new(match qom::object_get_objects_root().child(id) {
            None => format!("Cannot find object ID '{id}'"),
            Some(_) => format!("Object ID '{id}' is not a 'fw_cfg-data-generator' subclass"),
        })),
    };
    result.map_err(|error| error.prepend(format!("{}: ", file.location)))
}

/// Ends the CPUs and closes what the host must not keep (`qemu_cleanup`).
pub fn qemu_cleanup() {
    if runstate::is_running() {
        cpu::pause_all_vcpus();
    }
    block::backend::close_all();
    net::net_cleanup();
    monitor::qmp::finish();
    gdbserver::gdb_exit(runstate::exit_status());
    chardev::remove_all();
    qom::user_creatable_cleanup();
    debug_assert!(current_machine().is_some() || cpu::cpu_list().is_empty());
}
