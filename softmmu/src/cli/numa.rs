//! `-numa`: options without structure become what `set-numa-node` takes (QEMU's `qapi/opts-visitor.c`).

use hw_core::numa::options::NumaOptions;
use qapi::{At, QapiObject};
use serde_json::{Map, Value};
use util::cutils::{SizeUnit, strtosz, strtou64};
use util::option::OptsDesc;

use super::{CliError, CommandLine, Location, OptionId, parse_opts};

static DESC: OptsDesc = OptsDesc { name: "numa", implied: Some("type"), merge: false, descs: &[] };

/// Options whose values are sizes.
const SIZES: [&str; 3] = ["mem", "size", "bandwidth"];
/// Options whose values are words or names.
const TEXTS: [&str; 6] = ["type", "memdev", "hierarchy", "data-type", "associativity", "policy"];
/// Numbers in a range of CPUs are fewer than this.
const RANGE_MAX: u64 = 65536;

impl CommandLine {
    /// `-numa`, in order, with where each was given.
    ///
    /// # Errors
    /// Text that does not parse, what an option does not have, values of the wrong kind.
    pub fn numa(&mut self) -> Result<Vec<(NumaOptions, Location)>, CliError> {
        let mut warnings = Vec::new();
        let mut found = Vec::new();
        for occurrence in self.all(OptionId::Numa) {
            let opts = parse_opts(&DESC, occurrence, &mut warnings)?;
            let options = read(&opts.values).map_err(|error| occurrence.error(error))?;
            found.push((options, occurrence.location.clone()));
        }
        self.warnings.append(&mut warnings);
        Ok(found)
    }
}

fn read(values: &[(String, String)]) -> Result<NumaOptions, String> {
    let mut map = Map::new();
    for (name, text) in values {
        if name == "cpus" {
            let list = map.entry(name.clone()).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(list) = list {
                list.extend(range(text)?.map(Value::from));
            }
        } else {
            map.insert(name.clone(), value(name, text)?);
        }
    }
    let options = NumaOptions::take(&mut map, At::Top).map_err(|error| error.message)?;
    match map.keys().next() {
        Some(name) => Err(format!("Invalid parameter '{name}'")),
        None => Ok(options),
    }
}

fn value(name: &str, text: &str) -> Result<Value, String> {
    let wrong = |kind: &str| format!("Parameter '{name}' expects {kind}");
    match name {
        _ if TEXTS.contains(&name) => Ok(text.into()),
        _ if SIZES.contains(&name) => {
            // A node's memory without a suffix is in MiB.
            let unit = if name == "mem" { SizeUnit::Mebibytes } else { SizeUnit::Bytes };
            strtosz(text, unit).map(Value::from).map_err(|_| wrong("a size value"))
        }
        _ if name.ends_with("-id") && name != "node-id" => {
            text.parse::<i64>().map(Value::from).map_err(|_| wrong("an int64 value"))
        }
        _ => strtou64(text, 0).map(Value::from).map_err(|_| wrong("a uint64 value")),
    }
}

/// A CPU's number, or the first and the last.
fn range(text: &str) -> Result<std::ops::RangeInclusive<u64>, String> {
    let wrong = || "Parameter 'cpus' expects a uint64 value or range".to_owned();
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| strtou64(text, 0).map_err(|_| wrong());
    let (first, last) = (number(first)?, number(last)?);
    match last.checked_sub(first) {
        Some(more) if more < RANGE_MAX => Ok(first..=last),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<NumaOptions, String> {
        let pair = |word: &str| word.split_once('=').map(|(n, v)| (n.to_owned(), v.to_owned()));
        read(&text.split(',').filter_map(pair).collect::<Vec<_>>())
    }

    #[test]
    fn ranges_of_cpus_add_up() {
        let NumaOptions::Node(node) = parse("type=node,nodeid=1,cpus=0-2,cpus=7").unwrap() else { panic!() };
        assert_eq!((node.nodeid, node.cpus), (Some(1), Some(vec![0, 1, 2, 7])));
        assert_eq!(
            parse("type=node,cpus=3-1").unwrap_err(),
            "Parameter 'cpus' expects a uint64 value or range"
        );
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(parse("type=x").unwrap_err(), "Parameter 'type' does not accept value 'x'");
        assert_eq!(parse("type=dist,src=0,dst=1").unwrap_err(), "Parameter 'val' is missing");
        assert_eq!(parse("type=node,foo=1").unwrap_err(), "Invalid parameter 'foo'");
        assert_eq!(parse("type=node,nodeid=70000").unwrap_err(), "Parameter 'nodeid' expects uint16_t");
    }
}
