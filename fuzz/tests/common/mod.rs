//! What the tests share.

use std::fs;
use std::path::{Path, PathBuf};

use fuzz::TARGETS;

/// The folder of all corpora.
pub fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// Gives the targets that `wanted` names every input of their corpora.
pub fn try_again(wanted: impl Fn(&str) -> bool) {
    for target in TARGETS.iter().filter(|target| wanted(target.name)) {
        let files = fs::read_dir(corpora().join(target.name)).expect("each target has a folder");
        let mut count = 0;
        for file in files {
            let path = file.expect("a folder").path();
            // It says which one, should it fail.
            println!("{}", path.display());
            (target.run)(&fs::read(path).expect("a file"));
            count += 1;
        }
        assert!(count > 0, "{} has a corpus", target.name);
    }
}
