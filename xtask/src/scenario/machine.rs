//! Linux guests about the machine as a whole.

use super::Format::{self, Generic, Vmlinux};
use super::Step::{Expect, Type};
use super::{PLAIN, PROMPT, Scenario, Step, WITH_GENERIC_MODULES, WITH_MODULES};

/// Prints what comes from the monitor `/tmp/qmp`.
const QMP_EVENTS: &str = r#"mkfifo /tmp/qmp.in /tmp/qmp.out
cat /tmp/qmp.out &
(exec 3<>/tmp/qmp.in; echo '{"execute": "qmp_capabilities"}' >&3; sleep 400) &
"#;

/// A folder to share, and who looks at it from outside: how many files there are but the file system's own.
const SHARED_FOLDER: &str = r#"truncate -s 64M /loop; losetup /dev/loop0 /loop
mke2fs -q /dev/loop0; mkdir /shared; mount -t ext4 /dev/loop0 /shared
echo from-$((40 + 2)) > /shared/hello
(until [ -s /shared/written ]; do sleep 1; done
set -- /shared/*
echo "seen=$(cat /shared/written) $(stat -c %F /shared/null) $#" > /shared/seen) &
"#;

/// Interrupts from the chips come, on both CPUs, and CPUs wake each other.
const IRQCHIP_STEPS: &[Step] = &[
    Expect(PROMPT),
    Type("for c in 0 1; do taskset -c $c sh -c \"sleep 1; echo on=$((c+7))\"; done\n"),
    Expect("on=7"),
    Expect("on=8"),
    Expect(PROMPT),
    Type(
        "awk '/ttyS0|rtc0|acpi/ { n = n || $2 + $3 > 0 } /LOC/ { l = $2 * $3 > 0 } END { print \"irqs=\" n \" \" l }' ",
    ),
    Type("/proc/interrupts\n"),
    Expect("irqs=1 1"),
    Type("poweroff\n"),
];

/// Those about the machine as a whole.
///
/// What is typed is echoed: an expected text is one that typing alone does not bring, such as a sum.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "session",
        arguments: &["-smp", "1", "-m", "128M"],
        steps: &[
            Expect(PROMPT),
            Type("echo sum=$((40+2)) cpus=$(nproc)\n"),
            Expect("sum=42 cpus=1"),
            Expect(PROMPT),
            // Line editing and job control of the serial console: backspace, Ctrl-C, end of file.
            Type("echo wrn\x08\x08ight-$((1+1))\n"),
            Expect("wight-2"),
            Expect(PROMPT),
            // It tells when it has the terminal: an interrupt between the shell's turn and its own would be lost.
            Type("(echo asleep-$((1+1)); exec sleep 1000)\n"),
            Expect("asleep-2"),
            Type("\x03"),
            Expect(PROMPT),
            Type("echo reading-$((1+1)); tr a-z A-Z\n"),
            Expect("reading-2"),
            Type("read this\n\x04"),
            Expect("READ THIS"),
            Expect(PROMPT),
            Type("cat /sys/devices/system/clocksource/clocksource0/current_clocksource\n"),
            Expect("\nkvm-clock"),
            Expect(PROMPT),
            Type("awk '/MemTotal/ { print \"size=\" ($2 > 80000 && $2 < 131072) }' /proc/meminfo\n"),
            Expect("size=1"),
            Type("poweroff\n"),
        ],
        ..PLAIN
    },
    Scenario {
        name: "vmlinux-smp",
        format: Vmlinux,
        arguments: &["-smp", "2"],
        steps: &[
            Expect(PROMPT),
            Type("echo cpus=$((100+$(nproc)))\n"),
            Expect("cpus=102"),
            // A program on each CPU.
            Type("for c in 0 1; do taskset -c $c sh -c \"echo on=$((c+7))\"; done\n"),
            Expect("on=7"),
            Expect("on=8"),
            Type("poweroff\n"),
        ],
        ..PLAIN
    },
    Scenario {
        name: "bzimage-smp-5g",
        arguments: &["-smp", "2", "-m", "5G"],
        steps: &[
            Expect(PROMPT),
            Type("awk '/MemTotal/ { print \"size=\" ($2 > 4800000 && $2 < 5242880) }' /proc/meminfo\n"),
            Expect("size=1"),
            // QEMU puts what is beyond 3 GiB above 4 GiB.
            Type("grep -i 'system ram' /proc/iomem; echo cpus=$((100+$(nproc)))\n"),
            Expect("100000000-1"),
            Expect("cpus=102"),
            Type("poweroff\n"),
        ],
        ..PLAIN
    },
    Scenario {
        name: "vmlinux-128m",
        format: Vmlinux,
        arguments: &["-m", "128M"],
        steps: &[Expect(PROMPT), Type("poweroff\n")],
        ..PLAIN
    },
    Scenario {
        name: "reboot",
        arguments: &["-smp", "2"],
        steps: &[
            Expect(PROMPT),
            Type("reboot\n"),
            Expect("'poweroff' ends it"),
            Expect(PROMPT),
            Type("poweroff\n"),
        ],
        ..PLAIN
    },
    Scenario {
        name: "reboot-by-keyboard-controller",
        arguments: &["-no-reboot"],
        append: "reboot=kbd",
        steps: &[Expect(PROMPT), Type("reboot -f\n")],
        ..PLAIN
    },
    Scenario {
        name: "reboot-by-triple-fault",
        arguments: &["-no-reboot"],
        append: "reboot=triple",
        steps: &[Expect(PROMPT), Type("reboot -f\n")],
        ..PLAIN
    },
    Scenario {
        name: "reboot-by-0xcf9",
        arguments: &["-no-reboot"],
        append: "reboot=pci",
        steps: &[Expect(PROMPT), Type("reboot -f\n")],
        ..PLAIN
    },
    Scenario {
        name: "panic-no-reboot",
        arguments: &["-no-reboot"],
        append: "panic=-1",
        steps: &[
            Expect(PROMPT),
            Type("echo c > /proc/sysrq-trigger\n"),
            Expect("Kernel panic - not syncing"),
        ],
        ..PLAIN
    },
    Scenario {
        name: "reset-by-watchdog",
        format: Generic,
        arguments: &["-device", "i6300esb", "-action", "watchdog=reset"],
        initrd: WITH_GENERIC_MODULES,
        steps: &[
            Expect(PROMPT),
            // It is armed by being opened, and nobody feeds it.
            Type("load; echo 1 > /dev/watchdog; echo armed-$((1+1))\n"),
            Expect("armed-2"),
            Expect("'poweroff' ends it"),
            Expect(PROMPT),
            Type("poweroff\n"),
        ],
        ..PLAIN
    },
    Scenario {
        name: "folder-by-9p",
        format: Generic,
        arguments: &["-virtfs", "local,path=/shared,mount_tag=share,security_model=mapped-xattr"],
        before: SHARED_FOLDER,
        initrd: WITH_GENERIC_MODULES,
        steps: &[
            Expect(PROMPT),
            Type(
                "load; mkdir /m; mount -t 9p -o trans=virtio,version=9p2000.L,msize=131072 share /m && cat /m/hello\n",
            ),
            Expect("from-42"),
            Expect(PROMPT),
            Type(
                "cd /m; dd if=/dev/urandom of=big bs=64k count=64 2>/dev/null; cp big copy; cd /; umount /m; ",
            ),
            Type("mount -t 9p -o trans=virtio,version=9p2000.L,cache=none share /m; cd /m; "),
            Type("cmp big copy && echo same-$((40 + 2))\n"),
            Expect("same-42"),
            Expect(PROMPT),
            Type(
                "mkdir d; for i in $(seq 200); do echo $i > d/file$i; done; mv d e; echo n=$((1000 + $(ls e | wc -l)))\n",
            ),
            Expect("n=1200"),
            Expect(PROMPT),
            Type("ln -s /etc/passwd link; mknod null c 1 3; chown 5:6 big; chmod 4711 big; rm -r e copy; "),
            Type("echo kept=$(stat -c %u.%g.%a big).$(readlink link).$(stat -c %t%T null)\n"),
            Expect("kept=5.6.4711./etc/passwd.13"),
            Expect(PROMPT),
            Type("echo done > written; until [ -s seen ]; do sleep 1; done; cat seen\n"),
            Expect("seen=done regular empty file 6"),
            Type("cd /; umount /m; poweroff\n"),
        ],
        by_name: true,
        ..PLAIN
    },
    Scenario {
        name: "panic-through-pvpanic",
        arguments: &[
            "-device",
            "pvpanic",
            "-chardev",
            "pipe,id=q,path=/tmp/qmp",
            "-mon",
            "chardev=q,mode=control",
        ],
        append: "panic=0",
        initrd: WITH_MODULES,
        before: QMP_EVENTS,
        steps: &[
            Expect(PROMPT),
            // The driver finds the port by ACPI.
            Type("load; ls /sys/bus/platform/drivers/pvpanic-mmio\n"),
            Expect("QEMU0001:00"),
            Expect(PROMPT),
            Type("echo c > /proc/sysrq-trigger\n"),
            Expect("Kernel panic - not syncing"),
            Expect("\"event\": \"GUEST_PANICKED\", \"data\": {\"action\": \"poweroff\"}"),
        ],
        ..PLAIN
    },
    Scenario {
        name: "smm",
        format: Format::Bare("smm.pvh"),
        arguments: &[
            "-machine",
            "smm=on",
            "-device",
            "isa-debug-exit,iobase=0xf4,iosize=0x4",
            "-drive",
            "if=pflash,format=raw,file=/flash",
            "-global",
            "driver=cfi.pflash01,property=secure,value=on",
        ],
        before: "head -c 262144 /dev/zero | tr '\\0' '\\377' >/flash\n",
        append: "flash",
        steps: &[
            Expect("ok handler-ran"),
            Expect("ok counted-in-smram"),
            Expect("ok flash-not-from-outside"),
            Expect("ok flash-from-smm"),
        ],
        status: 1,
        ..PLAIN
    },
    Scenario {
        name: "virtio-rng",
        // A transitional function and one that is not, with MSI-X and without.
        arguments: &[
            "-smp",
            "2",
            "-device",
            "virtio-rng-pci",
            "-device",
            "virtio-rng-pci-non-transitional,vectors=0,max-bytes=4096,period=100",
        ],
        initrd: WITH_MODULES,
        steps: &[
            Expect(PROMPT),
            Type("load; cat /sys/class/misc/hw_random/rng_available\n"),
            Expect("virtio_rng.0 virtio_rng.1"),
            Expect(PROMPT),
            Type("for n in 0 1; do echo virtio_rng.$n > /sys/class/misc/hw_random/rng_current; "),
            Type("echo read-$n-$(head -c 20000 /dev/hwrng | wc -c); done\n"),
            Expect("read-0-20000"),
            Expect("read-1-20000"),
            Expect(PROMPT),
            Type("grep -c 'MSI.*virtio' /proc/interrupts; cat /sys/bus/virtio/devices/*/status\n"),
            Expect("0x0000000f"),
            Expect("0x0000000f"),
            Type("poweroff\n"),
        ],
        ..PLAIN
    },
    Scenario {
        name: "gdb",
        arguments: &[
            "-smp",
            "2",
            "-gdb",
            "unix:/tmp/gdb.sock,server=on,wait=off",
            "-serial",
            "mon:stdio",
            "-serial",
            "file:/tmp/ready",
        ],
        append: "nokaslr",
        // The emulated processor that the nested machine runs on reports no breakpoints to KVM; KVM looks for those of
        // debug registers itself when it carries out an instruction for the guest, such as one that writes CR4.
        steps: &[
            Expect(PROMPT),
            Type("hostname one; taskset -c 1 sh -c 'echo ready > /dev/ttyS1; while :; do :; done'\n"),
            Expect("GDB reads one"),
            Expect("(CPU#1 ["),
            Expect("GDB steps 1"),
            Expect("[ PG AM WP NE ET "),
            Expect("GDB stack 1"),
            Expect("GDB hardware 4"),
            Expect("GDB watches 1"),
            Expect("GDB writes"),
            Expect("GDB waits"),
            Type("\x03"),
            Expect(PROMPT),
            Type("hostname\n"),
            Expect("Tne"),
            Type("cd /sys/devices/system/cpu/cpu1; echo 0 > online; echo 1 > online; echo up-$((40 + 2))\n"),
            Expect("GDB stops CPU 1 there: 1"),
            Expect("GDB goes on after it: 1"),
            Expect("up-42"),
            Type("poweroff\n"),
        ],
        gdb: true,
        ..PLAIN
    },
    Scenario {
        name: "virtio-serial-and-balloon",
        // Two ports whose character devices are connected to each other.
        arguments: &[
            "-chardev",
            "socket,id=a,path=/tmp/port,server=on,wait=off",
            "-chardev",
            "socket,id=b,path=/tmp/port",
            "-device",
            "virtio-serial-pci",
            "-device",
            "virtserialport,chardev=a,name=org.test.a",
            "-device",
            "virtserialport,chardev=b,name=org.test.b",
            "-device",
            "virtio-balloon-pci",
        ],
        initrd: WITH_MODULES,
        steps: &[
            Expect(PROMPT),
            // Their names come later than the ports.
            Type(
                "load; cd /sys/class/virtio-ports; until grep -q test.b */name 2>/dev/null; do sleep 1; done\n",
            ),
            Type("cat vport0p1/name vport0p2/name; cd\n"),
            Expect("org.test.a"),
            Expect("org.test.b"),
            Expect(PROMPT),
            Type(
                "(head -c 1000000 /dev/vport0p2 | md5sum > /tmp/there) & seq 1000000 | head -c 1000000 > /tmp/here\n",
            ),
            Type(
                "cat /tmp/here > /dev/vport0p1; wait; md5sum < /tmp/here | cmp - /tmp/there && echo same-$((1+1))\n",
            ),
            Expect("same-2"),
            Expect(PROMPT),
            Type("echo before-$(awk '/MemTotal/ { print ($2 > 400000) }' /proc/meminfo)\n"),
            Expect("before-1"),
            Type("\x01c"),
            Expect("(qemu) "),
            Type("balloon 256\n"),
            Expect("(qemu) "),
            Type("\x01c"),
            Type(
                "until awk '/MemTotal/ { exit $2 > 300000 }' /proc/meminfo; do sleep 1; done; echo small-$((1+1))\n",
            ),
            Expect("small-2"),
            // And until it is done.
            Type(
                "a=0; until b=$(grep MemTotal /proc/meminfo); [ \"$a\" = \"$b\" ]; do a=$b; sleep 3; done; ",
            ),
            Type("echo done-$((1+1))\n"),
            Expect("done-2"),
            Type("\x01c"),
            Expect("(qemu) "),
            Type("info balloon\n"),
            Expect("balloon: actual=256"),
            Type("quit\n"),
        ],
        ..PLAIN
    },
    Scenario {
        name: "suspend",
        arguments: &["-smp", "2"],
        steps: &[
            Expect(PROMPT),
            Type("cat /sys/power/mem_sleep; echo kept-$((1+1)) > /tmp/kept\n"),
            Expect("[deep]"),
            Expect(PROMPT),
            // The alarm wakes it; on a busy machine it takes long to fall asleep.
            Type("echo +20 > /sys/class/rtc/rtc0/wakealarm; echo mem > /sys/power/state; cat /tmp/kept\n"),
            Expect("kept-2"),
            Expect(PROMPT),
            Type("dmesg | grep -o 'Waking up from.*'; echo cpus=$((100+$(nproc)))\n"),
            Expect("system sleep state S3"),
            Expect("cpus=102"),
            Type("poweroff\n"),
        ],
        ..PLAIN
    },
    Scenario {
        name: "hotplug",
        arguments: &[
            "-smp",
            "2,maxcpus=3,sockets=3",
            "-m",
            "256M,slots=1,maxmem=1G",
            "-object",
            "memory-backend-ram,id=n0,size=128M",
            "-object",
            "memory-backend-ram,id=n1,size=128M",
            "-object",
            "memory-backend-ram,id=m1,size=128M",
            "-numa",
            "node,memdev=n0,cpus=0",
            "-numa",
            "node,memdev=n1,cpus=1-2",
        ],
        steps: &[
            Expect(PROMPT),
            Type("cd /sys/devices/system; echo nodes=$(cat node/online) cpus=$(cat node/node1/cpulist)\n"),
            Expect("nodes=0-1 cpus=1"),
            Type("\x01c"),
            Expect("(qemu)"),
            Type("device_add qemu64-x86_64-cpu,id=cpu2,socket-id=2,core-id=0,thread-id=0\n"),
            Expect("(qemu)"),
            Type("device_add pc-dimm,id=dimm1,memdev=m1\n"),
            Expect("(qemu)"),
            Type("\x01c"),
            Type(
                "until [ -d cpu/cpu2 ]; do sleep 1; done; echo 1 > cpu/cpu2/online; echo cpus=$((100+$(nproc)))\n",
            ),
            Expect("cpus=103"),
            Type(
                "until [ -d memory/memory32 ]; do sleep 1; done; echo online_movable > memory/memory32/state\n",
            ),
            Type("awk '/MemTotal/ { print \"more=\" ($2 > 250000) }' /proc/meminfo\n"),
            Expect("more=1"),
            Type("\x01c"),
            Expect("(qemu)"),
            Type("device_del cpu2\n"),
            Expect("(qemu)"),
            Type("device_del dimm1\n"),
            Expect("(qemu)"),
            Type("\x01c"),
            Type(
                "while [ -d cpu/cpu2 ] || [ -d memory/memory32 ]; do sleep 1; done; echo gone=$((100+$(nproc)))\n",
            ),
            Expect("gone=102"),
            Type("\x01c"),
            Type("info memory-devices\n"),
            Type("info hotpluggable-cpus\n"),
            Expect("(qemu)"),
            Type("\x01c"),
            Type("poweroff\n"),
        ],
        ..PLAIN
    },
    Scenario {
        name: "irqchip-split",
        arguments: &["-smp", "2", "-machine", "kernel-irqchip=split"],
        steps: IRQCHIP_STEPS,
        ..PLAIN
    },
    Scenario {
        name: "irqchip-off",
        arguments: &["-smp", "2", "-machine", "kernel-irqchip=off"],
        steps: IRQCHIP_STEPS,
        ..PLAIN
    },
    Scenario {
        name: "quit-key",
        steps: &[Expect(PROMPT), Type("\x01x"), Expect("QEMU: Terminated")],
        ..PLAIN
    },
];
