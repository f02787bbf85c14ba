//! The configuration of a CPU before it is realized: its model's values, and what the machine, the
//! accelerator and the user changed of them.

use crate::features::{ALIASES, Feature, FeatureWord, FeatureWords, bits};
use crate::host::{HostCpu, IrqChip, Register};
use crate::hyperv::{self, ENLIGHTENMENTS, Enlightenments};
use crate::models::{CpuModel, DefaultVersion, ModelDef};
use crate::props::{
    HOST_PROPERTIES, LBR_FMT_MASK, PROPERTIES, PropertyError, PropertyKind, PropertyType, PropertyValue,
    Props, READ_ONLY_PROPERTIES, SIGNATURE_PROPERTIES, parse_int,
};

/// `MCG_LMCE_P` of IA32_MCG_CAP: local machine checks.
pub(crate) const MCG_LMCE: u64 = 1 << 27;

/// A CPU that has been made but not realized (the properties of `X86CPU`).
#[derive(Clone, Debug)]
pub struct CpuConfig {
    /// The model it was made from.
    pub model: CpuModel,
    /// Properties that are neither features nor below.
    pub props: Props,
    /// Features that are on.
    pub features: FeatureWords,
    /// Features that somebody other than the model turned on or off.
    pub user_features: FeatureWords,
    /// Hyper-V enlightenments that are on.
    pub enlightenments: Enlightenments,
    /// EAX of leaf 1: family, model and stepping.
    pub signature: u32,
    /// Vendor string.
    pub vendor: [u8; 12],
    /// Brand string.
    pub model_id: [u8; 48],
    /// Frequency of the time-stamp counter in kHz that the user asked for, 0 for the host's.
    pub tsc_khz: u64,
    /// Only features that other hosts may have (`max` and `host`).
    pub migratable: bool,
    /// Show the host's caches (`max` and `host`).
    pub host_cache_info: bool,
}

/// Features that KVM changes in models from the tables (`kvm_default_props`).
const KVM_DEFAULTS: [(Feature, bool); 11] = [
    (bits::KVMCLOCK, true),
    (bits::KVM_NOPIODELAY, true),
    (bits::KVM_ASYNCPF, true),
    (bits::KVM_STEAL_TIME, true),
    (bits::KVM_PV_EOI, true),
    (bits::KVMCLOCK_STABLE_BIT, true),
    (bits::X2APIC, true),
    (bits::KVM_MSI_EXT_DEST_ID, false),
    (bits::ACPI, false),
    (bits::MONITOR, false),
    (bits::SVM, false),
];

impl CpuConfig {
    /// Makes a CPU of a model as `object_new` makes it under KVM: the model's values, then those of
    /// its version, then KVM's. Compat properties of the machine and the user's come after.
    pub fn new(model: CpuModel, version: DefaultVersion, host: &HostCpu) -> Self {
        let mut config = Self {
            model,
            props: Props::default(),
            features: FeatureWords::NONE,
            user_features: FeatureWords::NONE,
            enlightenments: Enlightenments::default(),
            signature: 0,
            vendor: [0; 12],
            model_id: [0; 48],
            tsc_khz: 0,
            migratable: true,
            host_cache_info: false,
        };
        match model {
            CpuModel::Defined(def, choice) => {
                config.load(def);
                for version in def.versions_up_to(choice, version) {
                    for (name, value) in version.props {
                        // A test sets every version's properties.
                        let _known = config.set(name, value);
                    }
                }
                if !host.runs_nothing {
                    config.apply_kvm_defaults(host);
                }
                // What a version changed the user may still be given by the model.
                config.user_features = FeatureWords::NONE;
            }
            CpuModel::Max | CpuModel::Host if host.runs_nothing => config.be_anything(),
            CpuModel::Max | CpuModel::Host => config.copy_host(host),
            CpuModel::Base => {}
        }
        config
    }

    fn load(&mut self, def: &ModelDef) {
        self.props.min_level = def.level;
        self.props.min_xlevel = def.xlevel;
        self.set_family(def.family.into());
        self.set_model(def.model.into());
        self.set_stepping(def.stepping.into());
        self.set_model_id(def.model_id);
        self.features = def.features;
        self.features.set(bits::HYPERVISOR, true);
        self.props.legacy_cache = def.caches.is_none();
        self.vendor = *def.vendor;
    }

    fn apply_kvm_defaults(&mut self, host: &HostCpu) {
        // SYSCALL and SYSENTER in compatibility mode work as the real processor's vendor has it.
        self.vendor = host.vendor();
        for (feature, on) in KVM_DEFAULTS {
            let on = match host.irqchip {
                IrqChip::Off if feature == bits::X2APIC => false,
                IrqChip::Split if feature == bits::KVM_MSI_EXT_DEST_ID => true,
                _ => on,
            };
            self.features.set(feature, on);
        }
    }

    fn copy_host(&mut self, host: &HostCpu) {
        let supported_level = |leaf| host.supported_cpuid(leaf, 0, Register::Eax);
        let (family, model, stepping) = host.family_model_stepping();
        self.set_family(family);
        self.set_model(model);
        self.set_stepping(stepping);
        self.vendor = host.vendor();
        self.model_id = host.model_id();
        self.props.pmu = true;
        self.props.host_phys_bits = true;
        self.props.lmce = host.mce_cap.is_some_and(|cap| cap & MCG_LMCE != 0);
        self.props.min_level = supported_level(0);
        self.props.min_xlevel = supported_level(0x8000_0000);
        self.props.min_xlevel2 = supported_level(0xc000_0000);
    }

    /// What `max` is where there is no host to copy.
    fn be_anything(&mut self) {
        self.props.pmu = true;
        self.vendor = *b"AuthenticAMD";
        self.set_family(15);
        self.set_model(107);
        self.set_stepping(1);
        self.set_model_id("QEMU TCG CPU version 2.5+");
    }

    /// Family, model and stepping as one number each.
    pub fn family(&self) -> u32 {
        match self.signature >> 8 & 0xf {
            0xf => 0xf + (self.signature >> 20 & 0xff),
            family => family,
        }
    }

    fn set_family(&mut self, family: u32) {
        let (base, extended) = if family > 0xf { (0xf, family - 0xf) } else { (family, 0) };
        self.signature = self.signature & !0x0ff0_0f00 | base << 8 | (extended & 0xff) << 20;
    }

    fn model_number(&self) -> u32 {
        self.signature >> 4 & 0xf | (self.signature >> 16 & 0xf) << 4
    }

    fn set_model(&mut self, model: u32) {
        self.signature = self.signature & !0x000f_00f0 | (model & 0xf) << 4 | (model >> 4 & 0xf) << 16;
    }

    fn set_stepping(&mut self, stepping: u32) {
        self.signature = self.signature & !0xf | stepping & 0xf;
    }

    fn set_model_id(&mut self, text: &str) {
        self.model_id = [0; 48];
        for (to, from) in self.model_id.iter_mut().zip(text.bytes()) {
            *to = from;
        }
    }

    /// Sets a property from text (`object_property_parse`).
    ///
    /// # Errors
    /// A property the CPU does not have, or a value it cannot take.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), PropertyError> {
        let name = canonical_name(name);
        if let Some(feature) = Feature::by_name(name) {
            let on = bool::parse(name, text)?;
            self.set_feature(feature, on);
            return Ok(());
        }
        if let Some(position) = Enlightenments::position(name) {
            self.enlightenments.set(position, bool::parse(name, text)?);
            return Ok(());
        }
        match name {
            "family" => self.set_family(ranged(name, text, 0xff + 0xf)?),
            "model" => self.set_model(ranged(name, text, 0xff)?),
            "stepping" => self.set_stepping(ranged(name, text, 0xf)?),
            "vendor" => {
                self.vendor = text.as_bytes().try_into().map_err(|_| PropertyError::BadValue {
                    name: name.to_string(),
                    value: text.to_string(),
                })?;
            }
            "model-id" => self.set_model_id(text),
            "tsc-frequency" => self.tsc_khz = ranged_i64(name, text, i64::MAX)? / 1000,
            "migratable" if self.model.copies_host() => self.migratable = bool::parse(name, text)?,
            "host-cache-info" if self.model.copies_host() => self.host_cache_info = bool::parse(name, text)?,
            "lbr-fmt" => {
                let value = u64::parse(name, text)?;
                if value & !LBR_FMT_MASK != 0 {
                    return Err(PropertyError::OutsideMask { name: name.to_string(), mask: LBR_FMT_MASK });
                }
                self.props.lbr_fmt = value;
            }
            _ => return self.props.set(name, text).unwrap_or_else(|| Err(self.unknown(name))),
        }
        Ok(())
    }

    /// Sets a property to a bool, as `+name` and `-name` do (`object_property_set_bool`).
    ///
    /// # Errors
    /// A property the CPU does not have, or one that is no bool.
    pub fn set_bool(&mut self, name: &str, on: bool) -> Result<(), PropertyError> {
        match self.kind(name) {
            Some(PropertyKind::Bool) => self.set(name, if on { "on" } else { "off" }),
            Some(kind) => {
                let expected = kind.expected_instead_of_bool();
                Err(PropertyError::WrongType { name: name.to_string(), expected })
            }
            None => Err(self.unknown(name)),
        }
    }

    fn set_feature(&mut self, feature: Feature, on: bool) {
        self.features.set(feature, on);
        self.user_features.set(feature, true);
    }

    fn unknown(&self, name: &str) -> PropertyError {
        let (type_name, name) = (self.model.type_name(), name.to_string());
        if READ_ONLY_PROPERTIES.contains(&name.as_str()) {
            PropertyError::NotWritable { type_name, name }
        } else {
            PropertyError::NotFound { type_name, name }
        }
    }

    /// The type of a property; `None` if the CPU has none of this name.
    pub fn kind(&self, name: &str) -> Option<PropertyKind> {
        let name = canonical_name(name);
        properties(&self.model).find(|(known, ..)| *known == name).map(|(_, kind, _)| kind)
    }

    /// The value of a property; `None` if the CPU has none of this name.
    pub fn get(&self, name: &str) -> Option<PropertyValue> {
        let name = canonical_name(name);
        if let Some(feature) = Feature::by_name(name) {
            return Some(PropertyValue::Bool(self.features.has(feature)));
        }
        if let Some(position) = Enlightenments::position(name) {
            return Some(PropertyValue::Bool(self.enlightenments.is_on(position)));
        }
        let text = |bytes: &[u8]| {
            PropertyValue::Str(String::from_utf8_lossy(bytes).trim_end_matches('\0').to_string())
        };
        match name {
            "family" => Some(PropertyValue::Int(self.family().into())),
            "model" => Some(PropertyValue::Int(self.model_number().into())),
            "stepping" => Some(PropertyValue::Int((self.signature & 0xf).into())),
            "vendor" => Some(text(&self.vendor)),
            "model-id" => Some(text(&self.model_id)),
            "tsc-frequency" => {
                Some(PropertyValue::Int(self.tsc_khz.saturating_mul(1000).try_into().unwrap_or(i64::MAX)))
            }
            "migratable" if self.model.copies_host() => Some(PropertyValue::Bool(self.migratable)),
            "host-cache-info" if self.model.copies_host() => Some(PropertyValue::Bool(self.host_cache_info)),
            _ => self.props.get(name),
        }
    }
}

/// All properties that a CPU of a model has, with type and description, without other names for the
/// same: what `-device TYPE,help` lists. The value of each in a new CPU is its default.
pub fn properties(model: &CpuModel) -> impl Iterator<Item = (&'static str, PropertyKind, &'static str)> {
    let host = if model.copies_host() { HOST_PROPERTIES } else { &[] };
    let own = PROPERTIES.iter().chain(SIGNATURE_PROPERTIES).chain(host).copied();
    let features = FeatureWord::all().flat_map(|word| word.info().names()).map(|(_, name)| name);
    let mut seen = Vec::new();
    let features = features.filter(move |name| {
        let is_new = !seen.contains(name);
        seen.push(*name);
        is_new
    });
    let enlightenments = ENLIGHTENMENTS.iter().map(|one| (one.name, PropertyKind::Bool, one.description));
    own.chain(features.map(|name| (name, PropertyKind::Bool, "CPU feature"))).chain(enlightenments)
}

/// The name that [`properties`] lists for any name a property goes by.
pub fn canonical_name(name: &str) -> &str {
    let others = [hyperv::ALIAS, ("lbr_fmt", "lbr-fmt")];
    let mut aliases = ALIASES.iter().copied().chain(others);
    aliases.find(|(alias, _)| *alias == name).map_or(name, |(_, real)| real)
}

fn ranged_i64(name: &str, text: &str, max: i64) -> Result<u64, PropertyError> {
    let value = parse_int(name, text)?;
    match u64::try_from(value) {
        Ok(number) if value <= max => Ok(number),
        _ => Err(PropertyError::OutOfRange { name: name.to_string(), value, min: 0, max }),
    }
}

fn ranged(name: &str, text: &str, max: u32) -> Result<u32, PropertyError> {
    Ok(ranged_i64(name, text, max.into())?.min(max.into()) as u32)
}
