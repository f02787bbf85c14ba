//! What all x86 machines share: CPUs, the split of memory, interrupt lines.
//!
//! Source: QEMU `hw/i386/x86.c`.

use std::sync::{Arc, OnceLock};

use hw_core::cpu::cpu_list;
use hw_core::irq::{Irq, IrqHandler};
use hw_core::machine::{CpuInstanceProperties, Machine, PossibleCpu};
use hw_core::{accel, qdev_new, qdev_realize};
use parking_lot::Mutex;
use qom::property::OnOffAuto;
use qom::{Class, ClassInit, Object, Property, Result, bail};
use target_i386::X86Cpu;
use target_i386::topology::Topology;

/// Number of interrupt lines: inputs of the I/O APIC.
pub const GSI_NUM_PINS: u32 = 24;

/// Memory below and above the hole under 4 GiB, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RamSplit {
    /// From address 0.
    pub below_4g: u64,
    /// From 4 GiB.
    pub above_4g: u64,
}

/// What the interrupt lines lead to where the accelerator brings no controllers (`GSIState`).
#[derive(Default)]
pub(crate) struct GsiState {
    /// The PICs' inputs.
    pub i8259_irq: OnceLock<Vec<Irq>>,
    /// The I/O APIC's inputs.
    pub ioapic_irq: OnceLock<Vec<Irq>>,
}

impl IrqHandler for GsiState {
    /// A line leads to the PIC and the I/O APIC both (`gsi_handler`).
    fn set_irq(&self, n: u32, level: bool) {
        for controller in [&self.i8259_irq, &self.ioapic_irq] {
            if let Some(line) = controller.get().and_then(|lines| lines.get(n as usize)) {
                line.set(level);
            }
        }
    }
}

/// The root part of every x86 machine.
#[derive(Object)]
#[object(name = "x86-machine", parent = Machine, abstract)]
pub struct X86Machine {
    parent: Machine,
    /// Enable SMM
    #[property(default = OnOffAuto::Auto)]
    pub smm: Property<OnOffAuto>,
    /// Enable ACPI
    #[property(default = OnOffAuto::Auto)]
    pub acpi: Property<OnOffAuto>,
    /// Set on/off to enable/disable ACPI Heterogeneous Memory Attribute Table (HMAT)
    #[property]
    pub hmat: Property<bool>,
    /// Enable i8254 PIT
    #[property(default = OnOffAuto::Auto)]
    pub pit: Property<OnOffAuto>,
    /// Enable i8259 PIC
    #[property(default = OnOffAuto::Auto)]
    pub pic: Property<OnOffAuto>,
    /// Override the default value of field OEMID in ACPI table header. The string may be up to 6 bytes in size
    #[property(default = "BOCHS ", name = "x-oem-id")]
    pub oem_id: Property<String>,
    /// Override the default value of field OEM Table ID in ACPI table header. The string may be up to 8 bytes
    #[property(default = "BXPC    ", name = "x-oem-table-id")]
    pub oem_table_id: Property<String>,
    pub(crate) ram_split: OnceLock<RamSplit>,
    pub(crate) gsi: OnceLock<Vec<Irq>>,
    pub(crate) gsi_state: Arc<GsiState>,
    apic_ids: Mutex<Vec<u32>>,
}
qom::type_init!(X86Machine);

impl<T: hw_core::MachineImpl> ClassInit<T> for X86Machine {
    fn class_init(class: &mut Class) {
        <Machine as ClassInit<T>>::class_init(class);
    }
}

impl X86Machine {
    /// How the memory is split.
    pub fn ram_split(&self) -> RamSplit {
        self.ram_split.get().copied().unwrap_or_default()
    }

    /// Interrupt line `n`, which leads to both kinds of interrupt controllers.
    pub fn gsi(&self, n: u32) -> Option<Irq> {
        self.gsi.get()?.get(n as usize).cloned()
    }

    /// How CPUs are arranged, as APIC ids encode it.
    pub fn topology(&self) -> Topology {
        let smp = self.config().smp;
        Topology { dies: smp.dies, cores: smp.cores, threads: smp.threads }
    }

    /// Whether the machine has system management mode (`x86_machine_is_smm_enabled`). Where nothing is said
    /// it has it for a firmware's sake: a kernel that is started without one has nobody to answer an SMI.
    ///
    /// # Errors
    /// When `smm=on` and the accelerator has none.
    pub fn smm_enabled(&self) -> Result<bool> {
        let available = || accel_kvm::kvm_state().is_none_or(|kvm| kvm.has_smm());
        match self.smm.get() {
            OnOffAuto::Off => Ok(false),
            OnOffAuto::Auto => Ok(self.kernel.get().is_none() && available()),
            OnOffAuto::On if available() => Ok(true),
            OnOffAuto::On => bail!("System Management Mode not supported by this hypervisor."),
        }
    }

    /// APIC ids of the CPUs there are, in order of index.
    pub fn apic_ids(&self) -> Vec<u32> {
        self.apic_ids.lock().clone()
    }

    /// APIC ids of the CPUs there can be, in order of index.
    pub fn possible_apic_ids(&self) -> Vec<u32> {
        let topology = self.topology();
        (0..self.config().smp.max_cpus).map(|n| topology.apic_id_of_index(n)).collect()
    }

    /// The places for CPUs, with the CPUs there are (`x86_possible_cpu_arch_ids`).
    pub fn possible_cpus(&self) -> Vec<PossibleCpu> {
        let (topology, config, cpus) = (self.topology(), self.config(), cpu_list());
        let path_of = |apic_id: u32| {
            let found = cpus.iter().find(|cpu| cpu.cast::<X86Cpu>().is_some_and(|c| c.apic_id() == apic_id));
            found.and_then(|cpu| cpu.canonical_path())
        };
        let numa = self.numa().lock();
        let place = |index| {
            let ids = topology.ids_of_index(index);
            PossibleCpu {
                type_name: config.cpu_type.clone().unwrap_or_default(),
                vcpus_count: 1,
                props: CpuInstanceProperties {
                    node_id: numa.cpu_node(index as usize),
                    socket_id: Some(ids.socket.into()),
                    die_id: (topology.dies > 1).then_some(ids.die.into()),
                    core_id: Some(ids.core.into()),
                    thread_id: Some(ids.thread.into()),
                    ..CpuInstanceProperties::default()
                },
                qom_path: path_of(topology.apic_id(&ids)),
            }
        };
        (0..config.smp.max_cpus).map(place).collect()
    }

    /// Makes the CPUs (`x86_cpus_init`).
    ///
    /// # Errors
    /// When there is no such type, or the accelerator refuses.
    pub fn cpus_init(&self) -> Result<()> {
        let _span = util::trace::span("x86_cpus_init");
        let possible = self.possible_apic_ids();
        let limit = possible.last().copied().unwrap_or_default().saturating_add(1);
        if limit > 255 {
            bail!("current -smp configuration requires kernel irqchip and X2APIC API support.");
        }
        let Some(cpu_type) = self.config().cpu_type.clone() else { bail!("the machine has no CPU type") };
        for apic_id in possible.into_iter().take(self.config().smp.cpus as usize) {
            self.cpu_new(&cpu_type, apic_id)?;
        }
        Ok(())
    }

    /// Makes one CPU (`x86_cpu_new`).
    fn cpu_new(&self, cpu_type: &str, apic_id: u32) -> Result<()> {
        let _span = util::trace::span("x86_cpu_new");
        let cpu = qdev_new(cpu_type)?;
        cpu.property_set_value("apic-id", apic_id)?;
        qdev_realize(&cpu, None)
    }

    /// A CPU of that APIC id came.
    pub(crate) fn add_apic_id(&self, apic_id: u32) {
        let mut ids = self.apic_ids.lock();
        ids.push(apic_id);
        ids.sort_unstable();
    }

    /// The CPU of that APIC id went.
    pub(crate) fn remove_apic_id(&self, apic_id: u32) {
        self.apic_ids.lock().retain(|id| *id != apic_id);
    }

    /// Makes the interrupt lines (`pc_gsi_create`).
    pub(crate) fn gsi_create(&self) {
        let handler: Arc<dyn IrqHandler> = match accel::accel_irqchip() {
            // The kernel forwards a line to the PIC and the I/O APIC both.
            Some(irqchip) if !irqchip.is_split() => {
                Arc::new(move |n: u32, level: bool| irqchip.set_gsi(n, level))
            }
            _ => self.gsi_state.clone(),
        };
        let lines = (0..GSI_NUM_PINS).map(|n| Irq::new(handler.clone(), n)).collect();
        let _ = self.gsi.set(lines);
    }
}
