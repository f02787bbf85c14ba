//! `filter-mirror` and `filter-redirector`: packets go to a character device, as well or instead, and come from one
//! (net/filter-mirror.c).

use std::sync::{Arc, Weak};

use chardev::{CharFrontend, CharHandlers, Event};
use parking_lot::Mutex;
use qom::{Error, ErrorClass, Object, Property, Result, UserCreatable, bail};

use super::{Direction, FilteredPacket, NetFilter, NetFilterState, Verdict, complete};
use crate::client::NET_BUFSIZE;
use crate::framing::{self, Reassembly};

/// Copies the packets of a backend to a character device.
#[derive(Object)]
#[object(name = "filter-mirror", parent = NetFilterState, interfaces(dyn UserCreatable))]
pub struct FilterMirror {
    parent: NetFilterState,
    /// The character device that gets the packets.
    #[property]
    outdev: Property<Option<String>>,
    /// Each packet's length is followed by that of its virtio-net header.
    #[property]
    vnet_hdr_support: Property<bool>,
    output: CharFrontend,
}

/// Sends the packets of a backend to a character device instead, and takes others from one in their place.
#[derive(Object)]
#[object(name = "filter-redirector", parent = NetFilterState, interfaces(dyn UserCreatable))]
pub struct FilterRedirector {
    parent: NetFilterState,
    /// The character device that packets come from.
    #[property]
    indev: Property<Option<String>>,
    /// The character device that packets go to.
    #[property]
    outdev: Property<Option<String>>,
    /// Each packet's length is followed by that of its virtio-net header.
    #[property]
    vnet_hdr_support: Property<bool>,
    input: CharFrontend,
    output: CharFrontend,
    /// `None` after what was no packet.
    incoming: Mutex<Option<Reassembly>>,
}
qom::type_init!(FilterMirror, FilterRedirector);

/// Packets go out whole: a chardev takes what is written at once in one piece.
fn send(output: &CharFrontend, packet: FilteredPacket<'_>, with_vnet_hdr_len: bool) {
    let vnet_hdr_len = with_vnet_hdr_len.then_some(packet.vnet_hdr_len);
    let mut frame = framing::header(packet.bytes.len(), vnet_hdr_len);
    frame.extend_from_slice(packet.bytes);
    output.write_all(&frame);
}

fn attach(frontend: &CharFrontend, id: &str, kind: &str) -> Result<()> {
    let Some(chardev) = chardev::find(id) else {
        let error = Error::new(format!("{kind}Device '{id}' not found"));
        return Err(error.with_class(ErrorClass::DeviceNotFound));
    };
    frontend.attach(&chardev).map_err(|error| Error::new(error.to_string()))
}

impl NetFilter for FilterMirror {
    fn receive(&self, _: Direction, packet: FilteredPacket<'_>) -> Verdict {
        send(&self.output, packet, self.vnet_hdr_support.get());
        Verdict::Pass
    }

    fn details(&self) -> String {
        let outdev = self.outdev.get().unwrap_or_default();
        format!(",outdev={outdev},vnet_hdr_support={}", self.vnet_hdr_support.get())
    }
}

impl UserCreatable for FilterMirror {
    fn complete(self: Arc<Self>) -> Result<()> {
        complete(&self, || match self.outdev.get() {
            None => bail!("filter-mirror parameter 'outdev' cannot be empty"),
            Some(id) => attach(&self.output, &id, ""),
        })
    }

    fn required(&self) -> &'static [&'static str] {
        &["netdev", "outdev"]
    }
}

impl NetFilter for FilterRedirector {
    fn receive(&self, _: Direction, packet: FilteredPacket<'_>) -> Verdict {
        if !self.output.is_attached() {
            return Verdict::Pass;
        }
        send(&self.output, packet, self.vnet_hdr_support.get());
        Verdict::Taken
    }

    fn details(&self) -> String {
        let (indev, outdev) = (self.indev.get().unwrap_or_default(), self.outdev.get().unwrap_or_default());
        format!(",indev={indev},outdev={outdev},vnet_hdr_support={}", self.vnet_hdr_support.get())
    }
}

impl FilterRedirector {
    /// The next whole packet. After what is none nothing more is read.
    fn next(&self) -> Option<Vec<u8>> {
        let mut incoming = self.incoming.lock();
        match incoming.as_mut()?.next() {
            Ok(packet) => packet,
            Err(framing::TooLong) => {
                util::error_report!("filter-redirector: a packet that is too long came; no more is read");
                *incoming = None;
                None
            }
        }
    }

    fn reset_input(&self) {
        *self.incoming.lock() = Some(Reassembly::new(self.vnet_hdr_support.get()));
    }
}

impl CharHandlers for FilterRedirector {
    fn can_read(&self) -> usize {
        NET_BUFSIZE
    }

    fn read(&self, data: &[u8]) {
        match self.incoming.lock().as_mut() {
            Some(incoming) => incoming.add(data),
            None => return,
        }
        while let Some(packet) = self.next() {
            let Some(nc) = self.client() else { return };
            for direction in [Direction::Tx, Direction::Rx] {
                if self.suits(direction) {
                    nc.pass_on(self, direction, &packet);
                }
            }
        }
    }

    fn event(&self, event: Event) {
        if event == Event::Closed {
            self.reset_input();
        }
    }
}

impl UserCreatable for FilterRedirector {
    fn complete(self: Arc<Self>) -> Result<()> {
        complete(&self, || {
            let (indev, outdev) = (self.indev.get(), self.outdev.get());
            if indev.is_none() && outdev.is_none() {
                bail!("filter redirector needs 'indev' or 'outdev' at least one property set");
            }
            if indev == outdev {
                bail!("'indev' and 'outdev' could not be same for filter redirector");
            }
            self.reset_input();
            if let Some(id) = indev {
                attach(&self.input, &id, "IN ")?;
                let handlers: Weak<dyn CharHandlers> = Arc::<Self>::downgrade(&self);
                self.input.set_handlers(handlers);
            }
            outdev.map_or(Ok(()), |id| attach(&self.output, &id, "OUT "))
        })
    }

    fn required(&self) -> &'static [&'static str] {
        &["netdev"]
    }
}
