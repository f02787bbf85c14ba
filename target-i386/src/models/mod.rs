//! CPU models: those of QEMU 7.2 with their versions and aliases, and `base`, `max` and `host`.

mod amd;
mod generic;
mod intel_atom;
mod intel_core;
mod intel_core2;
mod intel_server;

use std::fmt;

use crate::cache::CpuCaches;
use crate::features::FeatureWords;

const INTEL: &[u8; 12] = b"GenuineIntel";
const AMD: &[u8; 12] = b"AuthenticAMD";
const HYGON: &[u8; 12] = b"HygonGenuine";

/// What QEMU's type names of CPUs end in.
pub const TYPE_SUFFIX: &str = "-x86_64-cpu";

/// A CPU model as it was first defined (`X86CPUDefinition`).
#[derive(Debug)]
pub struct ModelDef {
    /// Name without a version.
    pub name: &'static str,
    /// Highest basic CPUID leaf, at least.
    pub level: u32,
    /// Highest extended CPUID leaf, at least.
    pub xlevel: u32,
    /// Vendor string.
    pub vendor: &'static [u8; 12],
    /// Family.
    pub family: u8,
    /// Model.
    pub model: u8,
    /// Stepping.
    pub stepping: u8,
    /// Brand string.
    pub model_id: &'static str,
    /// Features, without `hypervisor`, which all models have.
    pub features: FeatureWords,
    /// Its caches; `None` for those that QEMU gave all CPUs once.
    pub caches: Option<&'static CpuCaches>,
    /// Its versions, from 1 on without a gap.
    pub versions: &'static [Version],
}

/// A version of a CPU model (`X86CPUVersionDefinition`).
#[derive(Debug)]
pub struct Version {
    /// Its number.
    pub number: u32,
    /// Another name of the model in this version.
    pub alias: Option<&'static str>,
    /// What `-cpu help` adds about it.
    pub note: Option<&'static str>,
    /// Properties that differ from the version before.
    pub props: &'static [(&'static str, &'static str)],
}

const V1: Version = Version { number: 1, alias: None, note: None, props: &[] };

/// All models that are defined by a table.
pub static MODELS: [&ModelDef; 38] = [
    &generic::QEMU64,
    &generic::QEMU32,
    &generic::KVM64,
    &generic::KVM32,
    &generic::I486,
    &generic::PENTIUM,
    &generic::PENTIUM2,
    &generic::PENTIUM3,
    &generic::ATHLON,
    &generic::PHENOM,
    &generic::COREDUO,
    &generic::CORE2DUO,
    &generic::N270,
    &intel_core2::CONROE,
    &intel_core2::PENRYN,
    &intel_core2::NEHALEM,
    &intel_core2::WESTMERE,
    &intel_core::SANDYBRIDGE,
    &intel_core::IVYBRIDGE,
    &intel_core::HASWELL,
    &intel_core::BROADWELL,
    &intel_core::SKYLAKE_CLIENT,
    &intel_server::SKYLAKE_SERVER,
    &intel_server::CASCADELAKE_SERVER,
    &intel_server::COOPERLAKE,
    &intel_server::ICELAKE_SERVER,
    &intel_atom::KNIGHTSMILL,
    &intel_atom::DENVERTON,
    &intel_atom::SNOWRIDGE,
    &amd::OPTERON_G1,
    &amd::OPTERON_G2,
    &amd::OPTERON_G3,
    &amd::OPTERON_G4,
    &amd::OPTERON_G5,
    &amd::EPYC,
    &amd::EPYC_ROME,
    &amd::EPYC_MILAN,
    &amd::DHYANA,
];

/// The version that a machine type means by a model's name alone (`default_cpu_version`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DefaultVersion {
    /// This one: 1 for `pc-i440fx-7.2`.
    Number(u32),
    /// The model as first defined, for machine types older than versions: `isapc`.
    Legacy,
    /// The newest: machines without versions of their own, `none` for instance.
    #[default]
    Latest,
}

/// How a name asks for a version of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionChoice {
    /// By the model's name alone: the machine type decides.
    Machine,
    /// By name and number, `Haswell-v2`.
    Number(u32),
    /// By an alias of one version, `Haswell-noTSX`.
    Alias(u32),
}

/// A CPU model, as a name selects it.
#[derive(Clone, Copy, Debug)]
pub enum CpuModel {
    /// No features at all; others are expressed relative to it.
    Base,
    /// Everything KVM can give.
    Max,
    /// The host's own processor: `max` that insists on hardware virtualization.
    Host,
    /// One from the tables.
    Defined(&'static ModelDef, VersionChoice),
}

impl CpuModel {
    /// Finds a model by the name that `-cpu` takes, upper and lower case kept apart.
    pub fn by_name(name: &str) -> Option<CpuModel> {
        Self::all().find(|model| model.is_named(name))
    }

    /// All models by all their names, in no particular order.
    pub fn all() -> impl Iterator<Item = CpuModel> {
        let defined = MODELS.into_iter().flat_map(|def| {
            let versions = def.versions.iter().flat_map(|version| {
                let alias = version.alias.map(|_| VersionChoice::Alias(version.number));
                [Some(VersionChoice::Number(version.number)), alias].into_iter().flatten()
            });
            let choices = [VersionChoice::Machine].into_iter().chain(versions);
            choices.map(move |choice| CpuModel::Defined(def, choice))
        });
        defined.chain([CpuModel::Base, CpuModel::Max, CpuModel::Host])
    }

    fn is_named(&self, name: &str) -> bool {
        match self {
            CpuModel::Base => name == "base",
            CpuModel::Max => name == "max",
            CpuModel::Host => name == "host",
            CpuModel::Defined(def, VersionChoice::Machine) => name == def.name,
            CpuModel::Defined(def, VersionChoice::Number(number)) => {
                let rest = name.strip_prefix(def.name).and_then(|rest| rest.strip_prefix("-v"));
                rest.is_some_and(|rest| rest == number.to_string())
            }
            CpuModel::Defined(def, VersionChoice::Alias(number)) => {
                def.version(*number).and_then(|version| version.alias) == Some(name)
            }
        }
    }

    /// Name of the QOM type: `qemu64-x86_64-cpu`.
    pub fn type_name(&self) -> String {
        self.to_string() + TYPE_SUFFIX
    }

    /// Whether the model takes all its features from the host (`max_features`).
    pub fn copies_host(&self) -> bool {
        matches!(self, CpuModel::Max | CpuModel::Host)
    }

    /// The definition, for a model that has one.
    pub fn definition(&self) -> Option<&'static ModelDef> {
        match self {
            CpuModel::Defined(def, _) => Some(def),
            _ => None,
        }
    }
}

impl fmt::Display for CpuModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CpuModel::Base => f.write_str("base"),
            CpuModel::Max => f.write_str("max"),
            CpuModel::Host => f.write_str("host"),
            CpuModel::Defined(def, VersionChoice::Machine) => f.write_str(def.name),
            CpuModel::Defined(def, VersionChoice::Number(number)) => write!(f, "{}-v{number}", def.name),
            CpuModel::Defined(def, VersionChoice::Alias(number)) => {
                f.write_str(def.version(*number).and_then(|version| version.alias).unwrap_or(def.name))
            }
        }
    }
}

impl ModelDef {
    /// The version of a number.
    pub fn version(&self, number: u32) -> Option<&'static Version> {
        self.versions.iter().find(|version| version.number == number)
    }

    /// The versions whose properties, one after the other, make up the one that is asked for
    /// (`x86_cpu_apply_version_props`).
    pub fn versions_up_to(&self, choice: VersionChoice, machine: DefaultVersion) -> &'static [Version] {
        let number = match (choice, machine) {
            (VersionChoice::Number(number) | VersionChoice::Alias(number), _) => number,
            (VersionChoice::Machine, DefaultVersion::Number(number)) => number,
            (VersionChoice::Machine, DefaultVersion::Latest) => u32::MAX,
            (VersionChoice::Machine, DefaultVersion::Legacy) => 0,
        };
        let count = self.versions.iter().filter(|version| version.number <= number).count();
        self.versions.get(..count).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::FeatureWord;
    use crate::host::AMD_ALIASES;

    #[test]
    fn versions_are_numbered_from_one() {
        for def in MODELS {
            for (at, version) in def.versions.iter().enumerate() {
                assert_eq!(version.number as usize, at + 1, "{}", def.name);
            }
            assert!(def.model_id.len() <= 48, "{}", def.name);
        }
    }

    #[test]
    fn amd_aliases_are_left_to_the_vendor() {
        for def in MODELS {
            assert_eq!(def.features.low(FeatureWord::Ext1Edx) & AMD_ALIASES, 0, "{}", def.name);
        }
    }

    #[test]
    fn every_name_finds_its_model() {
        let names: Vec<String> = CpuModel::all().map(|model| model.to_string()).collect();
        assert_eq!(names.len(), 132, "as many as QEMU 7.2 has");
        for name in &names {
            assert_eq!(CpuModel::by_name(name).unwrap().to_string(), *name);
        }
        for wrong in ["", "haswell", "Haswell-v5", "Haswell-v01", "Haswell-v", "qemu64-x86_64-cpu"] {
            assert!(CpuModel::by_name(wrong).is_none(), "{wrong}");
        }
    }
}
