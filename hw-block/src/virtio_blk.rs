//! `virtio-blk`: a disk (virtio 1.2, section 5.2).
//!
//! Requests of a queue go to the backend as they come, any number at a time; whichever thread ends one gives it back.
//! Queues share no lock. Source followed besides: QEMU `hw/block/virtio-blk.c`.

mod batch;
mod request;
pub(crate) mod spec;

use std::sync::{Arc, OnceLock, Weak};

use backends::IoThread;
use block::BlockBackend;
use block::backend::{BlockDevice, BlockErrorAction, Op, Request};
use hw_core::boot_order::{add_boot_device_lchs, add_bootindex_property, del_boot_device_lchs};
use hw_core::{DeviceCategory, DeviceClass, DeviceImpl, DriveProperty};
use hw_pci::spec::CLASS_STORAGE_SCSI;
use hw_virtio::pci::{VECTORS_UNSPECIFIED, Variants, VirtioPciType, optimal_num_queues};
use hw_virtio::spec::{Status, feature, id, pci::DEVICE_ID_BLOCK};
use hw_virtio::{VirtIODevice, VirtQueue, VirtioDeviceClass, VirtioDeviceImpl};
use parking_lot::Mutex;
use qom::{Class, Link, Object, Property, Result, bail};

use self::batch::Batch;
use self::request::{Bad, QueueWork, Transfer};
use self::spec::{config, f, status};
use crate::conf::{self, BlockConf, BlockSizes, MAX_GEOMETRY, SECTOR};
use crate::geometry::Geometry;

/// The number of queues that leaves it to the transport.
const QUEUES_AUTO: u16 = u16::MAX;
/// Largest range of a discard or a write of zeroes, sectors (`BDRV_REQUEST_MAX_SECTORS`).
const MAX_SECTORS: u32 = (i32::MAX / 512) as u32;
/// What firmware's path has behind the device.
const FIRMWARE_SUFFIX: &str = "/disk@0,0";
/// Segments of a request that do not count as data: header and status.
const OVERHEAD_SEGMENTS: u16 = 2;

/// The device.
#[derive(Object)]
#[object(name = "virtio-blk-device", parent = VirtIODevice, class_init = class_init)]
pub struct VirtIOBlock {
    parent: VirtIODevice,
    conf: BlockConf,
    // What the guest is told as the disk's name, 20 bytes.
    #[property]
    serial: Property<Option<String>>,
    /// on/off
    #[property(name = "config-wce", default = true)]
    config_wce: Property<bool>,
    /// on/off
    #[property]
    scsi: Property<bool>,
    /// on/off
    #[property(name = "request-merging", default = true)]
    request_merging: Property<bool>,
    #[property(name = "num-queues", default = QUEUES_AUTO)]
    num_queues: Property<u16>,
    #[property(name = "queue-size", default = 256)]
    queue_size: Property<u16>,
    #[property(name = "seg-max-adjust", default = true)]
    seg_max_adjust: Property<bool>,
    /// on/off
    #[property(default = true)]
    discard: Property<bool>,
    #[property(name = "report-discard-granularity", default = true)]
    report_discard_granularity: Property<bool>,
    /// on/off
    #[property(name = "write-zeroes", default = true)]
    write_zeroes: Property<bool>,
    #[property(name = "max-discard-sectors", default = MAX_SECTORS)]
    max_discard_sectors: Property<u32>,
    #[property(name = "max-write-zeroes-sectors", default = MAX_SECTORS)]
    max_write_zeroes_sectors: Property<u32>,
    #[property(name = "x-enable-wce-if-config-wce", default = true)]
    enable_wce_if_config_wce: Property<bool>,
    // The I/O thread that serves the queues.
    #[property]
    iothread: Property<Link<IoThread>>,
    backend: OnceLock<Arc<BlockBackend>>,
    sizes: OnceLock<BlockSizes>,
    geometry: OnceLock<Geometry>,
    thread: OnceLock<Arc<dyn Object>>,
    /// Whether writes may stay in the host's cache, as it was before a driver changed it.
    original_wce: OnceLock<bool>,
    works: OnceLock<Vec<Arc<QueueWork>>>,
    /// Requests that an error stopped the machine at, to be tried again.
    stopped: Mutex<Vec<(Arc<QueueWork>, Request)>>,
}
qom::type_init!(VirtIOBlock);
qom::type_init!(fn register_pci);

fn class_init(class: &mut Class) {
    BlockConf::add_properties(class, |blk: &VirtIOBlock| &blk.conf);
    BlockConf::add_error_properties(class, |blk: &VirtIOBlock| &blk.conf);
    BlockConf::add_geometry_properties(class, |blk: &VirtIOBlock| &blk.conf);
    add_bootindex_property(class, FIRMWARE_SUFFIX);
    class.get_mut::<DeviceClass>().category = Some(DeviceCategory::Storage);
    class.get_mut::<VirtioDeviceClass>().legacy_features = f::SCSI;
}

fn register_pci() {
    VirtioPciType {
        name: "virtio-blk-pci",
        backend: "virtio-blk-device",
        device_id: DEVICE_ID_BLOCK,
        class_id: CLASS_STORAGE_SCSI,
        category: DeviceCategory::Storage,
        variants: Variants::All,
        ioeventfd: Some(true),
        vectors: Some(VECTORS_UNSPECIFIED),
        has_class: true,
        default_vectors: |backend| {
            backend.cast::<VirtIOBlock>().map_or(2, |blk| u32::from(blk.num_queues.get()) + 1)
        },
        prepare: Some(|_, backend| {
            if let Some(blk) = backend.cast::<VirtIOBlock>().filter(|blk| blk.num_queues.get() == QUEUES_AUTO)
            {
                blk.num_queues.set(optimal_num_queues(0));
            }
            Ok(())
        }),
    }
    .register();
}

impl VirtIOBlock {
    fn check(&self) -> Result<()> {
        if self.conf.drive.get().backend().is_none() {
            bail!("drive property not set");
        }
        if self.scsi.get() {
            bail!("Please set scsi=off for virtio-blk devices in order to use virtio 1.0");
        }
        match self.num_queues.get() {
            0 => bail!("num-queues property must be larger than 0"),
            QUEUES_AUTO => self.num_queues.set(1),
            _ => {}
        }
        let size = self.queue_size.get();
        if size <= OVERHEAD_SEGMENTS {
            bail!("invalid queue-size property ({size}), must be > {OVERHEAD_SEGMENTS}");
        }
        if !size.is_power_of_two() || size > hw_virtio::spec::QUEUE_SIZE_MAX {
            bail!("invalid queue-size property ({size}), must be a power of 2 (max 1024)");
        }
        for (name, sectors) in [
            ("max-discard-sectors", self.max_discard_sectors.get()),
            ("max-write-zeroes-sectors", self.max_write_zeroes_sectors.get()),
        ] {
            if !(1..=MAX_SECTORS).contains(&sectors) {
                bail!("invalid {name} property ({sectors}), must be between 1 and {MAX_SECTORS}");
            }
        }
        Ok(())
    }

    fn take_backend(self: &Arc<Self>) -> Result<Arc<BlockBackend>> {
        let device: Weak<dyn BlockDevice> = Arc::downgrade(self) as Weak<dyn BlockDevice>;
        let backend = DriveProperty::attach(&self.conf.drive, device)?;
        self.settle(&backend).inspect_err(|_| backend.detach())?;
        let _ = self.original_wce.set(backend.write_cache());
        Ok(backend)
    }

    /// What properties and backend give that stays so.
    fn settle(&self, backend: &BlockBackend) -> Result<()> {
        self.conf.apply(backend, true)?;
        let _ = self.geometry.set(self.conf.geometry(backend, MAX_GEOMETRY)?);
        let _ = self.sizes.set(self.conf.sizes(Some(backend))?);
        Ok(())
    }

    fn backend(&self) -> Option<&Arc<BlockBackend>> {
        self.backend.get()
    }

    /// Size of the disk in sectors.
    fn capacity(&self) -> u64 {
        let node = self.backend().and_then(|backend| backend.node());
        node.and_then(|node| node.length().ok()).unwrap_or(0) / SECTOR
    }

    fn logical(&self) -> u32 {
        self.sizes.get().map_or(SECTOR as u32, |sizes| sizes.logical)
    }

    /// Takes what the driver has made available: a ring of it, then others of the loop have their turn, as a driver
    /// may add faster than the disk answers.
    fn handle(self: &Arc<Self>, work: &Arc<QueueWork>) {
        let mut share = self.queue_size.get();
        let mut batch = Batch::default();
        work.begin();
        loop {
            work.queue.set_notification(false);
            while share > 0
                && let Some(element) = work.queue.pop()
            {
                share -= 1;
                match request::parse(self, work, element) {
                    Ok(Some(request)) => {
                        if !batch.takes(&request) {
                            self.submit_batch(work, &mut batch);
                        }
                        batch.add(request);
                    }
                    Ok(None) => {}
                    Err(Bad(why)) => {
                        self.set_broken(why);
                        break;
                    }
                }
            }
            self.submit_batch(work, &mut batch);
            if share == 0 || self.is_broken() || !work.queue.set_notification(true) {
                break;
            }
        }
        work.end();
        if share == 0 {
            self.queue_again(&work.queue);
        }
    }

    fn submit_batch(self: &Arc<Self>, work: &Arc<QueueWork>, batch: &mut Batch) {
        let merging = self.request_merging.get();
        batch.take(merging).into_iter().for_each(|request| self.submit(work, request));
    }

    fn submit(self: &Arc<Self>, work: &Arc<QueueWork>, request: Request) {
        let Some(backend) = self.backend() else { return };
        let (this, work) = (self.clone(), work.clone());
        let done = move |request: Request, result: std::io::Result<()>| match result {
            Ok(()) => work.finish(request.memory, status::OK),
            Err(error) => this.failed(&work, request, &error),
        };
        backend.submit(request, Box::new(done));
    }

    fn failed(&self, work: &Arc<QueueWork>, request: Request, error: &std::io::Error) {
        let Some(backend) = self.backend() else { return };
        let is_read = request.op == Op::Read;
        match conf::error_action(backend, is_read, error) {
            BlockErrorAction::Stop => self.stopped.lock().push((work.clone(), request)),
            BlockErrorAction::Report => work.finish(request.memory, status::IOERR),
            BlockErrorAction::Ignore => work.finish(request.memory, status::OK),
        }
    }

    fn device_features(&self) -> u64 {
        let Some(backend) = self.backend() else { return 0 };
        let read_only = backend.node().is_none_or(|node| node.is_read_only());
        let wce = backend.write_cache() || self.enable_wce_if_config_wce.get() && self.config_wce.get();
        let always = f::SEG_MAX | f::GEOMETRY | f::TOPOLOGY | f::BLK_SIZE;
        let of = |on: bool, bit: u64| if on { bit } else { 0 };
        always
            | of(self.config_wce.get(), f::CONFIG_WCE)
            | of(self.discard.get(), f::DISCARD)
            | of(self.write_zeroes.get(), f::WRITE_ZEROES)
            | of(wce, f::FLUSH)
            | of(read_only, f::RO)
            | of(self.num_queues.get() > 1, f::MQ)
    }

    fn fill_config(&self, bytes: &mut [u8]) {
        let Some(sizes) = self.sizes.get() else { return };
        let mut put = |at: usize, value: &[u8]| {
            if let Some(place) = bytes.get_mut(at..at + value.len()) {
                place.copy_from_slice(value);
            }
        };
        let capacity = self.capacity();
        put(config::CAPACITY, &capacity.to_le_bytes());
        let seg_max = if self.seg_max_adjust.get() { self.queue_size.get() } else { 128 } - OVERHEAD_SEGMENTS;
        put(config::SEG_MAX, &u32::from(seg_max).to_le_bytes());
        if let Some(geometry) = self.geometry.get() {
            put(config::CYLINDERS, &(geometry.cylinders as u16).to_le_bytes());
            put(config::HEADS, &[geometry.heads as u8]);
            put(config::SECTORS, &[geometry.sectors as u8]);
        }
        put(config::BLK_SIZE, &sizes.logical.to_le_bytes());
        put(config::PHYSICAL_BLOCK_EXP, &[(sizes.physical / sizes.logical).trailing_zeros() as u8]);
        put(config::MIN_IO_SIZE, &((sizes.min_io / sizes.logical) as u16).to_le_bytes());
        put(config::OPT_IO_SIZE, &(sizes.opt_io / sizes.logical).to_le_bytes());
        put(config::WCE, &[u8::from(self.backend().is_some_and(|backend| backend.write_cache()))]);
        put(config::NUM_QUEUES, &self.num_queues.get().to_le_bytes());
        if self.discard.get() {
            let reported = self.report_discard_granularity.get();
            let unit = sizes.discard.filter(|_| reported).unwrap_or(sizes.logical);
            put(config::MAX_DISCARD_SECTORS, &self.max_discard_sectors.get().to_le_bytes());
            put(config::MAX_DISCARD_SEG, &1u32.to_le_bytes());
            put(config::DISCARD_SECTOR_ALIGNMENT, &(unit / SECTOR as u32).to_le_bytes());
        }
        if self.write_zeroes.get() {
            put(config::MAX_WRITE_ZEROES_SECTORS, &self.max_write_zeroes_sectors.get().to_le_bytes());
            put(config::MAX_WRITE_ZEROES_SEG, &1u32.to_le_bytes());
            put(config::WRITE_ZEROES_MAY_UNMAP, &[1]);
        }
    }

    fn work_of(&self, queue: &VirtQueue) -> Option<Arc<QueueWork>> {
        self.works.get()?.get(usize::from(queue.index())).cloned()
    }

    /// The machine goes on: what it was stopped for is tried again.
    fn try_again(&self) {
        let stopped = std::mem::take(&mut *self.stopped.lock());
        if stopped.is_empty() {
            return;
        }
        if let (Some(backend), Some(this)) = (self.backend(), qom::downcast::<VirtIOBlock>(self.this())) {
            backend.reset_io_status();
            stopped.into_iter().for_each(|(work, request)| this.submit(&work, request));
        }
    }
}

impl DeviceImpl for VirtIOBlock {
    fn realize(self: &Arc<Self>) -> Result<()> {
        self.check()?;
        let backend = self.take_backend()?;
        let config_len = if self.write_zeroes.get() {
            config::LEN_WRITE_ZEROES
        } else if self.discard.get() {
            config::LEN_DISCARD
        } else {
            config::LEN_MIN
        };
        self.init(id::BLOCK, config_len);
        let mut works = Vec::new();
        for _ in 0..self.num_queues.get() {
            let queue = self.add_queue(self.queue_size.get()).inspect_err(|_| backend.detach())?;
            works.push(Arc::new(QueueWork::new(queue)));
        }
        if let Some(object) = self.iothread.get().object()
            && let Some(thread) = object.cast::<IoThread>()
            && let Some(event_loop) = thread.event_loop()
        {
            works.iter().for_each(|work| work.queue.set_event_loop(&event_loop));
            thread.used(1);
            let _ = self.thread.set(object);
        }
        let _ = self.works.set(works);
        let _ = self.backend.set(backend);
        add_boot_device_lchs(&self.this(), FIRMWARE_SUFFIX, self.conf.logical_geometry());
        Ok(())
    }

    fn unrealize(self: &Arc<Self>) {
        del_boot_device_lchs(&**self);
        if let Some(thread) = self.thread.get().and_then(|object| object.cast::<IoThread>()) {
            thread.used(-1);
        }
        let Some(backend) = self.backend() else { return };
        backend.drain();
        backend.detach();
        // A drive of the command line's goes with the device that had it.
        if block::drive::drive_of(backend).is_some() {
            block::drive::drive_forget(backend);
        }
    }
}

impl VirtioDeviceImpl for VirtIOBlock {
    fn queue_notified(self: &Arc<Self>, queue: &Arc<VirtQueue>) {
        if let Some(work) = self.work_of(queue) {
            self.handle(&work);
        }
    }

    fn features(&self, offered: u64) -> Result<u64> {
        let mut features = offered | self.device_features();
        if features & feature::VERSION_1 == 0 {
            features = features & !feature::ANY_LAYOUT | f::SCSI;
        }
        Ok(features)
    }

    fn read_config(&self, config: &mut [u8]) {
        self.fill_config(config);
    }

    fn write_config(&self, offset: usize, data: &[u8]) {
        let wce = config::WCE.checked_sub(offset).and_then(|at| data.get(at));
        if let (Some(wce), Some(backend)) = (wce, self.backend()) {
            backend.set_write_cache(*wce != 0);
        }
    }

    fn set_status(&self, status: Status) {
        let Some(backend) = self.backend() else { return };
        // A driver that knows nothing of flushes and of this cache must not lose data by it.
        if status.contains(Status::DRIVER_OK) && !self.has_feature(f::CONFIG_WCE) {
            backend.set_write_cache(self.has_feature(f::FLUSH));
        }
        if self.is_running() {
            self.try_again();
        }
    }

    fn device_reset(&self) {
        self.stopped.lock().clear();
        let Some(backend) = self.backend() else { return };
        backend.drain();
        self.stopped.lock().clear();
        backend.set_write_cache(self.original_wce.get().copied().unwrap_or(true));
    }

    fn queue_reset(&self, queue: &Arc<VirtQueue>) {
        if let Some(backend) = self.backend() {
            backend.drain();
        }
        self.stopped.lock().retain(|(work, _)| work.queue.index() != queue.index());
    }
}

impl BlockDevice for VirtIOBlock {
    fn id(&self) -> String {
        self.this().canonical_path().unwrap_or_default()
    }

    fn resized(&self) {
        self.notify_config();
    }
}

/// For requests: what is done without the backend.
impl VirtIOBlock {
    pub(self) fn serial_bytes(&self) -> Vec<u8> {
        let mut bytes = self.serial.get().unwrap_or_default().into_bytes();
        bytes.push(0);
        bytes.truncate(spec::ID_BYTES);
        bytes
    }

    pub(self) fn is_in_range(&self, sector: u64, bytes: u64) -> bool {
        let logical = u64::from(self.logical());
        let Some(offset) = sector.checked_mul(SECTOR) else { return false };
        bytes.is_multiple_of(logical)
            && offset.is_multiple_of(logical)
            && offset.checked_add(bytes).is_some_and(|end| end <= self.capacity() * SECTOR)
    }

    /// A request made no sense.
    pub(self) fn count_invalid(&self, op: Op) {
        if let Some(backend) = self.backend() {
            backend.stats.count_invalid(op);
        }
    }

    pub(self) fn max_sectors(&self, is_discard: bool) -> u32 {
        if is_discard { self.max_discard_sectors.get() } else { self.max_write_zeroes_sectors.get() }
    }

    pub(self) fn transfer(element: hw_virtio::VirtQueueElement, is_read: bool) -> Box<Transfer> {
        Box::new(Transfer { elements: vec![element], is_read })
    }
}
