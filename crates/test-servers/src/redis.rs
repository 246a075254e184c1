//! One Redis, with its append-only file in a folder of its own.

use std::path::PathBuf;
use std::process::Stdio;

use parking_lot::Mutex;

use crate::{Folder, Process, free_port};

/// Keeps budget state: every second to disk, and never throws a key away.
pub const BUDGETS: &[&str] = &[
    "--save",
    "",
    "--appendonly",
    "yes",
    "--appendfsync",
    "everysec",
    "--maxmemory-policy",
    "noeviction",
];
/// Keeps cached answers: in memory, and throws the oldest away.
pub const ANSWERS: &[&str] = &[
    "--save",
    "",
    "--appendonly",
    "no",
    "--maxmemory",
    "64mb",
    "--maxmemory-policy",
    "allkeys-lru",
];

/// A Redis with its data. Dropping it kills it and removes the data.
pub struct Redis {
    port: u16,
    arguments: Vec<String>,
    server: Mutex<Option<Process>>,
    /// Dropped after the server.
    folder: Folder,
}

impl Redis {
    /// Starts one with these arguments, such as [`BUDGETS`].
    ///
    /// # Panics
    /// When `redis-server` (or what `TOLLGATE_REDIS_SERVER` names) cannot be started.
    pub async fn start(arguments: &[&str]) -> Self {
        let redis = Self {
            port: free_port(),
            arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
            server: Mutex::new(None),
            folder: Folder::new("redis"),
        };
        redis.restart().await;
        redis
    }

    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The server's process, while there is one.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.server.lock().as_ref().map(Process::id)
    }

    /// SIGSTOP: connections stay, nothing is answered.
    pub fn freeze(&self) {
        if let Some(server) = &*self.server.lock() {
            server.freeze();
        }
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        if let Some(server) = &*self.server.lock() {
            server.thaw();
        }
    }

    /// SIGKILL. The data stays for [`restart`](Self::restart).
    pub fn kill(&self) {
        drop(self.server.lock().take());
    }

    /// Starts it again, on its port and its data.
    ///
    /// # Panics
    /// When it does not listen in time.
    pub async fn restart(&self) {
        self.kill();
        let folder = self.folder.path();
        let log = folder.join("redis.log");
        let program =
            std::env::var_os("TOLLGATE_REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
        let mut server = Process::start(program, |command| {
            command
                .args([
                    "--port",
                    &self.port.to_string(),
                    "--bind",
                    "127.0.0.1",
                    "--dir",
                ])
                .arg(folder)
                .arg("--logfile")
                .arg(&log)
                .args(&self.arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
        });
        server
            .listens(self.port, || {
                std::fs::read_to_string(&log).unwrap_or_default()
            })
            .await;
        *self.server.lock() = Some(server);
    }

    /// The newest file that commands are appended to: what a power cut tears.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn append_only_file(&self) -> PathBuf {
        let folder = self.folder.path().join("appendonlydir");
        let files = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.to_string_lossy().ends_with(".incr.aof"));
        files
            .max()
            .unwrap_or_else(|| panic!("{} holds no append-only file", folder.display()))
    }
}
