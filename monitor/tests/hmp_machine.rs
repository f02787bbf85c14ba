//! Commands about the machine, over a small one: a host bridge with a PCI function, and a CPU without a thread.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hw_core::sysbus::sysbus_get_default;
use hw_core::{Cpu, CpuClass, DeviceClass, DeviceImpl, SysBusDevice, qdev_create, qdev_new, qdev_realize};
use hw_pci::{PciDevice, PciDeviceClass, PciDeviceImpl, pci_bus_new};
use memory::{MemoryRegion, RamBlock, get_system_io, get_system_memory};
use qom::{Class, Object, Property, Result};
use util::event_loop::EventLoop;

const PROMPT: &str = "(qemu) ";

/// A host bridge with a window of memory.
#[derive(Object)]
#[object(name = "test-pcihost", parent = SysBusDevice)]
struct TestHost {
    parent: SysBusDevice,
    #[property(default = 5)]
    lanes: Property<u32>,
    #[property(default = true)]
    fast: Property<bool>,
}

impl DeviceImpl for TestHost {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let window = RamBlock::anonymous("window", 0x1000).unwrap();
        window.slice(0, 4).unwrap().copy_from(b"\x78\x56\x34\x12");
        self.map_memory(0xfe00_0000, &MemoryRegion::ram("window", window));
        Ok(())
    }
}

/// A function on its bus.
#[derive(Object)]
#[object(name = "test-pci", parent = PciDevice, class_init = pci_class_init)]
struct TestPci {
    parent: PciDevice,
}

fn pci_class_init(class: &mut Class) {
    class.get_mut::<DeviceClass>().desc = "Test function";
    let pci = class.get_mut::<PciDeviceClass>();
    (pci.vendor_id, pci.device_id, pci.class_id) = (0x1234, 0x5678, 0x0200);
}

impl DeviceImpl for TestPci {}
impl PciDeviceImpl for TestPci {}

/// A CPU that no accelerator runs.
#[derive(Object)]
#[object(name = "test-cpu", parent = Cpu, class_init = cpu_class_init)]
struct TestCpu {
    parent: Cpu,
}

fn cpu_class_init(class: &mut Class) {
    class.get_mut::<CpuClass>().dump_state = Some(|_| "never".to_owned());
}

impl DeviceImpl for TestCpu {
    fn realize(self: &Arc<Self>) -> Result<()> {
        self.list_add();
        Ok(())
    }
}

qom::type_init!(TestHost, TestPci, TestCpu);

/// Types a line and gives what comes before the next prompt, the echo cut off.
fn command(stream: &mut UnixStream, line: &str) -> String {
    stream.write_all(format!("{line}\n").as_bytes()).unwrap();
    let mut text = Vec::new();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        EventLoop::main().run_once(Some(Duration::from_millis(5))).unwrap();
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            text.extend_from_slice(&buffer[..read]);
        }
        let text = String::from_utf8_lossy(&text);
        if let Some((_, output)) = text.split_once("\x1b[K\r\n")
            && let Some(output) = output.strip_suffix(PROMPT)
        {
            return output.replace("\r\n", "\n");
        }
    }
    panic!("no prompt after {:?}", String::from_utf8_lossy(&text));
}

fn connect(path: &str) -> UnixStream {
    let options = [("backend", "socket"), ("path", path), ("server", "on"), ("wait", "off")];
    let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let chardev = chardev::new_from_opts("mon", &options).unwrap();
    monitor::monitor_init_hmp(&chardev).unwrap();
    let stream = UnixStream::connect(path).unwrap();
    stream.set_nonblocking(true).unwrap();
    stream
}

#[test]
fn devices_buses_memory_and_cpus_can_be_looked_at() {
    qom::module_call_init(qom::ModuleInitType::Qom);
    let dir = tempfile::tempdir().unwrap();
    let mut stream = connect(&dir.path().join("s").display().to_string());
    assert_eq!(command(&mut stream, "info pci"), "PCI devices not supported\n");

    let host = qdev_new("test-pcihost").unwrap();
    let bus = pci_bus_new(&host, "pci.0", &get_system_memory(), &get_system_io()).unwrap();
    qdev_realize(&host, Some(&sysbus_get_default())).unwrap();
    qdev_create("test-pci", Some(&bus), &[("addr", "03.0".into())]).unwrap();
    assert_eq!(
        command(&mut stream, "info pci"),
        "  Bus  0, device   3, function 0:\n    Ethernet controller: PCI device 1234:5678\n      \
         PCI subsystem 1af4:1100\n      id \"\"\n"
    );
    let tree = command(&mut stream, "info qtree");
    let host = "bus: main-system-bus\n  type System\n  dev: test-pcihost, id \"\"\n    lanes = 5 (0x5)\n    \
        fast = true\n    mmio 00000000fe000000/0000000000001000\n    bus: pci.0\n      type PCI\n      \
        dev: test-pci, id \"\"\n";
    assert!(tree.starts_with(host), "{tree}");
    assert!(tree.contains("\n        addr = 03.0\n"), "{tree}");
    let last = "        class Ethernet controller, addr 00:03.0, pci id 1234:5678 (sub 1af4:1100)\n";
    assert!(tree.ends_with(last), "{tree}");
    let tree = command(&mut stream, "info qom-tree");
    assert!(
        tree.starts_with("/machine (container)\n  /unattached (container)\n    /device[0] (test-pcihost)\n")
    );
    let host = "/machine/unattached/device[0]";
    assert_eq!(command(&mut stream, &format!("qom-get {host} lanes")), "5\n");
    assert!(command(&mut stream, &format!("qom-list {host}")).contains("lanes (uint32)\n"));
    assert_eq!(
        command(&mut stream, &format!("qom-get {host} nosuch")),
        "Error: Property 'test-pcihost.nosuch' not found\n"
    );
    assert_eq!(command(&mut stream, "xp /2x 0xfe000000"), "00000000fe000000: 0x12345678 0x00000000\n");
    assert!(
        command(&mut stream, "info mtree")
            .contains("    00000000fe000000-00000000fe000fff (prio 0, ram): window\n")
    );
    assert_eq!(
        command(&mut stream, "device_add test-pci,bus=pci.0"),
        "Error: Bus 'pci.0' does not support hotplugging\n"
    );
    assert!(command(&mut stream, "device_add test-pci,help").starts_with("test-pci options:\n"));

    // A CPU whose thread does not answer costs a moment, no more.
    qdev_create("test-cpu", None, &[]).unwrap();
    assert_eq!(command(&mut stream, "info cpus"), "* CPU #0: thread_id=0\n");
    assert_eq!(command(&mut stream, "info registers -a"), "\nCPU#0\nThe CPU's thread does not answer\n");
    assert_eq!(command(&mut stream, "info registers 7"), "CPU#7 not available\n");
    assert_eq!(command(&mut stream, "x 0"), "0000000000000000: Cannot access memory\n");
    chardev::remove_all();
}
