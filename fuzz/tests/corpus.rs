//! Every input of the corpora, which are few and ours, goes through its target.

use std::fs;
use std::path::Path;

use fuzz::TARGETS;

#[test]
fn what_was_tried_once_is_tried_again() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in TARGETS {
        let files = fs::read_dir(corpus.join(target.name)).expect("each target has a folder");
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
    let folders = fs::read_dir(corpus).expect("the corpora").count();
    assert_eq!(folders, TARGETS.len(), "each folder has a target");
}

#[test]
fn targets_have_words() {
    for target in TARGETS {
        assert!((target.words)().iter().all(|word| !word.is_empty()), "{}", target.name);
        assert!((target.words)().len() > 9, "{}", target.name);
    }
}
