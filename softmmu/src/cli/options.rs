//! Every option of qemu-system-x86_64 7.2 (qemu-options.hx), and whether it is there yet.

use std::fmt::Write as _;

/// How much of an option there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It works.
    Full,
    /// The argument `none` works, which scripts pass.
    NoneOnly,
    /// It is refused by name.
    Later,
    /// QEMU has it for other targets.
    OtherTarget,
}

/// What is known of an option.
#[derive(Debug)]
pub struct OptionDef {
    /// Which one it is.
    pub id: OptionId,
    /// Its name, without the dash.
    pub name: &'static str,
    /// A second name.
    pub alias: Option<&'static str>,
    /// Whether an argument follows.
    pub has_arg: bool,
    /// How much of it there is.
    pub support: Support,
    /// How it is written, after its name.
    syntax: &'static str,
    /// What it does, in lines.
    help: &'static str,
    /// The heading above it.
    section: &'static str,
}

impl OptionId {
    /// What is known of it.
    pub fn def(self) -> &'static OptionDef {
        // The table and the enumeration come from one list.
        &OPTIONS[self as usize]
    }

    /// Its name, without the dash.
    pub fn name(self) -> &'static str {
        self.def().name
    }
}

/// The option of that name.
pub fn lookup(name: &str) -> Option<&'static OptionDef> {
    OPTIONS.iter().find(|option| option.name == name || option.alias == Some(name))
}

/// What `-version` prints.
pub fn version() -> String {
    // Tools read the version of QEMU that is spoken here from this line.
    format!("QEMU emulator version 7.2.0 (softmmu {})\n", env!("CARGO_PKG_VERSION"))
}

/// What `-h` prints.
pub fn help() -> String {
    let mut text = format!("{}usage: softmmu [options] [disk_image]\n", version());
    let mut section = "";
    for option in OPTIONS {
        if option.help.is_empty() {
            continue;
        }
        if option.section != section {
            section = option.section;
            let _ = write!(text, "\n{section}:\n");
        }
        text.push_str(&option.help_lines());
    }
    text.push_str("\nWhen using -nographic, press 'ctrl-a h' to get some help.\n");
    text
}

impl OptionDef {
    /// The name, and the description in a column behind it, or below it where there is no room.
    fn help_lines(&self) -> String {
        const COLUMN: usize = 16;
        let mut text = format!("-{}", self.name);
        if let Some(alias) = self.alias {
            let _ = write!(text, " or -{alias}");
        }
        if !self.syntax.is_empty() {
            let _ = write!(text, " {}", self.syntax);
        }
        let note = match self.support {
            Support::Full => "",
            Support::NoneOnly => " (only 'none' is supported yet)",
            Support::Later => " (not supported yet)",
            Support::OtherTarget => " (not for this target)",
        };
        for (number, line) in self.help.lines().enumerate() {
            let column = if number == 0 && text.len() < COLUMN { COLUMN - text.len() } else { COLUMN };
            if column == COLUMN {
                text.push('\n');
            }
            let _ = write!(text, "{:column$}{line}{}", "", if number == 0 { note } else { "" });
        }
        text.push('\n');
        text
    }
}

macro_rules! options {
    (@alias) => { None };
    (@alias $alias:literal) => { Some($alias) };
    (@arg flag) => { false };
    (@arg arg) => { true };
    ($($section:literal { $(
        $id:ident $name:literal $(| $alias:literal)? $arg:ident $support:ident $syntax:literal $help:literal;
    )* })*) => {
        /// An option of the command line.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum OptionId {
            $($(
                #[doc = concat!("`-", $name, "`.")]
                $id,
            )*)*
        }

        /// Every option, in the order of [`OptionId`].
        pub static OPTIONS: &[OptionDef] = &[$($(
            OptionDef {
                id: OptionId::$id,
                name: $name,
                alias: options!(@alias $($alias)?),
                has_arg: options!(@arg $arg),
                support: Support::$support,
                syntax: $syntax,
                help: $help,
                section: $section,
            },
        )*)*];
    };
}

options! {
    "Standard options" {
        Help "h" | "help" flag Full "" "print this and exit";
        Version "version" flag Full "" "print the version and exit";
        Machine "machine" | "M" arg Full "[type=]NAME[,PROP=VALUE[,...]]"
            "the machine to be ('-machine help' lists them) and its properties, such as\naccel=A[:B...] (accelerators to try in turn), vmport=on|off|auto,\nkernel-irqchip=on|off|split, mem-merge=on|off, dump-guest-core=on|off";
        Cpu "cpu" arg Full "MODEL[,[+|-]FEATURE][,FEATURE=VALUE]"
            "the processor's model and features ('-cpu help' lists them)";
        Accel "accel" arg Full "[accel=]NAME[,PROP=VALUE[,...]]"
            "the accelerator; given several times, the next is tried when one fails";
        Smp "smp" arg Full "[[cpus=]N][,maxcpus=N][,sockets=N][,dies=N][,clusters=N][,cores=N][,threads=N]"
            "number of processors (1) and their topology; what is not given is worked out,\ncores before sockets before threads";
        Numa "numa" arg Full "node[,memdev=ID][,cpus=FIRST[-LAST]][,nodeid=N][,initiator=N]|cpu,node-id=N[,socket-id=N][,...]|dist,src=N,dst=N,val=N|hmat-lb,...|hmat-cache,..."
            "NUMA nodes, their CPUs, how far they are apart and how fast their memory is";
        AddFd "add-fd" arg Full "fd=FD,set=SET[,opaque=TEXT]" "add a file descriptor to a set";
        Set "set" arg Full "GROUP.ID.ARG=VALUE" "change the option ARG of an earlier option that has an id";
        Global "global" arg Full "DRIVER.PROPERTY=VALUE" "a new default for a property of a type of devices";
        Boot "boot" arg Full "[order=DRIVES][,once=DRIVES][,menu=on|off][,splash=FILE][,splash-time=MS][,reboot-timeout=MS][,strict=on|off]"
            "what firmware boots from: floppy (a), hard disk (c), CD-ROM (d), network (n)";
        Memory "m" arg Full "[size=]MIB[,slots=N,maxmem=SIZE]"
            "guest memory (128 MiB), in MiB or with a suffix b, k, M, G, T, P, E;\nslots and maxmem leave room for more";
        MemPath "mem-path" arg Full "FILE" "keep guest memory in a file, or in files of a directory";
        MemPrealloc "mem-prealloc" flag Full "" "have all guest memory from the start";
        Keyboard "k" arg Later "LANGUAGE" "keyboard layout";
        AudioHelp "audio-help" flag Later "" "print the audio options that stand for the environment's";
        Audio "audio" arg Later "[driver=]DRIVER,model=MODEL[,PROP=VALUE[,...]]" "an audio backend and its device";
        Audiodev "audiodev" arg Full "[driver=]none,id=ID[,PROP=VALUE[,...]]" "an audio backend";
        Device "device" arg Full "DRIVER[,PROP=VALUE[,...]]"
            "add a device ('-device help' lists them, '-device DRIVER,help' its properties),\nor the same as a JSON object";
        Name "name" arg Full "[guest=]NAME[,process=NAME][,debug-threads=on|off]"
            "the guest's name, the process's, and whether threads have names";
        Uuid "uuid" arg Full "UUID" "the machine's UUID, 8-4-4-4-12 hexadecimal digits";
    }
    "Block device options" {
        Fda "fda" arg Full "FILE" "image for floppy disk 0";
        Fdb "fdb" arg Full "FILE" "image for floppy disk 1";
        Hda "hda" arg Full "FILE" "image for hard disk 0";
        Hdb "hdb" arg Full "FILE" "image for hard disk 1";
        Hdc "hdc" arg Full "FILE" "image for hard disk 2";
        Hdd "hdd" arg Full "FILE" "image for hard disk 3";
        Cdrom "cdrom" arg Full "FILE" "image for the CD-ROM drive";
        Blockdev "blockdev" arg Full "[driver=]DRIVER[,node-name=NAME][,...]" "a block backend";
        Drive "drive" arg Full "[file=FILE][,if=TYPE][,format=FORMAT][,id=ID][,...]" "an image as a drive";
        Mtdblock "mtdblock" arg Later "FILE" "image for on-board flash memory";
        Sd "sd" arg Later "FILE" "image for an SD card";
        Snapshot "snapshot" flag Full "" "write to temporary files, not to images";
        Fsdev "fsdev" arg Full "local|synth,id=ID[,...]" "a directory to share";
        Virtfs "virtfs" arg Full "local|synth,mount_tag=TAG[,...]" "a directory to share, and the device for it";
        Iscsi "iscsi" arg Later "[user=USER][,initiator-name=NAME][,...]" "parameters of iSCSI sessions";
    }
    "USB convenience options" {
        Usb "usb" flag Later "" "an on-board USB controller";
        Usbdevice "usbdevice" arg Later "NAME" "add a USB device";
    }
    "Display options" {
        Display "display" arg NoneOnly "none" "where the screen is shown";
        Nographic "nographic" flag Full "" "no screen; serial port and monitor share the terminal";
        Spice "spice" arg Later "[port=PORT][,...]" "show the screen by SPICE";
        Portrait "portrait" flag Later "" "turn the screen by 90 degrees";
        Rotate "rotate" arg Later "DEGREES" "turn the screen";
        Vga "vga" arg NoneOnly "none" "the display adapter";
        FullScreen "full-screen" flag Later "" "start in full screen";
        Resolution "g" arg OtherTarget "WxH[xDEPTH]" "";
        Vnc "vnc" arg NoneOnly "none" "show the screen by VNC";
    }
    "i386 target only" {
        Win2kHack "win2k-hack" flag Later "" "for the installation of Windows 2000";
        NoFdBootchk "no-fd-bootchk" flag Full "" "boot from floppy disks without boot signature";
        NoAcpi "no-acpi" flag Full "" "no ACPI";
        NoHpet "no-hpet" flag Full "" "no HPET";
        Acpitable "acpitable" arg Full "[sig=TEXT][,...],data|file=FILE[:FILE...]" "one more ACPI table";
        Smbios "smbios" arg Full "file=FILE|type=N[,FIELD=VALUE...]" "SMBIOS structures, or fields of them";
    }
    "Network options" {
        Netdev "netdev" arg Full "TYPE,id=ID[,...]"
            "a network backend: user, tap, socket, stream, dgram, hubport ('-netdev help' lists them)";
        Nic "nic" arg Full "[TYPE],model=MODEL[,mac=ADDR][,...]|none"
            "a network card and its backend (user)";
        Net "net" arg Full "nic,model=MODEL[,macaddr=ADDR][,...]|TYPE[,...]|none"
            "a network card or backend on hub 0, the old way";
    }
    "Character device options" {
        Chardev "chardev" arg Full "BACKEND,id=ID[,mux=on|off][,...]"
            "a character device: null, stdio, file, pipe, pty, socket (host=,port= or path=,\nserver=on|off, wait=on|off), ringbuf, serial ('-chardev help' lists them)";
    }
    "TPM device options" {
        Tpmdev "tpmdev" arg Later "passthrough|emulator,id=ID[,...]" "a TPM backend";
    }
    "Boot Image or Kernel specific" {
        Bios "bios" arg Full "FILE" "firmware";
        Pflash "pflash" arg Full "FILE" "an image of flash memory, for firmware";
        Kernel "kernel" arg Full "FILE" "boot this kernel: bzImage, ELF with a PVH note, Multiboot";
        Append "append" arg Full "TEXT" "the kernel's command line";
        Initrd "initrd" arg Full "FILE" "the kernel's initial RAM disk; modules 'FILE ARGS,FILE2 ARGS' for Multiboot";
        Dtb "dtb" arg Later "FILE" "a device tree for the kernel";
    }
    "Debug/Expert options" {
        Compat "compat" arg Later "[deprecated-input=accept|reject|crash][,...]" "what to do about deprecated interfaces";
        FwCfg "fw_cfg" arg Full "[name=]NAME,file=FILE|string=TEXT|gen_id=ID" "one more fw_cfg file";
        Serial "serial" arg Full "DEV" "the next serial port's character device: none, null, stdio, mon:stdio, pty,\nfile:FILE, pipe:FILE, unix:PATH[,server=on], tcp:HOST:PORT[,server=on], chardev:ID";
        Parallel "parallel" arg NoneOnly "none" "the next parallel port's character device";
        Monitor "monitor" arg Full "DEV" "the monitor's character device, as for -serial";
        Qmp "qmp" arg Full "DEV" "a monitor for programs";
        QmpPretty "qmp-pretty" arg Full "DEV" "the same, its output indented";
        Mon "mon" arg Full "[chardev=]ID[,mode=readline|control][,pretty=on|off]" "a monitor on a chardev";
        Debugcon "debugcon" arg Full "DEV" "character device for the debug console at port 0xe9";
        Pidfile "pidfile" arg Full "FILE" "write the process id to a file";
        Singlestep "singlestep" flag Later "" "one instruction at a time";
        Preconfig "preconfig" flag Full "" "wait before the machine is made";
        Stop "S" flag Full "" "do not start the processors";
        Overcommit "overcommit" arg Full "[mem-lock=on|off][,cpu-pm=on|off]"
            "lock guest memory; let the guest idle the host's processors";
        Gdb "gdb" arg Full "DEV" "wait for gdb on a character device";
        GdbDefault "s" flag Full "" "the same as -gdb tcp::1234";
        LogItems "d" arg Full "ITEM[,...]" "what to log ('-d help' lists it)";
        LogFile "D" arg Full "FILE" "where to log to (stderr)";
        Dfilter "dfilter" arg Later "RANGE[,...]" "log only what happens in these addresses";
        Seed "seed" arg Later "NUMBER" "start random numbers here";
        DataDir "L" arg Full "DIR" "where firmware is looked for";
        EnableKvm "enable-kvm" flag Full "" "the same as -machine accel=kvm";
        XenDomid "xen-domid" arg OtherTarget "ID" "";
        XenAttach "xen-attach" flag OtherTarget "" "";
        XenDomidRestrict "xen-domid-restrict" flag OtherTarget "" "";
        NoReboot "no-reboot" flag Full "" "exit when the guest reboots";
        NoShutdown "no-shutdown" flag Full "" "stop, but do not exit, when the guest powers off";
        Action "action" arg Full "[reboot=reset|shutdown][,shutdown=poweroff|pause][,panic=pause|shutdown|exit-failure|none][,watchdog=ACTION]"
            "what happens when the guest reboots, powers off, panics or lets the watchdog fire";
        Loadvm "loadvm" arg Later "TAG" "start in a saved state";
        Daemonize "daemonize" flag Full "" "go to the background when the machine is ready";
        OptionRom "option-rom" arg Full "[romfile=]FILE[,bootindex=N]" "one more option ROM";
        Rtc "rtc" arg Full "[base=utc|localtime|DATETIME][,clock=host|rt|vm][,driftfix=none|slew]"
            "the real-time clock's start and source, and whether lost ticks are made up for";
        Icount "icount" arg Full "[shift=N|auto][,...]" "count instructions as time: none of the accelerators can";
        WatchdogAction "watchdog-action" arg Full "ACTION" "the same as -action watchdog=ACTION";
        Echr "echr" arg Full "CHAR" "the terminal's escape character, as a number (ctrl-a)";
        Incoming "incoming" arg Later "URI" "wait for a machine to migrate here";
        OnlyMigratable "only-migratable" flag Later "" "refuse devices that cannot migrate";
        Nodefaults "nodefaults" flag Full "" "no devices but those the board must have and those given";
        Chroot "chroot" arg Full "DIR" "give up all files but those in this directory, once the machine is made";
        Runas "runas" arg Full "USER|UID:GID" "become this user, once the machine is made";
        Prom "prom-env" arg OtherTarget "" "";
        Semihosting "semihosting" flag OtherTarget "" "";
        SemihostingConfig "semihosting-config" arg OtherTarget "" "";
        OldParam "old-param" flag OtherTarget "" "";
        Sandbox "sandbox" arg Full "on|off[,obsolete=allow|deny][,elevateprivileges=allow|deny|children][,spawn=allow|deny][,resourcecontrol=allow|deny]"
            "have the host refuse system calls that the program does not need";
        Readconfig "readconfig" arg Full "FILE" "read options from a file";
        NoUserConfig "no-user-config" flag Full "" "read no configuration files but those given (there are no others)";
        Trace "trace" arg Full "[[enable=]PATTERN][,events=FILE][,file=FILE]"
            "trace events ('-trace help' lists them); startup prints the steps of making the machine";
        Qtest "qtest" arg Full "DEV" "";
        QtestLog "qtest-log" arg Full "FILE" "";
        Plugin "plugin" arg Later "[file=]FILE[,NAME=VALUE]" "load a plugin";
        AsyncTeardown "async-teardown" flag Later "" "tear down in the background";
        Msg "msg" arg Full "[timestamp=on|off][,guest-name=on|off]" "what messages begin with";
        DumpVmstate "dump-vmstate" arg Later "FILE" "write the devices' state descriptions to a file";
        EnableSyncProfile "enable-sync-profile" flag Later "" "profile locks";
    }
    "Generic object creation" {
        Object "object" arg Full "TYPE,id=ID[,PROP=VALUE[,...]]" "make an object, such as a memory backend, at /objects/ID";
    }
}
