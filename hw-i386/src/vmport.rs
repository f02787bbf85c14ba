//! `vmport`: VMware's backdoor, a port at which the guest's registers are the arguments and results.
//!
//! Sources: QEMU `hw/i386/vmport.c`; open-vm-tools `backdoor_def.h`.

use std::sync::Arc;

use hw_core::machine::{Machine, current_machine};
use hw_core::{DeviceClass, DeviceImpl};
use hw_isa::IsaDevice;
use memory::{AccessLimits, AccessRules, RegionOps};
use qom::{Class, Object, Property, Result};
use target_i386::reset::Registers;
use target_i386::{X86Cpu, current_tsc_khz, with_current_cpu};
use util::log::{Mask, log_mask};

/// Registers and commands (open-vm-tools `backdoor_def.h`).
mod spec {
    /// The port.
    pub const PORT: u32 = 0x5658;
    /// What EAX must hold.
    pub const MAGIC: u32 = 0x564d_5868;
    /// The commands, which ECX holds.
    pub const GETVERSION: u8 = 10;
    pub const GETBIOSUUID: u8 = 19;
    pub const GETRAMSIZE: u8 = 20;
    pub const GETHZ: u8 = 45;
    pub const GET_VCPU_INFO: u8 = 68;
    /// GETRAMSIZE's EBX: the port that old guests ask further.
    pub const RAM_SIZE_PORT: u32 = 0x1177;
    /// GET_VCPU_INFO: the local APIC has x2APIC mode.
    pub const VCPU_LEGACY_X2APIC: u32 = 1 << 3;
}
use spec::*;

/// How fast the local APIC's timer counts under KVM, in Hz.
const APIC_BUS_FREQUENCY: u32 = 1_000_000_000;
/// CPUID leaf 1 ECX: x2APIC.
const CPUID_X2APIC: u32 = 1 << 21;

/// The device.
#[derive(Object)]
#[object(name = "vmport", parent = IsaDevice, class_init = class_init)]
pub struct VmPort {
    parent: IsaDevice,
    /// Whether results go to EAX beside the value read
    #[property(default = true, name = "x-read-set-eax")]
    read_set_eax: Property<bool>,
    /// Whether an unknown command gives all ones
    #[property(default = true, name = "x-signal-unsupported-cmd")]
    signal_unsupported_cmd: Property<bool>,
    /// Whether the version comes with the product
    #[property(default = true, name = "x-report-vmx-type")]
    report_vmx_type: Property<bool>,
    /// Whether there are more commands than version and memory size
    #[property(default = true, name = "x-cmds-v2")]
    cmds_v2: Property<bool>,
    /// The version of the interface
    #[property(default = 6)]
    vmware_vmx_version: Property<u32>,
    /// The product: 1 Express, 2 ESX, 3 GSX, 4 Workstation
    #[property(default = 2)]
    vmware_vmx_type: Property<u8>,
}
qom::type_init!(VmPort);

fn class_init(class: &mut Class) {
    class.get_mut::<DeviceClass>().board_only = true;
}

impl DeviceImpl for VmPort {
    fn realize(self: &Arc<Self>) -> Result<()> {
        self.register_ioport(self.clone(), "vmport", PORT, 1)?;
        Ok(())
    }
}

impl VmPort {
    /// Carries out the command in ECX and gives what EAX becomes; `None` when there is no such command.
    fn command(&self, cpu: &X86Cpu, registers: &mut Registers) -> Option<u32> {
        if registers.rax as u32 != MAGIC {
            return None;
        }
        let command = registers.rcx as u8;
        match command {
            GETVERSION => {
                registers.rbx = MAGIC.into();
                if self.report_vmx_type.get() {
                    registers.rcx = self.vmware_vmx_type.get().into();
                }
                Some(self.vmware_vmx_version.get())
            }
            GETRAMSIZE => {
                registers.rbx = RAM_SIZE_PORT.into();
                let machine = current_machine()?;
                Some(machine.cast::<Machine>()?.config().ram_size as u32)
            }
            GETBIOSUUID if self.cmds_v2.get() => Some(bios_uuid(registers)),
            GETHZ if self.cmds_v2.get() => Some(frequencies(registers)),
            GET_VCPU_INFO if self.cmds_v2.get() => {
                let x2apic = cpu.cpuid_leaf(1).is_some_and(|leaf| leaf.ecx & CPUID_X2APIC != 0);
                Some(if x2apic { VCPU_LEGACY_X2APIC } else { 0 })
            }
            _ => {
                log_mask(Mask::UNIMP, || format!("vmport: unknown command {command:x}"));
                None
            }
        }
    }

    /// A read of the port, whose value goes to EAX.
    fn access(&self, cpu: &X86Cpu, registers: &mut Registers, set_eax: bool) -> u32 {
        let unsupported = match self.signal_unsupported_cmd.get() {
            true => u32::MAX,
            false => registers.rax as u32,
        };
        let value = self.command(cpu, registers).unwrap_or(unsupported);
        if set_eax {
            registers.rax = value.into();
        }
        value
    }
}

/// The machine's UUID in EAX, EBX, ECX and EDX.
fn bios_uuid(registers: &mut Registers) -> u32 {
    let machine = current_machine();
    let config = machine.as_ref().and_then(|m| m.cast::<Machine>()).map(Machine::config);
    let uuid = u128::from_le_bytes(config.and_then(|c| c.uuid).unwrap_or_default());
    let word = |n: u32| u64::from((uuid >> (32 * n)) as u32);
    (registers.rbx, registers.rcx, registers.rdx) = (word(1), word(2), word(3));
    uuid as u32
}

/// Frequencies in Hz: the local APIC's in ECX, the time-stamp counter's in EBX and EAX; EBX all ones where it
/// is not known.
fn frequencies(registers: &mut Registers) -> u32 {
    match u64::from(current_tsc_khz()) * 1000 {
        0 => {
            registers.rbx = u32::MAX.into();
            registers.rax as u32
        }
        hz => {
            registers.rcx = APIC_BUS_FREQUENCY.into();
            registers.rbx = hz >> 32;
            hz as u32
        }
    }
}

impl RegionOps for VmPort {
    fn read(&self, _offset: u64, _size: u8) -> u64 {
        let set_eax = self.read_set_eax.get();
        let value = with_current_cpu(|cpu, registers| self.access(cpu, registers, set_eax));
        value.unwrap_or(u32::MAX).into()
    }

    fn write(&self, _offset: u64, _value: u64, _size: u8) {
        with_current_cpu(|cpu, registers| self.access(cpu, registers, true));
    }

    fn rules(&self) -> AccessRules {
        AccessRules { implemented: AccessLimits::new(4, 4), ..AccessRules::default() }
    }
}
