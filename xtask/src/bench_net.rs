//! The rows of `cargo xtask bench` about networks: what packets cost through `virtio-net-pci`, to the network stack in
//! the program (`user`) and to the kernel's of the nested machine (`tap`).
//!
//! Single packets are sent by the bare-metal guest `guests/src/bin/net.rs`, a TCP connection's by Linux with `iperf3`,
//! whose other end is the nested machine. Either guest is 10.0.2.15, and the other end 10.0.2.2.

use std::path::Path;

use anyhow::Result;

use crate::bench::{
    BARE_METAL, Bench, MILLION, OURS, PC, PLACE, QUIET, Row, Samples, Subject, Target, linux,
};
use crate::deps;
use crate::guest;
use crate::kernel::{Flavour, Kernel};
use crate::nested::{Nest, quote_all};

/// Packets of each kind and run.
const PACKETS: u32 = 512;
const IPERF3: &str = "/usr/bin/iperf3";
const OPTIONS: &str = "virtio-net-pci,netdev=n,romfile=";

/// Nothing but the guest's packets is on the interface.
const IFUP: &str = "#!/bin/sh
echo 1 > /proc/sys/net/ipv6/conf/$1/disable_ipv6
ip address add 10.0.2.2/24 dev $1; ip link set $1 up
";

/// What the Linux guest does: 32 MB there and 32 MB back; prints nanoseconds a MB.
const BULK: &str = r#"load; ip address add 10.0.2.15/24 dev eth0; ip link set eth0 up
for way in out in; do
    [ $way = in ] && reverse=-R
    iperf3 -c 10.0.2.2 -n 32000000 -J $reverse | awk -v way=$way '
        /"error"/ { print }
        /"sum_received"/ { found = 1 }
        found && /"bits_per_second"/ { printf "ns %s %d\n", way, 8e15 / $2; exit }'
done
"#;

const fn row(title: &'static str, key: &'static str) -> Row {
    Row { title, key, scale: 1.0, unit: "", target: Target::Ratio(1.0), in_microvm: false }
}

const fn bulk(title: &'static str, key: &'static str) -> Row {
    Row { title, key, scale: MILLION, unit: "M", target: Target::Ratio(1.0), in_microvm: false }
}

/// The rows.
pub const ROWS: &[Row] = &[
    row("tap, 64-byte echo there and back", "net-tap cycles echo1"),
    row("tap, 1400-byte echo, 32 on their way", "net-tap cycles echo32"),
    row("tap, 1400-byte datagram sent, 32 on their way", "net-tap cycles send32"),
    row("user, 64-byte echo there and back", "net-user cycles echo1"),
    row("user, 1400-byte echo, 32 on their way", "net-user cycles echo32"),
    row("user, 1400-byte datagram sent, 32 on their way", "net-user cycles send32"),
    bulk("tap, TCP from the guest, a MB", "bulk-tap ns out"),
    bulk("tap, TCP to the guest, a MB", "bulk-tap ns in"),
    bulk("user, TCP from the guest, a MB", "bulk-user ns out"),
    bulk("user, TCP to the guest, a MB", "bulk-user ns in"),
];

/// Carries in what the guests need.
pub fn carry(nest: &mut Nest, guests: &Path) -> Result<()> {
    deps::ensure_installed(deps::NETWORK)?;
    nest.modules("tun").carry(&guests.join("net.pvh"), Some(&format!("{PLACE}/net.pvh")))?;
    nest.text(&format!("{PLACE}/ifup"), IFUP)?;
    nest.carry(Path::new(IPERF3), None)?;
    let modules = Kernel::fetch(Flavour::Cloud)?.modules(&["virtio_pci", "virtio_net"].map(str::to_owned))?;
    let mut tree = guest::tree(&[("bulk", BULK)], &modules)?;
    tree.program("bin/iperf3", Path::new(IPERF3))?;
    nest.carry(&tree.into_lz4()?.path(), Some(&format!("{PLACE}/network")))?;
    Ok(())
}

/// Measures what the rows say.
pub fn measure(bench: &Bench, runs: u32, samples: &mut Samples) {
    let subjects = bench.subjects.iter().filter(|one| [PC, OURS].contains(&one.name));
    for subject in (0..runs).flat_map(|_| subjects.clone()) {
        Bench::nested(&bench.clocked, &packets(subject), samples);
        for (name, backend) in backends() {
            Bench::nested(&bench.clocked, &connection(subject, name, &backend), samples);
        }
    }
}

/// What carries the packets, by name.
fn backends() -> [(&'static str, String); 2] {
    let tap = format!("tap,id=n,ifname=tap0,script={PLACE}/ifup,downscript=no");
    [("tap", tap), ("user", "user,id=n".to_owned())]
}

/// The commands that run the bare-metal guest on each backend.
fn packets(subject: &Subject) -> String {
    let kernel = format!("{PLACE}/net.pvh");
    let count = format!("n={PACKETS}");
    let mut script = String::new();
    for (name, backend) in backends() {
        let network = ["-netdev", &backend, "-device", OPTIONS];
        let line = subject.line(&[BARE_METAL, &["-kernel", &kernel, "-append", &count], &network].concat());
        script += &subject.heading(&format!("net-{name}"));
        script += &format!("{} </dev/null\n", quote_all(&line));
    }
    script
}

/// The commands that run the Linux guest on one.
fn connection(subject: &Subject, name: &str, backend: &str) -> String {
    let (kernel, initrd) = (format!("{PLACE}/vmlinux"), format!("{PLACE}/network"));
    let append = format!("{QUIET} script=bulk");
    let network = ["-netdev", backend, "-device", OPTIONS];
    let line = subject.line(&[&linux(&kernel, &initrd, &append)[..], &network].concat());
    let heading = subject.heading(&format!("bulk-{name}"));
    format!("iperf3 -s -D\n{heading}{} </dev/null\n", quote_all(&line))
}
