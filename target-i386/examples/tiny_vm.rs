//! The whole way to a running guest in one page: an accelerator, memory, a port, a CPU, and seven bytes of code
//! that add two registers. Needs `/dev/kvm`.

use std::sync::{Arc, mpsc};

use accel_kvm::hw_core::{accel, machine, qdev_create, runstate};
use memory::{MemoryRegion, RamBlock, RegionOps, address_space_memory, get_system_io, get_system_memory};
use target_i386::X86Cpu;

/// `mov dx, 0x10; add ax, bx; out dx, ax; hlt`
const CODE: [u8; 7] = [0xba, 0x10, 0x00, 0x01, 0xd8, 0xef, 0xf4];
const ADDRESS: u64 = 0x1000;

/// A port that hands what the guest writes to whoever waits for it.
struct Port(mpsc::Sender<u64>);

impl RegionOps for Port {
    fn read(&self, _offset: u64, _size: u8) -> u64 {
        u64::MAX
    }
    fn write(&self, _offset: u64, value: u64, _size: u8) {
        let _ = self.0.send(value);
    }
}

pub(crate) fn add(a: u16, b: u16) -> Result<u64, Box<dyn std::error::Error>> {
    qom::module_call_init(qom::ModuleInitType::Qom);
    let machine = qom::object_new("none-machine")?;
    machine::set_current_machine(&machine)?;
    accel::accel_init_machine(&qom::object_new("kvm-accel")?, &machine)?;
    get_system_memory().add_subregion(0, &MemoryRegion::ram("ram", RamBlock::anonymous("ram", 64 << 10)?));
    let _ = address_space_memory().write(ADDRESS, &CODE);
    let (sender, written) = mpsc::channel();
    get_system_io().add_subregion(0x10, &MemoryRegion::io("port", 2, Arc::new(Port(sender))));

    let cpu = qdev_create("qemu64-x86_64-cpu", None, &[])?;
    cpu.cast::<X86Cpu>().ok_or("not an x86 CPU")?.change_state(|state| {
        (state.cs.selector, state.cs.base) = (0, 0);
        state.registers.rip = ADDRESS;
        (state.registers.rax, state.registers.rbx) = (a.into(), b.into());
    });
    runstate::vm_start();
    Ok(written.recv()?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("the guest says {}", add(40, 2)?);
    Ok(())
}
