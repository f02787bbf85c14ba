//! `-boot`.

use hw_core::bootdevice::validate_bootdevices;
use hw_core::machine::BootConfig;
use serde_json::{Map, Value};
use util::cutils::{parse_bool, strtoi64};

use super::{CliError, CommandLine, OptionId};

impl CommandLine {
    /// `-boot`.
    ///
    /// # Errors
    /// Unknown parameters, values of the wrong kind, drives that do not exist or come twice.
    pub fn boot(&self) -> Result<BootConfig, CliError> {
        const HELP: &str = "boot-opts options:\n  menu=<bool (on/off)>\n  once=<str>\n  order=<str>\n  \
            reboot-timeout=<num>\n  splash-time=<num>\n  splash=<str>\n  strict=<bool (on/off)>";
        let keyval = self.merged_keyval(OptionId::Boot, "order")?;
        if keyval.help {
            return Err(CliError::Help(HELP.to_owned()));
        }
        read(&keyval.map).map_err(CliError::Message)
    }
}

fn read(map: &Map<String, Value>) -> Result<BootConfig, String> {
    let mut boot = BootConfig::default();
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

/// A list of drives, each letter from a to p once.
fn drives(text: &str) -> Result<String, String> {
    validate_bootdevices(text).map_err(|error| error.message)?;
    Ok(text.to_owned())
}
