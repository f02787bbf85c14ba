//! The PCI interrupt routing table `$PIR`: which of PIIX3's inputs the pins of each slot are wired to.
//!
//! Source followed: Microsoft's PCI IRQ Routing Table Specification 1.0, and SeaBIOS `src/fw/pirtable.c` for the
//! values.

use hw_isa::piix3::spec::{NUM_PIRQS, PIRQRC, ROUTABLE};
use hw_smbios::checksum;

const SIGNATURE: &[u8; 4] = b"$PIR";
const VERSION: u16 = 0x0100;
/// Size of the header, and of an entry behind it.
const HEADER: usize = 32;
const ENTRY: usize = 16;
/// Device 1, function 0: PIIX3.
const ROUTER_DEVFN: u8 = 1 << 3;
/// Device and vendor of the router that PIIX3 is compatible with, the PIIX.
const COMPATIBLE_ROUTER: u32 = 0x122e_8086;
/// Where the header's checksum is.
const CHECKSUM: usize = HEADER - 1;
/// Slots in the table: the ISA bridge's, then those of cards, numbered from 1.
const SLOTS: [u8; 6] = [1, 2, 3, 4, 5, 6];

/// The table; it goes to a multiple of 16 below 1 MiB.
pub fn pir_table() -> Vec<u8> {
    let mut table = Vec::with_capacity(HEADER + ENTRY * SLOTS.len());
    table.extend_from_slice(SIGNATURE);
    table.extend_from_slice(&VERSION.to_le_bytes());
    table.extend_from_slice(&((HEADER + ENTRY * SLOTS.len()) as u16).to_le_bytes());
    // The router's bus and place, and no line that belongs to PCI alone.
    table.extend_from_slice(&[0, ROUTER_DEVFN, 0, 0]);
    table.extend_from_slice(&COMPATIBLE_ROUTER.to_le_bytes());
    table.resize(HEADER, 0);
    for (number, slot) in SLOTS.into_iter().enumerate() {
        table.extend_from_slice(&[0, slot << 3]);
        for pin in 0..NUM_PIRQS {
            // A link goes by its register in the router. INTA# of slot 1 is PIRQA, and each slot starts one on.
            let link = PIRQRC + (usize::from(slot) - 1 + pin) % NUM_PIRQS;
            table.push(link as u8);
            table.extend_from_slice(&ROUTABLE.to_le_bytes());
        }
        table.extend_from_slice(&[number as u8, 0]);
    }
    table[CHECKSUM] = checksum(&table);
    table
}
