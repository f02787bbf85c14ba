//! `-smp` (hw/core/machine-smp.c).

use serde_json::{Map, Value};
use util::cutils::strtoi64;

use super::{CliError, CommandLine, OptionId};

const KEYS: [&str; 7] = ["clusters", "cores", "cpus", "dies", "maxcpus", "sockets", "threads"];

/// What a machine allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SmpLimits<'a> {
    /// The machine's name, for messages.
    pub machine: &'a str,
    /// Fewest processors.
    pub min_cpus: u64,
    /// Most processors.
    pub max_cpus: u64,
    /// Whether sockets have dies.
    pub dies_supported: bool,
    /// Whether dies have clusters.
    pub clusters_supported: bool,
    /// Whether sockets are worked out before cores (machines before 6.2).
    pub prefer_sockets: bool,
}

/// How many processors there are, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuTopology {
    /// Processors at the start.
    pub cpus: u32,
    /// Processors with those to be plugged in.
    pub max_cpus: u32,
    /// Sockets.
    pub sockets: u32,
    /// Dies of a socket.
    pub dies: u32,
    /// Clusters of a die.
    pub clusters: u32,
    /// Cores of a cluster.
    pub cores: u32,
    /// Threads of a core.
    pub threads: u32,
}

/// As given: 0 is what was not.
#[derive(Default)]
struct Given {
    cpus: u64,
    maxcpus: u64,
    sockets: u64,
    dies: u64,
    clusters: u64,
    cores: u64,
    threads: u64,
}

impl CommandLine {
    /// `-smp`: one processor by default.
    ///
    /// # Errors
    /// What is no number, a topology that does not multiply up, or more processors than the machine can have.
    pub fn smp(&mut self, limits: &SmpLimits) -> Result<CpuTopology, CliError> {
        let keyval = self.merged_keyval(OptionId::Smp, "cpus")?;
        if keyval.help {
            let lines: Vec<String> = KEYS.iter().map(|key| format!("  {key}=<num>")).collect();
            return Err(CliError::Help(format!("smp-opts options:\n{}", lines.join("\n"))));
        }
        let given = Given::read(&keyval.map, limits)?;
        if keyval.map.values().any(|value| number(value) == Some(0)) {
            self.warnings.push(
                "warning: Deprecated CPU topology (considered invalid): CPU topology parameters must be greater than zero"
                    .to_owned(),
            );
        }
        given.topology(limits).map_err(CliError::Message)
    }
}

fn number(value: &Value) -> Option<i64> {
    value.as_str().and_then(|text| strtoi64(text, 0).ok())
}

impl Given {
    fn read(map: &Map<String, Value>, limits: &SmpLimits) -> Result<Self, CliError> {
        if let Some(key) = map.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(CliError::message(format_args!("Parameter 'smp.{key}' is unexpected")));
        }
        let read = |key: &str| {
            let Some(value) = map.get(key) else { return Ok(0) };
            let expects_integer = || CliError::message(format_args!("Parameter 'smp.{key}' expects integer"));
            let number = number(value).ok_or_else(expects_integer)?;
            let count = u32::try_from(number).map_err(|_| CliError::Message(limits.too_many(number)))?;
            Ok(count.into())
        };
        Ok(Self {
            cpus: read("cpus")?,
            maxcpus: read("maxcpus")?,
            sockets: read("sockets")?,
            dies: read("dies")?,
            clusters: read("clusters")?,
            cores: read("cores")?,
            threads: read("threads")?,
        })
    }

    /// Works out what is not given, and checks it all.
    fn topology(mut self, limits: &SmpLimits) -> Result<CpuTopology, String> {
        if self.dies > 1 && !limits.dies_supported {
            return Err("dies not supported by this machine's CPU topology".to_owned());
        }
        if self.clusters > 1 && !limits.clusters_supported {
            return Err("clusters not supported by this machine's CPU topology".to_owned());
        }
        self.dies = self.dies.max(1);
        self.clusters = self.clusters.max(1);
        self.fill_in(limits.prefer_sockets);
        let total = self.sockets.checked_mul(self.dies * self.clusters);
        let total = total.and_then(|total| total.checked_mul(self.cores)?.checked_mul(self.threads));
        let total = total.filter(|total| u32::try_from(*total).is_ok());
        let max_cpus = if self.maxcpus > 0 { Some(self.maxcpus) } else { total };
        let Some(max_cpus) = max_cpus else {
            return Err(limits.too_many(total.map_or("more than 2^32".to_owned(), |total| total.to_string())));
        };
        let cpus = if self.cpus > 0 { self.cpus } else { max_cpus };
        let hierarchy = self.hierarchy(limits);
        if total != Some(max_cpus) {
            return Err(format!(
                "Invalid CPU topology: product of the hierarchy must match maxcpus: {hierarchy} != maxcpus ({max_cpus})"
            ));
        }
        if max_cpus < cpus {
            return Err(format!(
                "Invalid CPU topology: maxcpus must be equal to or greater than smp: {hierarchy} == maxcpus \
                 ({max_cpus}) < smp_cpus ({cpus})"
            ));
        }
        if cpus < limits.min_cpus {
            let SmpLimits { machine, min_cpus, .. } = limits;
            return Err(format!(
                "Invalid SMP CPUs {cpus}. The min CPUs supported by machine '{machine}' is {min_cpus}"
            ));
        }
        if max_cpus > limits.max_cpus {
            return Err(limits.too_many(max_cpus));
        }
        // All of them are factors of, or below, a number of 32 bits.
        let [cpus, max_cpus] = [cpus, max_cpus].map(|count| count as u32);
        let [sockets, dies, clusters, cores, threads] =
            [self.sockets, self.dies, self.clusters, self.cores, self.threads].map(|count| count as u32);
        Ok(CpuTopology { cpus, max_cpus, sockets, dies, clusters, cores, threads })
    }

    fn fill_in(&mut self, prefer_sockets: bool) {
        let (inner, outer) = if prefer_sockets {
            (&mut self.cores, &mut self.sockets)
        } else {
            (&mut self.sockets, &mut self.cores)
        };
        // `outer` takes what is left over, `inner` is 1.
        let fixed = self.dies * self.clusters;
        let cpus = if self.maxcpus > 0 { self.maxcpus } else { self.cpus };
        if cpus == 0 {
            for count in [inner, outer, &mut self.threads] {
                *count = (*count).max(1);
            }
            return;
        }
        self.maxcpus = cpus;
        if *outer == 0 {
            *inner = (*inner).max(1);
            self.threads = self.threads.max(1);
            *outer = quotient(cpus, [fixed, *inner, self.threads]);
        } else if *inner == 0 {
            self.threads = self.threads.max(1);
            *inner = quotient(cpus, [fixed, *outer, self.threads]);
        }
        if self.threads == 0 {
            self.threads = quotient(cpus, [fixed, self.sockets, self.cores]);
        }
    }

    fn hierarchy(&self, limits: &SmpLimits) -> String {
        let dies = if limits.dies_supported { format!(" * dies ({})", self.dies) } else { String::new() };
        let clusters = if limits.clusters_supported {
            format!(" * clusters ({})", self.clusters)
        } else {
            String::new()
        };
        format!(
            "sockets ({}){dies}{clusters} * cores ({}) * threads ({})",
            self.sockets, self.cores, self.threads
        )
    }
}

/// `dividend` by the product of `divisors`; 0 where that is larger or 0.
fn quotient(dividend: u64, divisors: [u64; 3]) -> u64 {
    let divisor = divisors.into_iter().map(u128::from).try_fold(1u128, u128::checked_mul);
    divisor.and_then(|divisor| u128::from(dividend).checked_div(divisor)).map_or(0, |count| count as u64)
}

impl SmpLimits<'_> {
    fn too_many(&self, count: impl std::fmt::Display) -> String {
        let Self { machine, max_cpus, .. } = self;
        format!("Invalid SMP CPUs {count}. The max CPUs supported by machine '{machine}' is {max_cpus}")
    }
}
