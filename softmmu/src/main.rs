//! The program: options, machine, main loop (softmmu/).

fn main() {}
