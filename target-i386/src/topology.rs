//! How sockets, dies, cores and threads make up an APIC id.
//!
//! Each level has a bit field as wide as its count needs, threads lowest (Intel SDM volume 3A,
//! 9.9.3, hierarchical mapping; QEMU's include/hw/i386/topology.h).

/// How many of each level there are in the one above it; none is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Dies in a socket.
    pub dies: u32,
    /// Cores in a die.
    pub cores: u32,
    /// Threads in a core.
    pub threads: u32,
}

/// Which thread of which core of which die of which socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopologyIds {
    /// The socket.
    pub socket: u32,
    /// The die in it.
    pub die: u32,
    /// The core in the die.
    pub core: u32,
    /// The thread of the core.
    pub thread: u32,
}

/// Bits that ids of `count` things take.
fn width(count: u32) -> u32 {
    u32::BITS - count.saturating_sub(1).leading_zeros()
}

fn field(value: u32, offset: u32, width: u32) -> u32 {
    let mask = 1_u32.checked_shl(width).map_or(u32::MAX, |above| above - 1);
    value.checked_shr(offset).unwrap_or(0) & mask
}

impl Topology {
    /// The bit at which the core's id starts (`apicid_core_offset`).
    pub fn core_offset(&self) -> u32 {
        width(self.threads)
    }

    /// The bit at which the die's id starts (`apicid_die_offset`).
    pub fn die_offset(&self) -> u32 {
        self.core_offset() + width(self.cores)
    }

    /// The bit at which the socket's id starts (`apicid_pkg_offset`).
    pub fn socket_offset(&self) -> u32 {
        self.die_offset() + width(self.dies)
    }

    /// Threads in a die.
    pub fn threads_per_die(&self) -> u32 {
        self.cores.saturating_mul(self.threads)
    }

    /// Threads in a socket.
    pub fn threads_per_socket(&self) -> u32 {
        self.dies.saturating_mul(self.threads_per_die())
    }

    /// The ids of the CPU of an index, counted without gaps (`x86_topo_ids_from_idx`).
    pub fn ids_of_index(&self, index: u32) -> TopologyIds {
        TopologyIds {
            socket: index / self.threads_per_socket().max(1),
            die: index / self.threads_per_die().max(1) % self.dies.max(1),
            core: index / self.threads.max(1) % self.cores.max(1),
            thread: index % self.threads.max(1),
        }
    }

    /// The ids that an APIC id is made of (`x86_topo_ids_from_apicid`).
    pub fn ids_of_apic_id(&self, apic_id: u32) -> TopologyIds {
        TopologyIds {
            socket: field(apic_id, self.socket_offset(), u32::BITS),
            die: field(apic_id, self.die_offset(), width(self.dies)),
            core: field(apic_id, self.core_offset(), width(self.cores)),
            thread: field(apic_id, 0, width(self.threads)),
        }
    }

    /// The APIC id that ids make (`x86_apicid_from_topo_ids`).
    pub fn apic_id(&self, ids: &TopologyIds) -> u32 {
        let at = |id: u32, offset: u32| id.checked_shl(offset).unwrap_or(0);
        at(ids.socket, self.socket_offset())
            | at(ids.die, self.die_offset())
            | at(ids.core, self.core_offset())
            | ids.thread
    }

    /// The APIC id of the CPU of an index (`x86_apicid_from_cpu_idx`).
    pub fn apic_id_of_index(&self, index: u32) -> u32 {
        self.apic_id(&self.ids_of_index(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn topology(dies: u32, cores: u32, threads: u32) -> Topology {
        Topology { dies, cores, threads }
    }

    // The values of QEMU's tests/unit/test-x86-topo.c.
    #[test]
    fn field_widths() {
        assert_eq!(topology(1, 1, 1).core_offset(), 0);
        assert_eq!(topology(1, 1, 2).core_offset(), 1);
        assert_eq!(topology(1, 1, 3).core_offset(), 2);
        for (cores, bits) in [(2, 1), (3, 2), (4, 2), (5, 3), (8, 3), (9, 4), (30, 5), (32, 5)] {
            assert_eq!(topology(1, cores, 2).die_offset(), 1 + bits, "{cores} cores");
        }
        let wide = topology(5, 6, 3);
        assert_eq!((wide.core_offset(), wide.die_offset(), wide.socket_offset()), (2, 5, 8));
    }

    #[test]
    fn ids_leave_gaps_where_a_count_is_no_power_of_two() {
        let gaps = topology(1, 6, 3);
        assert_eq!([0, 1, 2, 3, 17, 18].map(|index| gaps.apic_id_of_index(index)), [0, 1, 2, 4, 22, 32]);
        let dies = topology(3, 6, 3);
        let fifth_socket = 5 * 3 * 6 * 3;
        assert_eq!(dies.apic_id_of_index(fifth_socket), 5 << dies.socket_offset());
        assert_eq!(dies.apic_id_of_index(fifth_socket + 6 * 3), 5 << 7 | 1 << 5);
    }

    proptest! {
        #[test]
        fn ids_survive_the_apic_id(
            dies in 1_u32..9, cores in 1_u32..70, threads in 1_u32..9, index in 0_u32..100_000,
        ) {
            let topology = topology(dies, cores, threads);
            let ids = topology.ids_of_index(index);
            prop_assert_eq!(topology.ids_of_apic_id(topology.apic_id(&ids)), ids);
        }

        #[test]
        fn nonsense_does_not_panic(dies: u32, cores: u32, threads: u32, index: u32) {
            let topology = topology(dies, cores, threads);
            topology.ids_of_apic_id(topology.apic_id_of_index(index));
        }
    }
}
