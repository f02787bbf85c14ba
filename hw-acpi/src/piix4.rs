//! PIIX4's power management function: the ACPI registers behind a movable base, and the SMI command port.
//!
//! Sources: Intel 82371AB (PIIX4) data sheet, 290562, chapter 7; QEMU `hw/acpi/piix4.c`, `hw/isa/apm.c`.

mod hotplug;

use std::sync::{Arc, OnceLock};

use hw_core::runstate::{ShutdownCause, register_powerdown_notifier, shutdown_request};
use hw_core::suspend::{self, WakeupReason};
use hw_core::{DeviceClass, DeviceImpl, IrqPin, VmState, vmstate};
use hw_i2c::pm_smbus::PmSmbus;
use hw_i2c::{PmSmbusPorts, i2c_init_bus};
use hw_pci::spec::VENDOR_ID_INTEL;
use hw_pci::spec::{CLASS_BRIDGE_OTHER, INTERRUPT_PIN, STATUS, STATUS_DEVSEL_MEDIUM, STATUS_FAST_BACK};
use hw_pci::{ConfigSpace, PciBus, PciDevice, PciDeviceClass, PciDeviceImpl};
use memory::{AccessLimits, AccessRules, MemoryRegion, RegionOps};
use parking_lot::Mutex;
use qom::{Class, Object, Property, Result, bail};
use serde::{Deserialize, Serialize};
use util::clock::{ClockType, now_ns};
use util::timer::Timer;

use self::hotplug::{Hotplug, HotplugState};
use crate::core::spec::{PM_TMR, PM1_CNT, PM1_STS};
use crate::core::{AcpiRegs, SleepRequest};

/// Registers (82371AB, section 7.1) and ports.
pub mod spec {
    /// Device id.
    pub const DEVICE_ID: u16 = 0x7113;
    /// Revision that QEMU's has.
    pub const REVISION: u8 = 3;
    /// Power management base address, 32 bits.
    pub const PMBA: usize = 0x40;
    /// PMBA's fixed bit: I/O space.
    pub const PMBA_IO: u32 = 1;
    /// Device activity B: the APM port's SMI is enabled by bit 1 of the highest byte.
    pub const DEVACTB: usize = 0x5b;
    /// DEVACTB: writes to the APM control port raise an SMI.
    pub const APMC_EN: u8 = 1 << 1;
    /// Device resource D's highest byte: the parallel port is there (bit 7); bit 4 is always set.
    pub const DEVRESD: usize = 0x5f;
    /// Device resource F's highest byte, as QEMU sets it.
    pub const DEVRESF: usize = 0x63;
    /// Device resource H's highest byte: COM1 (bit 3) and COM2 (bits 4 and 7) are there.
    pub const DEVRESH: usize = 0x67;
    /// Miscellaneous power management.
    pub const PMREGMISC: usize = 0x80;
    /// PMREGMISC: the block at PMBA is decoded.
    pub const PMIOSE: u8 = 1 << 0;
    /// SMBus base address, 32 bits.
    pub const SMBBA: usize = 0x90;
    /// SMBus host configuration.
    pub const SMBHSTCFG: usize = 0xd2;
    /// SMBHSTCFG: the block at SMBBA is decoded.
    pub const SMB_HST_EN: u8 = 1 << 0;
    /// SMBHSTCFG: interrupts are IRQ 9's, as QEMU sets it.
    pub const SMB_INTERRUPT: u8 = 1 << 3;
    /// Size of the block at PMBA.
    pub const PM_IO_SIZE: u64 = 64;
    /// Where QEMU shows the general-purpose event block.
    pub const GPE_BASE: u16 = 0xafe0;
    /// Size of that block.
    pub const GPE_LEN: u8 = 4;
    /// APM control port; the status port follows.
    pub const APM_CNT_IOPORT: u16 = 0xb2;
    /// APM command that turns ACPI on.
    pub const ACPI_ENABLE: u8 = 0xf1;
    /// APM command that turns ACPI off.
    pub const ACPI_DISABLE: u8 = 0xf0;
}
use spec::*;

/// The function.
#[derive(Object)]
#[object(name = "PIIX4_PM", parent = PciDevice, class_init = class_init)]
pub struct Piix4Pm {
    parent: PciDevice,
    /// Whether S3 is not offered
    #[property(name = "disable_s3")]
    disable_s3: Property<u8>,
    /// Whether S4 is not offered
    #[property(name = "disable_s4")]
    disable_s4: Property<u8>,
    /// The sleep type that means S4
    #[property(default = 2, name = "s4_val")]
    s4_val: Property<u8>,
    /// Where the SMBus's registers start
    #[property(name = "smb_io_base")]
    smb_io_base: Property<u32>,
    /// Whether the machine has SMM
    #[property]
    smm_enabled: Property<bool>,
    /// Whether devices of the root bus can come and go
    #[property(default = true, name = "acpi-root-pci-hotplug")]
    root_hotplug: Property<bool>,
    /// Whether devices behind bridges can come and go
    #[property(default = true, name = "acpi-pci-hotplug-with-bridge-support")]
    bridge_hotplug: Property<bool>,
    hotplug: Hotplug,
    regs: OnceLock<Arc<Mutex<AcpiRegs>>>,
    apm: Mutex<Apm>,
    timer: OnceLock<Timer>,
    pm_region: OnceLock<MemoryRegion>,
    smbus: OnceLock<(Arc<PmSmbusPorts>, MemoryRegion)>,
    sci: Arc<IrqPin>,
    smi: Arc<IrqPin>,
}
qom::type_init!(Piix4Pm);

fn class_init(class: &mut Class) {
    vmstate::register::<Piix4Pm>(class);
    let device = class.get_mut::<DeviceClass>();
    device.desc = "PM";
    device.board_only = true;
    device.hotpluggable = false;
    let pci = class.get_mut::<PciDeviceClass>();
    (pci.vendor_id, pci.device_id) = (VENDOR_ID_INTEL, DEVICE_ID);
    (pci.revision, pci.class_id) = (REVISION, CLASS_BRIDGE_OTHER);
}

/// The APM registers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Apm {
    control: u8,
    status: u8,
}

impl Piix4Pm {
    /// Sets the SCI and the timer to what the registers say now.
    fn update(&self) {
        let Some(regs) = self.regs.get() else { return };
        let now = now_ns(ClockType::Virtual);
        {
            let regs = regs.lock();
            // Under their lock, so that an older deadline does not come last.
            match (self.timer.get(), regs.next_deadline(now)) {
                (Some(timer), Some(deadline)) => timer.mod_ns(deadline),
                (Some(timer), None) => timer.del(),
                (None, _) => {}
            }
        }
        self.sci.sync(false, || regs.lock().sci_level(now));
    }

    fn change<R>(&self, f: impl FnOnce(&mut AcpiRegs) -> R) -> Option<R> {
        let result = {
            let mut regs = self.regs.get()?.lock();
            let result = f(&mut regs);
            self.enable_wakeups(&regs);
            result
        };
        self.update();
        Some(result)
    }

    /// The PM timer's wake-up: it fires on while the guest sleeps.
    fn timer_fired(&self) {
        self.update();
        let now = now_ns(ClockType::Virtual);
        let due = self.regs.get().is_some_and(|regs| regs.lock().timer_due(now));
        if due {
            // Most of the time nobody sleeps.
            let _ = suspend::wakeup_request(WakeupReason::PmTimer);
        }
    }

    /// Says what may wake the guest.
    fn enable_wakeups(&self, regs: &AcpiRegs) {
        for reason in [WakeupReason::Rtc, WakeupReason::PmTimer] {
            suspend::wakeup_enable(reason, regs.can_wake(reason));
        }
    }

    /// Whether the machine offers S3.
    pub fn offers_s3(&self) -> bool {
        self.disable_s3.get() == 0
    }

    /// The sleep type of S4, offered or not.
    pub fn s4_number(&self) -> u8 {
        self.s4_val.get()
    }

    /// The sleep type of S4, if the machine offers that.
    pub fn s4_type(&self) -> Option<u8> {
        (self.disable_s4.get() == 0).then_some(self.s4_val.get())
    }

    fn update_mapping(&self) {
        let Some(region) = self.pm_region.get() else { return };
        let (base, enabled) = self.with_config(|c| (c.u32(PMBA) & 0xffc0, c.u8(PMREGMISC) & PMIOSE != 0));
        let _transaction = memory::transaction();
        region.set_enabled(enabled);
        region.set_address(base.into());
    }

    fn update_smbus_mapping(&self) {
        let Some((_, region)) = self.smbus.get() else { return };
        let (base, enabled) =
            self.with_config(|c| (c.u32(SMBBA) & 0xffc0, c.u8(SMBHSTCFG) & SMB_HST_EN != 0));
        let _transaction = memory::transaction();
        region.set_enabled(enabled);
        region.set_address(base.into());
    }

    fn create_smbus(&self, bus: &PciBus) -> Result<()> {
        let smbus = PmSmbusPorts::new(&i2c_init_bus(&self.this(), "i2c")?);
        let region = smbus.region();
        region.set_enabled(false);
        bus.io().add_subregion(0, &region);
        let _ = self.smbus.set((smbus, region));
        self.update_smbus_mapping();
        Ok(())
    }

    /// Says which of the first two serial ports there are; for the board, once all devices are.
    pub fn set_serial_ports(&self, com1: bool, com2: bool) {
        self.with_config(|c| {
            c.set_u8(DEVRESD, 0x10);
            c.set_u8(DEVRESF, 0x60);
            c.set_u8(DEVRESH, if com1 { 0x08 } else { 0 } | if com2 { 0x90 } else { 0 });
        });
    }

    fn sleep(&self, request: SleepRequest) {
        match request {
            SleepRequest::SoftOff => shutdown_request(ShutdownCause::GuestShutdown),
            SleepRequest::SuspendToDisk => suspend::suspend_to_disk(),
            SleepRequest::SuspendToRam => suspend::suspend_request(),
        }
    }

    fn apm_command(&self, command: u8) {
        // What the SMI handler does in answer to the two commands of the FADT.
        match command {
            ACPI_ENABLE => drop(self.change(|r| r.set_sci_enabled(true))),
            ACPI_DISABLE => drop(self.change(|r| r.set_sci_enabled(false))),
            _ if self.with_config(|c| c.u8(DEVACTB) & APMC_EN != 0) => self.smi.pulse(),
            _ => {}
        }
    }

    fn map_ports(self: &Arc<Self>, bus: &PciBus) {
        let pm = MemoryRegion::container("piix4-pm", PM_IO_SIZE.into());
        for block in [PmBlock::Event, PmBlock::Control, PmBlock::Timer] {
            let (name, offset, size) = block.place();
            let ports = Arc::new(PmPorts { pm: self.clone(), block });
            pm.add_subregion(offset, &MemoryRegion::io(name, size, ports));
        }
        pm.set_enabled(false);
        bus.io().add_subregion(0, &pm);
        let _ = self.pm_region.set(pm);
        let gpe = MemoryRegion::io("acpi-gpe0", GPE_LEN.into(), Arc::new(GpePorts(self.clone())));
        bus.io().add_subregion(GPE_BASE.into(), &gpe);
        let apm = MemoryRegion::io("apm-io", 2, Arc::new(ApmPorts(self.clone())));
        bus.io().add_subregion(APM_CNT_IOPORT.into(), &apm);
    }
}

impl DeviceImpl for Piix4Pm {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let Some(bus) = self.bus::<PciBus>() else { bail!("PIIX4_PM needs a PCI bus") };
        let regs = AcpiRegs::new(GPE_LEN.into(), self.s4_val.get(), !self.smm_enabled.get());
        let _ = self.regs.set(Arc::new(Mutex::new(regs)));
        let this = Arc::downgrade(self);
        let _ = self.timer.set(Timer::new(ClockType::Virtual, move || {
            if let Some(this) = this.upgrade() {
                this.timer_fired();
            }
        }));
        self.with_config(|c| {
            c.set_u16(STATUS, STATUS_FAST_BACK | STATUS_DEVSEL_MEDIUM);
            c.set_u8(INTERRUPT_PIN, 1);
            c.set_u32(SMBBA, self.smb_io_base.get() | 1);
            c.set_u8(SMBHSTCFG, SMB_INTERRUPT | SMB_HST_EN);
        });
        self.init_gpio_out("sci", &self.sci);
        self.init_gpio_out("smi-irq", &self.smi);
        self.map_ports(&bus);
        self.create_smbus(&bus)?;
        self.map_hotplug(&bus);
        suspend::register_wakeup_support();
        let this = Arc::downgrade(self);
        suspend::register_wakeup_notifier(Arc::new(move |reason| {
            if let Some(this) = this.upgrade() {
                let _ = this.change(|regs| regs.wake(reason));
            }
        }));
        let this = Arc::downgrade(self);
        register_powerdown_notifier(Arc::new(move || {
            if let Some(this) = this.upgrade() {
                let _ = this.change(AcpiRegs::press_power_button);
            }
        }));
        Ok(())
    }

    fn reset_hold(&self) {
        self.with_config(|c| {
            for at in [0x58, 0x59, 0x5a, 0x5b] {
                c.set_u8(at, 0);
            }
            // Of the base its lowest byte only, as in QEMU.
            c.set_u8(PMBA, PMBA_IO as u8);
            c.set_u8(PMREGMISC, 0);
            if !self.smm_enabled.get() {
                // Marks SMM as set up, so that a firmware leaves it alone.
                c.set_u8(DEVACTB, APMC_EN);
            }
        });
        self.update_mapping();
        let _ = self.change(AcpiRegs::reset);
        if let Some(this) = qom::downcast::<Piix4Pm>(self.this()) {
            this.reset_hotplug();
        }
    }
}

/// What the function saves beside its configuration space.
#[derive(Debug, Serialize, Deserialize)]
pub struct Piix4PmState {
    regs: AcpiRegs,
    apm: Apm,
    smbus: PmSmbus,
    hotplug: HotplugState,
}

impl VmState for Piix4Pm {
    type State = Piix4PmState;

    fn save(&self) -> Option<Piix4PmState> {
        let regs = self.regs.get()?.lock().clone();
        Some(Piix4PmState {
            regs,
            apm: self.apm.lock().clone(),
            smbus: self.smbus.get()?.0.save(),
            hotplug: self.hotplug.state(),
        })
    }

    fn load(&self, state: Piix4PmState) -> Result<()> {
        if !self.hotplug.load(state.hotplug) {
            bail!("the state is of a machine with other places for CPUs or memory modules");
        }
        *self.apm.lock() = state.apm;
        if let Some((smbus, _)) = self.smbus.get() {
            smbus.load(state.smbus);
        }
        match self.change(|regs| regs.load(state.regs)) {
            Some(false) => bail!("the state is of another power management function"),
            _ => Ok(()),
        }
    }
}

impl PciDeviceImpl for Piix4Pm {
    fn config_loaded(&self) {
        self.update_mapping();
        self.update_smbus_mapping();
    }

    fn config_written(&self, at: usize, size: u8) {
        if ConfigSpace::touches(at, size, PMBA, 4) || ConfigSpace::touches(at, size, PMREGMISC, 1) {
            self.update_mapping();
        }
        if ConfigSpace::touches(at, size, SMBBA, 4) || ConfigSpace::touches(at, size, SMBHSTCFG, 1) {
            self.update_smbus_mapping();
        }
    }
}

/// A block of registers in the PM I/O space; what lies between them is nobody's.
#[derive(Clone, Copy)]
enum PmBlock {
    Event,
    Control,
    Timer,
}

impl PmBlock {
    /// Name, offset and size of its ports.
    fn place(self) -> (&'static str, u64, u64) {
        match self {
            PmBlock::Event => ("acpi-evt", PM1_STS, 4),
            PmBlock::Control => ("acpi-cnt", PM1_CNT, 2),
            PmBlock::Timer => ("acpi-tmr", PM_TMR, 4),
        }
    }
}

struct PmPorts {
    pm: Arc<Piix4Pm>,
    block: PmBlock,
}

impl RegionOps for PmPorts {
    #[inline]
    fn read(&self, offset: u64, _size: u8) -> u64 {
        let now = now_ns(ClockType::Virtual);
        let (_, start, _) = self.block.place();
        self.pm.regs.get().map_or(0, |r| r.lock().read(start + offset, now))
    }

    fn write(&self, offset: u64, value: u64, _size: u8) {
        let now = now_ns(ClockType::Virtual);
        let (_, start, _) = self.block.place();
        if let Some(Some(request)) = self.pm.change(|r| r.write(start + offset, value as u16, now)) {
            self.pm.sleep(request);
        }
    }

    fn rules(&self) -> AccessRules {
        // Narrower accesses are made of a whole register, as in QEMU.
        let width = if matches!(self.block, PmBlock::Timer) { 4 } else { 2 };
        AccessRules { implemented: AccessLimits::new(width, 4), ..AccessRules::sizes(1, width) }
    }
}

struct GpePorts(Arc<Piix4Pm>);

impl RegionOps for GpePorts {
    fn read(&self, offset: u64, _size: u8) -> u64 {
        self.0.regs.get().map_or(0, |r| r.lock().read_gpe(offset).into())
    }

    fn write(&self, offset: u64, value: u64, _size: u8) {
        let _ = self.0.change(|r| r.write_gpe(offset, value as u8));
    }

    fn rules(&self) -> AccessRules {
        AccessRules::bytes(4)
    }
}

struct ApmPorts(Arc<Piix4Pm>);

impl RegionOps for ApmPorts {
    fn read(&self, offset: u64, _size: u8) -> u64 {
        let apm = self.0.apm.lock();
        if offset == 0 { apm.control } else { apm.status }.into()
    }

    fn write(&self, offset: u64, value: u64, _size: u8) {
        let value = value as u8;
        if offset == 0 {
            self.0.apm.lock().control = value;
            self.0.apm_command(value);
        } else {
            self.0.apm.lock().status = value;
        }
    }

    fn rules(&self) -> AccessRules {
        AccessRules::sizes(1, 1)
    }
}
