//! `isa-serial`: the UART as COM1 to COM4.
//!
//! Source: QEMU `hw/char/serial-isa.c`, `hw/char/serial.c`.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use chardev::{CharFrontend, CharHandlers, Event, SerialParams};
use hw_core::{CharProperty, DeviceCategory, DeviceClass, DeviceImpl, IrqPin, VmState, vmstate};
use hw_isa::IsaDevice;
use memory::{AccessRules, RegionOps};
use parking_lot::Mutex;
use qom::{Class, Object, Property, Result, bail};
use util::clock::{ClockType, now_ns};
use util::timer::Timer;

use crate::MAX_ISA_SERIAL_PORTS;
use crate::serial::{Parity, Uart, UartActions, spec};

/// Ports of COM1 to COM4.
const IOBASE: [u32; MAX_ISA_SERIAL_PORTS] = [0x3f8, 0x2f8, 0x3e8, 0x2e8];
/// Interrupt lines of COM1 to COM4.
const IRQ: [u32; MAX_ISA_SERIAL_PORTS] = [4, 3, 4, 3];
/// A property that follows from the index.
const AUTOMATIC: u32 = u32::MAX;

/// The device.
#[derive(Object)]
#[object(name = "isa-serial", parent = IsaDevice, class_init = class_init)]
pub struct IsaSerial {
    parent: IsaDevice,
    /// Which COM port it is, from 0; the next free one where nothing is said
    #[property(default = AUTOMATIC)]
    index: Property<u32>,
    /// First port
    #[property(default = AUTOMATIC)]
    iobase: Property<u32>,
    /// Interrupt line
    #[property(default = AUTOMATIC)]
    irq: Property<u32>,
    /// ID of a chardev to use as a backend
    #[property]
    chardev: Property<CharProperty>,
    /// Baud rate at divisor 1
    #[property(default = spec::BAUDBASE)]
    baudbase: Property<u32>,
    uart: OnceLock<Mutex<Uart>>,
    timer: OnceLock<Timer>,
    frontend: CharFrontend,
    line: IrqPin,
}
qom::type_init!(IsaSerial);

fn class_init(class: &mut Class) {
    class.get_mut::<DeviceClass>().category = Some(DeviceCategory::Input);
    vmstate::register::<IsaSerial>(class);
}

/// The index of the next port that says nothing about it.
static NEXT_INDEX: AtomicU32 = AtomicU32::new(0);

impl IsaSerial {
    fn take_index(&self) -> Result<usize> {
        if self.index.get() == AUTOMATIC {
            self.index.set(NEXT_INDEX.load(Ordering::Relaxed));
        }
        let index = self.index.get();
        NEXT_INDEX.store(index.wrapping_add(1), Ordering::Relaxed);
        match usize::try_from(index) {
            Ok(index) if index < MAX_ISA_SERIAL_PORTS => Ok(index),
            _ => bail!("Max. supported number of ISA serial ports is {MAX_ISA_SERIAL_PORTS}."),
        }
    }

    /// Changes the chip, then does what follows from it: line, timer, backend.
    fn change<R>(&self, f: impl FnOnce(&mut Uart, u64) -> R) -> Option<R> {
        let uart = self.uart.get()?;
        let now = now_ns(ClockType::Virtual);
        let (result, fell) = {
            let mut uart = uart.lock();
            let result = f(&mut uart, now);
            // Under the chip's lock, so that an older deadline does not come last.
            match (self.timer.get(), uart.next_deadline()) {
                (Some(timer), Some(deadline)) => timer.mod_ns(deadline),
                (Some(timer), None) if timer.pending() => timer.del(),
                _ => {}
            }
            (result, uart.take_irq_fall())
        };
        self.line.sync(fell, || uart.lock().irq_level());
        Some(result)
    }

    /// Hands the byte in the shift register to the backend, and those behind it; where the backend takes no
    /// more, goes on when it does.
    fn transmit(&self) {
        let mut next = self.uart.get().and_then(|uart| uart.lock().tsr());
        while let Some(byte) = next {
            if self.frontend.write_soon(&[byte]) == 0 {
                let this = self.this_weak();
                if self.frontend.add_watch(move || {
                    if let Some(this) = this.upgrade() {
                        this.transmit();
                    }
                }) {
                    return;
                }
            }
            next = self.change(Uart::transmitted).flatten();
        }
    }

    fn this_weak(&self) -> Weak<IsaSerial> {
        qom::downcast::<IsaSerial>(self.this()).map(|this| Arc::downgrade(&this)).unwrap_or_default()
    }

    fn act(&self, actions: UartActions) {
        if actions.contains(UartActions::TRANSMIT) {
            self.transmit();
        }
        let Some(uart) = self.uart.get() else { return };
        if actions.contains(UartActions::PARAMETERS) {
            let line = uart.lock().parameters();
            let parity = match line.parity {
                Parity::None => chardev::Parity::None,
                Parity::Odd => chardev::Parity::Odd,
                Parity::Even => chardev::Parity::Even,
            };
            // Backends other than a serial line have no parameters.
            let _ = self.frontend.set_serial_params(&SerialParams {
                speed: line.speed,
                parity,
                data_bits: line.data_bits,
                stop_bits: line.stop_bits,
            });
        }
        if actions.contains(UartActions::BREAK) && uart.lock().break_control() {
            let _ = self.frontend.send_break();
        }
    }
}

impl DeviceImpl for IsaSerial {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let index = self.take_index()?;
        if self.iobase.get() == AUTOMATIC {
            self.iobase.set(IOBASE[index]);
        }
        if self.irq.get() == AUTOMATIC {
            self.irq.set(IRQ[index]);
        }
        let _ = self.uart.set(Mutex::new(Uart::new(self.baudbase.get())));
        let this = Arc::downgrade(self);
        let timer = Timer::new(ClockType::Virtual, move || {
            if let Some(this) = this.upgrade() {
                this.change(Uart::expire);
            }
        });
        let _ = self.timer.set(timer);
        self.connect_irq(&self.line, self.irq.get())?;
        self.register_ioport(self.clone(), "serial", self.iobase.get(), spec::NUM_REGISTERS)?;
        if CharProperty::attach(&self.chardev, &self.frontend)? {
            let handlers: Weak<dyn CharHandlers> = self.this_weak();
            self.frontend.set_handlers(handlers);
        }
        Ok(())
    }

    fn unrealize(self: &Arc<Self>) {
        self.unregister_regions();
        self.frontend.detach();
    }

    fn reset_hold(&self) {
        self.change(|uart, _| uart.reset());
    }
}

impl VmState for IsaSerial {
    type State = Uart;

    fn save(&self) -> Option<Uart> {
        Some(self.uart.get()?.lock().clone())
    }

    fn load(&self, state: Uart) -> Result<()> {
        self.change(|uart, _| *uart = state);
        self.act(UartActions::TRANSMIT | UartActions::PARAMETERS);
        Ok(())
    }
}

impl RegionOps for IsaSerial {
    #[inline]
    fn read(&self, offset: u64, _size: u8) -> u64 {
        if offset == spec::LSR {
            // Guests poll it for every byte: nothing follows from it but for an error, which it clears.
            if let Some(uart) = self.uart.get() {
                let lsr = uart.lock().read_lsr();
                if lsr & spec::LSR_INT_ANY != 0 {
                    self.change(|_, _| ());
                }
                return lsr.into();
            }
        }
        let read = self.change(|uart, now| {
            let could = uart.can_receive();
            (uart.read(offset, now), uart.can_receive() > could)
        });
        let Some((value, has_room)) = read else { return 0xff };
        if has_room {
            self.frontend.accept_input();
        }
        value.into()
    }

    fn write(&self, offset: u64, value: u64, _size: u8) {
        let written = self.change(|uart, now| {
            let could = uart.can_receive();
            (uart.write(offset, value as u8, now), uart.can_receive() > could)
        });
        let Some((actions, has_room)) = written else { return };
        self.act(actions);
        if has_room {
            self.frontend.accept_input();
        }
    }

    fn rules(&self) -> AccessRules {
        AccessRules::sizes(1, 1)
    }
}

impl CharHandlers for IsaSerial {
    fn can_read(&self) -> usize {
        self.uart.get().map_or(0, |uart| uart.lock().can_receive())
    }

    fn read(&self, data: &[u8]) {
        self.change(|uart, now| uart.receive(data, now));
    }

    fn event(&self, event: Event) {
        if event == Event::Break {
            self.change(Uart::receive_break);
        }
    }
}
