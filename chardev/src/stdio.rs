//! The terminal the program was started on (chardev/char-stdio.c).

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};

use parking_lot::Mutex;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, tcgetattr,
    tcsetattr,
};

use crate::backend::Backend;
use crate::chr::Core;
use crate::error::ChardevError;
use crate::fd::{FdChardev, set_nonblocking};
use crate::options::Options;

/// The terminal as it was, to be put back.
struct Saved {
    /// `None` when standard input is no terminal.
    tty: Option<Termios>,
    stdin_flags: OFlags,
    stdout_flags: OFlags,
    /// Ctrl-C and the like are signals to us (`signal=on`).
    signal: bool,
    echo: bool,
}

static SAVED: Mutex<Option<Saved>> = Mutex::new(None);
static FORBIDDEN: AtomicBool = AtomicBool::new(false);

struct Stdio(Arc<FdChardev>);

/// From now on stdio chardevs are refused: the program becomes a daemon.
pub fn forbid_stdio() {
    FORBIDDEN.store(true, Ordering::Relaxed);
}

/// Puts the terminal back as it was when the stdio chardev was made (term_exit). May be called anywhere and
/// again; a panic calls it. Only a process that is killed leaves its terminal raw.
pub fn restore_terminal() {
    // A panic may come while the lock is held, by this very thread: better a raw terminal than a hang.
    let Some(mut saved) = SAVED.try_lock() else { return };
    if let Some(saved) = saved.take() {
        // Nothing can be done about a terminal that is gone.
        if let Some(tty) = &saved.tty {
            let _ = tcsetattr(stdin(), OptionalActions::Now, tty);
        }
        let _ = fcntl_setfl(stdin(), saved.stdin_flags);
        let _ = fcntl_setfl(stdout(), saved.stdout_flags);
    }
}

/// Sets the terminal's raw mode again: to be called on SIGCONT, as the shell has changed the mode while the
/// program was stopped (term_stdio_handler).
pub fn reapply_terminal() {
    if let Some(saved) = &*SAVED.lock() {
        saved.apply();
    }
}

impl Saved {
    fn apply(&self) {
        let Some(old) = &self.tty else { return };
        let mut tty = old.clone();
        if !self.echo {
            tty.input_modes -= InputModes::IGNBRK
                | InputModes::BRKINT
                | InputModes::PARMRK
                | InputModes::ISTRIP
                | InputModes::INLCR
                | InputModes::IGNCR
                | InputModes::ICRNL
                | InputModes::IXON;
            tty.output_modes |= OutputModes::OPOST;
            tty.local_modes -=
                LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::IEXTEN;
            tty.control_modes -= ControlModes::CSIZE | ControlModes::PARENB;
            tty.control_modes |= ControlModes::CS8;
            tty.special_codes[SpecialCodeIndex::VMIN] = 1;
            tty.special_codes[SpecialCodeIndex::VTIME] = 0;
        }
        if !self.signal {
            tty.local_modes -= LocalModes::ISIG;
        }
        // A terminal that refuses stays as it is.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &tty);
    }
}

/// `stdio`: `signal`.
pub(crate) fn open(core: &Arc<Core>, options: &Options) -> Result<Arc<dyn Backend>, ChardevError> {
    let signal = options.flag("signal")?.unwrap_or(true);
    if FORBIDDEN.load(Ordering::Relaxed) {
        return Err(ChardevError::options("cannot use stdio with -daemonize"));
    }
    let mut slot = SAVED.lock();
    if slot.is_some() {
        return Err(ChardevError::options("cannot use stdio by multiple character devices"));
    }
    let nonblocking = |error: io::Error| ChardevError::system("Failed to set FD nonblocking", error);
    let saved = Saved {
        tty: tcgetattr(stdin()).ok(),
        stdin_flags: fcntl_getfl(stdin()).map_err(|error| nonblocking(error.into()))?,
        stdout_flags: fcntl_getfl(stdout()).map_err(|error| nonblocking(error.into()))?,
        signal,
        echo: false,
    };
    set_nonblocking(stdin()).map_err(nonblocking)?;
    set_nonblocking(stdout()).map_err(nonblocking)?;
    saved.apply();
    *slot = Some(saved);
    drop(slot);
    restore_on_panic();
    Ok(Arc::new(Stdio(FdChardev::new(core.clone(), Some(Arc::new(stdin())), Arc::new(stdout())))))
}

fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore_terminal();
            previous(info);
        }));
    });
}

impl Backend for Stdio {
    fn descriptors(&self) -> Option<&FdChardev> {
        Some(&self.0)
    }

    fn set_echo(&self, echo: bool) {
        if let Some(saved) = &mut *SAVED.lock() {
            saved.echo = echo;
            saved.apply();
        }
    }

    fn close(&self) {
        restore_terminal();
    }
}
