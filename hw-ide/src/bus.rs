//! The bus `IDE`: a channel, and the jobs of its devices.
//!
//! Registers are written by vCPUs' threads, and jobs end on any thread. What changes the channel holds its lock; what
//! follows - the interrupt, events, the next job - is done without.

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use block::BlockBackend;
use block::backend::{BlockErrorAction, Op, Request};
use block::tray::DeviceTrayMoved;
use hw_block::conf;
use hw_core::{Bus, BusClass, Irq, IrqPin, qbus_new, runstate};
use hw_pci::PciDevice;
use memory::FlatView;
use memory::vm_memory::{MmapRegion, Permissions};
use parking_lot::Mutex;
use qom::{Class, Object, Result, bail};

use crate::channel::{Channel, ChannelState, DmaKind, Job, Task};
use crate::dma::Plan;
use crate::drive::Drive;
use crate::jobs::Ended;
use crate::memory_parts::{Buffer, Pieces};
use crate::spec::{CD_SECTOR, SECTOR};

/// Places for devices.
pub const MAX_UNITS: u32 = 2;

/// Places that there are so far: serial numbers count through them.
static PLACES: AtomicU32 = AtomicU32::new(1);

/// The bus.
#[derive(Object)]
#[object(name = "IDE", parent = Bus, class_init = class_init)]
pub struct IdeBus {
    parent: Bus,
    number: OnceLock<u32>,
    first_serial: OnceLock<u32>,
    channel: Mutex<Channel>,
    irq: IrqPin,
    backends: Mutex<[Option<Arc<BlockBackend>>; 2]>,
    /// Memory of the request before, for the next one.
    spare: Mutex<Option<MmapRegion>>,
    state_handler: Mutex<Option<u64>>,
}
qom::type_init!(IdeBus);

fn class_init(class: &mut Class) {
    class.get_mut::<BusClass>().fw_dev_path = Some(|device| {
        let bus = device.cast::<hw_core::Device>().and_then(hw_core::Device::bus::<IdeBus>);
        format!("drive@{:x}", bus.map_or(0, |bus| bus.number()))
    });
}

/// Sectors, as a range of bytes.
fn bytes(sector: u64, count: u32, size: u64) -> (u64, u64) {
    (sector.saturating_mul(size), u64::from(count) * size)
}

impl IdeBus {
    /// A controller's bus, the first, second, and so on (`ide_bus_init`).
    ///
    /// # Errors
    /// When its name is taken.
    pub fn create(owner: &Arc<dyn Object>, number: u32) -> Result<Arc<IdeBus>> {
        let Some(bus) = qom::downcast::<IdeBus>(qbus_new("IDE", Some(owner), None)?) else {
            bail!("'IDE' is not a bus")
        };
        let _ = bus.number.set(number);
        let _ = bus.first_serial.set(PLACES.fetch_add(MAX_UNITS, Ordering::Relaxed));
        *bus.channel.lock() = Channel::new();
        let weak = Arc::downgrade(&bus);
        let handler = runstate::add_state_handler(Arc::new(move |running, _| {
            if let Some(bus) = weak.upgrade().filter(|_| running) {
                bus.resume();
            }
        }));
        *bus.state_handler.lock() = Some(handler);
        Ok(bus)
    }

    /// Its controller goes.
    pub fn close(&self) {
        if let Some(handler) = self.state_handler.lock().take() {
            runstate::remove_state_handler(handler);
        }
    }

    /// Has its interrupt drive a line.
    pub fn connect(&self, line: Irq) {
        self.irq.connect(line);
    }

    /// Its number at its controller.
    pub fn number(&self) -> u32 {
        self.number.get().copied().unwrap_or_default()
    }

    /// What the serial number of the device at its first place counts up from.
    pub(crate) fn first_serial(&self) -> u32 {
        self.first_serial.get().copied().unwrap_or_default()
    }

    /// Calls `f` with the channel, to look at it.
    pub fn look<R>(&self, f: impl FnOnce(&Channel) -> R) -> R {
        f(&self.channel.lock())
    }

    /// Changes the channel, and does what follows from that.
    pub fn change<R>(self: &Arc<Self>, f: impl FnOnce(&mut Channel) -> R) -> R {
        let (result, task) = self.change_only(f);
        if let Some(task) = task {
            self.run(task);
        }
        result
    }

    /// The same, but for the job that begins.
    fn change_only<R>(&self, f: impl FnOnce(&mut Channel) -> R) -> (R, Option<Task>) {
        let (result, effects) = {
            let mut channel = self.channel.lock();
            let result = f(&mut channel);
            (result, channel.take_effects())
        };
        self.irq.sync(effects.fell, || self.channel.lock().irq_level());
        if let Some((unit, open)) = effects.tray
            && let Some(backend) = self.backend(unit)
            && let Some(device) = backend.device()
        {
            qapi::emit(&DeviceTrayMoved::of(&backend, &device.id(), open));
        }
        (result, effects.task)
    }

    /// Puts a device at a place that is free.
    pub(crate) fn attach(&self, unit: usize, drive: Drive, backend: Arc<BlockBackend>) {
        if let Some(place) = self.backends.lock().get_mut(unit) {
            *place = Some(backend);
        }
        self.channel.lock().add(unit, drive);
    }

    /// Takes the device of a place away.
    pub(crate) fn detach(&self, unit: usize) {
        self.change_only(|channel| channel.remove(unit));
        if let Some(place) = self.backends.lock().get_mut(unit) {
            *place = None;
        }
    }

    fn backend(&self, unit: usize) -> Option<Arc<BlockBackend>> {
        self.backends.lock().get(unit)?.clone()
    }

    /// Calls `f` with each backend there is, without the lock.
    fn each_backend(&self, f: impl Fn(&BlockBackend)) {
        let backends = self.backends.lock().clone();
        backends.iter().flatten().for_each(|backend| f(backend));
    }

    /// Memory as the controller sees it; nothing while it may not master the bus.
    fn dma_view(&self) -> Option<Arc<FlatView>> {
        self.owner()?.cast::<PciDevice>()?.dma_view()
    }

    /// On return nothing under way reads or writes guest memory, or the disk. What only reads for us may go on, and is
    /// not looked at (`ide_cancel_dma_sync`).
    pub fn quiesce(&self) {
        let waits = |job| matches!(job, Job::Dma(_) | Job::Write { .. } | Job::Flush);
        if !self.look(|channel| channel.job().is_some_and(waits)) {
            return;
        }
        self.each_backend(BlockBackend::drain);
    }

    /// All as after power-on.
    pub fn reset(self: &Arc<Self>) {
        self.quiesce();
        self.change(Channel::reset);
    }

    /// Takes a state over.
    ///
    /// # Errors
    /// No channel can be so.
    pub fn load(&self, state: ChannelState) -> Result<()> {
        self.quiesce();
        self.change_only(|channel| channel.load(state)).0
    }

    fn resume(self: &Arc<Self>) {
        self.each_backend(BlockBackend::reset_io_status);
        self.change(Channel::resume);
    }

    /// Does a job, and those that follow from it. Requests that need no waiting are over at once; the loop is for them.
    fn run(self: &Arc<Self>, task: Task) {
        let mut next = Some(task);
        while let Some(task) = next {
            next = self.step(task);
        }
    }

    /// Begins a job; the next one where it is over already.
    fn step(self: &Arc<Self>, task: Task) -> Option<Task> {
        let (op, (offset, bytes)) = match task.job {
            Job::Dma(kind) => return self.step_dma(task, kind),
            Job::Flush => (Op::Flush, (0, 0)),
            Job::Read { sector, count } => (Op::Read, bytes(sector, count, SECTOR)),
            Job::Write { sector, count } => (Op::Write, bytes(sector, count, SECTOR)),
            Job::ReadCd { lba, count } | Job::ReadCdDma { lba, count } => {
                (Op::Read, bytes(lba.into(), count, CD_SECTOR.into()))
            }
        };
        let Some(buffer) = Buffer::new(self.spare.lock().take(), bytes as usize) else {
            return self.end(&task, Ended::Failed { no_medium: false });
        };
        if op == Op::Write {
            buffer.fill(&self.look(Channel::outgoing));
        }
        self.submit(task, Request { op, offset, bytes, memory: Box::new(buffer) })
    }

    fn step_dma(self: &Arc<Self>, task: Task, kind: DmaKind) -> Option<Task> {
        let view = self.dma_view();
        let (plan, next) = self.change_only(|channel| channel.prepare_dma(&task, view.as_deref()));
        let Some(plan) = plan else { return next };
        let (op, offset, pieces) = match plan {
            Plan::Read(offset, pieces) => (Op::Read, offset, pieces),
            Plan::Write(offset, pieces) => (Op::Write, offset, pieces),
            Plan::Trim(pieces) => (Op::Write, 0, pieces),
        };
        let bytes = pieces.iter().map(|(_, len)| len).sum();
        let access = if op == Op::Read { Permissions::Write } else { Permissions::Read };
        let Some(memory) = Pieces::new(view, pieces, access) else {
            return self.end(&task, Ended::Failed { no_medium: false });
        };
        if kind == DmaKind::Trim {
            return self.trim(task, trim_list(&memory.gather()));
        }
        self.submit(task, Request { op, offset, bytes, memory: Box::new(memory) })
    }

    fn submit(self: &Arc<Self>, task: Task, request: Request) -> Option<Task> {
        let Some(backend) = self.backend(task.unit) else {
            return self.end(&task, Ended::Failed { no_medium: true });
        };
        let this = self.clone();
        let over = backend.submit_with(request, task, move |task, request, result| {
            if let Some(next) = this.over(&task, request, result) {
                this.run(next);
            }
        });
        let (task, request, result) = over?;
        self.over(&task, request, result)
    }

    /// A request is over; the next job, if one follows.
    fn over(&self, task: &Task, request: Request, result: io::Result<()>) -> Option<Task> {
        let memory: Box<dyn Any> = request.memory;
        let data = match memory.downcast::<Buffer>() {
            Ok(buffer) => {
                let (data, region) = buffer.into_parts();
                *self.spare.lock() = Some(region);
                data
            }
            Err(_) => Vec::new(),
        };
        let ended = match result {
            Ok(()) => Ended::Done(data),
            Err(error) => self.failed(task, &error, data),
        };
        self.end(task, ended)
    }

    fn end(&self, task: &Task, ended: Ended) -> Option<Task> {
        let view = self.dma_view().filter(|_| matches!(task.job, Job::ReadCdDma { .. }));
        self.change_only(|channel| channel.finish(task, ended, view.as_deref())).1
    }

    /// What comes of an error (`ide_handle_rw_error`).
    fn failed(&self, task: &Task, error: &io::Error, data: Vec<u8>) -> Ended {
        let reported = Ended::Failed { no_medium: error.raw_os_error() == Some(libc::ENOMEDIUM) };
        let is_current = self.look(|channel| channel.is_current(task));
        let Some(backend) = self.backend(task.unit).filter(|_| is_current) else { return reported };
        let is_read = match task.job {
            // Only reads by DMA stop the machine, as in QEMU.
            Job::ReadCd { .. } => return reported,
            Job::Read { .. } | Job::Dma(DmaKind::Read) | Job::ReadCdDma { .. } => true,
            _ => false,
        };
        match conf::error_action(&backend, is_read, error) {
            BlockErrorAction::Ignore => Ended::Done(data),
            BlockErrorAction::Report => reported,
            BlockErrorAction::Stop => Ended::Stopped,
        }
    }

    /// Says of one range after the other that it is not needed (`ide_issue_trim_cb`).
    fn trim(self: &Arc<Self>, task: Task, mut list: VecDeque<(u64, u32)>) -> Option<Task> {
        loop {
            let Some((sector, count)) = list.pop_front() else {
                return self.end(&task, Ended::Done(Vec::new()));
            };
            let (is_current, fits) = self.look(|c| (c.is_current(&task), c.has_sectors(sector, count)));
            let backend = self.backend(task.unit).filter(|_| is_current)?;
            if !fits {
                return self.end(&task, Ended::Failed { no_medium: false });
            }
            let (offset, bytes) = bytes(sector, count, SECTOR);
            let request = Request { op: Op::Discard, offset, bytes, memory: Box::new(()) };
            let this = self.clone();
            let over = backend.submit_with(request, (task, list), move |(task, list), request, result| {
                let next = match result {
                    Ok(()) => this.trim(task, list),
                    Err(_) => this.over(&task, request, result),
                };
                if let Some(next) = next {
                    this.run(next);
                }
            });
            let ((_, rest), request, result) = over?;
            if result.is_err() {
                return self.over(&task, request, result);
            }
            list = rest;
        }
    }
}

/// The ranges of a list of DATA SET MANAGEMENT's: sector and number of sectors (ACS-2, section 7.10.3).
fn trim_list(data: &[u8]) -> VecDeque<(u64, u32)> {
    let entries = data.chunks_exact(8).filter_map(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
    let ranges = entries.map(|entry| (entry & 0xffff_ffff_ffff, (entry >> 48) as u32));
    ranges.filter(|(_, count)| *count > 0).collect()
}
