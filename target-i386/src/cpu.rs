//! The CPU as an object: a type for each model, features as properties, realize and reset.
//!
//! Source: QEMU `target/i386/cpu.c` (`x86_cpu_realizefn`, `x86_cpu_reset`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use accel_kvm::KvmArchCpu;
use hw_core::reset::{ResetHandler, qemu_register_reset, qemu_unregister_reset};
use hw_core::{Cpu, CpuClass, DeviceClass, DeviceImpl, qdev_unparent, vmstate};
use hw_intc::apic::CpuInterrupt;
use hw_intc::{ApicCpu, ApicDevice};
use parking_lot::Mutex;
use qom::property::PropertyInput;
use qom::{Class, ClassInit, Error, Object, PropertyInfo, Result, TypeInfo, Value, bail};
use util::log::{Mask, log_mask};

use crate::config::CpuConfig;
use crate::cpuid::{VcpuPlace, build_cpuid};
use crate::expand::{CpuError, Expanded, expand_features};
use crate::features::{ALIASES, FeatureWord};
use crate::gdbstub::GDB_CLASS;
use crate::host::CpuidEntry;
use crate::hyperv::Enlightenments;
use crate::models::{CpuModel, DefaultVersion};
use crate::msrs::MsrValue;
use crate::option::CpuOption;
use crate::props::{HOST_PROPERTIES, PROPERTIES, PropertyValue, Props, SIGNATURE_PROPERTIES};
use crate::reset::X86State;
use crate::topology::Topology;
use crate::{hyperv, kvm, report};

/// What sets one model's type apart.
#[derive(Clone, Default)]
struct X86CpuClass {
    model: Option<CpuModel>,
}

/// An x86 CPU; each model is a subtype.
#[derive(Object)]
#[object(name = "x86_64-cpu", parent = Cpu, abstract, interfaces(dyn KvmArchCpu), class_init = class_init,
    instance_init = X86Cpu::init)]
pub struct X86Cpu {
    parent: Cpu,
    config: Mutex<Option<CpuConfig>>,
    place: OnceLock<(Topology, u32)>,
    expanded: OnceLock<Expanded>,
    reset_handler: Mutex<Option<ResetHandler>>,
    /// What is to be handed to KVM before the CPU next runs.
    pub(crate) pending: Mutex<Pending>,
    pub(crate) dirty: AtomicBool,
    /// What interrupt controllers outside the accelerator have for it.
    pub(crate) user_irq: kvm::UserIrq,
}

/// Where a user wants a CPU to be; -1 where nothing was said.
#[derive(Clone, Copy, Debug)]
pub struct CpuPlace {
    /// Its APIC id.
    pub apic_id: Option<u32>,
    /// Package.
    pub socket: i32,
    /// Die in it.
    pub die: i32,
    /// Core in it.
    pub core: i32,
    /// Thread in it.
    pub thread: i32,
    /// NUMA node.
    pub node: i32,
}

/// State that changed outside the guest.
#[derive(Clone, Default)]
pub(crate) struct Pending {
    pub state: X86State,
    /// MSRs beyond those of reset, written after them.
    pub msrs: Vec<MsrValue>,
    /// Whether the CPU was reset before, so that its time-stamp counter is not set again.
    pub was_reset: bool,
    /// INIT, not reset: MSRs and the floating-point unit stay.
    pub init_only: bool,
    /// LVT LINT0 and LINT1 where they differ from reset's.
    pub lint: Option<(u32, u32)>,
}

/// The version of a model that a name without a version means.
static DEFAULT_VERSION: Mutex<DefaultVersion> = Mutex::new(DefaultVersion::Latest);

/// A board says which version of a model a name without a version means on it (`x86_cpu_set_default_version`).
pub fn set_default_version(version: DefaultVersion) {
    *DEFAULT_VERSION.lock() = version;
}

/// The version of a model that a name without a version means.
pub(crate) fn default_version() -> DefaultVersion {
    *DEFAULT_VERSION.lock()
}

/// The model that a type stands for.
pub(crate) fn model_of(class: &Class) -> Option<CpuModel> {
    class.get::<X86CpuClass>().and_then(|c| c.model)
}

qom::type_init!(X86Cpu);
qom::type_init!(fn register_models);

fn register_models() {
    accel_kvm::set_arch(Box::new(kvm::X86KvmArch));
    for model in CpuModel::all() {
        let init = move |class: &mut Class| {
            class.get_mut::<X86CpuClass>().model = Some(model);
            if model.copies_host() {
                let own = HOST_PROPERTIES.iter().map(|(name, kind, text)| property(name, kind.name(), text));
                own.for_each(|property| class.add_property(with_default(property)));
            }
        };
        qom::type_register(TypeInfo::new(model.type_name(), "x86_64-cpu", init));
    }
}

impl<T: DeviceImpl> ClassInit<T> for X86Cpu {
    fn class_init(class: &mut Class) {
        <Cpu as ClassInit<T>>::class_init(class);
    }
}

fn class_init(class: &mut Class) {
    let device = class.get_mut::<DeviceClass>();
    device.realize = Some(realize);
    device.unrealize = Some(unrealize);
    device.board_only = false;
    let cpu = class.get_mut::<CpuClass>();
    cpu.dump_state = Some(|object| object.cast().map(kvm::dump_current).unwrap_or_default());
    cpu.gdb = Some(GDB_CLASS);
    cpu.nmi = Some(|object| match object.cast::<X86Cpu>().and_then(|cpu| cpu.user_irq.apic()) {
        Some(apic) => apic.deliver_nmi(),
        None => kvm::nmi_current(),
    });
    // What the board sets on every CPU does not wait for the hundreds of others.
    let board_sets = PROPERTIES.iter().filter(|(name, ..)| *name == "apic-id");
    board_sets.for_each(|(name, kind, text)| class.add_property(property(name, kind.name(), text)));
    class.set_late_properties(properties);
    vmstate::register::<X86Cpu>(class);
}

/// Every feature and setting as a property.
fn properties() -> Vec<PropertyInfo> {
    let features =
        FeatureWord::all().flat_map(|word| word.info().names().map(|(_, name)| name)).collect::<Vec<_>>();
    let aliases = ALIASES.iter().map(|(alias, _)| *alias);
    let words = features.into_iter().chain(aliases).chain(hyperv::names()).map(|name| (name, "bool", ""));
    let settings = PROPERTIES.iter().chain(SIGNATURE_PROPERTIES);
    let settings = settings.map(|(name, kind, text)| (*name, kind.name(), *text));
    let own = words.chain(settings).map(|(name, kind, text)| property(name, kind, text));
    own.chain(report::properties()).map(with_default).collect()
}

/// What a setting is in every new CPU, where that is one value; features depend on the model.
fn with_default(mut property: PropertyInfo) -> PropertyInfo {
    let name = property.name.as_str();
    property.default = match Props::default().get(name) {
        Some(PropertyValue::Bool(value)) => Some(value.into()),
        Some(PropertyValue::Int(value)) => Some(value.into()),
        Some(PropertyValue::Uint(value)) if name != "lbr-fmt" => Some(value.into()),
        Some(PropertyValue::Str(value)) if !value.is_empty() => Some(value.into()),
        None if Enlightenments::position(name).is_some() => Some(false.into()),
        // Of `max` and `host`, which alone have them.
        None if name == "migratable" => Some(true.into()),
        None if name == "host-cache-info" => Some(false.into()),
        _ => None,
    };
    // They are properties of the object model's own, not of devices.
    if matches!(name, "vendor" | "model-id") {
        property.type_name = "string".to_owned();
    }
    property
}

/// A value as text, as which all properties are read. JSON must be of the property's own type.
fn value_text(name: &str, kind: &str, input: PropertyInput<'_>) -> Result<String> {
    let expected = match (kind, input) {
        (_, PropertyInput::Text(text)) => return Ok(text.to_owned()),
        ("bool", PropertyInput::Json(Value::Bool(value))) => {
            return Ok(if *value { "on" } else { "off" }.to_owned());
        }
        ("str" | "OnOffAuto", PropertyInput::Json(Value::String(text))) => return Ok(text.clone()),
        ("bool", _) => "boolean",
        ("str" | "OnOffAuto", _) => "string",
        (_, PropertyInput::Json(Value::Number(number))) if !number.is_f64() => return Ok(number.to_string()),
        _ => "integer",
    };
    bail!("Invalid parameter type for '{name}', expected: {expected}")
}

fn property(name: &'static str, kind: &'static str, description: &str) -> PropertyInfo {
    PropertyInfo {
        description: description.to_owned(),
        get: Some(Arc::new(move |object| {
            let value = object.cast::<X86Cpu>().and_then(|cpu| cpu.with_config(|c| c.get(name)));
            match value {
                Some(PropertyValue::Bool(value)) => Ok(value.into()),
                Some(PropertyValue::Int(value)) => Ok(value.into()),
                Some(PropertyValue::Uint(value)) => Ok(value.into()),
                Some(PropertyValue::Str(value)) => Ok(value.into()),
                None => bail!("Property '{}.{name}' not found", object.type_name()),
            }
        })),
        set: Some(Arc::new(move |object, input| {
            let text = value_text(name, kind, input)?;
            let Some(cpu) = object.cast::<X86Cpu>() else { return Ok(()) };
            match &mut *cpu.config.lock() {
                Some(config) => config.set(name, &text).map_err(|e| Error::new(e.to_string())),
                None => bail!("'{}' has no model", object.type_name()),
            }
        })),
        ..PropertyInfo::new(name, kind)
    }
}

/// `-cpu`'s features after `+` and `-`, which win over all else; the rest of the option is globals.
static OPTION: OnceLock<CpuOption> = OnceLock::new();

/// Sets what `-cpu` said, for all CPUs made from now on; the first call counts.
pub fn set_cpu_option(option: CpuOption) {
    let _ = OPTION.set(option);
}

fn wrong(error: impl std::fmt::Display) -> Error {
    Error::new(error.to_string())
}

impl X86Cpu {
    fn init(&self) {
        let model = model_of(self.class());
        *self.config.lock() = model.map(|model| CpuConfig::new(model, default_version(), kvm::host()));
    }

    /// Calls `f` with the configuration of a CPU that is not realized.
    pub(crate) fn change_config(&self, f: impl FnOnce(&mut CpuConfig)) {
        if let Some(config) = &mut *self.config.lock() {
            f(config);
        }
    }

    pub(crate) fn with_config<R>(&self, f: impl FnOnce(&CpuConfig) -> Option<R>) -> Option<R> {
        match self.expanded.get() {
            Some(expanded) => f(&expanded.config),
            None => f(self.config.lock().as_ref()?),
        }
    }

    /// Says where in the topology it is, and in which NUMA node; for the board, before realize.
    pub fn set_place(&self, topology: Topology, apic_id: u32, node: Option<i32>) {
        let ids = topology.ids_of_apic_id(apic_id);
        self.change_config(|config| {
            let props = &mut config.props;
            (props.socket_id, props.die_id) = (ids.socket as i32, ids.die as i32);
            (props.core_id, props.thread_id) = (ids.core as i32, ids.thread as i32);
            props.node_id = node.unwrap_or(props.node_id);
        });
        let _ = self.place.set((topology, apic_id));
    }

    /// Where the user wants it to be; for the board, before realize.
    pub fn wanted_place(&self) -> CpuPlace {
        let place = self.with_config(|config| {
            let props = &config.props;
            Some(CpuPlace {
                apic_id: Some(props.apic_id).filter(|id| *id != u32::MAX),
                socket: props.socket_id,
                die: props.die_id,
                core: props.core_id,
                thread: props.thread_id,
                node: props.node_id,
            })
        });
        place.unwrap_or(CpuPlace { apic_id: None, socket: -1, die: -1, core: -1, thread: -1, node: -1 })
    }

    /// Where in the topology it is.
    pub fn topology(&self) -> Topology {
        self.place.get().map_or(Topology { dies: 1, cores: 1, threads: 1 }, |(topology, _)| *topology)
    }

    /// Its APIC id; a CPU that the board gave no place has its index.
    pub fn apic_id(&self) -> u32 {
        self.place.get().map_or(self.index(), |(_, apic_id)| *apic_id)
    }

    /// Whether it has the mode of 64 bits.
    pub fn has_long_mode(&self) -> bool {
        self.expanded().is_some_and(|e| e.config.features.has(crate::features::bits::LM))
    }

    /// Whether its guest is told of KVM's clock.
    pub fn has_kvmclock(&self) -> bool {
        self.expanded().is_some_and(|e| e.config.features.has(crate::features::bits::KVMCLOCK))
    }

    /// Its features as they came out, once it is realized.
    pub fn expanded(&self) -> Option<&Expanded> {
        self.expanded.get()
    }

    /// Whether it runs first after reset.
    pub fn is_bootstrap(&self) -> bool {
        self.index() == 0
    }

    /// Sets the state after reset (`x86_cpu_reset`); KVM is told before the CPU next runs.
    pub fn reset(&self) {
        let Some(expanded) = self.expanded.get() else { return };
        log_mask(Mask::RESET, || {
            let this = self.this();
            let dump = move || this.cast().map(kvm::dump_current).unwrap_or_default();
            let before = self.run_on_cpu(dump).unwrap_or_default();
            format!("CPU Reset (CPU {})\n{before}", self.index())
        });
        let state = X86State::reset(expanded, self.is_bootstrap());
        self.user_irq.reset(self.is_bootstrap());
        *self.pending.lock() = Pending { state, was_reset: true, ..Pending::default() };
        self.dirty.store(true, Ordering::Release);
    }

    /// Changes the state that the CPU goes on with; for a board that enters a kernel itself, after reset.
    pub fn change_state(&self, f: impl FnOnce(&mut X86State)) {
        f(&mut self.pending.lock().state);
        self.dirty.store(true, Ordering::Release);
    }

    /// Adds to what firmware would have set up: MSRs, and LVT LINT0 and LINT1 of the APIC.
    pub fn set_firmware_state(&self, msrs: Vec<MsrValue>, lint: Option<(u32, u32)>) {
        {
            let mut pending = self.pending.lock();
            pending.msrs.extend(msrs);
            pending.lint = lint;
        }
        if let (Some(apic), Some((lint0, lint1))) = (self.user_irq.apic(), lint) {
            apic.set_firmware_state(lint0, lint1);
        }
    }

    /// Gives it a local APIC outside the accelerator; for the board, before the machine is first reset.
    pub fn set_apic(self: &Arc<Self>, apic: &Arc<ApicDevice>) {
        let this: Weak<dyn ApicCpu> = Arc::downgrade(self) as Weak<dyn ApicCpu>;
        apic.set_cpu(this);
        self.user_irq.set_apic(apic.clone());
        self.user_irq.reset(self.is_bootstrap());
    }

    /// Sets its interrupt line where no local APIC outside the kernel does: the PIC's output.
    pub fn set_interrupt_line(&self, level: bool) {
        self.user_irq.set_intr(level);
        if level {
            self.wake_idle();
        }
    }

    /// Has it take a system management interrupt before its next instruction; where the accelerator knows
    /// none, nothing happens.
    pub fn inject_smi(&self) {
        match self.user_irq.apic() {
            Some(_) => self.interrupt(CpuInterrupt::Smi),
            None => self.async_run_on_cpu(kvm::inject_smi),
        }
    }

    /// What CPUID leaf `leaf` gives on this CPU.
    pub fn cpuid_leaf(&self, leaf: u32) -> Option<CpuidEntry> {
        let place = VcpuPlace { topology: self.topology(), apic_id: self.apic_id(), tsc_khz: 0 };
        let list = build_cpuid(self.expanded.get()?, kvm::host(), &place);
        list.into_iter().find(|entry| entry.function == leaf)
    }
}

/// Settles the features, then starts the CPU's thread (`x86_cpu_realizefn`).
fn realize(object: &Arc<dyn Object>) -> Result<()> {
    let _span = util::trace::span("x86_cpu_realizefn");
    let Some(cpu) = object.cast::<X86Cpu>() else { bail!("not an x86 CPU") };
    let Some(mut config) = cpu.config.lock().take() else { bail!("'{}' has no model", object.type_name()) };
    if let Some(option) = OPTION.get() {
        option.apply_flags(&mut config).map_err(wrong)?;
    }
    config.props.apic_id = cpu.apic_id();
    let expanded = match expand_features(config, kvm::host(), &cpu.topology()) {
        Ok(expanded) => expanded,
        Err(error) => {
            if let CpuError::Enforce { warnings } = &error {
                warnings.iter().for_each(|w| util::warn_report!("{w}"));
            }
            return Err(wrong(error));
        }
    };
    cpu.list_add();
    if cpu.is_bootstrap() {
        // The same for every CPU: told once.
        expanded.warnings.iter().for_each(|w| util::warn_report!("{w}"));
    }
    let _ = cpu.expanded.set(expanded);
    if let Err(error) = Cpu::init_vcpu(cpu) {
        cpu.list_remove();
        return Err(error);
    }
    let this = Arc::downgrade(object);
    let handler: ResetHandler = Arc::new(move || {
        if let Some(this) = this.upgrade()
            && let Some(cpu) = this.cast::<X86Cpu>()
        {
            cpu.reset();
        }
    });
    qemu_register_reset(handler.clone());
    *cpu.reset_handler.lock() = Some(handler);
    cpu.reset();
    cpu.pending.lock().was_reset = false;
    Ok(())
}

fn unrealize(object: &Arc<dyn Object>) {
    if let Some(cpu) = object.cast::<X86Cpu>() {
        if let Some(handler) = cpu.reset_handler.lock().take() {
            qemu_unregister_reset(&handler);
        }
        cpu.end();
        if let Some(apic) = object.child("lapic") {
            qdev_unparent(&apic);
        }
        cpu.list_remove();
    }
}
