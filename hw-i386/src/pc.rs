//! What all PCs share: memory, the basic devices, CMOS contents.
//!
//! Source: QEMU `hw/i386/pc.c`.

use std::sync::{Arc, OnceLock};

use hw_core::HotplugHandler;
use hw_core::accel::needs_own_pic;
use hw_core::irq::Irq;
use hw_core::machine::{DeviceMemory, Machine};
use hw_core::{Device, qdev_create, qdev_new, qdev_realize};
use hw_dma::i8257_dma_init;
use hw_ide::IdeBus;
use hw_isa::IsaBus;
use hw_nvram::fw_cfg::FwCfg;
use hw_timer::{i8254_pit_init, pcspk_init};
use memory::{MemoryRegion, RamBlock, get_system_memory};
use qom::property::OnOffAuto;
use qom::{Class, ClassInit, Error, Object, Property, Result, Size, Value, bail};
use target_i386::X86Cpu;
use target_i386::models::DefaultVersion;

use crate::hotplug::PcHotplug;
use crate::loader::{E820_RAM, E820_RESERVED, E820Entry};
use crate::ports;
use crate::sysfw::FirmwareSize;
use crate::x86::{GSI_NUM_PINS, RamSplit, X86Machine};

/// Where memory above the hole starts.
pub(crate) const FOUR_GIB: u64 = 1 << 32;
/// Memory below 4 GiB where nothing else is said, if all of it fits (3.5 GiB).
const MAX_RAM_BELOW_4G: u64 = 0xe000_0000;
/// Memory below 4 GiB where the rest goes above: whole GiBs.
const ALIGNED_RAM_BELOW_4G: u64 = 0xc000_0000;
/// Where option ROMs are (`PC_ROM_MIN_VGA`, `PC_ROM_SIZE`).
const OPTION_ROM: u64 = 0xc_0000;
const OPTION_ROM_SIZE: u64 = 0x2_0000;
const PAGE: u64 = 4096;
const GIB: u64 = 1 << 30;
/// Slots for memory modules that the DSDT can name (`ACPI_MAX_RAM_SLOTS`).
const MAX_RAM_SLOTS: u32 = 256;
/// A huge page of the host's.
const HUGE_PAGE: u64 = 2 << 20;
/// Addresses that AMD's HyperTransport takes, which a guest on such a CPU must leave alone.
const AMD_HT: (u64, u64) = (0xfd_0000_0000, 0x3_0000_0000);
/// The I/O APIC input the HPET's comparators can reach on this board.
const HPET_INTCAP: u32 = 0x4;

qom::property_enum! {
    /// QAPI's `SmbiosEntryPointType`: how wide the address of the SMBIOS tables is.
    pub enum SmbiosEntryPointType: "SmbiosEntryPointType" {
        Bits32 = "32",
        Bits64 = "64",
    }
}

/// What all PCs of a type share.
#[derive(Clone, Copy, Debug)]
pub struct PcMachineClass {
    /// The version of a CPU model that its name alone means.
    pub default_cpu_version: DefaultVersion,
    /// There is KVM's clock even where no CPU tells its guest of it.
    pub kvmclock_create_always: bool,
    /// What ACPI numbers the PCI bus with (`_UID`).
    pub pci_root_uid: u8,
    /// Guests on AMD's CPUs are told to leave HyperTransport's addresses alone.
    pub enforce_amd_1tb_hole: bool,
}

impl Default for PcMachineClass {
    fn default() -> Self {
        Self {
            default_cpu_version: DefaultVersion::Number(1),
            kvmclock_create_always: true,
            pci_root_uid: 0,
            enforce_amd_1tb_hole: true,
        }
    }
}

/// The root part of every PC.
#[derive(Object)]
#[object(name = "generic-pc-machine", parent = X86Machine, abstract)]
pub struct PcMachine {
    parent: X86Machine,
    /// Enable vmport (pc & q35)
    #[property(default = OnOffAuto::Auto)]
    pub vmport: Property<OnOffAuto>,
    /// Maximum ram below the 4G boundary (32bit boundary)
    #[property]
    pub max_ram_below_4g: Property<Size>,
    /// Enable/disable Serial ATA bus (q35)
    #[property(default = true)]
    pub sata: Property<bool>,
    /// Enable/disable system management bus (q35)
    #[property(default = true)]
    pub smbus: Property<bool>,
    /// Enable/disable HPET
    #[property(default = true)]
    pub hpet: Property<bool>,
    /// Enable/disable Intel 8042 PS/2 controller emulation
    #[property(default = true)]
    pub i8042: Property<bool>,
    /// SMBIOS Entry Point type [32, 64]
    #[property(default = SmbiosEntryPointType::Bits32)]
    pub(crate) smbios_entry_point_type: Property<SmbiosEntryPointType>,
    /// Maximum combined firmware size
    #[property]
    pub(crate) max_fw_size: Property<FirmwareSize>,
    pub(crate) fw_cfg: OnceLock<Arc<FwCfg>>,
    pub(crate) pci_bus: OnceLock<Arc<dyn Object>>,
    pub(crate) isa_bus: OnceLock<Arc<dyn Object>>,
    pub(crate) host_bridge: OnceLock<Arc<dyn Object>>,
    pub(crate) rtc: OnceLock<Arc<dyn Object>>,
    pub(crate) acpi_dev: OnceLock<Arc<dyn Object>>,
    pub(crate) ide: OnceLock<[Arc<IdeBus>; 2]>,
}
qom::type_init!(PcMachine);

impl<T: hw_core::MachineImpl> ClassInit<T> for PcMachine {
    fn class_init(class: &mut Class) {
        <Machine as ClassInit<T>>::class_init(class);
        class.add_interface::<dyn HotplugHandler>(|machine| Some(Arc::new(PcHotplug(machine))));
    }
}

impl PcMachine {
    /// What all machines of its type share.
    pub(crate) fn class_table(&self) -> PcMachineClass {
        self.this().class().get().copied().unwrap_or_default()
    }

    /// Splits the memory at the hole below 4 GiB.
    ///
    /// # Errors
    /// When the hole is to begin beyond 4 GiB.
    pub(crate) fn split_ram(&self) -> Result<RamSplit> {
        let size = self.config().ram_size;
        let wanted = match self.max_ram_below_4g.get().0 {
            0 => MAX_RAM_BELOW_4G,
            wanted if wanted > 4 << 30 => {
                bail!("Machine option 'max-ram-below-4g={wanted}' expects size less than or equal to 4G")
            }
            wanted => wanted,
        };
        if wanted < 1 << 20 {
            util::warn_report!(
                "Only {wanted} bytes of RAM below the 4GiB boundary,BIOS may not work with less than 1MiB"
            );
        }
        let lowmem = if size >= wanted { wanted.min(ALIGNED_RAM_BELOW_4G) } else { wanted };
        if size >= wanted && lowmem % (1 << 30) != 0 {
            util::warn_report!(
                "Large machine and max_ram_below_4g ({wanted}) not a multiple of 1G; possible \
                 bad performance."
            );
        }
        let split = match size >= lowmem {
            true => RamSplit { below_4g: lowmem, above_4g: size - lowmem },
            false => RamSplit { below_4g: size, above_4g: 0 },
        };
        Ok(*self.ram_split.get_or_init(|| split))
    }

    /// Checks that CPUs can address what is there, up to `last`; `for_long_mode`: if they have one.
    pub(crate) fn check_addressable(&self, last: u64, for_long_mode: bool) -> Result<()> {
        let Some(cpu) = first_cpu() else { return Ok(()) };
        if for_long_mode && !cpu.has_long_mode() {
            return Ok(());
        }
        let bits = cpu.expanded().map_or(36, |e| e.config.props.phys_bits);
        let limit = 1u64.checked_shl(bits).map_or(u64::MAX, |l| l - 1);
        if limit < last {
            bail!("Address space limit {limit:#x} < {last:#x} phys-bits too low ({bits})");
        }
        Ok(())
    }

    /// Maps the memory and checks that the CPUs can address it (`pc_memory_init`). Option ROMs are in
    /// `rom_memory`, where with PCI only the board writes.
    pub(crate) fn memory_init(&self, rom_memory: &MemoryRegion, pci_enabled: bool) -> Result<MemoryRegion> {
        let _span = util::trace::span("pc_memory_init");
        let split = self.ram_split();
        let Some(ram) = self.ram() else { bail!("the machine has no memory") };
        if split.above_4g > 0 {
            self.check_addressable(FOUR_GIB + split.above_4g - 1, false)?;
        }
        if let Some(block) = ram.ram_block() {
            // Real-mode memory and the tables at the top of low memory: a few pages of each are used.
            block.avoid_huge_pages(0, HUGE_PAGE.min(split.below_4g));
            block.avoid_huge_pages(split.below_4g.saturating_sub(HUGE_PAGE), HUGE_PAGE.min(split.below_4g));
        }
        let memory = get_system_memory();
        memory.add_subregion(0, &MemoryRegion::alias("ram-below-4g", ram, 0, split.below_4g));
        if split.above_4g > 0 {
            let above = MemoryRegion::alias("ram-above-4g", ram, split.below_4g, split.above_4g);
            memory.add_subregion(FOUR_GIB, &above);
        }
        if pci_enabled {
            self.device_memory_init()?;
        }
        let block = RamBlock::anonymous("pc.rom", OPTION_ROM_SIZE)
            .map_err(|e| Error::new(format!("cannot set up guest memory 'pc.rom': {e}")))?;
        let option_rom = MemoryRegion::ram("pc.rom", block);
        option_rom.set_readonly(pci_enabled);
        rom_memory.add_subregion_overlap(OPTION_ROM, &option_rom, 1);
        Ok(ram.clone())
    }

    /// Leaves room behind all memory for modules: a GiB more for each slot, so that each can begin at one.
    fn device_memory_init(&self) -> Result<()> {
        let (config, split) = (self.config(), self.ram_split());
        if config.maxram_size <= config.ram_size {
            return Ok(());
        }
        if config.ram_slots > MAX_RAM_SLOTS {
            bail!("unsupported amount of memory slots: {}", config.ram_slots);
        }
        if !config.maxram_size.is_multiple_of(PAGE) {
            bail!("maximum memory size must by aligned to multiple of {PAGE} bytes");
        }
        let base = (FOUR_GIB + split.above_4g).next_multiple_of(GIB);
        let room = config.maxram_size - config.ram_size + u64::from(config.ram_slots) * GIB;
        if base.checked_add(room).is_none() {
            bail!("unsupported amount of maximum memory: {}", config.maxram_size);
        }
        let region = MemoryRegion::container("device-memory", room.into());
        get_system_memory().add_subregion(base, &region);
        self.set_device_memory(DeviceMemory { base, region });
        Ok(())
    }

    /// The first address above all memory and what is left free for it.
    pub(crate) fn memory_end(&self) -> u64 {
        match self.device_memory() {
            Some(place) => place.base + u64::try_from(place.region.size()).unwrap_or_default(),
            None => FOUR_GIB + self.ram_split().above_4g,
        }
    }

    /// The memory map as fw_cfg gives it to firmware: memory, and what is reserved beside it.
    pub(crate) fn e820(&self) -> Vec<E820Entry> {
        let split = self.ram_split();
        let (base, size) = (target_i386::IDENTITY_MAP_BASE, target_i386::IDENTITY_MAP_SIZE);
        let mut map = vec![
            E820Entry { addr: base, size, kind: E820_RESERVED },
            E820Entry { addr: 0, size: split.below_4g, kind: E820_RAM },
        ];
        if split.above_4g > 0 {
            map.push(E820Entry { addr: FOUR_GIB, size: split.above_4g, kind: E820_RAM });
        }
        let is_amd = |cpu: &X86Cpu| {
            cpu.expanded()
                .is_some_and(|e| e.config.vendor == *b"AuthenticAMD" && e.config.props.phys_bits >= 40)
        };
        if self.class_table().enforce_amd_1tb_hole && first_cpu().is_some_and(|cpu| is_amd(&cpu)) {
            map.push(E820Entry { addr: AMD_HT.0, size: AMD_HT.1, kind: E820_RESERVED });
        }
        map
    }

    /// Timers, the keyboard controller, serial ports and the small ports (`pc_basic_device_init`).
    pub(crate) fn basic_device_init(&self, isa: &Arc<dyn Object>, with_hpet: bool) -> Result<()> {
        let _span = util::trace::span("pc_basic_device_init");
        ports::map();
        let hpet = if with_hpet { Some(self.create_hpet()?) } else { None };
        let rtc = qdev_create("mc146818rtc", Some(isa), &[("base_year", 2000.into())])?;
        let rtc_line = match &hpet {
            // The HPET takes the RTC's line away when it replaces the old timers.
            Some(hpet) => device(hpet).gpio_in("", 1),
            None => isa.cast::<IsaBus>().and_then(|bus| bus.irq(8)),
        };
        if let Some(line) = rtc_line {
            device(&rtc).connect_gpio_out("", 0, line)?;
        }
        self.this().property_add_link("rtc_state", &rtc)?;
        let _ = self.rtc.set(rtc);
        if self.pit.get() != OnOffAuto::Off {
            self.create_pit(isa, hpet.as_ref())?;
        }
        i8257_dma_init(isa, false)?;
        self.superio_init(isa)
    }

    /// The kernel's PIT beside the kernel's interrupt controllers, or a device of our own with the speaker's port.
    fn create_pit(&self, isa: &Arc<dyn Object>, hpet: Option<&Arc<dyn Object>>) -> Result<()> {
        let pit = match needs_own_pic() {
            false => qdev_create("kvm-pit", Some(isa), &[("iobase", 0x40.into())])?,
            true => {
                // The HPET takes its line away, as the RTC's.
                let line = match hpet {
                    Some(hpet) => device(hpet).gpio_in("", 0),
                    None => self.gsi(0),
                };
                let Some(line) = line else { bail!("the timer has no interrupt line") };
                i8254_pit_init(isa, line)?
            }
        };
        if let (Some(hpet), Some(line)) = (hpet, device(&pit).gpio_in("", 0)) {
            device(hpet).connect_gpio_out("pit-enabled", 0, line)?;
        }
        pcspk_init(isa, &pit).map(drop)
    }

    fn create_hpet(&self) -> Result<Arc<dyn Object>> {
        let hpet = qdev_new("hpet")?;
        if hpet.property_get("hpet-intcap")? == 0 {
            hpet.property_set_value("hpet-intcap", HPET_INTCAP)?;
        }
        qdev_realize(&hpet, Some(&hw_core::sysbus::sysbus_get_default()))?;
        for n in 0..GSI_NUM_PINS {
            if let Some(line) = self.gsi(n) {
                device(&hpet).connect_gpio_out("", n, line)?;
            }
        }
        Ok(hpet)
    }

    /// Serial ports, keyboard controller and port 0x92 (`pc_superio_init`).
    fn superio_init(&self, isa: &Arc<dyn Object>) -> Result<()> {
        // A fifth has its character device, and no port.
        for (index, chardev) in
            hw_char::serial_hds().into_iter().take(hw_char::MAX_ISA_SERIAL_PORTS).enumerate()
        {
            let Some(chardev) = chardev else { continue };
            let properties: [(&str, Value); 2] = [("index", index.into()), ("chardev", chardev.into())];
            qdev_create("isa-serial", Some(isa), &properties)?;
        }
        if !self.i8042.get() {
            return Ok(());
        }
        let i8042 = qdev_create("i8042", Some(isa), &[])?;
        if self.vmport.get() != OnOffAuto::Off {
            qdev_create("vmport", Some(isa), &[])?;
        }
        let port92 = qdev_create("port92", Some(isa), &[])?;
        // KVM's guests always have the address line enabled; the gates keep their state all the same.
        let a20 = Irq::new(Arc::new(|_: u32, _: bool| {}), 0);
        device(&i8042).connect_gpio_out("a20", 0, a20.clone())?;
        device(&port92).connect_gpio_out("a20", 0, a20)
    }

    /// What a PC's firmware finds in the CMOS about memory, CPUs and devices (`pc_cmos_init`).
    ///
    /// # Errors
    /// A boot order that a PC cannot have.
    pub(crate) fn cmos_init(&self) -> Result<()> {
        let Some(rtc) = self.rtc.get() else { return Ok(()) };
        let split = self.ram_split();
        let set = |at: u8, value: u64| hw_rtc::rtc_set_memory(rtc, at, value as u8);
        let word = |at: u8, value: u64| {
            let value = value.min(0xffff);
            set(at, value);
            set(at + 1, value >> 8);
        };
        const KIB: u64 = 1 << 10;
        const MIB: u64 = 1 << 20;
        let low = split.below_4g;
        word(0x15, (low / KIB).min(640));
        let extended = low.saturating_sub(MIB) / KIB;
        word(0x17, extended);
        word(0x30, extended);
        word(0x34, low.saturating_sub(16 * MIB) / (64 * KIB));
        let high = split.above_4g / (64 * KIB);
        set(0x5b, high);
        set(0x5c, high >> 8);
        set(0x5d, high >> 16);
        set(0x5f, (self.apic_ids().len() as u64).wrapping_sub(1));
        // Equipment: a coprocessor and a PS/2 mouse; no floppy drive.
        set(0x14, 0x06);
        set(0x10, 0);
        crate::boot_set::init(rtc, &self.config().boot, self.machine_class().default_boot_order)
    }
}

/// The first CPU.
pub(crate) fn first_cpu() -> Option<CpuRef> {
    hw_core::cpu::cpu_list().into_iter().next().map(CpuRef)
}

/// A CPU object that is an [`X86Cpu`].
pub(crate) struct CpuRef(Arc<dyn Object>);

impl std::ops::Deref for CpuRef {
    type Target = X86Cpu;
    fn deref(&self) -> &X86Cpu {
        self.0.cast().expect("this board makes x86 CPUs only")
    }
}

/// The device part of an object that the board made as a device.
pub(crate) fn device(object: &Arc<dyn Object>) -> &Device {
    object.cast().expect("qdev_create gives devices only")
}
