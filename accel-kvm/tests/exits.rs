//! A guest's exits are answered: ports, memory-mapped registers, eventfds, collected writes, and being called
//! away.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::Receiver;

use common::{Port, Vm, within_patience};
use memory::{IoEventFd, MemoryRegion, get_system_io, get_system_memory};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

fn port(number: u64, size: u64) -> (MemoryRegion, Receiver<(u64, u64)>) {
    let (region, receiver) = Port::region("port", size);
    get_system_io().add_subregion(number, &region);
    (region, receiver)
}

fn values(receiver: &Receiver<(u64, u64)>) -> Vec<u64> {
    receiver.try_iter().map(|(_, value)| value).collect()
}

#[test]
fn ports_take_and_give_bytes_words_and_double_words() {
    let vm = Vm::take();
    let (region, written) = port(0x80, 8);
    // mov eax, 0x44332211; out 0x80, al; out 0x81, ax; out 0x82, eax
    let code = [0x66, 0xb8, 0x11, 0x22, 0x33, 0x44, 0xe6, 0x80, 0xe7, 0x82, 0x66, 0xe7, 0x84];
    vm.run(&code);
    assert_eq!(written.try_iter().collect::<Vec<_>>(), [(0, 0x11), (2, 0x2211), (4, 0x4433_2211)]);
    // in al, 0x83; mov ah, al; in al, 0x85
    assert_eq!(vm.run(&[0xe4, 0x83, 0x88, 0xc4, 0xe4, 0x85]), 0x4345);
    // Nothing is at 0x70: in ax, 0x70
    assert_eq!(vm.run(&[0xe5, 0x70]), 0xffff);
    region.unmap();
}

#[test]
fn a_repeated_out_reaches_the_port_element_by_element() {
    let vm = Vm::take();
    let (region, written) = port(0x80, 2);
    // mov si, 0x1000; mov cx, 5; mov dx, 0x80; cld; rep outsb
    vm.run(&[0xbe, 0x00, 0x10, 0xb9, 0x05, 0x00, 0xba, 0x80, 0x00, 0xfc, 0xf3, 0x6e]);
    assert_eq!(values(&written), [0xbe, 0x00, 0x10, 0xb9, 0x05]);
    region.unmap();
}

#[test]
fn memory_mapped_registers_are_read_and_written() {
    let vm = Vm::take();
    let (region, written) = Port::region("registers", 0x1000);
    get_system_memory().add_subregion_overlap(0xa000, &region, 1);
    // mov bx, 0xa010; mov word [bx], 0x1234; mov byte [bx+3], 0x56; mov ax, [bx+4]
    let code = [0xbb, 0x10, 0xa0, 0xc7, 0x07, 0x34, 0x12, 0xc6, 0x47, 0x03, 0x56, 0x8b, 0x47, 0x04];
    assert_eq!(vm.run(&code), 0x54);
    assert_eq!(written.try_iter().collect::<Vec<_>>(), [(0x10, 0x1234), (0x13, 0x56)]);
    region.unmap();
}

#[test]
fn an_eventfd_is_signalled_in_place_of_its_port() {
    let vm = Vm::take();
    let (region, written) = port(0x80, 4);
    let eventfd = Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
    let fd = IoEventFd { address: 0, size: 2, data: Some(7), eventfd: eventfd.clone() };
    region.add_eventfd(fd.clone());
    // mov ax, 7; out 0x80, ax; out 0x80, ax; mov ax, 8; out 0x80, ax; mov al, 7; out 0x80, al
    let code = [0xb8, 7, 0, 0xe7, 0x80, 0xe7, 0x80, 0xb8, 8, 0, 0xe7, 0x80, 0xb0, 7, 0xe6, 0x80];
    vm.run(&code);
    assert_eq!(eventfd.read().unwrap(), 2);
    // Another value and another size are the device's.
    assert_eq!(values(&written), [8, 7]);
    region.del_eventfd(&fd);
    vm.run(&code);
    assert!(eventfd.read().is_err());
    assert_eq!(values(&written), [7, 7, 8, 7]);
    region.unmap();
}

#[test]
fn an_eventfd_moves_with_its_memory_mapped_register() {
    let vm = Vm::take();
    let (region, written) = Port::region("registers", 0x1000);
    let eventfd = Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
    region.add_eventfd(IoEventFd { address: 0x10, size: 2, data: None, eventfd: eventfd.clone() });
    get_system_memory().add_subregion_overlap(0xa000, &region, 1);
    // mov word [0xa010], 1
    let code = [0xc7, 0x06, 0x10, 0xa0, 0x01, 0x00];
    vm.run(&code);
    assert_eq!((eventfd.read().unwrap(), values(&written)), (1, Vec::new()));
    region.set_address(0xb000);
    vm.run(&code);
    assert!(eventfd.read().is_err());
    // mov word [0xb010], 1
    vm.run(&[0xc7, 0x06, 0x10, 0xb0, 0x01, 0x00]);
    assert_eq!((eventfd.read().unwrap(), values(&written)), (1, Vec::new()));
    region.unmap();
}

#[test]
fn collected_writes_come_in_order_before_the_exit_that_follows() {
    let vm = Vm::take();
    let (collected, written) = port(0x80, 4);
    collected.add_coalescing(0, 1);
    // mov al, 1; out 0x80, al; inc al; out 0x80, al; inc al; out 0x80, al; in al, 0x80; mov ah, 0
    let code = [0xb0, 1, 0xe6, 0x80, 0xfe, 0xc0, 0xe6, 0x80, 0xfe, 0xc0, 0xe6, 0x80, 0xe4, 0x80, 0xb4, 0];
    assert_eq!(vm.run(&code), 0x40);
    assert_eq!(values(&written), [1, 2, 3]);
    collected.clear_coalescing();
    vm.run(&code);
    assert_eq!(values(&written), [1, 2, 3]);
    collected.unmap();
}

#[test]
fn a_cpu_that_spins_is_called_away_again_and_again() {
    let vm = Vm::take();
    // 1: jmp 1b
    vm.start(&[0xeb, 0xfe]);
    let cpu = within_patience(move || {
        let mut sum = 0;
        for n in 0..200_u32 {
            sum += hw_core::cpu::cpu_list()[0].cast::<hw_core::Cpu>().unwrap().run_on_cpu(move || n).unwrap();
        }
        sum
    });
    assert_eq!(cpu, (0..200).sum::<u32>());
    within_patience(|| hw_core::runstate::vm_stop(hw_core::runstate::RunState::Paused));
    assert!(vm.cpu().is_stopped());
}

#[test]
fn a_stopped_cpu_works_but_does_not_run() {
    let vm = Vm::take();
    let (region, written) = port(0x80, 1);
    // 1: out 0x80, al; jmp 1b
    vm.start(&[0xe6, 0x80, 0xeb, 0xfc]);
    assert!(written.recv_timeout(std::time::Duration::from_secs(60)).is_ok());
    vm.stop();
    values(&written);
    let count = Arc::new(AtomicU32::new(0));
    let counter = count.clone();
    let on_cpu = vm.cpu().run_on_cpu(move || {
        counter.fetch_add(1, Ordering::SeqCst);
        hw_core::cpu::current_cpu()
    });
    assert_eq!((on_cpu, count.load(Ordering::SeqCst)), (Some(Some(0)), 1));
    assert!(values(&written).is_empty());
    region.unmap();
}
