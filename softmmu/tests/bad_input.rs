//! What the user gets wrong, or the host does not give: a line that says what, status 1, nothing left behind.

mod common;

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{guest, run, softmmu};
use pack::Format;

/// Arguments without which more would be set up than a refusal needs.
const BASE: [&str; 3] = ["-nodefaults", "-display", "none"];

/// Runs the program with arguments it must refuse, with these lines on stderr.
#[track_caller]
fn refused(arguments: &[&str], lines: &[&str]) {
    let ended = run(softmmu(BASE).args(arguments));
    assert_eq!(ended.complaints(), lines, "{arguments:?}");
    assert_eq!(ended.status, Some(1), "{arguments:?}");
    assert_eq!(ended.stdout, "", "{arguments:?}");
}

/// Runs the program with arguments it must take: the guest runs and leaves with the status that says so.
/// Gives the lines on stderr.
#[track_caller]
fn accepted(arguments: &[&str]) -> Vec<String> {
    let kernel = guest("first", Format::Pvh);
    let mut command = softmmu(pack::cases::BASE);
    let ended = run(command.arg("-kernel").arg(kernel).args(arguments));
    assert!(ended.stdout.contains('F'), "{arguments:?}: {ended:?}");
    ended.complaints().into_iter().map(str::to_owned).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A file with contents.
fn file(directory: &tempfile::TempDir, name: &str, contents: &[u8]) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, contents).expect("a file");
    path
}

#[test]
fn a_kernel_that_is_none_is_refused_with_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let refused = |path: &Path, why: &str| {
        let path = text(path);
        refused(&["-kernel", path], &[&format!("softmmu: could not load kernel '{path}': {why}")]);
    };
    refused(&file(&directory, "empty", b""), "the file is empty");
    refused(&file(&directory, "text", b"no kernel\n"), "not a bzImage, Multiboot or ELF kernel");
    let missing = "softmmu: could not open kernel file '/no/such/file': No such file or directory";
    self::refused(&["-kernel", "/no/such/file"], &[missing]);
    let path = text(directory.path());
    let is_directory = format!("softmmu: could not open kernel file '{path}': Is a directory");
    self::refused(&["-kernel", path], &[&is_directory]);
}

#[test]
fn system_management_mode_is_refused_where_kvm_has_none() {
    let kvm = accel_kvm::kvm_ioctls::Kvm::new().expect("KVM");
    if kvm.check_extension(accel_kvm::kvm_ioctls::Cap::X86Smm) {
        accepted(&["-machine", "smm=on"]);
    } else {
        let line = "softmmu: System Management Mode not supported by this hypervisor.";
        refused(&["-machine", "smm=on"], &[line]);
    }
    accepted(&["-machine", "smm=off"]);
}

#[test]
fn a_truncated_kernel_of_each_format_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for format in Format::ALL {
        let whole = fs::read(guest("hello", format)).unwrap();
        let half = file(&directory, format.extension(), &whole[..6000]);
        let ended = run(softmmu(BASE).arg("-kernel").arg(&half));
        let start = format!("softmmu: could not load kernel '{}': truncated file (need ", text(&half));
        match ended.complaints()[..] {
            [line] => assert!(line.starts_with(&start) && line.ends_with("have 6000)"), "{format:?}: {line}"),
            _ => panic!("{format:?}: {ended:?}"),
        }
        assert_eq!(ended.status, Some(1), "{format:?}");
    }
}

#[test]
fn an_initrd_must_exist_and_fit_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let large = file(&directory, "large", b"");
    fs::File::options().write(true).open(&large).unwrap().set_len(2 << 30).unwrap();
    for format in Format::ALL {
        let kernel = guest("hello", format);
        for (initrd, why) in [(text(&large), "too large|fit"), ("/no/such/file", "/no/such/file")] {
            let ended = run(softmmu(BASE).args(["-m", "64", "-kernel", text(&kernel), "-initrd", initrd]));
            let complaints = ended.complaints();
            let [line] = complaints[..] else { panic!("{format:?}: {ended:?}") };
            assert!(why.split('|').any(|part| line.contains(part)), "{format:?}: {line}");
            assert_eq!(ended.status, Some(1), "{format:?}");
        }
    }
    refused(&["-initrd", "x"], &["softmmu: -initrd only allowed with -kernel option"]);
    refused(&["-append", "x"], &["softmmu: -append only allowed with -kernel option"]);
}

#[test]
fn gdb_needs_a_processor_and_a_device() {
    let line = "softmmu: -s: gdbstub: meaningless to attach gdb to a machine without any CPU.";
    refused(&["-M", "none", "-s"], &[line]);
    refused(&["-S", "-gdb", "foo"], &["softmmu: -gdb foo: 'foo' is not a valid char driver"]);
}

#[test]
fn memory_sizes_that_no_machine_has_are_refused() {
    refused(&["-m", "1E"], &["softmmu: -m: ram size 0x1000000000000000 is too large"]);
    for size in ["1X", "-1", "much"] {
        let line = format!("softmmu: -m {size}: Parameter 'size' expects a non-negative number below 2^64");
        let suffixes = "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-";
        refused(&["-m", size], &[&line, suffixes, "and exabytes, respectively."]);
    }
}

#[test]
fn no_memory_and_no_cpus_mean_the_default() {
    assert_eq!(accepted(&["-m", "0"]), [] as [&str; 0]);
    let warning = "softmmu: warning: Deprecated CPU topology (considered invalid): \
                   CPU topology parameters must be greater than zero";
    assert_eq!(accepted(&["-smp", "0"]), [warning]);
}

#[test]
fn cpus_that_do_not_multiply_up_are_refused() {
    refused(
        &["-smp", "9999"],
        &["softmmu: Invalid SMP CPUs 9999. The max CPUs supported by machine 'pc-i440fx-7.2' is 255"],
    );
    refused(
        &["-smp", "2,sockets=3"],
        &["softmmu: Invalid CPU topology: product of the hierarchy must match maxcpus: \
           sockets (3) * dies (1) * cores (0) * threads (1) != maxcpus (2)"],
    );
    refused(&["-smp", "many"], &["softmmu: Parameter 'smp.cpus' expects integer"]);
}

#[test]
fn an_unknown_cpu_model_or_feature_is_refused_by_name() {
    let unknown = "Property 'qemu64-x86_64-cpu.nosuch' not found";
    refused(&["-cpu", "nosuch"], &["softmmu: unable to find CPU model 'nosuch'"]);
    refused(&["-cpu", "qemu64,+nosuch"], &[&format!("softmmu: {unknown}")]);
    refused(
        &["-cpu", "qemu64,nosuch=on"],
        &[&format!("softmmu: can't apply global qemu64-x86_64-cpu.nosuch=on: {unknown}")],
    );
    refused(
        &["-cpu", "qemu64,level=abc"],
        &["softmmu: can't apply global qemu64-x86_64-cpu.level=abc: Parameter 'level' expects uint64"],
    );
}

#[test]
fn an_unknown_machine_or_machine_property_is_refused() {
    let hint = "Use -machine help to list supported machines";
    refused(&["-machine", "nosuch"], &["softmmu: unsupported machine type", hint]);
    refused(&["-M", "pc,nosuch=1"], &["softmmu: Property 'pc-i440fx-7.2-machine.nosuch' not found"]);
    refused(&["-M", "pc,pit=maybe"], &["softmmu: Parameter 'pit' does not accept value 'maybe'"]);
    refused(
        &["-global", "isa-debug-exit.nosuch=1", "-device", "isa-debug-exit"],
        &[
            "softmmu: -device isa-debug-exit: can't apply global isa-debug-exit.nosuch=1: Property 'isa-debug-exit.nosuch' not found",
        ],
    );
}

#[test]
fn a_device_that_cannot_be_is_refused_with_the_option() {
    for (device, why) in [
        ("nosuch", "'nosuch' is not a valid device model name"),
        ("i8042", "Parameter 'driver' expects a pluggable device type"),
        ("isa-serial,nosuch=1", "Property 'isa-serial.nosuch' not found"),
        ("isa-debug-exit,iobase=xyz", "Parameter 'iobase' expects integer"),
        ("isa-debug-exit,iobase=-1", "Parameter 'iobase' expects uint32_t"),
        ("isa-debugcon,chardev=nosuch", "Property 'isa-debugcon.chardev' can't find value 'nosuch'"),
        ("{\"driver\":", "JSON parse error, premature EOI"),
        ("{}", "Parameter 'driver' is missing"),
        ("{\"driver\":\"isa-debug-exit\",\"nosuch\":1}", "Property 'isa-debug-exit.nosuch' not found"),
        ("{\"driver\":\"isa-debug-exit\",\"iobase\":true}", "Parameter 'iobase' expects uint64"),
    ] {
        refused(&["-device", device], &[&format!("softmmu: -device {device}: {why}")]);
    }
    let twice = "isa-debug-exit,id=a";
    refused(
        &["-device", twice, "-device", twice],
        &[&format!("softmmu: -device {twice}: Duplicate ID 'a' for device")],
    );
}

#[test]
fn an_object_that_cannot_be_is_refused_with_the_option() {
    for (object, why) in [
        ("nosuch,id=a", "Parameter 'qom-type' does not accept value 'nosuch'"),
        ("memory-backend-ram", "Parameter 'id' is missing"),
        ("memory-backend-memfd,id=a,size=1M,nosuch=1", "Invalid parameter 'nosuch'"),
        ("memory-backend-ram,id=a,size=foo", "Parameter 'size' expects size"),
        ("memory-backend-ram,id=a,size=1M,share=maybe", "Parameter 'share' expects 'on' or 'off'"),
        ("memory-backend-ram,id=a", "Parameter 'size' is missing"),
        ("memory-backend-file,id=a,size=1M", "Parameter 'mem-path' is missing"),
        ("iothread,id=a,poll-grow=-1", "poll-grow value must be in range [0, 9223372036854775807]"),
    ] {
        refused(&["-object", object], &[&format!("softmmu: -object {object}: {why}")]);
    }
    let twice = "memory-backend-ram,id=a,size=1M";
    let line = format!("softmmu: -object {twice}: Duplicate ID 'a' for object");
    refused(&["-object", twice, "-object", twice], &[&line]);
    // What comes to light when the object is made is told without the option, as QEMU does.
    let missing = "memory-backend-file,id=a,size=1M,mem-path=/nonexistent/x";
    let why = "softmmu: can't open backing store /nonexistent/x for guest RAM: No such file or directory";
    refused(&["-object", missing], &[why]);
    let zero = "memory-backend-ram,id=a,size=0";
    let why = "property 'size' of memory-backend-ram doesn't take value '0'";
    refused(&["-object", zero], &[&format!("softmmu: -object {zero}: {why}")]);
}

#[test]
fn a_chardev_that_cannot_be_is_refused_with_the_option() {
    for (chardev, why) in [
        ("foo,id=x", "'foo' is not a valid char driver name"),
        ("null", "chardev: no id specified"),
        ("stdio,id=x,nosuch=1", "Invalid parameter 'nosuch'"),
        ("file,id=x", "chardev: file: no filename given"),
        ("file,id=x,path=/nonexistent/f", "Could not open '/nonexistent/f': No such file or directory"),
        (
            "socket,id=x,path=/nonexistent/s",
            "Failed to connect to '/nonexistent/s': No such file or directory",
        ),
        ("ringbuf,id=x,size=3", "size of ringbuf chardev must be power of two"),
    ] {
        refused(&["-chardev", chardev], &[&format!("softmmu: -chardev {chardev}: {why}")]);
    }
}

#[test]
fn instructions_are_counted_by_no_accelerator() {
    let none = "softmmu: -icount is not allowed with hardware virtualization";
    refused(&["-accel", "qtest", "-icount", "shift=auto"], &[none]);
    refused(&["-accel", "qtest", "-icount", "7", "-icount", "sleep=off"], &[none]);
    for (icount, why) in [
        ("foo=1", "Invalid parameter 'foo'"),
        ("shift=11", "icount: Invalid shift value"),
        ("align=on", "Please specify shift option when using align"),
        ("1,align=on,sleep=off", "align=on and sleep=off are incompatible"),
        ("auto,align=on", "shift=auto and align=on are incompatible"),
        ("auto,sleep=off", "shift=auto and sleep=off are incompatible"),
        ("1,rr=record", "File name not specified for replay"),
        ("1,rr=x", "Invalid icount rr option: x"),
    ] {
        refused(&["-icount", icount], &[&format!("softmmu: -icount {icount}: {why}")]);
    }
}

#[test]
fn a_hole_beyond_all_addresses_is_refused() {
    let hole = "i440FX-pcihost.pci-hole64-size=1T";
    let why = "Address space limit 0xffffffffff < 0x100ffffffff phys-bits too low (40)";
    refused(&["-accel", "qtest", "-nodefaults", "-global", hole], &[&format!("softmmu: {why}")]);
}

#[test]
fn an_accelerator_that_cannot_be_is_refused_with_the_option() {
    let line = "softmmu: -accel nosuch: invalid accelerator nosuch";
    refused(&["-accel", "nosuch"], &[line]);
    let line = "softmmu: -accel kvm,nosuch=1: Property 'kvm-accel.nosuch' not found";
    refused(&["-accel", "kvm,nosuch=1"], &[line]);
}

#[test]
fn a_trace_event_that_does_not_exist_draws_a_warning_with_the_option() {
    let warnings = accepted(&["-trace", "nosuch"]);
    assert_eq!(warnings, ["softmmu: -trace nosuch: warning: trace event 'nosuch' does not exist"]);
}

#[test]
fn a_boot_order_that_cannot_be_is_refused() {
    for (boot, why) in [
        ("order=zz", "Invalid boot device 'z'"),
        ("cc", "Boot device 'c' was given twice"),
        ("cadn", "Too many boot devices for PC"),
        ("once=e", "Invalid boot device for PC: 'e'"),
        ("nosuch=1", "Parameter 'boot.nosuch' is unexpected"),
        ("reboot-timeout=70000", "reboot timeout is invalid,it should be a value between -1 and 65535"),
    ] {
        refused(&["-boot", boot], &[&format!("softmmu: {why}")]);
    }
}

#[test]
fn memory_is_locked_and_idling_left_to_the_guest_if_the_host_lets_it() {
    let ended = run(softmmu(pack::cases::BASE).arg("-kernel").arg(guest("first", Format::Pvh)).args([
        "-m",
        "16",
        "-overcommit",
        "mem-lock=on",
    ]));
    match ended.status {
        Some(1) if ended.stdout.contains('F') => assert_eq!(ended.complaints(), [] as [&str; 0]),
        // A user may lock as much as the host says.
        _ => assert_eq!(ended.complaints().last(), Some(&"softmmu: locking memory failed"), "{ended:?}"),
    }
    let _ = accepted(&["-overcommit", "cpu-pm=on"]);
    let why = "-overcommit mem-lock=maybe: Parameter 'mem-lock' expects 'on' or 'off'";
    refused(&["-overcommit", "mem-lock=maybe"], &[&format!("softmmu: {why}")]);
}

#[test]
fn an_option_that_does_not_exist_or_not_yet_is_refused_by_name() {
    refused(&["-nosuch"], &["softmmu: -nosuch: invalid option"]);
    refused(&["-kernel"], &["softmmu: -kernel: requires an argument"]);
    refused(&["-vga", "std"], &["softmmu: -vga std: -vga: only 'none' is supported yet"]);
    refused(
        &["-drive", "file=x"],
        &["softmmu: -drive file=x: Could not open 'x': No such file or directory"],
    );
    refused(&["x"], &["softmmu: x: Could not open 'x': No such file or directory"]);
    refused(&["-uuid", "x"], &["softmmu: -uuid x: failed to parse UUID string: wrong format"]);
    refused(&["-d", "nosuch"], &["softmmu: unknown log item 'nosuch' (see '-d help')"]);
    refused(
        &["-readconfig", "/no/such/file"],
        &["softmmu: -readconfig /no/such/file: Could not open '/no/such/file': No such file or directory"],
    );
    refused(
        &["-bios", "/no/such/file"],
        &["softmmu: could not load PC BIOS '/no/such/file': No such file or directory"],
    );
}

#[test]
fn none_of_what_comes_later_is_taken() {
    let none = ["-vga", "-nic", "-net", "-parallel", "-monitor", "-vnc"];
    let arguments: Vec<&str> = none.iter().flat_map(|option| [option, "none"]).collect();
    assert_eq!(accepted(&arguments), [] as [&str; 0]);
}

#[test]
fn interrupt_controllers_may_be_outside_the_kernel() {
    for how in ["on", "split"] {
        assert_eq!(accepted(&["-machine", &format!("pc,kernel-irqchip={how}")]), [] as [&str; 0]);
    }
    let warnings = [
        "softmmu: warning: Userspace local APIC is deprecated for KVM.",
        "softmmu: warning: Do not use kernel-irqchip except for the -M isapc machine type.",
    ];
    assert_eq!(accepted(&["-accel", "kvm,kernel-irqchip=off"]), warnings);
}

#[test]
fn an_accelerator_that_is_not_there_is_named_and_the_next_one_tried() {
    let no_tcg = "softmmu: invalid accelerator tcg";
    let accel_no_tcg = "softmmu: -accel tcg: invalid accelerator tcg";
    refused(&["-accel", "tcg"], &[accel_no_tcg]);
    refused(&["-machine", "accel=tcg"], &[no_tcg]);
    assert_eq!(accepted(&["-accel", "tcg", "-accel", "kvm"]), [accel_no_tcg, "softmmu: falling back to kvm"]);
    // A list in one option says nothing about those that are not there.
    assert_eq!(accepted(&["-machine", "accel=tcg:kvm"]), [no_tcg, "softmmu: falling back to kvm"]);
}

#[test]
fn a_character_device_that_cannot_be_is_refused() {
    for (serial, why) in [
        ("nosuch", "'nosuch' is not a valid char driver"),
        ("file:/no/such/file", "Could not open '/no/such/file': No such file or directory"),
        ("unix:/no/such/file", "Failed to connect to '/no/such/file': No such file or directory"),
    ] {
        serial_refused(serial, why);
    }
    let why = "could not connect serial device to character backend 'chardev:nosuch'";
    refused(&["-serial", "chardev:nosuch"], &[&format!("softmmu: -serial chardev:nosuch: {why}")]);
}

/// Why a port has no character device, and what follows from it.
#[track_caller]
fn serial_refused(serial: &str, why: &str) {
    let then = format!("could not connect serial device to character backend '{serial}'");
    let lines = [why, &then].map(|text| format!("softmmu: -serial {serial}: {text}"));
    refused(&["-serial", serial], &lines.each_ref().map(String::as_str));
}

#[test]
fn a_socket_path_that_a_server_listens_at_is_left_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let _server = UnixListener::bind(&path).unwrap();
    let serial = format!("unix:{},server=on,wait=off", text(&path));
    let why = format!("Failed to bind socket to {}: Address already in use", text(&path));
    serial_refused(&serial, &why);
    assert!(path.exists(), "the socket is its server's");
}

#[test]
fn a_program_that_fails_leaves_no_file_behind() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let ended = run(softmmu(BASE)
        .arg("-pidfile")
        .arg(path("pid"))
        .arg("-serial")
        .arg(format!("unix:{},server=on,wait=off", text(&path("socket"))))
        .args(["-device", "nosuch"]));
    assert_eq!(ended.status, Some(1));
    let left: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, [] as [PathBuf; 0]);
}

/// Runs the program where a shell command, in mounts of its own, has done something to `/dev/kvm`; `$1` is a
/// file for it.
fn with_dev_kvm(how: &str) -> common::Ended {
    let file = tempfile::NamedTempFile::new().unwrap();
    let script = format!("set -e; {how} \"$0\" -nodefaults -display none");
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]);
    run(command.arg(env!("CARGO_BIN_EXE_softmmu")).arg(file.path()).stdin(Stdio::null()))
}

const FAILED: &str = "softmmu: failed to initialize kvm: ";

#[test]
fn without_dev_kvm_the_user_is_told_what_to_do() {
    let missing = format!("{FAILED}Could not access KVM kernel module: No such file or directory");
    let to_do = "softmmu: /dev/kvm is missing: load the kernel module (modprobe kvm-intel or kvm-amd) \
                 and enable virtualization in the firmware's setup";
    let ended = with_dev_kvm("mount -t tmpfs none /dev; exec");
    assert_eq!((ended.complaints(), ended.status), (vec![missing.as_str(), to_do], Some(1)));
}

#[test]
fn who_may_not_open_dev_kvm_is_told_what_to_do() {
    let forbidden = format!("{FAILED}Could not access KVM kernel module: Permission denied");
    let to_do = "softmmu: /dev/kvm is not yours to open: join the group that owns it \
                 (usermod -aG kvm USER, then log in again)";
    // Even root needs a capability to open what nobody may.
    let nobody = "chmod 0 $1; mount --bind $1 /dev/kvm; exec setpriv --bounding-set=-all --inh-caps=-all";
    let ended = with_dev_kvm(nobody);
    assert_eq!((ended.complaints(), ended.status), (vec![forbidden.as_str(), to_do], Some(1)));
}

#[test]
fn a_dev_kvm_that_is_something_else_is_refused() {
    let other = format!("{FAILED}/dev/kvm is not the KVM module's device");
    for what in ["/dev/null", "$1"] {
        let ended = with_dev_kvm(&format!("mount --bind {what} /dev/kvm; exec"));
        assert_eq!((ended.complaints(), ended.status), (vec![other.as_str()], Some(1)), "{what}");
    }
}

#[test]
fn numa_nodes_that_do_not_fit_are_refused() {
    refused(
        &["-numa", "node"],
        &["softmmu: total memory for NUMA nodes (0x0) should equal RAM size (0x8000000)"],
    );
    refused(
        &["-numa", "node,nodeid=0", "-numa", "node,nodeid=0"],
        &["softmmu: -numa node,nodeid=0: Duplicate NUMA nodeid: 0"],
    );
    refused(
        &["-numa", "node,nodeid=1,cpus=7"],
        &["softmmu: -numa node,nodeid=1,cpus=7: CPU index (7) should be smaller than maxcpus (1)"],
    );
    refused(&["-numa", "node,bar=7"], &["softmmu: -numa node,bar=7: Invalid parameter 'bar'"]);
}

#[test]
fn firmware_files_and_tables_that_cannot_be_are_refused() {
    refused(
        &["-fw_cfg", "opt/x"],
        &["softmmu: -fw_cfg opt/x: name, plus exactly one of file, string and gen_id, are needed"],
    );
    refused(
        &["-acpitable", "sig=X"],
        &["softmmu: -acpitable sig=X: '-acpitable' requires one of 'data' or 'file'"],
    );
    refused(&["-smbios", "x=1"], &["softmmu: -smbios x=1: Must specify type= or file="]);
}

#[test]
fn sandboxes_that_do_not_exist_are_refused() {
    for option in ["obsolete", "elevateprivileges", "spawn", "resourcecontrol"] {
        let argument = format!("on,{option}=maybe");
        let line = format!("softmmu: -sandbox {argument}: invalid argument for {option}");
        refused(&["-sandbox", &argument], &[&line]);
    }
}

#[test]
fn devices_that_there_is_one_of_are_refused_twice() {
    for device in ["vmgenid", "vmcoreinfo"] {
        let line = format!("softmmu: -device {device}: at most one {device} device is permitted");
        refused(&["-device", device, "-device", device], &[&line]);
    }
    refused(
        &["-device", "vmgenid,guid=x"],
        &["softmmu: -device vmgenid,guid=x: Property 'vmgenid.guid' doesn't take value 'x'"],
    );
}

#[test]
fn flash_memory_that_does_not_fit_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let odd = file(&directory, "odd", &[0; 5000]);
    let large = file(&directory, "large", &vec![0; 9 << 20]);
    let page = file(&directory, "page", &[0; 4096]);
    let drive = |path: &Path, more: &str| format!("if=pflash,format=raw,file={}{more}", text(path));
    let invalid = "softmmu: system firmware block device pflash0 has invalid size 5000";
    let hint = "its size must be a non-zero multiple of 0x1000";
    refused(&["-drive", &drive(&odd, "")], &[invalid, hint]);
    refused(
        &["-drive", &drive(&large, "")],
        &["softmmu: combined size of system firmware exceeds 8388608 bytes"],
    );
    refused(&["-drive", &drive(&page, ",unit=1")], &["softmmu: pflash1 requires pflash0"]);
    let node = format!("driver=file,node-name=n,filename={}", text(&page));
    let drive = drive(&page, "");
    let twice = format!("softmmu: -drive {drive}: clashes with -machine");
    refused(&["-blockdev", &node, "-M", "pc,pflash0=n", "-drive", &drive], &[&twice]);
    let unknown = "softmmu: Property 'cfi.pflash01.drive' can't find value 'nobody'";
    refused(&["-M", "pc,pflash0=nobody"], &[unknown]);
    let orphan = format!("softmmu: -drive {drive}: machine type does not support if=pflash,bus=0,unit=0");
    refused(&["-M", "isapc", "-drive", &drive], &[&orphan]);
}

/// A character device has its terminal not block, and standard error may be the same one.
#[test]
fn a_message_that_does_not_go_out_is_lost() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    while (&theirs).write(&[0; 4096]).is_ok() {}
    let status = softmmu(["-no-such-option"]).stderr(OwnedFd::from(theirs)).status().unwrap();
    assert_eq!(status.code(), Some(1));
    drop(ours);
}
