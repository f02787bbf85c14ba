//! A channel: two devices behind one set of registers, and the bus master that they share.
//!
//! What devices have to wait for is a [`Job`]. A channel has one at a time: a busy device keeps the other from being
//! selected.

use qom::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::bmdma::Bmdma;
use crate::drive::{After, Drive, Kind, Registers};
use crate::spec::{bm, cmd, control, device, reg, status};

/// What is to be read, written or done on a disk before a command goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Job {
    /// Read sectors of 512 bytes for the Data register.
    Read {
        /// The first one.
        sector: u64,
        /// How many.
        count: u32,
    },
    /// Write those that came through the Data register.
    Write {
        /// The first one.
        sector: u64,
        /// How many.
        count: u32,
    },
    /// Bring everything to the disk.
    Flush,
    /// Go through the bus master's table of memory.
    Dma(DmaKind),
    /// Read sectors of a CD for the Data register.
    ReadCd {
        /// The first one.
        lba: u32,
        /// How many.
        count: u32,
    },
    /// Read sectors of a CD for the bus master.
    ReadCdDma {
        /// The first one.
        lba: u32,
        /// How many.
        count: u32,
    },
}

/// What the bus master is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DmaKind {
    /// Sectors to memory.
    Read,
    /// Sectors from memory.
    Write,
    /// A list of sectors that are not needed.
    Trim,
    /// A packet command's data to memory.
    Packet,
}

/// A job and which one it is: one that was called off must not be taken for the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// Which one.
    pub ticket: u64,
    /// Of which device.
    pub unit: usize,
    /// What is to be done.
    pub job: Job,
}

/// What follows from a change, for whoever made it to carry out.
#[derive(Debug, Default)]
pub struct Effects {
    /// The interrupt fell meanwhile.
    pub fell: bool,
    /// A device's tray opened or closed.
    pub tray: Option<(usize, bool)>,
    /// A job began.
    pub task: Option<Task>,
}

/// What is saved.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ChannelState {
    /// The devices' registers.
    pub devices: [Registers; 2],
    /// The device that is selected.
    pub unit: usize,
    /// Device Control.
    pub control: u8,
    /// The interrupt's level.
    pub irq: bool,
    /// The bus master.
    pub bmdma: Bmdma,
    /// What is under way.
    pub job: Option<Job>,
    /// What failed and is tried again when the machine goes on.
    pub retry: Option<Job>,
    /// Where the command began, and how many sectors it has.
    pub begin: (u64, u32),
}

/// A channel.
#[derive(Default)]
pub struct Channel {
    pub(crate) state: ChannelState,
    drives: [Option<Drive>; 2],
    effects: Effects,
    ticket: u64,
}

impl Channel {
    /// A channel without devices, as after power-on.
    pub fn new() -> Channel {
        let mut channel = Channel::default();
        channel.reset();
        channel
    }

    /// Puts a device at a place that is free (`ide_init_drive`).
    pub fn add(&mut self, unit: usize, drive: Drive) {
        let (Some(place), Some(registers)) = (self.drives.get_mut(unit), self.state.devices.get_mut(unit))
        else {
            return;
        };
        registers.translation = (drive.geometry.1, drive.geometry.2);
        registers.sectors = drive.medium.sectors();
        registers.reset(Some(&drive));
        *place = Some(drive);
    }

    /// Takes a device away, with what it was doing.
    pub fn remove(&mut self, unit: usize) {
        self.cancel();
        if let Some(place) = self.drives.get_mut(unit) {
            *place = None;
        }
        self.reset_device(unit);
    }

    /// A device, if it is there.
    pub fn drive(&self, unit: usize) -> Option<&Drive> {
        self.drives.get(unit)?.as_ref()
    }

    /// The selected device's registers.
    pub(crate) fn device(&self) -> &Registers {
        let [first, second] = &self.state.devices;
        if self.state.unit == 0 { first } else { second }
    }

    /// The same, to be changed.
    pub(crate) fn device_mut(&mut self) -> &mut Registers {
        let [first, second] = &mut self.state.devices;
        if self.state.unit == 0 { first } else { second }
    }

    /// The selected device, if it is there.
    pub(crate) fn selected(&self) -> Option<&Drive> {
        self.drive(self.state.unit)
    }

    pub(crate) fn kind(&self) -> Option<Kind> {
        self.selected().map(|drive| drive.kind)
    }

    /// What followed from changes since the last time.
    pub fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    /// The interrupt's level.
    pub fn irq_level(&self) -> bool {
        self.state.irq
    }

    /// Raises the interrupt, if the guest wants it (`ide_set_irq`, `bmdma_irq`).
    pub(crate) fn raise_irq(&mut self) {
        if self.state.control & control::NIEN == 0 {
            self.state.bmdma.status |= bm::INTERRUPT;
            self.state.irq = true;
        }
    }

    fn lower_irq(&mut self) {
        self.effects.fell |= self.state.irq;
        self.state.irq = false;
    }

    pub(crate) fn move_tray(&mut self, open: bool) {
        self.effects.tray = Some((self.state.unit, open));
    }

    /// Begins a job of the selected device's.
    pub(crate) fn begin_job(&mut self, job: Job) {
        self.ticket += 1;
        self.state.job = Some(job);
        self.effects.task = Some(Task { ticket: self.ticket, unit: self.state.unit, job });
    }

    /// Whether this is the job under way.
    pub fn is_current(&self, task: &Task) -> bool {
        self.state.job.is_some() && self.ticket == task.ticket
    }

    /// The job under way.
    pub fn job(&self) -> Option<Job> {
        self.state.job
    }

    /// Nothing is under way any more; what comes of it is not looked at.
    pub(crate) fn cancel(&mut self) {
        self.ticket += 1;
        (self.state.job, self.state.retry) = (None, None);
        self.effects.task = None;
    }

    /// No register answers: there is no device, or not the selected one beside another.
    fn is_silent(&self) -> bool {
        self.is_empty() || self.state.unit == 1 && self.drive(1).is_none()
    }

    fn is_empty(&self) -> bool {
        self.drives.iter().all(Option::is_none)
    }

    /// The status, without what a read of it does (`ide_status_read`).
    pub fn alternate_status(&self) -> u8 {
        if self.is_silent() { 0 } else { self.device().status }
    }

    /// The guest reads a register of the command block, but for data (`ide_ioport_read`).
    pub fn read(&mut self, at: u64) -> u8 {
        let before = self.state.control & control::HOB != 0;
        let device = self.device();
        let pick = |now: u8, hob: u8| if before { hob } else { now };
        let value = match at {
            reg::DATA => return self.read_data(2) as u8,
            reg::ERROR if self.is_silent() => 0,
            reg::ERROR => pick(device.error, device.hob_feature),
            reg::SECTOR_COUNT => pick(device.count as u8, device.hob_count),
            reg::SECTOR_NUMBER => pick(device.sector, device.hob_sector),
            reg::CYLINDER_LOW => pick(device.lcyl, device.hob_lcyl),
            reg::CYLINDER_HIGH => pick(device.hcyl, device.hob_hcyl),
            reg::DEVICE => device.select,
            _ => {
                let value = self.alternate_status();
                self.lower_irq();
                return value;
            }
        };
        if self.is_empty() { 0 } else { value }
    }

    /// The guest writes a register of the command block, but for data. Both devices hear of it
    /// (`ide_ioport_write`).
    pub fn write(&mut self, at: u64, value: u8) {
        let is_command = at > reg::DEVICE;
        if !is_command && self.device().status & (status::BUSY | status::DRQ) != 0 || at == reg::DATA {
            return;
        }
        self.state.control &= !control::HOB;
        if is_command {
            self.lower_irq();
            self.execute(value);
            return;
        }
        for device in &mut self.state.devices {
            match at {
                reg::ERROR => (device.hob_feature, device.feature) = (device.feature, value),
                reg::SECTOR_COUNT => {
                    (device.hob_count, device.count) = (device.count as u8, value.into());
                }
                reg::SECTOR_NUMBER => (device.hob_sector, device.sector) = (device.sector, value),
                reg::CYLINDER_LOW => (device.hob_lcyl, device.lcyl) = (device.lcyl, value),
                reg::CYLINDER_HIGH => (device.hob_hcyl, device.hcyl) = (device.hcyl, value),
                _ => device.select = value | device::ALWAYS,
            }
        }
        if at == reg::DEVICE {
            self.state.unit = usize::from(value & device::DEV != 0);
        }
    }

    /// Whether a write of Device Control begins a reset.
    pub fn begins_reset(&self, value: u8) -> bool {
        self.state.control & control::SRST == 0 && value & control::SRST != 0
    }

    /// The guest writes Device Control (`ide_ctrl_write`).
    pub fn write_control(&mut self, value: u8) {
        let resets = self.begins_reset(value);
        self.state.control = value;
        if resets {
            self.software_reset();
            self.state.control &= !control::SRST;
        }
    }

    /// (`ide_bus_perform_srst`)
    fn software_reset(&mut self) {
        self.cancel();
        self.state.bmdma.waiting = None;
        for unit in 0..2 {
            self.reset_device(unit);
            self.diagnose(unit);
        }
    }

    /// A device's registers as after power-on.
    pub(crate) fn reset_device(&mut self, unit: usize) {
        if let (Some(device), Some(drive)) = (self.state.devices.get_mut(unit), self.drives.get(unit)) {
            device.reset(drive.as_ref());
        }
    }

    /// All as after power-on (`ide_bus_reset`). The interrupt's level is the controller's, whose reset lowers it.
    pub fn reset(&mut self) {
        self.cancel();
        self.lower_irq();
        (self.state.unit, self.state.control) = (0, 0);
        self.state.bmdma = Bmdma::default();
        (0..2).for_each(|unit| self.reset_device(unit));
    }

    /// The guest reads Data, `width` bytes at once. An odd byte at the end comes with a zero (`ide_data_readw`).
    pub fn read_data(&mut self, width: usize) -> u64 {
        let device = self.device_mut();
        if device.status & status::DRQ == 0 || !device.after.is_input() || device.at >= device.end {
            return 0;
        }
        let end = device.end.min(device.at + width);
        let bytes = device.buffer.get(device.at..end).unwrap_or_default();
        let value = bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
        self.data_moved(end);
        value
    }

    /// The guest writes Data.
    pub fn write_data(&mut self, value: u64, width: usize) {
        let device = self.device_mut();
        if device.status & status::DRQ == 0 || device.after.is_input() || device.at >= device.end {
            return;
        }
        let end = device.end.min(device.at + width);
        if let Some(place) = device.buffer.get_mut(device.at..end) {
            place.iter_mut().zip(value.to_le_bytes()).for_each(|(to, from)| *to = from);
        }
        self.data_moved(end);
    }

    /// Data went through up to here; at the end of the transfer the command goes on.
    fn data_moved(&mut self, at: usize) {
        let device = self.device_mut();
        device.at = at;
        if at < device.end {
            return;
        }
        device.status &= !status::DRQ;
        match device.after {
            After::Stop => device.halt(),
            After::ReadSectors => self.read_sectors(),
            After::WriteSectors => self.write_sectors(),
            After::Packet => self.packet_came(),
            After::PacketData => self.packet_data_gone(),
        }
    }

    /// What came through the Data register, to be written.
    pub fn outgoing(&self) -> Vec<u8> {
        self.device().buffer.clone()
    }

    /// Has `data` go through the Data register (`ide_transfer_start`).
    pub(crate) fn transfer(&mut self, data: Vec<u8>, after: After) {
        let len = data.len();
        let device = self.device_mut();
        device.buffer = data;
        self.transfer_buffered(len, after);
    }

    /// The same with the first `len` bytes of what is in the buffer.
    pub(crate) fn transfer_buffered(&mut self, len: usize, after: After) {
        let device = self.device_mut();
        (device.at, device.end, device.after) = (0, len.min(device.buffer.len()), after);
        if device.status & status::ERR == 0 {
            device.status |= status::DRQ;
        }
        self.note_begin();
    }

    /// Notes where a command begins, should it have to be tried again (`ide_set_retry`).
    pub(crate) fn note_begin(&mut self) {
        let device = self.device();
        self.state.begin = (device.lba(), device.count);
    }

    /// A medium came or went (`ide_cd_change_cb`).
    pub fn change_media(&mut self, unit: usize, load: bool) {
        let sectors = self.drive(unit).map_or(0, |drive| drive.medium.sectors());
        let Some(device) = self.state.devices.get_mut(unit) else { return };
        device.sectors = sectors;
        let packet = &mut device.packet;
        (packet.tray_open, packet.changed) = (!load, 1);
        (packet.new_media, packet.eject_request) = (true, false);
        self.raise_irq();
    }

    /// The user wants the medium out (`ide_cd_eject_request_cb`).
    pub fn eject_request(&mut self, unit: usize, force: bool) {
        let Some(device) = self.state.devices.get_mut(unit) else { return };
        device.packet.eject_request = true;
        device.packet.tray_locked &= !force;
        self.raise_irq();
    }

    /// Whether a device's tray is open, and whether the guest forbade that.
    pub fn tray(&self, unit: usize) -> (bool, bool) {
        let packet = self.state.devices.get(unit).map(|device| &device.packet);
        packet.map_or((false, false), |packet| (packet.tray_open, packet.tray_locked))
    }

    /// A disk's size is another.
    pub fn resized(&mut self, unit: usize) {
        let sectors = self.drive(unit).map_or(0, |drive| drive.medium.sectors());
        if let Some(device) = self.state.devices.get_mut(unit) {
            device.sectors = sectors;
        }
    }

    /// What is saved.
    pub fn save(&self) -> ChannelState {
        self.state.clone()
    }

    /// Takes a state over. What was under way then is tried again when the machine goes on.
    ///
    /// # Errors
    /// No channel can be so.
    pub fn load(&mut self, mut state: ChannelState) -> Result<()> {
        state.devices.iter().try_for_each(Registers::check)?;
        if state.unit > 1 {
            bail!("a channel has no device {}", state.unit);
        }
        state.retry = state.retry.or(state.job.take());
        self.cancel();
        self.state = state;
        let devices = self.state.devices.iter_mut().zip(&self.drives);
        devices.for_each(|(device, drive)| device.sectors = drive.as_ref().map_or(0, |d| d.medium.sectors()));
        Ok(())
    }

    /// Whether DEVICE RESET may interrupt what is under way, of which only packet devices know.
    pub(crate) fn may_begin(&self, command: u8) -> bool {
        let busy = self.device().status & (status::BUSY | status::DRQ) != 0;
        !busy || command == cmd::DEVICE_RESET && self.kind() == Some(Kind::Cd)
    }
}
