//! A folder that disappears with its owner, even one that is killed.

use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

/// A temporary folder. A shell waits for the end of this process, however it comes, and removes what is
/// left: destructors of statics never run, and those of a killed test neither.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    janitor: Child,
    /// Closed by the kernel when this process ends.
    alive: Option<ChildStdin>,
}

impl Folder {
    /// A new, empty folder under the system's temporary one.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn new(what: &str) -> Self {
        let path = tempfile::Builder::new()
            .prefix(&format!("tollgate-{what}-"))
            .tempdir()
            .unwrap_or_else(|error| panic!("no temporary folder: {error}"))
            .keep();
        // Servers that die at the same moment may still write: again until it is gone.
        let mut janitor = Command::new("sh")
            .args([
                "-c",
                "read _; until rm -rf -- \"$1\" 2>/dev/null; do sleep 0.1; done",
                "sh",
            ])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("sh cannot be started: {error}"));
        let alive = janitor.stdin.take();
        Self {
            path,
            janitor,
            alive,
        }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.alive.take());
        // Nothing is owed to a folder that could not be removed.
        let _ = self.janitor.wait();
    }
}
