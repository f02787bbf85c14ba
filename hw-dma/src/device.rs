//! The devices around [`I8257`], and how others on the ISA bus use them.
//!
//! Source: QEMU `hw/dma/i8257.c`, `include/hw/isa/isa.h` (`IsaDmaClass`).

use std::sync::{Arc, OnceLock};

use hw_core::{DeviceClass, DeviceImpl, VmState, qdev_create, vmstate};
use hw_isa::{IsaBus, IsaDevice};
use memory::{AccessRules, MemTxResult, RegionOps, address_space_memory};
use parking_lot::Mutex;
use qom::{Class, Object, Property, Result, bail};

use crate::i8257::{I8257, Transfer, spec};

/// No such registers.
const NO_PORT: i32 = -1;

/// A device that moves its data by DMA.
pub trait IsaDmaHandler: Send + Sync {
    /// May move some of what is left, with [`I8257Device::read_memory`] and [`I8257Device::write_memory`]. Gives how many
    /// bytes of the transfer are moved then; as many as before ends the turn.
    fn transfer(&self, dma: &I8257Device, transfer: Transfer) -> u32;
}

/// A controller.
#[derive(Object)]
#[object(name = "i8257", parent = IsaDevice, class_init = class_init)]
pub struct I8257Device {
    parent: IsaDevice,
    /// First port of the channels; the control registers follow
    #[property(default = 0)]
    base: Property<i32>,
    /// Port of the page registers
    #[property(default = 0x80)]
    page_base: Property<i32>,
    /// Port of the page registers' high halves
    #[property(default = 0x480)]
    pageh_base: Property<i32>,
    /// 1 for a controller that moves words
    #[property(default = 0)]
    dshift: Property<i32>,
    chip: OnceLock<Mutex<I8257>>,
    handlers: Mutex<[Option<Arc<dyn IsaDmaHandler>>; spec::CHANNELS]>,
}
qom::type_init!(I8257Device);

fn class_init(class: &mut Class) {
    // The board says which channels are its.
    class.get_mut::<DeviceClass>().board_only = true;
    vmstate::register::<I8257Device>(class);
}

impl I8257Device {
    fn with<R: Default>(&self, f: impl FnOnce(&mut I8257) -> R) -> R {
        self.chip.get().map(|chip| f(&mut chip.lock())).unwrap_or_default()
    }

    /// Has `handler` move the data of a channel (0 to 3 of this controller).
    pub fn register_channel(&self, channel: usize, handler: Arc<dyn IsaDmaHandler>) {
        if let Some(place) = self.handlers.lock().get_mut(channel) {
            *place = Some(handler);
        }
    }

    /// A device asks for transfers, and gets those that the guest allows (`hold_DREQ`).
    pub fn hold_dreq(&self, channel: usize) {
        self.with(|chip| chip.set_request(channel, true));
        self.run();
    }

    /// A device asks no more (`release_DREQ`).
    pub fn release_dreq(&self, channel: usize) {
        self.with(|chip| chip.set_request(channel, false));
    }

    /// Whether the channel starts over at its end.
    pub fn has_autoinitialization(&self, channel: usize) -> bool {
        self.with(|chip| chip.has_autoinitialization(channel))
    }

    /// Lets every channel that is ready move data, until its device moves no more.
    fn run(&self) {
        let ready: Vec<usize> = self.with(|chip| chip.ready().collect());
        for channel in ready {
            let Some(handler) = self.handlers.lock().get(channel).cloned().flatten() else { continue };
            while let Some(transfer) =
                self.with(|chip| chip.ready().find(|c| *c == channel).and(chip.transfer(channel)))
            {
                let position = handler.transfer(self, transfer);
                self.with(|chip| chip.moved(channel, position));
                if position <= transfer.position || position >= transfer.length {
                    break;
                }
            }
        }
    }

    fn place(&self, channel: usize, position: u32, length: usize) -> Option<(u64, bool)> {
        let length = u32::try_from(length).ok()?;
        self.with(|chip| chip.place(channel, position, length))
    }

    /// Reads memory for a device at `position` of its transfer; zeros where the guest lets the channel only verify.
    pub fn read_memory(&self, channel: usize, position: u32, data: &mut [u8]) {
        data.fill(0);
        let Some((address, backwards)) = self.place(channel, position, data.len()) else { return };
        if address_space_memory().read(address, data) == MemTxResult::Ok && backwards {
            data.reverse();
        }
    }

    /// Writes memory for a device at `position` of its transfer; nothing where the guest lets the channel only verify.
    pub fn write_memory(&self, channel: usize, position: u32, data: &[u8]) {
        let Some((address, backwards)) = self.place(channel, position, data.len()) else { return };
        let reversed: Vec<u8>;
        let data = match backwards {
            true => {
                reversed = data.iter().rev().copied().collect();
                &reversed
            }
            false => data,
        };
        // A write where nothing is goes nowhere.
        let _ = address_space_memory().write(address, data);
    }

    fn map(self: &Arc<Self>, block: Block, name: &str, port: u32, len: u32) -> Result<()> {
        let shift = u32::from(self.dshift.get() != 0);
        self.register_ioport(
            Arc::new(Ports { device: self.clone(), block, base: port.into(), shift }),
            name,
            port,
            len,
        )?;
        Ok(())
    }
}

impl DeviceImpl for I8257Device {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let words = match self.dshift.get() {
            0 => false,
            1 => true,
            other => bail!("i8257: dshift must be 0 or 1, not {other}"),
        };
        let _ = self.chip.set(Mutex::new(I8257::new(words)));
        let port = |base: i32| u32::try_from(base).unwrap_or(u32::MAX / 2);
        let (base, len) = (port(self.base.get()), 8 << u32::from(words));
        self.map(Block::Channels, "dma-chan", base, len)?;
        self.map(Block::Control, "dma-cont", base + len, len)?;
        let page = port(self.page_base.get());
        self.map(Block::Page, "dma-page", page + 1, 3)?;
        self.map(Block::Page, "dma-page", page + 7, 1)?;
        if self.pageh_base.get() != NO_PORT {
            let page = port(self.pageh_base.get());
            self.map(Block::PageHigh, "dma-pageh", page + 1, 3)?;
            // QEMU decodes one port, which has no register, more.
            self.map(Block::PageHigh, "dma-pageh", page + 7, 2)?;
        }
        Ok(())
    }

    fn unrealize(self: &Arc<Self>) {
        self.unregister_regions();
    }

    fn reset_hold(&self) {
        self.with(I8257::reset);
    }
}

impl VmState for I8257Device {
    type State = I8257;

    fn save(&self) -> Option<I8257> {
        Some(self.chip.get()?.lock().clone())
    }

    fn load(&self, state: I8257) -> Result<()> {
        let Some(chip) = self.chip.get() else { return Ok(()) };
        if !chip.lock().is_alike(&state) {
            bail!("the state is of the other DMA controller");
        }
        *chip.lock() = state;
        self.run();
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Block {
    Channels,
    Control,
    Page,
    PageHigh,
}

struct Ports {
    device: Arc<I8257Device>,
    block: Block,
    base: u64,
    shift: u32,
}

impl RegionOps for Ports {
    fn read(&self, offset: u64, _size: u8) -> u64 {
        let value = self.device.with(|chip| match self.block {
            Block::Channels => chip.read_channel(offset >> self.shift),
            Block::Control => chip.read_control(offset >> self.shift),
            Block::Page => chip.read_page(self.base + offset, false),
            Block::PageHigh => chip.read_page(self.base + offset, true),
        });
        value.into()
    }

    fn write(&self, offset: u64, value: u64, _size: u8) {
        let value = value as u8;
        self.device.with(|chip| match self.block {
            Block::Channels => chip.write_channel(offset >> self.shift, value),
            Block::Control => chip.write_control(offset >> self.shift, value),
            Block::Page => chip.write_page(self.base + offset, false, value),
            Block::PageHigh => chip.write_page(self.base + offset, true, value),
        });
        if matches!(self.block, Block::Control) {
            self.device.run();
        }
    }

    fn rules(&self) -> AccessRules {
        match self.block {
            Block::Channels | Block::Control => AccessRules::bytes(4),
            Block::Page | Block::PageHigh => AccessRules::bytes(2).allow_unaligned(),
        }
    }
}

/// Makes a PC's two controllers on the ISA bus `bus` (`i8257_dma_init`); `high_page` for page registers of 15 bits.
///
/// # Errors
/// When `bus` is no ISA bus.
pub fn i8257_dma_init(bus: &Arc<dyn Object>, high_page: bool) -> Result<()> {
    let create = |base: i32, page: i32, pageh: i32, dshift: i32| {
        let pageh = if high_page { pageh } else { NO_PORT };
        let ports = [("base", base), ("page-base", page), ("pageh-base", pageh), ("dshift", dshift)];
        qdev_create("i8257", Some(bus), &ports.map(|(name, value)| (name, value.into())))
    };
    let controllers = [create(0, 0x80, 0x480, 0)?, create(0xc0, 0x88, 0x488, 1)?];
    let Some(bus) = bus.cast::<IsaBus>() else { bail!("i8257 needs an ISA bus") };
    bus.set_dma(controllers);
    Ok(())
}

/// The controller that has the bus's channel `number`, 0 to 7, and which of its channels that is (`isa_get_dma`).
pub fn isa_dma(bus: &IsaBus, number: usize) -> Option<(Arc<I8257Device>, usize)> {
    let controller = bus.dma(number / spec::CHANNELS)?;
    Some((qom::downcast(controller)?, number % spec::CHANNELS))
}
