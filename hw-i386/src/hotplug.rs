//! The board's say when CPUs and memory modules are plugged and unplugged.
//!
//! Sources: QEMU `hw/i386/pc.c` (`pc_machine_device_plug_cb` and its like), `hw/i386/x86.c` (`x86_cpu_pre_plug`).

use std::sync::Arc;

use hw_acpi::memory_hotplug::MemoryModule;
use hw_acpi::piix4::Piix4Pm;
use hw_core::{Cpu, Device, HotplugHandler, accel, runstate};
use hw_mem::{MemoryDevice, PcDimm, memory_device_plug, memory_device_unplug, pc_dimm_pre_plug};
use hw_nvram::fw_cfg::spec::NB_CPUS;
use qom::property::OnOffAuto;
use qom::{Object, Result, bail};
use target_i386::topology::TopologyIds;
use target_i386::{CpuPlace, X86Cpu};

use crate::intc;
use crate::pc::PcMachine;

/// CMOS register of the number of CPUs.
const CMOS_CPUS: u8 = 0x5f;

/// The board as the one to ask.
pub(crate) struct PcHotplug(pub Arc<dyn Object>);

fn is_hotplugged(device: &Arc<dyn Object>) -> bool {
    device.cast::<Device>().is_some_and(Device::is_hotplugged)
}

/// An id of a CPU's: in range, and said at all.
fn checked_id(name: &str, id: i32, last: u32) -> Result<u32> {
    match u32::try_from(id) {
        Err(_) => bail!("CPU {name} is not set"),
        Ok(id) if id > last => bail!("Invalid CPU {name}: {id} must be in range 0:{last}"),
        Ok(id) => Ok(id),
    }
}

impl PcMachine {
    fn acpi_pm(&self) -> Option<&Piix4Pm> {
        self.acpi_dev.get()?.cast::<Piix4Pm>()
    }

    /// The APIC id of a CPU: as said, or as its place in the topology makes it.
    fn apic_id_of(&self, place: &CpuPlace) -> Result<u32> {
        if let Some(apic_id) = place.apic_id {
            return Ok(apic_id);
        }
        let smp = self.config().smp;
        let last_socket = (smp.max_cpus - 1) / (smp.threads * smp.cores * smp.dies).max(1);
        // A machine with one die a socket need not be told which.
        let die = if place.die < 0 && smp.dies == 1 { 0 } else { place.die };
        let ids = TopologyIds {
            socket: checked_id("socket-id", place.socket, last_socket)?,
            die: checked_id("die-id", die, smp.dies - 1)?,
            core: checked_id("core-id", place.core, smp.cores - 1)?,
            thread: checked_id("thread-id", place.thread, smp.threads - 1)?,
        };
        Ok(self.topology().apic_id(&ids))
    }

    /// Before a CPU is realized: finds its place and tells it (`x86_cpu_pre_plug`).
    fn cpu_pre_plug(&self, object: &Arc<dyn Object>, cpu: &X86Cpu) -> Result<()> {
        if let Some(wanted) = &self.config().cpu_type
            && !object.is_a(wanted)
        {
            bail!("Invalid CPU type, expected cpu type: '{wanted}'");
        }
        let place = cpu.wanted_place();
        let apic_id = self.apic_id_of(&place)?;
        let ids = self.topology().ids_of_apic_id(apic_id);
        let possible = self.possible_apic_ids();
        let Some(index) = possible.iter().position(|id| *id == apic_id) else {
            bail!(
                "Invalid CPU [socket: {}, die: {}, core: {}, thread: {}] with APIC ID {apic_id}, valid index range \
                 0:{}",
                ids.socket,
                ids.die,
                ids.core,
                ids.thread,
                possible.len() - 1
            )
        };
        if self.apic_ids().contains(&apic_id) {
            bail!("CPU[{index}] with APIC ID {apic_id} exists");
        }
        let pairs = [
            ("socket-id", place.socket, ids.socket),
            ("die-id", place.die, ids.die),
            ("core-id", place.core, ids.core),
            ("thread-id", place.thread, ids.thread),
        ];
        for (name, said, is) in pairs {
            if said != -1 && said != is as i32 {
                bail!(
                    "property {name}: {} doesn't match set apic-id: {apic_id:#x} ({name}: {is})",
                    said as u32
                );
            }
        }
        let node = self.numa().lock().cpu_node(index);
        match node {
            Some(node) if place.node != -1 && i64::from(place.node) != node => {
                bail!("invalid node-id, must be {node}")
            }
            None if place.node > 0 => bail!("invalid node-id, must be 0"),
            _ => {}
        }
        cpu.set_place(self.topology(), apic_id, node.map(|node| node as i32));
        Ok(())
    }

    /// A CPU is part of the machine (`x86_cpu_plug`).
    fn cpu_plug(&self, object: &Arc<dyn Object>, cpu: &X86Cpu) -> Result<()> {
        if accel::accel_irqchip().is_none()
            && let Some(cpu) = qom::downcast::<X86Cpu>(object.clone())
        {
            intc::apic_init(self, &cpu)?;
        }
        self.add_apic_id(cpu.apic_id());
        if let Some(pm) = self.acpi_pm() {
            pm.cpu_plug(cpu.apic_id(), object, is_hotplugged(object));
        }
        self.tell_cpus();
        if is_hotplugged(object) && runstate::is_running() {
            Cpu::resume(cpu);
        }
        Ok(())
    }

    /// Firmware finds how many CPUs there are.
    fn tell_cpus(&self) {
        let count = self.apic_ids().len() as u16;
        if let Some(rtc) = self.rtc.get() {
            hw_rtc::rtc_set_memory(rtc, CMOS_CPUS, (count.wrapping_sub(1)) as u8);
        }
        if let Some(fw_cfg) = self.fw_cfg.get() {
            // The item is there since the board is made.
            let _ = fw_cfg.modify_bytes(NB_CPUS, count.to_le_bytes());
        }
    }

    fn cpu_unplug_request(&self, object: &Arc<dyn Object>, cpu: &X86Cpu) -> Result<()> {
        let Some(pm) = self.acpi_pm() else { bail!("CPU hot unplug not supported without ACPI") };
        if self.possible_apic_ids().first() == Some(&cpu.apic_id()) {
            bail!("Boot CPU is unpluggable");
        }
        pm.cpu_unplug_request(cpu.apic_id(), object);
        Ok(())
    }

    fn memory_pm(&self) -> Result<&Piix4Pm> {
        match self.acpi_pm() {
            Some(pm) if self.acpi.get() != OnOffAuto::Off => Ok(pm),
            _ => bail!("memory hotplug is not enabled: missing acpi device or acpi disabled"),
        }
    }

    fn dimm_plug(&self, object: &Arc<dyn Object>, dimm: &PcDimm) -> Result<()> {
        let pm = self.memory_pm()?;
        memory_device_plug(dimm, self)?;
        let module = MemoryModule { address: dimm.addr(), size: dimm.size(), node: dimm.node() };
        if let Some(slot) = dimm.slot() {
            pm.memory_plug(slot, module, object, is_hotplugged(object));
        }
        Ok(())
    }

    fn dimm_unplug_request(&self, object: &Arc<dyn Object>, dimm: &PcDimm) -> Result<()> {
        let pm = self.memory_pm()?;
        if let Some(slot) = dimm.slot() {
            pm.memory_unplug_request(slot, object);
        }
        Ok(())
    }
}

impl HotplugHandler for PcHotplug {
    fn pre_plug(&self, device: &Arc<dyn Object>) -> Result<()> {
        let Some(pc) = self.0.cast::<PcMachine>() else { return Ok(()) };
        match (device.cast::<X86Cpu>(), device.cast::<PcDimm>()) {
            (Some(cpu), _) => pc.cpu_pre_plug(device, cpu),
            (None, Some(dimm)) => {
                pc.memory_pm()?;
                pc_dimm_pre_plug(dimm, &self.0, pc)
            }
            (None, None) => Ok(()),
        }
    }

    fn plug(&self, device: &Arc<dyn Object>) -> Result<()> {
        let Some(pc) = self.0.cast::<PcMachine>() else { return Ok(()) };
        match (device.cast::<X86Cpu>(), device.cast::<PcDimm>()) {
            (Some(cpu), _) => pc.cpu_plug(device, cpu),
            (None, Some(dimm)) => pc.dimm_plug(device, dimm),
            (None, None) => Ok(()),
        }
    }

    fn unplug_request(&self, device: &Arc<dyn Object>) -> Result<()> {
        let Some(pc) = self.0.cast::<PcMachine>() else { return Ok(()) };
        match (device.cast::<X86Cpu>(), device.cast::<PcDimm>()) {
            (Some(cpu), _) => pc.cpu_unplug_request(device, cpu),
            (None, Some(dimm)) => pc.dimm_unplug_request(device, dimm),
            (None, None) => {
                bail!("acpi: device unplug request for not supported device type: {}", device.type_name())
            }
        }
    }

    fn unplug(&self, device: &Arc<dyn Object>) {
        let Some(pc) = self.0.cast::<PcMachine>() else { return };
        if let Some(cpu) = device.cast::<X86Cpu>() {
            pc.remove_apic_id(cpu.apic_id());
            pc.tell_cpus();
        } else if let Some(dimm) = device.cast::<PcDimm>() {
            memory_device_unplug(dimm);
        }
    }
}
