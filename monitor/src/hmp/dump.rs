//! `x` and `xp`: memory as the guest's programs or its hardware see it (monitor/misc.c, `memory_dump`).

use std::sync::Arc;

use hw_core::cpu::cpu_list;
use memory::{MemTxResult, address_space_memory};
use qom::Object;

use super::args::{Args, Format};
use super::info::on_cpu;
use super::output::{Output, out};

const PAGE_SIZE: u64 = 4096;

pub(crate) fn physical_memory(output: &mut Output, args: &Args) -> Result<(), String> {
    dump(output, args, &mut |address, data| address_space_memory().read(address, data) == MemTxResult::Ok);
    Ok(())
}

pub(crate) fn virtual_memory(output: &mut Output, args: &Args) -> Result<(), String> {
    let cpu = cpu_list().into_iter().next().ok_or("Can not dump without CPU")?;
    let mut page = None;
    dump(output, args, &mut |address, data| read_virtual(&cpu, &mut page, address, data));
    Ok(())
}

/// Reads where the page tables of `cpu` lead; `page` remembers the page used last.
fn read_virtual(cpu: &Arc<dyn Object>, page: &mut Option<(u64, u64)>, address: u64, data: &mut [u8]) -> bool {
    let mut at = address;
    let mut rest = data;
    while !rest.is_empty() {
        let start = at - at % PAGE_SIZE;
        if page.is_none_or(|(known, _)| known != start) {
            *page = translate(cpu, start).map(|physical| (start, physical));
        }
        let Some((_, physical)) = *page else { return false };
        let len = rest.len().min((PAGE_SIZE - at % PAGE_SIZE) as usize);
        let (now, later) = rest.split_at_mut(len);
        if address_space_memory().read(physical + at % PAGE_SIZE, now) != MemTxResult::Ok {
            return false;
        }
        at = at.wrapping_add(len as u64);
        rest = later;
    }
    true
}

fn translate(cpu: &Arc<dyn Object>, address: u64) -> Option<u64> {
    let translation = on_cpu(cpu, move || accel_kvm::with_current_vcpu(|vcpu| vcpu.translate_gva(address)))??;
    translation.ok().filter(|t| t.valid != 0).map(|t| t.physical_address)
}

fn dump(output: &mut Output, args: &Args, read: &mut dyn FnMut(u64, &mut [u8]) -> bool) {
    let Format { count, letter, size } = args.format;
    let mut address = args.number.unwrap_or_default();
    if letter == 'i' {
        out!(output, "{address:#018x}: Asm output not supported on this arch\n");
        return;
    }
    let line = if size == 1 { 8 } else { 16 };
    let size = if letter == 'c' { 1 } else { size };
    let mut left = count;
    let mut data = [0; 16];
    while left > 0 && !output.is_full() {
        let items = left.min((line / size) as u64);
        let data = &mut data[..items as usize * size];
        out!(output, "{address:016x}:");
        if !read(address, data) {
            output.print(" Cannot access memory\n");
            return;
        }
        for item in data.chunks_exact(size) {
            out!(output, " {}", show(letter, item));
        }
        output.print("\n");
        address = address.wrapping_add(data.len() as u64);
        left -= items;
    }
}

/// An item of memory, least significant byte first, as wide as any of its size.
fn show(letter: char, item: &[u8]) -> String {
    let value = item.iter().rev().fold(0, |value: u64, &byte| value << 8 | u64::from(byte));
    let bits = 8 * item.len();
    let decimal_width = (bits * 10).div_ceil(33);
    match letter {
        'o' => {
            let digits = if value == 0 { "0".to_owned() } else { format!("0{value:o}") };
            format!("{digits:>width$}", width = bits.div_ceil(3))
        }
        'u' => format!("{value:>decimal_width$}"),
        'd' => format!("{:>decimal_width$}", (value << (64 - bits)) as i64 >> (64 - bits)),
        'c' => character(value as u8),
        _ => format!("0x{value:0width$x}", width = bits / 4),
    }
}

fn character(byte: u8) -> String {
    match byte {
        b'\n' => "'\\n'".to_owned(),
        b'\r' => "'\\r'".to_owned(),
        b'\'' | b'\\' => format!("'\\{}'", char::from(byte)),
        b' '..=b'~' => format!("'{}'", char::from(byte)),
        _ => format!("'\\x{byte:02x}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use super::args::{Arg, parse};

    /// Reads a reset vector that ends at 4 GiB, as QEMU's monitor showed the same bytes.
    fn dumped(text: &str) -> String {
        const BYTES: [u8; 16] =
            [0xea, 0x5b, 0xe0, 0, 0xf0, 0x30, 0x36, 0x2f, 0x32, 0x33, 0x2f, 0x39, 0x39, 0, 0xfc, 0];
        let args = parse("xp", &[Arg::Format, Arg::Expression], text).unwrap();
        let mut output = Output::default();
        dump(&mut output, &args, &mut |address, data| {
            let at = address.wrapping_sub(0xffff_fff0) as usize;
            let Some(bytes) = BYTES.get(at..at.saturating_add(data.len())) else { return false };
            data.copy_from_slice(bytes);
            true
        });
        output.into_text()
    }

    #[test]
    fn the_layout_is_qemus() {
        for (line, text) in [
            (
                "/9xb 0xfffffff0",
                "00000000fffffff0: 0xea 0x5b 0xe0 0x00 0xf0 0x30 0x36 0x2f\n00000000fffffff8: 0x32\n",
            ),
            ("/2dg 0xfffffff0", "00000000fffffff0:  3401960375889976298    70931939903615794\n"),
            ("/2uh 0xfffffff0", "00000000fffffff0: 23530   224\n"),
            ("/2ow 0xfffffff0", "00000000fffffff0:   070055752 05715430360\n"),
            ("/4c 0xfffffff0", "00000000fffffff0: '\\xea' '[' '\\xe0' '\\x00'\n"),
            ("0xfffffff8", "00000000fffffff8: 0x392f3332\n"),
            ("/2x 0x100000000", "0000000100000000: Cannot access memory\n"),
            ("/0x 0", ""),
        ] {
            assert_eq!(dumped(line), text, "{line}");
        }
        assert_eq!(show('d', &[0xff]), " -1");
        assert_eq!(show('d', &[0xfe; 8]), "  -72340172838076674");
    }

    #[test]
    fn a_count_without_end_stops_at_the_limit() {
        let args = parse("xp", &[Arg::Format, Arg::Expression], "/99999999999999999999999xb 0").unwrap();
        let mut output = Output::default();
        dump(&mut output, &args, &mut |_, _| true);
        assert!(output.into_text().ends_with("(output too long, cut here)\n"));
    }
}
