//! Linux guests with a network: all traffic stays in the nested machine.

use super::Step::{Expect, Type};
use super::{PLAIN, PROMPT, Scenario, WITH_MODULES};

/// L1 serves a file over HTTP on its loopback. A client of L1's waits for the guest to
/// listen behind a forwarded port. Each may be there already, from another attempt.
const L1_SERVES: &str = "mkdir -p /tmp/www; seq 1000000 > /tmp/www/numbers
httpd -p 127.0.0.1:8080 -h /tmp/www
for n in $(seq 200); do [ \"$(echo from-l1 | nc 127.0.0.1 2222 2>/dev/null)\" = guest-42 ] && break; sleep 1; done &
";

/// The interface that the VMM makes gets an address of L1's, with a server behind it.
const L1_CONFIGURES_TAP: &str = "mkdir -p /tmp/www; seq 1000000 > /tmp/www/numbers
printf '#!/bin/sh\\nip address add 192.168.7.1/24 dev $1; ip link set $1 up; httpd -p 8081 -h /tmp/www\\n' > /tmp/ifup
chmod +x /tmp/ifup
";

/// Configures the interface as the DHCP server says.
const DHCP: &str = "printf '#!/bin/sh\\n[ $1 = bound ] || exit 0\\nip a add $ip/$mask dev $interface\\n\
ip r add default via $router\\necho nameserver $dns > /etc/resolv.conf\\n' > /tmp/dhcp; chmod +x /tmp/dhcp; \
ip link set eth0 up; udhcpc -qn -i eth0 -s /tmp/dhcp >/dev/null 2>&1; echo $(ip -4 -o a show eth0)\n";

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
        by_name: true,
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
];
