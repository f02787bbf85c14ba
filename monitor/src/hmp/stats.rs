//! `info stats` (monitor/hmp-cmds.c, `hmp_info_stats`).

use super::args::Args;
use super::session::{Session, out};
use crate::commands::stats::{
    StatsFilter, StatsProvider, StatsRequest, StatsResult, StatsSchema, StatsSchemaValue, StatsTarget,
    StatsType, StatsUnit, StatsValue, StatsVcpuFilter, query_stats, query_stats_schemas,
};

pub(crate) fn info_stats(mon: &mut Session, args: &Args) -> Result<(), String> {
    let target = match args.word("target") {
        "vm" => StatsTarget::Vm,
        "vcpu" => StatsTarget::Vcpu,
        other => return Err(format!("invalid stats target {other}")),
    };
    let provider = match args.text("provider") {
        None => None,
        Some("kvm") => Some(StatsProvider::Kvm),
        Some(other) => return Err(format!("invalid stats provider {other}")),
    };
    let schemas = query_stats_schemas(provider).map_err(|e| e.to_string())?;
    let filter = match target {
        StatsTarget::Vm => StatsFilter::Vm,
        StatsTarget::Vcpu => {
            let path = mon.cpu().and_then(|cpu| cpu.canonical_path());
            StatsFilter::Vcpu(StatsVcpuFilter { vcpus: Some(path.into_iter().collect()) })
        }
    };
    let names = args.text("names").filter(|names| *names != "*");
    let names = names.map(|names| names.split(',').map(str::to_owned).collect());
    let request = StatsRequest { provider: StatsProvider::Kvm, names };
    for result in query_stats(filter, Some(vec![request])).map_err(|e| e.to_string())? {
        if provider.is_none() {
            mon.print("provider: kvm\n");
        }
        print_result(mon, target, &schemas, &result);
    }
    Ok(())
}

fn print_result(mon: &mut Session, target: StatsTarget, schemas: &[StatsSchema], result: &StatsResult) {
    let values = schemas.iter().find(|schema| schema.target == target).map(|schema| &schema.stats);
    for stats in &result.stats {
        let Some(schema) = values.and_then(|values| values.iter().find(|value| value.name == stats.name))
        else {
            return mon.print(&format!("failed to find schema entry for {}\n", stats.name));
        };
        print_schema(mon, schema);
        match &stats.value {
            StatsValue::Scalar(value) => out!(mon, ": {}\n", *value as i64),
            StatsValue::Boolean(value) => out!(mon, ": {}\n", if *value { "yes" } else { "no" }),
            StatsValue::List(values) => {
                mon.print(": ");
                (1..).zip(values).for_each(|(n, value)| out!(mon, "[{n}]={} ", *value as i64));
                mon.print("\n");
            }
        }
    }
}

/// Name, type and unit (`print_stats_schema_value`).
fn print_schema(mon: &mut Session, schema: &StatsSchemaValue) {
    let kind = match schema.kind {
        StatsType::Cumulative => "cumulative",
        StatsType::Instant => "instant",
        StatsType::Peak => "peak",
        StatsType::LinearHistogram => "linear-histogram",
        StatsType::Log2Histogram => "log2-histogram",
    };
    let (short, long) = match schema.unit {
        None => (None, ""),
        Some(StatsUnit::Seconds) => (Some("s"), "seconds"),
        Some(StatsUnit::Bytes) => (Some("B"), "bytes"),
        Some(StatsUnit::Cycles) => (None, "cycles"),
        Some(StatsUnit::Boolean) => (None, "boolean"),
    };
    let gap = if schema.unit.is_some() || schema.exponent != 0 { ", " } else { "" };
    let unit = match (short, prefix(schema.base, schema.exponent)) {
        (Some(short), Some(prefix)) => format!("{prefix}{short}"),
        (short, _) if schema.exponent == 0 => short.unwrap_or(long).to_owned(),
        _ => {
            let space = if schema.unit.is_some() { " " } else { "" };
            format!("* {}^{}{space}{long}", schema.base.unwrap_or_default(), schema.exponent)
        }
    };
    out!(mon, "    {} ({kind}{gap}{unit}", schema.name);
    if let Some(size) = schema.bucket_size {
        out!(mon, ", bucket size={size}");
    }
    mon.print(")");
}

/// What SI, or IEC for powers of two, calls a power, where it has a name.
fn prefix(base: Option<i8>, exponent: i16) -> Option<&'static str> {
    const SI: [&str; 13] = ["a", "f", "p", "n", "u", "m", "", "K", "M", "G", "T", "P", "E"];
    const IEC: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let (names, step, first): (&[_], _, _) = match base? {
        10 => (&SI, 3, -18),
        2 => (&IEC, 10, 0),
        _ => return None,
    };
    let above = exponent.checked_sub(first).filter(|above| above % step == 0)?;
    names.get(usize::try_from(above / step).ok()?).copied()
}
