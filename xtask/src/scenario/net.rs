//! Linux guests with a network: all traffic stays in the nested machine.

use std::path::Path;

use anyhow::Result;

use super::Step::{Expect, Type};
use super::{PLAIN, PROMPT, Scenario, WITH_MODULES};
use crate::guest;
use crate::kernel::{Flavour, Kernel};
use crate::nested::Nest;

/// The initramfs with the programs of [`GUEST_PROGRAMS`] and the network's module.
const WITH_PROGRAMS: &str = "initrd-network";
const GUEST_PROGRAMS: [&str; 4] = ["/usr/sbin/dropbear", "/usr/bin/scp", "/usr/bin/iperf3", "/usr/bin/socat"];
const GUEST_MODULES: [&str; 3] = ["virtio_pci", "virtio_net", "vmw_vsock_virtio_transport"];
/// What the machine around the guests runs.
const L1_PROGRAMS: [&str; 6] = [
    "/usr/bin/dbclient",
    "/usr/bin/scp",
    "/usr/bin/iperf3",
    "/usr/bin/passt",
    "/usr/bin/tcpdump",
    "/usr/bin/socat",
];
/// Nobody has a password: all machines are ours.
const USERS: &str = "root::0:0:root:/root:/bin/sh\nnobody::65534:65534:nobody:/:/bin/sh\n";

/// L1's `scp` takes a file to the guest and back, as soon as a server listens behind the forwarded port. A server of
/// iperf3's listens on L1's loopback.
const L1_COPIES: &str = r#"printf '#!/bin/sh\nexec dbclient -y -y "$@"\n' > /tmp/ssh; chmod +x /tmp/ssh
copy() { timeout 120 scp -O -q -S /tmp/ssh -P 2222 "$@" 2>/dev/null; }
(
    seq 100000 > /tmp/sent
    for n in $(seq 400); do copy /tmp/sent root@127.0.0.1:/tmp/got && break; sleep 1; done
    copy root@127.0.0.1:/tmp/got /tmp/back && cmp /tmp/sent /tmp/back && echo copied-$((40 + 2))
) &
iperf3 -s -D
"#;

/// The same, and says to who connects whether threads of the kernel's have woken to work for a guest more often than they do
/// where they have nothing to do.
const L1_WATCHES_VHOST: &str = r#"
printf '#!/bin/sh\nip address add 192.168.7.1/24 dev $1; ip link set $1 up; iperf3 -s -D\n' > /tmp/ifup
cat > /tmp/served <<'END'
WOKEN=$(cat /proc/[0-9]*/status 2>/dev/null |
    awk '/^Name:/ { vhost = /vhost-/ } vhost && /^voluntary/ { n += $2 } END { print n + 0 }')
[ $WOKEN -ge 50 ] && echo served-$((40 + 2)) || echo woken only $WOKEN times
END
chmod +x /tmp/ifup; socat TCP-LISTEN:7000,reuseaddr EXEC:'sh /tmp/served' &
"#;

/// passt sends what the guest sends by an interface with a route, behind which a network namespace has a server; and it
/// wants a root that it can leave for another, which an initramfs is not: it gets the same files as a mount, in a
/// namespace of its own.
const L1_PASSES: &str = r"ip link add uplink type veth; rm -f /tmp/server /tmp/passt.socket
unshare -n sh -c 'echo $$ > /tmp/server; until ip link show veth0; do sleep 0.1; done
ip address add 10.9.0.1/24 dev veth0; ip link set veth0 up; exec iperf3 -s' >/dev/null 2>&1 &
until [ -s /tmp/server ]; do sleep 0.1; done
ip link set veth0 netns $(cat /tmp/server)
ip address add 10.9.0.2/24 dev uplink; ip link set uplink up; ip route add default via 10.9.0.1
echo 0 65534 > /proc/sys/net/ipv4/ping_group_range
mkdir -p /mnt; chmod 777 /tmp
cat > /tmp/passt << 'END'
mount --rbind / /mnt; cd /mnt; mount -o move . /
exec chroot . passt -q -f -1 --no-map-gw --runas 65534 -s /tmp/passt.socket
END
unshare -m sh /tmp/passt > /tmp/passt.log 2>&1 &
for n in $(seq 900); do grep -q '00010000 .*/passt.socket' /proc/net/unix && break; sleep 0.2; done
";

/// The dump must have been closed, and be readable by others.
const L1_READS_DUMP: &str = "tcpdump -Z root -nr /tmp/dump.pcap icmp 2>/dev/null > /tmp/icmp
[ $(grep -c 'echo request' /tmp/icmp) = 2 ] && [ $(grep -c 'echo reply' /tmp/icmp) = 2 ] || STATUS=99
";

/// Carries in what `scenarios` need, if they are of these.
pub(super) fn carry(nest: &mut Nest, scenarios: &[&Scenario]) -> Result<()> {
    // For TAP.
    nest.modules("tun");
    if !scenarios.iter().any(|scenario| scenario.initrd == WITH_PROGRAMS) {
        return Ok(());
    }
    nest.modules("veth,vhost_net");
    nest.modules("vhost_vsock");
    for program in L1_PROGRAMS {
        nest.carry(Path::new(program), None)?;
    }
    nest.text("/etc/passwd", USERS)?;
    let modules = Kernel::fetch(Flavour::Cloud)?.modules(&GUEST_MODULES.map(str::to_owned))?;
    let mut tree = guest::tree(&[], &modules)?;
    for program in GUEST_PROGRAMS {
        let name = program.rsplit('/').next().unwrap_or(program);
        tree.program(&format!("bin/{name}"), Path::new(program))?;
    }
    tree.text("etc/passwd", USERS);
    tree.folder("etc/dropbear");
    nest.carry(&tree.into_lz4()?.path(), Some(&format!("/guest/{WITH_PROGRAMS}")))?;
    Ok(())
}

/// L1 serves a file over HTTP on its loopback. A client of L1's waits for the guest to
/// listen behind a forwarded port. Each may be there already, from another attempt.
const L1_SERVES: &str = "mkdir -p /tmp/www; seq 1000000 > /tmp/www/numbers
httpd -p 127.0.0.1:8080 -h /tmp/www
for n in $(seq 400); do [ \"$(echo from-l1 | nc 127.0.0.1 2222 2>/dev/null)\" = guest-42 ] && break; sleep 1; done &
";

/// The interface that the VMM makes gets an address of L1's, with a server behind it.
const L1_CONFIGURES_TAP: &str = "mkdir -p /tmp/www; seq 1000000 > /tmp/www/numbers
printf '#!/bin/sh\\nip address add 192.168.7.1/24 dev $1; ip link set $1 up; httpd -p 8081 -h /tmp/www\\n' > /tmp/ifup
chmod +x /tmp/ifup
";

/// The same with a server of iperf3's.
const L1_MEASURES_TAP: &str = "
printf '#!/bin/sh\\nip address add 192.168.7.1/24 dev $1; ip link set $1 up; iperf3 -s -D\\n' > /tmp/ifup
chmod +x /tmp/ifup
";

/// L1 listens for the guest, to whom it sends and from whom it takes a file, and sends it as soon as the guest listens. To
/// another connection it answers by giving the device the state that it has.
const L1_TALKS_VSOCK: &str = r#"seq 100000 > /tmp/numbers; rm -f /tmp/back
socat -u FILE:/tmp/numbers VSOCK-LISTEN:1024 &
socat -u VSOCK-LISTEN:1025 CREATE:/tmp/back &
for n in $(seq 400); do socat -u FILE:/tmp/numbers VSOCK-CONNECT:42:1026 2>/dev/null && break; sleep 1; done &
cat > /tmp/restore <<'END'
ask() { (echo '{"execute": "qmp_capabilities"}'; echo "$@") | socat -t 20 - UNIX:/tmp/vsock.qmp; }
PLACE='"path": "/machine/peripheral/v0/virtio-backend", "property": "state"'
STATE=$(ask '{"execute": "stop"}' "{\"execute\": \"qom-get\", \"arguments\": {$PLACE}}" |
    sed -n 's/^{"return": \({.*vhost-vsock-device.*}\)}.*/\1/p')
ask "{\"execute\": \"qom-set\", \"arguments\": {$PLACE, \"value\": $STATE}}" '{"execute": "cont"}' > /tmp/restored
sleep 1000
END
socat VSOCK-LISTEN:1027 EXEC:'sh /tmp/restore' &
"#;

/// Configures the interface as the DHCP server says.
const DHCP: &str = "printf '#!/bin/sh\\n[ $1 = bound ] || exit 0\\nip a add $ip/$mask dev $interface\\n\
ip r add default via $router\\necho nameserver $dns > /etc/resolv.conf\\n' > /tmp/dhcp; chmod +x /tmp/dhcp; \
ip link set eth0 up; udhcpc -qn -i eth0 -s /tmp/dhcp >/dev/null 2>&1; echo $(ip -4 -o a show eth0)\n";

/// Sends so much to an iperf3 server and has as much come back; `both-ways-42` follows when both worked.
macro_rules! iperf_both_ways {
    ($server:literal, $bytes:literal) => {
        Type(concat!(
            "iperf3 -c ",
            $server,
            " -n ",
            $bytes,
            " && iperf3 -c ",
            $server,
            " -R -n ",
            $bytes,
            " && echo both-ways-$((40 + 2))\n"
        ))
    };
}

/// Packets go both ways, one at a time and many; then comes what ends the guest.
macro_rules! ping_and_iperf {
    ($end:literal $(, $then:expr)?) => {
        &[
            Expect(PROMPT),
            Type("load; ip a add 192.168.7.2/24 dev eth0; ip link set eth0 up\n"),
            Type("ping -c 2 -W 5 192.168.7.1 | grep -o '[0-9] packets received'\n"),
            Expect("2 packets received"),
            Expect(PROMPT),
            iperf_both_ways!("192.168.7.1", "16M"),
            Expect("both-ways-42"),
            Type($end),
            $($then)?
        ]
    };
}

/// All of them.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "network-user",
        arguments: &[
            "-smp",
            "2",
            "-netdev",
            "user,id=n0,hostfwd=tcp:127.0.0.1:2222-:22",
            "-device",
            "virtio-net-pci,netdev=n0,romfile=",
        ],
        before: L1_SERVES,
        initrd: WITH_MODULES,
        steps: &[
            Expect(PROMPT),
            Type("load\n"),
            Expect(PROMPT),
            Type(DHCP),
            Expect("inet 10.0.2.15/24"),
            Expect(PROMPT),
            Type("ping -c 2 -W 5 10.0.2.2 | grep -o '[0-9] packets received'\n"),
            Expect("2 packets received"),
            Expect(PROMPT),
            // An address that is L1's loopback.
            Type("seq 1000000 > /tmp/here; wget -q -O /tmp/there http://10.0.2.2:8080/numbers; "),
            Type("cmp /tmp/here /tmp/there && echo fetched-$((40 + 2))\n"),
            Expect("fetched-42"),
            Expect(PROMPT),
            Type("echo guest-$((40 + 2)) | nc -l -p 22 | sed s/from/got/\n"),
            Expect("got-l1"),
            Type("poweroff\n"),
        ],
        ..PLAIN
    },
    Scenario {
        name: "network-tap",
        arguments: &[
            "-smp",
            "2",
            "-netdev",
            "tap,id=n0,ifname=tap0,script=/tmp/ifup,downscript=no,queues=2",
            "-device",
            "virtio-net-pci,netdev=n0,romfile=,mq=on,vectors=6",
        ],
        before: L1_CONFIGURES_TAP,
        initrd: WITH_MODULES,
        steps: &[
            Expect(PROMPT),
            Type(
                "load; ip a add 192.168.7.2/24 dev eth0; ip link set eth0 up; ls -d /sys/class/net/eth0/queues/rx-*; ",
            ),
            Type("echo up-$((40 + 2))\n"),
            Expect("queues/rx-1"),
            Expect("up-42"),
            Expect(PROMPT),
            Type("ping -c 2 -W 5 192.168.7.1 | grep -o '[0-9] packets received'\n"),
            Expect("2 packets received"),
            Expect(PROMPT),
            Type("seq 1000000 > /tmp/here; wget -q -O /tmp/there http://192.168.7.1:8081/numbers; "),
            Type("cmp /tmp/here /tmp/there && echo fetched-$((40 + 2))\n"),
            Expect("fetched-42"),
            Type("poweroff\n"),
        ],
        ..PLAIN
    },
    Scenario {
        name: "network-scp",
        arguments: &[
            "-netdev",
            "user,id=n0,hostfwd=tcp:127.0.0.1:2222-:22",
            "-device",
            "virtio-net-pci,netdev=n0,romfile=",
        ],
        before: L1_COPIES,
        initrd: WITH_PROGRAMS,
        steps: &[
            Expect(PROMPT),
            Type("load\n"),
            Expect(PROMPT),
            Type(DHCP),
            Expect("inet 10.0.2.15/24"),
            Type("dropbear -R -B -p 22\n"),
            Expect("copied-42"),
            iperf_both_ways!("10.0.2.2", "8M"),
            Expect("both-ways-42"),
            Type("poweroff\n"),
        ],
        ..PLAIN
    },
    Scenario {
        name: "network-iperf-tap",
        arguments: &[
            "-netdev",
            "tap,id=n0,ifname=tap0,script=/tmp/ifup,downscript=no",
            "-device",
            "virtio-net-pci,netdev=n0,romfile=",
            "-object",
            "filter-dump,id=f0,netdev=n0,file=/tmp/dump.pcap,maxlen=128",
        ],
        before: L1_MEASURES_TAP,
        initrd: WITH_PROGRAMS,
        steps: ping_and_iperf!("poweroff\n"),
        after: L1_READS_DUMP,
        ..PLAIN
    },
    Scenario {
        name: "network-passt",
        arguments: &[
            "-netdev",
            "stream,id=n0,server=off,addr.type=unix,addr.path=/tmp/passt.socket",
            "-device",
            "virtio-net-pci,netdev=n0,romfile=",
        ],
        before: L1_PASSES,
        initrd: WITH_PROGRAMS,
        steps: &[
            Expect(PROMPT),
            Type("load\n"),
            Expect(PROMPT),
            Type(DHCP),
            Expect("inet 10.9.0.2/24"),
            Expect(PROMPT),
            Type("ping -c 8 -s 1400 -i 0.2 -W 5 10.9.0.1 | grep -o '[0-9] packets received'\n"),
            Expect("8 packets received"),
            Expect(PROMPT),
            iperf_both_ways!("10.9.0.1", "4M"),
            Expect("both-ways-42"),
            Type("poweroff\n"),
        ],
        ..PLAIN
    },
    Scenario {
        name: "network-vhost",
        arguments: &[
            "-smp",
            "2",
            "-netdev",
            "tap,id=n0,ifname=tap0,script=/tmp/ifup,downscript=no,queues=2,vhost=on,vhostforce=on",
            "-device",
            "virtio-net-pci,netdev=n0,romfile=,mq=on,vectors=6",
        ],
        before: L1_WATCHES_VHOST,
        initrd: WITH_PROGRAMS,
        steps: ping_and_iperf!("socat -u TCP:192.168.7.1:7000 -; poweroff\n", Expect("served-42")),
        ..PLAIN
    },
    Scenario {
        name: "vsock",
        arguments: &[
            "-device",
            "vhost-vsock-pci,guest-cid=42,id=v0",
            "-qmp",
            "unix:/tmp/vsock.qmp,server=on,wait=off",
        ],
        before: L1_TALKS_VSOCK,
        initrd: WITH_PROGRAMS,
        steps: &[
            Expect(PROMPT),
            Type("load; seq 100000 > /tmp/numbers; socat -u VSOCK-CONNECT:2:1024 CREATE:/tmp/got; "),
            Type("cmp /tmp/numbers /tmp/got && echo taken-$((40 + 2))\n"),
            Expect("taken-42"),
            Expect(PROMPT),
            Type("socat -u FILE:/tmp/numbers VSOCK-CONNECT:2:1025 && echo sent-$((40 + 2))\n"),
            Expect("sent-42"),
            Expect(PROMPT),
            // The queues are the program's for a moment, which restores the state; then there are no connections.
            Type("socat -u VSOCK-CONNECT:2:1027 -; echo ended-$((40 + 2))\n"),
            Expect("ended-42"),
            Expect(PROMPT),
            Type("socat -u VSOCK-LISTEN:1026 CREATE:/tmp/heard; "),
            Type("cmp /tmp/numbers /tmp/heard && echo heard-$((40 + 2))\n"),
            Expect("heard-42"),
            Type("poweroff\n"),
        ],
        after: "cmp /tmp/numbers /tmp/back && [ $(grep -c '\"return\": {}' /tmp/restored) = 3 ] || STATUS=97\n",
        ..PLAIN
    },
];
