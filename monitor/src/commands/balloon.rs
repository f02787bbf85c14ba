//! The balloon (`softmmu/balloon.c`, `qapi/machine.json`).

use std::sync::Arc;

use hw_core::balloon::BalloonHandler;
use qapi::QapiType;
use qom::{Error, ErrorClass, Result, bail};

fn have_balloon() -> Result<Arc<dyn BalloonHandler>> {
    hw_core::balloon::balloon().ok_or_else(|| {
        Error::new("No balloon device has been activated").with_class(ErrorClass::DeviceNotActive)
    })
}

#[derive(QapiType)]
struct BalloonInfo {
    actual: i64,
}

/// Tells how much memory the balloon leaves the guest.
#[qapi::command("query-balloon")]
fn query_balloon() -> Result<BalloonInfo> {
    Ok(BalloonInfo { actual: have_balloon()?.actual() as i64 })
}

/// Asks the guest to give memory back.
#[qapi::command("balloon")]
fn balloon(value: i64) -> Result<()> {
    let handler = have_balloon()?;
    match u64::try_from(value) {
        Ok(target @ 1..) => handler.set_target(target),
        _ => bail!("Parameter 'target' expects a size"),
    }
    Ok(())
}
