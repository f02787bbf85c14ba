//! `x` and `xp`: memory as the guest's programs or its hardware see it (monitor/misc.c, `memory_dump`).

use std::sync::Arc;

use iced_x86::{Decoder, DecoderError, DecoderOptions, Formatter, GasFormatter, OpKind};
use memory::{MemTxResult, address_space_memory};
use qom::Object;

use super::args::{Args, Format};
use super::session::{Session, out};
use super::x86::{self, PAGE_SIZE};

pub(crate) fn physical_memory(mon: &mut Session, args: &Args) -> Result<(), String> {
    dump(mon, args, &mut |address, data| address_space_memory().read(address, data) == MemTxResult::Ok);
    Ok(())
}

pub(crate) fn virtual_memory(mon: &mut Session, args: &Args) -> Result<(), String> {
    let cpu = mon.cpu().ok_or("Can not dump without CPU")?;
    let mut page = None;
    dump(mon, args, &mut |address, data| read_virtual(&cpu, &mut page, address, data));
    Ok(())
}

/// Reads where the page tables of `cpu` lead; `page` remembers the page used last.
fn read_virtual(cpu: &Arc<dyn Object>, page: &mut Option<(u64, u64)>, address: u64, data: &mut [u8]) -> bool {
    let mut at = address;
    let mut rest = data;
    while !rest.is_empty() {
        let start = at - at % PAGE_SIZE;
        if page.is_none_or(|(known, _)| known != start) {
            *page = x86::translate(cpu, start).map(|physical| (start, physical));
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

type Read<'a> = &'a mut dyn FnMut(u64, &mut [u8]) -> bool;

fn dump(mon: &mut Session, args: &Args, read: Read<'_>) {
    let Format { count, letter, size } = args.format();
    let mut address = args.unsigned("addr");
    if letter == 'i' {
        return disassemble(mon, count, address, read);
    }
    let size = size.unwrap_or(4);
    let line = if size == 1 { 8 } else { 16 };
    // Characters are bytes, as many as items of the size would have.
    let (count, size) = if letter == 'c' { (count.saturating_mul(size as u64), 1) } else { (count, size) };
    let mut left = count;
    let mut data = [0; 16];
    while left > 0 && !mon.is_full() {
        let items = left.min((line / size) as u64);
        let data = &mut data[..items as usize * size];
        out!(mon, "{address:016x}:");
        if !read(address, data) {
            mon.print(" Cannot access memory\n");
            return;
        }
        for item in data.chunks_exact(size) {
            out!(mon, " {}", show(letter, item));
        }
        mon.print("\n");
        address = address.wrapping_add(data.len() as u64);
        left -= items;
    }
}

/// The longest instruction that a CPU takes.
const LONGEST: usize = 15;

/// Instructions in AT&T's syntax, of the kind that the CPU is at (`monitor_disas`).
fn disassemble(mon: &mut Session, count: u64, mut address: u64, read: Read<'_>) {
    let bits = mon.cpu().and_then(|cpu| x86::code_bits(&cpu)).unwrap_or(16);
    let mut formatter = GasFormatter::new();
    let options = formatter.options_mut();
    options.set_space_after_operand_separator(true);
    options.set_first_operand_char_index(9);
    options.set_gas_show_mnemonic_size_suffix(true);
    options.set_uppercase_hex(false);
    options.set_gas_space_after_memory_operand_comma(true);
    let mut left = count;
    while left > 0 && !mon.is_full() {
        let mut code = [0; LONGEST];
        // Byte by byte: the memory may end behind the instruction.
        let there =
            (0..LONGEST).take_while(|&at| read(address.wrapping_add(at as u64), &mut code[at..=at])).count();
        let code = &code[..there];
        let mut decoder = Decoder::with_ip(bits, code, address, DecoderOptions::NONE);
        let instruction = decoder.decode();
        if there == 0 || decoder.last_error() == DecoderError::NoMoreBytes {
            out!(mon, "{address:#010x}: unable to read memory\n");
            return;
        }
        let len = instruction.len().clamp(1, there);
        let bytes = code[..len].iter().map(|byte| format!("{byte:02x} ")).collect::<String>();
        let mut text = String::new();
        if instruction.is_invalid() {
            text.push_str(&format!(".byte    {:#04x}", code[0]));
        } else {
            formatter.format(&instruction, &mut text);
            if instruction.op_count() == 1
                && matches!(instruction.op0_kind(), OpKind::FarBranch16 | OpKind::FarBranch32)
            {
                text = text.replace(", ", ":");
            }
        }
        out!(mon, "{address:#010x}:  {bytes:<24} {text}\n");
        address = address.wrapping_add(len as u64);
        left -= 1;
    }
}

/// As C's `%#x` has it: 0 has no prefix.
pub(crate) fn hexadecimal(value: u64) -> String {
    if value == 0 { "0".to_owned() } else { format!("{value:#x}") }
}

/// `print`: the value of an expression.
pub(crate) fn print(mon: &mut Session, args: &Args) -> Result<(), String> {
    let value = args.unsigned("val");
    match args.format().letter {
        'o' if value == 0 => mon.print("0"),
        'o' => out!(mon, "0{value:o}"),
        'x' => mon.print(&hexadecimal(value)),
        'u' => out!(mon, "{value}"),
        'c' => mon.print(&character(value as u32)),
        _ => out!(mon, "{}", value as i64),
    }
    mon.print("\n");
    Ok(())
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
        'c' => character(value as u32),
        _ => format!("0x{value:0width$x}", width = bits / 4),
    }
}

/// A value as a character; one that is none, in hexadecimal, however large.
fn character(value: u32) -> String {
    match u8::try_from(value) {
        Ok(b'\n') => "'\\n'".to_owned(),
        Ok(b'\r') => "'\\r'".to_owned(),
        Ok(byte @ (b'\'' | b'\\')) => format!("'\\{}'", char::from(byte)),
        Ok(byte @ b' '..=b'~') => format!("'{}'", char::from(byte)),
        _ => format!("'\\x{value:02x}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::args::parse;
    use super::*;

    fn xp(text: &str) -> Args {
        parse("xp", "fmt:/,addr:l", text, &|_| None).unwrap()
    }

    /// Reads a reset vector that ends at 4 GiB, as QEMU's monitor showed the same bytes.
    fn dumped(text: &str) -> String {
        const BYTES: [u8; 16] =
            [0xea, 0x5b, 0xe0, 0, 0xf0, 0x30, 0x36, 0x2f, 0x32, 0x33, 0x2f, 0x39, 0x39, 0, 0xfc, 0];
        let args = xp(text);
        let mut mon = Session::default();
        dump(&mut mon, &args, &mut |address, data| {
            let at = address.wrapping_sub(0xffff_fff0) as usize;
            let Some(bytes) = BYTES.get(at..at.saturating_add(data.len())) else { return false };
            data.copy_from_slice(bytes);
            true
        });
        mon.into_text()
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
            ("/4cb 0xfffffff0", "00000000fffffff0: '\\xea' '[' '\\xe0' '\\x00'\n"),
            // As many bytes as four items of the size have.
            ("/1cw 0xfffffff0", "00000000fffffff0: '\\xea' '[' '\\xe0' '\\x00'\n"),
            ("/x 0xfffffff8", "00000000fffffff8: 0x392f3332\n"),
            ("/2x 0x100000000", "0000000100000000: Cannot access memory\n"),
            ("/0x 0", ""),
            ("/ih 0xfffffff0", "0xfffffff0:  ea 5b e0 00 f0           ljmpw    $0xf000:$0xe05b\n"),
            (
                "/2iw 0xfffffffd",
                "0xfffffffd:  00 fc                    addb     %bh, %ah\n0xffffffff: unable to read memory\n",
            ),
        ] {
            assert_eq!(dumped(line), text, "{line}");
        }
        assert_eq!(show('d', &[0xff]), " -1");
        assert_eq!(show('d', &[0xfe; 8]), "  -72340172838076674");
    }

    #[test]
    fn a_count_without_end_stops_at_the_limit() {
        let args = xp("/99999999999999999999999xb 0");
        let mut mon = Session::default();
        dump(&mut mon, &args, &mut |_, _| true);
        assert!(mon.into_text().ends_with("(output too long, cut here)\n"));
    }
}
