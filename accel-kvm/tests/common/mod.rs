//! A machine with 1 MiB of memory and a CPU in real mode, which runs what a test gives it.
//!
//! There is one machine a program: the tests take turns.
#![allow(dead_code, reason = "each test uses its part")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use accel_kvm::hw_core::accel::accel_init_machine;
use accel_kvm::hw_core::machine::set_current_machine;
use accel_kvm::hw_core::runstate::{RunState, vm_start, vm_stop};
use accel_kvm::hw_core::{Cpu, DeviceImpl, Machine, qdev_create};
use accel_kvm::kvm_bindings::{KVM_MP_STATE_RUNNABLE, kvm_mp_state, kvm_regs};
use accel_kvm::kvm_ioctls::VcpuFd;
use accel_kvm::{KvmArch, KvmArchCpu, KvmState, kvm_state, set_arch};
use memory::{
    AccessRules, MemTxResult, MemoryRegion, RamBlock, RegionOps, address_space_memory, get_system_io,
    get_system_memory,
};
use qom::{Error, Object, Result};

/// Where the tests' code is.
pub const CODE: u64 = 0x1000;
/// A word written to this port ends a test's program.
pub const DONE_PORT: u64 = 0x10;
/// `out 0x10, ax; 1: hlt; jmp 1b`
pub const DONE: [u8; 5] = [0xe7, 0x10, 0xf4, 0xeb, 0xfd];
/// Longer than any program here takes on the slowest machine: then it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

struct TestArch;

impl KvmArch for TestArch {
    fn init(&self, kvm: &Arc<KvmState>, _machine: &Machine) -> Result<()> {
        kvm.vm.then(|vm| vm.set_tss_address(0xfeff_d000).map_err(refused))
    }
}

/// A CPU that starts at [`CODE`] in real mode with flat segments at 0.
#[derive(Object)]
#[object(name = "test-cpu", parent = Cpu, interfaces(dyn KvmArchCpu))]
pub struct TestCpu {
    parent: Cpu,
    dirty: AtomicBool,
}
qom::type_init!(TestCpu);

impl DeviceImpl for TestCpu {
    fn realize(self: &Arc<Self>) -> Result<()> {
        self.list_add();
        Cpu::init_vcpu(self)
    }
}

fn refused(error: accel_kvm::kvm_ioctls::Error) -> Error {
    Error::new(error.to_string())
}

impl KvmArchCpu for TestCpu {
    fn vcpu_id(&self) -> u64 {
        self.index().into()
    }

    fn init_vcpu(&self, _kvm: &KvmState, _vcpu: &VcpuFd) -> Result<()> {
        Ok(())
    }

    fn put_registers(&self, vcpu: &VcpuFd) -> Result<()> {
        if !self.dirty.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let mut sregs = vcpu.get_sregs().map_err(refused)?;
        for segment in [&mut sregs.cs, &mut sregs.ds, &mut sregs.es, &mut sregs.ss] {
            (segment.base, segment.selector) = (0, 0);
        }
        vcpu.set_sregs(&sregs).map_err(refused)?;
        let regs = kvm_regs { rip: CODE, rflags: 2, rsp: 0x8000, ..Default::default() };
        vcpu.set_regs(&regs).map_err(refused)?;
        vcpu.set_mp_state(kvm_mp_state { mp_state: KVM_MP_STATE_RUNNABLE }).map_err(refused)
    }

    fn dump_state(&self, vcpu: &VcpuFd) -> String {
        format!("{:x?}", vcpu.get_regs())
    }
}

/// Hands on what is written, with where it was written.
pub struct Port(pub Mutex<Sender<(u64, u64)>>);

impl Port {
    /// A region of `size` bytes that gives 0x40 + offset and hands on writes.
    pub fn region(name: &str, size: u64) -> (MemoryRegion, Receiver<(u64, u64)>) {
        let (sender, receiver) = channel();
        (MemoryRegion::io(name, size, Arc::new(Port(Mutex::new(sender)))), receiver)
    }
}

impl RegionOps for Port {
    fn read(&self, offset: u64, _size: u8) -> u64 {
        0x40 + offset
    }

    fn write(&self, offset: u64, value: u64, _size: u8) {
        let _ = self.0.lock().unwrap().send((offset, value));
    }

    fn rules(&self) -> AccessRules {
        AccessRules::sizes(1, 4)
    }
}

/// The machine.
pub struct Vm {
    pub kvm: Arc<KvmState>,
    cpu: Arc<dyn Object>,
    done: Receiver<(u64, u64)>,
}

impl Vm {
    fn new() -> Vm {
        set_arch(Box::new(TestArch));
        qom::module_call_init(qom::ModuleInitType::Qom);
        let machine = qom::object_new("none-machine").unwrap();
        set_current_machine(&machine).unwrap();
        accel_init_machine(&qom::object_new("kvm-accel").unwrap(), &machine).unwrap();
        let ram = MemoryRegion::ram("ram", RamBlock::anonymous("ram", 1 << 20).unwrap());
        get_system_memory().add_subregion(0, &ram);
        let (port, done) = Port::region("done", 2);
        get_system_io().add_subregion(DONE_PORT, &port);
        let cpu = qdev_create("test-cpu", None, &[]).unwrap();
        Vm { kvm: kvm_state().unwrap().clone(), cpu, done }
    }

    /// The machine, once no other test has it.
    pub fn take() -> MutexGuard<'static, Vm> {
        static VM: OnceLock<Mutex<Vm>> = OnceLock::new();
        VM.get_or_init(|| Mutex::new(Vm::new())).lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn cpu(&self) -> &Cpu {
        self.cpu.cast().unwrap()
    }

    /// Starts the CPU on `code`.
    pub fn start(&self, code: &[u8]) {
        assert_eq!(address_space_memory().write(CODE, code), MemTxResult::Ok);
        self.cpu.cast::<TestCpu>().unwrap().dirty.store(true, Ordering::Release);
        vm_start();
    }

    /// Stops the CPU, wherever it is.
    pub fn stop(&self) {
        vm_stop(RunState::Paused);
    }

    /// Runs `code` until it says it is done; gives what it says in AX.
    pub fn run(&self, code: &[u8]) -> u64 {
        self.start(&[code, &DONE].concat());
        let said = self.done.recv_timeout(PATIENCE);
        self.stop();
        said.expect("the guest's program comes to its end").1
    }
}

/// `f` on a thread of its own; fails where it hangs.
pub fn within_patience<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> R {
    let (sender, receiver) = channel();
    std::thread::spawn(move || sender.send(f()));
    receiver.recv_timeout(PATIENCE).expect("it does not hang")
}
