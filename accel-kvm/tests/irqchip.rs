//! Interrupt routes, eventfds that raise interrupts, and messages, as the in-kernel chips see them.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use accel_kvm::hw_core::accel::{AccelIrqchip, MsiMessage, accel_irqchip};
use accel_kvm::kvm_bindings::{KVM_IRQCHIP_PIC_MASTER, kvm_irqchip};
use accel_kvm::{ioapic_route, pic_route, with_current_vcpu};
use common::Vm;
use vmm_sys_util::eventfd::EventFd;

const FIRST_MESSAGE: u32 = 24;

fn message(vector: u32) -> MsiMessage {
    MsiMessage { address: 0xfee0_0000, data: vector }
}

fn irqchip(vm: &Vm) -> Arc<dyn AccelIrqchip> {
    let routes = (0..16).map(|n| pic_route(n, n)).chain((0..24).map(|n| ioapic_route(n, n))).collect();
    vm.kvm.irqchip().unwrap().set_board_routes(routes).unwrap();
    accel_irqchip().unwrap()
}

/// The lines that the master 8259 has seen rise (its IRR), which nobody takes: no guest runs.
fn requested(vm: &Vm) -> u8 {
    let mut chip = kvm_irqchip { chip_id: KVM_IRQCHIP_PIC_MASTER, ..Default::default() };
    vm.kvm.vm.get().unwrap().get_irqchip(&mut chip).unwrap();
    // SAFETY: the chip asked for is a PIC, so this is the member that the kernel filled in.
    unsafe { chip.chip.pic.irr }
}

/// A register of the local APIC.
fn apic(vm: &Vm, at: usize) -> u32 {
    let read = move || with_current_vcpu(|vcpu| vcpu.get_lapic().unwrap().regs);
    let regs = vm.cpu().run_on_cpu(read).flatten().unwrap();
    u32::from_le_bytes(std::array::from_fn(|n| regs[at + n] as u8))
}

/// Enables the local APIC by its spurious-interrupt register.
fn enable_apic(vm: &Vm) {
    let enable = || {
        with_current_vcpu(|vcpu| {
            let mut lapic = vcpu.get_lapic().unwrap();
            [lapic.regs[0xf0], lapic.regs[0xf1]] = [-1, 1];
            vcpu.set_lapic(&lapic).unwrap();
        })
    };
    vm.cpu().run_on_cpu(enable).flatten().unwrap();
}

/// Waits for what the kernel does on a worker of its own.
fn eventually(what: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !what() {
        if start.elapsed() > Duration::from_secs(60) {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

#[test]
fn a_gsi_reaches_the_pic() {
    let vm = Vm::take();
    let irqchip = irqchip(&vm);
    assert_eq!(requested(&vm) & 1 << 5, 0);
    irqchip.set_gsi(5, true);
    assert_eq!(requested(&vm) & 1 << 5, 1 << 5);
    irqchip.set_gsi(5, false);
}

#[test]
fn an_eventfd_raises_its_gsi_until_it_is_taken_away() {
    let vm = Vm::take();
    let irqchip = irqchip(&vm);
    let eventfd = EventFd::new(0).unwrap();
    irqchip.add_irqfd(6, &eventfd, None).unwrap();
    let error = irqchip.add_irqfd(6, &eventfd, None).unwrap_err().to_string();
    assert_eq!(error, "KVM_IRQFD failed: Device or resource busy (os error 16)");
    assert_eq!(requested(&vm) & 1 << 6, 0);
    eventfd.write(1).unwrap();
    assert!(eventually(|| requested(&vm) & 1 << 6 != 0));
    irqchip.remove_irqfd(6, &eventfd);
    eventfd.write(1).unwrap();
    // Nobody takes it any more.
    assert_eq!(eventfd.read().unwrap(), 1);
    irqchip.add_irqfd(6, &eventfd, None).unwrap();
    irqchip.remove_irqfd(6, &eventfd);
}

#[test]
fn each_message_has_a_gsi_of_its_own_until_it_is_given_back() {
    let vm = Vm::take();
    let irqchip = irqchip(&vm);
    let gsis: Vec<u32> = (0..3).map(|n| irqchip.add_msi_routes(&[message(0x40 + n)]).unwrap()[0]).collect();
    assert_eq!(gsis, [FIRST_MESSAGE, FIRST_MESSAGE + 1, FIRST_MESSAGE + 2]);
    irqchip.release_routes(&[gsis[1]]);
    assert_eq!(irqchip.add_msi_routes(&[message(0x50)]).unwrap()[0], gsis[1]);
    irqchip.update_msi_routes(&[(gsis[2], message(0x51))]).unwrap();
    // The board's lines may be led elsewhere meanwhile.
    vm.kvm.irqchip().unwrap().set_board_routes((0..16).map(|n| pic_route(n, n)).collect()).unwrap();
    let next = irqchip.add_msi_routes(&[message(0x52)]).unwrap()[0];
    assert_eq!(next, FIRST_MESSAGE + 3);
    irqchip.release_routes(&[next]);
    irqchip.release_routes(&gsis);
    let error = |gsi| irqchip.update_msi_routes(&[(gsi, message(0x40))]).unwrap_err().to_string();
    assert_eq!(error(gsis[0]), format!("GSI {} stands for no message", gsis[0]));
    // A board's line is no message, and releasing it is nothing.
    assert_eq!(error(5), "GSI 5 stands for no message");
    irqchip.release_routes(&[5]);
    irqchip.set_gsi(7, true);
    assert_eq!(requested(&vm) & 1 << 7, 1 << 7);
    irqchip.set_gsi(7, false);
}

#[test]
fn messages_reach_the_local_apic_at_once_and_by_eventfd() {
    let vm = Vm::take();
    let irqchip = irqchip(&vm);
    enable_apic(&vm);
    let pending = |vector: usize| apic(&vm, 0x200 + vector / 32 * 0x10) & 1 << (vector % 32) != 0;
    assert!(!pending(0x41) && !pending(0x42) && !pending(0x43));
    irqchip.send_msi(message(0x41));
    assert!(pending(0x41));
    let gsi = irqchip.add_msi_routes(&[message(0x42)]).unwrap()[0];
    let eventfd = EventFd::new(0).unwrap();
    irqchip.add_irqfd(gsi, &eventfd, None).unwrap();
    eventfd.write(1).unwrap();
    assert!(eventually(|| pending(0x42)));
    // The route leads elsewhere, with the eventfd in place.
    irqchip.update_msi_routes(&[(gsi, message(0x43))]).unwrap();
    eventfd.write(1).unwrap();
    assert!(eventually(|| pending(0x43)));
    irqchip.remove_irqfd(gsi, &eventfd);
    irqchip.release_routes(&[gsi]);
}
