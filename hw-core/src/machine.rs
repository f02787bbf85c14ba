//! Machines: what `-machine` chooses, and the way from options to a board.
//!
//! Source: QEMU `hw/core/machine.c`, `include/hw/boards.h`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use memory::MemoryRegion;
use parking_lot::Mutex;
use qapi::QapiType;
use qom::{Class, ClassInit, Object, ObjectBase, ObjectType, Property, Result, bail};

use crate::hotplug::HotplugHandler;
use crate::numa::{self, NumaState};

/// How many CPUs, and how they are arranged (`-smp`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuTopology {
    /// CPUs at start.
    pub cpus: u32,
    /// Packages.
    pub sockets: u32,
    /// Dies a package.
    pub dies: u32,
    /// Cores a die.
    pub cores: u32,
    /// Threads a core.
    pub threads: u32,
    /// CPUs there can be; the product of the others.
    pub max_cpus: u32,
}

impl Default for CpuTopology {
    fn default() -> Self {
        CpuTopology { cpus: 1, sockets: 1, dies: 1, cores: 1, threads: 1, max_cpus: 1 }
    }
}

/// Which place in the topology a CPU has (QAPI's `CpuInstanceProperties`); what the machine does not have is left out.
#[derive(QapiType, Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuInstanceProperties {
    /// NUMA node.
    pub node_id: Option<i64>,
    /// Package.
    pub socket_id: Option<i64>,
    /// Die in it.
    pub die_id: Option<i64>,
    /// Cluster in it.
    pub cluster_id: Option<i64>,
    /// Core in it.
    pub core_id: Option<i64>,
    /// Thread in it.
    pub thread_id: Option<i64>,
}

/// A place for CPUs (QAPI's `HotpluggableCPU`).
#[derive(QapiType, Clone, Debug, PartialEq, Eq)]
#[qapi(name = "HotpluggableCPU")]
pub struct PossibleCpu {
    /// The type of CPU for it.
    #[qapi(name = "type")]
    pub type_name: String,
    /// How many CPUs a device for it has.
    pub vcpus_count: i64,
    /// What names the place.
    pub props: CpuInstanceProperties,
    /// The CPU that is there.
    pub qom_path: Option<String>,
}

/// A type, a property of its instances, and the value that it has on a machine: what older machines' devices differ in.
pub type CompatProperty = (&'static str, &'static str, &'static str);

/// What all machines of a type share.
#[derive(Clone)]
pub struct MachineClass {
    /// The name after `-machine`.
    pub name: &'static str,
    /// Another name for it.
    pub alias: Option<&'static str>,
    /// One line for `-machine help`.
    pub desc: &'static str,
    /// What machines of one make have in common, for those with versions.
    pub family: Option<&'static str>,
    /// Taken when no machine is named.
    pub is_default: bool,
    /// Builds the board.
    pub init: Option<fn(&Arc<dyn Object>) -> Result<()>>,
    /// Resets the machine; without it every registered handler is called.
    pub reset: Option<fn(&Arc<dyn Object>)>,
    /// Most CPUs there can be.
    pub max_cpus: u32,
    /// The type of CPU without `-cpu`; a machine without CPUs has none.
    pub default_cpu_type: Option<&'static str>,
    /// Memory without `-m`, in bytes.
    pub default_ram_size: u64,
    /// Drives that firmware boots from, in order, without `-boot`.
    pub default_boot_order: &'static str,
    /// The name of the memory block; a machine without memory has none.
    pub default_ram_id: Option<&'static str>,
    /// The places for CPUs, in order of index; for machines whose CPUs have a place in a topology.
    pub possible_cpus: Option<fn(&Arc<dyn Object>) -> Vec<PossibleCpu>>,
    /// Slots for memory modules make a NUMA node of the memory that there is.
    pub auto_enable_numa_with_memhp: bool,
    /// Memory that can come without a slot does so, too.
    pub auto_enable_numa_with_memdev: bool,
    /// `-numa node,mem=` is taken.
    pub numa_mem_supported: bool,
    /// CPUs that `-smp` says no more of are a socket each, instead of a core of one.
    pub prefer_sockets: bool,
    /// Devices' properties that differ from their defaults; where a property is there twice, the last counts.
    pub compat_props: Vec<&'static [CompatProperty]>,
}

impl Default for MachineClass {
    fn default() -> Self {
        MachineClass {
            name: "",
            alias: None,
            desc: "",
            family: None,
            is_default: false,
            init: None,
            reset: None,
            max_cpus: 1,
            default_cpu_type: None,
            default_ram_size: 128 << 20,
            default_boot_order: "",
            default_ram_id: None,
            possible_cpus: None,
            auto_enable_numa_with_memhp: false,
            auto_enable_numa_with_memdev: false,
            numa_mem_supported: false,
            prefer_sockets: false,
            compat_props: Vec::new(),
        }
    }
}

/// What a board implements.
pub trait MachineImpl: ObjectType {
    /// Composes the board.
    ///
    /// # Errors
    /// For the user: options that do not fit the board.
    fn init(self: &Arc<Self>) -> Result<()>;
    /// Resets the machine.
    fn reset(&self) {
        crate::reset::qemu_devices_reset();
    }
}

impl<T: MachineImpl> ClassInit<T> for Machine {
    fn class_init(class: &mut Class) {
        let class = class.get_mut::<MachineClass>();
        class.init = Some(|object| match qom::downcast::<T>(object.clone()) {
            Some(machine) => machine.init(),
            None => bail!("'{}' is not a machine", object.type_name()),
        });
        class.reset = Some(|object| {
            if let Some(machine) = object.cast::<T>() {
                machine.reset();
            }
        });
    }
}

/// What firmware is told about booting (`-boot`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootConfig {
    /// Drives in order, letters a to p; none: the machine's order.
    pub order: Option<String>,
    /// The order for the first boot only.
    pub once: Option<String>,
    /// Whether the firmware shows its menu.
    pub menu: Option<bool>,
    /// The logo's file.
    pub splash: Option<String>,
    /// How long the logo shows, in milliseconds.
    pub splash_time: Option<u16>,
    /// After how long a failed boot is tried again, in milliseconds; -1: never.
    pub reboot_timeout: Option<i32>,
    /// Whether nothing else is booted from.
    pub strict: bool,
    /// Whether firmware boots from a floppy disk without a boot signature (`-no-fd-bootchk`).
    pub no_fd_bootchk: bool,
}

/// What the options said about the machine beside its properties.
#[derive(Clone, Debug, Default)]
pub struct MachineConfig {
    /// Memory in bytes.
    pub ram_size: u64,
    /// Memory there can be with DIMMs plugged, in bytes.
    pub maxram_size: u64,
    /// Slots for DIMMs.
    pub ram_slots: u32,
    /// `-mem-path`: the file, or the folder for one, that memory without a backend of its own is in.
    pub mem_path: Option<String>,
    /// `-mem-prealloc`: the host gives all memory from the start.
    pub mem_prealloc: bool,
    /// CPUs.
    pub smp: CpuTopology,
    /// The type of the CPUs.
    pub cpu_type: Option<String>,
    /// The machine's UUID, where `-uuid` gave one.
    pub uuid: Option<[u8; 16]>,
    /// `-name`.
    pub name: Option<String>,
    /// `-boot`.
    pub boot: BootConfig,
}

/// Addresses that memory devices go to.
pub struct DeviceMemory {
    /// Guest physical address.
    pub base: u64,
    /// What shows there.
    pub region: MemoryRegion,
}

/// The root part of every machine.
#[derive(Object)]
#[object(name = "machine", parent = ObjectBase, abstract)]
pub struct Machine {
    parent: ObjectBase,
    /// Linux kernel image file
    #[property]
    pub kernel: Property<Option<String>>,
    /// Linux initial ramdisk file
    #[property]
    pub initrd: Property<Option<String>>,
    /// Linux kernel command line
    #[property]
    pub append: Property<String>,
    /// Firmware image
    #[property]
    pub firmware: Property<Option<String>>,
    /// Set on/off to enable/disable graphics emulation
    #[property(default = true)]
    pub graphics: Property<bool>,
    /// Set on/off to enable/disable usb
    #[property]
    pub usb: Property<bool>,
    /// Include guest memory in a core dump
    #[property(default = true)]
    pub dump_guest_core: Property<bool>,
    /// Enable/disable memory merge support
    #[property(default = true)]
    pub mem_merge: Property<bool>,
    /// Set on to disable self-describing migration
    #[property]
    pub suppress_vmdesc: Property<bool>,
    /// Set RAM backend
    #[property]
    pub memory_backend: Property<Option<String>>,
    config: OnceLock<MachineConfig>,
    ram: OnceLock<MemoryRegion>,
    numa: Mutex<NumaState>,
    device_memory: OnceLock<DeviceMemory>,
}
qom::type_init!(Machine);

static CURRENT: Mutex<Option<Arc<dyn Object>>> = Mutex::new(None);

/// The machine, once it is made.
pub fn current_machine() -> Option<Arc<dyn Object>> {
    CURRENT.lock().clone()
}

/// Makes `machine` the one machine of this program, `/machine` in the tree.
///
/// # Errors
/// When there is one already.
pub fn set_current_machine(machine: &Arc<dyn Object>) -> Result<()> {
    qom::object_get_root().property_add_child("machine", machine)?;
    *CURRENT.lock() = Some(machine.clone());
    qom::container_get(machine, "unattached");
    Ok(())
}

/// The board's say when `device` is plugged, if it wants one for this kind of device.
pub(crate) fn hotplug_handler_for(device: &Arc<dyn Object>) -> Option<Arc<dyn HotplugHandler>> {
    // CPUs and memory are plugged into the board itself; everything else into its bus.
    if device.is_a("cpu") || device.is_a("memory-device") {
        current_machine()?.interface::<dyn HotplugHandler>()
    } else {
        None
    }
}

impl Machine {
    /// What the options said.
    pub fn config(&self) -> &MachineConfig {
        self.config.get_or_init(MachineConfig::default)
    }

    /// Sets what the options said, once.
    pub fn set_config(&self, config: MachineConfig) {
        let _ = self.config.set(config);
    }

    /// All of the machine's memory as one region, which the board maps as it likes.
    pub fn ram(&self) -> Option<&MemoryRegion> {
        self.ram.get()
    }

    /// The tables of its class.
    pub fn machine_class(&self) -> MachineClass {
        self.class().get::<MachineClass>().cloned().unwrap_or_default()
    }

    /// Where memory devices go.
    pub fn device_memory(&self) -> Option<&DeviceMemory> {
        self.device_memory.get()
    }

    /// Says where memory devices go, once; for the board.
    pub fn set_device_memory(&self, place: DeviceMemory) {
        let _ = self.device_memory.set(place);
    }

    /// Its NUMA nodes.
    pub fn numa(&self) -> &Mutex<NumaState> {
        &self.numa
    }

    /// What its options say of all its memory, for the backends that are made from now on.
    pub fn set_host_memory_defaults(&self) {
        backends::set_host_memory_defaults(backends::HostMemoryDefaults {
            merge: self.mem_merge.get(),
            dump: self.dump_guest_core.get(),
            prealloc: self.config().mem_prealloc,
            prealloc_threads: self.config().smp.cpus.max(1),
        });
    }

    fn init_ram(&self, class: &MachineClass, nodes: Option<MemoryRegion>) -> Result<()> {
        let size = self.config().ram_size;
        if let Some(region) = nodes {
            let _ = self.ram.set(region);
            return Ok(());
        }
        let backend = match (self.memory_backend.get(), class.default_ram_id) {
            (Some(id), _) => backends::find_memory_backend(&id)?,
            (None, Some(name)) if size > 0 => {
                backends::default_memory_backend(name, size, self.config().mem_path.as_deref())?
            }
            _ => return Ok(()),
        };
        let region = backends::memory_region(&backend)?;
        if region.size() != u128::from(size) {
            bail!("Machine memory size does not match the size of the memory backend");
        }
        let _ = self.ram.set(region);
        Ok(())
    }
}

/// Memory checks and memory, then the board (`machine_run_board_init`).
///
/// # Errors
/// When the memory cannot be had, the CPU type does not exist, or the board refuses.
pub fn machine_run_board_init(object: &Arc<dyn Object>) -> Result<()> {
    let _span = util::trace::span("machine_run_board_init");
    let Some(machine) = object.cast::<Machine>() else { bail!("'{}' is not a machine", object.type_name()) };
    let class = machine.machine_class();
    if machine.usb.get() {
        bail!("usb=on is not supported yet");
    }
    let nodes = numa::complete_configuration(object, machine, &class)?;
    machine.init_ram(&class, nodes)?;
    if let Some(cpu_type) = &machine.config().cpu_type
        && qom::class_by_name(cpu_type).is_none()
    {
        bail!("Invalid CPU type: {cpu_type}");
    }
    // Everything the board maps shows at once, and KVM is told of each slot once.
    let _transaction = memory::transaction();
    match class.init {
        Some(init) => init(object),
        None => Ok(()),
    }
}

type DoneNotifier = Box<dyn FnOnce() -> Result<()> + Send>;

static DONE: Mutex<Vec<DoneNotifier>> = Mutex::new(Vec::new());

/// Has `notifier` called once all devices are there, also the user's, before the machine starts.
pub fn add_machine_init_done_notifier(notifier: DoneNotifier) {
    DONE.lock().push(notifier);
}

/// Calls what [`add_machine_init_done_notifier`] registered (`qdev_machine_creation_done`).
///
/// # Errors
/// The first notifier's that failed.
pub fn qdev_machine_creation_done() -> Result<()> {
    let _span = util::trace::span("qdev_machine_creation_done");
    let notifiers = std::mem::take(&mut *DONE.lock());
    notifiers.into_iter().try_for_each(|notifier| notifier())?;
    READY.store(true, Ordering::Release);
    Ok(())
}

static READY: AtomicBool = AtomicBool::new(false);

/// Whether the machine is made, with all its devices (PHASE_MACHINE_READY).
pub fn is_ready() -> bool {
    READY.load(Ordering::Acquire)
}

/// Resets the machine (`qemu_system_reset` without the events).
pub fn machine_reset(object: &Arc<dyn Object>) {
    match object.class().get::<MachineClass>().and_then(|c| c.reset) {
        Some(reset) => reset(object),
        None => crate::reset::qemu_devices_reset(),
    }
}

/// The machine type called `name` or with that alias.
pub fn find_machine(name: &str) -> Option<&'static Class> {
    qom::class_list("machine", false)
        .into_iter()
        .find(|class| class.get::<MachineClass>().is_some_and(|m| m.name == name || m.alias == Some(name)))
}
