//! Runs tests in a shell, of this machine or a nested one, and looks at how they ended.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::list::Test;
use crate::console::{Console, Failure};
use crate::nested::{Nest, Running, quote, quote_all};
use crate::vmm::Vmm;

/// What kvm-unit-tests starts a VMM with.
const OPTIONS: &str = "-nodefaults -global kvm-pit.lost_tick_policy=discard -device pc-testdev \
    -device isa-debug-exit,iobase=0xf4,iosize=0x4 -display none -serial stdio -device pci-testdev -machine accel=kvm";
/// Where the tests are in a nested machine.
const NESTED: &str = "/kvm-unit-tests";
const START_MARK: &str = "=== TEST START ";
const END_MARK: &str = "=== TEST END ";
/// A nested machine hangs now and then: few tests in each.
const BATCH: usize = 6;
/// How often a test may take the nested machine with it.
const ATTEMPTS: u32 = 2;
/// Beyond a test's own time: a nested machine starts, or a program ends.
const GRACE: Duration = Duration::from_secs(90);
/// What the tests' own scripts tell of the host, as the contents of an initrd.
const ENVIRONMENT: &str = "KERNEL_VERSION_STRING=6.1.0\nKERNEL_VERSION=6\nKERNEL_PATCHLEVEL=1\nKERNEL_SUBLEVEL=0\n\
    KERNEL_EXTRAVERSION=0\nTARGET=qemu\n";

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest reported success.
    Passed,
    /// The guest found that it cannot test here.
    Skipped,
    /// The VMM's exit status, and a line that says more.
    Failed(u8, String),
    /// It was killed.
    TimedOut,
    /// The machine that the VMM ran in did not survive.
    Lost,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Passed => "passed".to_owned(),
            Self::Skipped => "skipped".to_owned(),
            Self::Failed(status, line) => format!("failed ({status}) {line}"),
            Self::TimedOut => "timed out".to_owned(),
            Self::Lost => "took L1 with it".to_owned(),
        };
        f.pad(&text)
    }
}

/// A test under a VMM.
pub struct Job {
    name: String,
    /// What its output is kept as.
    log: String,
    script: String,
    limit: Duration,
}

/// Where tests run.
pub struct Runner {
    folder: PathBuf,
    /// Where to keep what tests print.
    logs: Option<PathBuf>,
    nest: Option<Nest>,
    /// Holds [`ENVIRONMENT`] here.
    environment: tempfile::NamedTempFile,
}

/// A shell at work.
enum Shell {
    Here(Console),
    Nested(Running),
}

impl Shell {
    fn console(&mut self) -> &mut Console {
        match self {
            Self::Here(console) => console,
            Self::Nested(running) => &mut running.console,
        }
    }
}

impl Runner {
    /// Runs tests of `folder` here, or in a nested machine that the VMMs are carried into.
    pub fn new(
        folder: &Path,
        tests: &[Test],
        nested: Option<[&Vmm; 2]>,
        logs: Option<PathBuf>,
    ) -> Result<Self> {
        let environment = tempfile::NamedTempFile::new()?;
        std::fs::write(environment.path(), ENVIRONMENT)?;
        let Some(vmms) = nested else {
            return Ok(Self { folder: folder.to_owned(), nest: None, environment, logs });
        };
        let mut nest = Nest::new()?;
        for vmm in vmms {
            vmm.carry_into(&mut nest)?;
        }
        for test in tests {
            nest.carry(&folder.join(&test.file), Some(&format!("{NESTED}/{}", test.file)))?;
        }
        nest.text(&format!("{NESTED}/env"), ENVIRONMENT)?;
        Ok(Self { folder: NESTED.into(), nest: Some(nest), environment, logs })
    }

    /// A test to be run under a VMM, for `seconds` or as long as its entry says.
    pub fn job(&self, test: &Test, vmm: &Vmm, seconds: u32) -> Job {
        let seconds = seconds.max(test.seconds);
        let environment = match self.nest {
            Some(_) => self.folder.join("env"),
            None => self.environment.path().to_owned(),
        };
        let words = [&vmm.program, &self.folder.join(&test.file), &environment]
            .map(|path| quote(&path.to_string_lossy()));
        let [program, kernel, environment] = words;
        // The tests' own script takes options and arguments as words of the shell, too.
        let append = if test.append.is_empty() { String::new() } else { format!("-append {}", test.append) };
        let line = format!(
            "timeout -s KILL {seconds} {program} {OPTIONS} -kernel {kernel} -smp {} {} {append} -initrd {environment}",
            test.smp, test.options
        );
        let start = quote_all(&[format!("{START_MARK}{}", test.name)]);
        let script = format!("echo {start}\n{line} </dev/null 2>&1\ns=$?; echo; echo \"{END_MARK}\"$s\n");
        let log = format!("{}.{}.log", test.name, vmm.name());
        Job { name: test.name.clone(), log, script, limit: Duration::from_secs(seconds.into()) + GRACE }
    }

    fn start(&self, script: &str, limit: Duration) -> Result<Shell> {
        match &self.nest {
            Some(nest) => Ok(Shell::Nested(nest.start_for(script, limit + GRACE)?)),
            None => Ok(Shell::Here(Console::spawn(Command::new("sh").args(["-c", script]), limit)?)),
        }
    }
}

/// Runs tests one after the other; how each ended, by name.
pub fn run(runner: &Runner, jobs: Vec<Job>) -> Result<HashMap<String, Outcome>> {
    let mut outcomes = HashMap::new();
    let mut queue: VecDeque<(Job, u32)> = jobs.into_iter().map(|job| (job, 1)).collect();
    while !queue.is_empty() {
        let batch: Vec<_> = queue.drain(..queue.len().min(BATCH)).collect();
        let script: String = batch.iter().map(|(job, _)| job.script.as_str()).collect();
        let mut shell = runner.start(&script, batch.iter().map(|(job, _)| job.limit).sum())?;
        let mut batch = batch.into_iter();
        for (job, attempt) in batch.by_ref() {
            match watch(shell.console(), &job) {
                Ok((outcome, output)) => {
                    if let Some(logs) = &runner.logs {
                        std::fs::write(logs.join(&job.log), output)?;
                    }
                    eprintln!("xtask: {}: {outcome}", job.name);
                    outcomes.insert(job.name, outcome);
                    continue;
                }
                Err(failure) if attempt < ATTEMPTS => {
                    eprintln!("xtask: {}: {failure}, trying again", job.name);
                    queue.push_back((job, attempt + 1));
                }
                Err(_) => {
                    outcomes.insert(job.name, Outcome::Lost);
                }
            }
            break;
        }
        // What the machine did not come to.
        for left in batch.rev() {
            queue.push_front(left);
        }
    }
    Ok(outcomes)
}

/// Waits until a test has ended; how, and what it printed.
fn watch(console: &mut Console, job: &Job) -> Result<(Outcome, Vec<u8>), Failure> {
    console.expect(&format!("{START_MARK}{}\n", job.name), GRACE)?;
    let output = console.expect(END_MARK, job.limit)?;
    let status = console.expect("\n", GRACE)?;
    let outcome = outcome(&String::from_utf8_lossy(&output), &String::from_utf8_lossy(&status));
    Ok((outcome, output))
}

/// How a test ended that printed this; the status is the shell's.
fn outcome(output: &str, status: &str) -> Outcome {
    // A VMM that gives up says why, with its name in front; its status may be that of success.
    let complaint = output.lines().find(|line| {
        let names = ["softmmu: ", "qemu-system-x86_64: "];
        names.iter().any(|name| line.strip_prefix(name).is_some_and(|rest| !rest.starts_with("warning: ")))
    });
    let failure =
        || output.lines().find(|line| line.starts_with("FAIL") || line.contains("nhandled")).unwrap_or("");
    match (status.trim().parse(), complaint) {
        (Ok(137), _) => Outcome::TimedOut,
        (Ok(status), Some(line)) => Outcome::Failed(status, line.to_owned()),
        (Ok(1), None) => Outcome::Passed,
        (Ok(77), None) => Outcome::Skipped,
        (Ok(status), None) => Outcome::Failed(status, failure().trim().to_owned()),
        (Err(_), _) => Outcome::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_reports_success_and_a_vmm_that_gave_up_does_not() {
        assert_eq!(outcome("PASS: x\r\n", "1"), Outcome::Passed);
        assert_eq!(outcome("softmmu: warning: x\nSKIP\n", "77\r"), Outcome::Skipped);
        let complaint = "softmmu: unsupported machine type";
        assert_eq!(outcome(complaint, "1"), Outcome::Failed(1, complaint.to_owned()));
        assert_eq!(outcome("PASS: a\r\nFAIL: b\r\n", "3"), Outcome::Failed(3, "FAIL: b".to_owned()));
        assert_eq!(outcome("", "137"), Outcome::TimedOut);
    }

    #[test]
    fn a_shell_that_ends_loses_the_test_it_was_at_and_the_rest_runs_again() {
        let runner = Runner::new(Path::new("/"), &[], None, None).unwrap();
        let job = |name: &str, line: &str| Job {
            name: name.to_owned(),
            log: String::new(),
            script: format!("echo '{START_MARK}{name}'; {line}; echo; echo '{END_MARK}1'\n"),
            limit: GRACE,
        };
        let outcomes = run(&runner, vec![job("a", "true"), job("b", "exit"), job("c", "true")]).unwrap();
        assert_eq!(
            (&outcomes["a"], &outcomes["b"], &outcomes["c"]),
            (&Outcome::Passed, &Outcome::Lost, &Outcome::Passed)
        );
    }
}
