//! File systems in image files, for the disks of machines, and programs that say nothing unless they fail.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// What it takes, besides the packages of the harness.
pub const PACKAGES: &[&str] = &["e2fsprogs"];

/// An image of a file system with what a folder has.
pub fn file_system(folder: &Path, image: &Path, size: &str) -> Result<()> {
    run(Command::new("mke2fs").args(["-q", "-t", "ext4", "-d"]).args([folder, image]).arg(size))
}

/// A file system that is sound, or was but for its journal.
pub fn fsck(image: &Path) -> Result<()> {
    run(Command::new("e2fsck").args(["-p", "-f"]).arg(image))
}

/// Runs a program, which shows what it printed only if it fails.
pub fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| name.clone())?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "{name} failed ({}): {}", output.status, String::from_utf8_lossy(&said));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_gives_back_what_it_was_made_of() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("folder");
        std::fs::create_dir(&folder).unwrap();
        let numbers: String = (1..=1_000_000).map(|n| format!("{n}\n")).collect();
        std::fs::write(folder.join("numbers"), &numbers).unwrap();
        let image = place.path().join("image");
        file_system(&folder, &image, "16M").unwrap();
        fsck(&image).unwrap();
        run(Command::new("debugfs").args(["-R", "dump /numbers found"]).arg(&image).current_dir(&place))
            .unwrap();
        assert_eq!(std::fs::read_to_string(place.path().join("found")).unwrap(), numbers);
        let failure = fsck(&place.path().join("nothing")).unwrap_err().to_string();
        assert!(failure.starts_with("e2fsck failed"), "{failure}");
    }
}
