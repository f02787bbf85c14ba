//! `vhost-vsock`: sockets between the guest and the host, whose kernel serves the queues (virtio 1.2, section 5.10).
//!
//! Source followed besides: QEMU `hw/virtio/vhost-vsock.c`, `vhost-vsock-common.c`.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use hw_core::{DeviceCategory, DeviceClass, DeviceImpl, VmState, vmstate};
use hw_pci::spec::CLASS_COMMUNICATION_OTHER;
use parking_lot::Mutex;
use qom::property::OnOffAuto;
use qom::{Class, ClassInit, Error, Object, Property, Result, bail};
use util::clock::ClockType;
use util::log::OsError;
use util::timer::Timer;

use crate::pci::{Variants, VirtioPciType};
use crate::spec::{Status, feature, id, pci::DEVICE_ID_VSOCK};
use crate::vhost::VhostDevice;
use crate::{VirtIODevice, VirtQueue, VirtioDeviceImpl};

/// Registers and messages (virtio 1.2, section 5.10).
mod spec {
    /// Bytes of the configuration: the guest's address.
    pub const CONFIG_LEN: usize = 8;
    /// Queues: to the guest, from it, and events.
    pub const QUEUES: usize = 3;
    /// Of these the ones that the kernel serves.
    pub const KERNEL_QUEUES: usize = 2;
    /// Feature: sockets that keep the bounds of messages.
    pub const F_SEQPACKET: u64 = 1 << 1;
    /// Event: connections are gone.
    pub const EVENT_TRANSPORT_RESET: u32 = 0;
    /// Addresses up to this one have a meaning of their own.
    pub const LAST_RESERVED_CID: u64 = 2;
}
use spec::*;

const DEVICE: &str = "/dev/vhost-vsock";
const QUEUE_SIZE: u16 = 128;

/// What such devices share.
#[derive(Object)]
#[object(name = "vhost-vsock-common", parent = VirtIODevice, abstract, class_init = class_init)]
pub struct VhostVsockCommon {
    parent: VirtIODevice,
    /// on/off/auto
    #[property(default = OnOffAuto::Auto)]
    seqpacket: Property<OnOffAuto>,
}
qom::type_init!(VhostVsockCommon);

fn class_init(class: &mut Class) {
    class.get_mut::<DeviceClass>().category = Some(DeviceCategory::Misc);
}

impl<T: VirtioDeviceImpl> ClassInit<T> for VhostVsockCommon {
    fn class_init(class: &mut Class) {
        <VirtIODevice as ClassInit<T>>::class_init(class);
    }
}

/// The device.
#[derive(Object)]
#[object(name = "vhost-vsock-device", parent = VhostVsockCommon, class_init = device_class_init)]
pub struct VhostVsock {
    parent: VhostVsockCommon,
    /// The guest's address, more than 2
    #[property(name = "guest-cid")]
    guest_cid: Property<u64>,
    /// An open vhost device, by number or name
    #[property]
    vhostfd: Property<Option<String>>,
    vhost: OnceLock<VhostDevice>,
    /// Whether the kernel serves the queues; held while it begins or ends.
    served: Mutex<bool>,
    /// Has the driver hear of connections that are gone, once the machine goes on.
    reset_event: OnceLock<Timer>,
}
qom::type_init!(VhostVsock);
qom::type_init!(fn register_pci);

fn device_class_init(class: &mut Class) {
    vmstate::register::<VhostVsock>(class);
}

fn register_pci() {
    VirtioPciType {
        name: "vhost-vsock-pci",
        backend: "vhost-vsock-device",
        device_id: DEVICE_ID_VSOCK,
        class_id: CLASS_COMMUNICATION_OTHER,
        category: DeviceCategory::Misc,
        variants: Variants::NonTransitional,
        ioeventfd: None,
        vectors: Some(QUEUES as u32),
        has_class: false,
        default_vectors: |_| QUEUES as u32,
        prepare: Some(|proxy, backend| {
            if !backend.cast::<VirtIODevice>().is_some_and(VirtIODevice::legacy_check_disabled) {
                proxy.force_virtio_1();
            }
            // The kernel waits for notifications.
            proxy.force_ioeventfd();
            Ok(())
        }),
    }
    .register();
}

fn failed(what: &str, error: std::io::Error) -> Error {
    Error::new(format!("{what}: {}", OsError(error)))
}

impl VhostVsock {
    /// The vhost device, which the user passed or this opens.
    fn open(&self) -> Result<OwnedFd> {
        let (device, nonblocking_failed): (OwnedFd, _) = match self.vhostfd.get() {
            Some(name) => {
                let fd = util::fdset::fd_param(&name);
                let fd =
                    fd.map_err(|error| Error::new(format!("vhost-vsock: unable to parse vhostfd: {error}")));
                (fd?, "vhost-vsock: unable to set non-blocking mode")
            }
            None => {
                let file = OpenOptions::new().read(true).write(true).open(DEVICE);
                let file = file.map_err(|error| failed("vhost-vsock: failed to open vhost device", error))?;
                (file.into(), "Failed to set FD nonblocking")
            }
        };
        rustix::io::ioctl_fionbio(&device, true).map_err(|error| failed(nonblocking_failed, error.into()))?;
        Ok(device)
    }

    /// Has the kernel begin or end, by what the driver and the machine are doing (`vhost_vsock_set_status`).
    fn serve(&self) {
        let Some(vhost) = self.vhost.get() else { return };
        let mut served = self.served.lock();
        let wanted = self.is_running();
        if wanted == *served {
            return;
        }
        if !wanted {
            if let Err(error) = vhost.set_running(false) {
                util::error_report!("vhost vsock set running failed: {}", OsError(error));
            }
            *served = false;
            return vhost.stop(self);
        }
        let queues: Vec<_> =
            self.queues().into_iter().take(KERNEL_QUEUES).take_while(|queue| queue.is_ready()).collect();
        if let Err(error) = vhost.start(self, &queues, 0, 0) {
            return util::error_report!("Error starting vhost: {}", OsError(error));
        }
        match vhost.set_running(true) {
            Ok(()) => *served = true,
            Err(error) => {
                vhost.stop(self);
                util::error_report!("Error starting vhost vsock: {}", OsError(error));
            }
        }
    }

    /// The queue of events, which is the device's own.
    fn event_queue(&self) -> Option<Arc<VirtQueue>> {
        self.queue(KERNEL_QUEUES as u16)
    }

    /// Tells the driver that its connections are gone (`vhost_vsock_common_send_transport_reset`).
    fn send_transport_reset(&self) {
        let Some(queue) = self.event_queue() else { return };
        let Some(element) = queue.pop() else {
            return util::error_report!("vhost-vsock missed transport reset event");
        };
        let event = EVENT_TRANSPORT_RESET.to_le_bytes();
        if element.readable_len() != 0 {
            util::error_report!("invalid vhost-vsock event virtqueue element with out buffers");
            return queue.forget(&element);
        }
        if element.write(0, &event) != event.len() {
            util::error_report!("vhost-vsock event virtqueue element is too short");
            return queue.forget(&element);
        }
        queue.push(element, event.len() as u32);
        queue.notify();
    }
}

impl DeviceImpl for VhostVsock {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let cid = self.guest_cid.get();
        if cid <= LAST_RESERVED_CID {
            bail!("guest-cid property must be greater than {LAST_RESERVED_CID}");
        }
        if cid > u32::MAX.into() {
            bail!("guest-cid property must be a 32-bit number");
        }
        let vhost = VhostDevice::new(Arc::new(self.open()?));
        let vhost = vhost.map_err(|error| failed("vhost_set_owner failed", error))?;
        vhost.set_guest_cid(cid).map_err(|error| failed("vhost-vsock: unable to set guest cid", error))?;
        self.init(id::VSOCK, CONFIG_LEN);
        for _ in 0..QUEUES {
            self.add_queue(QUEUE_SIZE)?;
        }
        let _ = self.vhost.set(vhost);
        let this = Arc::downgrade(self);
        let _ = self.reset_event.set(Timer::new(ClockType::Virtual, move || {
            if let Some(this) = this.upgrade() {
                this.send_transport_reset();
            }
        }));
        Ok(())
    }

    fn unrealize(self: &Arc<Self>) {
        if let Some(timer) = self.reset_event.get() {
            timer.del();
        }
    }
}

impl VirtioDeviceImpl for VhostVsock {
    /// The kernel hears of it itself, and of buffers for events there is nothing to do.
    fn queue_notified(self: &Arc<Self>, _queue: &Arc<VirtQueue>) {}

    fn features(&self, offered: u64) -> Result<u64> {
        let seqpacket = if self.seqpacket.get() == OnOffAuto::Off { 0 } else { F_SEQPACKET };
        let its = self.vhost.get().map_or(0, VhostDevice::features);
        let features = (offered | seqpacket) & (!(F_SEQPACKET | feature::RING_RESET) | its);
        if self.seqpacket.get() == OnOffAuto::On && features & F_SEQPACKET == 0 {
            bail!("vhost-vsock backend doesn't support seqpacket");
        }
        Ok(features)
    }

    fn read_config(&self, config: &mut [u8]) {
        config.iter_mut().zip(self.guest_cid.get().to_le_bytes()).for_each(|(to, from)| *to = from);
    }

    fn set_status(&self, _status: Status) {
        self.serve();
    }

    fn device_reset(&self) {
        self.serve();
    }
}

impl VmState for VhostVsock {
    /// All is in the queues; connections are not kept.
    type State = ();

    fn save(&self) -> Option<()> {
        Some(())
    }

    fn load(&self, (): ()) -> Result<()> {
        if self.event_queue().is_some_and(|queue| queue.is_ready())
            && let Some(timer) = self.reset_event.get()
        {
            timer.mod_ns(1);
        }
        Ok(())
    }
}
