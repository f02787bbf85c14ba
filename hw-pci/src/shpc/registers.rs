//! The working registers of a standard hot-plug controller, without the bridge around them.
//!
//! A slot here is counted from 0; the guest counts from 1, which is also the slot's number on the bus.

/// Registers and bits (PCI Standard Hot-Plug Controller and Subsystem Specification 1.0, section 4).
pub mod spec {
    /// Slots of the controller: all of a bus but the first.
    pub const SLOTS: u8 = 31;
    /// Bytes of the registers.
    pub const LEN: usize = SLOT_0 + 4 * SLOTS as usize;

    /// Slots that run at 33 MHz, 8 bits.
    pub const SLOTS_33: usize = 0x04;
    /// Number of slots, 8 bits.
    pub const NUM_SLOTS: usize = 0x0c;
    /// Device number of the first slot, 8 bits.
    pub const FIRST_DEVICE: usize = 0x0d;
    /// Physical number of the first slot and what slots have, 16 bits.
    pub const PHYSICAL_SLOT: usize = 0x0e;
    /// Physical slot: numbers go up.
    pub const PHYSICAL_UP: u16 = 1 << 13;
    /// Physical slot: slots have a retention latch with a sensor.
    pub const PHYSICAL_LATCH: u16 = 1 << 14;
    /// Physical slot: slots have an attention button.
    pub const PHYSICAL_BUTTON: u16 = 1 << 15;
    /// Speed of the bus, 16 bits at 0x10: 33 MHz, which is the only one.
    pub const BUS_SPEED_33: u8 = 0;
    /// Programming interface, 8 bits: version 1.0.
    pub const PROGRAMMING: usize = 0x13;
    /// Command, 8 bits; its target follows.
    pub const COMMAND: usize = 0x14;
    /// Target of a command, 8 bits: a slot, counted from 1.
    pub const TARGET: usize = 0x15;
    /// Target: the bits that there are.
    pub const TARGET_MASK: u8 = 0x1f;
    /// Status of the last command, 16 bits.
    pub const COMMAND_STATUS: usize = 0x16;
    /// Command status: the bits that the next command clears.
    pub const STATUS_ALL: u16 = 0xf;
    /// Command status: no such command, or not now.
    pub const STATUS_INVALID_COMMAND: u16 = 1 << 2;
    /// Command status: no such speed.
    pub const STATUS_INVALID_SPEED: u16 = 1 << 3;
    /// What interrupts, 32 bits: the end of a command, and slots, counted from 1.
    pub const INTERRUPT_LOCATOR: usize = 0x18;
    /// Interrupt locator: a command ended.
    pub const LOCATOR_COMMAND: u32 = 1 << 0;
    /// Interrupt and error control, 32 bits.
    pub const CONTROL: usize = 0x20;
    /// Control: no interrupts.
    pub const CONTROL_DISABLED: u32 = 1 << 0;
    /// Control: no interrupt at the end of a command.
    pub const CONTROL_COMMAND_DISABLED: u32 = 1 << 2;
    /// Control: all that can be disabled.
    pub const CONTROL_WRITABLE: u32 = 0xf;
    /// Control: a command ended; cleared by a write of one.
    pub const CONTROL_COMMAND_DONE: u32 = 1 << 16;
    /// Control: what a write of one clears, in its third byte.
    pub const CONTROL_CLEARS: u8 = 3;
    /// The first slot: status, 16 bits; events, 8 bits; which of them are masked, 8 bits. The others follow.
    pub const SLOT_0: usize = 0x24;

    /// Slot status: its state.
    pub const SLOT_STATE: u16 = 0x3;
    /// Slot status: power indicator.
    pub const SLOT_POWER: u16 = 0xc;
    /// Slot status: attention indicator.
    pub const SLOT_ATTENTION: u16 = 0x30;
    /// Slot status: the latch is open.
    pub const SLOT_LATCH_OPEN: u16 = 1 << 8;
    /// Slot status: can run at 66 MHz.
    pub const SLOT_66MHZ: u16 = 1 << 9;
    /// Slot status: what is there.
    pub const SLOT_PRESENT: u16 = 0xc00;
    /// Presence: a card of 7.5 W.
    pub const PRESENT_7_5W: u16 = 0;
    /// Presence: nothing.
    pub const PRESENT_EMPTY: u16 = 3;
    /// State: as it is.
    pub const STATE_KEEP: u8 = 0;
    /// State: has power, and no more.
    pub const STATE_POWERED: u8 = 1;
    /// State: works.
    pub const STATE_ENABLED: u8 = 2;
    /// State: is off.
    pub const STATE_DISABLED: u8 = 3;
    /// Indicator: as it is.
    pub const LED_KEEP: u8 = 0;
    /// Indicator: on.
    pub const LED_ON: u8 = 1;
    /// Indicator: off.
    pub const LED_OFF: u8 = 3;

    /// Slot events: something came or went.
    pub const EVENT_PRESENCE: u8 = 1 << 0;
    /// Slot events: the button was pressed.
    pub const EVENT_BUTTON: u8 = 1 << 2;
    /// Slot events: the latch was opened or closed.
    pub const EVENT_LATCH: u8 = 1 << 3;
    /// Slot events: all, each cleared by a write of one.
    pub const EVENTS: u8 = 0x1f;
    /// Slot masks: those of events, and two of errors.
    pub const MASKS: u8 = 0x7f;

    /// Commands from here on set the bus's speed; those below set a slot's state and indicators.
    pub const COMMAND_SPEED: u8 = 0x40;
    /// The last of these.
    pub const COMMAND_SPEED_LAST: u8 = 0x47;
    /// Command speed: the bits that are the speed.
    pub const COMMAND_SPEED_MASK: u8 = 7;
    /// Command: power to all slots.
    pub const COMMAND_POWER_ALL: u8 = 0x48;
    /// Command: all slots on.
    pub const COMMAND_ENABLE_ALL: u8 = 0x49;
}
use spec::*;

/// The registers.
#[derive(Clone, Debug)]
pub struct Registers([u8; LEN]);

impl Default for Registers {
    fn default() -> Self {
        let mut registers = Registers([0; LEN]);
        registers.reset(0);
        registers
    }
}

fn slot_register(slot: u8) -> usize {
    SLOT_0 + 4 * usize::from(slot)
}

/// Of a register's byte the bits that the guest sets, and those that it clears by a one.
fn rules(at: usize) -> (u8, u8) {
    match at {
        COMMAND => (0xff, 0),
        TARGET => (TARGET_MASK, 0),
        CONTROL => (CONTROL_WRITABLE as u8, 0),
        _ if at == CONTROL + 2 => (0, CONTROL_CLEARS),
        SLOT_0.. if at % 4 == 2 => (0, EVENTS),
        SLOT_0.. if at % 4 == 3 => (MASKS, 0),
        _ => (0, 0),
    }
}

impl Registers {
    /// As after power-on, with devices in the slots that `occupied` has bits for.
    pub fn reset(&mut self, occupied: u32) {
        self.0.fill(0);
        self.set_u8(NUM_SLOTS, SLOTS);
        self.set_u8(SLOTS_33, SLOTS);
        self.set_u8(FIRST_DEVICE, 1);
        self.set_u16(PHYSICAL_SLOT, 1 | PHYSICAL_UP | PHYSICAL_LATCH | PHYSICAL_BUTTON);
        self.set_u8(CONTROL, CONTROL_WRITABLE as u8);
        self.set_u8(PROGRAMMING, 1);
        for slot in 0..SLOTS {
            self.set_u8(slot_register(slot) + 3, MASKS);
            let here = occupied & 1 << slot != 0;
            self.set_present(slot, here);
            let (state, led) = if here { (STATE_ENABLED, LED_ON) } else { (STATE_DISABLED, LED_OFF) };
            self.set_slot(slot, SLOT_STATE, state.into());
            self.set_slot(slot, SLOT_POWER, led.into());
        }
        self.locate();
    }

    /// What is saved.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Registers that were saved; `None` when these are not.
    pub fn of(bytes: &[u8]) -> Option<Registers> {
        Some(Registers(bytes.try_into().ok()?))
    }

    fn u8(&self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or_default()
    }

    fn set_u8(&mut self, at: usize, value: u8) {
        self.0.iter_mut().skip(at).take(1).for_each(|byte| *byte = value);
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.u8(at), self.u8(at + 1)])
    }

    fn set_u16(&mut self, at: usize, value: u16) {
        self.0.iter_mut().skip(at).zip(value.to_le_bytes()).for_each(|(to, from)| *to = from);
    }

    /// A field of a slot's status.
    fn slot(&self, slot: u8, field: u16) -> u8 {
        ((self.u16(slot_register(slot)) & field) >> field.trailing_zeros()) as u8
    }

    fn set_slot(&mut self, slot: u8, field: u16, value: u16) {
        let others = self.u16(slot_register(slot)) & !field;
        self.set_u16(slot_register(slot), others | value << field.trailing_zeros() & field);
    }

    /// A card is in a slot, with its latch closed, or none.
    fn set_present(&mut self, slot: u8, here: bool) {
        self.set_slot(slot, SLOT_LATCH_OPEN, u16::from(!here));
        self.set_slot(slot, SLOT_PRESENT, if here { PRESENT_7_5W } else { PRESENT_EMPTY });
    }

    fn add_events(&mut self, slot: u8, events: u8) {
        let at = slot_register(slot) + 2;
        self.set_u8(at, self.u8(at) | events);
    }

    /// Reads `size` bytes at `at`; 0 beyond the end.
    pub fn read(&self, at: usize, size: u8) -> u32 {
        (0..usize::from(size.min(4))).fold(0, |value, n| value | u32::from(self.u8(at + n)) << (8 * n))
    }

    /// The guest writes `size` bytes at `at`. Gives the slots whose devices go for that, a bit each.
    #[must_use]
    pub fn write(&mut self, at: usize, value: u32, size: u8) -> u32 {
        let bytes = value.to_le_bytes().into_iter().take(size.into());
        let mut is_command = false;
        for (at, byte) in (at..LEN).zip(bytes) {
            let (writable, clears) = rules(at);
            self.set_u8(at, (self.u8(at) & !writable | byte & writable) & !(byte & clears));
            is_command |= at == COMMAND || at == TARGET;
        }
        let leaving = if is_command { self.carry_out() } else { 0 };
        self.locate();
        leaving
    }

    fn fail(&mut self, status: u16) {
        self.set_u16(COMMAND_STATUS, self.u16(COMMAND_STATUS) | status);
    }

    /// Carries out the command; gives the slots whose devices go.
    fn carry_out(&mut self) -> u32 {
        self.set_u16(COMMAND_STATUS, self.u16(COMMAND_STATUS) & !STATUS_ALL);
        let code = self.u8(COMMAND);
        let mut leaving = 0;
        match code {
            0..COMMAND_SPEED => {
                let target = self.u8(TARGET) & TARGET_MASK;
                let field = |field: u16| ((u16::from(code) & field) >> field.trailing_zeros()) as u8;
                let (power, attention) = (field(SLOT_POWER), field(SLOT_ATTENTION));
                match target.checked_sub(1).filter(|slot| *slot < SLOTS) {
                    Some(slot) => leaving = self.set_slot_state(slot, field(SLOT_STATE), power, attention),
                    None => self.fail(STATUS_INVALID_COMMAND),
                }
            }
            COMMAND_SPEED..=COMMAND_SPEED_LAST => {
                // At 33 MHz it runs already.
                if code & COMMAND_SPEED_MASK != BUS_SPEED_33 {
                    self.fail(STATUS_INVALID_SPEED);
                }
            }
            COMMAND_POWER_ALL => self.set_all(STATE_POWERED),
            COMMAND_ENABLE_ALL => self.set_all(STATE_ENABLED),
            _ => self.fail(STATUS_INVALID_COMMAND),
        }
        let control = self.read(CONTROL, 4) | CONTROL_COMMAND_DONE;
        self.set_u16(CONTROL + 2, (control >> 16) as u16);
        leaving
    }

    /// The state of all slots with closed latches, if none works yet.
    fn set_all(&mut self, state: u8) {
        if (0..SLOTS).any(|slot| self.slot(slot, SLOT_STATE) == STATE_ENABLED) {
            return self.fail(STATUS_INVALID_COMMAND);
        }
        for slot in 0..SLOTS {
            // Neither has a device go.
            let _ = match self.slot(slot, SLOT_LATCH_OPEN) {
                0 => self.set_slot_state(slot, state, LED_ON, LED_KEEP),
                _ => self.set_slot_state(slot, STATE_KEEP, LED_OFF, LED_KEEP),
            };
        }
    }

    fn set_slot_state(&mut self, slot: u8, state: u8, power: u8, attention: u8) -> u32 {
        let now = self.slot(slot, SLOT_STATE);
        if now == STATE_ENABLED && state == STATE_POWERED {
            self.fail(STATUS_INVALID_COMMAND);
            return 0;
        }
        for (led, field) in [(power, SLOT_POWER), (attention, SLOT_ATTENTION)] {
            if led != LED_KEEP {
                self.set_slot(slot, field, led.into());
            }
        }
        match (now, state) {
            (STATE_DISABLED, STATE_POWERED | STATE_ENABLED) => self.set_slot(slot, SLOT_STATE, state.into()),
            (STATE_ENABLED | STATE_POWERED, STATE_DISABLED) => {
                self.set_slot(slot, SLOT_STATE, state.into());
                if self.slot(slot, SLOT_POWER) == LED_OFF {
                    self.take_out(slot);
                    return 1 << slot;
                }
            }
            _ => {}
        }
        0
    }

    /// The card is taken out of a slot.
    fn take_out(&mut self, slot: u8) {
        self.set_present(slot, false);
        self.add_events(slot, EVENT_LATCH | EVENT_PRESENCE);
    }

    /// A device came to a slot; while the machine runs that is an event.
    pub fn plug(&mut self, slot: u8, hotplugged: bool) {
        let latch_open = self.slot(slot, SLOT_LATCH_OPEN) != 0;
        if latch_open || !hotplugged {
            self.set_present(slot, true);
        }
        match (hotplugged, latch_open) {
            (false, _) => return,
            (true, true) => self.add_events(slot, EVENT_BUTTON | EVENT_LATCH | EVENT_PRESENCE),
            // Another function of what is there.
            (true, false) => self.add_events(slot, EVENT_BUTTON),
        }
        self.set_slot(slot, SLOT_66MHZ, 0);
        self.locate();
    }

    /// The device in a slot is to go: the guest is asked, by the button, unless the slot is off; then it goes now, which is
    /// what is given.
    #[must_use]
    pub fn unplug_request(&mut self, slot: u8) -> bool {
        let off = self.slot(slot, SLOT_STATE) == STATE_DISABLED && self.slot(slot, SLOT_POWER) == LED_OFF;
        match off {
            true => self.take_out(slot),
            false => self.add_events(slot, EVENT_BUTTON),
        }
        self.set_slot(slot, SLOT_66MHZ, 0);
        self.locate();
        off
    }

    /// Sets the interrupt locator.
    fn locate(&mut self) {
        let mut locator = 0u32;
        for slot in 0..SLOTS {
            let at = slot_register(slot);
            if self.u8(at + 2) & !self.u8(at + 3) != 0 {
                locator |= 2 << slot;
            }
        }
        let control = self.read(CONTROL, 4);
        if control & CONTROL_COMMAND_DONE != 0 && control & CONTROL_COMMAND_DISABLED == 0 {
            locator |= LOCATOR_COMMAND;
        }
        self.set_u16(INTERRUPT_LOCATOR, locator as u16);
        self.set_u16(INTERRUPT_LOCATOR + 2, (locator >> 16) as u16);
    }

    /// Whether it interrupts.
    pub fn irq_level(&self) -> bool {
        self.read(INTERRUPT_LOCATOR, 4) != 0 && self.read(CONTROL, 4) & CONTROL_DISABLED == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A command for a slot, counted from 1.
    fn command(registers: &mut Registers, code: u8, target: u8) -> u32 {
        registers.write(COMMAND, u32::from(target) << 8 | u32::from(code), 2)
    }

    fn slot(registers: &Registers, target: u8) -> u32 {
        registers.read(slot_register(target - 1), 4)
    }

    #[test]
    fn after_a_reset_slots_with_devices_work_and_all_is_masked() {
        let mut registers = Registers::default();
        registers.reset(1 << 1);
        let words: Vec<u32> = (0..LEN).step_by(4).map(|at| registers.read(at, 4)).collect();
        assert_eq!(words[..9], [0, 31, 0, 0xe001_011f, 0x0100_0000, 0, 0, 0, 0xf]);
        assert_eq!(words[9..12], [0x7f00_0d0f, 0x7f00_0006, 0x7f00_0d0f]);
        assert_eq!(words.len(), 40);
        assert_eq!(registers.read(LEN - 2, 4), 0x7f00);
        assert!(!registers.irq_level());
    }

    #[test]
    fn the_guest_writes_what_it_may_and_no_more() {
        let mut registers = Registers::default();
        let before = registers.clone();
        for at in (0..LEN).step_by(4).filter(|at| *at != COMMAND) {
            assert_eq!(registers.write(at, u32::MAX, 4), 0);
            assert_eq!(registers.read(at, 4), before.read(at, 4));
        }
        assert_eq!(registers.write(LEN - 1, 0xff00, 4), 0);
        assert_eq!(registers.read(LEN - 4, 4) >> 24, 0, "a write across the end is one of what is inside");
        assert_eq!(registers.write(LEN, 1, 4), 0);
    }

    #[test]
    fn a_device_comes_and_goes_by_the_button() {
        let mut registers = Registers::default();
        registers.plug(2, true);
        assert_eq!(slot(&registers, 3), 0x7f0d_000f);
        assert_eq!(registers.read(INTERRUPT_LOCATOR, 4), 0);
        assert_eq!(registers.write(slot_register(2) + 3, 0, 1), 0);
        assert_eq!((registers.read(INTERRUPT_LOCATOR, 4), registers.irq_level()), (1 << 3, false));
        assert_eq!(registers.write(CONTROL, 0xe, 1), 0);
        assert!(registers.irq_level());
        assert_eq!(registers.write(slot_register(2) + 2, 0x1f, 1), 0);
        assert!(!registers.irq_level());
        // On, with its indicator; the end of the command interrupts if it may.
        assert_eq!(command(&mut registers, 0x06, 3), 0);
        assert_eq!((slot(&registers, 3), registers.read(CONTROL, 4)), (6, 0x1_000e));
        assert!(!registers.irq_level());
        assert_eq!(registers.write(CONTROL, 0xa, 1), 0);
        assert!(registers.irq_level());
        assert_eq!(registers.write(CONTROL, 0x1_000a, 4), 0);
        assert!(!registers.irq_level());
        // The user wants it back: the guest hears of it, blinks, and lets it go.
        assert!(!registers.unplug_request(2));
        assert_eq!(slot(&registers, 3), 0x0004_0006);
        assert_eq!(command(&mut registers, 0x08, 3), 0);
        assert_eq!(command(&mut registers, 0x0f, 3), 1 << 2);
        assert_eq!(slot(&registers, 3), 0x000d_0d0f);
    }

    #[test]
    fn a_slot_that_is_off_lets_its_device_go_at_once() {
        let mut registers = Registers::default();
        registers.plug(0, true);
        registers.plug(0, true);
        assert_eq!(slot(&registers, 1), 0x7f0d_000f, "another function presses the button only");
        assert!(registers.unplug_request(0));
        assert_eq!(slot(&registers, 1), 0x7f0d_0d0f);
    }

    #[test]
    fn commands_that_there_are_not_fail() {
        let mut registers = Registers::default();
        registers.reset(1);
        let status = |registers: &Registers| registers.read(COMMAND_STATUS, 2);
        for (code, target, expected) in [
            (0x02, 0, 4),
            (0x01, 1, 4),
            (0x40, 0, 0),
            (0x41, 0, 8),
            (0x48, 0, 4),
            (0x49, 0, 4),
            (0x4a, 0, 4),
            (0xff, 0, 4),
            (0x02, 31, 0),
        ] {
            assert_eq!(command(&mut registers, code, target), 0);
            assert_eq!(status(&registers), expected, "{code:#x}");
        }
    }

    #[test]
    fn all_slots_with_closed_latches_are_switched_on_together() {
        let mut registers = Registers::default();
        registers.plug(4, true);
        assert_eq!(command(&mut registers, COMMAND_ENABLE_ALL, 0), 0);
        assert_eq!((slot(&registers, 5) & 0xf, slot(&registers, 6) & 0xf), (6, 0xf));
    }
}
