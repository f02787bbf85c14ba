//! How long a request and its answer take over the program's sockets, without a guest.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::bench::{MICROVM, Row, Samples, Subject, THOUSAND, Target};

/// The table's rows.
pub const ROWS: &[Row] = &[
    Row {
        title: "QMP `query-status`, round trip, no guest",
        key: "trips query-status",
        scale: THOUSAND,
        unit: "µs",
        target: Target::Ratio(0.50),
        in_microvm: false,
    },
    Row {
        title: "qtest `inb`, round trip, no guest",
        key: "trips inb",
        scale: THOUSAND,
        unit: "µs",
        target: Target::Ratio(0.50),
        in_microvm: false,
    },
];

/// Trips of one program before it is the next one's turn.
const BLOCK: usize = 500;
const INB: &str = "inb 0x71\n";
const QUERY_STATUS: &str = "{\"execute\": \"query-status\"}\n";
/// An answer that takes longer does not come.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A program with a client on each of its sockets.
struct Peer {
    child: Child,
    qtest: UnixStream,
    qmp: UnixStream,
}

impl Peer {
    /// Starts a program as QEMU's tests do.
    fn start(program: &str, machine: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let listen = |name: &str| -> Result<(UnixListener, String)> {
            let path = folder.path().join(name);
            Ok((UnixListener::bind(&path)?, path.display().to_string()))
        };
        let ((qtest, qtest_path), (qmp, qmp_path)) = (listen("qtest")?, listen("qmp")?);
        let child = Command::new(program)
            .args(["-M", machine, "-accel", "kvm", "-S", "-display", "none", "-nodefaults"])
            .args(["-qtest", &format!("unix:{qtest_path}"), "-qtest-log", "/dev/null"])
            .args(["-chardev", &format!("socket,id=qmp,path={qmp_path}"), "-mon", "chardev=qmp,mode=control"])
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| program.to_owned())?;
        let accept = |listener: UnixListener| -> Result<UnixStream> {
            let stream = listener.accept()?.0;
            stream.set_read_timeout(Some(TIMEOUT))?;
            Ok(stream)
        };
        let mut peer = Peer { child, qtest: accept(qtest)?, qmp: accept(qmp)? };
        let greeting = line(&mut peer.qmp)?;
        ensure!(greeting.starts_with(b"{\"QMP\""), "no greeting");
        trip(&mut peer.qmp, "{\"execute\": \"qmp_capabilities\"}\n", b"{\"return\"")?;
        Ok(peer)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It is not needed any more, however it ends.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The next line, which comes alone.
fn line(stream: &mut UnixStream) -> Result<Vec<u8>> {
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    while answer.last() != Some(&b'\n') {
        let length = stream.read(&mut piece)?;
        ensure!(length > 0, "the program hung up");
        answer.extend_from_slice(&piece[..length]);
    }
    Ok(answer)
}

/// Sends a request and gives how long it was until its answer came.
fn trip(stream: &mut UnixStream, request: &str, answer: &[u8]) -> Result<Duration> {
    let start = Instant::now();
    stream.write_all(request.as_bytes())?;
    let line = line(stream)?;
    let took = start.elapsed();
    ensure!(line.starts_with(answer), "{request:?}: {}", String::from_utf8_lossy(&line));
    Ok(took)
}

/// The median.
fn median(mut trips: Vec<Duration>) -> u128 {
    trips.sort();
    trips.get(trips.len() / 2).map_or(0, Duration::as_nanos)
}

/// Measures the programs' trips in ns; they take turns.
pub fn measure(subjects: &[Subject], rounds: u32, samples: &mut Samples) {
    let subjects = subjects.iter().filter(|subject| subject.name != MICROVM);
    if let Err(error) = measure_in_turn(subjects, rounds, samples) {
        eprintln!("xtask: round trips: {error:#}");
    }
}

fn measure_in_turn<'a>(
    subjects: impl Iterator<Item = &'a Subject>,
    rounds: u32,
    samples: &mut Samples,
) -> Result<()> {
    let mut peers = Vec::new();
    for subject in subjects {
        peers.push((subject, Peer::start(&subject.program, subject.machine)?, Vec::new(), Vec::new()));
    }
    for _ in 0..rounds {
        for (_, peer, qmp, qtest) in &mut peers {
            for _ in 0..BLOCK {
                qmp.push(trip(&mut peer.qmp, QUERY_STATUS, b"{\"return\"")?);
            }
            for _ in 0..BLOCK {
                qtest.push(trip(&mut peer.qtest, INB, b"OK 0x")?);
            }
        }
    }
    for (subject, _, qmp, qtest) in peers {
        let text = format!("query-status {}\ninb {}\n", median(qmp), median(qtest));
        samples.add(&(subject.title("trips") + &text));
    }
    Ok(())
}
