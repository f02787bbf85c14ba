//! Linux guests with disks.

use super::Format::Generic;
use super::Step::{Expect, Type};
use super::{PLAIN, PROMPT, Scenario, WITH_GENERIC_MODULES, WITH_MODULES};

/// Two CDs, of which the guest has one as a file of its own.
const L1_MAKES_CDS: &str = "dd if=/bin/busybox of=/tmp/first.iso bs=2048 conv=sync 2>/dev/null
seq 100000 | dd of=/tmp/second.iso bs=2048 conv=sync 2>/dev/null
";

/// A disk and a CD with a file system and a file each.
const L1_MAKES_IDE_DISKS: &str = "for f in /tmp/hda.raw /tmp/cd.iso; do
    dd if=/dev/zero of=$f bs=1M count=32 2>/dev/null; mke2fs -F -b 4096 $f >/dev/null; done
mkdir -p /m; mount -o loop /tmp/cd.iso /m && cp /bin/busybox /m/file; umount /m
";

/// What the guest copied is on the disk, and that was not changed that was only read.
const L1_LOOKS_AT_IDE_DISK: &str = "mount -o loop /tmp/hda.raw /m && cmp /bin/busybox /m/copied || STATUS=96
[ $(cat /m/said) = last-42 ] || STATUS=95
umount /m
";

/// All of them.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "pci-bridge",
        arguments: &[
            "-device",
            "pci-bridge,id=br1,chassis_nr=1",
            "-device",
            "pci-bridge,id=br2,chassis_nr=2,bus=br1,addr=1",
            "-drive",
            "file=/guest/disk.raw,format=raw,if=none,id=d0",
            "-drive",
            "file=/guest/disk.qcow2,if=none,id=d1",
            "-device",
            "virtio-blk-pci,drive=d0,bus=br2,addr=3,serial=deep",
        ],
        initrd: WITH_MODULES,
        steps: &[
            Expect(PROMPT),
            Type("load; readlink /sys/block/vda; cat /sys/block/vda/serial\n"),
            Expect("0000:00:02.0/0000:01:01.0/0000:02:03.0"),
            Expect("deep"),
            Expect(PROMPT),
            Type("\x01c"),
            Expect("(qemu)"),
            Type("device_add virtio-blk-pci,id=hot,drive=d1,bus=br2,addr=5\n"),
            Expect("(qemu)"),
            Type("\x01c"),
            Type("until [ -b /dev/vdb ]; do sleep 1; done; readlink /sys/block/vdb\n"),
            Expect("0000:02:05.0"),
            Type(
                "dd if=/dev/urandom of=/dev/vda bs=64k count=64 2>/dev/null; dd if=/dev/vda of=/dev/vdb bs=64k count=64; ",
            ),
            Type(
                "sync; echo 3 > /proc/sys/vm/drop_caches; cmp -n 4194304 /dev/vda /dev/vdb && echo same-$((40 + 2))\n",
            ),
            Expect("same-42"),
            Type("\x01c"),
            Expect("(qemu)"),
            Type("device_del hot\n"),
            Expect("(qemu)"),
            Type("\x01c"),
            Type("while [ -b /dev/vdb ]; do sleep 1; done; echo gone-$((40 + 2))\n"),
            Expect("gone-42"),
            Type("poweroff\n"),
        ],
        ..PLAIN
    },
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
        name: "ide-disks",
        format: Generic,
        arguments: &["-drive", "file=/tmp/hda.raw,format=raw", "-cdrom", "/tmp/cd.iso"],
        before: L1_MAKES_IDE_DISKS,
        after: L1_LOOKS_AT_IDE_DISK,
        initrd: WITH_GENERIC_MODULES,
        steps: &[
            Expect(PROMPT),
            Type("load; until [ -b /dev/sda -a -b /dev/sr0 ]; do sleep 1; done\n"),
            Expect(PROMPT),
            Type("echo $(cat /sys/block/sda/size /sys/block/sda/device/model /sys/block/sr0/device/model)\n"),
            Expect("65536 QEMU HARDDISK QEMU DVD-ROM"),
            Expect(PROMPT),
            Type("dmesg | grep -c 'ata.*UDMA/100' | sed s/^/dma-/\n"),
            Expect("dma-2"),
            Expect(PROMPT),
            Type("mkdir /cd /disk; mount -t ext4 -o ro /dev/sr0 /cd && mount -t ext4 /dev/sda /disk && "),
            Type("cp /cd/file /disk/copied && echo last-$((40 + 2)) > /disk/said && umount /disk && "),
            Type(
                "echo 3 > /proc/sys/vm/drop_caches; mount -t ext4 /dev/sda /disk && cmp /cd/file /disk/copied && ",
            ),
            Type("umount /disk && echo same-$((40 + 2))\n"),
            Expect("same-42"),
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
