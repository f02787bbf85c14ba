//! `-boot`.

use serde_json::{Map, Value};
use util::cutils::{parse_bool, strtoi64};

use super::{CliError, CommandLine, OptionId};

/// What `-boot` gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BootOptions {
    /// Drives in order, letters a to p; none: the machine's order.
    pub order: Option<String>,
    /// The order for the first boot only.
    pub once: Option<String>,
    /// Whether the firmware shows its menu.
    pub menu: Option<bool>,
    /// The logo's file.
    pub splash: Option<String>,
    /// How long the logo shows, milliseconds.
    pub splash_time: Option<u16>,
    /// After how long a failed boot is tried again, milliseconds; -1: never.
    pub reboot_timeout: Option<i32>,
    /// Whether nothing else is booted from.
    pub strict: bool,
}

impl CommandLine {
    /// `-boot`.
    ///
    /// # Errors
    /// Unknown parameters, values of the wrong kind, drives that do not exist or come twice.
    pub fn boot(&self) -> Result<BootOptions, CliError> {
        const HELP: &str = "boot-opts options:\n  menu=<bool (on/off)>\n  once=<str>\n  order=<str>\n  \
            reboot-timeout=<num>\n  splash-time=<num>\n  splash=<str>\n  strict=<bool (on/off)>";
        let keyval = self.merged_keyval(OptionId::Boot, "order")?;
        if keyval.help {
            return Err(CliError::Help(HELP.to_owned()));
        }
        BootOptions::read(&keyval.map).map_err(CliError::Message)
    }
}

impl BootOptions {
    fn read(map: &Map<String, Value>) -> Result<Self, String> {
        let mut boot = Self::default();
        for (key, value) in map {
            let wrong_kind = |kind: &str| format!("Parameter 'boot.{key}' expects {kind}");
            let text = value.as_str().ok_or_else(|| wrong_kind("a string"))?;
            let flag = || parse_bool(text).ok_or_else(|| wrong_kind("'on' or 'off'"));
            let number = || strtoi64(text, 0).map_err(|_| wrong_kind("integer"));
            match key.as_str() {
                "order" => boot.order = Some(drives(text)?),
                "once" => boot.once = Some(drives(text)?),
                "menu" => boot.menu = Some(flag()?),
                "strict" => boot.strict = flag()?,
                "splash" => boot.splash = Some(text.to_owned()),
                "splash-time" => {
                    let out_of_range = "splash-time is invalid,it should be a value between 0 and 65535";
                    boot.splash_time = Some(u16::try_from(number()?).map_err(|_| out_of_range)?);
                }
                "reboot-timeout" => {
                    let out_of_range = "reboot timeout is invalid,it should be a value between -1 and 65535";
                    let timeout = i32::try_from(number()?).ok().filter(|ms| (-1..=65535).contains(ms));
                    boot.reboot_timeout = Some(timeout.ok_or(out_of_range)?);
                }
                _ => return Err(format!("Parameter 'boot.{key}' is unexpected")),
            }
        }
        Ok(boot)
    }
}

/// A list of drives, each letter from a to p once.
fn drives(text: &str) -> Result<String, String> {
    for (at, drive) in text.char_indices() {
        if !('a'..='p').contains(&drive) {
            return Err(format!("Invalid boot device '{drive}'"));
        }
        if text[..at].contains(drive) {
            return Err(format!("Boot device '{drive}' was given twice"));
        }
    }
    Ok(text.to_owned())
}
