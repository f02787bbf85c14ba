//! `cargo xtask qtest-diff`: the same requests of the qtest protocol to this program and to QEMU, and whether their
//! answers are the same. Random requests, chip by chip, or a file of them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use libqtest::QTest;
use libqtest::chips::{CHIPS, Chip, Random, Step};

use crate::args::Args;
use crate::qtests;
use crate::vmm::Vmm;

/// What `cargo xtask qtest-diff` takes.
pub const USAGE: &str = "\
cargo xtask qtest-diff [OPTION]... [CHIP]...
Sends the same random requests over the qtest protocol to this program and to QEMU 7.2, and compares the answers, chip by
chip. A sequence that is answered differently is made as short as can be, and shown. Without --qemu it builds QEMU
from Debian's source package (Debian's own lacks the accelerator): half an hour, the first time.
  --qemu FILE               QEMU 7.2 with the accelerator qtest
  --vmm FILE                another program than this project's
  --seed N                  where chance begins (1)
  --steps N                 requests in a sequence (2000)
  --rounds N                sequences for each chip, each with fresh machines (4)
  --script FILE             instead: the requests in FILE, a line each, to the machines of the one CHIP that is named; 'reset'
                            is one, too, and '#' begins a comment
  --list                    lists the chips
";

/// Where Debian has the firmware, which a QEMU just built does not find by itself.
const FIRMWARE: [&str; 4] = ["-L", "/usr/share/seabios", "-L", "/usr/share/qemu"];

struct Options {
    vmm: PathBuf,
    qemu: PathBuf,
    seed: u64,
    steps: usize,
    rounds: u64,
    script: Option<PathBuf>,
    chips: Vec<&'static Chip>,
}

/// `cargo xtask qtest-diff`.
pub fn command(args: Args) -> Result<u8> {
    let Some(options) = options(args)? else {
        CHIPS.iter().for_each(|chip| println!("{}", chip.name));
        return Ok(0);
    };
    let mut failed = 0;
    for chip in &options.chips {
        let same = match &options.script {
            Some(file) => run_script(&options, chip, file)?,
            None => compare_chip(&options, chip),
        };
        failed += u8::from(!same);
    }
    Ok(u8::from(failed > 0))
}

/// What the command line says, or nothing if it asks for the list.
fn options(mut args: Args) -> Result<Option<Options>> {
    let (mut vmm, mut qemu, mut script) = (None, None, None);
    let (mut seed, mut steps, mut rounds) = (1, 2000, 4);
    while let Some(option) = args.next_option() {
        match option.as_str() {
            "--qemu" => qemu = Some(PathBuf::from(args.value(&option)?)),
            "--vmm" => vmm = Some(args.value(&option)?),
            "--seed" => seed = args.parsed(&option)?,
            "--steps" => steps = args.parsed(&option)?,
            "--rounds" => rounds = args.parsed(&option)?,
            "--script" => script = Some(PathBuf::from(args.value(&option)?)),
            "--list" => return Ok(None),
            other => return Err(Args::unknown("qtest-diff", other)),
        }
    }
    let names = args.rest();
    let mut chips: Vec<&Chip> = CHIPS.iter().collect();
    if !names.is_empty() {
        chips.retain(|chip| names.iter().any(|name| name == chip.name));
        ensure!(chips.len() == names.len(), "which chips there are says cargo xtask qtest-diff --list");
    }
    if script.is_some() && chips.len() != 1 {
        bail!("--script takes one chip");
    }
    let vmm = Vmm::chosen(vmm.as_deref())?.program;
    let qemu = qemu.map_or_else(qtests::built_qemu, Ok)?;
    Ok(Some(Options { vmm, qemu, seed, steps, rounds, script, chips }))
}

/// The two machines.
struct Pair([QTest; 2]);

/// Where answers differ: the number of the step, the request and both answers.
struct Difference {
    step: usize,
    request: String,
    answers: [Vec<String>; 2],
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [ours, qemu] = &self.answers;
        write!(f, "{}: here '{}', QEMU '{}'", self.request, ours.join("', '"), qemu.join("', '"))
    }
}

impl Pair {
    /// Starts both and sets them up.
    fn start(options: &Options, chip: &Chip) -> Self {
        Pair([&options.vmm, &options.qemu].map(|program| {
            let mut vm = chip.machine(QTest::builder(program).args(FIRMWARE)).start();
            chip.set_up(&mut vm);
            vm
        }))
    }

    /// What both answer, with the lines about interrupts before.
    fn ask(&mut self, request: &str) -> [Vec<String>; 2] {
        self.0.each_mut().map(|vm| vm.answers(request))
    }

    /// Runs steps until answers differ in more than is allowed.
    fn run(&mut self, chip: &Chip, steps: &[Step]) -> Option<Difference> {
        for (step, requests) in steps.iter().enumerate() {
            for request in requests {
                let answers = self.ask(request);
                if !chip.allows(request, &answers) {
                    return Some(Difference { step, request: request.clone(), answers });
                }
            }
        }
        None
    }
}

/// Random sequences for a chip; says whether none was answered differently.
fn compare_chip(options: &Options, chip: &Chip) -> bool {
    for round in 0..options.rounds {
        let seed = options.seed + round;
        let mut random = Random::new(seed);
        let steps: Vec<Step> = (0..options.steps).map(|_| chip.step(&mut random)).collect();
        let Some(difference) = Pair::start(options, chip).run(chip, &steps) else { continue };
        println!("{}: seed {seed}, step {}: {difference}", chip.name, difference.step);
        let steps = reduced(steps, difference.step, |steps| {
            Pair::start(options, chip).run(chip, steps).map(|difference| difference.step)
        });
        steps.iter().flatten().for_each(|request| println!("    {request}"));
        if let Some(difference) = Pair::start(options, chip).run(chip, &steps) {
            println!("  {difference}");
        }
        return false;
    }
    println!("{}: {} sequences of {} steps: no difference", chip.name, options.rounds, options.steps);
    true
}

/// A part of `steps`, of which `last` was the first to be answered differently, that `differs` finds different still: no
/// step can be left out of it.
fn reduced(mut steps: Vec<Step>, last: usize, differs: impl Fn(&[Step]) -> Option<usize>) -> Vec<Step> {
    steps.truncate(last + 1);
    let mut size = steps.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(at..steps.len().min(at + size));
            match differs(&fewer) {
                Some(last) => {
                    fewer.truncate(last + 1);
                    steps = fewer;
                }
                None => at += size,
            }
        }
        size /= 2;
    }
    steps
}

/// The requests in a file; shows every difference.
fn run_script(options: &Options, chip: &Chip, file: &Path) -> Result<bool> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{}", file.display()))?;
    let mut pair = Pair::start(options, chip);
    let mut differences = 0;
    for (number, line) in text.lines().enumerate() {
        let request = line.split('#').next().unwrap_or_default().trim();
        if request.is_empty() {
            continue;
        }
        let answers = pair.ask(request);
        if !chip.allows(request, &answers) {
            differences += 1;
            let difference = Difference { step: number, request: request.to_owned(), answers };
            println!("{}:{}: {difference}", file.display(), number + 1);
        }
    }
    println!("{}: {differences} differences", file.display());
    Ok(differences == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_made_as_short_as_can_be() {
        let steps: Vec<Step> = (0..100).map(|n| vec![n.to_string()]).collect();
        // 80 shows what 7 and 41 together do.
        let differs = |steps: &[Step]| {
            let at = |name: &str| steps.iter().position(|step| step[0] == name);
            at("7").and(at("41")).and(at("80"))
        };
        assert_eq!(reduced(steps, 80, differs).concat(), ["7", "41", "80"]);
    }
}
