//! Output on COM1, as text, decimal and hexadecimal numbers.

use crate::io::{inb, outb};

const COM1: u16 = 0x3f8;
/// Line status register: transmitter holding register empty.
const LSR_THRE: u8 = 0x20;

/// Something [`say!`](crate::say) can print.
pub trait Show {
    /// Prints it.
    fn show(&self);
}

/// A number to be printed in hexadecimal, with `0x`.
pub struct Hex(pub u64);

/// 115200 baud, 8 bits, no parity, one stop bit, FIFO on, no interrupts.
pub fn init() {
    outb(COM1 + 1, 0x00);
    outb(COM1 + 3, 0x80);
    outb(COM1, 0x01);
    outb(COM1 + 1, 0x00);
    outb(COM1 + 3, 0x03);
    outb(COM1 + 2, 0x07);
    outb(COM1 + 4, 0x03);
}

/// Sends one byte when the transmitter is ready for it.
pub fn byte(value: u8) {
    while inb(COM1 + 5) & LSR_THRE == 0 {}
    outb(COM1, value);
}

impl Show for [u8] {
    fn show(&self) {
        for &value in self {
            byte(value);
        }
    }
}

impl Show for str {
    fn show(&self) {
        self.as_bytes().show();
    }
}

impl Show for Hex {
    fn show(&self) {
        "0x".show();
        let digits = (64 - self.0.leading_zeros()).div_ceil(4).max(1);
        for i in (0..digits).rev() {
            let digit = (self.0 >> (i * 4)) as u8 & 0xf;
            byte(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
        }
    }
}

impl Show for u64 {
    fn show(&self) {
        if *self >= 10 {
            (*self / 10).show();
        }
        byte(b'0' + (*self % 10) as u8);
    }
}

impl<T: Show + ?Sized> Show for &T {
    fn show(&self) {
        (**self).show();
    }
}

/// Prints its arguments one after the other and ends the line.
#[macro_export]
macro_rules! say {
    ($($part:expr),* $(,)?) => {{
        $($crate::print::Show::show(&$part);)*
        $crate::print::byte(b'\n');
    }};
}
