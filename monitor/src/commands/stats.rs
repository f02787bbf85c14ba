//! What the accelerator counts: `query-stats`, `query-stats-schemas`.
//!
//! Source: QEMU `qapi/stats.json`, `monitor/qmp-cmds.c`, `accel/kvm/kvm-all.c` (`query_stats`).

use std::sync::Arc;

use accel_kvm::stats::{self, StatsKind};
use accel_kvm::{KvmState, kvm_state};
use hw_core::Cpu;
use hw_core::cpu::cpu_list;
use qapi::QapiType;
use qom::{Error, Object, Result};

#[derive(QapiType, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatsProvider {
    Kvm,
}

#[derive(QapiType)]
pub(crate) struct StatsRequest {
    pub provider: StatsProvider,
    pub names: Option<Vec<String>>,
}

#[derive(QapiType)]
pub(crate) struct StatsVcpuFilter {
    pub vcpus: Option<Vec<String>>,
}

#[derive(QapiType)]
#[qapi(tag = "target", tag_type = "StatsTarget")]
pub(crate) enum StatsFilter {
    Vm,
    Vcpu(StatsVcpuFilter),
}

#[derive(QapiType, Debug)]
#[qapi(alternate)]
pub(crate) enum StatsValue {
    Scalar(u64),
    Boolean(bool),
    List(Vec<u64>),
}

#[derive(QapiType, Debug)]
pub(crate) struct Stats {
    pub name: String,
    pub value: StatsValue,
}

#[derive(QapiType, Debug)]
pub(crate) struct StatsResult {
    pub provider: StatsProvider,
    pub qom_path: Option<String>,
    pub stats: Vec<Stats>,
}

#[derive(QapiType, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatsType {
    Cumulative,
    Instant,
    Peak,
    LinearHistogram,
    #[qapi(name = "log2-histogram")]
    Log2Histogram,
}

#[derive(QapiType, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatsUnit {
    Bytes,
    Seconds,
    Cycles,
    Boolean,
}

#[derive(QapiType, Debug)]
pub(crate) struct StatsSchemaValue {
    pub name: String,
    #[qapi(name = "type")]
    pub kind: StatsType,
    pub unit: Option<StatsUnit>,
    pub base: Option<i8>,
    pub exponent: i16,
    pub bucket_size: Option<u32>,
}

#[derive(QapiType, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatsTarget {
    Vm,
    Vcpu,
}

#[derive(QapiType, Debug)]
pub(crate) struct StatsSchema {
    pub provider: StatsProvider,
    pub target: StatsTarget,
    pub stats: Vec<StatsSchemaValue>,
}

/// KVM, where it is the accelerator and counts.
fn provider() -> Option<&'static Arc<KvmState>> {
    kvm_state().filter(|kvm| stats::has_stats(kvm))
}

fn of_vcpu(cpu: &Arc<dyn Object>) -> Result<Vec<stats::Stats>> {
    let counted = cpu.cast::<Cpu>().and_then(|cpu| cpu.run_on_cpu(stats::current_vcpu_stats));
    counted.unwrap_or_else(|| Err(Error::new("the CPU is gone")))
}

/// Of what was counted that which is wanted; the last first, as QEMU has it.
fn chosen(counted: Vec<stats::Stats>, names: Option<&[String]>) -> Vec<Stats> {
    let wanted = |entry: &stats::Stats| names.is_none_or(|names| names.contains(&entry.name));
    let value = |entry: &stats::Stats| match (entry.unit, entry.values.as_slice()) {
        (stats::StatsUnit::Boolean, values) => StatsValue::Boolean(values.first().is_some_and(|v| *v != 0)),
        (_, [value]) => StatsValue::Scalar(*value),
        (_, values) => StatsValue::List(values.to_vec()),
    };
    let counted = counted.into_iter().rev().filter(wanted);
    counted.map(|entry| Stats { value: value(&entry), name: entry.name }).collect()
}

/// Tells what an accelerator counted.
#[qapi::command("query-stats")]
pub(crate) fn query_stats(
    #[qapi(flatten)] filter: StatsFilter,
    #[qapi(name = "providers")] providers: Option<Vec<StatsRequest>>,
) -> Result<Vec<StatsResult>> {
    let names = match providers {
        None => None,
        Some(providers) => match providers.into_iter().next() {
            None => return Ok(Vec::new()),
            Some(StatsRequest { provider: StatsProvider::Kvm, names }) => names,
        },
    };
    let Some(kvm) = provider() else { return Ok(Vec::new()) };
    let mut results = Vec::new();
    let mut add = |qom_path: Option<String>, counted| {
        let stats = chosen(counted, names.as_deref());
        if !stats.is_empty() {
            results.insert(0, StatsResult { provider: StatsProvider::Kvm, qom_path, stats });
        }
    };
    match filter {
        StatsFilter::Vm => add(None, stats::vm_stats(kvm)?),
        StatsFilter::Vcpu(StatsVcpuFilter { vcpus }) => {
            for cpu in cpu_list() {
                let path = cpu.canonical_path();
                let wanted = |paths: &Vec<String>| path.as_ref().is_some_and(|path| paths.contains(path));
                if vcpus.as_ref().is_none_or(wanted) {
                    add(path, of_vcpu(&cpu)?);
                }
            }
        }
    }
    Ok(results)
}

fn schema(entry: stats::Stats) -> StatsSchemaValue {
    let (kind, bucket_size) = match entry.kind {
        StatsKind::Cumulative => (StatsType::Cumulative, None),
        StatsKind::Instant => (StatsType::Instant, None),
        StatsKind::Peak => (StatsType::Peak, None),
        StatsKind::LinearHistogram(width) => (StatsType::LinearHistogram, Some(width)),
        StatsKind::Log2Histogram => (StatsType::Log2Histogram, None),
    };
    let unit = match entry.unit {
        stats::StatsUnit::None => None,
        stats::StatsUnit::Bytes => Some(StatsUnit::Bytes),
        stats::StatsUnit::Seconds => Some(StatsUnit::Seconds),
        stats::StatsUnit::Cycles => Some(StatsUnit::Cycles),
        stats::StatsUnit::Boolean => Some(StatsUnit::Boolean),
    };
    let (base, exponent) = entry.scale;
    let base = i8::try_from(base).ok().filter(|_| exponent != 0);
    StatsSchemaValue { name: entry.name, kind, unit, base, exponent, bucket_size }
}

/// Lists what an accelerator counts.
#[qapi::command("query-stats-schemas")]
pub(crate) fn query_stats_schemas(
    #[qapi(name = "provider")] _provider: Option<StatsProvider>,
) -> Result<Vec<StatsSchema>> {
    let Some(kvm) = provider() else { return Ok(Vec::new()) };
    let mut schemas = Vec::new();
    if let Some(cpu) = cpu_list().first() {
        schemas.push((StatsTarget::Vcpu, of_vcpu(cpu)?));
    }
    schemas.push((StatsTarget::Vm, stats::vm_stats(kvm)?));
    let with_provider = |(target, counted): (StatsTarget, Vec<stats::Stats>)| {
        let stats = counted.into_iter().rev().map(schema).collect();
        StatsSchema { provider: StatsProvider::Kvm, target, stats }
    };
    Ok(schemas.into_iter().map(with_provider).collect())
}
