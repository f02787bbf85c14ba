//! What interrupt controllers say of themselves to people (QEMU's `hw/intc/intc.c`).

use qom::Interface;

/// A controller that `info irq` and `info pic` ask.
pub trait InterruptStatsProvider: Send + Sync {
    /// How often each line was raised since the start; `None` when nobody counts. A controller in the kernel
    /// counts for itself: all are 0 here.
    fn statistics(&self) -> Option<Vec<u64>>;
    /// Its state, in lines.
    fn info(&self) -> Option<String>;
}

impl Interface for dyn InterruptStatsProvider {
    const TYPE_NAME: &'static str = "intctrl";
}
qom::type_init!(fn register);

fn register() {
    qom::type_register(qom::TypeInfo::interface::<dyn InterruptStatsProvider>());
}

/// What people are told of an 8259A.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PicInfo {
    /// 0 for the master, 1 for the slave.
    pub number: u8,
    /// Requests.
    pub irr: u8,
    /// The mask.
    pub imr: u8,
    /// In service.
    pub isr: u8,
    /// The input with the highest priority.
    pub priority_add: u8,
    /// The vector of input 0.
    pub irq_base: u8,
    /// Whether the next read gives the ISR.
    pub read_reg_select: bool,
    /// Inputs that are level-triggered.
    pub elcr: u8,
    /// The special fully nested mode.
    pub special_fully_nested: bool,
}

impl PicInfo {
    /// A line (`pic_print_info`).
    pub fn text(&self) -> String {
        format!(
            "pic{}: irr={:02x} imr={:02x} isr={:02x} hprio={} irq_base={:02x} rr_sel={} elcr={:02x} fnm={}\n",
            self.number,
            self.irr,
            self.imr,
            self.isr,
            self.priority_add,
            self.irq_base,
            u8::from(self.read_reg_select),
            self.elcr,
            u8::from(self.special_fully_nested),
        )
    }
}

/// Parts of an I/O APIC's redirection entry (Intel 82093AA data sheet, 3.2.4).
mod redirection {
    pub const DELIVERY_MODES: [&str; 8] = ["fixed", "lowest", "SMI", "...", "NMI", "INIT", "...", "extINT"];
    pub const DELIVERY_MODE_SHIFT: u32 = 8;
    pub const LOGICAL: u64 = 1 << 11;
    pub const ACTIVE_LOW: u64 = 1 << 13;
    pub const REMOTE_IRR: u64 = 1 << 14;
    pub const LEVEL: u64 = 1 << 15;
    pub const MASKED: u64 = 1 << 16;
    pub const DESTINATION_SHIFT: u32 = 56;
    /// The register of the first entry's low half.
    pub const FIRST_REGISTER: u32 = 0x10;
}

/// The state of an I/O APIC in lines: its version and id, the register selected, requests, and the redirection
/// table (`ioapic_print_redtbl`).
pub fn ioapic_info(version: u8, id: u8, selected: u8, irr: u32, table: &[u64]) -> String {
    use redirection as r;
    let mut text = format!("ioapic0: ver={version:#x} id={id:#04x} sel={selected:#04x}");
    if selected > 0 {
        text.push_str(&format!(" (redir[{}])", u32::from(selected).wrapping_sub(r::FIRST_REGISTER) >> 1));
    }
    text.push('\n');
    let mut remote_irr = 0_u32;
    for (pin, &entry) in table.iter().enumerate().take(32) {
        let is = |bit, yes, no| if entry & bit != 0 { yes } else { no };
        let destination = entry >> r::DESTINATION_SHIFT & if entry & r::LOGICAL != 0 { 0xff } else { 0xf };
        let mode = r::DELIVERY_MODES[(entry >> r::DELIVERY_MODE_SHIFT & 7) as usize];
        text.push_str(&format!(
            "  pin {pin:<2} {entry:#018x} dest={destination:x} vec={:<3} {} {:<5} {:<6} {mode:<6} {}\n",
            entry & 0xff,
            is(r::ACTIVE_LOW, "active-lo", "active-hi"),
            is(r::LEVEL, "level", "edge"),
            is(r::MASKED, "masked", ""),
            is(r::LOGICAL, "logical", "physical"),
        ));
        remote_irr |= u32::from(entry & r::REMOTE_IRR != 0) << pin;
    }
    for (name, bits) in [("  IRR", irr), ("  Remote IRR", remote_irr)] {
        let set: String = (0..32).filter(|n| bits >> n & 1 != 0).map(|n| format!("{n:<2} ")).collect();
        text.push_str(&format!("{name:<10} {}\n", if set.is_empty() { "(none)" } else { &set }));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_read_as_qemus() {
        let pic = PicInfo { irr: 0x10, imr: 0xb8, irq_base: 8, read_reg_select: true, ..PicInfo::default() };
        assert_eq!(pic.text(), "pic0: irr=10 imr=b8 isr=00 hprio=0 irq_base=08 rr_sel=1 elcr=00 fnm=0\n");
        assert_eq!(
            ioapic_info(0x11, 0, 0x22, 1 << 4, &[0x1_0000, 0x300_0000_0000_0000 | 0xe031]),
            "ioapic0: ver=0x11 id=0x00 sel=0x22 (redir[9])\n\
             \x20 pin 0  0x0000000000010000 dest=0 vec=0   active-hi edge  masked fixed  physical\n\
             \x20 pin 1  0x030000000000e031 dest=3 vec=49  active-lo level        fixed  physical\n\
             \x20 IRR      4  \n  Remote IRR 1  \n"
        );
    }
}
