//! Network devices tell their neighbours where they are (net/announce.c).

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use qapi::QapiType;
use qom::Result;
use util::clock::{ClockType, now_ns};
use util::timer::Timer;

use crate::client::{NetClientDriver, clients};
use crate::nic::MacAddr;

/// When and how often.
#[derive(QapiType, Clone, Debug)]
pub struct AnnounceParameters {
    /// Milliseconds before the second time.
    pub initial: i64,
    /// Milliseconds between two times at most.
    pub max: i64,
    /// How often.
    pub rounds: i64,
    /// How many milliseconds longer to wait each time.
    pub step: i64,
    /// The devices; without it all.
    pub interfaces: Option<Vec<String>>,
    /// A name, under which announcements can be told to change.
    pub id: Option<String>,
}

struct Announcement {
    parameters: AnnounceParameters,
    /// The times that are left.
    left: i64,
    timer: Arc<Timer>,
}

/// Those that go on, by name.
static ANNOUNCEMENTS: Mutex<BTreeMap<String, Announcement>> = Mutex::new(BTreeMap::new());

/// A reverse ARP request, from which switches learn.
fn rarp(mac: MacAddr) -> [u8; 60] {
    let mut packet = [0; 60];
    packet[..6].fill(0xff);
    packet[6..12].copy_from_slice(&mac.0);
    // Ethertype RARP; Ethernet and IPv4 with their lengths of addresses; operation "request reverse".
    packet[12..22].copy_from_slice(&[0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3]);
    packet[22..28].copy_from_slice(&mac.0);
    packet[32..38].copy_from_slice(&mac.0);
    packet
}

fn announce_once(interfaces: Option<&[String]>) {
    for nc in clients() {
        let wanted = interfaces.is_none_or(|names| names.iter().any(|name| name == nc.name()));
        if nc.driver() != NetClientDriver::Nic || nc.queue_index() != 0 || !wanted {
            continue;
        }
        if let Some(info) = nc.info().query_rx_filter()
            && let Some(mac) = MacAddr::parse(&info.main_mac)
        {
            nc.send_raw(&rarp(mac));
        }
        nc.info().announce();
    }
}

/// One time is due.
fn due(id: &str) {
    let interfaces = {
        let mut all = ANNOUNCEMENTS.lock();
        let Some(announcement) = all.get_mut(id) else { return };
        announcement.left -= 1;
        let parameters = &announcement.parameters;
        if announcement.left > 0 {
            let rounds_done = parameters.rounds.saturating_sub(announcement.left).saturating_sub(1);
            let step = parameters.initial.saturating_add(rounds_done.saturating_mul(parameters.step));
            let step = if (0..=parameters.max).contains(&step) { step } else { parameters.max };
            let ns = u64::try_from(step).unwrap_or(0).saturating_mul(1_000_000);
            announcement.timer.mod_ns(now_ns(ClockType::Realtime).saturating_add(ns));
            parameters.interfaces.clone()
        } else {
            // The timer goes outside the lock: it may be the one that runs.
            let done = all.remove(id);
            drop(all);
            done.and_then(|announcement| announcement.parameters.interfaces.clone())
        }
    };
    announce_once(interfaces.as_deref());
}

/// Has network devices tell their neighbours where they are.
#[qapi::command("announce-self")]
fn announce_self(#[qapi(flatten)] parameters: AnnounceParameters) -> Result<()> {
    let id = parameters.id.clone().unwrap_or_default();
    let name = id.clone();
    let timer = Arc::new(Timer::new(ClockType::Realtime, move || due(&name)));
    let left = parameters.rounds;
    let old = ANNOUNCEMENTS.lock().remove(&id);
    drop(old);
    if left > 0 {
        ANNOUNCEMENTS.lock().insert(id.clone(), Announcement { parameters, left, timer });
        due(&id);
    }
    Ok(())
}
