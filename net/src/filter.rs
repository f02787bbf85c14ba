//! Filters: who sees the packets of a backend, too (net/filter.c, net/dump.c).

use std::fs::File;
use std::io::Write;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use qom::property::PropertyInput;
use qom::{
    Class, ClassInit, Object, ObjectBase, ObjectType, Property, PropertyType, Result, UserCreatable, bail,
};
use util::clock::{ClockType, now_ns};
use util::log::OsError;

use crate::client::{NetClientState, find_netdev_queues};

/// Which way a packet goes, from where the filter sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the backend.
    Rx,
    /// From the backend.
    Tx,
}

/// Sees the packets that a client sends and takes.
pub trait NetFilter: Send + Sync {
    /// A packet, without its virtio-net header.
    fn receive(&self, direction: Direction, packet: &[u8]);
    /// As `info network` shows it.
    fn describe(&self) -> String;
}

qom::property_enum! {
    /// Which packets a filter sees.
    pub enum NetFilterDirection: "NetFilterDirection" { All = "all", Rx = "rx", Tx = "tx" }
}

/// The root part of filters.
#[derive(Object)]
#[object(name = "netfilter", parent = ObjectBase, abstract, class_init = class_init)]
pub struct NetFilterState {
    parent: ObjectBase,
    /// The backend whose packets it sees.
    #[property]
    netdev: Property<Option<String>>,
    /// Which packets it sees.
    #[property(default = NetFilterDirection::All)]
    queue: Property<NetFilterDirection>,
    /// `on` or `off`.
    #[property(default = String::from("on"), live)]
    status: Property<String>,
    /// Where among the backend's filters it is: `head`, `tail` or `id=<id>`. Filters that only look see the same
    /// everywhere.
    #[property(default = String::from("tail"))]
    position: Property<String>,
    /// `before` or `behind` the place.
    #[property(default = String::from("behind"))]
    insert: Property<String>,
}

impl<T: UserCreatable + ObjectType> ClassInit<T> for NetFilterState {
    fn class_init(_: &mut Class) {}
}

fn class_init(class: &mut Class) {
    for (name, one, other) in [("status", "on", "off"), ("insert", "before", "behind")] {
        let Some(mut property) = class.property(name).cloned() else { continue };
        let Some(set) = property.set.take() else { continue };
        property.set = Some(Arc::new(move |object, input: PropertyInput<'_>| {
            let value = String::parse(name, input)?;
            if value != one && value != other {
                bail!("Invalid value for netfilter {name}, should be '{one}' or '{other}'");
            }
            set(object, input)
        }));
        class.add_property(property);
    }
}

impl NetFilterState {
    fn client(&self) -> Result<Arc<NetClientState>> {
        let Some(id) = self.netdev.get() else { bail!("Parameter 'netdev' is required") };
        let queues = find_netdev_queues(&id);
        match queues.as_slice() {
            [] => bail!("Parameter 'netdev' expects a network backend id"),
            [nc] => {
                self.check_position(nc)?;
                Ok(nc.clone())
            }
            _ => bail!("multiqueue is not supported"),
        }
    }

    fn check_position(&self, nc: &Arc<NetClientState>) -> Result<()> {
        let position = self.position.get();
        if matches!(position.as_str(), "head" | "tail") {
            return Ok(());
        }
        let Some(id) = position.strip_prefix("id=") else {
            bail!("Parameter 'position' expects 'head', 'tail' or 'id=<id>'")
        };
        let Some(other) = qom::object_get_objects_root().child(id) else { bail!("filter '{id}' not found") };
        let netdev = other.cast::<NetFilterState>().and_then(|filter| filter.netdev.get());
        if netdev.as_deref() != Some(nc.name()) {
            bail!("filter '{id}' belongs to a different netdev");
        }
        Ok(())
    }

    fn wants(&self, direction: Direction) -> bool {
        let suits = match self.queue.get() {
            NetFilterDirection::All => true,
            NetFilterDirection::Rx => direction == Direction::Rx,
            NetFilterDirection::Tx => direction == Direction::Tx,
        };
        suits && self.status.get() == "on"
    }
}

/// Writes the packets of a backend to a file that packet analysers read.
#[derive(Object)]
#[object(name = "filter-dump", parent = NetFilterState, interfaces(dyn UserCreatable), class_init = dump_class_init)]
pub struct FilterDump {
    parent: NetFilterState,
    /// The file.
    #[property]
    file: Property<Option<String>>,
    /// How many bytes of a packet are written at most.
    #[property(default = 65536)]
    maxlen: Property<u32>,
    attached: OnceLock<(Arc<NetClientState>, Arc<dyn NetFilter>)>,
}
qom::type_init!(NetFilterState, FilterDump);

fn dump_class_init(class: &mut Class) {
    let Some(mut maxlen) = class.property("maxlen").cloned() else { return };
    let Some(set) = maxlen.set.take() else { return };
    maxlen.set = Some(Arc::new(move |object, input| {
        if u32::parse("maxlen", input)? == 0 {
            bail!("Property '{}.maxlen' doesn't take value '0'", object.type_name());
        }
        set(object, input)
    }));
    class.add_property(maxlen);
}

/// The open file, held by the backend.
struct Dump {
    owner: std::sync::Weak<FilterDump>,
    file: Mutex<Option<File>>,
    maxlen: usize,
    /// The seconds of the epoch at which the guest's clock began.
    start: u64,
}

/// The file's header (libpcap's savefile format): magic, version, time zone, accuracy, longest packet, Ethernet.
fn file_header(maxlen: u32) -> Vec<u8> {
    const MAGIC: u32 = 0xa1b2_c3d4;
    const LINKTYPE_ETHERNET: u32 = 1;
    let words = [MAGIC, 2 | 4 << 16, 0, 0, maxlen, LINKTYPE_ETHERNET];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

impl Dump {
    fn write(&self, packet: &[u8]) {
        let now = now_ns(ClockType::Virtual) / 1000;
        let captured = &packet[..packet.len().min(self.maxlen)];
        let seconds = (now / 1_000_000).wrapping_add(self.start);
        let words = [seconds as u32, (now % 1_000_000) as u32, captured.len() as u32, packet.len() as u32];
        let mut record: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        record.extend_from_slice(captured);
        let mut file = self.file.lock();
        if let Some(open) = file.as_mut()
            && open.write_all(&record).is_err()
        {
            eprintln!("softmmu: network dump write error - stopping dump");
            *file = None;
        }
    }
}

impl NetFilter for Dump {
    fn receive(&self, direction: Direction, packet: &[u8]) {
        if self.owner.upgrade().is_some_and(|owner| owner.wants(direction)) {
            self.write(packet);
        }
    }

    fn describe(&self) -> String {
        let Some(owner) = self.owner.upgrade() else { return String::new() };
        let name = owner.parent().map(|(_, name)| name).unwrap_or_default();
        format!(
            "{name}: type={},netdev={},queue={},status={},position={},insert={},file={},maxlen={}",
            owner.class().name(),
            owner.netdev.get().unwrap_or_default(),
            owner.queue.get().as_str(),
            owner.status.get(),
            owner.position.get(),
            owner.insert.get(),
            owner.file.get().unwrap_or_default(),
            self.maxlen,
        )
    }
}

impl UserCreatable for FilterDump {
    fn complete(self: Arc<Self>) -> Result<()> {
        let nc = self.client()?;
        let Some(path) = self.file.get() else { bail!("dump filter needs 'file' property set!") };
        let error = |what: String| move |error| qom::Error::new(format!("{what}: {}", OsError(error)));
        let mut file = File::create(&path).map_err(error(format!("net dump: can't open {path}")))?;
        let maxlen = self.maxlen.get();
        file.write_all(&file_header(maxlen)).map_err(error("net dump write error".to_owned()))?;
        let start = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let filter: Arc<dyn NetFilter> = Arc::new(Dump {
            owner: Arc::downgrade(&self),
            file: Mutex::new(Some(file)),
            maxlen: maxlen as usize,
            start,
        });
        nc.add_filter(&filter);
        let _ = self.attached.set((nc, filter));
        Ok(())
    }
}

impl Drop for FilterDump {
    fn drop(&mut self) {
        if let Some((nc, filter)) = self.attached.get() {
            nc.remove_filter(&**filter);
        }
    }
}
