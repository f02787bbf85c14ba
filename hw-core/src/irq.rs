//! Interrupt lines: an output pin of one device drives an input of another (QEMU's `qemu_irq`).

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

/// A device with numbered inputs. Called with no lock of the caller's held.
pub trait IrqHandler: Send + Sync {
    /// Input `n` is now at `level`.
    fn set_irq(&self, n: u32, level: bool);
}

impl<F: Fn(u32, bool) + Send + Sync> IrqHandler for F {
    fn set_irq(&self, n: u32, level: bool) {
        self(n, level);
    }
}

struct Line {
    handler: Arc<dyn IrqHandler>,
    n: u32,
    /// A test that watches the line (`irq_intercept_in`).
    intercept: ArcSwapOption<Box<dyn IrqHandler>>,
}

/// One input, for whoever drives it.
#[derive(Clone)]
pub struct Irq(Arc<Line>);

impl Irq {
    /// Input `n` of `handler` (`qemu_allocate_irq`).
    pub fn new(handler: Arc<dyn IrqHandler>, n: u32) -> Irq {
        Irq(Arc::new(Line { handler, n, intercept: ArcSwapOption::empty() }))
    }

    /// Its number at the device it belongs to.
    pub fn number(&self) -> u32 {
        self.0.n
    }

    /// Sets its level.
    pub fn set(&self, level: bool) {
        self.0.handler.set_irq(self.0.n, level);
        if let Some(watcher) = &*self.0.intercept.load() {
            watcher.set_irq(self.0.n, level);
        }
    }

    /// Raises and lowers it.
    pub fn pulse(&self) {
        self.set(true);
        self.set(false);
    }

    /// Tells `watcher` of all further changes, too, after the input's own device (`qemu_irq_intercept_in`).
    pub fn intercept(&self, watcher: Box<dyn IrqHandler>) {
        self.0.intercept.store(Some(Arc::new(watcher)));
    }

    /// An input that drives all of `lines` (`qemu_irq_split`).
    pub fn split(lines: Vec<Irq>) -> Irq {
        Irq::new(Arc::new(move |_, level| lines.iter().for_each(|line| line.set(level))), 0)
    }
}

/// An output of a device; drives nothing until it is connected. It knows its level, so that setting it again
/// to what it is costs nothing.
#[derive(Default)]
pub struct IrqPin {
    target: ArcSwapOption<Irq>,
    /// Also keeps changes from several threads in order.
    level: Mutex<bool>,
}

impl IrqPin {
    /// Connects it, or connects it elsewhere.
    pub fn connect(&self, irq: Irq) {
        self.target.store(Some(Arc::new(irq)));
    }

    /// Tells `watcher` of all further changes, as those of input `n`, after what is driven
    /// (`qdev_intercept_gpio_out`).
    pub fn intercept(&self, n: u32, watcher: Arc<dyn IrqHandler>) {
        let target = self.target();
        self.connect(Irq::new(
            Arc::new(move |n: u32, level: bool| {
                if let Some(target) = &target {
                    target.set(level);
                }
                watcher.set_irq(n, level);
            }),
            n,
        ));
    }

    /// What it drives.
    pub fn target(&self) -> Option<Irq> {
        self.target.load().as_ref().map(|irq| (**irq).clone())
    }

    /// Sets its level.
    pub fn set(&self, level: bool) {
        self.sync(false, || level);
    }

    /// Sets its level to what `level` says, having lowered it first where the chip's output fell since the
    /// last time (`fell`). A device that several threads change calls this after it let go of its own lock,
    /// with a closure that looks at the chip again: so the last to come sets the level that is true.
    pub fn sync(&self, fell: bool, level: impl FnOnce() -> bool) {
        let mut now = self.level.lock();
        let wanted = level();
        if fell && *now {
            self.drive(false);
            *now = false;
        }
        if *now != wanted {
            *now = wanted;
            self.drive(wanted);
        }
    }

    /// Drives what `level` says, also where that is its level already: for an input whose memory of its level a guest can wipe
    /// out.
    pub fn repeat(&self, level: impl FnOnce() -> bool) {
        let mut now = self.level.lock();
        *now = level();
        self.drive(*now);
    }

    /// Takes it for at `level` without driving it: after its device's state was restored, as that of whom it leads to is.
    pub fn assume(&self, level: bool) {
        *self.level.lock() = level;
    }

    fn drive(&self, level: bool) {
        if let Some(irq) = &*self.target.load() {
            irq.set(level);
        }
    }

    /// Raises and lowers it; a change by another thread does not come between.
    pub fn pulse(&self) {
        let mut now = self.level.lock();
        if !*now {
            self.drive(true);
        }
        self.drive(false);
        *now = false;
    }
}
