//! State components that XSAVE saves: which feature brings which, and how large each is.
//!
//! Intel SDM volume 1, chapter 13; `x86_ext_save_areas` of QEMU 7.2.

use crate::features::FeatureWord::{Xcr0Hi, Xcr0Lo, XssHi, XssLo};
use crate::features::{Feature, FeatureWords, bits};
use crate::host::HostCpu;

/// Size of the legacy area and the header: components 0 and 1 are in it.
const LEGACY_AND_HEADER: u32 = 512 + 64;
/// Last branch records: the only component that only XSAVES saves.
pub(crate) const ARCH_LBR: u64 = 1 << 15;

/// Components by number: the feature and the size.
const COMPONENTS: [Option<(Feature, u32)>; 19] = [
    Some((bits::XSAVE, LEGACY_AND_HEADER)),
    Some((bits::XSAVE, LEGACY_AND_HEADER)),
    Some((bits::AVX, 0x100)),
    Some((bits::MPX, 0x40)),
    Some((bits::MPX, 0x40)),
    Some((bits::AVX512F, 0x40)),
    Some((bits::AVX512F, 0x200)),
    Some((bits::AVX512F, 0x400)),
    None,
    Some((bits::PKU, 8)),
    None,
    None,
    None,
    None,
    None,
    Some((bits::ARCH_LBR, 0x328)),
    None,
    Some((bits::AMX_TILE, 0x40)),
    Some((bits::AMX_TILE, 0x2000)),
];

/// The name of the feature that brings component `at`.
pub(crate) fn feature_of(at: u32) -> Option<&'static str> {
    let (feature, _) = (*COMPONENTS.get(at as usize)?)?;
    feature.word.info().name(feature.mask.trailing_zeros())
}

/// Sets XCR0's and IA32_XSS's bits as the features need them (`x86_cpu_enable_xsave_components`).
pub(crate) fn enable_components(features: &mut FeatureWords) {
    let mut mask = 0_u64;
    if features.has(bits::XSAVE) {
        for (at, component) in COMPONENTS.iter().enumerate() {
            if component.is_some_and(|(feature, _)| features.has(feature)) {
                mask |= 1 << at;
            }
        }
    }
    let (user, supervisor) = (mask & !ARCH_LBR, mask & ARCH_LBR);
    features[Xcr0Lo] = user & 0xffff_ffff;
    features[Xcr0Hi] = user >> 32;
    features[XssLo] = supervisor & 0xffff_ffff;
    features[XssHi] = supervisor >> 32;
}

/// Where one component is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XsaveArea {
    /// Size in bytes.
    pub size: u32,
    /// Offset in the standard format.
    pub offset: u32,
    /// ECX of its subleaf: bit 1 aligned in the compacted format, bit 2 XFD.
    pub flags: u32,
}

/// All components; those nobody has are empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XsaveAreas([XsaveArea; COMPONENTS.len()]);

impl XsaveAreas {
    /// Sizes as the architecture has them, offsets as the host's processor has them
    /// (`kvm_cpu_xsave_init`).
    pub(crate) fn of(host: &HostCpu) -> Self {
        let mut areas = [XsaveArea::default(); COMPONENTS.len()];
        for (index, (area, component)) in (0_u32..).zip(areas.iter_mut().zip(COMPONENTS)) {
            let Some((feature, size)) = component else { continue };
            area.size = size;
            let [host_size, offset, flags, _] = host.host_cpuid(0xd, index);
            if index >= 2 && host.supported_word(feature.word) & feature.mask != 0 && host_size != 0 {
                (area.offset, area.flags) = (offset, flags);
            }
        }
        Self(areas)
    }

    /// One component; empty if there is none of this number.
    pub fn get(&self, index: u32) -> XsaveArea {
        usize::try_from(index).ok().and_then(|index| self.0.get(index)).copied().unwrap_or_default()
    }

    /// Size of an area for the components of a mask (`xsave_area_size`).
    pub fn total_size(&self, mask: u64, compacted: bool) -> u32 {
        let present = self.0.iter().enumerate().skip(2).filter(|(at, _)| mask & 1 << at != 0);
        present.fold(LEGACY_AND_HEADER, |total, (_, area)| {
            let offset = if compacted { total } else { area.offset };
            total.max(offset.saturating_add(area.size))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_follow_features() {
        let mut features = FeatureWords::NONE;
        features.set(bits::AVX, true);
        features.set(bits::PKU, true);
        enable_components(&mut features);
        assert_eq!(features[Xcr0Lo], 0, "nothing without XSAVE");
        features.set(bits::XSAVE, true);
        features.set(bits::ARCH_LBR, true);
        enable_components(&mut features);
        assert_eq!((features[Xcr0Lo], features[XssLo]), (0b10_0000_0111, ARCH_LBR));
    }

    #[test]
    fn compacted_areas_have_no_gaps() {
        let mut areas = XsaveAreas::default();
        areas.0[2] = XsaveArea { size: 0x100, offset: 0x240, flags: 0 };
        areas.0[9] = XsaveArea { size: 8, offset: 0xa80, flags: 0 };
        assert_eq!(areas.total_size(0b11, false), 0x240);
        assert_eq!(areas.total_size(0b10_0000_0111, false), 0xa88);
        assert_eq!(areas.total_size(0b10_0000_0111, true), 0x348);
    }
}
