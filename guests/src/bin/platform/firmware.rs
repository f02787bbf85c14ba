//! fw_cfg: signature, features, directory, both ways of reading.

use kit::check::{equal, fail, holds};
use kit::io::{inb, inl};
use kit::{acpi, fw_cfg, say};

pub fn check() {
    fw_cfg::select(fw_cfg::SIGNATURE);
    equal("fw-cfg-signature", u32::from_be_bytes(fw_cfg::read_bytes()).into(), 0x5145_4d55);
    // Past an item's end there is nothing.
    equal("fw-cfg-past-end", inb(0x511).into(), 0);
    fw_cfg::select(fw_cfg::ID);
    equal("fw-cfg-id", u32::from_le_bytes(fw_cfg::read_bytes()).into(), 3);
    let dma = u64::from(u32::from_be(inl(fw_cfg::DMA))) << 32 | u64::from(u32::from_be(inl(fw_cfg::DMA + 4)));
    equal("fw-cfg-dma-signature", dma, 0x5145_4d55_2043_4647);
    fw_cfg::select(0x3fff);
    equal("fw-cfg-absent-key", inb(0x511).into(), 0);
    directory();
    files();
}

fn directory() {
    let mut last = [0; 56];
    let (mut sorted, mut keys) = (true, true);
    for i in 0..fw_cfg::file_count() {
        let file = fw_cfg::next_file();
        say!("file ", file.name(), " size ", u64::from(file.size));
        sorted &= last < file.name;
        keys &= u32::from(file.key) == 0x20 + i;
        last = file.name;
    }
    holds("fw-cfg-directory-sorted", sorted, 0);
    holds("fw-cfg-keys-in-order", keys, 0);
}

fn files() {
    for name in [
        "bootorder",
        "etc/acpi/rsdp",
        "etc/acpi/tables",
        "etc/e820",
        "etc/smbios/smbios-anchor",
        "etc/smbios/smbios-tables",
        "etc/table-loader",
    ] {
        if fw_cfg::find(name).is_none() {
            say!("no file ", name);
            fail("fw-cfg-file", 0);
        }
    }
    let Some(file) = fw_cfg::find("etc/acpi/tables") else { return };
    let mut bytes = [0; 64];
    equal("fw-cfg-dma-control", fw_cfg::dma_read(file.key, &mut bytes).into(), 0);
    fw_cfg::select(file.key);
    equal("fw-cfg-dma-same-as-port", u64::from(fw_cfg::read_bytes() == bytes), 1);
    equal("fw-cfg-dma-tables", u64::from(bytes.starts_with(b"FACS") || bytes.starts_with(b"DSDT")), 1);
    let mut signature = [0; 8];
    fw_cfg::dma_read(fw_cfg::SIGNATURE, &mut signature);
    equal("fw-cfg-dma-zeroes-past-end", u64::from_be_bytes(signature), 0x5145_4d55_0000_0000);
    holds("rsdp", acpi::rsdp().is_some(), 0);
}
