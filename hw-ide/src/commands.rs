//! ATA commands (ACS-2, chapter 7; older standards where it says so no more). Source: QEMU `hw/ide/core.c`.

use crate::channel::{Channel, DmaKind, Job};
use crate::drive::{After, Kind};
use crate::spec::{MAX_MULTIPLE, SECTOR, cmd::*, device, error, feature, status};

/// Whether devices of a kind know a command. A channel without devices answers as if disks were there.
fn is_known(command: u8, kind: Kind) -> bool {
    match command {
        READ_SECTORS | EXECUTE_DEVICE_DIAGNOSTIC | FLUSH_CACHE | IDENTIFY_DEVICE | SET_FEATURES => true,
        DEVICE_RESET | PACKET | IDENTIFY_PACKET_DEVICE => kind == Kind::Cd,
        _ => kind == Kind::Disk && is_disk_command(command),
    }
}

fn is_disk_command(command: u8) -> bool {
    sets_seek_complete(command)
        || has_no_effect(command)
        || matches!(
            command,
            DATA_SET_MANAGEMENT
                | READ_SECTORS_ONCE
                | READ_SECTORS_EXT
                | READ_DMA
                | READ_DMA_ONCE
                | READ_DMA_EXT
                | READ_MULTIPLE
                | READ_MULTIPLE_EXT
                | WRITE_SECTORS
                | WRITE_SECTORS_ONCE
                | WRITE_SECTORS_EXT
                | WRITE_VERIFY
                | WRITE_DMA
                | WRITE_DMA_ONCE
                | WRITE_DMA_EXT
                | WRITE_MULTIPLE
                | WRITE_MULTIPLE_EXT
                | FLUSH_CACHE_EXT
        )
}

/// Commands at whose end the heads are where they should be.
fn sets_seek_complete(command: u8) -> bool {
    matches!(
        command,
        RECALIBRATE
            | READ_NATIVE_MAX
            | READ_NATIVE_MAX_EXT
            | VERIFY
            | VERIFY_ONCE
            | VERIFY_EXT
            | SEEK
            | INITIALIZE_DEVICE_PARAMETERS
            | CHECK_POWER_MODE
            | CHECK_POWER_MODE_OLD
            | SMART
            | SET_MULTIPLE_MODE
            | SET_FEATURES
            | SECURITY_FREEZE_LOCK
    )
}

/// Power management: the device is always ready.
fn has_no_effect(command: u8) -> bool {
    matches!(
        command,
        STANDBY_IMMEDIATE
            | IDLE_IMMEDIATE
            | STANDBY
            | IDLE
            | SLEEP
            | STANDBY_IMMEDIATE_OLD
            | IDLE_IMMEDIATE_OLD
            | STANDBY_OLD
            | IDLE_OLD
            | SLEEP_OLD
    )
}

/// How a command goes on.
#[derive(PartialEq, Eq)]
pub(crate) enum Next {
    /// It is over, but for status and interrupt.
    Complete,
    /// It said itself what its status is, or is under way.
    Own,
}

impl Channel {
    /// The guest gives the selected device a command (`ide_exec_cmd`).
    pub(crate) fn execute(&mut self, command: u8) {
        let is_missing_slave = self.state.unit == 1 && self.selected().is_none();
        if is_missing_slave || !self.may_begin(command) {
            return;
        }
        if !is_known(command, self.kind().unwrap_or(Kind::Disk)) {
            self.abort();
            self.raise_irq();
            return;
        }
        let device = self.device_mut();
        (device.status, device.error) = (status::READY | status::BUSY, 0);
        if self.carry_out(command) == Next::Complete {
            let device = self.device_mut();
            device.status &= !status::BUSY;
            if sets_seek_complete(command) && device.error == 0 {
                device.status |= status::SEEK;
            }
            self.raise_irq();
        }
    }

    /// The command failed (`ide_abort_command`).
    pub(crate) fn abort(&mut self) -> Next {
        let device = self.device_mut();
        device.halt();
        (device.status, device.error) = (status::READY | status::ERR, error::ABRT);
        Next::Complete
    }

    fn carry_out(&mut self, command: u8) -> Next {
        let is_there = self.selected().is_some();
        match command {
            READ_SECTORS | READ_SECTORS_ONCE | READ_SECTORS_EXT => self.read_pio(command == READ_SECTORS_EXT),
            READ_MULTIPLE | READ_MULTIPLE_EXT => self.read_multiple(command == READ_MULTIPLE_EXT),
            WRITE_SECTORS | WRITE_SECTORS_ONCE | WRITE_SECTORS_EXT | WRITE_VERIFY => {
                self.write_pio(command == WRITE_SECTORS_EXT, 1)
            }
            WRITE_MULTIPLE | WRITE_MULTIPLE_EXT => {
                self.write_pio(command == WRITE_MULTIPLE_EXT, self.device().multiple)
            }
            READ_DMA | READ_DMA_ONCE | READ_DMA_EXT => {
                self.sectors_by_dma(DmaKind::Read, command == READ_DMA_EXT)
            }
            WRITE_DMA | WRITE_DMA_ONCE | WRITE_DMA_EXT => {
                self.sectors_by_dma(DmaKind::Write, command == WRITE_DMA_EXT)
            }
            DATA_SET_MANAGEMENT if is_there && self.device().feature == feature::TRIM => {
                self.begin_dma(DmaKind::Trim)
            }
            FLUSH_CACHE | FLUSH_CACHE_EXT => self.flush(),
            IDENTIFY_DEVICE => self.identify(),
            IDENTIFY_PACKET_DEVICE => self.give(self.identify_packet_device()),
            PACKET => self.begin_packet(),
            SET_FEATURES => self.set_features(),
            SMART => self.smart(),
            DEVICE_RESET => self.device_reset(),
            EXECUTE_DEVICE_DIAGNOSTIC => {
                self.diagnose(self.state.unit);
                Next::Own
            }
            DATA_SET_MANAGEMENT => self.abort(),
            _ => self.carry_out_at_once(command),
        }
    }

    /// Commands that only change registers.
    fn carry_out_at_once(&mut self, command: u8) -> Next {
        let is_disk = self.kind() == Some(Kind::Disk);
        let device = self.device_mut();
        match command {
            VERIFY | VERIFY_ONCE | VERIFY_EXT => device.begin_sectors(command == VERIFY_EXT),
            READ_NATIVE_MAX | READ_NATIVE_MAX_EXT => {
                let Some(last) = device.sectors.checked_sub(1) else { return self.abort() };
                device.begin_sectors(command == READ_NATIVE_MAX_EXT);
                device.set_lba(last);
            }
            CHECK_POWER_MODE | CHECK_POWER_MODE_OLD => device.count = 0xff,
            SECURITY_FREEZE_LOCK => device.count = 0,
            INITIALIZE_DEVICE_PARAMETERS if is_disk => {
                device.translation = (u32::from(device.select & device::HEAD) + 1, device.count);
            }
            INITIALIZE_DEVICE_PARAMETERS => return self.abort(),
            SET_MULTIPLE_MODE => match device.count as u8 {
                count if count > MAX_MULTIPLE || count != 0 && !count.is_power_of_two() => {
                    return self.abort();
                }
                count => device.multiple = count,
            },
            _ => {}
        }
        Next::Complete
    }

    /// Gives data to the guest by the Data register.
    pub(crate) fn give(&mut self, data: Vec<u8>) -> Next {
        self.device_mut().status = status::READY | status::SEEK;
        self.transfer(data, After::Stop);
        self.raise_irq();
        Next::Own
    }

    fn identify(&mut self) -> Next {
        if self.kind() == Some(Kind::Disk) {
            return self.give(self.identify_device());
        }
        if self.kind() == Some(Kind::Cd) {
            self.device_mut().set_signature(Some(Kind::Cd));
        }
        self.abort()
    }

    /// (`cmd_read_pio`)
    fn read_pio(&mut self, lba48: bool) -> Next {
        if self.kind() == Some(Kind::Cd) {
            // ATA/ATAPI-4, 8.27.5.2.
            self.device_mut().set_signature(Some(Kind::Cd));
        }
        if self.kind() != Some(Kind::Disk) {
            return self.abort();
        }
        let device = self.device_mut();
        device.begin_sectors(lba48);
        device.at_once = 1;
        self.read_sectors();
        Next::Own
    }

    fn read_multiple(&mut self, lba48: bool) -> Next {
        if self.selected().is_none() || self.device().multiple == 0 {
            return self.abort();
        }
        let device = self.device_mut();
        device.begin_sectors(lba48);
        device.at_once = device.multiple.into();
        self.read_sectors();
        Next::Own
    }

    fn write_pio(&mut self, lba48: bool, at_once: u8) -> Next {
        if self.selected().is_none() || at_once == 0 {
            return self.abort();
        }
        let device = self.device_mut();
        device.begin_sectors(lba48);
        device.at_once = at_once.into();
        device.status = status::READY | status::SEEK;
        self.take_sectors();
        Next::Own
    }

    /// Has the guest write as many sectors as come at once.
    pub(crate) fn take_sectors(&mut self) {
        let device = self.device();
        let bytes = u64::from(device.count.min(device.at_once)) * SECTOR;
        self.transfer(vec![0; bytes as usize], After::WriteSectors);
    }

    /// Reads as many sectors as go at once (`ide_sector_read`).
    pub(crate) fn read_sectors(&mut self) {
        let device = self.device_mut();
        device.halt();
        (device.status, device.error) = (status::READY | status::SEEK, 0);
        let (sector, count) = (device.lba(), device.count.min(device.at_once));
        if count == 0 {
            return;
        }
        device.status |= status::BUSY;
        match self.has_sectors(sector, count) {
            true => self.begin_job(Job::Read { sector, count }),
            false => self.fail(),
        }
    }

    /// Writes those that came (`ide_sector_write`).
    pub(crate) fn write_sectors(&mut self) {
        let device = self.device_mut();
        device.status = status::READY | status::SEEK | status::BUSY;
        let (sector, count) = (device.lba(), device.count.min(device.at_once));
        match self.has_sectors(sector, count) {
            true => self.begin_job(Job::Write { sector, count }),
            false => self.fail(),
        }
    }

    /// The command is over, and failed (`ide_rw_error`).
    pub(crate) fn fail(&mut self) {
        self.abort();
        self.raise_irq();
    }

    /// Whether the disk has these sectors (`ide_sect_range_ok`).
    pub(crate) fn has_sectors(&self, sector: u64, count: u32) -> bool {
        let all = self.selected().map_or(0, |drive| drive.medium.sectors());
        sector.checked_add(count.into()).is_some_and(|end| end <= all)
    }

    /// (`ide_flush_cache`)
    pub(crate) fn flush(&mut self) -> Next {
        if self.selected().is_none() {
            self.flushed();
            return Next::Own;
        }
        self.device_mut().status |= status::BUSY;
        self.note_begin();
        self.begin_job(Job::Flush);
        Next::Own
    }

    /// Everything is on the disk.
    pub(crate) fn flushed(&mut self) {
        self.device_mut().status = status::READY | status::SEEK;
        self.raise_irq();
    }

    fn set_features(&mut self) -> Next {
        let Some(drive) = self.selected() else { return self.abort() };
        let medium = drive.medium.clone();
        let device = self.device_mut();
        match device.feature {
            feature::ENABLE_WRITE_CACHE => medium.set_write_cache(true),
            feature::DISABLE_WRITE_CACHE => {
                medium.set_write_cache(false);
                return self.flush();
            }
            feature::ENABLE_REVERTING => device.reset_reverts = true,
            feature::DISABLE_REVERTING => device.reset_reverts = false,
            // By its upper bits PIO by default, PIO, single word DMA, multiword DMA or Ultra DMA.
            feature::SET_TRANSFER_MODE if matches!(device.count >> 3, 0 | 1 | 2 | 4 | 8) => {
                device.transfer_mode = Some(device.count as u8);
            }
            other if feature::WITHOUT_EFFECT.contains(&other) => {}
            _ => return self.abort(),
        }
        Next::Complete
    }

    /// (`cmd_exec_dev_diagnostic`)
    pub(crate) fn diagnose(&mut self, unit: usize) {
        let kind = self.drive(unit).map(|drive| drive.kind);
        let Some(device) = self.state.devices.get_mut(unit) else { return };
        device.select = device::ALWAYS;
        device.set_signature(kind);
        // Passed; here the error register has no error.
        device.error = 0x01;
        if kind == Some(Kind::Cd) {
            // Packet devices are not ready yet (ATA/ATAPI-6, 9.12).
            device.status = 0;
        } else {
            device.status = status::READY | status::SEEK;
            self.raise_irq();
        }
    }

    /// (`cmd_device_reset`)
    fn device_reset(&mut self) -> Next {
        self.cancel();
        self.state.bmdma.waiting = None;
        self.reset_device(self.state.unit);
        self.device_mut().status = 0;
        Next::Own
    }
}
