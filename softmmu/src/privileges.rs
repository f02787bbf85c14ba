//! `-chroot` and `-runas`: what the program gives up once its machine is made.
//!
//! Source: QEMU `os-posix.c`. Users and groups are those of the host's files: the program, which is static, asks no
//! other service.

use std::fs::read_to_string;
use std::os::unix::fs::chroot;

use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
use qom::{Error, Result, bail};
use util::cutils::strtou64;
use util::log::OsError;

const USERS: &str = "/etc/passwd";
const GROUPS: &str = "/etc/group";

/// Whom the program runs as afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunAs {
    uid: u32,
    gid: u32,
    /// All groups of the user.
    groups: Vec<u32>,
    /// The user's name, where one was given.
    name: Option<String>,
}

impl RunAs {
    /// A user's name, or numbers of a user and a group, `UID:GID`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> std::result::Result<RunAs, String> {
        let known = find_user(text, &read_to_string(USERS).unwrap_or_default());
        if let Some((uid, gid)) = known {
            let groups = groups_of(text, gid, &read_to_string(GROUPS).unwrap_or_default());
            return Ok(RunAs { uid, gid, groups, name: Some(text.to_owned()) });
        }
        match text.split_once(':').map(|(uid, gid)| (id(uid), id(gid))) {
            Some((Some(uid), Some(gid))) => Ok(RunAs { uid, gid, groups: vec![gid], name: None }),
            _ => Err(format!("User \"{text}\" doesn't exist (and is not <uid>:<gid>)")),
        }
    }

    /// Becomes that user (`change_process_uid`).
    fn change(&self) -> Result<()> {
        let RunAs { uid, gid, groups, name } = self;
        let refused = |what: String| move |_| Error::new(format!("Failed to {what}"));
        setgid(Gid::from_raw(*gid)).map_err(refused(format!("setgid({gid})")))?;
        let what = match name {
            Some(name) => format!("initgroups(\"{name}\", {gid})"),
            None => format!("setgroups(1, [{gid}])"),
        };
        let all: Vec<Gid> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        setgroups(&all).map_err(refused(what))?;
        setuid(Uid::from_raw(*uid)).map_err(refused(format!("setuid({uid})")))?;
        match setuid(Uid::from_raw(0)) {
            Ok(()) => bail!("Dropping privileges failed"),
            Err(_) => Ok(()),
        }
    }
}

/// A number that is a user's or a group's; all ones stand for none.
fn id(text: &str) -> Option<u32> {
    let number = strtou64(text, 0).ok()?;
    u32::try_from(number).ok().filter(|id| *id != u32::MAX)
}

/// A user's number and its group's, in lines of `name:password:uid:gid:…`.
fn find_user(name: &str, users: &str) -> Option<(u32, u32)> {
    users.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        match fields[..] {
            [user, _, uid, gid, ..] if user == name => Some((uid.parse().ok()?, gid.parse().ok()?)),
            _ => None,
        }
    })
}

/// The groups of a user whose own is `own`, in lines of `name:password:gid:user,…`.
fn groups_of(user: &str, own: u32, groups: &str) -> Vec<u32> {
    let others = groups.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        match fields[..] {
            [_, _, gid, users] if users.split(',').any(|member| member == user) => gid.parse().ok(),
            _ => None,
        }
    });
    std::iter::once(own).chain(others.filter(|gid| *gid != own)).collect()
}

/// What the program gives up.
#[derive(Clone, Debug, Default)]
pub struct Privileges {
    /// All files but those in this folder (`-chroot`).
    pub root: Option<String>,
    /// What only another user may do (`-runas`).
    pub user: Option<RunAs>,
}

impl Privileges {
    /// Gives them up, for good.
    ///
    /// # Errors
    /// What the host refuses.
    pub fn give_up(&self) -> Result<()> {
        if let Some(root) = &self.root {
            chroot(root).map_err(|_| Error::new("chroot failed"))?;
            std::env::set_current_dir("/")
                .map_err(|error| Error::new(format!("not able to chdir to /: {}", OsError(error))))?;
        }
        self.user.as_ref().map_or(Ok(()), RunAs::change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\nvm:x:64:70:Machines:/:/bin/false\n";
    const GROUPS: &str = "root:x:0:\nkvm:x:104:other,vm\nvm:x:70:vm\ndisk:x:6:vmx\n";

    #[test]
    fn users_have_the_groups_that_name_them() {
        assert_eq!(find_user("vm", USERS), Some((64, 70)));
        assert_eq!(find_user("v", USERS), None);
        assert_eq!(groups_of("vm", 70, GROUPS), [70, 104]);
    }

    #[test]
    fn numbers_are_a_user_and_a_group() {
        let parsed = RunAs::parse("0x40:70").expect("numbers");
        assert_eq!((parsed.uid, parsed.gid, parsed.groups, parsed.name), (64, 70, vec![70], None));
        for wrong in ["nobody-of-this-name", "1", "1:", "1:x", "4294967295:1", "1:4294967296"] {
            let told = format!("User \"{wrong}\" doesn't exist (and is not <uid>:<gid>)");
            assert_eq!(RunAs::parse(wrong), Err(told));
        }
    }
}
