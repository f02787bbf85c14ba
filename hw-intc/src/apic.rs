//! The local APIC (Intel SDM volume 3, chapter 11; QEMU's hw/intc/apic.c and apic_common.c).
//!
//! As in QEMU: no x2APIC mode, no TSC deadline, nothing is arbitrated; the timer's clock runs at 1 GHz. An APIC reaches
//! the others, the I/O APICs and its CPU through the [`ApicEvent`]s that its calls give.

pub mod spec;

use serde::{Deserialize, Serialize};

use crate::ioapic::DeliveryMode;

/// The timer does not expire more often than this, whatever count the guest writes.
const MIN_TIMER_PERIOD_NS: u64 = 50_000;

/// What a CPU is asked to take besides its interrupt line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuInterrupt {
    /// System management interrupt.
    Smi,
    /// Non-maskable interrupt.
    Nmi,
    /// INIT: the CPU calls `init_reset` of its APIC and waits, unless it is the bootstrap processor.
    Init,
    /// Start-up: the CPU asks its APIC where, with `sipi`.
    Sipi,
}

/// What a change of an APIC leads to outside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApicEvent {
    /// Its own CPU is to take this.
    Cpu(CpuInterrupt),
    /// A message to these APICs.
    Send(Targets, Message),
    /// These APICs call [`Apic::synchronize_arbitration`].
    SynchronizeArbitration(Targets),
    /// A level-triggered interrupt has ended.
    Eoi(u8),
}

/// The APICs that a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Targets {
    /// Those that its destination matches.
    Destination {
        /// The id, or the set of logical destinations.
        destination: u8,
        /// Whether it is logical.
        logical: bool,
    },
    /// The sender.
    This,
    /// All.
    All,
    /// All but the sender.
    Others,
}

/// An interrupt on its way to APICs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// How it is to be taken.
    pub mode: DeliveryMode,
    /// The vector.
    pub vector: u8,
    /// Whether it is level-triggered.
    pub level_triggered: bool,
}

impl Message {
    /// A message-signalled interrupt: what is written where. The redirection hint is ignored.
    pub fn from_msi(address: u64, data: u32) -> (Targets, Message) {
        let destination = (address >> spec::MSI_DEST_SHIFT) as u8;
        let message = Message {
            mode: DeliveryMode::of(data.into()),
            vector: (data & spec::VECTOR) as u8,
            level_triggered: data & spec::MSI_LEVEL != 0,
        };
        (Targets::Destination { destination, logical: address & spec::MSI_LOGICAL != 0 }, message)
    }
}

/// A bit for each vector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Vectors([u32; 8]);

impl Vectors {
    fn set(&mut self, vector: u8, value: bool) {
        let (word, bit) = (usize::from(vector / 32), 1 << (vector % 32));
        if let Some(word) = self.0.get_mut(word) {
            *word = if value { *word | bit } else { *word & !bit };
        }
    }

    fn get(&self, vector: u8) -> bool {
        self.word(vector / 32) & 1 << (vector % 32) != 0
    }

    fn word(&self, number: u8) -> u32 {
        self.0.get(usize::from(number)).copied().unwrap_or(0)
    }

    /// The vector with the highest priority.
    fn highest(&self) -> Option<u8> {
        let (number, word) = self.0.iter().enumerate().rev().find(|(_, word)| **word != 0)?;
        u8::try_from(number * 32 + word.ilog2() as usize).ok()
    }
}

/// What an APIC has for its CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// Nothing, or it is switched off by software.
    None,
    /// Something of too low a priority.
    TooLow,
    /// This vector.
    Vector(u8),
}

/// The registers of a local APIC.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Apic {
    initial_id: u8,
    version: u8,
    id: u8,
    /// IA32_APIC_BASE.
    base: u64,
    arbitration_id: u8,
    tpr: u8,
    svr: u32,
    ldr: u8,
    dfr: u8,
    isr: Vectors,
    tmr: Vectors,
    irr: Vectors,
    lvt: [u32; spec::LVT_ENTRIES],
    esr: u32,
    icr: [u32; 2],
    divide: u32,
    initial_count: u32,
    /// When the initial count was written, in ns.
    count_start: u64,
    timer_expiry: Option<u64>,
    wait_for_sipi: bool,
    sipi_vector: u8,
}

impl Default for Apic {
    /// As QEMU's property defaults: an id that no APIC has.
    fn default() -> Self {
        Self::new(spec::BROADCAST, spec::VERSION_DEFAULT)
    }
}

impl Apic {
    /// The state after power-on.
    pub fn new(id: u8, version: u8) -> Self {
        Self {
            initial_id: id,
            version,
            id,
            base: spec::APIC_DEFAULT_ADDRESS | spec::BASE_ENABLE,
            arbitration_id: 0,
            tpr: 0,
            svr: spec::SVR_VECTOR,
            ldr: 0,
            dfr: spec::DFR_FLAT,
            isr: Vectors::default(),
            tmr: Vectors::default(),
            irr: Vectors::default(),
            lvt: [spec::LVT_MASKED; spec::LVT_ENTRIES],
            esr: 0,
            icr: [0; 2],
            divide: 0,
            initial_count: 0,
            count_start: 0,
            timer_expiry: None,
            wait_for_sipi: true,
            sipi_vector: 0,
        }
    }

    /// Returns to the state after power-on; the bootstrap processor stays so.
    pub fn reset(&mut self) {
        let bsp = self.base & spec::BASE_BSP;
        *self = Self::new(self.initial_id, self.version);
        self.base |= bsp;
        self.wait_for_sipi = bsp == 0;
    }

    /// What INIT does: all but the id, the arbitration id and the base.
    pub fn init_reset(&mut self) {
        *self = Self {
            id: self.id,
            base: self.base,
            arbitration_id: self.arbitration_id,
            sipi_vector: self.sipi_vector,
            wait_for_sipi: self.base & spec::BASE_BSP == 0,
            ..Self::new(self.initial_id, self.version)
        };
    }

    /// Makes its CPU the bootstrap processor or not; takes effect with the next reset or INIT, which wait for
    /// start-up otherwise.
    pub fn designate_bsp(&mut self, bsp: bool) {
        self.base = if bsp { self.base | spec::BASE_BSP } else { self.base & !spec::BASE_BSP };
    }

    /// IA32_APIC_BASE.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Writes IA32_APIC_BASE. True when it is switched off, which lasts until reset: CPUID then shows no APIC.
    pub fn set_base(&mut self, value: u64) -> bool {
        let kept = self.base & (spec::BASE_BSP | spec::BASE_ENABLE);
        self.base = value & spec::BASE_ADDRESS | kept;
        let off = value & spec::BASE_ENABLE == 0;
        if off {
            self.base &= !spec::BASE_ENABLE;
            self.svr &= !spec::SVR_ENABLE;
        }
        off
    }

    /// The task priority as CR8 has it.
    pub fn cr8(&self) -> u8 {
        self.tpr >> 4
    }

    /// Sets the task priority as CR8 does.
    pub fn set_cr8(&mut self, value: u8) {
        self.tpr = value << 4;
    }

    /// The processor priority.
    fn ppr(&self) -> u8 {
        let in_service = self.isr.highest().unwrap_or(0) & spec::PRIORITY_CLASS;
        if self.tpr & spec::PRIORITY_CLASS >= in_service { self.tpr } else { in_service }
    }

    /// What it has for its CPU.
    pub fn pending(&self) -> Pending {
        let requested = self.irr.highest().filter(|_| self.svr & spec::SVR_ENABLE != 0);
        match (requested, self.ppr()) {
            (None, _) => Pending::None,
            (Some(vector), ppr)
                if ppr != 0 && vector & spec::PRIORITY_CLASS <= ppr & spec::PRIORITY_CLASS =>
            {
                Pending::TooLow
            }
            (Some(vector), _) => Pending::Vector(vector),
        }
    }

    /// Whether the PIC's output reaches the CPU: switched off it is as if there was no APIC, else LINT0 says so.
    pub fn accepts_pic(&self) -> bool {
        let lint0 = self.lvt_entry(spec::LVT_LINT0);
        self.base & spec::BASE_ENABLE == 0
            || lint0 & spec::LVT_MASKED == 0 && DeliveryMode::of(lint0.into()) == DeliveryMode::ExtInt
    }

    /// The level of the CPU's interrupt line, when `pic` is the PIC's output.
    pub fn intr(&self, pic: bool) -> bool {
        matches!(self.pending(), Pending::Vector(_)) || pic && self.accepts_pic()
    }

    /// The CPU takes an interrupt: the vector, unless there is none or the PIC, with its output at `pic`, is to give it,
    /// which goes first.
    pub fn take_interrupt(&mut self, pic: bool) -> Option<u8> {
        match self.pending() {
            Pending::None => None,
            _ if pic && self.accepts_pic() => None,
            Pending::TooLow => Some((self.svr & spec::SVR_VECTOR) as u8),
            Pending::Vector(vector) => {
                self.irr.set(vector, false);
                self.isr.set(vector, true);
                Some(vector)
            }
        }
    }

    /// Whether a message with this destination is for it.
    pub fn matches(&self, destination: u8, logical: bool) -> bool {
        match (logical, self.dfr) {
            (false, _) => destination == spec::BROADCAST || destination == self.id,
            (true, spec::DFR_FLAT) => destination & self.ldr != 0,
            (true, spec::DFR_CLUSTER) => {
                let same_cluster = (destination ^ self.ldr) & spec::LDR_CLUSTER == 0;
                same_cluster && destination & self.ldr & spec::LDR_MEMBERS != 0
            }
            _ => false,
        }
    }

    /// Takes an interprocessor interrupt that is for it: any message, or start-up.
    #[must_use]
    pub fn accept_ipi(&mut self, message: Message) -> Option<ApicEvent> {
        if message.mode == DeliveryMode::StartUp {
            self.sipi_vector = message.vector;
            return Some(ApicEvent::Cpu(CpuInterrupt::Sipi));
        }
        self.accept(message)
    }

    /// Takes a message that is for it. There is no start-up among those from outside.
    #[must_use]
    pub fn accept(&mut self, message: Message) -> Option<ApicEvent> {
        match message.mode {
            DeliveryMode::Fixed | DeliveryMode::LowestPriority | DeliveryMode::ExtInt => {
                self.request(message.vector, message.level_triggered);
                None
            }
            DeliveryMode::Smi => Some(ApicEvent::Cpu(CpuInterrupt::Smi)),
            DeliveryMode::Nmi => Some(ApicEvent::Cpu(CpuInterrupt::Nmi)),
            DeliveryMode::Init => Some(ApicEvent::Cpu(CpuInterrupt::Init)),
            DeliveryMode::Reserved3 | DeliveryMode::StartUp => None,
        }
    }

    fn request(&mut self, vector: u8, level_triggered: bool) {
        self.irr.set(vector, true);
        self.tmr.set(vector, level_triggered);
    }

    /// Takes the id as the arbitration id.
    pub fn synchronize_arbitration(&mut self) {
        self.arbitration_id = self.id;
    }

    /// The CPU takes a start-up: the page to start at, if it waits for one.
    pub fn sipi(&mut self) -> Option<u8> {
        std::mem::take(&mut self.wait_for_sipi).then_some(self.sipi_vector)
    }

    fn lvt_entry(&self, entry: usize) -> u32 {
        self.lvt.get(entry).copied().unwrap_or(spec::LVT_MASKED)
    }

    /// A local interrupt source asks.
    fn deliver_local(&mut self, entry: usize) -> Option<ApicEvent> {
        let lvt = self.lvt_entry(entry);
        if lvt & spec::LVT_MASKED != 0 {
            return None;
        }
        match DeliveryMode::of(lvt.into()) {
            DeliveryMode::Smi => Some(ApicEvent::Cpu(CpuInterrupt::Smi)),
            DeliveryMode::Nmi => Some(ApicEvent::Cpu(CpuInterrupt::Nmi)),
            DeliveryMode::Fixed => {
                let pin = matches!(entry, spec::LVT_LINT0 | spec::LVT_LINT1);
                self.request((lvt & spec::VECTOR) as u8, pin && lvt & spec::LVT_LEVEL != 0);
                None
            }
            // ExtINT is the interrupt line's matter.
            _ => None,
        }
    }

    /// The NMI pin, which is LINT1, is pulsed.
    #[must_use]
    pub fn external_nmi(&mut self) -> Option<ApicEvent> {
        self.deliver_local(spec::LVT_LINT1)
    }

    /// The PIC's output, which is LINT0, changes.
    #[must_use]
    pub fn set_lint0(&mut self, level: bool) -> Option<ApicEvent> {
        if level {
            return self.deliver_local(spec::LVT_LINT0);
        }
        let lvt = self.lvt_entry(spec::LVT_LINT0);
        if DeliveryMode::of(lvt.into()) == DeliveryMode::Fixed
            && lvt & (spec::LVT_LEVEL | spec::LVT_MASKED) == spec::LVT_LEVEL
        {
            self.irr.set((lvt & spec::VECTOR) as u8, false);
        }
        None
    }

    /// Reads the register at `offset`.
    pub fn read(&mut self, offset: u64, now_ns: u64) -> u32 {
        match register(offset) {
            spec::ID => u32::from(self.id) << spec::ID_SHIFT,
            spec::VERSION => u32::from(self.version) | (spec::LVT_ENTRIES as u32 - 1) << spec::MAX_LVT_SHIFT,
            spec::TPR => self.tpr.into(),
            spec::PPR => self.ppr().into(),
            spec::APR | spec::EOI => 0,
            spec::LDR => u32::from(self.ldr) << spec::ID_SHIFT,
            spec::DFR => u32::from(self.dfr) << spec::DFR_SHIFT | spec::DFR_RESERVED,
            spec::SVR => self.svr,
            number @ spec::ISR..spec::TMR => self.isr.word(number - spec::ISR),
            number @ spec::TMR..spec::IRR => self.tmr.word(number - spec::TMR),
            number @ spec::IRR..=spec::IRR_LAST => self.irr.word(number - spec::IRR),
            spec::ESR => self.esr,
            spec::ICR_LOW => self.icr[0],
            spec::ICR_HIGH => self.icr[1],
            number @ spec::LVT..=spec::LVT_LAST => self.lvt_entry(usize::from(number - spec::LVT)),
            spec::INITIAL_COUNT => self.initial_count,
            spec::CURRENT_COUNT => self.current_count(now_ns),
            spec::DIVIDE => self.divide,
            _ => {
                self.esr |= spec::ESR_ILLEGAL_ADDRESS;
                0
            }
        }
    }

    /// Writes the register at `offset`, when `pic` is the PIC's output.
    #[must_use]
    pub fn write(&mut self, offset: u64, value: u32, pic: bool, now_ns: u64) -> Option<ApicEvent> {
        match register(offset) {
            spec::ID => self.id = (value >> spec::ID_SHIFT) as u8,
            spec::TPR => self.tpr = value as u8,
            spec::EOI => return self.end_of_interrupt(),
            spec::LDR => self.ldr = (value >> spec::ID_SHIFT) as u8,
            spec::DFR => self.dfr = (value >> spec::DFR_SHIFT) as u8,
            spec::SVR => self.svr = value & spec::SVR_MASK,
            spec::ICR_LOW => {
                self.icr[0] = value;
                return Some(self.command());
            }
            spec::ICR_HIGH => self.icr[1] = value,
            number @ spec::LVT..=spec::LVT_LAST => {
                return self.write_lvt(usize::from(number - spec::LVT), value, pic, now_ns);
            }
            spec::INITIAL_COUNT => {
                self.initial_count = value;
                self.count_start = now_ns;
                self.start_timer(now_ns);
            }
            // As in QEMU the timer that is armed already keeps its deadline.
            spec::DIVIDE => self.divide = value & spec::DIVIDE_MASK,
            spec::VERSION | spec::APR | spec::PPR | spec::CURRENT_COUNT | spec::ESR => {}
            spec::ISR..=spec::IRR_LAST => {}
            _ => self.esr |= spec::ESR_ILLEGAL_ADDRESS,
        }
        None
    }

    fn end_of_interrupt(&mut self) -> Option<ApicEvent> {
        let vector = self.isr.highest()?;
        self.isr.set(vector, false);
        self.tmr.get(vector).then_some(ApicEvent::Eoi(vector))
    }

    fn write_lvt(&mut self, entry: usize, value: u32, pic: bool, now_ns: u64) -> Option<ApicEvent> {
        if let Some(lvt) = self.lvt.get_mut(entry) {
            *lvt = value;
        }
        match entry {
            spec::LVT_TIMER => self.start_timer(now_ns),
            spec::LVT_LINT0 if pic => return self.deliver_local(entry),
            _ => {}
        }
        None
    }

    /// What writing the ICR sends.
    fn command(&self) -> ApicEvent {
        let [low, high] = self.icr;
        let targets = match low >> spec::ICR_SHORTHAND_SHIFT & spec::ICR_SHORTHAND_MASK {
            0 => Targets::Destination {
                destination: (high >> spec::ID_SHIFT) as u8,
                logical: low & spec::ICR_LOGICAL != 0,
            },
            1 => Targets::This,
            2 => Targets::All,
            _ => Targets::Others,
        };
        let message = Message {
            mode: DeliveryMode::of(low.into()),
            vector: (low & spec::VECTOR) as u8,
            level_triggered: low & spec::ICR_LEVEL != 0,
        };
        let deassert = low & (spec::ICR_ASSERT | spec::ICR_LEVEL) == spec::ICR_LEVEL;
        if message.mode == DeliveryMode::Init && deassert {
            return ApicEvent::SynchronizeArbitration(targets);
        }
        ApicEvent::Send(targets, message)
    }

    /// How far the timer's clock is divided: the power of two.
    fn count_shift(&self) -> u32 {
        let setting = self.divide & spec::DIVIDE_LOW | (self.divide & spec::DIVIDE_HIGH) >> 1;
        (setting + 1) & 7
    }

    /// Counts since the initial count was written.
    fn counted(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.count_start) >> self.count_shift()
    }

    fn is_periodic(&self) -> bool {
        self.lvt_entry(spec::LVT_TIMER) & spec::LVT_PERIODIC != 0
    }

    fn current_count(&self, now_ns: u64) -> u32 {
        let (counted, initial) = (self.counted(now_ns), u64::from(self.initial_count));
        let gone = if self.is_periodic() { counted % (initial + 1) } else { counted.min(initial) };
        (initial - gone) as u32
    }

    /// Has the timer expire at its next zero after `now_ns`, or not at all.
    fn start_timer(&mut self, now_ns: u64) {
        let (counted, initial) = (self.counted(now_ns), u64::from(self.initial_count));
        let masked = self.lvt_entry(spec::LVT_TIMER) & spec::LVT_MASKED != 0;
        let count = match self.is_periodic() {
            _ if masked || initial == 0 => None,
            true => Some((counted / (initial + 1)).saturating_add(1).saturating_mul(initial + 1)),
            false => (counted < initial).then_some(initial + 1),
        };
        self.timer_expiry =
            count.map(|count| self.count_start.saturating_add(count.saturating_mul(1 << self.count_shift())));
    }

    /// The virtual time at which [`Self::expire`] is next due.
    pub fn next_deadline(&self) -> Option<u64> {
        self.timer_expiry
    }

    /// The timer's deadline may have come.
    #[must_use]
    pub fn expire(&mut self, now_ns: u64) -> Option<ApicEvent> {
        self.timer_expiry.filter(|&deadline| deadline <= now_ns)?;
        let event = self.deliver_local(spec::LVT_TIMER);
        let period = (u64::from(self.initial_count) + 1) << self.count_shift();
        self.start_timer(now_ns.saturating_add(MIN_TIMER_PERIOD_NS.saturating_sub(period)));
        event
    }
}

/// The number of the register at `offset`.
fn register(offset: u64) -> u8 {
    (offset >> spec::REGISTER_SHIFT & spec::REGISTER_MASK) as u8
}
