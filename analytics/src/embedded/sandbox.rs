//! Walls around the engine's threads, by Landlock: its files are its data directory, and no TCP.
//!
//! A second defence. `file()` and `INTO OUTFILE` reach any file of the user otherwise, and the
//! engine has a dozen ways to open a connection; statements are checked in [`super::sql`] first.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus,
};

/// Newest rights that we ask for; an older kernel gives what it has.
const ABI_WANTED: ABI = ABI::V5;

/// What the loader and the engine read outside of the data directory.
///
/// The engine aborts where a new thread cannot read its own `schedstat`, hence `task`. The
/// environment of the process stands there too; the supervisor leaves nothing secret in it. It also
/// aborts where it cannot read the executable for the stack trace of an ordinary error.
const READABLE: &[&str] = &[
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/share/zoneinfo",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/proc/self/task",
    "/proc/meminfo",
    "/proc/cpuinfo",
    "/proc/stat",
    "/proc/loadavg",
    "/proc/uptime",
    "/proc/sys",
    "/sys/devices/system",
    "/sys/fs/cgroup",
    "/sys/kernel/mm",
    "/dev/urandom",
    "/dev/random",
];

/// How much of the wall the kernel could build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walls {
    Full,
    Partial,
    None,
}

/// The ground inside of the walls. Lives as long as the engine: `/proc` forgets a right together
/// with the entry, unless the entry is held open.
pub struct Ground {
    readable: Vec<PathFd>,
    writable: Vec<PathFd>,
}

impl Ground {
    /// Opens what may be read and written. A file of the list that this machine lacks is left out.
    #[must_use]
    pub fn new(library: &Path, data_dir: &Path) -> Self {
        let open = |paths: &mut dyn Iterator<Item = PathBuf>| {
            paths.filter_map(|path| PathFd::new(path).ok()).collect()
        };
        let own = [Some(library.to_owned()), std::env::current_exe().ok()];
        let readable = READABLE.iter().map(PathBuf::from);
        Self {
            readable: open(&mut readable.chain(own.into_iter().flatten())),
            writable: open(&mut [data_dir.to_owned(), PathBuf::from("/dev/null")].into_iter()),
        }
    }

    /// Confines the calling thread and all that it starts from now on.
    ///
    /// # Errors
    /// The kernel has Landlock and refused; one without Landlock is [`Walls::None`].
    pub fn confine(&self) -> Result<Walls, RulesetError> {
        let status = Ruleset::default()
            .handle_access(AccessFs::from_all(ABI_WANTED))?
            .handle_access(AccessNet::from_all(ABI_WANTED))?
            .create()?
            .add_rules(rules(&self.readable, AccessFs::from_read(ABI_WANTED)))?
            .add_rules(rules(&self.writable, AccessFs::from_all(ABI_WANTED)))?
            .restrict_self()?;
        Ok(match status.ruleset {
            RulesetStatus::FullyEnforced => Walls::Full,
            RulesetStatus::PartiallyEnforced => Walls::Partial,
            RulesetStatus::NotEnforced => Walls::None,
        })
    }
}

/// Rights on directories that a plain file cannot have are left out by the crate.
fn rules(
    paths: &[PathFd],
    access: BitFlags<AccessFs>,
) -> impl Iterator<Item = Result<PathBeneath<&PathFd>, RulesetError>> {
    paths
        .iter()
        .map(move |path| Ok(PathBeneath::new(path, access)))
}
