//! Vector registers as text: SSE's, AVX's or AVX-512's, whichever the guest has switched on.
//!
//! Where they are in an XSAVE area: Intel SDM volume 1, 13.4 and 13.5.

use std::fmt::Write;

use accel_kvm::kvm_bindings::kvm_fpu;
use accel_kvm::kvm_ioctls::VcpuFd;

use super::host;
use crate::xsave::XsaveAreas;

/// Components of the XSAVE area by number, which is also their bit in XCR0.
mod component {
    pub const YMM: u32 = 2;
    pub const OPMASK: u32 = 5;
    pub const ZMM_HI256: u32 = 6;
    pub const HI16_ZMM: u32 = 7;
}

/// x87, SSE and AVX.
const XCR0_AVX: u64 = 0b111;
/// The same and AVX-512.
const XCR0_AVX512: u64 = XCR0_AVX | 0b111 << component::OPMASK;
/// Where XMM0 is.
const LEGACY_XMM: usize = 160;

/// The vector registers, each from its lowest bits up.
#[derive(Default)]
pub(super) struct Vectors {
    /// Eight, where there is AVX-512.
    opmask: Vec<u64>,
    /// As wide as the guest knows them: 2, 4 or 8 times 64 bits.
    registers: Vec<[u64; 8]>,
    /// How many of the eight count.
    width: usize,
}

impl Vectors {
    pub fn of(vcpu: &VcpuFd, fpu: &kvm_fpu) -> Self {
        let xcr0 = vcpu.get_xcrs().ok().and_then(|xcrs| xcrs.xcrs.first().map(|xcr| xcr.value)).unwrap_or(1);
        match vcpu.get_xsave() {
            Ok(xsave) if xcr0 & XCR0_AVX == XCR0_AVX => {
                let area: Vec<u8> = xsave.region.iter().flat_map(|word| word.to_le_bytes()).collect();
                Self::in_area(&area, xcr0, &XsaveAreas::of(host()))
            }
            _ => Self {
                registers: fpu.xmm.iter().map(|xmm| wide(&[(0, xmm)])).collect(),
                width: 2,
                opmask: Vec::new(),
            },
        }
    }

    fn in_area(area: &[u8], xcr0: u64, areas: &XsaveAreas) -> Self {
        let at = |number: u32, index: usize, size: usize| {
            let begin = areas.get(number).offset as usize + index * size;
            area.get(begin..begin + size).unwrap_or_default()
        };
        let low = |n: usize| area.get(LEGACY_XMM + n * 16..LEGACY_XMM + (n + 1) * 16).unwrap_or_default();
        let low256 = |n: usize| [(0, low(n)), (2, at(component::YMM, n, 16))];
        if xcr0 & XCR0_AVX512 != XCR0_AVX512 {
            return Self {
                registers: (0..16).map(|n| wide(&low256(n))).collect(),
                width: 4,
                opmask: Vec::new(),
            };
        }
        let first = (0..16).map(|n| {
            let [xmm, ymm] = low256(n);
            wide(&[xmm, ymm, (4, at(component::ZMM_HI256, n, 32))])
        });
        let last = (0..16).map(|n| wide(&[(0, at(component::HI16_ZMM, n, 64))]));
        Self {
            registers: first.chain(last).collect(),
            width: 8,
            opmask: (0..8).map(|n| wide(&[(0, at(component::OPMASK, n, 8))])[0]).collect(),
        }
    }

    /// The first `count` registers; twice as many of AVX-512's in 64-bit code.
    pub fn dump(&self, out: &mut String, count: usize) {
        // Writing to a String cannot fail.
        for (n, value) in self.opmask.iter().enumerate() {
            let _ = write!(out, "Opmask{n:02}={value:016x}{}", if n % 4 == 3 { '\n' } else { ' ' });
        }
        let (name, count) = match self.width {
            8 if count == 16 => ("ZMM", 32),
            8 => ("ZMM", count),
            4 => ("YMM", count),
            _ => ("XMM", count),
        };
        let width = self.width.max(2);
        for n in 0..count {
            let register = self.registers.get(n).copied().unwrap_or_default();
            let parts: Vec<_> = register[..width].iter().rev().map(|part| format!("{part:016x}")).collect();
            let end = if width == 2 && n % 2 == 0 { ' ' } else { '\n' };
            let _ = write!(out, "{name}{n:02}={}{end}", parts.join(" "));
        }
    }
}

/// A register from its parts: the number of 64 bits where each begins, and its bytes.
fn wide(parts: &[(usize, &[u8])]) -> [u64; 8] {
    let mut register = [0; 8];
    for (at, bytes) in parts {
        for (to, from) in register[*at..].iter_mut().zip(bytes.chunks_exact(8)) {
            *to = from.try_into().map_or(0, u64::from_le_bytes);
        }
    }
    register
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_switched_on_is_shown() {
        let mut area = vec![0; 4096];
        (area[LEGACY_XMM], area[LEGACY_XMM + 16], area[LEGACY_XMM + 8]) = (1, 2, 3);
        let vectors = Vectors::in_area(&area, XCR0_AVX, &XsaveAreas::default());
        let mut text = String::new();
        vectors.dump(&mut text, 8);
        assert_eq!(text.lines().count(), 8);
        assert!(text.contains(" 0000000000000003 0000000000000001\nYMM01="), "{text}");
        let vectors = Vectors::in_area(&area, XCR0_AVX512, &XsaveAreas::default());
        let mut text = String::new();
        vectors.dump(&mut text, 16);
        assert_eq!((text.matches("ZMM").count(), text.matches("Opmask").count()), (32, 8));
        let mut text = String::new();
        Vectors::default().dump(&mut text, 8);
        assert!(text.starts_with("XMM00=0000000000000000 0000000000000000 XMM01="), "{text}");
        assert_eq!(text.lines().count(), 4);
    }
}
