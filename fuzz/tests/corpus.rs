//! Every input of the corpora, which are few and ours, goes through its target.

mod common;

use std::fs;

use fuzz::TARGETS;

#[test]
fn what_was_tried_once_is_tried_again() {
    common::try_again(|name| name != "ide" && !name.starts_with("virtio-"));
}

#[test]
fn each_corpus_has_a_target() {
    let folders = fs::read_dir(common::corpora()).expect("the corpora").count();
    assert_eq!(folders, TARGETS.len(), "each folder has a target");
}

#[test]
fn targets_have_words() {
    for target in TARGETS {
        assert!((target.words)().iter().all(|word| !word.is_empty()), "{}", target.name);
        assert!((target.words)().len() > 9, "{}", target.name);
    }
}
