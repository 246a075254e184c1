//! One writer per directory: an exclusive `flock` on the file `lock`, which holds the writer's pid.
//!
//! The kernel drops the lock with the process, so a crash leaves nothing to clean up. A journal that is closed
//! gives it back itself: closing the file alone would not do while a child process stands between `fork` and
//! `exec`, for it shares the open file until then.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::Error;

/// Held as long as it lives.
pub struct DirLock {
    file: File,
}

impl DirLock {
    pub fn take(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("lock");
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                let read = file.read_to_string(&mut pid);
                let known = read.is_ok() && !pid.trim().is_empty();
                return Err(Error::Locked {
                    dir: dir.to_owned(),
                    pid: if known {
                        pid.trim().to_owned()
                    } else {
                        "?".to_owned()
                    },
                });
            }
            Err(errno) => return Err(Error::io("lock", &path)(errno)),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(Error::io("write", &path))?;
        Ok(Self { file })
    }
}

impl Drop for DirLock {
    fn drop(&mut self) {
        // It can't fail on a file that was locked; were it to, the close that follows does the same.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_shares_the_open_file_does_not_keep_the_lock() {
        let dir = tempfile::tempdir().expect("a folder");
        let lock = DirLock::take(dir.path()).expect("free");
        // What a child has between `fork` and `exec`.
        let childs = lock.file.try_clone().expect("shared");
        assert!(matches!(
            DirLock::take(dir.path()),
            Err(Error::Locked { .. })
        ));
        drop(lock);
        DirLock::take(dir.path()).expect("given back");
        drop(childs);
    }
}
