//! `filter-dump`: what a backend sends and takes, as a file that packet analysers read (net/dump.c).

use std::fs::File;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use qom::{Class, Object, Property, Result, UserCreatable, bail};
use std::sync::Arc;
use util::clock::{ClockType, now_ns};
use util::log::OsError;

use super::{Direction, FilteredPacket, NetFilter, NetFilterState, Verdict, check_property, complete};

/// Writes the packets of a backend to a file that packet analysers read.
#[derive(Object)]
#[object(name = "filter-dump", parent = NetFilterState, interfaces(dyn UserCreatable), class_init = class_init)]
pub struct FilterDump {
    parent: NetFilterState,
    /// The file.
    #[property]
    file: Property<Option<String>>,
    /// How many bytes of a packet are written at most.
    #[property(default = 65536)]
    maxlen: Property<u32>,
    open: Mutex<Option<Dump>>,
}
qom::type_init!(FilterDump);

fn class_init(class: &mut Class) {
    check_property::<u32>(class, "maxlen", |object, value| match value {
        0 => bail!("Property '{}.maxlen' doesn't take value '0'", object.type_name()),
        _ => Ok(()),
    });
}

/// The open file.
struct Dump {
    file: File,
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
    fn write(&mut self, packet: &[u8]) -> std::io::Result<()> {
        let now = now_ns(ClockType::Virtual) / 1000;
        let captured = &packet[..packet.len().min(self.maxlen)];
        let seconds = (now / 1_000_000).wrapping_add(self.start);
        let words = [seconds as u32, (now % 1_000_000) as u32, captured.len() as u32, packet.len() as u32];
        let mut record: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        record.extend_from_slice(captured);
        self.file.write_all(&record)
    }
}

impl NetFilter for FilterDump {
    fn receive(&self, _: Direction, packet: FilteredPacket<'_>) -> Verdict {
        let mut open = self.open.lock();
        let ethernet = packet.bytes.get(packet.vnet_hdr_len..).unwrap_or_default();
        if open.as_mut().is_some_and(|dump| dump.write(ethernet).is_err()) {
            util::error_report!("network dump write error - stopping dump");
            *open = None;
        }
        Verdict::Pass
    }

    fn details(&self) -> String {
        format!(",file={},maxlen={}", self.file.get().unwrap_or_default(), self.maxlen.get())
    }
}

impl UserCreatable for FilterDump {
    fn complete(self: Arc<Self>) -> Result<()> {
        complete(&self, || {
            let Some(path) = self.file.get() else { bail!("dump filter needs 'file' property set!") };
            let error = |what: String| move |error| qom::Error::new(format!("{what}: {}", OsError(error)));
            let mut file = File::create(&path).map_err(error(format!("net dump: can't open {path}")))?;
            let maxlen = self.maxlen.get();
            file.write_all(&file_header(maxlen)).map_err(error("net dump write error".to_owned()))?;
            let start = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            *self.open.lock() = Some(Dump { file, maxlen: maxlen as usize, start });
            Ok(())
        })
    }

    fn required(&self) -> &'static [&'static str] {
        &["netdev", "file"]
    }
}
