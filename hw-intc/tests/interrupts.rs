//! The controllers together, as on a board: lines to the PICs and the I/O APIC, messages and IPIs to local APICs.
//!
//! The APICs of a program are one system: the tests take turns.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use hw_core::accel::MsiMessage;
use hw_core::intc::InterruptStatsProvider;
use hw_core::reset::cold_reset;
use hw_core::sysbus::sysbus_get_default;
use hw_core::{Cpu, DeviceImpl, Irq, qdev_create, qdev_new, qdev_realize, qdev_unparent};
use hw_intc::apic::CpuInterrupt;
use hw_intc::{
    ApicCpu, ApicDevice, IoApicDevice, IsaI8259, cpu_get_pic_interrupt, pic_irq_request, send_msi,
};
use memory::{AddressSpace, MemTxResult, address_space_memory};
use parking_lot::{Mutex, MutexGuard};
use proptest::prelude::*;
use qom::Object;
use util::clock;

const LEVEL: u32 = 1 << 15;
const SVR: u64 = 0xf0;
const EOI: u64 = 0xb0;
const LINT0: u64 = 0x350;
const EXTINT: u32 = 7 << 8;

/// A CPU that runs nothing.
#[derive(Object)]
#[object(name = "test-cpu", parent = Cpu)]
struct TestCpu {
    parent: Cpu,
    intr: AtomicBool,
    events: Mutex<Vec<CpuInterrupt>>,
    no_apic: AtomicBool,
}
impl DeviceImpl for TestCpu {}
qom::type_init!(TestCpu);

impl ApicCpu for TestCpu {
    fn cpu_index(&self) -> u32 {
        self.index()
    }
    fn set_intr(&self, level: bool) {
        assert_ne!(self.intr.swap(level, Ordering::SeqCst), level, "only changes are told");
    }
    fn interrupt(&self, kind: CpuInterrupt) {
        self.events.lock().push(kind);
    }
    fn clear_apic_feature(&self) {
        self.no_apic.store(true, Ordering::SeqCst);
    }
}

struct Board {
    cpus: Vec<Arc<TestCpu>>,
    apics: Vec<Arc<ApicDevice>>,
    ioapic: Arc<IoApicDevice>,
    io: Arc<AddressSpace>,
    pic: Arc<IsaI8259>,
    pic_irqs: Vec<Irq>,
    /// The thread is a CPU's.
    _turn: MutexGuard<'static, ()>,
}

impl Board {
    /// A board with as many CPUs, their APICs switched on.
    fn new(cpus: u32) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock();
        let (bus, io) = common::isa_bus();
        clock::set_manual();
        let parent = Irq::new(Arc::new(|_: u32, level: bool| assert!(pic_irq_request(level))), 0);
        let (pic, pic_irqs) = common::pics(&bus, parent);
        let ioapic = qdev_create("ioapic", Some(&sysbus_get_default()), &[]).unwrap();
        let mut board = Board {
            cpus: Vec::new(),
            apics: Vec::new(),
            ioapic: qom::downcast(ioapic).unwrap(),
            io,
            pic,
            pic_irqs,
            _turn: turn,
        };
        (0..cpus).for_each(|id| board.add_cpu(id));
        for cpu in 0..cpus as usize {
            board.write(cpu, SVR, 0x1ff);
        }
        board
    }

    fn add_cpu(&mut self, id: u32) {
        let cpu: Arc<TestCpu> = qom::downcast(qdev_new("test-cpu").unwrap()).unwrap();
        cpu.list_add();
        let apic = qdev_new("apic").unwrap();
        apic.property_set("id", qom::property::PropertyInput::Json(&id.into())).unwrap();
        let apic: Arc<ApicDevice> = qom::downcast(apic).unwrap();
        let weak: Weak<dyn ApicCpu> = Arc::downgrade(&(cpu.clone() as Arc<dyn ApicCpu>));
        apic.set_cpu(weak);
        apic.designate_bsp(id == 0);
        qdev_realize(&(apic.clone() as Arc<dyn Object>), None).unwrap();
        self.cpus.push(cpu);
        self.apics.push(apic);
    }

    /// Writes a register of the APIC of CPU `cpu`, as that CPU.
    fn write(&self, cpu: usize, offset: u64, value: u32) {
        self.cpus[cpu].signal_created();
        let result = address_space_memory().write(0xfee0_0000 + offset, &value.to_le_bytes());
        assert_eq!(result, MemTxResult::Ok);
    }

    fn read(&self, cpu: usize, offset: u64) -> u32 {
        self.cpus[cpu].signal_created();
        read(0xfee0_0000 + offset)
    }

    fn write_ioapic(&self, register: u32, value: u32) {
        for (offset, value) in [(0u64, register), (0x10, value)] {
            let result = address_space_memory().write(0xfec0_0000 + offset, &value.to_le_bytes());
            assert_eq!(result, MemTxResult::Ok);
        }
    }

    fn intr(&self, cpu: usize) -> bool {
        self.cpus[cpu].intr.load(Ordering::SeqCst)
    }

    /// The vectors that wait, for each CPU.
    fn take_all(&self) -> Vec<Option<u8>> {
        (0..self.cpus.len()).map(|cpu| self.intr(cpu).then(|| self.take(cpu)).flatten()).collect()
    }

    fn take(&self, cpu: usize) -> Option<u8> {
        cpu_get_pic_interrupt(Some(&self.apics[cpu]))
    }

    fn events(&self) -> Vec<Vec<CpuInterrupt>> {
        self.cpus.iter().map(|cpu| std::mem::take(&mut *cpu.events.lock())).collect()
    }
}

fn read(address: u64) -> u32 {
    let mut data = [0; 4];
    assert_eq!(address_space_memory().read(address, &mut data), MemTxResult::Ok);
    u32::from_le_bytes(data)
}

impl Drop for Board {
    fn drop(&mut self) {
        for apic in &self.apics {
            qdev_unparent(&(apic.clone() as Arc<dyn Object>));
        }
        self.cpus.iter().for_each(|cpu| cpu.list_remove());
        qdev_unparent(&(self.ioapic.clone() as Arc<dyn Object>));
    }
}

#[test]
fn each_cpu_sees_its_own_registers_and_others_none() {
    let board = Board::new(2);
    assert_eq!(board.read(0, 0x20), 0);
    assert_eq!(board.read(1, 0x20), 0x0100_0000);
    assert_eq!(board.read(1, 0x30), 0x0005_0014);
    // The monitor and qtest are no CPU.
    let outside = std::thread::spawn(|| {
        let _ = address_space_memory().write(0xfee0_00f0, &0u32.to_le_bytes());
        (read(0xfee0_0020), read(0xfee0_0030), read(0xfee0_00f0))
    });
    assert_eq!(outside.join().unwrap(), (0, 0, 0));
    assert_eq!(board.read(0, SVR), 0x1ff);
    // Registers are double words.
    let mut byte = [0xaa];
    let _ = address_space_memory().read(0xfee0_0030, &mut byte);
    assert_eq!(byte, [0]);
}

#[test]
fn messages_reach_their_destination() {
    let board = Board::new(3);
    send_msi(MsiMessage { address: 0xfee0_1000, data: 0x51 });
    assert_eq!(board.take_all(), [None, Some(0x51), None]);
    board.write(1, EOI, 0);
    // A write from outside, as a device's.
    let write = || address_space_memory().write(0xfee0_2000, &0x52u32.to_le_bytes());
    assert_eq!(write(), MemTxResult::Ok);
    assert_eq!(board.take_all(), [None, None, Some(0x52)]);
    send_msi(MsiMessage { address: 0xfeef_f000, data: 0x61 });
    assert_eq!(board.take_all(), [Some(0x61); 3]);
    // Lowest priority, to two by their logical destinations: the first.
    for cpu in 0..3 {
        board.write(cpu, EOI, 0);
        board.write(cpu, EOI, 0);
        board.write(cpu, 0xd0, 1 << (24 + cpu));
    }
    send_msi(MsiMessage { address: 0xfee0_6004, data: 0x71 | 1 << 8 });
    assert_eq!(board.take_all(), [None, Some(0x71), None]);
    send_msi(MsiMessage { address: 0xfee0_2000, data: 4 << 8 });
    assert_eq!(board.events(), [vec![], vec![], vec![CpuInterrupt::Nmi]]);
    send_msi(MsiMessage { address: 0xfee0_9000, data: 0x51 });
    assert_eq!(board.take_all(), [None; 3], "no such CPU");
}

#[test]
fn processors_interrupt_each_other() {
    let board = Board::new(3);
    let ipi = |cpu, high: u32, low: u32| {
        board.write(cpu, 0x310, high << 24);
        board.write(cpu, 0x300, low);
    };
    ipi(0, 2, 0x4051);
    assert_eq!(board.take_all(), [None, None, Some(0x51)]);
    ipi(1, 0, 0xc4061);
    assert_eq!(board.take_all(), [Some(0x61), None, Some(0x61)]);
    ipi(1, 0, 0x44062);
    assert_eq!(board.take_all(), [None, Some(0x62), None]);
    ipi(0, 0, 0xc4500);
    assert_eq!(board.events(), [vec![], vec![CpuInterrupt::Init], vec![CpuInterrupt::Init]]);
    ipi(0, 0, 0xc8500);
    assert_eq!(board.events(), [vec![], vec![], vec![]], "only arbitration ids are set");
    board.apics[1].init_reset();
    assert_eq!(board.read(1, SVR), 0xff);
    ipi(0, 1, 0x4609);
    assert_eq!(board.events(), [vec![], vec![CpuInterrupt::Sipi], vec![]]);
    assert_eq!((board.apics[1].sipi(), board.apics[1].sipi()), (Some(9), None));
    assert_eq!(board.apics[0].sipi(), None);
}

#[test]
fn an_ioapic_line_is_a_message_and_its_end_comes_back() {
    let board = Board::new(2);
    let line = |n| board.ioapic.gpio_in("", n).unwrap();
    board.write_ioapic(0x10 + 2 * 10 + 1, 1 << 24);
    board.write_ioapic(0x10 + 2 * 10, 0x5a | LEVEL);
    line(10).set(true);
    assert_eq!(board.take_all(), [None, Some(0x5a)]);
    assert_eq!(board.take_all(), [None; 2]);
    board.write(1, EOI, 0);
    assert_eq!(board.take_all(), [None, Some(0x5a)], "still asserted");
    line(10).set(false);
    board.write(1, EOI, 0);
    assert_eq!(board.take_all(), [None; 2]);
    // ISA line 0 is at input 2.
    board.write_ioapic(0x10 + 2 * 2, 0x40);
    line(0).set(true);
    assert_eq!(board.take_all(), [Some(0x40), None]);
    assert!(board.ioapic.gpio_in("", 24).is_none());
    // Version 20h has an EOI register.
    board.write(0, EOI, 0);
    line(10).set(true);
    assert_eq!(board.take(1), Some(0x5a));
    let _ = address_space_memory().write(0xfec0_0040, &0x5au32.to_le_bytes());
    assert_eq!(board.read(1, 0x220), 1 << 26, "requested again");
    cold_reset(&sysbus_get_default());
    line(10).set(false);
    line(10).set(true);
    assert_eq!(read(0xfec0_0010), 0);
}

#[test]
fn a_storm_is_slowed_down() {
    let board = Board::new(1);
    board.write_ioapic(0x10 + 2 * 10, 0x5a | LEVEL);
    board.ioapic.gpio_in("", 10).unwrap().set(true);
    let mut taken = 0;
    while board.take_all() == [Some(0x5a)] {
        board.write(0, EOI, 0);
        taken += 1;
        assert!(taken <= 10_000);
    }
    assert_eq!(taken, 10_000);
    clock::step(10_000_000);
    assert_eq!(board.take_all(), [Some(0x5a)]);
}

#[test]
fn the_pic_interrupts_through_lint0() {
    let board = Board::new(2);
    for (port, words) in [(0x20, [0x11, 0x30, 4, 1]), (0xa0, [0x11, 0x38, 2, 1])] {
        common::outb(&board.io, port, words[0]);
        words[1..].iter().for_each(|word| common::outb(&board.io, port + 1, *word));
    }
    board.pic_irqs[4].pulse();
    assert!(board.pic.output() && !board.intr(0), "LINT0 is masked");
    board.write(0, LINT0, EXTINT);
    assert!(board.intr(0) && !board.intr(1));
    send_msi(MsiMessage { address: 0xfee0_0000, data: 0x51 });
    assert_eq!(board.take(0), Some(0x34), "before the APIC's own");
    assert!(board.intr(0));
    assert_eq!(board.take(0), Some(0x51));
    board.write(0, EOI, 0);
    assert!(!board.intr(0));
    common::outb(&board.io, 0x20, 0x20);
    // Through the I/O APIC the vector is the PIC's, too.
    board.write(0, LINT0, 1 << 16);
    board.write_ioapic(0x10 + 2, EXTINT);
    board.pic_irqs[12].pulse();
    board.ioapic.gpio_in("", 1).unwrap().pulse();
    assert_eq!(board.take_all(), [Some(0x3c), None]);
    assert_eq!(cpu_get_pic_interrupt(None), Some(0x37), "spurious");
    // LINT0 as an interrupt of the APIC's own: when the output rises.
    board.write(0, EOI, 0);
    board.write(0, LINT0, 0x61);
    for port in [0xa0, 0x20] {
        common::outb(&board.io, port, 0x20);
    }
    assert_eq!(board.take_all(), [None; 2]);
    board.pic_irqs[1].set(true);
    assert_eq!(board.take_all(), [Some(0x61), None]);
}

#[test]
fn people_are_told() {
    let board = Board::new(1);
    let ask = |object: Arc<dyn Object>| {
        let provider = object.interface::<dyn InterruptStatsProvider>().unwrap();
        (provider.statistics().unwrap(), provider.info().unwrap())
    };
    let line = |n| board.ioapic.gpio_in("", n).unwrap();
    board.write_ioapic(0x10 + 2 * 10, LEVEL | 1 << 16);
    [4, 4, 12].into_iter().for_each(|n: usize| board.pic_irqs[n].pulse());
    [0, 5].into_iter().for_each(|n| line(n).pulse());
    [10, 10, 11].into_iter().for_each(|n| line(n).set(true));
    let (counts, info) = ask(board.pic.clone());
    // The slave's request was seen at input 2.
    assert_eq!(counts, [0, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(info, "pic0: irr=14 imr=00 isr=00 hprio=0 irq_base=00 rr_sel=0 elcr=00 fnm=0\n");
    let (counts, info) = ask(board.ioapic.clone());
    assert_eq!(counts[..12], [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1]);
    assert!(info.starts_with("ioapic0: ver=0x20 id=0x00 sel=0x24 (redir[10])\n"), "{info}");
    assert!(info.ends_with("  IRR      10 \n  Remote IRR (none)\n"), "{info}");
}

#[test]
fn the_timer_runs_on_virtual_time() {
    let board = Board::new(2);
    board.write(1, 0x3e0, 0xb);
    board.write(1, 0x320, 1 << 17 | 0x31);
    board.write(1, 0x380, 999_999);
    clock::step(999_999);
    assert_eq!(board.take_all(), [None; 2]);
    clock::step(1);
    assert_eq!(board.take_all(), [None, Some(0x31)]);
    assert_eq!(board.read(1, 0x390), 999_999);
    clock::step(1_500_000);
    board.write(1, EOI, 0);
    assert_eq!(board.take_all(), [None, Some(0x31)]);
    cold_reset(&(board.apics[1].clone() as Arc<dyn Object>));
    clock::step(10_000_000);
    assert_eq!(board.take_all(), [None; 2]);
}

#[test]
fn base_and_cr8() {
    let board = Board::new(2);
    assert_eq!((board.apics[0].base(), board.apics[1].base()), (0xfee0_0900, 0xfee0_0800));
    send_msi(MsiMessage { address: 0xfee0_1000, data: 0x51 });
    board.apics[1].set_cr8(5);
    assert!(!board.intr(1));
    assert_eq!((board.apics[1].cr8(), board.read(1, 0x80)), (5, 0x50));
    board.apics[1].set_cr8(0);
    assert!(board.intr(1));
    board.apics[1].set_base(0xfee0_0000);
    assert!(board.cpus[1].no_apic.load(Ordering::SeqCst));
    assert!(!board.intr(1));
}

#[test]
fn types_and_properties_are_qemus() {
    let board = Board::new(0);
    let apic = qdev_new("apic").unwrap();
    assert!(apic.is_a("apic-common"));
    assert_eq!(apic.property_get("version").unwrap(), 0x14);
    let error = qdev_realize(&apic, None).unwrap_err();
    assert_eq!(error.to_string(), "apic initialization failed. APIC ID -1 is invalid");
    let error = qdev_create("apic", None, &[("id", 1.into()), ("vapic", true.into())]).err().unwrap();
    assert_eq!(error.to_string(), "apic: vapic=on is not supported");
    let ioapic: Arc<dyn Object> = board.ioapic.clone();
    assert!(ioapic.is_a("ioapic-common"));
    assert_eq!(ioapic.property_get("version").unwrap(), 0x20);
    let error = qdev_create("ioapic", Some(&sysbus_get_default()), &[("version", 1.into())]).err().unwrap();
    assert_eq!(error.to_string(), "IOAPIC only supports version 0x11 or 0x20 (default: 0x20).");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_accesses_never_panic_nor_hang(
        steps in prop::collection::vec((0u8..12, 0u64..0x44, any::<u32>(), 0usize..3), 0..200),
    ) {
        let board = Board::new(3);
        for (what, register, value, cpu) in steps {
            match what {
                0..=3 => board.write(cpu, register * 16, value),
                4 => { board.read(cpu, register * 16); }
                5 => board.write_ioapic(register as u32, value),
                6 => board.ioapic.gpio_in("", value % 24).unwrap().set(cpu == 0),
                7 => board.pic_irqs[register as usize % 16].set(cpu == 0),
                8 => common::outb(&board.io, [0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1][register as usize % 6], value as u8),
                9 => { board.take(cpu); }
                10 => board.apics[cpu].set_base(value.into()),
                _ => { clock::step(u64::from(value) % 100_000_000); }
            }
        }
    }
}
