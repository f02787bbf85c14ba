//! The IDE disks in a PC's CMOS, where a firmware finds their geometry (QEMU's hw/i386/pc.c, `pc_cmos_init_late`).

use std::sync::Arc;

use hw_block::geometry::Geometry;
use hw_ide::IdeBus;
use hw_ide::device::{BiosAtaTranslation, IdeDevice};
use qom::Object;

use crate::pc::PcMachine;

/// Types of the first two disks, 4 bits each: 15 means that there is another byte.
const TYPES: u8 = 0x12;
/// That byte of each, and where its geometry is.
const DISKS: [(u8, u8); 2] = [(0x19, 0x1b), (0x1a, 0x24)];
/// The type that says that the geometry is given.
const USER_TYPE: u8 = 47;
/// How a BIOS translates the geometry of each of four disks, 2 bits each.
const TRANSLATIONS: u8 = 0x39;

fn disk(bus: &IdeBus, unit: u32) -> Option<(Geometry, BiosAtaTranslation)> {
    let devices = bus.children();
    let mut devices = devices.iter().filter_map(|device| device.cast::<IdeDevice>());
    devices.find(|device| device.unit() == unit)?.settled_geometry()
}

fn translation_bits(translation: BiosAtaTranslation) -> u8 {
    match translation {
        BiosAtaTranslation::Auto | BiosAtaTranslation::None => 0,
        BiosAtaTranslation::Lba => 1,
        BiosAtaTranslation::Large => 2,
        BiosAtaTranslation::Rechs => 3,
    }
}

fn set_geometry(rtc: &Arc<dyn Object>, at: u8, geometry: Geometry) {
    let Geometry { cylinders, heads, sectors, .. } = geometry;
    let [low, high] = (cylinders as u16).to_le_bytes();
    // Precompensation at no cylinder; with more than 8 heads a bit says so; the landing zone is behind the last one.
    let control = 0xc0 | if heads > 8 { 8 } else { 0 };
    let bytes = [low, high, heads as u8, 0xff, 0xff, control, low, high, sectors as u8];
    for (byte, at) in bytes.into_iter().zip(at..) {
        hw_rtc::rtc_set_memory(rtc, at, byte);
    }
}

/// Once all devices are there.
pub(crate) fn init(pc: &PcMachine) {
    let (Some(rtc), Some(buses)) = (pc.rtc.get(), pc.ide.get()) else { return };
    let disks = buses.iter().flat_map(|bus| [disk(bus, 0), disk(bus, 1)]);
    let (mut types, mut translations) = (0, 0);
    for (disk, n) in disks.zip(0..) {
        let Some((geometry, translation)) = disk else { continue };
        translations |= translation_bits(translation) << (2 * n);
        if let Some((kind, at)) = DISKS.get(n) {
            types |= 0xf0 >> (4 * n);
            hw_rtc::rtc_set_memory(rtc, *kind, USER_TYPE);
            set_geometry(rtc, *at, geometry);
        }
    }
    hw_rtc::rtc_set_memory(rtc, TYPES, types);
    hw_rtc::rtc_set_memory(rtc, TRANSLATIONS, translations);
}
