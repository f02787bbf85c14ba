//! A serial line, or another terminal, of the host (chardev/char-serial.c).

use std::fs::OpenOptions;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use rustix::fs::OFlags;
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, tcgetattr, tcsendbreak, tcsetattr,
};

use crate::backend::Backend;
use crate::chr::{Core, Parity, SerialParams};
use crate::error::ChardevError;
use crate::fd::{FdChardev, nonblocking, open as open_path};
use crate::options::Options;

/// How the line is set until the guest programs its UART.
const INITIAL: SerialParams =
    SerialParams { speed: 115_200, parity: Parity::None, data_bits: 8, stop_bits: 1 };

/// The speeds that drivers know; guests may ask for others.
const SPEEDS: [u32; 31] = [
    50,
    75,
    110,
    134,
    150,
    200,
    300,
    600,
    1200,
    1800,
    2400,
    4800,
    9600,
    19_200,
    38_400,
    57_600,
    115_200,
    230_400,
    460_800,
    500_000,
    576_000,
    921_600,
    1_000_000,
    1_152_000,
    1_500_000,
    2_000_000,
    2_500_000,
    3_000_000,
    3_500_000,
    4_000_000,
    u32::MAX,
];

struct Serial(Arc<FdChardev>);

/// `serial`, also named `tty`: `path`.
pub(crate) fn open(core: &Arc<Core>, options: &Options) -> Result<Arc<dyn Backend>, ChardevError> {
    let path = options
        .get("path")
        .ok_or_else(|| ChardevError::options("chardev: serial/tty: no device path given"))?;
    // Without NONBLOCK the open would wait for a carrier; NOCTTY: the line must not become our terminal.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let tty = open_path(path, OFlags::RDWR, OpenOptions::new().read(true).write(true).custom_flags(flags))?;
    let serial = Serial(FdChardev::new_duplex(core.clone(), nonblocking(tty)?));
    set_params(serial.0.fd(), &INITIAL)
        .map_err(|error| ChardevError::system(format!("Could not open '{path}'"), error))?;
    Ok(Arc::new(serial))
}

/// The standard speed that stands for `speed`, a tenth of tolerance below the next one given.
fn standard_speed(speed: u32) -> u32 {
    let wanted = u64::from(speed) * 10 / 11;
    let next = SPEEDS.into_iter().find(|&standard| wanted <= u64::from(standard));
    next.filter(|&standard| standard != u32::MAX).unwrap_or(INITIAL.speed)
}

fn set_params(fd: BorrowedFd<'_>, params: &SerialParams) -> io::Result<()> {
    let mut tty = tcgetattr(fd)?;
    tty.set_speed(standard_speed(params.speed))?;
    tty.input_modes -= InputModes::IGNBRK
        | InputModes::BRKINT
        | InputModes::PARMRK
        | InputModes::ISTRIP
        | InputModes::INLCR
        | InputModes::IGNCR
        | InputModes::ICRNL
        | InputModes::IXON;
    tty.output_modes -= OutputModes::OPOST;
    tty.local_modes -=
        LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::IEXTEN | LocalModes::ISIG;
    tty.control_modes -= ControlModes::CSIZE
        | ControlModes::PARENB
        | ControlModes::PARODD
        | ControlModes::CRTSCTS
        | ControlModes::CSTOPB;
    tty.control_modes |= match params.data_bits {
        5 => ControlModes::CS5,
        6 => ControlModes::CS6,
        7 => ControlModes::CS7,
        _ => ControlModes::CS8,
    };
    tty.control_modes |= match params.parity {
        Parity::None => ControlModes::empty(),
        Parity::Even => ControlModes::PARENB,
        Parity::Odd => ControlModes::PARENB | ControlModes::PARODD,
    };
    if params.stop_bits == 2 {
        tty.control_modes |= ControlModes::CSTOPB;
    }
    Ok(tcsetattr(fd, OptionalActions::Now, &tty)?)
}

impl Backend for Serial {
    fn descriptors(&self) -> Option<&FdChardev> {
        Some(&self.0)
    }

    fn set_serial_params(&self, params: &SerialParams) -> io::Result<()> {
        set_params(self.0.fd(), params)
    }

    fn send_break(&self) -> io::Result<()> {
        Ok(tcsendbreak(self.0.fd())?)
    }
}

#[cfg(test)]
mod tests {
    use super::standard_speed;

    #[test]
    fn speeds_a_divisor_misses_narrowly_are_the_standard_one() {
        assert_eq!(standard_speed(115_200), 115_200);
        assert_eq!(standard_speed(9_615), 9_600);
        assert_eq!(standard_speed(1), 50);
        assert_eq!(standard_speed(u32::MAX), 115_200);
    }
}
