//! `-audiodev`: where sound goes. The only driver is `none`, which libvirt names for every guest; as no device
//! here makes sound yet, a backend is checked and has nothing to do. Source: QEMU `audio/audio.c`
//! (`audio_parse_option`, `audio_validate_opts`), `qapi/audio.json`.

use qapi::QapiType;
use qom::{Result, bail};

use crate::cli::TreeOption;

/// What `-audiodev help` prints.
pub const HELP: &str = "Available audio drivers:\nnone\n";

#[derive(QapiType)]
enum AudiodevDriver {
    None,
}

#[derive(QapiType)]
enum AudioFormat {
    U8,
    S8,
    U16,
    S16,
    U32,
    S32,
    F32,
}

#[derive(QapiType)]
struct AudiodevPerDirectionOptions {
    #[qapi(name = "mixing-engine")]
    mixing_engine: Option<bool>,
    #[qapi(name = "fixed-settings")]
    fixed_settings: Option<bool>,
    frequency: Option<u32>,
    channels: Option<u32>,
    voices: Option<u32>,
    format: Option<AudioFormat>,
    #[qapi(name = "buffer-length")]
    buffer_length: Option<u32>,
}

#[derive(QapiType)]
struct Audiodev {
    id: String,
    driver: AudiodevDriver,
    #[qapi(name = "timer-period")]
    timer_period: Option<u32>,
    #[qapi(name = "in")]
    input: Option<AudiodevPerDirectionOptions>,
    #[qapi(name = "out")]
    output: Option<AudiodevPerDirectionOptions>,
}

/// Checks an `-audiodev`.
///
/// # Errors
/// Names what is missing or wrong.
pub fn check(option: &TreeOption) -> Result<()> {
    option.with(|device: Audiodev| device.input.iter().chain(&device.output).try_for_each(check_direction))
}

fn check_direction(options: &AudiodevPerDirectionOptions) -> Result<()> {
    let mixes = options.mixing_engine.unwrap_or(true);
    let fixed = options.fixed_settings.unwrap_or(mixes);
    let settings = options.frequency.is_some() || options.channels.is_some() || options.format.is_some();
    if !fixed && settings {
        bail!("You can't use frequency, channels or format with fixed-settings=off");
    }
    if fixed && !mixes {
        bail!("You can't use fixed-settings without mixeng");
    }
    Ok(())
}
