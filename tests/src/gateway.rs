//! One process of Tollgate as its users run it: the executable with a role and flags, stopped with signals.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::PATIENCE;

pub use test_servers::free_port;

/// The executable under test: built beside the test binaries.
pub fn executable() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.ancestors().nth(2).unwrap().join("tollgate");
    assert!(
        path.exists(),
        "{} is not built: run through ./tollgate test",
        path.display()
    );
    path
}

/// What to start, and where.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The word behind `tollgate`.
    pub role: &'static str,
    pub config: Option<PathBuf>,
    pub data_dir: PathBuf,
    pub port: u16,
    pub clickhouse_port: u16,
    pub env: Vec<(String, String)>,
    /// The data directory is a small disk of its own, of so many bytes, that only this process sees: see
    /// [`Gateway::data_dir`].
    pub disk_bytes: Option<u64>,
}

/// A running gateway; killed when dropped.
pub struct Gateway {
    pub launch: Launch,
    child: Child,
    log: PathBuf,
}

impl Launch {
    /// Everything in one process, over an empty folder and free ports.
    pub fn up(config: Option<PathBuf>, data_dir: PathBuf) -> Self {
        Self::role("up", config, data_dir)
    }

    /// One role of it.
    pub fn role(role: &'static str, config: Option<PathBuf>, data_dir: PathBuf) -> Self {
        Self {
            role,
            config,
            data_dir,
            port: free_port(),
            clickhouse_port: free_port(),
            env: Vec::new(),
            disk_bytes: None,
        }
    }
}

impl Gateway {
    /// Starts it and waits until it is ready to serve.
    pub async fn start(launch: Launch) -> Self {
        let mut gateway = Self::spawn(launch);
        gateway.ready().await;
        gateway
    }

    /// Waits until its readiness says so.
    pub async fn ready(&mut self) {
        let client = crate::client::http();
        let url = match self.launch.role {
            "clickhouse" => format!("http://127.0.0.1:{}/ping", self.launch.clickhouse_port),
            _ => format!("{}/health/readiness", self.url()),
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!(
                    "{} ended with {status} before it was ready:\n{}",
                    self.launch.role,
                    self.log()
                );
            }
            let answer = client
                .get(&url)
                .timeout(Duration::from_secs(5))
                .send()
                .await;
            let missing = match answer {
                Ok(answer) if answer.status().is_success() => return,
                Ok(answer) => answer.text().await.unwrap_or_default(),
                Err(error) => error.to_string(),
            };
            assert!(
                Instant::now() < deadline,
                "{} does not get ready: {missing}\n{}",
                self.launch.role,
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts it without waiting.
    pub fn spawn(launch: Launch) -> Self {
        std::fs::create_dir_all(&launch.data_dir).unwrap();
        let log = launch
            .data_dir
            .with_extension(format!("{}.log", launch.role));
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let child = command(&launch)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self { launch, child, log }
    }

    /// Starts it again over the same data, after it was killed or stopped, without waiting.
    pub fn again(&mut self) {
        self.kill();
        // The engine of `up` dies with it, a moment later where the machine is busy.
        let deadline = Instant::now() + PATIENCE;
        let port = ("127.0.0.1", self.launch.clickhouse_port);
        while self.launch.role == "up" && std::net::TcpListener::bind(port).is_err() {
            assert!(Instant::now() < deadline, "its engine goes on");
            std::thread::sleep(Duration::from_millis(10));
        }
        *self = Self::spawn(self.launch.clone());
    }

    /// Starts it where it is expected to refuse, and gives what it said.
    pub fn refused(launch: &Launch) -> Output {
        let mut child = command(launch)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                child.kill().unwrap();
                panic!("it was to refuse to start, and runs: {launch:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        child.wait_with_output().unwrap()
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.launch.port)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// `kill -9`, and what a new start finds. Nothing where it is dead already.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Whether the process is there.
    pub fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// SIGTERM, and waits for an orderly end.
    pub fn stop(&mut self) {
        signal(self.pid(), "TERM");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "stopped with {status}:\n{}", self.log());
                return;
            }
            assert!(Instant::now() < deadline, "does not stop:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until it ends by itself, as at a fail point.
    pub async fn died(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(
                Instant::now() < deadline,
                "was to die, and lives:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A command of the executable that finds this instance by its data directory.
    pub fn run(&self, arguments: &[&str]) -> Output {
        Command::new(executable())
            .args(arguments)
            .arg("--data-dir")
            .arg(self.data_dir())
            .output()
            .unwrap()
    }

    /// The data directory, as this process can reach it.
    pub fn data_dir(&self) -> PathBuf {
        let inside = &self.launch.data_dir;
        match self.launch.disk_bytes {
            None => inside.clone(),
            Some(_) => Path::new("/proc")
                .join(self.pid().to_string())
                .join("root")
                .join(inside.strip_prefix("/").unwrap()),
        }
    }

    /// The text of a file in the data directory.
    pub fn file(&self, name: &str) -> String {
        let path = self.data_dir().join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            // The end of it tells what happened last.
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(80)..].join("\n");
            eprintln!(
                "--- log of {} at {}\n{last}",
                self.launch.role, self.launch.port
            );
        }
    }
}

/// Whether a process may have a disk of its own here: containers often forbid it.
pub fn can_have_a_disk() -> bool {
    let mut command = with_a_disk(Path::new("/mnt"), 1 << 20);
    command
        .arg("true")
        .output()
        .is_ok_and(|done| done.status.success())
}

/// Runs what follows with a disk in memory over `dir`, in a mount namespace that ends with it.
fn with_a_disk(dir: &Path, bytes: u64) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
        .arg(format!(
            "mount -t tmpfs -o size={bytes} small \"$0\" && exec \"$@\""
        ))
        .arg(dir);
    command
}

fn command(launch: &Launch) -> Command {
    let mut command = match launch.disk_bytes {
        None => Command::new(executable()),
        Some(bytes) => {
            let mut command = with_a_disk(&launch.data_dir, bytes);
            command.arg(executable());
            command
        }
    };
    command
        .arg(launch.role)
        .args(["--port", &launch.port.to_string()])
        .args(["--clickhouse-port", &launch.clickhouse_port.to_string()])
        .arg("--data-dir")
        .arg(&launch.data_dir)
        .env_remove("TOLLGATE_MASTER_KEY")
        .env_remove("LITELLM_MASTER_KEY");
    if let Some(config) = &launch.config {
        command.arg("--config").arg(config);
    }
    for (name, value) in &launch.env {
        command.env(name, value);
    }
    command
}

/// Sends a signal by name.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

/// Child processes of a process, by their command line.
pub fn children(pid: u32, needle: &str) -> Vec<u32> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<u32>>()
        })
        .filter(|child| {
            let line = std::fs::read(Path::new("/proc").join(child.to_string()).join("cmdline"));
            line.is_ok_and(|line| String::from_utf8_lossy(&line).contains(needle))
        })
        .collect()
}
