//! Hand-made images of each format, and what is wrong with them when it is.

mod multiboot_image;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const MIB: u64 = 1 << 20;
const E820: [E820Entry; 4] = [
    E820Entry { addr: 0, size: 0x9_fc00, kind: E820_RAM },
    E820Entry { addr: 0x9_fc00, size: 0x400, kind: E820_RESERVED },
    E820Entry { addr: MIB, size: 127 * MIB, kind: E820_RAM },
    E820Entry { addr: 1 << 32, size: 64 * MIB, kind: E820_RAM },
];

fn params(kernel: &str) -> KernelParams<'_> {
    KernelParams {
        kernel,
        initrd: None,
        cmdline: "console=ttyS0",
        below_4g_mem_size: 128 * MIB,
        above_4g_mem_size: 64 * MIB,
        acpi_data_size: ACPI_DATA_SIZE,
        e820: &E820,
        rsdp_addr: 0xe_0010,
    }
}

struct Dir(TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        let path: PathBuf = self.0.path().join(name);
        path.to_str().unwrap().to_owned()
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    /// A file of that length without blocks on the disk.
    fn sparse(&self, name: &str, len: u64) -> String {
        fs::File::create(self.path(name)).unwrap().set_len(len).unwrap();
        self.path(name)
    }
}

/// Loads an image with the given changes to the parameters.
fn load(bytes: &[u8], change: impl FnOnce(&Dir, &mut KernelParams)) -> Result<BootImage, LoadError> {
    let dir = Dir::new();
    let kernel = dir.file("kernel", bytes);
    let mut params = params(&kernel);
    change(&dir, &mut params);
    load_kernel(&params)
}

/// The error's text without the directory, which differs.
fn error(bytes: &[u8]) -> String {
    let text = load(bytes, |_, _| ()).unwrap_err().to_string();
    match (text.find('/'), text.rfind('/')) {
        (Some(first), Some(last)) => format!("{}{}", &text[..first], &text[last + 1..]),
        _ => text,
    }
}

fn rom(image: &BootImage, addr: u64) -> &Rom {
    image.roms.iter().find(|rom| rom.addr == addr).unwrap_or_else(|| panic!("nothing at {addr:#x}"))
}

/// The guest's memory at an address: what the ROMs put there.
fn memory(image: &BootImage, addr: u64, len: usize) -> Vec<u8> {
    let rom = image.roms.iter().find(|rom| rom.addr <= addr && addr + len as u64 <= rom.addr + rom.size);
    let rom = rom.unwrap_or_else(|| panic!("no ROM holds {addr:#x}"));
    let mut content = vec![0; usize::try_from(rom.size).unwrap()];
    match &rom.source {
        RomSource::Bytes(bytes) => content[..bytes.len()].copy_from_slice(bytes),
        RomSource::File { file, offset, len } => {
            file.read_exact_at(&mut content[..*len as usize], *offset).unwrap();
        }
    }
    let start = (addr - rom.addr) as usize;
    content[start..start + len].to_vec()
}

fn u32_at(image: &BootImage, addr: u64) -> u32 {
    u32::from_le_bytes(memory(image, addr, 4).try_into().unwrap())
}

fn u64_at(image: &BootImage, addr: u64) -> u64 {
    u64::from_le_bytes(memory(image, addr, 8).try_into().unwrap())
}

fn string_at(image: &BootImage, addr: u64) -> String {
    let byte = |addr| memory(image, addr, 1)[0];
    let bytes = (addr..).map(byte).take_while(|byte| *byte != 0).collect();
    String::from_utf8(bytes).unwrap()
}

fn put(image: &mut [u8], at: usize, value: u32) {
    image[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// The descriptors that the entry's selectors name are flat 32-bit code and data.
fn check_segments(image: &BootImage) {
    let entry = image.entry;
    assert!(u64::from(entry.gdt_base) + u64::from(entry.gdt_limit) < 0x9_fc00);
    assert!(entry.cs + 7 <= entry.gdt_limit && entry.ds + 7 <= entry.gdt_limit);
    let base = u64::from(entry.gdt_base);
    assert_eq!(u64_at(image, base), 0);
    assert_eq!(u64_at(image, base + u64::from(entry.cs)), 0x00cf_9b00_0000_ffff);
    assert_eq!(u64_at(image, base + u64::from(entry.ds)), 0x00cf_9300_0000_ffff);
}

mod linux_image {
    use super::*;

    const PAYLOAD: usize = 4096;
    const PROTOCOL: usize = 0x206;

    /// Two sectors of setup, then the payload: protocol 2.15, 16 MiB preferred, 8 MiB to work in.
    fn bzimage() -> Vec<u8> {
        let mut image = vec![0x90; 3 * 512 + PAYLOAD];
        image[..3 * 512].fill(0);
        image[0x1f1] = 2;
        put(&mut image, 0x1f4, (PAYLOAD / 16) as u32);
        image[0x201] = 0x6a;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[PROTOCOL..PROTOCOL + 2].copy_from_slice(&0x020f_u16.to_le_bytes());
        image[0x211] = 1;
        put(&mut image, 0x214, 0x10_0000);
        put(&mut image, 0x22c, 0x7fff_ffff);
        image[0x236] = 0x7f;
        put(&mut image, 0x258, 0x100_0000);
        put(&mut image, 0x260, 0x80_0000);
        image
    }

    fn with_protocol(version: u16) -> Vec<u8> {
        let mut image = bzimage();
        image[PROTOCOL..PROTOCOL + 2].copy_from_slice(&version.to_le_bytes());
        image
    }

    const ZERO_PAGE: u64 = 0x1_0000;

    #[test]
    fn enters_at_code32_start_with_the_zero_page() {
        let image = load(&bzimage(), |_, _| ()).unwrap();
        assert_eq!(image.protocol, Protocol::LinuxBzImage);
        assert_eq!(image.entry.eip, 0x10_0000);
        assert_eq!(u64::from(image.entry.esi), ZERO_PAGE);
        assert_eq!((image.entry.cs, image.entry.ds), (0x10, 0x18));
        check_segments(&image);
        assert_eq!(rom(&image, 0x10_0000).size, PAYLOAD as u64);
        assert_eq!(memory(&image, 0x10_0000, PAYLOAD), vec![0x90; PAYLOAD]);
        assert!(matches!(rom(&image, 0x10_0000).source, RomSource::File { offset: 1536, .. }));
    }

    #[test]
    fn zero_page_says_what_a_boot_loader_must() {
        let image = load(&bzimage(), |_, _| ()).unwrap();
        assert_eq!(rom(&image, ZERO_PAGE).size, 4096);
        assert_eq!(memory(&image, ZERO_PAGE + 0x202, 4), b"HdrS");
        assert_eq!(memory(&image, ZERO_PAGE + 0x210, 2), [0xb0, 0x81]);
        assert_eq!(memory(&image, ZERO_PAGE + 0x224, 2), 0xfe00_u16.to_le_bytes());
        assert_eq!(u32_at(&image, ZERO_PAGE + 0x260), 0x80_0000, "the rest of the header is the kernel's");
        assert_eq!(u32_at(&image, ZERO_PAGE + 0x218), 0, "no ramdisk");
        let cmdline = u32_at(&image, ZERO_PAGE + 0x228);
        assert_eq!(string_at(&image, cmdline.into()), "console=ttyS0");
        assert_eq!(u64_at(&image, ZERO_PAGE + 0x70), 0xe_0010, "acpi_rsdp_addr");
        assert_eq!(memory(&image, ZERO_PAGE + 0x1e8, 1), [4]);
        for (number, entry) in E820.iter().enumerate() {
            let at = ZERO_PAGE + 0x2d0 + number as u64 * 20;
            let got = (u64_at(&image, at), u64_at(&image, at + 8), u32_at(&image, at + 16));
            assert_eq!(got, (entry.addr, entry.size, entry.kind));
        }
        assert_eq!(memory(&image, ZERO_PAGE + 0x1ef, 1), [0], "sentinel: the page was cleared");
    }

    #[test]
    fn header_is_copied_as_far_as_it_goes() {
        let mut bytes = with_protocol(0x0204);
        bytes[0x201] = 0x2e; // up to 0x230
        put(&mut bytes, 0x260, u32::MAX);
        let image = load(&bytes, |_, _| ()).unwrap();
        assert_eq!(u32_at(&image, ZERO_PAGE + 0x22c), 0x7fff_ffff);
        assert_eq!(u32_at(&image, ZERO_PAGE + 0x260), 0);
        assert_eq!(u64_at(&image, ZERO_PAGE + 0x70), 0, "acpi_rsdp_addr came with 2.14");
    }

    #[test]
    fn initrd_goes_below_the_tables() {
        let image = load(&bzimage(), |dir, params| {
            params.initrd = Some(dir.file("initrd", &[7; 5000]).leak());
        })
        .unwrap();
        let (addr, size) = (u32_at(&image, ZERO_PAGE + 0x218), u32_at(&image, ZERO_PAGE + 0x21c));
        assert_eq!(size, 5000);
        assert_eq!(u64::from(addr), (128 * MIB - ACPI_DATA_SIZE - 1 - 5000) & !4095);
        assert_eq!(memory(&image, addr.into(), 5000), [7; 5000]);
    }

    #[test]
    fn initrd_obeys_the_header_limit() {
        let mut bytes = bzimage();
        bytes[0x236] = 0;
        put(&mut bytes, 0x22c, 0x3ff_ffff);
        let image = load(&bytes, |dir, params| {
            params.initrd = Some(dir.file("initrd", &[7; 4096]).leak());
        })
        .unwrap();
        assert_eq!(u32_at(&image, ZERO_PAGE + 0x218), 0x3ff_e000);
    }

    #[test]
    fn an_empty_initrd_is_none() {
        let image =
            load(&bzimage(), |dir, params| params.initrd = Some(dir.file("initrd", b"").leak())).unwrap();
        assert_eq!(u32_at(&image, ZERO_PAGE + 0x21c), 0);
        assert!(image.roms.iter().all(|rom| rom.name != "initrd"));
    }

    #[test]
    fn initrd_larger_than_memory_is_refused() {
        let text =
            load(&bzimage(), |dir, params| params.initrd = Some(dir.sparse("initrd", 200 * MIB).leak()));
        let expected = "initrd is too large, cannot support. (max: 134053887, need 209715200)";
        assert_eq!(text.unwrap_err().to_string(), expected);
        // Fits into memory, but the kernel unpacks itself over it.
        let text =
            load(&bzimage(), |dir, params| params.initrd = Some(dir.sparse("initrd", 110 * MIB).leak()));
        let max = 134_053_887 - 0x180_0000;
        let expected = format!("initrd is too large, cannot support. (max: {max}, need {})", 110 * MIB);
        assert_eq!(text.unwrap_err().to_string(), expected);
    }

    #[test]
    fn initrd_that_cannot_be_read_is_named() {
        let error = |initrd: &'static str| {
            load(&bzimage(), |_, params| params.initrd = Some(initrd)).unwrap_err().to_string()
        };
        assert_eq!(error("/nonexistent"), "error reading initrd /nonexistent: No such file or directory");
        assert_eq!(error("/dev"), "error reading initrd /dev: Is a directory");
        assert_eq!(error("/dev/zero"), "error reading initrd /dev/zero: not a regular file");
    }

    #[test]
    fn video_mode_is_passed_on_or_refused() {
        let mode = |cmdline: &'static str| {
            load(&bzimage(), |_, params| params.cmdline = cmdline)
                .map(|image| u16::from_le_bytes(memory(&image, ZERO_PAGE + 0x1fa, 2).try_into().unwrap()))
        };
        assert_eq!(mode("quiet vga=0x317 root=/dev/vda").unwrap(), 0x317);
        assert_eq!(mode("vga=791").unwrap(), 791);
        assert_eq!(mode("vga=normal").unwrap(), 0xffff);
        assert_eq!(mode("vga=ext").unwrap(), 0xfffe);
        assert_eq!(mode("vga=ask").unwrap(), 0xfffd);
        for bad in ["vga=", "vga=foo", "vga=1x", "vga=0x100000000"] {
            assert_eq!(mode(bad).unwrap_err().to_string(), "invalid 'vga=' kernel parameter.");
        }
    }

    #[test]
    fn damaged_and_ancient_images_are_refused() {
        let mut bytes = bzimage();
        bytes[0x1f1] = 100;
        assert_eq!(error(&bytes), "could not load kernel 'kernel': invalid kernel header");
        let bytes = bzimage();
        let expected = "could not load kernel 'kernel': truncated file (need 5632 bytes, have 5000)";
        assert_eq!(error(&bytes[..5000]), expected);
        let expected =
            "could not load kernel 'kernel': boot protocol 2.01 is too old, or the kernel is a zImage";
        assert_eq!(error(&with_protocol(0x201)), expected);
        let mut bytes = bzimage();
        bytes[0x211] = 0;
        assert!(error(&bytes).ends_with("or the kernel is a zImage"));
        let old = load(&with_protocol(0x1ff), |_, params| params.initrd = Some("/dev/null"));
        assert_eq!(old.unwrap_err().to_string(), "linux kernel too old to load a ram disk");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let long = "x".repeat(0x8_0000).leak();
        let text = load(&bzimage(), |_, params| params.cmdline = long).unwrap_err().to_string();
        assert_eq!(text, "kernel command line is too long (max: 523264, need 524289)");
        let text = load(&bzimage(), |_, params| params.below_4g_mem_size = 16 * MIB).unwrap_err().to_string();
        assert!(text.ends_with("does not fit into guest memory (0x1000000 to 0x1800000)"), "{text}");
        let old = with_protocol(0x204);
        let text = load(&old, |_, params| params.below_4g_mem_size = MIB + 4095).unwrap_err().to_string();
        assert!(text.ends_with("does not fit into guest memory (0x100000 to 0x101000)"), "{text}");
        let many = vec![E820[0]; 129].leak();
        let text = load(&bzimage(), |_, params| params.e820 = many).unwrap_err().to_string();
        assert_eq!(text, "the memory map has 129 entries, too many for the kernel's boot protocol");
    }

    proptest! {
        #[test]
        fn any_header_is_loaded_or_refused(
            changes in prop::collection::vec((0x1f0_usize..0x270, any::<u8>()), 0..12),
            len in 0_usize..5632, initrd in 0..200 * MIB,
        ) {
            let mut bytes = bzimage();
            for (at, value) in changes {
                bytes[at] = value;
            }
            bytes.truncate(5632 - len / 8);
            let _ = load(&bytes, |dir, params| params.initrd = Some(dir.sparse("initrd", initrd).leak()));
        }
    }
}

/// A 32- or 64-bit ELF file: one segment with bss, and a PVH note.
fn elf_image(is_64: bool, machine: u16) -> Vec<u8> {
    let mut image = vec![0; 0x1000];
    image[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', if is_64 { 2 } else { 1 }, 1, 1]);
    image[18..20].copy_from_slice(&machine.to_le_bytes());
    // Segments: type, flags, offset, vaddr, paddr, filesz, memsz, align. Text is virtual at 0xc0000000 up.
    let segments =
        [[1, 5, 0x800, 0xc020_0000_u64, 0x20_0000, 0x800, 0x3000, 0x1000], [4, 4, 0x400, 0, 0, 48, 48, 4]];
    if is_64 {
        image[24..32].copy_from_slice(&0xc020_0010_u64.to_le_bytes());
        image[32..40].copy_from_slice(&64_u64.to_le_bytes());
        image[54..58].copy_from_slice(&[56, 0, 2, 0]);
        for (number, [kind, flags, rest @ ..]) in segments.iter().enumerate() {
            let at = 64 + number * 56;
            put(&mut image, at, *kind as u32);
            put(&mut image, at + 4, *flags as u32);
            for (field, value) in rest.iter().enumerate() {
                let at = at + 8 + field * 8;
                image[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
        }
    } else {
        put(&mut image, 24, 0xc020_0010);
        put(&mut image, 28, 52);
        image[42..46].copy_from_slice(&[32, 0, 2, 0]);
        for (number, [kind, flags, offset, vaddr, paddr, filesz, memsz, align]) in segments.iter().enumerate()
        {
            let fields = [kind, offset, vaddr, paddr, filesz, memsz, flags, align];
            for (field, value) in fields.into_iter().enumerate() {
                put(&mut image, 52 + number * 32 + field * 4, *value as u32);
            }
        }
    }
    // A note of another owner, then Xen's.
    let notes = [
        [4, 8, 18, u32::from_le_bytes(*b"GNU\0"), 1, 1],
        [4, 8, 18, u32::from_le_bytes(*b"Xen\0"), 0x20_0040, 0],
    ];
    for (number, word) in notes.iter().flatten().enumerate() {
        put(&mut image, 0x400 + number * 4, *word);
    }
    image[0x800..].fill(0xcc);
    image
}

const EM_386: u16 = 3;
const EM_X86_64: u16 = 62;

mod pvh_image {
    use super::*;

    #[test]
    fn enters_at_the_note_with_the_start_info() {
        for (is_64, machine) in [(true, EM_X86_64), (false, EM_386)] {
            let image = load(&elf_image(is_64, machine), |_, _| ()).unwrap();
            assert_eq!(image.protocol, Protocol::Pvh);
            assert_eq!(image.entry.eip, 0x20_0040);
            check_segments(&image);
            let info = u64::from(image.entry.ebx);
            assert_eq!(u32_at(&image, info), 0x336e_c578);
            assert_eq!(u32_at(&image, info + 4), 1);
            assert_eq!(u32_at(&image, info + 12), 0, "no modules");
            assert_eq!(string_at(&image, u64_at(&image, info + 24)), "console=ttyS0");
            assert_eq!(u64_at(&image, info + 32), 0xe_0010);
            assert_eq!(u32_at(&image, info + 48), 4);
            let map = u64_at(&image, info + 40);
            assert_eq!((u64_at(&image, map + 24), u64_at(&image, map + 32)), (0x9_fc00, 0x400));
            assert_eq!(u32_at(&image, map + 40), E820_RESERVED);
        }
    }

    #[test]
    fn segments_are_loaded_with_their_bss() {
        let image = load(&elf_image(true, EM_X86_64), |_, _| ()).unwrap();
        let rom = rom(&image, 0x20_0000);
        assert_eq!((rom.size, rom.source.len()), (0x3000, 0x800));
        let content = memory(&image, 0x20_0000, 0x3000);
        assert!(
            content[..0x800].iter().all(|byte| *byte == 0xcc)
                && content[0x800..].iter().all(|byte| *byte == 0)
        );
    }

    #[test]
    fn initrd_is_the_first_module() {
        let image = load(&elf_image(true, EM_X86_64), |dir, params| {
            params.initrd = Some(dir.file("initrd", &[9; 10]).leak());
        })
        .unwrap();
        let info = u64::from(image.entry.ebx);
        assert_eq!(u32_at(&image, info + 12), 1);
        let module = u64_at(&image, info + 16);
        let addr = u64_at(&image, module);
        assert_eq!(u64_at(&image, module + 8), 10);
        assert_eq!(addr, (128 * MIB - ACPI_DATA_SIZE - 1 - 10) & !4095);
        assert_eq!(memory(&image, addr, 10), [9; 10]);
    }

    #[test]
    fn elf_files_that_are_no_kernels_are_refused() {
        let mut bytes = elf_image(true, EM_X86_64);
        put(&mut bytes, 0x400 + 20 + 12, 0);
        let refused = |bytes: &[u8], reason: &str| {
            assert_eq!(error(bytes), format!("could not load kernel 'kernel': {reason}"));
        };
        refused(&bytes, "Error loading uncompressed kernel without PVH ELF Note");
        refused(&elf_image(true, 183), "Error while loading elf kernel: not an x86 image");
        let mut bytes = elf_image(true, EM_X86_64);
        bytes[5] = 2;
        refused(&bytes, "Error while loading elf kernel");
        let mut bytes = elf_image(true, EM_X86_64);
        put(&mut bytes, 48, 4);
        refused(&bytes, "elfboot unsupported flags = 4");
        let bytes = elf_image(true, EM_X86_64);
        refused(&bytes[..0xa00], "truncated file (need 4096 bytes, have 2560)");
        refused(&bytes[..100], "Error while loading elf kernel");
    }

    #[test]
    fn segments_may_lie_above_4_gib() {
        let mut bytes = elf_image(true, EM_X86_64);
        bytes[64 + 24..64 + 32].copy_from_slice(&(1_u64 << 32).to_le_bytes());
        let image = load(&bytes, |_, _| ()).unwrap();
        assert_eq!(rom(&image, 1 << 32).size, 0x3000);
        let text = load(&bytes, |_, params| params.above_4g_mem_size = 0x2000).unwrap_err().to_string();
        assert!(text.ends_with("guest memory (0x100000000 to 0x100003000)"), "{text}");
    }

    #[test]
    fn segments_outside_memory_or_on_each_other_are_refused() {
        let with_paddr = |paddr: u64| {
            let mut bytes = elf_image(true, EM_X86_64);
            bytes[64 + 24..64 + 32].copy_from_slice(&paddr.to_le_bytes());
            error(&bytes)
        };
        assert!(with_paddr(128 * MIB - 0x1000).ends_with("guest memory (0x7fff000 to 0x8002000)"));
        assert!(with_paddr(0x9_f000).ends_with("guest memory (0x9f000 to 0xa2000)"));
        assert!(with_paddr(0x1_f000).contains("rom: requested regions overlap (rom cmdline."));
        assert!(with_paddr(u64::MAX).ends_with("Error while loading elf kernel"));
    }

    proptest! {
        #[test]
        fn any_headers_are_loaded_or_refused(
            changes in prop::collection::vec((0_usize..0x430, any::<u8>()), 0..12),
            is_64: bool, len in 0_usize..0x1000,
        ) {
            let mut bytes = elf_image(is_64, if is_64 { EM_X86_64 } else { EM_386 });
            for (at, value) in changes {
                bytes[if at < 0xb0 { at } else { 0x400 + at % 0x30 }] = value;
            }
            bytes.truncate(0x1000 - len / 8);
            let _ = load(&bytes, |_, _| ());
        }
    }
}

#[test]
fn what_is_no_kernel_is_refused() {
    assert_eq!(error(b""), "could not load kernel 'kernel': the file is empty");
    let unknown = "could not load kernel 'kernel': not a bzImage, Multiboot or ELF kernel";
    assert_eq!(error(b"hello"), unknown);
    assert_eq!(error(&[0; 100_000]), unknown);
    let text = load_kernel(&params("/nonexistent")).unwrap_err().to_string();
    assert_eq!(text, "could not open kernel file '/nonexistent': No such file or directory");
}

#[test]
fn contents_stay_in_their_files() {
    let image = load(&elf_image(true, EM_X86_64), |dir, params| {
        params.initrd = Some(dir.sparse("initrd", 64 * MIB).leak());
    })
    .unwrap();
    let held: u64 =
        image.roms.iter().filter(|rom| matches!(rom.source, RomSource::Bytes(_))).map(|rom| rom.size).sum();
    assert!(held < 16 * 1024, "{held} bytes in our own memory");
}
