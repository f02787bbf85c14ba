//! Where files are that come with the program in QEMU: firmware and option ROMs.
//!
//! Source: QEMU `softmmu/datadir.c`.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;

/// Where distributions install them, first match first.
const USUAL: [&str; 4] =
    ["/usr/share/qemu", "/usr/share/seabios", "/usr/local/share/qemu", "/usr/lib/ipxe/qemu"];

/// Folders that `-L` named, looked at before the usual ones.
static GIVEN: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Has files looked for in `folder`, too (`-L`).
pub fn add_data_dir(folder: &str) {
    GIVEN.lock().push(folder.into());
}

/// The file `name`, as a path of its own or in one of the folders (`qemu_find_file`).
pub fn find_file(name: &str) -> Option<PathBuf> {
    let named = Path::new(name);
    if named.exists() {
        return Some(named.to_owned());
    }
    let given = GIVEN.lock().clone();
    let folders = given.into_iter().chain(USUAL.map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|path| path.exists())
}
