//! `virtio-9p`: the device (virtio 1.2 reserves its number, 9; its configuration is the tag, with its length in front).
//!
//! Source followed: QEMU `hw/9pfs/virtio-9p-device.c`, `hw/virtio/virtio-9p-pci.c`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use block::pool::ThreadPool;
use block::throttle_group::ThrottleGroup;
use hw_core::{DeviceCategory, DeviceClass, DeviceImpl};
use hw_virtio::pci::{Variants, VirtioPciType};
use hw_virtio::spec::{id, pci::DEVICE_ID_P9};
use hw_virtio::{QueueWork, VirtIODevice, VirtQueue, VirtQueueElement, VirtioDeviceImpl};
use parking_lot::{Condvar, Mutex};
use qom::{Class, Object, Property, Result, bail};

use crate::fs::{FsDriver, Stat};
use crate::fsdev::{self, FsKind, Fsdev};
use crate::local::LocalFs;
use crate::server::{Message, Server, ServerOptions};
use crate::spec::{HEADER, message};
use crate::synth::SynthFs;

/// Entries of the queue, and so requests at a time (`MAX_REQ`).
const QUEUE_SIZE: u16 = 128;
/// Longest tag (`MAX_TAG_LEN`, which counts a 0 behind it).
const TAG_MAX: usize = 31;
/// The configuration holds a tag.
const FEATURE_MOUNT_TAG: u64 = 1;
/// The PCI class that QEMU gives it.
const CLASS: u16 = 2;
/// How long to wait at a time for requests to end.
const PATIENCE: Duration = Duration::from_millis(10);
/// Bytes of the reply to a flush.
const REPLY_FLUSH: [u8; 5] = [HEADER as u8, 0, 0, 0, message::FLUSH + 1];

/// The device.
#[derive(Object)]
#[object(name = "virtio-9p-device", parent = VirtIODevice, class_init = class_init)]
pub struct Virtio9p {
    parent: VirtIODevice,
    #[property(name = "mount_tag")]
    mount_tag: Property<Option<String>>,
    #[property]
    fsdev: Property<Option<String>>,
    service: OnceLock<Arc<Service>>,
}
qom::type_init!(Virtio9p);
qom::type_init!(fn register_pci);

fn class_init(class: &mut Class) {
    class.get_mut::<DeviceClass>().category = Some(DeviceCategory::Storage);
}

fn register_pci() {
    VirtioPciType {
        name: "virtio-9p-pci",
        backend: "virtio-9p-device",
        device_id: DEVICE_ID_P9,
        class_id: CLASS,
        category: DeviceCategory::Storage,
        variants: Variants::All,
        ioeventfd: Some(true),
        vectors: Some(2),
        has_class: false,
        default_vectors: |_| 2,
        prepare: None,
    }
    .register();
}

impl Message for VirtQueueElement {
    fn readable_len(&self) -> u64 {
        VirtQueueElement::readable_len(self)
    }

    fn read(&self, offset: u64, data: &mut [u8]) -> usize {
        VirtQueueElement::read(self, offset, data)
    }

    fn writable_len(&self) -> u64 {
        VirtQueueElement::writable_len(self)
    }

    fn write(&self, offset: u64, data: &[u8]) -> usize {
        VirtQueueElement::write(self, offset, data)
    }
}

/// A request that is carried out.
struct Active {
    tag: u16,
    cancelled: AtomicBool,
}

/// Requests that are carried out, each with those that wait for it to end, and their tags.
type Requests = Vec<(Arc<Active>, Vec<(VirtQueueElement, u16)>)>;

/// What threads work with.
struct Service {
    server: Server,
    work: QueueWork,
    pool: ThreadPool,
    active: Mutex<Requests>,
    /// The last of them ended.
    idle: Condvar,
}

impl Service {
    /// Notes a request, and gives it to a thread.
    fn submit(self: &Arc<Self>, device: &Arc<Virtio9p>, element: VirtQueueElement, tag: u16) {
        let request = Arc::new(Active { tag, cancelled: AtomicBool::new(false) });
        self.active.lock().push((request.clone(), Vec::new()));
        let (service, device) = (self.clone(), Arc::downgrade(device));
        self.pool.run(Box::new(move || {
            let written = service.server.handle(&element, &request.cancelled);
            if let (Err(broken), Some(device)) = (&written, device.upgrade()) {
                device.set_broken(&broken.0);
            }
            service.end(&request, element, written.unwrap_or_default());
        }));
    }

    /// A request ended: the driver sees it, and then what waited for that. It counts as under way until then.
    fn end(&self, request: &Arc<Active>, element: VirtQueueElement, written: usize) {
        self.work.finish(element, written as u64);
        loop {
            let mut active = self.active.lock();
            let Some(at) = active.iter().position(|(other, _)| Arc::ptr_eq(other, request)) else { return };
            let flushes = active.get_mut(at).map(|(_, flushes)| std::mem::take(flushes)).unwrap_or_default();
            if flushes.is_empty() {
                active.swap_remove(at);
                if active.is_empty() {
                    self.idle.notify_all();
                }
                return;
            }
            drop(active);
            self.work.finish_all(flushes.into_iter().map(|(element, tag)| answer_flush(element, tag)));
        }
    }

    /// Calls a request off; the answer comes when it has ended (`v9fs_flush`).
    fn flush(&self, element: VirtQueueElement, tag: u16) {
        let mut old = [0; 2];
        element.read(HEADER as u64, &mut old);
        let old = u16::from_le_bytes(old);
        let mut active = self.active.lock();
        let concerned = |(request, flushes): &&mut (Arc<Active>, Vec<(VirtQueueElement, u16)>)| {
            request.tag == old || flushes.iter().any(|(_, tag)| *tag == old)
        };
        match active.iter_mut().rev().find(concerned) {
            Some((request, flushes)) => {
                request.cancelled.store(true, Ordering::Release);
                flushes.push((element, tag));
            }
            None => {
                drop(active);
                self.work.finish_all([answer_flush(element, tag)]);
            }
        }
    }

    /// Calls all off, and waits until nothing is under way.
    fn drain(&self) {
        let mut active = self.active.lock();
        while !active.is_empty() {
            active.iter().for_each(|(request, _)| request.cancelled.store(true, Ordering::Release));
            drop(active);
            // One that comes to its turn later is let go the next time.
            self.server.release();
            active = self.active.lock();
            if !active.is_empty() {
                self.idle.wait_for(&mut active, PATIENCE);
            }
        }
    }
}

fn answer_flush(element: VirtQueueElement, tag: u16) -> (VirtQueueElement, u64) {
    element.write(0, &REPLY_FLUSH);
    element.write(REPLY_FLUSH.len() as u64, &tag.to_le_bytes());
    (element, HEADER as u64)
}

impl Virtio9p {
    /// Begins what `element` asks for; false when it is no request.
    fn begin(self: &Arc<Self>, service: &Arc<Service>, element: VirtQueueElement) -> bool {
        let mut header = [0; HEADER];
        let len = element.read(0, &mut header);
        if element.writable_len() < HEADER as u64 {
            self.set_broken("The guest sent a VirtFS request without space for the reply");
        } else if len != HEADER {
            self.set_broken(&format!(
                "The guest sent a malformed VirtFS request: header size is {len}, should be {HEADER}"
            ));
        } else {
            let [_, _, _, _, kind, tag @ ..] = header;
            let tag = u16::from_le_bytes(tag);
            if kind != message::FLUSH {
                service.submit(self, element, tag);
                return true;
            }
            if element.readable_len() >= HEADER as u64 + 2 {
                service.flush(element, tag);
                return true;
            }
            self.set_broken(&format!("Failed to decode VirtFS request type {kind}"));
        }
        service.work.queue.forget(&element);
        false
    }

    fn tag(&self) -> String {
        self.mount_tag.get().unwrap_or_default()
    }
}

/// The file system that is shared, ready to be served, with what is known of its root (`v9fs_device_realize_common`).
fn serve(fsdev: &Fsdev) -> Result<Server> {
    // The accelerator of tests has a clock that is moved by hand.
    let is_test = util::clock::is_manual();
    let failed =
        |what: String| qom::Error::new(what).prepend(format!("cannot initialize fsdev '{}': ", fsdev.id));
    let (driver, path): (Box<dyn FsDriver>, _) = match &fsdev.kind {
        FsKind::Synth => (Box::new(SynthFs::new(is_test)), String::new()),
        FsKind::Local(path, options) => {
            let opened = LocalFs::open(path, *options);
            let opened = opened.map_err(|error| {
                let text = std::io::Error::from(error).to_string();
                let text = text.split(" (os error").next().unwrap_or_default().to_owned();
                failed(format!("failed to open '{}': {text}", path.display()))
            });
            (Box::new(opened?), path.display().to_string())
        }
    };
    let throttle = fsdev.throttle.is_enabled().then(|| {
        let group = ThrottleGroup::new(&fsdev.id);
        group.set_config(fsdev.throttle);
        group
    });
    let options =
        ServerOptions { read_only: fsdev.read_only, multidevs: fsdev.multidevs, throttle, quiet: is_test };
    match Server::new(driver, options) {
        Ok((server, root)) if root.is(Stat::DIR) => Ok(server),
        Ok(_) => bail!("share path {path} is not a directory"),
        Err(_) => bail!("share path {path} does not exist"),
    }
}

impl DeviceImpl for Virtio9p {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let name = self.fsdev.get();
        let Some(fsdev) = name.as_deref().and_then(fsdev::find) else {
            bail!("9pfs device couldn't find fsdev with the id = {}", name.as_deref().unwrap_or("NULL"))
        };
        let Some(tag) = self.mount_tag.get() else {
            bail!("fsdev with id {} needs mount_tag arguments", fsdev.id)
        };
        if tag.len() > TAG_MAX {
            bail!("mount tag '{tag}' ({} bytes) is longer than maximum ({TAG_MAX} bytes)", tag.len());
        }
        let server = serve(&fsdev)?;
        self.init(id::P9, 2 + tag.len());
        let service = Service {
            server,
            work: QueueWork::new(self.add_queue(QUEUE_SIZE)?),
            pool: ThreadPool::default(),
            active: Mutex::default(),
            idle: Condvar::new(),
        };
        let _ = self.service.set(Arc::new(service));
        Ok(())
    }
}

impl VirtioDeviceImpl for Virtio9p {
    fn queue_notified(self: &Arc<Self>, queue: &Arc<VirtQueue>) {
        let Some(service) = self.service.get() else { return };
        while let Some(element) = queue.pop() {
            if !self.begin(service, element) {
                break;
            }
        }
    }

    fn features(&self, offered: u64) -> Result<u64> {
        Ok(offered | FEATURE_MOUNT_TAG)
    }

    fn read_config(&self, config: &mut [u8]) {
        let tag = self.tag();
        let bytes = (tag.len() as u16).to_le_bytes().into_iter().chain(tag.bytes());
        config.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    }

    fn device_reset(&self) {
        if let Some(service) = self.service.get() {
            service.drain();
            service.server.reset();
        }
    }

    fn queue_reset(&self, _queue: &Arc<VirtQueue>) {
        if let Some(service) = self.service.get() {
            service.drain();
        }
    }
}
