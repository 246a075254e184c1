//! Keeps the embedded ClickHouse alive from the outside: starts it, waits until it answers, starts
//! it again when it dies, and ends it in order.
//!
//! The child is started from a thread that lives as long as the supervisor, since the kernel's
//! death signal follows that thread, not the process.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{oneshot, watch};

use super::PARENT_PID_VARIABLE;

/// First pause before a new start; doubled each time up to the last.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_LAST: Duration = Duration::from_secs(5);
/// A child that lived this long was healthy: the next pause is the first one again.
const HEALTHY: Duration = Duration::from_secs(30);
/// Pause between two questions to a child that does not answer yet.
const POLL: Duration = Duration::from_millis(20);
/// The child of a process that was killed dies with it, but its memory is not gone at once: a start right behind it
/// waits so long for the port.
const DYING: Duration = Duration::from_secs(5);
/// From asking the child to end until it is killed.
const END_GRACE: Duration = Duration::from_secs(12);

/// Variables that the child gets from us.
const PASSED_ON: &[&str] = &[
    "HOME",
    "LANG",
    "LD_LIBRARY_PATH",
    "PATH",
    "TMPDIR",
    "TOLLGATE_LIBCHDB",
    "TZ",
    "XDG_CACHE_HOME",
];

/// What to keep alive.
#[derive(Debug, Clone)]
pub struct SupervisorOptions {
    /// Where the child listens.
    pub addr: SocketAddr,
    /// A child that does not answer within this time is killed and started again.
    pub start_timeout: Duration,
}

impl SupervisorOptions {
    #[must_use]
    pub const fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            start_timeout: Duration::from_secs(60),
        }
    }
}

/// Why there is no child.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    #[error("port {port} on {ip} is in use; choose another with --clickhouse-port", ip = .0.ip(), port = .0.port())]
    PortInUse(SocketAddr),
    #[error("cannot listen on {addr}")]
    Listen {
        addr: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("the supervisor of the embedded ClickHouse cannot start")]
    Thread(#[source] std::io::Error),
    #[error("the embedded ClickHouse did not answer within {0:?}; its messages stand above")]
    NotReady(Duration),
}

/// The embedded ClickHouse as a child process. Dropping it kills the child.
pub struct Supervisor {
    ready: watch::Receiver<bool>,
    pid: Arc<AtomicU32>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Supervisor {
    /// Starts the child that `command` makes, again and again. Returns at once, unless the address is taken; see
    /// [`Self::wait_ready`].
    ///
    /// The child must call [`super::serve`] on `options.addr`. Its standard streams are those that
    /// `command` sets.
    ///
    /// # Errors
    /// The address is taken or cannot be listened on.
    pub fn start(
        options: SupervisorOptions,
        command: impl FnMut() -> Command + Send + 'static,
    ) -> Result<Self, SupervisorError> {
        probe(options.addr)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(SupervisorError::Thread)?;
        let (ready_sender, ready) = watch::channel(false);
        let (stop, stopped) = oneshot::channel();
        let pid = Arc::new(AtomicU32::new(0));
        let shown = Arc::clone(&pid);
        let thread = std::thread::Builder::new()
            .name("ch-supervisor".to_owned())
            .spawn(move || {
                let keeping = keep(options, command, &ready_sender, &shown, stopped);
                runtime.block_on(keeping);
            })
            .map_err(SupervisorError::Thread)?;
        Ok(Self {
            ready,
            pid,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Whether the child answers, as it changes.
    #[must_use]
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.clone()
    }

    /// Waits until the child answers.
    ///
    /// # Errors
    /// It does not, for that long.
    pub async fn wait_ready(&self, timeout: Duration) -> Result<(), SupervisorError> {
        let mut ready = self.ready.clone();
        match tokio::time::timeout(timeout, ready.wait_for(|ready| *ready)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(SupervisorError::NotReady(timeout)),
        }
    }

    /// Process id of the child, `None` between two of them.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        Some(self.pid.load(Ordering::Acquire)).filter(|pid| *pid != 0)
    }

    /// Ends the child in order (SIGTERM, then SIGKILL after twelve seconds) and waits for it.
    pub async fn shutdown(mut self) {
        if let Some(stop) = self.stop.take() {
            // A thread that is gone has stopped already.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take()
            && tokio::task::spawn_blocking(move || thread.join())
                .await
                .is_err()
        {
            tracing::error!("the supervisor of the embedded ClickHouse panicked");
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // Dropped without `shutdown`: the channel closes, which the thread takes as "kill".
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the supervisor of the embedded ClickHouse panicked");
        }
    }
}

/// Whether the address is free, or soon is. Somebody may take it a moment later; the child then says so.
fn probe(addr: SocketAddr) -> Result<(), SupervisorError> {
    let deadline = Instant::now() + DYING;
    loop {
        match std::net::TcpListener::bind(addr) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() != std::io::ErrorKind::AddrInUse => {
                return Err(SupervisorError::Listen {
                    addr,
                    source: error,
                });
            }
            Err(_) if Instant::now() < deadline => std::thread::sleep(POLL),
            Err(_) => return Err(SupervisorError::PortInUse(addr)),
        }
    }
}

async fn keep(
    options: SupervisorOptions,
    mut command: impl FnMut() -> Command,
    ready: &watch::Sender<bool>,
    shown_pid: &AtomicU32,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut backoff = BACKOFF_FIRST;
    loop {
        let started = Instant::now();
        let mut command = tokio::process::Command::from(without_secrets(command()));
        command.kill_on_drop(true);
        match command.spawn() {
            Ok(mut child) => {
                let pid = child.id().unwrap_or_default();
                shown_pid.store(pid, Ordering::Release);
                let life = async {
                    let waiting = answers(options.addr, pid);
                    match tokio::time::timeout(options.start_timeout, waiting).await {
                        Ok(()) => {
                            ready.send_replace(true);
                            tracing::debug!(process.pid = pid, "the embedded ClickHouse answers");
                            std::future::pending().await
                        }
                        Err(_) => "did not answer in time and is killed",
                    }
                };
                let end = tokio::select! {
                    status = child.wait() => format!("ended ({})", match status {
                        Ok(status) => status.to_string(),
                        Err(error) => error.to_string(),
                    }),
                    why = life => why.to_owned(),
                    stop = &mut stopped => {
                        ready.send_replace(false);
                        end(&mut child, pid, stop.is_ok()).await;
                        shown_pid.store(0, Ordering::Release);
                        return;
                    }
                };
                ready.send_replace(false);
                // No-op on a child that has ended; waits for one that has not.
                if let Err(error) = child.kill().await {
                    tracing::debug!(%error, "the embedded ClickHouse had ended");
                }
                shown_pid.store(0, Ordering::Release);
                tracing::warn!(
                    process.pid = pid,
                    "the embedded ClickHouse {end}; starting it again"
                );
            }
            Err(error) => tracing::error!(%error, "the embedded ClickHouse cannot be started"),
        }
        if started.elapsed() >= HEALTHY {
            backoff = BACKOFF_FIRST;
        }
        tokio::select! {
            () = tokio::time::sleep(backoff) => backoff = (backoff * 2).min(BACKOFF_LAST),
            _ = &mut stopped => return,
        }
    }
}

/// Leaves of our environment what the child needs: keys of providers stand there too, and the engine
/// can read its own. What `command` sets by itself stays.
fn without_secrets(mut command: Command) -> Command {
    let own: Vec<_> = command
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect();
    command.env_clear();
    let kept = std::env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        PASSED_ON.contains(&&*name) || name.starts_with("RUST_") || name.starts_with("LC_")
    });
    command.envs(kept).envs(own);
    command.env(PARENT_PID_VARIABLE, std::process::id().to_string());
    command
}

/// Asks the child to end if there is `time`, then makes it.
async fn end(child: &mut tokio::process::Child, pid: u32, time: bool) {
    if time
        && let Some(pid) = i32::try_from(pid)
            .ok()
            .and_then(rustix::process::Pid::from_raw)
    {
        // Not waited for yet, so the id is still the child's.
        if let Err(error) = rustix::process::kill_process(pid, rustix::process::Signal::TERM) {
            tracing::debug!(%error, "the embedded ClickHouse had ended");
        }
        if tokio::time::timeout(END_GRACE, child.wait()).await.is_ok() {
            return;
        }
        tracing::warn!("the embedded ClickHouse did not end when asked, and is killed");
    }
    if let Err(error) = child.kill().await {
        tracing::debug!(%error, "the embedded ClickHouse had ended");
    }
}

/// Resolves once `/ping` is answered by that very process.
async fn answers(addr: SocketAddr, pid: u32) {
    let expected = format!("{}: {pid}\r\n", super::PID_HEADER);
    loop {
        if let Ok(answer) = ping(addr).await
            && answer.starts_with("HTTP/1.1 200")
            && answer.to_ascii_lowercase().contains(&expected)
        {
            return;
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn ping(addr: SocketAddr) -> std::io::Result<String> {
    let mut stream = tokio::net::TcpStream::connect(addr).await?;
    let request = format!("GET /ping HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // The answer has a few hundred bytes; a stranger's may be endless.
    stream.take(4096).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
