//! The program's own pages.

use std::ffi::c_void;
use std::io;

use rustix::mm::Advice;

/// Takes the program's code out of its memory map: what only the start-up needed does not count as the program's
/// any more, and what is called from then on comes back from the page cache, in pieces of some pages.
///
/// # Errors
/// When `/proc/self/maps` cannot be read, or the host refuses the advice.
pub fn release_program_code() -> io::Result<()> {
    for (start, end) in std::fs::read_to_string("/proc/self/maps")?.lines().filter_map(code) {
        // SAFETY: the kernel's list says that this range is mapped from a file, private and not writable. Nothing is
        // lost with its pages: whoever touches one, this very function too, has it read from the file again.
        #[allow(unsafe_code)]
        unsafe {
            rustix::mm::madvise(start as *mut c_void, end - start, Advice::LinuxDontNeed)?;
        }
    }
    Ok(())
}

/// Start and end of the mapping that a line of `/proc/self/maps` tells of, if it is code from a file.
fn code(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let (permissions, inode) = (words.next()?, words.nth(2)?);
    let address = |text| usize::from_str_radix(text, 16).ok();
    (permissions == "r-xp" && inode != "0").then_some((address(start)?, address(end)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_from_files_goes() {
        assert_eq!(
            code("0033a000-0099c000 r-xp 00139000 fe:00 1835026    /usr/bin/softmmu"),
            Some((0x33_a000, 0x99_c000))
        );
        assert_eq!(code("0099c000-009a1000 r--p 0079b000 fe:00 1835026    /usr/bin/softmmu"), None);
        assert_eq!(code("7f17023a6000-7f17023a8000 r-xp 00000000 00:00 0    [vdso]"), None);
        assert_eq!(code("nonsense"), None);
    }

    #[test]
    fn the_program_goes_on_without_its_pages() {
        release_program_code().unwrap();
        assert_eq!("still here".split(' ').count(), 2);
    }
}
