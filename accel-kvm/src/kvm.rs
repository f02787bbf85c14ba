//! `kvm_init` and what it leaves behind.

use std::io;
use std::sync::{Arc, OnceLock};

use hw_core::accel::{AccelClass, AccelIrqchip, AccelState, Accelerator};
use hw_core::{Cpu, Machine};
use kvm_bindings::{
    CpuId, KVM_CAP_SPLIT_IRQCHIP, KVM_CAP_SYS_HYPERV_CPUID, KVMIO, kvm_cpuid2, kvm_enable_cap, kvm_interrupt,
    kvm_reinject_control,
};
use kvm_ioctls::{Cap, Kvm, VcpuFd};
use memory::{
    AddressSpace, MemoryListener, MemoryRegion, address_space_io, address_space_memory, get_system_memory,
};
use parking_lot::Mutex;
use qom::{Class, Object, Property, Result, Size, bail};
use util::trace::span;
use vmm_sys_util::ioctl::{ioctl_with_mut_ptr, ioctl_with_mut_ref, ioctl_with_ref, ioctl_with_val};
use vmm_sys_util::{ioctl_io_nr, ioctl_ior_nr, ioctl_iow_nr, ioctl_iowr_nr};

use crate::coalesced::CoalescedRanges;
use crate::debug::KvmGuestDebug;
use crate::error::ioctl;
use crate::irqchip::FIRST_MSI_GSI;
use crate::slots::{Bus, KvmMemoryListener};
use crate::vm::{KvmVm, open_and_begin};
use crate::{KvmIrqchip, arch, kick};

// Not in kvm-ioctls: numbers as in the kernel's include/uapi/linux/kvm.h.
ioctl_io_nr!(KVM_REINJECT_CONTROL, KVMIO, 0x71);
ioctl_io_nr!(KVM_SET_NR_MMU_PAGES, KVMIO, 0x44);
ioctl_ior_nr!(KVM_X86_GET_MCE_CAP_SUPPORTED, KVMIO, 0x9d, u64);
ioctl_iow_nr!(KVM_X86_SETUP_MCE, KVMIO, 0x9c, u64);
ioctl_iowr_nr!(KVM_GET_SUPPORTED_HV_CPUID, KVMIO, 0xc1, kvm_cpuid2);
ioctl_iow_nr!(KVM_INTERRUPT, KVMIO, 0x86, kvm_interrupt);

/// Has a vCPU take an interrupt from a controller outside the kernel (`KVM_INTERRUPT`).
///
/// # Errors
/// When it cannot take one now.
pub(crate) fn interrupt(vcpu: &VcpuFd, vector: u8) -> io::Result<()> {
    let interrupt = kvm_interrupt { irq: vector.into() };
    // SAFETY: the ioctl reads a kvm_interrupt and keeps no address of it.
    if unsafe { ioctl_with_ref(vcpu, KVM_INTERRUPT(), &interrupt) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Sets the machine checks of a vCPU (`KVM_X86_SETUP_MCE`).
///
/// # Errors
/// When the kernel refuses.
pub fn x86_setup_mce(vcpu: &VcpuFd, cap: u64) -> io::Result<()> {
    // SAFETY: the ioctl reads a u64 and keeps no address of it.
    if unsafe { ioctl_with_ref(vcpu, KVM_X86_SETUP_MCE(), &cap) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

qom::property_enum! {
    /// Where the interrupt controllers are (`kernel-irqchip=`).
    pub enum KernelIrqchip: "OnOffSplit" { On = "on", Off = "off", Split = "split" }
}

/// The accelerator `kvm`.
#[derive(Object)]
#[object(name = "kvm-accel", parent = AccelState, interfaces(dyn Accelerator), class_init = class_init)]
pub struct KvmAccel {
    parent: AccelState,
    /// Configure KVM in-kernel irqchip
    #[property(default = KernelIrqchip::On)]
    kernel_irqchip: Property<KernelIrqchip>,
    /// KVM shadow MMU size
    #[property]
    kvm_shadow_mem: Property<Size>,
    state: OnceLock<Arc<KvmState>>,
}
qom::type_init!(KvmAccel);

fn class_init(class: &mut Class) {
    class.get_mut::<AccelClass>().name = "kvm";
}

/// A virtual machine of the kernel's.
pub struct KvmState {
    /// `/dev/kvm`.
    pub kvm: Arc<Kvm>,
    /// The machine.
    pub vm: Arc<KvmVm>,
    /// Pages for shadow page tables, 0 for the kernel's default.
    pub shadow_mem_pages: u64,
    /// Which interrupt controllers are the kernel's.
    pub kernel_irqchip: KernelIrqchip,
    smram: OnceLock<Arc<AddressSpace>>,
    irqchip: OnceLock<Arc<KvmIrqchip>>,
    coalesced: Option<Arc<CoalescedRanges>>,
    memory_listener: OnceLock<Arc<KvmMemoryListener>>,
    guest_debug: OnceLock<Arc<KvmGuestDebug>>,
    /// vCPUs that were unplugged, by id: KVM has no way to end one.
    parked: Mutex<Vec<(u64, VcpuFd)>>,
}

static STATE: OnceLock<Arc<KvmState>> = OnceLock::new();

/// The virtual machine, once KVM was chosen.
pub fn kvm_state() -> Option<&'static Arc<KvmState>> {
    STATE.get()
}

/// SMRAM covers the rest of memory.
const SMRAM_PRIORITY: i32 = 10;

/// What this program cannot do without, in order of the kernel's numbers.
const REQUIRED: [(Cap, &str); 6] = [
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::DestroyMemoryRegionWorks, "KVM_CAP_DESTROY_MEMORY_REGION_WORKS"),
    (Cap::JoinMemoryRegionsWorks, "KVM_CAP_JOIN_MEMORY_REGIONS_WORKS"),
    (Cap::Ioeventfd, "KVM_CAP_IOEVENTFD"),
    (Cap::Irqfd, "KVM_CAP_IRQFD"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
];

impl KvmState {
    /// A vCPU of that id: one that was parked, or a new one (`kvm_get_vcpu`).
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn get_vcpu(&self, id: u64) -> Result<VcpuFd> {
        let parked = {
            let mut parked = self.parked.lock();
            parked.iter().position(|(other, _)| *other == id).map(|at| parked.swap_remove(at).1)
        };
        match parked {
            Some(vcpu) => Ok(vcpu),
            None => self.vm.get()?.create_vcpu(id).map_err(|e| ioctl("kvm_init_vcpu: KVM_CREATE_VCPU", e)),
        }
    }

    /// Keeps a vCPU for the next CPU of its id.
    pub(crate) fn park_vcpu(&self, id: u64, vcpu: VcpuFd) {
        self.parked.lock().push((id, vcpu));
    }

    /// Opens `/dev/kvm` and begins to make a virtual machine in it.
    ///
    /// # Errors
    /// When the device is missing, forbidden, too old, or refuses.
    pub fn open() -> Result<Arc<KvmState>> {
        let (kvm, vm) = open_and_begin()?;
        for (cap, name) in REQUIRED {
            if !kvm.check_extension(cap) {
                bail!("kvm does not support {name}. Please upgrade to at least kernel 4.11.");
            }
        }
        let coalesces = [Cap::CoalescedMmio, Cap::CoalescedPio].map(|cap| kvm.check_extension_int(cap) > 0);
        Ok(Arc::new(KvmState {
            kvm,
            vm,
            shadow_mem_pages: 0,
            kernel_irqchip: KernelIrqchip::On,
            smram: OnceLock::new(),
            irqchip: OnceLock::new(),
            coalesced: (coalesces == [true; 2]).then(Arc::default),
            memory_listener: OnceLock::new(),
            guest_debug: OnceLock::new(),
            parked: Mutex::default(),
        }))
    }

    /// The in-kernel interrupt controller.
    pub fn irqchip(&self) -> Option<&Arc<KvmIrqchip>> {
        self.irqchip.get()
    }

    /// How many ranges KVM collects writes to, where it can.
    pub(crate) fn coalesced_ranges(&self) -> Option<&Arc<CoalescedRanges>> {
        self.coalesced.as_ref()
    }

    /// A debugger's breakpoints, where KVM can debug.
    pub(crate) fn guest_debug(&self) -> Option<&Arc<KvmGuestDebug>> {
        self.guest_debug.get()
    }

    /// What keeps the memory slots.
    pub fn memory_listener(&self) -> Option<&Arc<KvmMemoryListener>> {
        self.memory_listener.get()
    }

    /// Makes the in-kernel PIC, I/O APIC and local APICs.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn create_irqchip(&self) -> Result<()> {
        let _span = span("kvm_irqchip_create");
        self.vm.then(|vm| {
            let _span = span("KVM_CREATE_IRQCHIP");
            vm.create_irq_chip().map_err(|e| ioctl("Create kernel irqchip", e))
        })?;
        let _ = self.irqchip.set(KvmIrqchip::new(self.vm.clone(), self.max_gsis(), false));
        Ok(())
    }

    /// Makes the local APICs the kernel's, and nothing else (`KVM_CAP_SPLIT_IRQCHIP`).
    ///
    /// # Errors
    /// When the kernel cannot, or refuses.
    pub fn create_split_irqchip(&self) -> Result<()> {
        let _span = span("kvm_irqchip_create");
        let cap = kvm_enable_cap {
            cap: KVM_CAP_SPLIT_IRQCHIP,
            args: [FIRST_MSI_GSI.into(), 0, 0, 0],
            ..Default::default()
        };
        self.vm.then(move |vm| {
            vm.enable_cap(&cap).map_err(|e| ioctl("Could not enable split irqchip mode: KVM_ENABLE_CAP", e))
        })?;
        let _ = self.irqchip.set(KvmIrqchip::new(self.vm.clone(), self.max_gsis(), true));
        Ok(())
    }

    fn max_gsis(&self) -> u32 {
        u32::try_from(self.kvm.check_extension_int(Cap::IrqRouting)).unwrap_or_default()
    }

    /// Whether the in-kernel PIT delivers ticks later that the guest missed (`KVM_REINJECT_CONTROL`).
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_pit_reinjection(&self, on: bool) -> Result<()> {
        let control = kvm_reinject_control { pit_reinject: on.into(), ..Default::default() };
        // SAFETY: the ioctl reads a kvm_reinject_control and keeps no address of it.
        let result = unsafe { ioctl_with_ref(self.vm.get()?, KVM_REINJECT_CONTROL(), &control) };
        if result < 0 {
            bail!("Can't disable in-kernel PIT reinjection: {}", io::Error::last_os_error());
        }
        Ok(())
    }

    /// Sets how many pages shadow page tables may take (`KVM_SET_NR_MMU_PAGES`).
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_shadow_mmu_pages(&self) -> Result<()> {
        // SAFETY: the ioctl takes a number.
        if unsafe { ioctl_with_val(self.vm.get()?, KVM_SET_NR_MMU_PAGES(), self.shadow_mem_pages) } < 0 {
            bail!("kvm-shadow-mem: {}", io::Error::last_os_error());
        }
        Ok(())
    }

    /// The CPUID leaves by which KVM's Hyper-V enlightenments are shown (`KVM_GET_SUPPORTED_HV_CPUID`), where it has any.
    pub fn supported_hv_cpuid(&self) -> Option<CpuId> {
        /// More than the interface has leaves.
        const LEAVES: usize = 64;
        if self.kvm.check_extension_raw(KVM_CAP_SYS_HYPERV_CPUID.into()) <= 0 {
            return None;
        }
        let mut leaves = CpuId::new(LEAVES).ok()?;
        let list = leaves.as_mut_fam_struct_ptr();
        // SAFETY: the list says how many leaves it has room for, and the kernel writes no more and keeps no address.
        let result = unsafe { ioctl_with_mut_ptr(&self.kvm, KVM_GET_SUPPORTED_HV_CPUID(), list) };
        (result >= 0).then_some(leaves)
    }

    /// What machine checks KVM can show guests (`KVM_X86_GET_MCE_CAP_SUPPORTED`), where it can.
    pub fn mce_cap_supported(&self) -> Option<u64> {
        let mut cap = 0u64;
        // SAFETY: the ioctl writes a u64 and keeps no address of it.
        let result = unsafe { ioctl_with_mut_ref(&self.kvm, KVM_X86_GET_MCE_CAP_SUPPORTED(), &mut cap) };
        (result >= 0).then_some(cap)
    }

    fn listener(&self, bus: Bus) -> Arc<KvmMemoryListener> {
        let slots = u32::try_from(self.kvm.get_nr_memslots()).unwrap_or(32);
        let readonly = self.has_readonly_mem();
        // What is collected is collected once, whoever writes it.
        let coalesced = if bus == Bus::Smram { None } else { self.coalesced.clone() };
        KvmMemoryListener::new(self.vm.clone(), bus, slots, readonly, coalesced)
    }

    /// Has KVM follow the memory map and the ports from now on.
    pub fn listen(&self) {
        let _span = span("kvm_memory_listener_register");
        let memory = self.listener(Bus::Memory);
        let _ = self.memory_listener.set(memory.clone());
        address_space_memory().add_listener(memory);
        address_space_io().add_listener(self.listener(Bus::Pio) as Arc<dyn MemoryListener>);
    }

    /// Whether guests can read and run memory whose writes come to us (`kvm_readonly_mem_enabled`).
    pub fn has_readonly_mem(&self) -> bool {
        self.kvm.check_extension(Cap::ReadonlyMem)
    }

    /// Whether CPUs have system management mode (`kvm_has_smm`).
    pub fn has_smm(&self) -> bool {
        self.kvm.check_extension(Cap::X86Smm)
    }

    /// Gives CPUs in system management mode a memory map of their own: everybody's, with `smram` before it
    /// (`register_smram_listener`).
    pub fn register_smram_listener(&self, smram: Option<&MemoryRegion>) {
        let root = MemoryRegion::container("mem-container-smram", 1 << 64);
        let space = AddressSpace::new("KVM-SMRAM", &root);
        // While nothing shows: KVM hears of the map when it is complete.
        space.add_listener(self.listener(Bus::Smram));
        let _transaction = memory::transaction();
        let everybody = MemoryRegion::alias("mem-smram", &get_system_memory(), 0, u64::MAX);
        root.add_subregion(0, &everybody);
        if let Some(smram) = smram {
            root.add_subregion_overlap(0, smram, SMRAM_PRIORITY);
        }
        let _ = self.smram.set(space);
    }
}

fn check_vcpus(kvm: &Kvm, machine: &Machine) -> Result<()> {
    let (recommended, most) = (kvm.get_nr_vcpus(), kvm.get_max_vcpus());
    let smp = machine.config().smp;
    for (count, what) in [(smp.cpus, "SMP"), (smp.max_cpus, "hotpluggable")] {
        let count = count as usize;
        if count > most {
            bail!(
                "Number of {what} cpus requested ({count}) exceeds the maximum cpus supported by KVM ({most})"
            );
        }
        if count > recommended {
            util::warn_report!(
                "Number of {what} cpus requested ({count}) exceeds the recommended cpus \
                 supported by KVM ({recommended})"
            );
        }
    }
    Ok(())
}

impl KvmAccel {
    fn kvm_init(&self, machine: &Machine, wait: bool) -> Result<()> {
        let _span = span("kvm_init");
        let mut state = KvmState::open()?;
        if let Some(state) = Arc::get_mut(&mut state) {
            state.shadow_mem_pages = self.kvm_shadow_mem.get().0 / 4096;
            state.kernel_irqchip = self.kernel_irqchip.get();
        }
        check_vcpus(&state.kvm, machine)?;
        kick::install()?;
        {
            let _span = span("kvm_arch_init");
            arch::arch()?.init(&state, machine)?;
        }
        match state.kernel_irqchip {
            KernelIrqchip::On => state.create_irqchip()?,
            KernelIrqchip::Split => state.create_split_irqchip()?,
            KernelIrqchip::Off => {}
        }
        if wait {
            state.vm.settle()?;
        }
        state.listen();
        if let Some(debug) = KvmGuestDebug::new(&state) {
            let _ = state.guest_debug.set(debug);
        }
        let _ = self.state.set(state.clone());
        let _ = STATE.set(state);
        Ok(())
    }
}

impl Accelerator for KvmAccel {
    fn init_machine(&self, machine: &Machine, wait: bool) -> Result<()> {
        self.kvm_init(machine, wait)
    }

    fn finish_init(&self) -> Result<()> {
        self.state.get().map_or(Ok(()), |state| state.vm.settle())
    }

    fn init_vcpu(&self, cpu: &Arc<dyn Object>) -> Result<()> {
        let Some(state) = self.state.get() else { bail!("KVM is not set up") };
        if cpu.cast::<Cpu>().is_none() {
            bail!("'{}' is not a CPU", cpu.type_name());
        }
        let (kvm, cpu) = (state.clone(), cpu.clone());
        state.vm.then(move |_| crate::vcpu::start(&kvm, &cpu))
    }

    fn irqchip(&self) -> Option<Arc<dyn AccelIrqchip>> {
        let irqchip = self.state.get()?.irqchip()?.clone();
        Some(irqchip)
    }

    fn has_ioeventfds(&self) -> bool {
        true
    }
}
