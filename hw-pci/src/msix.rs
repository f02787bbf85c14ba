//! MSI-X: a table of messages with a mask and a pending bit each.
//!
//! Sources: PCI Local Bus Specification 3.0, section 6.8.2; QEMU `hw/pci/msix.c`.

use std::sync::{Arc, Weak};

use hw_core::accel::{AccelIrqchip, MsiMessage};
use memory::{AccessLimits, AccessRules, MemoryRegion, RegionOps};
use parking_lot::Mutex;
use qom::{Object, Result, bail};
use serde::{Deserialize, Serialize};
use vmm_sys_util::eventfd::EventFd;

use crate::bar::BarKind;
use crate::config::ConfigSpace;
use crate::device::PciDevice;
use crate::irqfd::Irqfds;
use crate::spec::*;

/// Where pending bits begin in a BAR that holds nothing but MSI-X, unless the table is longer.
const PBA_OFFSET: usize = 2048;
/// The size of such a BAR, unless it must be larger.
const BAR_SIZE: usize = 4096;

/// One entry of the table.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    address: u64,
    data: u32,
    control: u32,
    pending: bool,
}

impl Entry {
    const RESET: Entry = Entry { address: 0, data: 0, control: MSIX_ENTRY_MASKED, pending: false };

    fn message(&self) -> MsiMessage {
        MsiMessage { address: self.address, data: self.data }
    }

    fn register(&self, n: usize) -> u32 {
        match n {
            0 => self.address as u32,
            1 => (self.address >> 32) as u32,
            2 => self.data,
            _ => self.control,
        }
    }

    fn set_register(&mut self, n: usize, value: u32) {
        match n {
            0 => self.address = self.address & !0xffff_ffff | u64::from(value),
            1 => self.address = self.address & 0xffff_ffff | u64::from(value) << 32,
            2 => self.data = value,
            _ => self.control = value,
        }
    }
}

/// The table and what its device's message control register says.
struct Table {
    entries: Vec<Entry>,
    enabled: bool,
    function_masked: bool,
}

impl Table {
    fn is_masked(&self, entry: &Entry) -> bool {
        !self.enabled || self.function_masked || entry.control & MSIX_ENTRY_MASKED != 0
    }

    fn set_control(&mut self, control: u16) {
        self.enabled = control & MSIX_CONTROL_ENABLE != 0;
        self.function_masked = control & MSIX_CONTROL_FUNCTION_MASK != 0;
    }

    /// Takes what vectors may send now that could not before.
    fn take_due(&mut self) -> Vec<MsiMessage> {
        let mut due = Vec::new();
        for n in 0..self.entries.len() {
            let entry = self.entries[n];
            if entry.pending && !self.is_masked(&entry) {
                self.entries[n].pending = false;
                due.push(entry.message());
            }
        }
        due
    }
}

/// A function's MSI-X.
pub struct MsiX {
    device: Weak<dyn Object>,
    capability: usize,
    table: Mutex<Table>,
    /// Vectors that the accelerator sends; locked before the table.
    irqfds: Mutex<Option<Irqfds>>,
}

/// The table as memory.
struct TableRegion(Arc<MsiX>);
/// The pending bits as memory.
struct PbaRegion(Arc<MsiX>);

/// Registers are 32 bits wide; 64 are read and written as two.
fn rules() -> AccessRules {
    AccessRules {
        valid: AccessLimits::new(4, 8),
        implemented: AccessLimits::new(4, 4),
        ..AccessRules::default()
    }
}

impl RegionOps for TableRegion {
    fn read(&self, offset: u64, _size: u8) -> u64 {
        let (entry, register) = (offset as usize / MSIX_ENTRY_SIZE, offset as usize % MSIX_ENTRY_SIZE / 4);
        self.0.table.lock().entries.get(entry).map_or(0, |e| e.register(register).into())
    }

    fn write(&self, offset: u64, value: u64, _size: u8) {
        let (entry, register) = (offset as usize / MSIX_ENTRY_SIZE, offset as usize % MSIX_ENTRY_SIZE / 4);
        self.0.change(Some(entry), |table| {
            if let Some(entry) = table.entries.get_mut(entry) {
                entry.set_register(register, value as u32);
            }
        });
    }

    fn rules(&self) -> AccessRules {
        rules()
    }
}

impl RegionOps for PbaRegion {
    fn read(&self, offset: u64, _size: u8) -> u64 {
        let pending = self.0.pending(8 * offset as usize, 32);
        pending.iter().enumerate().fold(0, |bits, (n, pending)| bits | u64::from(*pending) << n)
    }

    fn write(&self, _offset: u64, _value: u64, _size: u8) {}

    fn rules(&self) -> AccessRules {
        rules()
    }
}

impl MsiX {
    /// Gives `device` `vectors` vectors, in base address register `bar`, which holds nothing else
    /// (`msix_init_exclusive_bar`).
    ///
    /// # Errors
    /// When there are none or more than 2048, or no room for the capability.
    pub(crate) fn new(device: &PciDevice, vectors: usize, bar: usize) -> Result<Arc<MsiX>> {
        if !(1..=usize::from(MSIX_CONTROL_TABLE_SIZE) + 1).contains(&vectors) {
            bail!("The number of MSI-X vectors is invalid");
        }
        let pba_offset = PBA_OFFSET.max(vectors * MSIX_ENTRY_SIZE);
        let pba_size = vectors.div_ceil(64) * 8;
        let size = BAR_SIZE.max(pba_offset + pba_size).next_power_of_two();
        let capability = device.with_config(|config| -> Result<usize> {
            let at = config.add_capability(CAP_ID_MSIX, None, MSIX_CAP_SIZE)?;
            config.set_u16(at + MSIX_CONTROL, vectors as u16 - 1);
            config.set_u32(at + MSIX_TABLE, bar as u32);
            config.set_u32(at + MSIX_PBA, (pba_offset | bar) as u32);
            config.set_writable_u16(at + MSIX_CONTROL, MSIX_CONTROL_ENABLE | MSIX_CONTROL_FUNCTION_MASK);
            Ok(at)
        })?;
        let table = Table { entries: vec![Entry::RESET; vectors], enabled: false, function_masked: false };
        let (device_of, table) = (device.weak(), Mutex::new(table));
        let msix = Arc::new(MsiX { device: device_of, capability, table, irqfds: Mutex::new(None) });
        let container = MemoryRegion::container("msix", size as u128);
        let table_size = (vectors * MSIX_ENTRY_SIZE) as u64;
        let table = MemoryRegion::io("msix-table", table_size, Arc::new(TableRegion(msix.clone())));
        let pba = MemoryRegion::io("msix-pba", pba_size as u64, Arc::new(PbaRegion(msix.clone())));
        container.add_subregion(0, &table);
        container.add_subregion(pba_offset as u64, &pba);
        device.register_bar(bar, BarKind::Memory32, &container);
        Ok(msix)
    }

    /// How many vectors there are.
    pub fn vectors(&self) -> usize {
        self.table.lock().entries.len()
    }

    /// Whether the guest uses MSI-X in place of INTx.
    pub fn is_enabled(&self) -> bool {
        self.table.lock().enabled
    }

    /// Sends a vector's message, or marks it pending while it is masked or MSI-X is off; nothing for a vector that
    /// does not exist (`msix_notify`).
    pub fn notify(&self, vector: usize) {
        let message = {
            let mut table = self.table.lock();
            let Some(entry) = table.entries.get(vector).copied() else { return };
            if table.is_masked(&entry) {
                table.entries[vector].pending = true;
                return;
            }
            entry.message()
        };
        self.send(vec![message]);
    }

    /// Has the accelerator send vectors' messages when their eventfds, which do not block, are signalled: in place of all
    /// that were given before.
    ///
    /// # Errors
    /// When it has no more routes; no eventfd counts then.
    pub fn set_irqfds(
        &self,
        irqchip: &Arc<dyn AccelIrqchip>,
        wanted: &[(usize, Arc<EventFd>)],
    ) -> Result<()> {
        self.remove_irqfds();
        let message = |vector| self.table.lock().entries.get(vector).map(Entry::message).unwrap_or_default();
        *self.irqfds.lock() = Some(Irqfds::new(irqchip, wanted, message)?);
        self.sync_irqfds();
        Ok(())
    }

    /// No eventfd counts any more; what came by them before is not lost.
    pub fn remove_irqfds(&self) {
        let irqfds = self.irqfds.lock().take();
        let signalled = irqfds.map(Irqfds::release).unwrap_or_default();
        signalled.into_iter().for_each(|vector| self.notify(vector));
    }

    /// A vector's message, none while it is masked.
    fn message(&self, vector: usize) -> Option<MsiMessage> {
        let table = self.table.lock();
        let entry = table.entries.get(vector).filter(|entry| !table.is_masked(entry));
        entry.map(Entry::message)
    }

    /// Has the accelerator's routes follow the table.
    fn sync_irqfds(&self) {
        if let Some(irqfds) = self.irqfds.lock().as_mut() {
            irqfds.sync(|vector| self.message(vector));
        }
    }

    /// Changes the table, of one vector only where there may be thousands, and sends what was pending for that.
    fn change<R>(&self, vector: Option<usize>, change: impl FnOnce(&mut Table) -> R) -> R {
        let (result, due) = {
            let mut table = self.table.lock();
            let result = change(&mut table);
            (result, table.take_due())
        };
        match (vector, self.irqfds.lock().as_mut()) {
            (_, None) => {}
            (Some(vector), Some(irqfds)) => irqfds.sync_vector(vector, self.message(vector)),
            (None, Some(irqfds)) => irqfds.sync(|vector| self.message(vector)),
        }
        self.send(due);
        result
    }

    /// Whether each vector from `first` on is pending, of `count` at most.
    fn pending(&self, first: usize, count: usize) -> Vec<bool> {
        let irqfds = self.irqfds.lock();
        let by_eventfd = |vector| irqfds.as_ref().is_some_and(|irqfds| irqfds.is_pending(vector));
        let table = self.table.lock();
        let entries = table.entries.iter().enumerate().skip(first).take(count);
        entries.map(|(n, entry)| entry.pending || by_eventfd(n)).collect()
    }

    fn send(&self, messages: Vec<MsiMessage>) {
        let Some(object) = self.device.upgrade() else { return };
        let Some(device) = object.cast::<PciDevice>() else { return };
        messages.into_iter().for_each(|message| device.send_msi(message));
    }

    /// The guest wrote configuration space.
    pub(crate) fn config_written(&self, device: &PciDevice, at: usize, size: u8) {
        if !ConfigSpace::touches(at, size, self.capability + MSIX_CONTROL, 2) {
            return;
        }
        let control = device.with_config(|config| config.u16(self.capability + MSIX_CONTROL));
        let enables = control & MSIX_CONTROL_ENABLE != 0;
        if enables {
            (0..4).for_each(|pin| device.set_irq(pin, false));
        }
        self.change(None, |table| table.set_control(control));
    }

    pub(crate) fn save(&self) -> Vec<Entry> {
        let pending = self.pending(0, usize::MAX);
        let mut entries = self.table.lock().entries.clone();
        entries.iter_mut().zip(pending).for_each(|(entry, pending)| entry.pending = pending);
        entries
    }

    /// Goes on with a table that was saved, once configuration space is as it was.
    pub(crate) fn load(&self, device: &PciDevice, entries: Vec<Entry>) -> Result<()> {
        let control = device.with_config(|config| config.u16(self.capability + MSIX_CONTROL));
        let mut table = self.table.lock();
        if entries.len() != table.entries.len() {
            bail!("the state is of a device with {} vectors", entries.len());
        }
        table.entries = entries;
        table.set_control(control);
        drop(table);
        self.sync_irqfds();
        Ok(())
    }

    /// As after power-on: off, all masked, nothing pending.
    pub(crate) fn reset(&self, device: &PciDevice) {
        device.with_config(|config| {
            let at = self.capability + MSIX_CONTROL;
            config.set_u16(at, config.u16(at) & MSIX_CONTROL_TABLE_SIZE);
        });
        let mut table = self.table.lock();
        (table.enabled, table.function_masked) = (false, false);
        table.entries.fill(Entry::RESET);
        drop(table);
        self.sync_irqfds();
    }
}
