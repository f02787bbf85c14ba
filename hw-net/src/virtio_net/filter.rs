//! What a guest's network device lets through (virtio 1.2, sections 5.1.6.5.1 to 5.1.6.5.3).

use net::{MacAddr, RxFilterInfo, RxState};
use serde::{Deserialize, Serialize};

use super::spec::{MAC_TABLE_ENTRIES, MAX_VLAN, ctrl};

const BROADCAST: [u8; 6] = [0xff; 6];
/// The Ethernet type of frames with a VLAN.
const VLAN_TYPE: [u8; 2] = [0x81, 0x00];

/// The filter's tables and switches.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RxFilter {
    pub mac: MacAddr,
    promisc: bool,
    all_multi: bool,
    all_uni: bool,
    no_multi: bool,
    no_uni: bool,
    no_broadcast: bool,
    unicast: Vec<MacAddr>,
    multicast: Vec<MacAddr>,
    unicast_overflow: bool,
    multicast_overflow: bool,
    /// A bit a VLAN.
    vlans: Vec<u64>,
}

/// A list of addresses at the start of `data`: how many, and they themselves. `None` for too many to keep; the rest
/// is what follows.
fn take_macs(data: &[u8], room: usize) -> Option<(Option<Vec<MacAddr>>, &[u8])> {
    let (count, rest) = data.split_first_chunk::<4>()?;
    let count = u32::from_le_bytes(*count) as usize;
    let (list, rest) = rest.split_at_checked(count.checked_mul(6)?)?;
    let mac = |bytes: &[u8]| {
        let mut mac = MacAddr::default();
        mac.0.copy_from_slice(bytes);
        mac
    };
    let list = (count <= room).then(|| list.chunks_exact(6).map(mac).collect());
    Some((list, rest))
}

impl RxFilter {
    /// As after power-on: everything.
    pub fn new(mac: MacAddr) -> RxFilter {
        RxFilter {
            mac,
            promisc: true,
            all_multi: false,
            all_uni: false,
            no_multi: false,
            no_uni: false,
            no_broadcast: false,
            unicast: Vec::new(),
            multicast: Vec::new(),
            unicast_overflow: false,
            multicast_overflow: false,
            vlans: vec![0; usize::from(MAX_VLAN) / 64],
        }
    }

    /// Whether its tables are as long as those of a filter can be.
    pub fn is_possible(&self) -> bool {
        self.unicast.len() + self.multicast.len() <= MAC_TABLE_ENTRIES
            && self.vlans.len() == usize::from(MAX_VLAN) / 64
    }

    /// Without VLAN filtering all VLANs are let through.
    pub fn set_vlan_filtering(&mut self, on: bool) {
        self.vlans.fill(if on { 0 } else { u64::MAX });
    }

    /// Class `RX`: switches. `None` for what is wrong.
    pub fn rx_mode(&mut self, command: u8, data: &[u8]) -> Option<()> {
        let on = *data.first()? != 0;
        let switch = match command {
            ctrl::RX_PROMISC => &mut self.promisc,
            ctrl::RX_ALLMULTI => &mut self.all_multi,
            ctrl::RX_ALLUNI => &mut self.all_uni,
            ctrl::RX_NOMULTI => &mut self.no_multi,
            ctrl::RX_NOUNI => &mut self.no_uni,
            ctrl::RX_NOBCAST => &mut self.no_broadcast,
            _ => return None,
        };
        *switch = on;
        Some(())
    }

    /// Class `MAC`: the device's address, or the tables.
    pub fn set_mac(&mut self, command: u8, data: &[u8]) -> Option<()> {
        match command {
            ctrl::MAC_ADDR_SET => self.mac = MacAddr(data.try_into().ok()?),
            ctrl::MAC_TABLE_SET => {
                let (unicast, rest) = take_macs(data, MAC_TABLE_ENTRIES)?;
                let room = MAC_TABLE_ENTRIES - unicast.as_ref().map_or(0, Vec::len);
                let (multicast, rest) = take_macs(rest, room)?;
                if !rest.is_empty() {
                    return None;
                }
                (self.unicast_overflow, self.multicast_overflow) = (unicast.is_none(), multicast.is_none());
                (self.unicast, self.multicast) = (unicast.unwrap_or_default(), multicast.unwrap_or_default());
            }
            _ => return None,
        }
        Some(())
    }

    /// Class `VLAN`: one comes or goes.
    pub fn vlan(&mut self, command: u8, data: &[u8]) -> Option<()> {
        let id = u16::from_le_bytes(*data.first_chunk()?);
        let word = self.vlans.get_mut(usize::from(id / 64))?;
        let bit = 1 << (id % 64);
        match command {
            ctrl::VLAN_ADD => *word |= bit,
            ctrl::VLAN_DEL => *word &= !bit,
            _ => return None,
        }
        Some(())
    }

    fn has_vlan(&self, id: u16) -> bool {
        self.vlans.get(usize::from(id / 64)).is_some_and(|word| word >> (id % 64) & 1 != 0)
    }

    /// Whether a frame is for the guest.
    pub fn takes(&self, frame: &[u8]) -> bool {
        if self.promisc {
            return true;
        }
        let Some(to) = frame.first_chunk::<6>() else { return false };
        if frame.get(12..14) == Some(&VLAN_TYPE) {
            let tag = frame.get(14..16).and_then(|tag| tag.first_chunk()).copied().unwrap_or_default();
            if !self.has_vlan(u16::from_be_bytes(tag) & (MAX_VLAN - 1)) {
                return false;
            }
        }
        let is_listed = |table: &[MacAddr]| table.iter().any(|mac| mac.0 == *to);
        if *to == BROADCAST {
            !self.no_broadcast
        } else if to[0] & 1 != 0 {
            let all = self.all_multi || self.multicast_overflow;
            !self.no_multi && (all || is_listed(&self.multicast))
        } else {
            let all = self.all_uni || self.unicast_overflow;
            !self.no_uni && (all || self.mac.0 == *to || is_listed(&self.unicast))
        }
    }

    /// As `query-rx-filter` tells it.
    pub fn info(&self, name: &str, vlan_filtering: bool) -> RxFilterInfo {
        let state = |none: bool, all: bool| match (none, all) {
            (true, _) => RxState::None,
            (false, true) => RxState::All,
            (false, false) => RxState::Normal,
        };
        // QEMU lists what came last first.
        let list = |table: &[MacAddr]| table.iter().rev().map(MacAddr::to_string).collect();
        let vlans: Vec<i64> = (0..MAX_VLAN).rev().filter(|id| self.has_vlan(*id)).map(i64::from).collect();
        RxFilterInfo {
            name: name.to_owned(),
            promiscuous: self.promisc,
            multicast: state(self.no_multi, self.all_multi),
            unicast: state(self.no_uni, self.all_uni),
            vlan: match (vlan_filtering, vlans.is_empty()) {
                (false, _) => RxState::All,
                (true, true) => RxState::None,
                (true, false) => RxState::Normal,
            },
            // QEMU tells the switch that forbids it.
            broadcast_allowed: self.no_broadcast,
            multicast_overflow: self.multicast_overflow,
            unicast_overflow: self.unicast_overflow,
            main_mac: self.mac.to_string(),
            vlan_table: vlans,
            unicast_table: list(&self.unicast),
            multicast_table: list(&self.multicast),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    fn frame(to: [u8; 6], vlan: Option<u16>) -> Vec<u8> {
        let mut frame = to.to_vec();
        frame.extend([2; 6]);
        if let Some(vlan) = vlan {
            frame.extend(VLAN_TYPE);
            frame.extend(vlan.to_be_bytes());
        }
        frame.extend([8, 0]);
        frame
    }

    fn table(unicast: &[[u8; 6]], multicast: &[[u8; 6]]) -> Vec<u8> {
        let list = |macs: &[[u8; 6]]| [(macs.len() as u32).to_le_bytes().as_slice(), &macs.concat()].concat();
        [list(unicast), list(multicast)].concat()
    }

    #[test]
    fn frames_for_others_are_kept_out_once_promiscuity_is_off() {
        let mut filter = RxFilter::new(OWN);
        let (other, group) = ([2, 0, 0, 0, 0, 9], [1, 0, 0x5e, 0, 0, 1]);
        assert!(filter.takes(&frame(other, None)));
        filter.rx_mode(ctrl::RX_PROMISC, &[0]).unwrap();
        assert!(!filter.takes(&frame(other, None)));
        assert!(!filter.takes(&frame(group, None)));
        assert!(filter.takes(&frame(OWN.0, None)) && filter.takes(&frame(BROADCAST, None)));
        filter.set_mac(ctrl::MAC_TABLE_SET, &table(&[other], &[group])).unwrap();
        assert!(filter.takes(&frame(other, None)) && filter.takes(&frame(group, None)));
        filter.rx_mode(ctrl::RX_NOBCAST, &[1]).unwrap();
        filter.rx_mode(ctrl::RX_NOUNI, &[1]).unwrap();
        assert!(!filter.takes(&frame(BROADCAST, None)) && !filter.takes(&frame(OWN.0, None)));
        assert!(!filter.takes(&[1, 2, 3]));
    }

    #[test]
    fn vlans_pass_that_were_added() {
        let mut filter = RxFilter::new(OWN);
        filter.rx_mode(ctrl::RX_PROMISC, &[0]).unwrap();
        filter.set_vlan_filtering(true);
        assert!(!filter.takes(&frame(OWN.0, Some(7))));
        filter.vlan(ctrl::VLAN_ADD, &[7, 0]).unwrap();
        assert!(filter.takes(&frame(OWN.0, Some(7))) && filter.takes(&frame(OWN.0, Some(0x6007))));
        assert_eq!(filter.info("n", true).vlan_table, [7]);
        filter.vlan(ctrl::VLAN_DEL, &[7, 0]).unwrap();
        assert!(!filter.takes(&frame(OWN.0, Some(7))));
        assert_eq!(filter.vlan(ctrl::VLAN_ADD, &[0, 0x10]), None, "there are 4096");
    }

    #[test]
    fn tables_that_are_too_long_let_everything_through_and_others_that_are_wrong_change_nothing() {
        let mut filter = RxFilter::new(OWN);
        filter.rx_mode(ctrl::RX_PROMISC, &[0]).unwrap();
        let many = vec![[2, 0, 0, 0, 1, 1]; MAC_TABLE_ENTRIES + 1];
        filter.set_mac(ctrl::MAC_TABLE_SET, &table(&many, &[])).unwrap();
        assert!(filter.takes(&frame([2, 9, 9, 9, 9, 9], None)));
        assert!(filter.info("n", false).unicast_overflow);
        let mut long = table(&[], &[]);
        long.push(0);
        for wrong in [&[][..], &[1, 0, 0, 0], &[0xff; 8], &long] {
            assert_eq!(filter.set_mac(ctrl::MAC_TABLE_SET, wrong), None, "{wrong:?}");
        }
        assert_eq!(filter.set_mac(ctrl::MAC_ADDR_SET, &[1; 5]), None);
        assert_eq!(filter.rx_mode(ctrl::RX_PROMISC, &[]), None);
        assert!(filter.info("n", false).unicast_overflow);
    }
}
