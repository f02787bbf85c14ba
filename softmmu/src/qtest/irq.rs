//! Interrupt lines: watching those of a device, and driving one.

use std::sync::{Arc, Weak};

use hw_core::Device;
use hw_core::irq::IrqHandler;
use qom::{Object, object_resolve_path};

use super::server::Server;

/// Lines that can be told apart.
const MAX_IRQ: usize = 256;

/// The device that is watched, and what its lines were last seen at.
pub struct Intercept {
    device: Option<Arc<dyn Object>>,
    levels: [bool; MAX_IRQ],
}

impl Default for Intercept {
    fn default() -> Self {
        Intercept { device: None, levels: [false; MAX_IRQ] }
    }
}

impl Intercept {
    /// A new client knows of no line that is high.
    pub fn forget_levels(&mut self) {
        self.levels = [false; MAX_IRQ];
    }

    /// Takes note of a level; whether it is new.
    fn note(&mut self, n: u32, level: bool) -> bool {
        match self.levels.get_mut(n as usize) {
            Some(known) if *known != level => {
                *known = level;
                true
            }
            _ => false,
        }
    }
}

/// Tells the client of the changes of lines.
struct Watcher(Weak<Server>);

impl IrqHandler for Watcher {
    fn set_irq(&self, n: u32, level: bool) {
        let Some(server) = self.0.upgrade() else { return };
        let changed = server.intercept.lock().note(n, level);
        if changed {
            server.report_irq(n, level);
        }
    }
}

/// Which lines of a device are watched.
pub enum Side {
    /// Its unnamed inputs.
    Inputs,
    /// Its outputs of that name; empty for the unnamed ones.
    Outputs(String),
}

fn device(path: &str) -> Result<Arc<dyn Object>, &'static str> {
    let object = object_resolve_path(path).map_err(|_| "FAIL Unknown device")?;
    if object.cast::<Device>().is_some() { Ok(object) } else { Err("FAIL Unknown device") }
}

/// Watches lines from now on; gives the answer.
pub fn intercept(server: &Server, path: &str, side: &Side) -> &'static str {
    let object = match device(path) {
        Ok(object) => object,
        Err(answer) => return answer,
    };
    {
        let mut state = server.intercept.lock();
        match &state.device {
            Some(other) if Arc::ptr_eq(other, &object) => return "OK",
            Some(_) => return "FAIL IRQ intercept already enabled",
            None => state.device = Some(object.clone()),
        }
    }
    let Some(device) = object.cast::<Device>() else { return "FAIL Unknown device" };
    match side {
        Side::Inputs => {
            for line in device.gpio_in_all("") {
                line.intercept(Box::new(Watcher(server.weak())));
            }
        }
        Side::Outputs(wanted) => {
            let outputs = device.gpio_outs().into_iter().filter(|(name, _)| name == wanted);
            for (n, pin) in outputs.flat_map(|(_, pins)| pins).enumerate() {
                pin.intercept(n as u32, Arc::new(Watcher(server.weak())));
            }
        }
    }
    "OK"
}

/// Sets an input; gives the answer.
pub fn set_irq_in(path: &str, name: &str, number: u32, level: bool) -> &'static str {
    let object = match device(path) {
        Ok(object) => object,
        Err(answer) => return answer,
    };
    match object.cast::<Device>().and_then(|device| device.gpio_in(name, number)) {
        Some(line) => {
            line.set(level);
            "OK"
        }
        None => "FAIL Unknown input",
    }
}
