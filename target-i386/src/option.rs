//! The `-cpu` option: `MODEL[,+feature][,-feature][,property[=value]]...`.
//!
//! Follows `parse_cpu_option` and `x86_cpu_parse_featurestr` of QEMU 7.2, with its oddity that
//! `+feature` and `-feature` win over `feature=value` wherever they stand.

use crate::config::CpuConfig;
use crate::models::CpuModel;
use crate::props::PropertyError;

/// A `-cpu` option.
#[derive(Clone, Debug)]
pub struct CpuOption {
    /// The model.
    pub model: CpuModel,
    /// Properties with their values, in the order given; QEMU makes globals of them.
    pub settings: Vec<(String, String)>,
    /// Names after `+`.
    pub plus: Vec<String>,
    /// Names after `-`.
    pub minus: Vec<String>,
    /// What the user is to be warned of.
    pub warnings: Vec<String>,
}

/// Why a `-cpu` option is wrong, in QEMU's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CpuOptionError {
    /// Nothing was given.
    #[error("-cpu option cannot be empty")]
    Empty,
    /// There is no such model.
    #[error("unable to find CPU model '{0}'")]
    UnknownModel(String),
    /// `tsc-freq=` is no size.
    #[error("bad numerical value {0}")]
    BadFrequency(String),
    /// A property could not be set to a value.
    #[error("can't apply global {setting}: {source}")]
    Setting {
        /// Type of the CPU, property and value: `qemu64-x86_64-cpu.level=abc`.
        setting: String,
        /// Why not.
        source: Box<PropertyError>,
    },
    /// A name after `+` or `-` is wrong.
    #[error(transparent)]
    Flag(#[from] PropertyError),
}

/// Takes a `-cpu` option apart. `help` and `?` are for the caller to look for first.
///
/// # Errors
/// An empty option, an unknown model, a bad `tsc-freq`. Properties are checked when they are
/// applied.
pub fn parse_cpu_option(text: &str) -> Result<CpuOption, CpuOptionError> {
    if text.is_empty() {
        return Err(CpuOptionError::Empty);
    }
    let (name, rest) = text.split_once(',').unwrap_or((text, ""));
    let model = CpuModel::by_name(name).ok_or_else(|| CpuOptionError::UnknownModel(name.to_string()))?;
    let (settings, plus, minus) = Default::default();
    let mut option = CpuOption { model, settings, plus, minus, warnings: Vec::new() };
    for part in rest.split(',').filter(|part| !part.is_empty()) {
        if let Some(name) = part.strip_prefix('+') {
            option.plus.push(name.to_string());
        } else if let Some(name) = part.strip_prefix('-') {
            option.minus.push(name.to_string());
        } else {
            option.parse_setting(part)?;
        }
    }
    if !option.warnings.is_empty() {
        let last = "Compatibility of ambiguous CPU model strings won't be kept on future QEMU versions";
        option.warnings.push(last.to_string());
    }
    Ok(option)
}

impl CpuOption {
    fn parse_setting(&mut self, part: &str) -> Result<(), CpuOptionError> {
        let (name, value) = part.split_once('=').unwrap_or((part, "on"));
        let name = name.replace('_', "-");
        for (sign, names) in [('+', &self.plus), ('-', &self.minus)] {
            if names.contains(&name) {
                self.warnings.push(format!(
                    "Ambiguous CPU model string. Don't mix both \"{sign}{name}\" and \"{name}={value}\""
                ));
            }
        }
        if name == "tsc-freq" {
            let hertz =
                parse_frequency(value).ok_or_else(|| CpuOptionError::BadFrequency(value.to_string()))?;
            self.settings.push(("tsc-frequency".to_string(), hertz.to_string()));
        } else {
            self.settings.push((name, value.to_string()));
        }
        Ok(())
    }

    /// Sets the properties given with a value.
    ///
    /// # Errors
    /// The first that the CPU does not have or whose value it cannot take.
    pub fn apply_settings(&self, config: &mut CpuConfig) -> Result<(), CpuOptionError> {
        for (name, value) in &self.settings {
            config.set(name, value).map_err(|source| CpuOptionError::Setting {
                setting: format!("{}.{name}={value}", config.model.type_name()),
                source: source.into(),
            })?;
        }
        Ok(())
    }

    /// Turns the features after `+` on and then those after `-` off. To be done after all other
    /// properties are set.
    ///
    /// # Errors
    /// The first name that is no bool property of the CPU.
    pub fn apply_flags(&self, config: &mut CpuConfig) -> Result<(), CpuOptionError> {
        for name in &self.plus {
            config.set_bool(name, true)?;
        }
        for name in &self.minus {
            config.set_bool(name, false)?;
        }
        Ok(())
    }

    /// [`Self::apply_settings`], then [`Self::apply_flags`].
    ///
    /// # Errors
    /// As those.
    pub fn apply(&self, config: &mut CpuConfig) -> Result<(), CpuOptionError> {
        self.apply_settings(config)?;
        self.apply_flags(config)
    }
}

/// A number with a decimal suffix, in Hz (`qemu_strtosz_metric`): `2.5G` is 2500000000.
fn parse_frequency(text: &str) -> Option<i64> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(at);
    let multiplier: u64 = match suffix {
        "" | "b" | "B" => 1,
        "k" | "K" => 1000,
        "m" | "M" => 1_000_000,
        "g" | "G" => 1_000_000_000,
        "t" | "T" => 1_000_000_000_000,
        "p" | "P" => 1_000_000_000_000_000,
        "e" | "E" => 1_000_000_000_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // A fraction of a Hertz is refused, as QEMU refuses a fraction of a byte.
    if whole.is_empty() || fraction.contains('.') || multiplier == 1 && number.contains('.') {
        return None;
    }
    let mut value = whole.parse::<u64>().ok()?.checked_mul(multiplier)?;
    if !fraction.is_empty() {
        let part: f64 = format!("0.{fraction}").parse().ok()?;
        value = value.checked_add((part * multiplier as f64) as u64)?;
    }
    value.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::HostCpu;
    use crate::models::DefaultVersion;
    use proptest::prelude::*;

    fn configure(text: &str) -> Result<CpuConfig, CpuOptionError> {
        let option = parse_cpu_option(text)?;
        let mut config = CpuConfig::new(option.model, DefaultVersion::Number(1), &HostCpu::default());
        option.apply(&mut config)?;
        Ok(config)
    }

    /// What QEMU 7.2.22 prints for each of these.
    #[test]
    fn mistakes_are_told_in_qemus_words() {
        let global = "can't apply global qemu64-x86_64-cpu";
        let cases = [
            ("foo", "unable to find CPU model 'foo'".to_string()),
            (",", "unable to find CPU model ''".to_string()),
            ("", "-cpu option cannot be empty".to_string()),
            ("qemu64,foo", format!("{global}.foo=on: Property 'qemu64-x86_64-cpu.foo' not found")),
            ("qemu64,foo=1,x=2", format!("{global}.foo=1: Property 'qemu64-x86_64-cpu.foo' not found")),
            ("qemu64,+foo", "Property 'qemu64-x86_64-cpu.foo' not found".to_string()),
            ("qemu64,-foo", "Property 'qemu64-x86_64-cpu.foo' not found".to_string()),
            ("qemu64,+xx_yy", "Property 'qemu64-x86_64-cpu.xx_yy' not found".to_string()),
            ("qemu64,+sse=on", "Property 'qemu64-x86_64-cpu.sse=on' not found".to_string()),
            ("qemu64,sse=bar", format!("{global}.sse=bar: Parameter 'sse' expects 'on' or 'off'")),
            ("qemu64,l3_cache=5", format!("{global}.l3-cache=5: Parameter 'l3-cache' expects 'on' or 'off'")),
            ("qemu64,family=abc", format!("{global}.family=abc: Parameter 'family' expects int64")),
            (
                "qemu64,family=500",
                format!(
                    "{global}.family=500: Property .family doesn't take value 500 (minimum: 0, maximum: 270)"
                ),
            ),
            (
                "qemu64,tsc-frequency=-5",
                format!(
                    "{global}.tsc-frequency=-5: Property .tsc-frequency doesn't take value -5 \
                     (minimum: 0, maximum: 9223372036854775807)"
                ),
            ),
            (
                "qemu64,vendor=abc",
                format!("{global}.vendor=abc: Property '.vendor' doesn't take value 'abc'"),
            ),
            ("qemu64,tsc-freq=1Z", "bad numerical value 1Z".to_string()),
            ("qemu64,level=abc", format!("{global}.level=abc: Parameter 'level' expects uint64")),
            ("qemu64,level=-1", format!("{global}.level=-1: Parameter 'level' expects uint32_t")),
            (
                "qemu64,hv-version-id-major=70000",
                format!(
                    "{global}.hv-version-id-major=70000: Parameter 'hv-version-id-major' expects uint16_t"
                ),
            ),
            ("qemu64,socket-id=x", format!("{global}.socket-id=x: Parameter 'socket-id' expects int64")),
            (
                "qemu64,lbr-fmt=0x80",
                format!("{global}.lbr-fmt=0x80: Property value for 'lbr-fmt' has bits outside mask '0x3f'"),
            ),
            (
                "qemu64,hv-no-nonarch-coresharing=maybe",
                format!(
                    "{global}.hv-no-nonarch-coresharing=maybe: \
                     Parameter 'hv-no-nonarch-coresharing' does not accept value 'maybe'"
                ),
            ),
            (
                "qemu64,unavailable-features=x",
                format!(
                    "{global}.unavailable-features=x: \
                     Property 'qemu64-x86_64-cpu.unavailable-features' is not writable"
                ),
            ),
            (
                "qemu64,migratable=on",
                format!("{global}.migratable=on: Property 'qemu64-x86_64-cpu.migratable' not found"),
            ),
            ("qemu64,+family", "Invalid parameter type for 'family', expected: integer".to_string()),
            ("qemu64,-vendor", "Invalid parameter type for 'vendor', expected: string".to_string()),
        ];
        for (text, message) in cases {
            assert_eq!(configure(text).unwrap_err().to_string(), message, "{text}");
        }
    }

    #[test]
    fn settings_are_taken_in_order_and_flags_last() {
        let config = configure("qemu64,-x2apic,sse4_1,lahf_lm=off,+kvm_pv_unhalt,,x2apic=on,level=7,level=8");
        let config = config.unwrap();
        let get = |name| config.get(name).unwrap();
        use crate::props::PropertyValue::{Bool, Int, Str, Uint};
        assert_eq!(get("x2apic"), Bool(false));
        assert_eq!(get("sse4.1"), Bool(true));
        assert_eq!(get("lahf-lm"), Bool(false));
        assert_eq!(get("kvm-pv-unhalt"), Bool(true));
        assert_eq!(get("level"), Uint(8));
        assert_eq!(get("family"), Int(15));
        assert_eq!(get("model"), Int(107));
        assert_eq!(get("model-id"), Str("QEMU Virtual CPU version 2.5+".to_string()));
        let frequency = configure("host,tsc-freq=2.5G,migratable=off").unwrap();
        assert_eq!((frequency.tsc_khz, frequency.migratable), (2_500_000, false));
    }

    #[test]
    fn ambiguous_options_are_warned_of() {
        let option = parse_cpu_option("qemu64,+sse,sse=off,-avx,avx").unwrap();
        let warnings = [
            "Ambiguous CPU model string. Don't mix both \"+sse\" and \"sse=off\"",
            "Ambiguous CPU model string. Don't mix both \"-avx\" and \"avx=on\"",
            "Compatibility of ambiguous CPU model strings won't be kept on future QEMU versions",
        ];
        assert_eq!(option.warnings, warnings);
        assert!(parse_cpu_option("qemu64,sse=off,+sse").unwrap().warnings.is_empty());
    }

    #[test]
    fn every_feature_and_property_can_be_named() {
        for word in crate::features::FeatureWord::all() {
            for (_, name) in word.info().names() {
                let config = configure(&format!("base,+{name}")).unwrap();
                assert_eq!(config.get(name), Some(crate::props::PropertyValue::Bool(true)), "{name}");
            }
        }
        for one in &crate::hyperv::ENLIGHTENMENTS {
            assert!(configure(&format!("base,{}", one.name)).unwrap().enlightenments.has(one.name));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "\\PC*") {
            let _ = configure(&text);
        }

        #[test]
        fn anything_after_a_model_is_answered(text in "(host|EPYC|486)(,[+-]?[a-z0-9_-]{0,12}(=[-0-9a-zG.]{0,9})?){0,5}") {
            let _ = configure(&text);
        }

        #[test]
        fn any_value_of_any_property_is_answered(value in "\\PC{0,12}") {
            use crate::props::{PROPERTIES, SIGNATURE_PROPERTIES};
            for (name, ..) in PROPERTIES.iter().chain(SIGNATURE_PROPERTIES) {
                let _ = configure(&format!("host,{name}={value}"));
            }
        }
    }
}
