//! `pack DIRECTORY GUEST…`: writes each guest in every kernel format into a directory.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(to), guests) = (arguments.next(), arguments.collect::<Vec<_>>()) else {
        eprintln!("usage: pack DIRECTORY GUEST...");
        return ExitCode::FAILURE;
    };
    match pack::pack_files(&guests, &to) {
        Ok(files) => {
            for file in files {
                println!("{}", file.display());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("pack: {error}");
            ExitCode::FAILURE
        }
    }
}
