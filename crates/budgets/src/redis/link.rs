//! The connection to the server: one for all calls of the process, pipelined, and never waited for longer
//! than said. Calls only use it; [`Link::connect`] makes it anew, for the keeper alone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, IntoConnectionInfo, RedisError, TlsCertificates,
    Value, cmd,
};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::library;
use crate::Error;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(1);
const OLDEST: u32 = 7;

/// Why a call has no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Nobody answered in time. It may have been done all the same.
    Away,
    /// The server refused to do it.
    Refused(String),
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        Self::Unavailable(match trouble {
            Trouble::Away => "redis does not answer".to_owned(),
            Trouble::Refused(why) => why,
        })
    }
}

#[derive(Clone)]
struct Line {
    connection: MultiplexedConnection,
    number: u64,
}

/// What is known of the way to the server.
#[derive(Clone)]
enum Way {
    Open(Line),
    /// Since when.
    Closed(Instant),
}

pub(super) struct Link {
    client: Client,
    way: watch::Sender<Way>,
    numbers: AtomicU64,
    pub lost: AtomicU64,
    /// Told when a line broke.
    pub broken: Notify,
}

impl Link {
    /// `ca`: certificates in PEM, for TLS.
    ///
    /// # Errors
    /// The URL or the certificates cannot be used. The URL is not repeated: it may hold a password.
    pub(super) fn new(url: &str, ca: Option<&str>) -> Result<Self, Error> {
        // Somebody else may have chosen: then that is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let shape = |_| {
            Error::Unusable(
                "the Redis URL is not of the shape redis://user:password@host:port/db".to_owned(),
            )
        };
        let known = url.into_connection_info().map_err(shape)?;
        let client = match ca.filter(|_| url.starts_with("rediss://")) {
            None => Client::open(known).map_err(shape)?,
            Some(pem) => {
                let certificates = TlsCertificates {
                    client_tls: None,
                    root_cert: Some(pem.as_bytes().to_vec()),
                };
                Client::build_with_tls(known, certificates).map_err(|_| {
                    Error::Unusable("redis.ca holds no certificate that can be read".to_owned())
                })?
            }
        };
        Ok(Self {
            client,
            way: watch::Sender::new(Way::Closed(Instant::now())),
            numbers: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            broken: Notify::new(),
        })
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(*self.way.borrow(), Way::Open(_))
    }

    /// Host and port, for logs.
    pub(super) fn address(&self) -> String {
        self.client.get_connection_info().addr().to_string()
    }

    /// Makes a connection on the present runtime and checks the server.
    ///
    /// # Errors
    /// [`Error::Unusable`] for a server that must not be used; [`Error::Unavailable`] else.
    pub(super) async fn connect(&self) -> Result<(), Error> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(None);
        let opening = async {
            let mut connection = self
                .client
                .get_multiplexed_async_connection_with_config(&config)
                .await
                .map_err(unavailable)?;
            check(&mut connection).await?;
            library::ensure(&mut connection)
                .await
                .map_err(unavailable)?;
            Ok::<_, Error>(connection)
        };
        let connection = timeout(CONNECT * 2, opening)
            .await
            .map_err(|_| Error::Unavailable(format!("{} does not answer", self.address())))??;
        let number = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        self.way
            .send_replace(Way::Open(Line { connection, number }));
        Ok(())
    }

    /// Sends a command that may be sent twice, and waits at most `patience` for its answer. While the way
    /// has been closed for that long already, does not wait.
    pub(super) async fn call(&self, command: &Cmd, patience: Duration) -> Result<Value, Trouble> {
        let deadline = Instant::now() + patience;
        loop {
            let mut line = self.line(deadline, patience).await?;
            let answer = timeout_at(deadline, line.connection.send_packed_command(command)).await;
            match answer {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) if is_of_the_way(&error) => self.break_off(line.number),
                Ok(Err(error)) => return Err(Trouble::Refused(error.to_string())),
                Err(_) => {
                    self.break_off(line.number);
                    return Err(Trouble::Away);
                }
            }
        }
    }

    async fn line(&self, deadline: Instant, patience: Duration) -> Result<Line, Trouble> {
        let mut way = self.way.subscribe();
        loop {
            let since = match &*way.borrow_and_update() {
                Way::Open(line) => return Ok(line.clone()),
                Way::Closed(since) => *since,
            };
            let until = deadline.min(since + patience);
            if timeout_at(until, way.changed()).await.is_err() {
                return Err(Trouble::Away);
            }
        }
    }

    /// The line is of no use any more; another one may be there already.
    fn break_off(&self, number: u64) {
        let broke = self.way.send_if_modified(|way| {
            let current = matches!(way, Way::Open(line) if line.number == number);
            if current {
                *way = Way::Closed(Instant::now());
            }
            current
        });
        if broke {
            self.lost.fetch_add(1, Ordering::Relaxed);
            self.broken.notify_one();
        }
    }
}

/// Whether another connection could do better.
fn is_of_the_way(error: &RedisError) -> bool {
    let function_gone = error.code() == Some("ERR")
        && error
            .detail()
            .is_some_and(|detail| detail.starts_with("Function not found"));
    let server_changes = matches!(
        error.code(),
        Some("LOADING" | "READONLY" | "MASTERDOWN" | "NOAUTH" | "NOPERM" | "UNBLOCKED" | "BUSY")
    );
    error.is_io_error()
        || error.is_connection_dropped()
        || error.is_timeout()
        || matches!(error.kind(), ErrorKind::Parse | ErrorKind::Client)
        || function_gone
        || server_changes
}

fn unavailable(error: RedisError) -> Error {
    match error.kind() {
        ErrorKind::AuthenticationFailed => {
            Error::Unusable("Redis refuses the login that its URL holds".to_owned())
        }
        _ => Error::Unavailable(error.to_string()),
    }
}

/// Refuses a server that would throw budgets away, or cannot run the library.
async fn check(connection: &mut MultiplexedConnection) -> Result<(), Error> {
    let answer = connection
        .send_packed_command(&cmd("INFO"))
        .await
        .map_err(unavailable)?;
    let text = match &answer {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text.clone(),
        _ => String::new(),
    };
    let field = |name: &str| {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        lines
            .filter(|(known, _)| *known == name)
            .map(|(_, value)| value.trim())
            .next()
    };
    let version = field("redis_version").unwrap_or("an unknown version");
    let major = version
        .split('.')
        .next()
        .and_then(|major| major.parse().ok());
    if major.is_none_or(|major: u32| major < OLDEST) {
        return Err(Error::Unusable(format!(
            "budget state needs Redis {OLDEST} or later; this is {version}"
        )));
    }
    let policy = field("maxmemory_policy").unwrap_or("unknown");
    if policy != "noeviction" {
        return Err(Error::Unusable(format!(
            "this Redis has maxmemory-policy {policy}, which throws budgets away when memory is short: \
             set maxmemory-policy noeviction, or give budgets a Redis of their own"
        )));
    }
    if field("loading").is_some_and(|loading| loading != "0") {
        return Err(Error::Unavailable("redis is loading its data".to_owned()));
    }
    if field("role").is_some_and(|role| role == "slave") {
        return Err(Error::Unavailable("this Redis is a replica".to_owned()));
    }
    Ok(())
}
