//! QMP's commands about models of CPUs and what only x86 has.
//!
//! Source: QEMU `target/i386/cpu.c` (`qmp_query_cpu_definitions`, `qmp_query_cpu_model_expansion`),
//! `target/i386/sev-sysemu-stub.c`, `hw/i386/sgx.c`, `qapi/machine-target.json`, `qapi/misc-target.json`.

use hw_core::machine::current_machine;
use qapi::QapiType;
use qom::property::PropertyInput;
use qom::{Class, Result, Value, bail, object_new};
use serde_json::Map;

use crate::config::CpuConfig;
use crate::cpu::{X86Cpu, default_version, model_of};
use crate::expand::{expand, expand_features};
use crate::features::FeatureWord;
use crate::kvm;
use crate::models::{CpuModel, DefaultVersion, TYPE_SUFFIX, VersionChoice};
use crate::report::feature_names;
use crate::topology::Topology;

#[derive(QapiType)]
struct CpuDefinitionInfo {
    name: String,
    migration_safe: Option<bool>,
    #[qapi(name = "static")]
    is_static: bool,
    unavailable_features: Option<Vec<String>>,
    typename: String,
    alias_of: Option<String>,
    deprecated: bool,
}

const ONE_CPU: Topology = Topology { dies: 1, cores: 1, threads: 1 };

/// The model and version that a name without one means; for machine types older than versions a name is just itself.
fn alias_of(model: CpuModel) -> Option<String> {
    let CpuModel::Defined(definition, choice) = model else { return None };
    if default_version() == DefaultVersion::Legacy {
        return None;
    }
    let version = match choice {
        VersionChoice::Number(_) => None,
        VersionChoice::Alias(number) => Some(number),
        VersionChoice::Machine => {
            definition.versions_up_to(choice, default_version()).last().map(|version| version.number)
        }
    }?;
    Some(format!("{}-v{version}", definition.name))
}

/// What keeps the model from running here: features of the host's, or `type` for one that cannot be at all.
fn unavailable_features(model: CpuModel) -> Vec<String> {
    let mut config = CpuConfig::new(model, default_version(), kvm::host());
    (config.props.check, config.props.enforce) = (false, false);
    match expand_features(config, kvm::host(), &ONE_CPU) {
        Ok(expanded) => feature_names(&expanded.filtered).into_iter().map(str::to_owned).collect(),
        Err(_) => vec!["type".to_owned()],
    }
}

/// Lists the models of CPUs, with what the host lacks of each.
#[qapi::command("query-cpu-definitions")]
fn query_cpu_definitions() -> Result<Vec<CpuDefinitionInfo>> {
    let info = |model: CpuModel| CpuDefinitionInfo {
        name: model.to_string(),
        migration_safe: Some(!model.copies_host()),
        is_static: matches!(model, CpuModel::Base),
        unavailable_features: Some(unavailable_features(model)),
        typename: model.type_name(),
        alias_of: alias_of(model),
        deprecated: false,
    };
    Ok(CpuModel::all().map(info).collect())
}

#[derive(QapiType)]
#[qapi(name = "CpuModelInfo")]
struct CpuModelInfo {
    name: String,
    props: Option<Value>,
}

#[derive(QapiType)]
#[qapi(name = "CpuModelExpansionType")]
enum ExpansionType {
    Static,
    Full,
}

#[derive(QapiType)]
#[qapi(name = "CpuModelExpansionInfo")]
struct ExpansionInfo {
    model: CpuModelInfo,
}

/// What a static expansion tells beside features.
const STATIC_PROPERTIES: [&str; 8] =
    ["min-level", "min-xlevel", "family", "model", "stepping", "model-id", "vendor", "lmce"];

/// A property that a user sets, and whose value says something of any CPU of the model.
fn is_told(class: &Class, name: &str) -> bool {
    let settable = class.property(name).is_some_and(|p| p.get.is_some() && p.set.is_some());
    settable && !["hotplugged", "state"].contains(&name)
}

/// Tells what a model with changes comes to: as features relative to `base`, or as all properties.
#[qapi::command("query-cpu-model-expansion")]
fn query_cpu_model_expansion(
    #[qapi(name = "type")] kind: ExpansionType,
    model: CpuModelInfo,
) -> Result<ExpansionInfo> {
    let type_name = format!("{}{TYPE_SUFFIX}", model.name);
    let class = qom::class_by_name(&type_name).filter(|class| model_of(class).is_some());
    let Some(class) = class else { bail!("CPU model '{}' not found", model.name) };
    let object = object_new(&type_name)?;
    if let Some(Value::Object(changes)) = &model.props {
        for (name, value) in changes {
            object.property_set(name, PropertyInput::Json(value))?;
        }
    }
    if let Some(cpu) = object.cast::<X86Cpu>() {
        cpu.change_config(|config| expand(config, kvm::host(), &ONE_CPU));
    }
    let is_static = matches!(kind, ExpansionType::Static);
    let names: Vec<&str> = if is_static {
        let features = FeatureWord::all().flat_map(|word| word.info().names().map(|(_, name)| name));
        STATIC_PROPERTIES.into_iter().chain(features).collect()
    } else {
        class.properties().into_iter().map(|p| p.name.as_str()).filter(|name| is_told(class, name)).collect()
    };
    let values =
        names.into_iter().filter_map(|name| Some((name.to_owned(), object.property_get(name).ok()?)));
    let props = values.collect::<Map<_, _>>().into();
    let name = if is_static { CpuModel::Base.to_string() } else { model.name };
    Ok(ExpansionInfo { model: CpuModelInfo { name, props: Some(props) } })
}

#[derive(QapiType)]
enum SevState {
    Uninit,
}

#[derive(QapiType)]
struct SevInfo {
    enabled: bool,
    api_major: u8,
    api_minor: u8,
    build_id: u8,
    policy: u32,
    state: SevState,
    handle: u32,
}

/// Tells about encrypted memory: there is none.
#[qapi::command("query-sev")]
fn query_sev() -> Result<SevInfo> {
    let (state, enabled) = (SevState::Uninit, false);
    Ok(SevInfo { enabled, api_major: 0, api_minor: 0, build_id: 0, policy: 0, state, handle: 0 })
}

/// Tells what the host's encryption of memory can do.
#[qapi::command("query-sev-capabilities")]
fn query_sev_capabilities() -> Result<Value> {
    bail!("SEV is not available in this QEMU")
}

/// Tells the measurement of an encrypted guest.
#[qapi::command("query-sev-launch-measure")]
fn query_sev_launch_measure() -> Result<Value> {
    bail!("SEV launch measurement is not available")
}

/// Tells the attestation report of an encrypted guest.
#[qapi::command("query-sev-attestation-report")]
fn query_sev_attestation_report(#[qapi(name = "mnonce")] _mnonce: String) -> Result<Value> {
    bail!("SEV is not available in this QEMU")
}

/// Tells about the guest's enclaves: it has none.
#[qapi::command("query-sgx")]
fn query_sgx() -> Result<Value> {
    if current_machine().is_some_and(|machine| machine.is_a("generic-pc-machine")) {
        bail!("No EPC regions defined, SGX not available");
    }
    bail!("SGX is only supported on PC machines")
}

/// Tells what the host's enclaves can do.
#[qapi::command("query-sgx-capabilities")]
fn query_sgx_capabilities() -> Result<Value> {
    bail!("SGX is not enabled in KVM")
}
