//! Direct kernel boot: what a firmware would have done before a kernel runs, done by the board at every
//! reset: tables placed, chips set up as SeaBIOS leaves them, kernel and initrd loaded, the first CPU at the
//! kernel's entry.

use std::ops::Range;
use std::sync::Arc;

use hw_acpi::piix4::Piix4Pm;
use hw_acpi::vmgenid::{ADDR_FILE, VmGenId, find_vmgenid_dev as vmgenid};
use hw_core::accel::needs_own_pic;
use hw_core::numa::{HmatLbData, NumaState};
use hw_core::reset::qemu_register_reset;
use hw_core::suspend::is_waking;
use hw_intc::i8259::spec::{FIRMWARE_MASKS, FIRMWARE_MASKS_WAKING};
use hw_pci::spec::{
    BRIDGE_CONTROL, BRIDGE_CTL_SERR, COMMAND, COMMAND_IO, COMMAND_MEMORY, COMMAND_SERR, INTERRUPT_LINE,
};
use hw_pci::{PciBridge, PciDevice};
use hw_pci_host::i440fx::I440fxPciHost;
use hw_pci_host::i440fx::spec::SMRAM_BASE;
use hw_smbios::{EntryPoint, SmbiosConfig, SmbiosTables};
use hw_timer::pit_set_up_as_firmware;
use memory::{FlatView, MemTxResult, get_system_memory};
use qom::property::OnOffAuto;
use qom::{Error, Object, Result, bail};
use target_i386::X86Cpu;
use target_i386::host::CpuidEntry;
use target_i386::msrs::spec::IA32_SMBASE;
use target_i386::msrs::{firmware_mtrrs, seabios_pci_hole};
use target_i386::reset::{FlatEntry, Table};
use util::trace::span;

use crate::acpi_build::{
    AcpiConfig, AcpiCpu, AcpiTables, HmatCache, HmatConfig, HmatMatrix, IsaDevice, NumaConfig, acpi_build,
};
use crate::bios_handlers::{self, Found};
use crate::boot_pci::{PCI_IRQS, acpi_pci_devices, all_functions, interrupt, pci_functions, root_bus};
use crate::kvm::set_up_as_firmware;
use crate::linker::{FirmwareTables, firmware_tables};
use crate::loader::{
    ACPI_DATA_SIZE, BootImage, E820_RAM, E820_RESERVED, E820Entry, KernelParams, RomSource, load_kernel,
};
use crate::mptable::MpConfig;
use crate::pc::{FOUR_GIB, PcMachine, SmbiosEntryPointType, first_cpu};
use crate::pci_setup::{Windows, assign_addresses, number_buses};
use crate::ports::Port92;
use crate::{firmware, pc_piix};

/// Where RAM stops being the guest's below 640 KiB: the extended BIOS data area.
const EBDA: Range<u64> = 0x9_fc00..0xa_0000;
/// The BIOS segment.
const F_SEGMENT: Range<u64> = 0xf_0000..0x10_0000;
/// The top of 4 GiB, where a BIOS would be.
const BIOS_AREA: Range<u64> = 0xfffc_0000..FOUR_GIB;
/// Where PCI's addresses below 4 GiB end: the I/O APIC.
const PCI_HOLE_END: u64 = 0xfec0_0000;
/// What the PAM registers are left at: ROM areas read-only, but for the last, which SeaBIOS uses itself.
const PAM: [u32; 7] = [0x10, 0x11, 0x11, 0x11, 0x11, 0x11, 0x33];
/// Where SeaBIOS puts the SMBus's registers.
const SMBUS_BASE: u32 = 0x700;
/// LVT of the first CPU's LINT0 and LINT1 as SeaBIOS sets them: the PIC's interrupts; NMI.
const LINT: (u32, u32) = (0x8700, 0x8400);
/// Ports of COM1 to COM4, where SeaBIOS looks for them.
const SERIAL_PORTS: [u16; 4] = [0x3f8, 0x2f8, 0x3e8, 0x2e8];
/// CMOS: the equipment byte.
const EQUIPMENT: u8 = 0x14;
/// Version register of KVM's local APICs.
const LAPIC_VERSION: u8 = 0x14;
/// CPUID leaf 1 EDX: several logical processors in a package.
const CPUID_HTT: u32 = 1 << 28;
/// The first instruction of a CPU that takes an SMI, after SMBASE (SDM volume 3C, section 32.3).
const SMI_ENTRY: u64 = 0x8000;
/// The whole of the handler: `rsm`.
const RSM: [u8; 2] = [0x0f, 0xaa];
/// Where the FACS has the firmware waking vector (ACPI 6.4, 5.2.10).
const FACS_WAKING_VECTOR: u64 = 12;
/// Start of the RSDP.
const RSDP_SIGNATURE: &[u8] = b"RSD PTR ";

/// What is put into memory and chips at each reset.
struct DirectBoot {
    tables: FirmwareTables,
    image: BootImage,
    /// Ports of COM1 to COM4, those that are there.
    serial_ports: Vec<u16>,
}

fn wrong(error: impl std::fmt::Display) -> Error {
    Error::new(error.to_string())
}

fn cpuid(leaf: u32) -> CpuidEntry {
    let entry = first_cpu().and_then(|cpu| cpu.cpuid_leaf(leaf));
    entry.unwrap_or_default()
}

/// All devices are there: tables are built, and with a kernel its boot is prepared (`pc_machine_done`).
pub(crate) fn machine_done(machine: &Arc<dyn Object>) -> Result<()> {
    let _span = span("pc_machine_done");
    let Some(pc) = machine.cast::<PcMachine>() else { bail!("not a PC") };
    crate::cmos_disks::init(pc);
    let acpi = match pc.pci_bus.get() {
        Some(_) if pc.acpi.get() != OnOffAuto::Off => Some(build_acpi(pc)?),
        _ => None,
    };
    let serial = |iobase: u64| {
        isa_devices(pc)
            .iter()
            .any(|d| matches!(d, IsaDevice::Serial { iobase: b, .. } if u64::from(*b) == iobase))
    };
    for object in pci_functions(pc) {
        if let Some(pm) = object.cast::<Piix4Pm>() {
            pm.set_serial_ports(serial(0x3f8), serial(0x2f8));
        }
    }
    let smbios = SmbiosTables::build(&smbios_config(pc)?).map_err(wrong)?;
    match pc.kernel.get() {
        Some(kernel) => {
            let boot = DirectBoot::prepare(pc, &kernel, acpi.as_ref(), &smbios)?;
            boot.image.warnings.iter().for_each(|w| util::warn_report!("{w}"));
            let machine = Arc::downgrade(machine);
            qemu_register_reset(Arc::new(move || {
                if let Some(machine) = machine.upgrade()
                    && let Some(pc) = machine.cast::<PcMachine>()
                    && let Err(error) = boot.carry_out(pc)
                {
                    // The kernel or the initrd changed since the machine was made.
                    util::error_report!("{error}");
                    hw_core::runstate::shutdown_request_with_code(
                        hw_core::runstate::ShutdownCause::HostError,
                        1,
                    );
                }
            }));
        }
        None if pc.initrd.get().is_some() => bail!("-initrd only allowed with -kernel option"),
        None if !pc.append.get().is_empty() => bail!("-append only allowed with -kernel option"),
        None => {}
    }
    match pc.fw_cfg.get() {
        Some(fw_cfg) => {
            firmware::register_boot_order(fw_cfg, pc.config().boot.strict);
            firmware::add_option_roms(fw_cfg)?;
            firmware::add_tables(fw_cfg, acpi, &smbios)
        }
        None => Ok(()),
    }
}

fn build_acpi(pc: &PcMachine) -> Result<AcpiTables> {
    let _span = span("acpi_build");
    // The tables name the buses by these.
    let pm = pc.acpi_dev.get().and_then(|pm| pm.cast::<Piix4Pm>());
    pm.map_or(Ok(()), Piix4Pm::number_pci_buses)?;
    let present = pc.apic_ids();
    let cpus = pc.possible_apic_ids();
    let numa = pc.numa().lock().clone();
    let cpus = (0..).zip(cpus).map(|(index, apic_id)| AcpiCpu {
        apic_id,
        present: present.contains(&apic_id),
        node: numa.cpu_node(index).map(|node| node as u32),
    });
    let mut config = AcpiConfig {
        cpus: cpus.collect(),
        pci_root_uid: pc.class_table().pci_root_uid,
        pci_hole: pc.ram_split().below_4g..PCI_HOLE_END,
        pci_devices: acpi_pci_devices(pc),
        isa_devices: isa_devices(pc),
        hpet: pc.hpet.get(),
        // Where there is but one CPU none can come or go.
        cpu_hotplug: pc.possible_apic_ids().len() > 1,
        pci_hotplug: root_bus(pc).is_some_and(|root| root.hotplug_number().is_some()),
        memory_slots: pc.config().ram_slots,
        s3: pm.is_none_or(Piix4Pm::offers_s3),
        s4: pm.map_or(Some(2), Piix4Pm::s4_type),
        pci_hole64: Some(pci_hole64(pc)),
        reset_register: true,
        smi_command: pc.smm.get() != OnOffAuto::Off,
        vmgenid: vmgenid().as_ref().and_then(|d| d.cast::<VmGenId>()).map(VmGenId::guid_file),
        user_tables: firmware::user_tables().to_vec(),
        numa: (numa.num_nodes() > 0).then(|| numa_config(pc, &numa)),
        ..AcpiConfig::default()
    };
    fill(&mut config.oem.oem_id, &pc.oem_id.get());
    fill(&mut config.oem.oem_table_id, &pc.oem_table_id.get());
    acpi_build(&config).map_err(wrong)
}

fn numa_config(pc: &PcMachine, numa: &NumaState) -> NumaConfig {
    NumaConfig {
        node_memory: numa.nodes().map(|node| node.mem).collect(),
        below_4g: pc.ram_split().below_4g,
        distances: numa.distances(),
        hmat: numa.hmat_enabled.then(|| hmat_config(numa)),
        device_memory: pc.device_memory().map(|place| place.base..pc.memory_end()),
    }
}

fn hmat_config(numa: &NumaState) -> HmatConfig {
    let mut config = HmatConfig::default();
    for (id, node) in (0..).zip(numa.nodes()) {
        config.initiators.push(node.initiator);
        if node.has_cpu {
            config.with_cpus.push(id);
        }
        let levels = node.caches.iter().flatten().count() as u8;
        config.caches.extend(node.caches.iter().flatten().map(|cache| HmatCache {
            node: id,
            size: cache.size,
            levels,
            level: cache.level,
            associativity: cache.associativity as u8,
            policy: cache.policy as u8,
            line: cache.line,
        }));
    }
    for (hierarchy, kinds) in (0..).zip(&numa.hmat_lb) {
        for (data_type, info) in (0..).zip(kinds).filter(|(_, info)| !info.list.is_empty()) {
            // Nanoseconds are told in picoseconds, bytes in MiB.
            let base = if data_type < 3 { info.base.wrapping_mul(1000) } else { info.base >> 20 };
            let entry = |lb: &HmatLbData| (lb.initiator, lb.target, (lb.data / info.base.max(1)) as u16);
            let entries = info.list.iter().map(entry).collect();
            config.matrices.push(HmatMatrix { hierarchy, data_type, base, entries });
        }
    }
    config
}

/// Addresses above all memory that firmware may give to PCI: whole GiB from the next one on, as many as the host bridge is
/// to have (`i440fx_pcihost_get_pci_hole64_end`).
pub(crate) fn pci_hole64(pc: &PcMachine) -> Range<u64> {
    const GIB: u64 = 1 << 30;
    let host = pc.this().child("i440fx");
    let size = host.and_then(|host| Some(host.cast::<I440fxPciHost>()?.pci_hole64_size()));
    let start = pc.memory_end().next_multiple_of(GIB);
    let end = start.checked_add(size.unwrap_or_default()).and_then(|end| end.checked_next_multiple_of(GIB));
    start..end.unwrap_or(u64::MAX)
}

fn fill(field: &mut [u8], text: &str) {
    field.fill(b' ');
    field.iter_mut().zip(text.bytes()).for_each(|(f, b)| *f = b);
}

fn isa_devices(pc: &PcMachine) -> Vec<IsaDevice> {
    let mut list = Vec::new();
    if pc.i8042.get() {
        list.extend([IsaDevice::Keyboard, IsaDevice::Mouse]);
    }
    let serial = |object: &Arc<dyn Object>| {
        let get = |name| object.property_get(name).ok().and_then(|v| v.as_u64());
        let (index, iobase, irq) = (get("index")?, get("iobase")?, get("irq")?);
        Some(IsaDevice::Serial { number: index as u8 + 1, iobase: iobase as u16, irq: irq as u8 })
    };
    let bus = pc.isa_bus.get().and_then(|b| b.cast::<hw_isa::IsaBus>());
    let on_bus = bus.map(|b| b.children()).unwrap_or_default();
    list.extend(on_bus.iter().filter(|o| o.is_a("isa-serial")).filter_map(serial));
    list.push(IsaDevice::Rtc);
    let port = |object: &Arc<dyn Object>| object.property_get("ioport").ok().and_then(|v| v.as_u64());
    let pvpanic = on_bus.iter().filter(|o| o.is_a("pvpanic")).filter_map(port);
    list.extend(pvpanic.map(|ioport| IsaDevice::PvPanic { ioport: ioport as u16 }));
    list
}

fn smbios_config(pc: &PcMachine) -> Result<SmbiosConfig> {
    let class = pc.machine_class();
    let smp = pc.config().smp;
    let split = pc.ram_split();
    let version = cpuid(1);
    let above = (split.above_4g > 0).then(|| FOUR_GIB..FOUR_GIB + split.above_4g);
    Ok(SmbiosConfig {
        manufacturer: "QEMU".to_owned(),
        product: class.desc.to_owned(),
        version: class.name.to_owned(),
        uuid: pc.config().uuid.unwrap_or_default(),
        cpuid_version: version.eax,
        // The model's features: that it has threads is the topology's.
        cpuid_features: version.edx & !CPUID_HTT,
        sockets: smp.sockets,
        cores_per_socket: smp.dies * smp.cores,
        threads_per_socket: smp.dies * smp.cores * smp.threads,
        memory: std::iter::once(0..split.below_4g).chain(above).collect(),
        options: firmware::smbios_options()?,
        entry_point: match pc.smbios_entry_point_type.get() {
            SmbiosEntryPointType::Bits32 => EntryPoint::Bits32,
            SmbiosEntryPointType::Bits64 => EntryPoint::Bits64,
        },
    })
}

fn mp_config(pc: &PcMachine) -> MpConfig {
    let version = cpuid(1);
    // As SeaBIOS's: the root bus's alone.
    let interrupts = || pci_functions(pc).iter().filter_map(interrupt).collect();
    MpConfig {
        apic_ids: pc.apic_ids(),
        cpuid_version: version.eax,
        cpuid_ebx: version.ebx,
        cpuid_features: version.edx,
        lapic_version: LAPIC_VERSION,
        pci: pc.pci_bus.get().map(|_| interrupts()),
    }
}

/// The memory map as SeaBIOS hands it on: the board's, less what the firmware keeps.
fn final_e820(pc: &PcMachine, tables: &Range<u64>) -> Vec<E820Entry> {
    let below = pc.ram_split().below_4g;
    let entry =
        |range: Range<u64>, kind| E820Entry { addr: range.start, size: range.end - range.start, kind };
    let mut map = vec![
        entry(0..EBDA.start, E820_RAM),
        entry(EBDA, E820_RESERVED),
        entry(F_SEGMENT, E820_RESERVED),
        entry(F_SEGMENT.end..tables.start, E820_RAM),
        entry(tables.start..below, E820_RESERVED),
    ];
    map.extend(pc.e820().into_iter().filter(|e| e.addr != 0));
    map.push(entry(BIOS_AREA, E820_RESERVED));
    map.retain(|e| e.size > 0);
    map.sort_by_key(|e| e.addr);
    map
}

impl DirectBoot {
    fn prepare(
        pc: &PcMachine,
        kernel: &str,
        acpi: Option<&AcpiTables>,
        smbios: &SmbiosTables,
    ) -> Result<DirectBoot> {
        let _span = span("x86_load_linux");
        let split = pc.ram_split();
        let tables = firmware_tables(acpi, smbios, &mp_config(pc), split.below_4g).map_err(wrong)?;
        let rsdp = tables.blobs.iter().find(|(_, bytes)| bytes.starts_with(RSDP_SIGNATURE));
        let image = load_kernel(&KernelParams {
            kernel,
            initrd: pc.initrd.get().as_deref(),
            cmdline: &pc.append.get(),
            below_4g_mem_size: split.below_4g,
            above_4g_mem_size: split.above_4g,
            acpi_data_size: ACPI_DATA_SIZE,
            e820: &final_e820(pc, &tables.reserved),
            rsdp_addr: rsdp.map_or(0, |(address, _)| *address),
        })
        .map_err(wrong)?;
        let port = |device: &IsaDevice| match device {
            IsaDevice::Serial { iobase, .. } => Some(*iobase),
            _ => None,
        };
        let there: Vec<u16> = isa_devices(pc).iter().filter_map(port).collect();
        let serial_ports = SERIAL_PORTS.into_iter().filter(|port| there.contains(port)).collect();
        Ok(DirectBoot { tables, image, serial_ports })
    }

    /// What the BIOS data area tells of the machine.
    fn found(&self, pc: &PcMachine) -> Found<'_> {
        let rtc = pc.rtc.get();
        Found {
            serial_ports: &self.serial_ports,
            equipment: rtc.map_or(0, |rtc| hw_rtc::rtc_get_memory(rtc, EQUIPMENT)),
            seconds: rtc.map_or(0, hw_rtc::rtc_get_seconds),
            ebda: EBDA.start,
        }
    }

    fn carry_out(&self, pc: &PcMachine) -> Result<()> {
        let _span = span("direct_boot");
        set_up_chips(pc);
        self.write_back();
        if is_waking() {
            return self.resume(pc);
        }
        // The map may be in the middle of a transaction: look at the tree itself.
        let view = FlatView::render(&get_system_memory());
        bios_handlers::place(&self.found(pc), |address, bytes| {
            let _ = view.write_rom(address, bytes);
        });
        for (address, bytes) in &self.tables.blobs {
            let _ = view.write_rom(*address, bytes);
        }
        for rom in &self.image.roms {
            let filled = rom.source.len();
            match &rom.source {
                RomSource::File { file, offset, len } => {
                    let mut file = file.try_clone().map_err(wrong)?;
                    view.load_file(rom.addr, &mut file, *offset, *len)
                        .map_err(|e| Error::new(format!("could not load '{}': {e}", rom.name)))?;
                }
                RomSource::Bytes(bytes) => drop(view.write_rom(rom.addr, bytes)),
            }
            // Memory that was never used is zero already, and is not to be touched.
            if hw_core::runstate::was_started() {
                view.zero_rom(rom.addr + filled, rom.size.saturating_sub(filled)).map_err(wrong)?;
            }
        }
        let smm = pc.smm_enabled()?;
        if smm && let Some(ram) = pc.ram() {
            let _ = FlatView::render(ram).write_rom(SMRAM_BASE + SMI_ENTRY, &RSM);
        }
        set_up_cpus(pc, smm);
        self.enter();
        Ok(())
    }

    /// Tells the machine where tables are that it is to change.
    fn write_back(&self) {
        for pointer in self.tables.write_backs.iter().filter(|pointer| pointer.file == ADDR_FILE) {
            if let Some(device) = vmgenid().as_ref().and_then(|device| device.cast::<VmGenId>()) {
                device.set_addr(&pointer.bytes);
            }
        }
    }

    /// The firmware's part of the end of a sleep: the first CPU goes on in real mode where the guest left word in the
    /// FACS (ACPI 6.4, 5.2.10). Where it left none the machine starts anew.
    fn resume(&self, pc: &PcMachine) -> Result<()> {
        set_up_cpus(pc, pc.smm_enabled()?);
        let mut vector = [0; 4];
        let facs = self.tables.blobs.iter().find(|(_, bytes)| bytes.starts_with(b"FACS"));
        let read = facs.map(|(address, _)| {
            FlatView::render(&get_system_memory()).read(address + FACS_WAKING_VECTOR, &mut vector)
        });
        let vector = u32::from_le_bytes(vector);
        if read != Some(MemTxResult::Ok) || vector == 0 {
            hw_core::runstate::reset_request(hw_core::runstate::ShutdownCause::GuestReset);
            return Ok(());
        }
        if let Some(cpu) = first_cpu() {
            cpu.change_state(|state| state.enter_real_mode(vector));
        }
        Ok(())
    }

    /// The first CPU at the kernel's entry.
    fn enter(&self) {
        let Some(cpu) = first_cpu() else { return };
        let entry = &self.image.entry;
        cpu.change_state(|state| {
            state.enter_flat(&FlatEntry {
                eip: entry.eip,
                eax: entry.eax,
                ebx: entry.ebx,
                esi: entry.esi,
                esp: 0,
                code_selector: entry.cs,
                data_selector: entry.ds,
                gdt: Table { base: entry.gdt_base.into(), limit: entry.gdt_limit },
            });
        });
    }
}

/// The CPUs as firmware leaves them.
fn set_up_cpus(pc: &PcMachine, smm: bool) {
    let low_ram = pc.ram_split().below_4g;
    for object in hw_core::cpu::cpu_list() {
        let Some(cpu) = object.cast::<X86Cpu>() else { continue };
        let Some(expanded) = cpu.expanded() else { continue };
        let lint = cpu.is_bootstrap().then_some(LINT);
        let mut msrs = firmware_mtrrs(expanded, low_ram, seabios_pci_hole(low_ram));
        if cpu.is_bootstrap() && smm {
            msrs.push((IA32_SMBASE, SMRAM_BASE));
        }
        cpu.set_firmware_state(msrs, lint);
    }
}

/// Registers as SeaBIOS leaves them: RAM below 1 MiB, PCI interrupts routed, the ACPI ports decoded.
fn set_up_chips(pc: &PcMachine) {
    use hw_acpi::piix4::spec as pm;
    use hw_ide::spec::piix;
    use hw_isa::piix3::spec as piix3;
    use hw_pci_host::i440fx::spec as i440fx;
    let _transaction = memory::transaction();
    let windows = Windows { memory: pc.ram_split().below_4g..PCI_HOLE_END, memory64: pci_hole64(pc) };
    if let Some(root) = root_bus(pc) {
        number_buses(&root);
        assign_addresses(&root, &windows);
    }
    for object in all_functions(pc) {
        let Some(function) = object.cast::<PciDevice>() else { continue };
        match object.type_name() {
            "i440FX" => {
                PAM.into_iter().enumerate().for_each(|(n, v)| function.config_write(i440fx::PAM + n, v, 1));
                let smram = i440fx::SMRAM_G_SMRAME | i440fx::SMRAM_C_BASE_SEG;
                function.config_write(i440fx::SMRAM, smram.into(), 1);
            }
            "PIIX3" => {
                for (n, line) in PCI_IRQS.into_iter().enumerate() {
                    function.config_write(piix3::PIRQRC + n, line.into(), 1);
                }
            }
            "piix3-ide" | "piix4-ide" => {
                for channel in [0, 2] {
                    function.config_write(piix::IDETIM + channel, piix::DECODE_ENABLE.into(), 2);
                }
            }
            "PIIX4_PM" => {
                function.config_write(pm::PMBA, pc_piix::PM_BASE | pm::PMBA_IO, 4);
                function.config_write(pm::PMREGMISC, pm::PMIOSE.into(), 1);
                function.config_write(pm::SMBBA, SMBUS_BASE | pm::PMBA_IO, 4);
                function.config_write(pm::DEVACTB, pm::APMC_EN.into(), 1);
            }
            _ => {}
        }
        function.config_write(COMMAND, (COMMAND_IO | COMMAND_MEMORY | COMMAND_SERR).into(), 2);
        if object.cast::<PciBridge>().is_some() {
            function.config_write(BRIDGE_CONTROL, BRIDGE_CTL_SERR.into(), 2);
        }
    }
    for object in all_functions(pc) {
        if let Some(function) = object.cast::<PciDevice>()
            && let Some(interrupt) = interrupt(&object)
        {
            function.config_write(INTERRUPT_LINE, interrupt.line.into(), 1);
        }
    }
    let isa = pc.isa_bus.get().and_then(|b| b.cast::<hw_isa::IsaBus>()).map(|b| b.children());
    isa.iter().flatten().filter_map(|o| o.cast::<Port92>()).for_each(Port92::open_a20_gate);
    if !is_waking() {
        isa.iter().flatten().for_each(pit_set_up_as_firmware);
    }
    // Not on a board without PCI: no line is level-triggered there.
    let pci_lines = pc.pci_bus.get().map_or(&[][..], |_| &PCI_IRQS);
    let lines = pci_lines.iter().fold(0, |lines, line| lines | 1 << line);
    let masks = if is_waking() { FIRMWARE_MASKS_WAKING } else { FIRMWARE_MASKS };
    match needs_own_pic() {
        true => hw_intc::set_up_as_firmware(masks, lines),
        false => set_up_as_firmware(masks, lines),
    }
}
