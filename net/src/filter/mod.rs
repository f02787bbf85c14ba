//! Filters: who sees the packets of a backend, and may hold or take them (net/filter.c).

mod buffer;
mod dump;
mod mirror;

use std::sync::{Arc, OnceLock, Weak};

use qom::property::PropertyInput;
use qom::{
    Class, ClassInit, Object, ObjectBase, ObjectType, Property, PropertyType, Result, UserCreatable, bail,
};

use crate::client::{NetClientState, find_netdev_queues};
pub use buffer::FilterBuffer;
pub use dump::FilterDump;
pub use mirror::{FilterMirror, FilterRedirector};

/// Which way a packet goes, from where the filter sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the backend.
    Rx,
    /// From the backend.
    Tx,
}

/// A packet as a filter sees it.
#[derive(Clone, Copy, Debug)]
pub struct FilteredPacket<'a> {
    /// All of it.
    pub bytes: &'a [u8],
    /// The bytes at its beginning that are a virtio-net header.
    pub vnet_hdr_len: usize,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The next filter gets it, after the last one the receiver.
    Pass,
    /// It is the filter's: for its sender it has been sent.
    Taken,
}

/// Sees the packets that a backend sends and takes.
pub trait NetFilter: Object {
    /// A packet that goes a way which the filter wants to see. Called by whoever sends it, without locks.
    fn receive(&self, direction: Direction, packet: FilteredPacket<'_>) -> Verdict;
    /// It was switched on or off.
    fn status_changed(&self, _on: bool) {}
    /// Its own properties, as `info network` shows them: each with a comma before it.
    fn details(&self) -> String;
}

qom::property_enum! {
    /// Which packets a filter sees.
    pub enum NetFilterDirection: "NetFilterDirection" { All = "all", Rx = "rx", Tx = "tx" }
}

/// Where among a backend's filters another is put.
pub(crate) enum Place {
    /// Before all others.
    Head,
    /// Behind all others.
    Tail,
    /// Before this one.
    Before(Arc<dyn Object>),
    /// Behind this one.
    Behind(Arc<dyn Object>),
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
    /// Where among the backend's filters it is: `head`, `tail` or `id=<id>`.
    #[property(default = String::from("tail"))]
    position: Property<String>,
    /// `before` or `behind` the place.
    #[property(default = String::from("behind"))]
    insert: Property<String>,
    /// The backend, once it is there.
    client: OnceLock<Weak<NetClientState>>,
}
qom::type_init!(NetFilterState);

impl<T: UserCreatable + NetFilter + ObjectType> ClassInit<T> for NetFilterState {
    fn class_init(_: &mut Class) {}
}

/// Has values of a property checked before they are set.
fn check_property<T: PropertyType>(
    class: &mut Class,
    name: &'static str,
    check: impl Fn(&dyn Object, &T) -> Result<()> + Send + Sync + 'static,
) {
    let Some(mut property) = class.property(name).cloned() else { return };
    let Some(set) = property.set.take() else { return };
    property.set = Some(Arc::new(move |object: &dyn Object, input: PropertyInput<'_>| {
        check(object, &T::parse(name, input)?)?;
        set(object, input)
    }));
    class.add_property(property);
}

fn check_insert(value: &str) -> Result<()> {
    match value {
        "before" | "behind" => Ok(()),
        _ => bail!("Parameter 'insert' does not accept value '{value}'"),
    }
}

fn check_status(value: &str) -> Result<()> {
    match value {
        "on" | "off" => Ok(()),
        _ => bail!("Invalid value for netfilter status, should be 'on' or 'off'"),
    }
}

fn class_init(class: &mut Class) {
    check_property::<String>(class, "insert", |_, value| check_insert(value));
    check_property::<String>(class, "status", |_, value| check_status(value));
    let Some(mut status) = class.property("status").cloned() else { return };
    let Some(set) = status.set.take() else { return };
    status.set = Some(Arc::new(move |object: &dyn Object, input: PropertyInput<'_>| {
        let was_on = object.cast::<NetFilterState>().map(NetFilterState::is_on);
        set(object, input)?;
        if let Some(filter) = object.cast::<NetFilterState>().filter(|filter| was_on != Some(filter.is_on()))
        {
            filter.tell_status();
        }
        Ok(())
    }));
    class.add_property(status);
}

impl NetFilterState {
    fn is_on(&self) -> bool {
        self.status.get() == "on"
    }

    /// The backend whose packets it sees, while it is there.
    pub(crate) fn client(&self) -> Option<Arc<NetClientState>> {
        self.client.get()?.upgrade()
    }

    fn tell_status(&self) {
        let filters = self.client().map(|nc| nc.filters()).unwrap_or_default();
        let this = |filter: &&Arc<dyn NetFilter>| {
            let object: &dyn Object = &***filter;
            object.cast::<NetFilterState>().is_some_and(|other| std::ptr::eq(other, self))
        };
        if let Some(filter) = filters.iter().find(this) {
            filter.status_changed(self.is_on());
        }
    }

    /// The backend that `netdev=` names, which must be one without several queues.
    fn find_client(&self) -> Result<Arc<NetClientState>> {
        let Some(id) = self.netdev.get() else { bail!("Parameter 'netdev' is required") };
        match find_netdev_queues(&id).as_slice() {
            [] => bail!("Parameter 'netdev' expects a network backend id"),
            [nc] => Ok(nc.clone()),
            _ => bail!("multiqueue is not supported"),
        }
    }

    /// Where among the filters of `nc` it is to be.
    fn place(&self, nc: &Arc<NetClientState>) -> Result<Place> {
        let position = self.position.get();
        let id = match position.as_str() {
            "head" => return Ok(Place::Head),
            "tail" => return Ok(Place::Tail),
            other => other.strip_prefix("id="),
        };
        let Some(id) = id else { bail!("Parameter 'position' expects 'head', 'tail' or 'id=<id>'") };
        let Some(other) = qom::object_get_objects_root().child(id) else { bail!("filter '{id}' not found") };
        let client = other.cast::<NetFilterState>().and_then(NetFilterState::client);
        if !client.is_some_and(|other| Arc::ptr_eq(&other, nc)) {
            bail!("filter '{id}' belongs to a different netdev");
        }
        let before = self.insert.get() == "before";
        Ok(if before { Place::Before(other) } else { Place::Behind(other) })
    }

    /// Whether it is on and sees packets that go this way.
    pub(crate) fn wants(&self, direction: Direction) -> bool {
        self.suits(direction) && self.is_on()
    }

    /// Whether `queue=` names this way.
    fn suits(&self, direction: Direction) -> bool {
        match self.queue.get() {
            NetFilterDirection::All => true,
            NetFilterDirection::Rx => direction == Direction::Rx,
            NetFilterDirection::Tx => direction == Direction::Tx,
        }
    }

    /// Its properties, as `info network` shows them.
    fn describe(&self) -> String {
        format!(
            "type={},netdev={},queue={},status={},position={},insert={}",
            self.class().name(),
            self.netdev.get().unwrap_or_default(),
            self.queue.get().as_str(),
            self.status.get(),
            self.position.get(),
            self.insert.get(),
        )
    }
}

/// What all filters do when their properties are set: `set_up` takes what the kind needs, then packets come
/// (`netfilter_complete`).
fn complete<T: NetFilter + ObjectType>(filter: &Arc<T>, set_up: impl FnOnce() -> Result<()>) -> Result<()> {
    let object: &dyn Object = &**filter;
    let Some(base) = object.cast::<NetFilterState>() else { bail!("not a filter") };
    let nc = base.find_client()?;
    let place = base.place(&nc)?;
    set_up()?;
    // Set once: an object is completed once.
    let _ = base.client.set(Arc::downgrade(&nc));
    let filter: Arc<dyn NetFilter> = filter.clone();
    nc.add_filter(&filter, &place);
    Ok(())
}

/// A filter, as `info network` shows it.
pub(crate) fn describe(filter: &dyn NetFilter) -> String {
    let object: &dyn Object = filter;
    let name = object.base().parent().map(|(_, name)| name).unwrap_or_default();
    let base = object.cast::<NetFilterState>().map(NetFilterState::describe).unwrap_or_default();
    format!("{name}: {base}{}", filter.details())
}

impl Drop for NetFilterState {
    fn drop(&mut self) {
        if let Some(nc) = self.client() {
            nc.forget_filters();
        }
    }
}
