//! `-sandbox`: system calls that the program never needs are taken from it, so that a guest that broke out does not
//! have them.
//!
//! Source: QEMU `softmmu/qemu-seccomp.c`: the same sets of calls, the same actions.

use std::collections::BTreeMap;

use qom::{Error, Result};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use crate::cli::SandboxOptions;

/// Numbers of system calls of x86-64 (Linux `arch/x86/entry/syscalls/syscall_64.tbl`).
mod nr {
    pub const SCHED_SETPARAM: i64 = 142;
    pub const SCHED_SETSCHEDULER: i64 = 144;
    pub const SCHED_SETAFFINITY: i64 = 203;
    pub const SETPRIORITY: i64 = 141;
    pub const CLONE: i64 = 56;
    pub const CLONE3: i64 = 435;
    /// syslog, mount, umount2, swapon, swapoff, reboot, getpmsg, putpmsg, afs_syscall, tuxcall, security, vserver,
    /// kexec_load.
    pub const DEFAULT: &[i64] = &[103, 165, 166, 167, 168, 169, 181, 182, 183, 184, 185, 236, 246];
    /// uselib, ustat, sysfs, _sysctl, create_module, get_kernel_syms, query_module.
    pub const OBSOLETE: &[i64] = &[134, 136, 139, 156, 174, 177, 178];
    /// setuid, setgid, setpgid, setsid, setreuid, setregid, setresuid, setresgid, setfsuid, setfsgid.
    pub const PRIVILEGED: &[i64] = &[105, 106, 109, 112, 113, 114, 117, 119, 122, 123];
    /// fork, vfork, execve, unshare, setns, execveat.
    pub const SPAWN: &[i64] = &[57, 58, 59, 272, 308, 322];
}

/// Flags of clone that a thread is made with: VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, SETTLS, PARENT_SETTID,
/// CHILD_CLEARTID.
const THREAD_FLAGS: [u64; 9] =
    [0x100, 0x200, 0x400, 0x800, 0x1_0000, 0x4_0000, 0x8_0000, 0x10_0000, 0x20_0000];
/// Flags of clone that no thread is made with: PIDFD, PTRACE, VFORK, PARENT, NEWNS, UNTRACED, NEWCGROUP, NEWUTS,
/// NEWIPC, NEWUSER, NEWPID, NEWNET, IO.
const OTHER_FLAGS: [u64; 13] = [
    0x1000,
    0x2000,
    0x4000,
    0x8000,
    0x2_0000,
    0x80_0000,
    0x200_0000,
    0x400_0000,
    0x800_0000,
    0x1000_0000,
    0x2000_0000,
    0x4000_0000,
    0x8000_0000,
];
const SCHED_IDLE: u64 = 5;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn wrong(error: impl std::fmt::Display) -> Error {
    Error::new(format!("failed to load seccomp syscall filter in kernel: {error}"))
}

/// A rule for calls with such an argument.
fn rule(argument: u8, operation: SeccompCmpOp, value: u64) -> Result<SeccompRule> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operation, value);
    SeccompRule::new(vec![condition.map_err(wrong)?]).map_err(wrong)
}

fn all_of(rules: &mut Rules, calls: &[i64]) {
    // No rule for a call means all of its uses.
    rules.extend(calls.iter().map(|call| (*call, Vec::new())));
}

/// A filter that does `action` where a rule fits.
fn filter(rules: Rules, action: SeccompAction) -> Result<BpfProgram> {
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, action, TargetArch::x86_64).map_err(wrong)?;
    filter.try_into().map_err(wrong)
}

/// The filters for what is to be denied.
fn filters(options: &SandboxOptions) -> Result<Vec<BpfProgram>> {
    let mut killed = Rules::new();
    all_of(&mut killed, nr::DEFAULT);
    if options.deny_obsolete {
        all_of(&mut killed, nr::OBSOLETE);
    }
    if options.deny_privileges {
        all_of(&mut killed, nr::PRIVILEGED);
    }
    if options.deny_spawn {
        all_of(&mut killed, nr::SPAWN);
        let missing = THREAD_FLAGS.iter().map(|flag| rule(0, SeccompCmpOp::MaskedEq(*flag), 0));
        let other = OTHER_FLAGS.iter().map(|flag| rule(0, SeccompCmpOp::MaskedEq(*flag), *flag));
        killed.insert(nr::CLONE, missing.chain(other).collect::<Result<_>>()?);
    }
    let mut filters = vec![filter(killed, SeccompAction::KillProcess)?];
    if options.deny_spawn {
        // Its flags are in memory, where no filter sees them; libraries then use clone.
        filters.push(filter(Rules::from([(nr::CLONE3, Vec::new())]), SeccompAction::Errno(ENOSYS))?);
    }
    if options.deny_resource_control {
        let mut refused = Rules::new();
        all_of(&mut refused, &[nr::SETPRIORITY, nr::SCHED_SETPARAM, nr::SCHED_SETAFFINITY]);
        refused.insert(nr::SCHED_SETSCHEDULER, vec![rule(1, SeccompCmpOp::Ne, SCHED_IDLE)?]);
        filters.push(filter(refused, SeccompAction::Errno(EPERM))?);
    }
    Ok(filters)
}

/// Takes the calls from this thread and all that it will start.
///
/// # Errors
/// When the host's kernel refuses.
pub fn start(options: &SandboxOptions) -> Result<()> {
    filters(options)?
        .iter()
        .try_for_each(|program| seccompiler::apply_filter_all_threads(program).map_err(wrong))
}
