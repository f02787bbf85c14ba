//! Properties of a CPU that are not features: names, types and defaults of QEMU 7.2's
//! `x86_cpu_properties`, and how text becomes their values.

/// Why a property could not be set, in QEMU's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PropertyError {
    /// The CPU has no such property.
    #[error("Property '{type_name}.{name}' not found")]
    NotFound {
        /// QOM type of the CPU.
        type_name: String,
        /// The name asked for.
        name: String,
    },
    /// It can only be read.
    #[error("Property '{type_name}.{name}' is not writable")]
    NotWritable {
        /// QOM type of the CPU.
        type_name: String,
        /// The name asked for.
        name: String,
    },
    /// A bool is neither `on` nor `off`.
    #[error("Parameter '{name}' expects 'on' or 'off'")]
    ExpectsOnOff {
        /// The property.
        name: String,
    },
    /// The text is no number, or none that fits the type.
    #[error("Parameter '{name}' expects {expected}")]
    Expects {
        /// The property.
        name: String,
        /// The type.
        expected: &'static str,
    },
    /// A word that the property does not know.
    #[error("Parameter '{name}' does not accept value '{value}'")]
    NotAccepted {
        /// The property.
        name: String,
        /// The word.
        value: String,
    },
    /// A number outside the property's range.
    #[error("Property .{name} doesn't take value {value} (minimum: {min}, maximum: {max})")]
    OutOfRange {
        /// The property.
        name: String,
        /// The number.
        value: i64,
        /// The least possible.
        min: i64,
        /// The most possible.
        max: i64,
    },
    /// A text the property cannot take.
    #[error("Property '.{name}' doesn't take value '{value}'")]
    BadValue {
        /// The property.
        name: String,
        /// The text.
        value: String,
    },
    /// Bits that the property does not have.
    #[error("Property value for '{name}' has bits outside mask '{mask:#x}'")]
    OutsideMask {
        /// The property.
        name: String,
        /// The bits it has.
        mask: u64,
    },
    /// `+name` or `-name` of a property that is no bool.
    #[error("Invalid parameter type for '{name}', expected: {expected}")]
    WrongType {
        /// The property.
        name: String,
        /// What it is: `integer` or `string`.
        expected: &'static str,
    },
}

/// Type of a property, as QEMU's `-device NAME,help` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PropertyKind {
    /// `on` or `off`.
    Bool,
    /// 8 bits, unsigned.
    U8,
    /// 16 bits, unsigned.
    U16,
    /// 32 bits, unsigned.
    U32,
    /// 64 bits, unsigned.
    U64,
    /// 32 bits, signed.
    I32,
    /// 64 bits, signed.
    Int,
    /// Text.
    Str,
    /// `on`, `off` or `auto`.
    OnOffAuto,
}

impl PropertyKind {
    /// The type's name in QEMU's help texts.
    pub fn name(self) -> &'static str {
        match self {
            PropertyKind::Bool => "bool",
            PropertyKind::U8 => "uint8",
            PropertyKind::U16 => "uint16",
            PropertyKind::U32 => "uint32",
            PropertyKind::U64 => "uint64",
            PropertyKind::I32 => "int32",
            PropertyKind::Int => "int",
            PropertyKind::Str => "str",
            PropertyKind::OnOffAuto => "OnOffAuto",
        }
    }

    /// What a property of this kind is called when it is given a bool.
    pub(crate) fn expected_instead_of_bool(self) -> &'static str {
        match self {
            PropertyKind::Str | PropertyKind::OnOffAuto => "string",
            PropertyKind::Bool => "boolean",
            _ => "integer",
        }
    }
}

/// `on`, `off`, or what suits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnOffAuto {
    /// What suits the host.
    Auto,
    /// On.
    On,
    /// Off.
    #[default]
    Off,
}

/// The value of a property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PropertyValue {
    /// On or off.
    Bool(bool),
    /// A number.
    Int(i64),
    /// A number that may need all 64 bits.
    Uint(u64),
    /// Text.
    Str(String),
}

/// A type that properties can have.
pub(crate) trait PropertyType: Sized {
    const KIND: PropertyKind;
    fn parse(name: &str, text: &str) -> Result<Self, PropertyError>;
    fn value(&self) -> PropertyValue;
}

impl PropertyType for bool {
    const KIND: PropertyKind = PropertyKind::Bool;

    fn parse(name: &str, text: &str) -> Result<Self, PropertyError> {
        match text {
            "on" | "yes" | "true" | "y" => Ok(true),
            "off" | "no" | "false" | "n" => Ok(false),
            _ => Err(PropertyError::ExpectsOnOff { name: name.to_string() }),
        }
    }

    fn value(&self) -> PropertyValue {
        PropertyValue::Bool(*self)
    }
}

/// A number as C's `strtoll` with base 0 reads it: whether it has a minus sign, and the rest.
fn number(text: &str) -> Option<(bool, u64)> {
    let text = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let magnitude = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) if !hex.starts_with('+') => u64::from_str_radix(hex, 16),
        None if digits.len() > 1 && digits.starts_with('0') => u64::from_str_radix(digits, 8),
        _ => digits.parse(),
    };
    Some((negative, magnitude.ok()?))
}

pub(crate) fn parse_int(name: &str, text: &str) -> Result<i64, PropertyError> {
    let value = number(text).and_then(|(negative, magnitude)| {
        if negative { 0_i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
    });
    value.ok_or_else(|| PropertyError::Expects { name: name.to_string(), expected: "int64" })
}

fn parse_uint(name: &str, text: &str) -> Result<u64, PropertyError> {
    // Like strtoull: a minus sign wraps around.
    number(text)
        .map(|(negative, magnitude)| if negative { magnitude.wrapping_neg() } else { magnitude })
        .ok_or_else(|| PropertyError::Expects { name: name.to_string(), expected: "uint64" })
}

macro_rules! number_property {
    ($type:ty, $kind:ident, $parse:ident, $c_name:literal, $variant:ident) => {
        impl PropertyType for $type {
            const KIND: PropertyKind = PropertyKind::$kind;

            fn parse(name: &str, text: &str) -> Result<Self, PropertyError> {
                Self::try_from($parse(name, text)?)
                    .map_err(|_| PropertyError::Expects { name: name.to_string(), expected: $c_name })
            }

            fn value(&self) -> PropertyValue {
                PropertyValue::$variant((*self).into())
            }
        }
    };
}

number_property!(u8, U8, parse_uint, "uint8_t", Uint);
number_property!(u16, U16, parse_uint, "uint16_t", Uint);
number_property!(u32, U32, parse_uint, "uint32_t", Uint);
number_property!(u64, U64, parse_uint, "uint64", Uint);
number_property!(i32, I32, parse_int, "int32_t", Int);

impl PropertyType for String {
    const KIND: PropertyKind = PropertyKind::Str;

    fn parse(_name: &str, text: &str) -> Result<Self, PropertyError> {
        Ok(text.to_string())
    }

    fn value(&self) -> PropertyValue {
        PropertyValue::Str(self.clone())
    }
}

impl PropertyType for OnOffAuto {
    const KIND: PropertyKind = PropertyKind::OnOffAuto;

    fn parse(name: &str, text: &str) -> Result<Self, PropertyError> {
        match text {
            "auto" => Ok(OnOffAuto::Auto),
            "on" => Ok(OnOffAuto::On),
            "off" => Ok(OnOffAuto::Off),
            _ => Err(PropertyError::NotAccepted { name: name.to_string(), value: text.to_string() }),
        }
    }

    fn value(&self) -> PropertyValue {
        let text = match self {
            OnOffAuto::Auto => "auto",
            OnOffAuto::On => "on",
            OnOffAuto::Off => "off",
        };
        PropertyValue::Str(text.to_string())
    }
}

/// Declares the properties once: name, field, type, default, what it is.
macro_rules! properties {
    ($($name:literal $field:ident: $type:ty = $default:expr, $doc:literal;)*) => {
        /// The values of the properties that are not features, see [`PROPERTIES`].
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Props {
            $(#[doc = $doc] pub $field: $type,)*
        }

        impl Default for Props {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        /// Name, kind and description of each property in [`Props`].
        pub const PROPERTIES: &[(&str, PropertyKind, &str)] =
            &[$(($name, <$type as PropertyType>::KIND, $doc),)*];

        impl Props {
            /// Sets a property from text; `None` if there is none of this name.
            pub(crate) fn set(&mut self, name: &str, text: &str) -> Option<Result<(), PropertyError>> {
                match name {
                    $($name => Some(<$type>::parse(name, text).map(|value| self.$field = value)),)*
                    _ => None,
                }
            }

            /// The value of a property; `None` if there is none of this name.
            pub(crate) fn get(&self, name: &str) -> Option<PropertyValue> {
                match name {
                    $($name => Some(self.$field.value()),)*
                    _ => None,
                }
            }
        }
    };
}

properties! {
    "apic-id" apic_id: u32 = u32::MAX, "APIC id; all ones until the board gives it one";
    "thread-id" thread_id: i32 = -1, "number of the thread in its core";
    "core-id" core_id: i32 = -1, "number of the core in its die";
    "die-id" die_id: i32 = -1, "number of the die in its socket";
    "socket-id" socket_id: i32 = -1, "number of the socket";
    "node-id" node_id: i32 = -1, "NUMA node";
    "pmu" pmu: bool = false, "performance counters";
    "lbr-fmt" lbr_fmt: u64 = LBR_FMT_UNSET, "format of the last branch records, as IA32_PERF_CAPABILITIES has it";
    "hv-spinlocks" hv_spinlocks: u32 = u32::MAX, "Hyper-V: spins before the guest tells; all ones for never";
    "hv-no-nonarch-coresharing" hv_no_nonarch_coresharing: OnOffAuto = OnOffAuto::Off,
        "Hyper-V: virtual cores share a real one only as threads of it";
    "hv-passthrough" hv_passthrough: bool = false, "all Hyper-V enlightenments that the host has";
    "hv-enforce-cpuid" hv_enforce_cpuid: bool = false, "the guest may use only enlightenments that CPUID names";
    "hv-version-id-build" hv_version_id_build: u32 = 0x3839, "Hyper-V: build number";
    "hv-version-id-major" hv_version_id_major: u16 = 0xa, "Hyper-V: major version";
    "hv-version-id-minor" hv_version_id_minor: u16 = 0, "Hyper-V: minor version";
    "hv-version-id-spack" hv_version_id_spack: u32 = 0, "Hyper-V: service pack";
    "hv-version-id-sbranch" hv_version_id_sbranch: u8 = 0, "Hyper-V: service branch";
    "hv-version-id-snumber" hv_version_id_snumber: u32 = 0, "Hyper-V: service number";
    "check" check: bool = true, "warn of features that the host lacks";
    "enforce" enforce: bool = false, "refuse to start without a feature asked for";
    "x-force-features" force_features: bool = false, "show features even if the host lacks them";
    "kvm" kvm: bool = true, "show KVM's CPUID leaves";
    "phys-bits" phys_bits: u32 = 0, "physical address bits; 0 for the default";
    "host-phys-bits" host_phys_bits: bool = false, "physical address bits as the host has";
    "host-phys-bits-limit" host_phys_bits_limit: u8 = 0, "but no more than these; 0 for no limit";
    "fill-mtrr-mask" fill_mtrr_mask: bool = true, "save MTRR masks as if addresses had 52 bits";
    "level-func7" level_func7: u32 = u32::MAX, "highest subleaf of leaf 7; all ones for what features need";
    "level" level: u32 = u32::MAX, "highest basic leaf; all ones for what features need";
    "xlevel" xlevel: u32 = u32::MAX, "highest extended leaf; all ones for what features need";
    "xlevel2" xlevel2: u32 = u32::MAX, "highest Centaur leaf; all ones for what features need";
    "min-level" min_level: u32 = 0, "highest basic leaf, at least";
    "min-xlevel" min_xlevel: u32 = 0, "highest extended leaf, at least";
    "min-xlevel2" min_xlevel2: u32 = 0, "highest Centaur leaf, at least";
    "ucode-rev" ucode_rev: u64 = 0, "microcode revision; 0 for the default";
    "full-cpuid-auto-level" full_cpuid_auto_level: bool = true, "all features raise the leaf levels";
    "hv-vendor-id" hv_vendor_id: String = String::new(), "Hyper-V: vendor, up to 12 characters";
    "cpuid-0xb" cpuid_0xb: bool = true, "show the topology in leaf 0xB";
    "x-vendor-cpuid-only" vendor_cpuid_only: bool = true, "no leaves of other vendors";
    "lmce" lmce: bool = false, "local machine checks";
    "l3-cache" l3_cache: bool = true, "show a level 3 cache";
    "kvm-no-smi-migration" kvm_no_smi_migration: bool = false, "do not save a pending SMI";
    "kvm-pv-enforce-cpuid" kvm_pv_enforce_cpuid: bool = false,
        "the guest may use only KVM features that CPUID names";
    "vmware-cpuid-freq" vmware_cpuid_freq: bool = true, "show frequencies in leaf 0x40000010";
    "tcg-cpuid" tcg_cpuid: bool = true, "show TCG's CPUID leaves (there is no TCG here)";
    "x-migrate-smi-count" migrate_smi_count: bool = true, "save the count of SMIs";
    "legacy-cache" legacy_cache: bool = true, "caches as all models once had them";
    "x-hv-max-vps" hv_max_vps: i32 = -1, "Hyper-V: most virtual processors; -1 for no limit";
    "x-hv-synic-kvm-only" hv_synic_kvm_only: bool = false, "Hyper-V: SynIC with no help from this program";
    "x-intel-pt-auto-level" intel_pt_auto_level: bool = true, "intel-pt raises the level to 0x14";
}

/// Properties of `max` and `host` alone.
pub const HOST_PROPERTIES: &[(&str, PropertyKind, &str)] = &[
    ("migratable", PropertyKind::Bool, "only features that other hosts may have"),
    ("host-cache-info", PropertyKind::Bool, "caches as the host has them"),
];

/// Properties that are kept in the CPU's signature, vendor and brand string.
pub const SIGNATURE_PROPERTIES: &[(&str, PropertyKind, &str)] = &[
    ("family", PropertyKind::Int, "family, 0 to 270"),
    ("model", PropertyKind::Int, "model, 0 to 255"),
    ("stepping", PropertyKind::Int, "stepping, 0 to 15"),
    ("vendor", PropertyKind::Str, "vendor, 12 characters"),
    ("model-id", PropertyKind::Str, "brand string, up to 48 characters"),
    ("tsc-frequency", PropertyKind::Int, "frequency of the time-stamp counter in Hz"),
];

/// Properties that can only be read.
pub const READ_ONLY_PROPERTIES: &[&str] =
    &["unavailable-features", "crash-information", "feature-words", "filtered-features"];

/// Bits of `lbr-fmt`, as IA32_PERF_CAPABILITIES has them (`PERF_CAP_LBR_FMT`).
pub(crate) const LBR_FMT_MASK: u64 = 0x3f;
/// `lbr-fmt` as long as nobody sets it.
pub(crate) const LBR_FMT_UNSET: u64 = !LBR_FMT_MASK;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_c_reads_them() {
        let read = |text| u32::parse("level", text).map_err(|error| error.to_string());
        assert_eq!(read("13"), Ok(13));
        assert_eq!(read("0xd"), Ok(13));
        assert_eq!(read("015"), Ok(13));
        assert_eq!(read(" +13"), Ok(13));
        assert_eq!(read("0"), Ok(0));
        for wrong in ["", "abc", "13x", "0x", "08", "--1", "+-1", "0x+1", "99999999999999999999"] {
            assert_eq!(read(wrong), Err("Parameter 'level' expects uint64".to_string()), "{wrong}");
        }
        assert_eq!(read("-1"), Err("Parameter 'level' expects uint32_t".to_string()));
        assert_eq!(u64::parse("ucode-rev", "-1"), Ok(u64::MAX));
        assert_eq!(i32::parse("core-id", "-5"), Ok(-5));
        assert_eq!(parse_int("family", "-0x8000000000000000"), Ok(i64::MIN));
    }

    #[test]
    fn every_property_has_a_value_and_takes_its_default_back() {
        let mut props = Props::default();
        for (name, kind, _) in PROPERTIES {
            let text = match props.get(name).unwrap() {
                PropertyValue::Bool(on) => if on { "on" } else { "off" }.to_string(),
                PropertyValue::Int(number) => number.to_string(),
                PropertyValue::Uint(number) => number.to_string(),
                PropertyValue::Str(text) => text,
            };
            assert_eq!(props.set(name, &text), Some(Ok(())), "{name} {}", kind.name());
        }
        assert_eq!(props, Props::default());
        assert_eq!(props.get("no-such"), None);
    }
}
