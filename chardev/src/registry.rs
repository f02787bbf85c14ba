//! The chardevs of the program, by id (`/chardevs`).

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::chr::Chardev;
use crate::error::ChardevError;

static CHARDEVS: Mutex<BTreeMap<String, Arc<Chardev>>> = Mutex::new(BTreeMap::new());

/// The chardev with this id (qemu_chr_find).
#[must_use]
pub fn find(id: &str) -> Option<Arc<Chardev>> {
    CHARDEVS.lock().get(id).cloned()
}

/// All chardevs, by id.
#[must_use]
pub fn list() -> Vec<Arc<Chardev>> {
    CHARDEVS.lock().values().cloned().collect()
}

pub(crate) fn add(chardev: &Arc<Chardev>) -> Result<(), ChardevError> {
    let mut chardevs = CHARDEVS.lock();
    if chardevs.contains_key(chardev.label()) {
        return Err(duplicate(chardev.label()));
    }
    chardevs.insert(chardev.label().to_owned(), chardev.clone());
    Ok(())
}

pub(crate) fn duplicate(id: &str) -> ChardevError {
    ChardevError::options(format!("Duplicate ID '{id}' for chardev"))
}

/// Removes a chardev that no frontend uses (`chardev-remove`).
///
/// # Errors
/// There is none with this id, or it is in use.
pub fn remove(id: &str) -> Result<(), ChardevError> {
    let mut chardevs = CHARDEVS.lock();
    let chardev = chardevs.get(id);
    let chardev = chardev.ok_or_else(|| ChardevError::options(format!("Chardev '{id}' not found")))?;
    if chardev.is_busy() {
        return Err(ChardevError::options(format!("Chardev '{id}' is busy")));
    }
    let removed = chardevs.remove(id);
    drop(chardevs);
    drop(removed);
    Ok(())
}

/// Closes and forgets all chardevs, in use or not, at the program's end (qemu_chr_cleanup): socket paths
/// are unlinked and the terminal is set back.
pub fn remove_all() {
    let chardevs = std::mem::take(&mut *CHARDEVS.lock());
    let mut chardevs: Vec<_> = chardevs.into_values().collect();
    // What multiplexers have left goes out by others.
    chardevs.sort_by_key(|chardev| !chardev.is_mux());
    for chardev in chardevs {
        chardev.close();
    }
}
