//! The gateway as its users run it: the executable, started with flags, stopped with signals.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A port that was free a moment ago, below those that the kernel gives to outgoing connections: nobody
/// takes it by chance before the child does.
pub fn free_port() -> u16 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(61);
    (0..1_000)
        .map(|_| {
            NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
                .wrapping_add(first)
        })
        .map(|number| 10_000 + u16::try_from(number % 20_000).unwrap())
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}

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
    pub config: Option<PathBuf>,
    pub data_dir: PathBuf,
    pub port: u16,
    pub clickhouse_port: u16,
    pub env: Vec<(String, String)>,
}

/// A running gateway; killed when dropped.
pub struct Gateway {
    pub launch: Launch,
    child: Child,
    log: PathBuf,
}

impl Gateway {
    /// Starts it and waits until it is ready to serve.
    pub async fn start(launch: Launch) -> Self {
        let mut gateway = Self::spawn(launch);
        let client = crate::client::http();
        let url = format!("{}/health/readiness", gateway.url());
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = gateway.child.try_wait().unwrap() {
                panic!(
                    "the gateway ended with {status} before it was ready:\n{}",
                    gateway.log()
                );
            }
            if let Ok(answer) = client.get(&url).send().await
                && answer.status().is_success()
            {
                return gateway;
            }
            assert!(
                Instant::now() < deadline,
                "the gateway does not get ready:\n{}",
                gateway.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts it without waiting.
    pub fn spawn(launch: Launch) -> Self {
        std::fs::create_dir_all(&launch.data_dir).unwrap();
        let log = launch.data_dir.with_extension("log");
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

    /// Starts one role of the executable, to be stopped when the answer is dropped.
    pub fn role(role: &str, launch: &Launch) -> Self {
        std::fs::create_dir_all(&launch.data_dir).unwrap();
        let log = launch.data_dir.with_extension(format!("{role}.log"));
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let mut command = command_of(role, launch);
        let command = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        Self {
            launch: launch.clone(),
            child: command.spawn().unwrap(),
            log,
        }
    }

    /// Starts it where it is expected to refuse, and gives what it said.
    pub fn refused(launch: &Launch) -> Output {
        let mut child = command(launch)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
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

    /// `kill -9`, and what a new start finds.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and waits for an orderly end.
    pub fn stop(&mut self) {
        signal(self.pid(), "TERM");
        let deadline = Instant::now() + Duration::from_secs(30);
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
        let deadline = Instant::now() + Duration::from_secs(30);
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
            .arg(&self.launch.data_dir)
            .output()
            .unwrap()
    }

    /// The text of a file in the data directory.
    pub fn file(&self, name: &str) -> String {
        let path = self.launch.data_dir.join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the gateway\n{}", self.log());
        }
    }
}

fn command(launch: &Launch) -> Command {
    command_of("up", launch)
}

fn command_of(role: &str, launch: &Launch) -> Command {
    let mut command = Command::new(executable());
    command
        .arg(role)
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
