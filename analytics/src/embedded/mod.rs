//! The embedded ClickHouse: the engine of `libchdb` behind ClickHouse's HTTP interface.
//!
//! Runs in a child process of its own, since a crash of the engine must never take a request with
//! it. One data directory per process and one process per data directory:
//!
//! ```text
//! <data_dir>/engine/    the engine's tables; it alone writes there, under its own lock
//! <data_dir>/uploads/   rows of inserts that are running; emptied at start
//! ```
//! A lock dies with its process, so a killed child blocks nobody.

mod engine;
mod ffi;
mod http;
mod refusal;
mod sandbox;
mod sql;
mod supervisor;
mod wire;

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

pub use engine::StartError;
pub use ffi::LoadError;
pub use http::{ANALYST, WRITER};
pub use sandbox::Walls;
pub use supervisor::{Supervisor, SupervisorError, SupervisorOptions};

pub(crate) use refusal::code_of;
pub(crate) const PID_HEADER: &str = "x-tollgate-pid";

/// Set by [`Supervisor`] for its child: the process to die with.
pub const PARENT_PID_VARIABLE: &str = "TOLLGATE_SUPERVISOR_PID";

/// How long reads that run may go on after the shutdown; then they are killed.
const GRACE: Duration = Duration::from_secs(3);

/// What the child process needs.
#[derive(Clone)]
pub struct EmbeddedOptions {
    /// Made if missing; belongs to this process alone.
    pub data_dir: PathBuf,
    /// Port 0 takes a free one, told through `ready`.
    pub listen: SocketAddr,
    /// `libchdb.so`.
    pub lib: PathBuf,
    /// Of the login `tollgate`, which may do everything.
    pub writer_password: String,
    /// Of the login `analyst`, which may read tables.
    pub analyst_password: String,
}

/// Why the embedded ClickHouse ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("port {port} on {ip} is in use; choose another with --clickhouse-port", ip = .0.ip(), port = .0.port())]
    PortInUse(SocketAddr),
    #[error("cannot listen on {addr}")]
    Listen {
        addr: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot use the data directory {path}")]
    DataDir {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the ClickHouse engine did not start")]
    Engine(#[from] StartError),
    #[error("the thread that starts the engine ended")]
    StartThread,
    #[error("the ClickHouse HTTP interface failed")]
    Http(#[source] std::io::Error),
    #[error("the process that started this one is gone")]
    Orphan,
}

/// Serves until `shutdown` resolves, then closes every session in order.
///
/// `ready` is told the address once questions are answered.
///
/// # Errors
/// The port or the data directory is taken, the library is missing or of another version.
pub async fn serve(
    options: EmbeddedOptions,
    ready: oneshot::Sender<SocketAddr>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    die_with_parent()?;
    // The port first: a second start with the same settings fails before it touches any file.
    let listener = listen(options.listen).await?;
    let addr = listener.local_addr().map_err(ServeError::Http)?;
    let data_dir = prepare(&options.data_dir).map_err(|source| ServeError::DataDir {
        path: options.data_dir.clone(),
        source,
    })?;
    let (lib, dir) = (options.lib.clone(), data_dir.clone());
    let (engine, threads) = tokio::task::spawn_blocking(move || {
        let lib = lib.canonicalize().unwrap_or(lib);
        engine::Engine::start(&lib, &dir)
    })
    .await
    .map_err(|_| ServeError::StartThread)??;
    if engine.facts.walls != Walls::Full {
        tracing::warn!(
            walls = ?engine.facts.walls,
            "this kernel cannot confine the engine fully; statements are checked all the same"
        );
    }

    let front = http::Front::new(
        engine,
        data_dir.join("uploads"),
        &options.writer_password,
        &options.analyst_password,
    );
    let app = axum::Router::new()
        .fallback(http::handle)
        .with_state(Arc::new(front));
    let (stop, stopped) = oneshot::channel::<()>();
    let server = axum::serve(listener, app).with_graceful_shutdown(async move {
        shutdown.await;
        // Nobody waits for the message only if the server failed by itself.
        let _ = stop.send(());
    });
    // Whoever asked to be told may have gone; the server runs all the same.
    let _ = ready.send(addr);

    // Idle keep-alive connections close at once; requests get the grace, then lose their query.
    let late = async {
        let _ = stopped.await;
        tokio::time::sleep(GRACE).await;
        threads.kill_reads();
        tokio::time::sleep(GRACE).await;
    };
    let served = tokio::select! {
        served = server.into_future() => served.map_err(ServeError::Http),
        () = late => Ok(()),
    };
    // A handler that is still there keeps the engine open; the engine's end is then bounded too.
    let joined = tokio::task::spawn_blocking(move || threads.join());
    if tokio::time::timeout(GRACE, joined).await.is_err() {
        tracing::error!("the engine did not close in time");
    }
    served
}

async fn listen(addr: SocketAddr) -> Result<tokio::net::TcpListener, ServeError> {
    tokio::net::TcpListener::bind(addr)
        .await
        .map_err(|source| match source.kind() {
            std::io::ErrorKind::AddrInUse => ServeError::PortInUse(addr),
            _ => ServeError::Listen { addr, source },
        })
}

/// Makes the directories, for the owner only, and removes what a killed process left behind.
fn prepare(data_dir: &Path) -> std::io::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt as _;
    let make = |path: &Path| {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
    };
    make(data_dir)?;
    let data_dir = data_dir.canonicalize()?;
    make(&data_dir.join("engine"))?;
    let uploads = data_dir.join("uploads");
    make(&uploads)?;
    for left in std::fs::read_dir(&uploads)? {
        std::fs::remove_file(left?.path())?;
    }
    Ok(data_dir)
}

/// Under a supervisor: the kernel kills this process when that one goes, however it goes.
fn die_with_parent() -> Result<(), ServeError> {
    let Some(expected) = std::env::var(PARENT_PID_VARIABLE)
        .ok()
        .and_then(|pid| pid.parse::<i32>().ok())
    else {
        return Ok(());
    };
    let killed =
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    if let Err(error) = killed {
        tracing::warn!(%error, "this process will outlive its supervisor");
    }
    // Gone between our start and the call above.
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    if parent == Some(expected) {
        Ok(())
    } else {
        Err(ServeError::Orphan)
    }
}
