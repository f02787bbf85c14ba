//! Linux guests with disks.

use super::Step::{Expect, Type};
use super::{PLAIN, PROMPT, Scenario, WITH_MODULES};

/// Two CDs, of which the guest has one as a file of its own.
const L1_MAKES_CDS: &str = "dd if=/bin/busybox of=/tmp/first.iso bs=2048 conv=sync 2>/dev/null
seq 100000 | dd of=/tmp/second.iso bs=2048 conv=sync 2>/dev/null
";

/// All of them.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "virtio-blk",
        arguments: &[
            "-smp",
            "2",
            "-object",
            "iothread,id=io0",
            "-drive",
            "file=/guest/disk.qcow2,if=virtio,discard=unmap",
            "-drive",
            "file=/guest/disk.raw,format=raw,if=none,id=d1",
            "-device",
            "virtio-blk-pci,drive=d1,iothread=io0,serial=second,num-queues=2",
        ],
        initrd: WITH_MODULES,
        steps: &[
            Expect(PROMPT),
            Type("load; cd /sys/block/vda; echo $(cat size serial) $(ls mq | wc -l)\n"),
            Expect("131072 second 2"),
            Expect(PROMPT),
            Type(
                "mke2fs -q /dev/vdb && mkdir /disk && mount /dev/vdb /disk && cp /bin/busybox /disk/a && umount /disk ",
            ),
            Type("&& mount /dev/vdb /disk && cmp /bin/busybox /disk/a && echo same-$((40 + 2))\n"),
            Expect("same-42"),
            Expect(PROMPT),
            Type("dd if=/dev/urandom of=/disk/b bs=64k count=256 conv=fsync 2>/dev/null; umount /disk; "),
            Type("dd if=/dev/vdb of=/dev/vda bs=1M 2>/dev/null; sync; echo 3 > /proc/sys/vm/drop_caches; "),
            Type("cmp /dev/vda /dev/vdb && echo copied-$((40 + 2))\n"),
            Expect("copied-42"),
            Type("poweroff\n"),
        ],
        ..PLAIN
    },
    Scenario {
        name: "scsi-disks",
        arguments: &[
            "-smp",
            "2",
            "-object",
            "iothread,id=io0",
            "-device",
            "virtio-scsi-pci,id=s0,iothread=io0,num_queues=2",
            "-drive",
            "file=/guest/disk.qcow2,if=none,id=d0,discard=unmap",
            "-device",
            "scsi-hd,bus=s0.0,scsi-id=0,drive=d0,serial=first",
            "-drive",
            "file=/guest/disk.raw,format=raw,if=none,id=d1,discard=unmap",
            "-device",
            "scsi-hd,bus=s0.0,scsi-id=1,drive=d1",
            "-drive",
            "file=/tmp/first.iso,format=raw,if=none,id=cd,media=cdrom",
            "-device",
            "scsi-cd,bus=s0.0,scsi-id=2,drive=cd,id=cd0",
        ],
        before: L1_MAKES_CDS,
        initrd: WITH_MODULES,
        steps: &[
            Expect(PROMPT),
            // The bus is looked at in the background: which of the disks is sda is not said.
            Type("load; until [ -b /dev/sda -a -b /dev/sdb -a -b /dev/sr0 ]; do sleep 1; done\n"),
            Expect(PROMPT),
            Type("echo $(cat /sys/block/sda/size /sys/block/sr0/device/model)\n"),
            Expect("131072 QEMU CD-ROM"),
            Expect(PROMPT),
            Type(
                "mke2fs -q /dev/sda && mkdir /disk && mount /dev/sda /disk && cp /bin/busybox /disk/a && umount /disk ",
            ),
            Type("&& mount /dev/sda /disk && cmp /bin/busybox /disk/a && echo same-$((40 + 2))\n"),
            Expect("same-42"),
            Expect(PROMPT),
            Type("dd if=/dev/urandom of=/disk/b bs=64k count=256 conv=fsync 2>/dev/null; umount /disk; "),
            Type("dd if=/dev/sda of=/dev/sdb bs=1M 2>/dev/null; sync; echo 3 > /proc/sys/vm/drop_caches; "),
            Type("cmp /dev/sda /dev/sdb && echo copied-$((40 + 2))\n"),
            Expect("copied-42"),
            Expect(PROMPT),
            Type("blkdiscard /dev/sda && head -c 1000000 /dev/sda | tr -d '\\0' | wc -c | sed s/^/left-/\n"),
            Expect("left-0"),
            Expect(PROMPT),
            // The medium, its end, another one put in through the monitor, and that one.
            Type(
                "n=$(stat -c %s /bin/busybox); head -c $n /dev/sr0 | cmp - /bin/busybox && echo first-$((40 + 2))\n",
            ),
            Expect("first-42"),
            Expect(PROMPT),
            Type("\u{1}c"),
            Expect("(qemu) "),
            Type("change cd /tmp/second.iso raw\n"),
            Expect("(qemu) "),
            Type("info block cd\n"),
            Expect("/tmp/second.iso (raw, read-only)"),
            Expect("(qemu) "),
            Type("\u{1}c\n"),
            Expect(PROMPT),
            Type(
                "seq 100000 > /tmp/n; head -c $(stat -c %s /tmp/n) /dev/sr0 | cmp - /tmp/n && echo second-$((40 + 2))\n",
            ),
            Expect("second-42"),
            Expect(PROMPT),
            Type("\u{1}c"),
            Expect("(qemu) "),
            Type("eject -f cd\n"),
            Expect("(qemu) "),
            Type("info block cd\n"),
            Expect("cd: [not inserted]"),
            Expect("(qemu) "),
            Type("\u{1}c\n"),
            Expect(PROMPT),
            Type("head -c 1 /dev/sr0\n"),
            Expect("No medium found"),
            Expect(PROMPT),
            Type("poweroff\n"),
        ],
        ..PLAIN
    },
];
