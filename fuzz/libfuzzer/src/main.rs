//! One of `fuzz`'s targets under libFuzzer: `FUZZ_TARGET` names it, and its words are written to the file that
//! `FUZZ_WORDS` names, for `-dict=`.
#![no_main]

use std::sync::OnceLock;

use fuzz::Target;
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<&'static Target> = OnceLock::new();

/// Words as libFuzzer's dictionaries have them: characters up to U+00FF stand for bytes.
fn dictionary(words: &[String]) -> String {
    let escaped = |char: char| match char {
        '\\' | '"' => format!("\\{char}"),
        ' '..='~' => char.to_string(),
        _ => format!("\\x{:02x}", u32::from(char)),
    };
    words.iter().map(|word| format!("\"{}\"\n", word.chars().map(escaped).collect::<String>())).collect()
}

fn prepare() {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    let target = fuzz::find(&name).unwrap_or_else(|| panic!("no target '{name}'"));
    if let Ok(file) = std::env::var("FUZZ_WORDS") {
        std::fs::write(file, dictionary(&(target.words)())).expect("the dictionary can be written");
    }
    let _ = TARGET.set(target);
}

fuzz_target!(init: prepare(), |data: &[u8]| {
    if let Some(target) = TARGET.get() {
        (target.run)(data);
    }
});
