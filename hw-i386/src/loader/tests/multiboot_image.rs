//! Multiboot kernels.

use super::*;

const HEADER: usize = 0x200;

/// A Multiboot header at 0x200 of the image.
fn add_header(image: &mut [u8], flags: u32, addresses: [u32; 5]) {
    put(image, HEADER, 0x1bad_b002);
    put(image, HEADER + 4, flags);
    put(image, HEADER + 8, 0_u32.wrapping_sub(0x1bad_b002).wrapping_sub(flags));
    for (number, value) in addresses.into_iter().enumerate() {
        put(image, HEADER + 12 + number * 4, value);
    }
}

/// Header, load, load end, bss end, entry: the image from its start at 1 MiB.
fn kludge(addresses: [u32; 5]) -> Vec<u8> {
    let mut image = vec![0xee; 0x1800];
    add_header(&mut image, 0x1_0003, addresses);
    image
}

const ADDRESSES: [u32; 5] = [0x10_0200, 0x10_0000, 0x10_1800, 0x10_4000, 0x10_0300];

#[test]
fn enters_with_the_magic_and_the_information() {
    let dir = Dir::new();
    let kernel = dir.file("kernel", &kludge(ADDRESSES));
    let image = load_kernel(&params(&kernel)).unwrap();
    assert_eq!(image.protocol, Protocol::Multiboot);
    assert_eq!((image.entry.eip, image.entry.eax), (0x10_0300, 0x2bad_b002));
    check_segments(&image);
    let info = u64::from(image.entry.ebx);
    assert_eq!(u32_at(&image, info), 0x24f);
    assert_eq!(u32_at(&image, info + 4), 639);
    assert_eq!(u32_at(&image, info + 8), 127 * 1024);
    assert_eq!(string_at(&image, u32_at(&image, info + 16).into()), format!("{kernel} console=ttyS0"));
    assert_eq!(u32_at(&image, info + 20), 0);
    assert_eq!(string_at(&image, u32_at(&image, info + 64).into()), "qemu");
    assert_eq!(u32_at(&image, info + 44), 4 * 24);
    let map = u64::from(u32_at(&image, info + 48));
    assert_eq!(u32_at(&image, map + 72), 20);
    assert_eq!((u64_at(&image, map + 76), u64_at(&image, map + 84)), (1 << 32, 64 * MIB));
    assert_eq!(u32_at(&image, map + 92), E820_RAM);
}

#[test]
fn address_fields_say_what_is_loaded() {
    let image = load(&kludge(ADDRESSES), |_, _| ()).unwrap();
    assert_eq!((rom(&image, 0x10_0000).size, rom(&image, 0x10_0000).source.len()), (0x4000, 0x1800));
    // Load end 0: to the end of the file; bss end 0: none. The image begins at 0x100 of the file.
    let image = load(&kludge([0x20_0100, 0x20_0000, 0, 0, 0x20_0000]), |_, _| ()).unwrap();
    assert_eq!((rom(&image, 0x20_0000).size, rom(&image, 0x20_0000).source.len()), (0x1700, 0x1700));
    assert!(matches!(rom(&image, 0x20_0000).source, RomSource::File { offset: 0x100, .. }));
}

#[test]
fn modules_follow_page_aligned_with_their_strings() {
    let dir = Dir::new();
    let kernel = dir.file("kernel", &kludge(ADDRESSES));
    let (first, second) = (dir.file("a", &[1; 5000]), dir.file("b,c", &[2; 3]));
    let list = format!("{first} one two,{}", second.replace(',', ",,"));
    let image = load_kernel(&KernelParams { initrd: Some(&list), ..params(&kernel) }).unwrap();
    let info = u64::from(image.entry.ebx);
    assert_eq!(u32_at(&image, info + 20), 2);
    let modules = u64::from(u32_at(&image, info + 24));
    assert_eq!(modules, 0x10_4000);
    let module = |number: u64| {
        let field = |at| u64::from(u32_at(&image, modules + number * 16 + at));
        (field(0), field(4), string_at(&image, field(8)), field(12))
    };
    assert_eq!(module(0), (0x10_5000, 0x10_5000 + 5000, format!("{first} one two"), 0));
    assert_eq!(module(1), (0x10_7000, 0x10_7003, second, 0));
    assert_eq!(memory(&image, 0x10_5000, 5000), [1; 5000]);
    assert_eq!(memory(&image, 0x10_7000, 3), [2; 3]);
}

#[test]
fn elf_kernels_are_entered_at_their_physical_entry() {
    let mut bytes = elf_image(false, EM_386);
    add_header(&mut bytes, 3, [0; 5]);
    let image = load(&bytes, |_, _| ()).unwrap();
    assert_eq!(image.protocol, Protocol::Multiboot, "Multiboot comes before PVH");
    assert_eq!(image.entry.eip, 0x20_0010);
    assert_eq!(u32_at(&image, u64::from(image.entry.ebx) + 24), 0x20_3000);
    let mut bytes = elf_image(true, EM_X86_64);
    add_header(&mut bytes, 3, [0; 5]);
    let expected = "could not load kernel 'kernel': Cannot load x86-64 image, give a 32bit one.";
    assert_eq!(error(&bytes), expected);
}

#[test]
fn a_kernel_that_wants_a_video_mode_is_told() {
    let mut bytes = kludge(ADDRESSES);
    add_header(&mut bytes, 0x1_0007, ADDRESSES);
    assert_eq!(load(&bytes, |_, _| ()).unwrap().warnings, ["multiboot knows VBE. we don't"]);
}

#[test]
fn contradicting_address_fields_are_refused() {
    let refused = |addresses: [u32; 5], reason: &str| {
        assert_eq!(error(&kludge(addresses)), format!("could not load kernel 'kernel': {reason}"));
    };
    refused([0x100, 0x200, 0, 0, 0], "invalid load_addr address");
    refused([0x10_0201, 0x10_0000, 0, 0, 0], "invalid header_addr address");
    refused([0x10_0200, 0x10_0000, 0x5_0000, 0, 0], "invalid load_end_addr address");
    refused([0x10_0200, 0x10_0000, 0x10_1000, 0x10_0010, 0], "invalid bss_end_addr address");
    refused([0x10_0200, 0x10_0000, 0x20_0000, 0, 0], "truncated file (need 1048576 bytes, have 6144)");
    refused([u32::MAX, u32::MAX - 0x1ff, 0, 0, 0], "kernel does not fit in address space");
}

#[test]
fn modules_that_cannot_be_read_or_placed_are_named() {
    let error = |initrd: &'static str| {
        load(&kludge(ADDRESSES), |_, params| params.initrd = Some(initrd)).unwrap_err().to_string()
    };
    assert_eq!(error("/nonexistent x"), "Failed to open file '/nonexistent': No such file or directory");
    assert_eq!(error(","), "Failed to open file '': No such file or directory");
    let text = load(&kludge(ADDRESSES), |dir, params| {
        params.initrd = Some(dir.sparse("module", 128 * MIB).leak());
    });
    assert!(text.unwrap_err().to_string().contains("module does not fit into guest memory"));
    let text = load(&kludge(ADDRESSES), |dir, params| {
        params.initrd = Some(dir.sparse("module", 5 << 30).leak());
    });
    assert!(text.unwrap_err().to_string().ends_with("kernel does not fit in address space"));
}

proptest! {
    #[test]
    fn any_address_fields_are_loaded_or_refused(flags: u16, addresses: [u32; 5], near in any::<[u16; 5]>()) {
        let mut bytes = elf_image(false, EM_386);
        add_header(&mut bytes, 0x1_0000 | u32::from(flags), addresses);
        let _ = load(&bytes, |_, _| ());
        add_header(&mut bytes, 0x1_0000, near.map(|at| 0x10_0000 + u32::from(at)));
        let _ = load(&bytes, |_, _| ());
    }
}
