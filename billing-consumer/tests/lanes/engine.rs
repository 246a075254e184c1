//! The real engine, one child for all tests of the binary, a database for each.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use analytics::Store;
use analytics::embedded::{self, EmbeddedOptions, Supervisor, SupervisorOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub const PASSWORD: &str = "writer";
const CHILD_DIR: &str = "BILLING_TEST_ENGINE_DIR";
const CHILD_ADDR: &str = "BILLING_TEST_ENGINE_ADDR";

/// Not a test of its own: the engine's child process runs it.
#[test]
fn as_a_child_it_is_the_engine() {
    let (Ok(dir), Ok(addr)) = (std::env::var(CHILD_DIR), std::env::var(CHILD_ADDR)) else {
        return;
    };
    let options = EmbeddedOptions {
        data_dir: dir.into(),
        listen: addr.parse().unwrap(),
        lib: library(),
        writer_password: PASSWORD.to_owned(),
        analyst_password: "analyst".to_owned(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut term = signal(SignalKind::terminate()).unwrap();
        let (ready, _told) = tokio::sync::oneshot::channel();
        let end = async move {
            term.recv().await;
        };
        embedded::serve(options, ready, end).await.unwrap();
    });
}

fn library() -> PathBuf {
    std::env::var_os("TOLLGATE_LIBCHDB")
        .expect("TOLLGATE_LIBCHDB names no libchdb.so: run through ./tollgate test")
        .into()
}

/// A port that was free a moment ago, below those that the kernel gives to outgoing connections: nobody
/// takes it by chance before the child does.
pub fn free_addr() -> SocketAddr {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(61);
    (0..1_000)
        .map(|_| {
            NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
                .wrapping_add(first)
        })
        .map(|number| 10_000 + u16::try_from(number % 10_000).unwrap())
        .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
        .find(|addr| std::net::TcpListener::bind(addr).is_ok())
        .unwrap()
}

/// Starts an engine on a directory and waits until it answers.
pub async fn start(dir: &Path, addr: SocketAddr) -> Supervisor {
    library();
    let dir = dir.to_owned();
    let supervisor = Supervisor::start(SupervisorOptions::new(addr), move || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([
                "--exact",
                "engine::as_a_child_it_is_the_engine",
                "--nocapture",
            ])
            .env(CHILD_DIR, &dir)
            .env(CHILD_ADDR, addr.to_string())
            .stdout(std::process::Stdio::null());
        command
    })
    .unwrap();
    supervisor
        .wait_ready(Duration::from_secs(60))
        .await
        .unwrap();
    supervisor
}

pub fn connect(addr: SocketAddr, database: &str) -> Store {
    Store::connect(&format!("http://{addr}"), "tollgate", PASSWORD).with_database(database)
}

/// The address of the shared engine.
pub fn shared() -> SocketAddr {
    static ENGINE: OnceLock<SocketAddr> = OnceLock::new();
    *ENGINE.get_or_init(|| {
        let (tell, told) = channel();
        // Lives as long as the process; the engine ends with it.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let dir = tempfile::tempdir().unwrap();
                let addr = free_addr();
                let _engine = start(dir.path(), addr).await;
                tell.send(addr).unwrap();
                std::future::pending::<()>().await;
            });
        });
        told.recv().expect("the engine starts")
    })
}

/// A fresh database on the shared engine; its name, and a client of it.
pub async fn database() -> (String, Store) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("billing_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let addr = tokio::task::spawn_blocking(shared).await.unwrap();
    ask(
        &connect(addr, "default"),
        &format!("CREATE DATABASE {name}"),
    )
    .await;
    let store = connect(addr, &name);
    store.migrate().await.unwrap();
    (name, store)
}

/// A client of a database on the shared engine whose statements arrive, and whose next answers, so many, are lost.
pub async fn forgetful(database: &str) -> (Store, Arc<AtomicU32>) {
    let lost = Arc::new(AtomicU32::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let losing = Arc::clone(&lost);
    // Ends with the runtime of its test.
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass_on(client, Arc::clone(&losing)));
        }
    });
    (connect(addr, database), lost)
}

async fn pass_on(client: TcpStream, losing: Arc<AtomicU32>) {
    let engine = TcpStream::connect(shared()).await.unwrap();
    let (mut asks, mut hears) = client.into_split();
    let (mut tells, mut says) = engine.into_split();
    let there = tokio::io::copy(&mut asks, &mut says);
    let back = async {
        let mut piece = vec![0; 1 << 16];
        loop {
            let read = tells.read(&mut piece).await.unwrap_or(0);
            let loses = |left: u32| left.checked_sub(1);
            let (set, get) = (Ordering::SeqCst, Ordering::SeqCst);
            if read == 0 || losing.fetch_update(set, get, loses).is_ok() {
                return;
            }
            if hears.write_all(&piece[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = there => {}
        () = back => {}
    }
}

/// Answer of a statement, tab-separated.
pub async fn ask(store: &Store, sql: &str) -> String {
    let mut answer = store.sql(sql, "TSVRaw").await.unwrap();
    let mut text = Vec::new();
    while let Some(piece) = answer.next().await.unwrap() {
        text.extend_from_slice(&piece);
    }
    String::from_utf8(text).unwrap().trim_end().to_owned()
}
