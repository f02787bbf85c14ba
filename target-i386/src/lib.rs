//! x86 CPUs: models, features, registers, MSRs (target/i386/).
