//! `pc` with the i440FX chipset, and `isapc`: `pc_init1` composes the board.
//!
//! Source: QEMU `hw/i386/pc_piix.c`.

use std::sync::{Arc, Weak};

use hw_acpi::piix4::Piix4Pm;
use hw_core::accel::needs_own_pic;
use hw_core::cpu::cpu_list;
use hw_core::irq::Irq;
use hw_core::machine::{MachineClass, add_machine_init_done_notifier};
use hw_core::reset::{cold_reset, qemu_devices_reset, qemu_register_reset};
use hw_core::suspend::register_suspend_notifier;
use hw_core::sysbus::sysbus_get_default;
use hw_core::{MachineImpl, qdev_create, qdev_new, qdev_realize};
use hw_i2c::smbus_eeprom_init;
use hw_ide::IdeBus;
use hw_ide::isa::isa_ide_create_devs;
use hw_ide::pci::PciIde;
use hw_isa::piix3::Piix3;
use hw_isa::{IsaBus, isa_bus_new};
use hw_pci_host::i440fx::{I440fx, i440fx_init};
use memory::{MemoryRegion, get_system_io, get_system_memory};
use qom::property::OnOffAuto;
use qom::{Class, Object, Result, Value, bail};
use target_i386::models::DefaultVersion;
use target_i386::{X86Cpu, set_default_version};
use util::trace::span;

use crate::kvm::setup_irq_routing;
use crate::pc::{PcMachine, first_cpu};
use crate::x86::GSI_NUM_PINS;
use crate::{boot, firmware, intc, sysfw};

/// Where the SMBus's registers start.
const SMB_IO_BASE: u32 = 0xb100;
/// Serial memories on the SMBus, one for each module of memory that fits into such a board.
const MEMORY_MODULES: u8 = 8;
/// Where SeaBIOS puts the ACPI registers.
pub(crate) const PM_BASE: u32 = 0x600;
/// CMOS register that says why the machine starts, and its value after a sleep.
const CMOS_SHUTDOWN_STATUS: u8 = 0x0f;
const SHUTDOWN_S3_RESUME: u8 = 0xfe;
/// The interrupt of ACPI events.
const SCI: u32 = 9;

/// `pc-i440fx-7.2`.
#[derive(Object)]
#[object(name = "pc-i440fx-7.2-machine", parent = PcMachine, class_init = i440fx_class_init,
    instance_init = sysfw::create)]
pub struct PcI440fxMachine {
    parent: PcMachine,
}

/// `isapc`.
#[derive(Object)]
#[object(name = "isapc-machine", parent = PcMachine, class_init = isapc_class_init)]
pub struct IsaPcMachine {
    parent: PcMachine,
}
qom::type_init!(PcI440fxMachine, IsaPcMachine);

fn common_class_init(machine: &mut MachineClass) {
    machine.max_cpus = 255;
    machine.default_ram_id = Some("pc.ram");
    machine.default_boot_order = "cad";
    machine.auto_enable_numa_with_memhp = true;
    machine.auto_enable_numa_with_memdev = true;
    machine.possible_cpus =
        Some(|machine| machine.cast::<PcMachine>().map(|pc| pc.possible_cpus()).unwrap_or_default());
}

fn i440fx_class_init(class: &mut Class) {
    let machine = class.get_mut::<MachineClass>();
    common_class_init(machine);
    machine.name = "pc-i440fx-7.2";
    machine.alias = Some("pc");
    machine.desc = "Standard PC (i440FX + PIIX, 1996)";
    machine.family = Some("pc_piix");
    machine.is_default = true;
    machine.default_cpu_type = Some("qemu64-x86_64-cpu");
}

fn isapc_class_init(class: &mut Class) {
    let machine = class.get_mut::<MachineClass>();
    common_class_init(machine);
    machine.name = "isapc";
    machine.desc = "ISA-only PC";
    machine.max_cpus = 1;
    machine.default_cpu_type = Some("486-x86_64-cpu");
}

impl MachineImpl for PcI440fxMachine {
    fn init(self: &Arc<Self>) -> Result<()> {
        set_default_version(self.class_table().default_cpu_version);
        pc_init1(self, true)
    }
    fn reset(&self) {
        qemu_devices_reset();
    }
}

impl MachineImpl for IsaPcMachine {
    fn init(self: &Arc<Self>) -> Result<()> {
        set_default_version(DefaultVersion::Legacy);
        pc_init1(self, false)
    }
    fn reset(&self) {
        qemu_devices_reset();
    }
}

fn pc_init1(pc: &PcMachine, pci_enabled: bool) -> Result<()> {
    let _span = span("pc_init1");
    let smm = pc.smm_enabled()?;
    pc.split_ram()?;
    pc.cpus_init()?;
    if accel_kvm::kvm_state().is_some() && wants_kvmclock(pc) {
        qdev_create("kvmclock", Some(&sysbus_get_default()), &[])?;
    }

    // With PCI, ROMs show on its bus, behind the host bridge's segments.
    let pci_memory = MemoryRegion::container("pci", 1 << 64);
    let rom_memory = if pci_enabled { pci_memory.clone() } else { get_system_memory() };
    let ram = pc.memory_init(&rom_memory, pci_enabled)?;
    match pci_enabled {
        true => sysfw::init(pc, &rom_memory)?,
        false => firmware::load(pc, &rom_memory)?,
    }
    let fw_cfg = firmware::fw_cfg_arch_create(pc)?;
    let _ = pc.fw_cfg.set(fw_cfg);

    pc.gsi_create();
    if !needs_own_pic() {
        setup_irq_routing(pci_enabled)?;
    }
    let isa = match pci_enabled {
        true => pci_init(pc, &ram, &pci_memory)?,
        false => isa_bus_new(
            &qdev_create("isabus-bridge", Some(&sysbus_get_default()), &[])?,
            &get_system_memory(),
            &get_system_io(),
        )?,
    };
    if smm && let Some(kvm) = accel_kvm::kvm_state() {
        let bridge = pc.host_bridge.get().and_then(|bridge| bridge.cast::<I440fx>());
        kvm.register_smram_listener(bridge.and_then(I440fx::smram));
    }
    let _ = pc.isa_bus.set(isa.clone());
    if let Some(bus) = isa.cast::<IsaBus>() {
        bus.set_irqs((0..16).filter_map(|n| pc.gsi(n)).collect());
    }
    interrupt_controllers_init(pc, &isa, pci_enabled)?;
    pc.basic_device_init(&isa, pci_enabled && pc.hpet.get())?;
    nic_init(pc, pci_enabled)?;
    ide_init(pc, &isa)?;
    pc.cmos_init()?;
    if pci_enabled && pc.acpi.get() != OnOffAuto::Off {
        acpi_pm_init(pc, smm)?;
    }
    register_reset_and_done(pc);
    Ok(())
}

fn wants_kvmclock(pc: &PcMachine) -> bool {
    pc.class_table().kvmclock_create_always || first_cpu().is_some_and(|cpu| cpu.has_kvmclock())
}

/// What is called at each reset, and when the machine is whole.
fn register_reset_and_done(pc: &PcMachine) {
    // The tree is reset as a whole, after what registered before (the CPUs).
    let (bus, pm) = (sysbus_get_default(), pc.acpi_dev.get().cloned());
    qemu_register_reset(Arc::new(move || {
        cold_reset(&bus);
        // What was to go and the guest had not let go yet.
        if let Some(pm) = pm.as_ref().and_then(|pm| pm.cast::<Piix4Pm>()) {
            pm.unplug_ejected();
        }
    }));
    let machine = Arc::downgrade(&pc.this());
    add_machine_init_done_notifier(Box::new(move || match machine.upgrade() {
        Some(machine) => boot::machine_done(&machine),
        None => Ok(()),
    }));
}

/// The host bridge, its bus, and the ISA bridge on it; gives the ISA bus.
fn pci_init(pc: &PcMachine, ram: &MemoryRegion, pci_memory: &MemoryRegion) -> Result<Arc<dyn Object>> {
    let _span = span("i440fx_init");
    // What nothing else claims belongs to the bus.
    get_system_memory().add_subregion_overlap(0, pci_memory, -1);
    let (bus, host_bridge) = i440fx_init(ram, pci_memory)?;
    pc.check_addressable(boot::pci_hole64(pc).end - 1, true)?;
    let _ = pc.pci_bus.set(bus.clone());
    let _ = pc.host_bridge.set(host_bridge);
    let bridge = qdev_create("PIIX3", Some(&bus), &[("multifunction", true.into())])?;
    let Some(piix3) = bridge.cast::<Piix3>() else { bail!("PIIX3 has another type") };
    piix3.set_lines((0..16).filter_map(|n| pc.gsi(n)).collect());
    match piix3.isa_bus() {
        Some(isa) => Ok(isa),
        None => bail!("PIIX3 provides no ISA bus"),
    }
}

/// The network cards of `-nic` and `-net nic` (`pc_nic_init`). Where none is named QEMU's PC
/// has an `e1000`, which is not there yet: it is a `virtio-net-pci` here.
fn nic_init(pc: &PcMachine, pci_enabled: bool) -> Result<()> {
    let bus = pc.pci_bus.get().filter(|_| pci_enabled);
    net::instantiate(|nic| {
        let model = match nic.model.as_deref() {
            None | Some("virtio") => "virtio-net-pci",
            Some(model) => model,
        };
        let suits = |class: &&Class| class.is_a("pci-device") && !class.is_abstract();
        let Some(bus) = bus.filter(|_| qom::class_by_name(model).as_ref().is_some_and(suits)) else {
            bail!("Unsupported NIC model: {model}")
        };
        let card = qdev_new(model)?;
        if let Some(address) = &nic.devaddr {
            card.property_set_str("addr", address)?;
        }
        card.property_set_str("mac", &nic.mac.to_string())?;
        card.property_set_str("netdev", nic.netdev.name())?;
        if let Some(vectors) = nic.vectors {
            card.property_set_str("vectors", &vectors.to_string())?;
        }
        qdev_realize(&card, Some(bus))
    })
}

/// The disk controllers, with the drives of options that name no device: PIIX3's function, or one for each channel.
fn ide_init(pc: &PcMachine, isa: &Arc<dyn Object>) -> Result<()> {
    let buses: Vec<Arc<IdeBus>> = match pc.pci_bus.get() {
        Some(bus) => {
            let ide = qdev_create("piix3-ide", Some(bus), &[("addr", "01.1".into())])?;
            hw_ide::pci_ide_create_devs(&ide)?;
            ide.cast::<PciIde>().map(|ide| ide.buses().to_vec()).unwrap_or_default()
        }
        None => isa_ide_create_devs(isa)?,
    };
    if let Ok(buses) = buses.try_into() {
        let _ = pc.ide.set(buses);
    }
    Ok(())
}

fn interrupt_controllers_init(pc: &PcMachine, isa: &Arc<dyn Object>, ioapic: bool) -> Result<()> {
    let (with_pic, in_kernel) = (pc.pic.get() != OnOffAuto::Off, !needs_own_pic());
    if with_pic && in_kernel {
        for master in [true, false] {
            qdev_create("kvm-i8259", Some(isa), &[("master", master.into())])?;
        }
    } else if with_pic {
        intc::pic_init(pc, isa)?;
    }
    if ioapic {
        intc::ioapic_init_gsi(pc, if in_kernel { "kvm-ioapic" } else { "ioapic" })?;
    }
    debug_assert!(pc.gsi(GSI_NUM_PINS - 1).is_some());
    Ok(())
}

fn acpi_pm_init(pc: &PcMachine, smm: bool) -> Result<()> {
    let Some(bus) = pc.pci_bus.get() else { return Ok(()) };
    let properties: [(&str, Value); 3] =
        [("addr", "01.3".into()), ("smb_io_base", SMB_IO_BASE.into()), ("smm-enabled", smm.into())];
    let pm = qdev_create("PIIX4_PM", Some(bus), &properties)?;
    for bus in crate::pc::device(&pm).child_buses() {
        smbus_eeprom_init(&bus, MEMORY_MODULES)?;
    }
    if let Some(line) = pc.gsi(SCI) {
        crate::pc::device(&pm).connect_gpio_out("sci", 0, line)?;
    }
    if let Some(pm) = pm.cast::<Piix4Pm>() {
        let cpus = cpu_list();
        let found = |apic_id: u32| {
            cpus.iter().find(|cpu| cpu.cast::<X86Cpu>().is_some_and(|cpu| cpu.apic_id() == apic_id)).cloned()
        };
        let places = pc.possible_apic_ids().into_iter().map(|apic_id| (apic_id, found(apic_id)));
        pm.init_cpu_hotplug(&places.collect::<Vec<_>>());
        pm.init_memory_hotplug(pc.config().ram_slots);
        if let Some(fw_cfg) = pc.fw_cfg.get() {
            firmware::add_system_states(fw_cfg, pm)?;
        }
    }
    let _ = pc.acpi_dev.set(pm.clone());
    let rtc = pc.rtc.get().map(Arc::downgrade);
    register_suspend_notifier(Arc::new(move || {
        // Firmware finds at its start that the guest was asleep (`rtc_notify_suspend`).
        if let Some(rtc) = rtc.as_ref().and_then(Weak::upgrade) {
            hw_rtc::rtc_set_memory(&rtc, CMOS_SHUTDOWN_STATUS, SHUTDOWN_S3_RESUME);
        }
    }));
    // The first CPU handles system management interrupts for all.
    let smi = Irq::new(Arc::new(smi_to_first_cpu), 0);
    crate::pc::device(&pm).connect_gpio_out("smi-irq", 0, smi)?;
    pc.this().property_add_link("acpi-device", &pm)
}

fn smi_to_first_cpu(_: u32, level: bool) {
    if level && let Some(cpu) = first_cpu() {
        cpu.inject_smi();
    }
}
