//! Threads that serve: one single-threaded runtime each, with a listening socket and a provider client
//! of its own, so that a call never crosses threads. The kernel spreads connections over the sockets.
//!
//! A connection begins on our own wire, which knows plain chat calls alone; with the first other request
//! hyper goes on with it.

mod date;
mod head;
mod prefixed;
mod stall;
mod wire;

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::{Error, Gateway, Worker, probe, router};
use prefixed::Prefixed;
use wire::Rest;

/// A client that has not sent its head by then is not going to.
const HEADER_READ: Duration = Duration::from_secs(30);
/// tokio interrupts its own wait, with a system call, for every new timer that is due before all others.
/// One that is always due soon keeps the timers of calls from being that.
const PULSE: Duration = Duration::from_millis(100);
/// Connections that the kernel keeps for us while a thread is busy.
const BACKLOG: i32 = 4096;

/// A gateway that serves.
pub struct Running {
    gateway: Arc<Gateway>,
    address: SocketAddr,
    stop: watch::Sender<Stop>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    No,
    /// No new connections, no second request on an old one.
    Gently,
    /// Now.
    Now,
}

/// Listens, and serves on `threads` threads.
///
/// # Errors
/// The address is in use or cannot be listened on, or a thread cannot be started.
pub fn start(gateway: Arc<Gateway>, listen: SocketAddr, threads: usize) -> Result<Running, Error> {
    let threads = threads.max(1);
    // Sockets that share a port would share it with another process too, in silence: one that does not
    // share finds out who else is there.
    let probe = bind(listen, false)?;
    let address = local(&probe, listen)?;
    let sockets = if threads == 1 {
        vec![probe]
    } else {
        drop(probe);
        (0..threads)
            .map(|_| bind(address, true))
            .collect::<Result<_, _>>()?
    };
    let (stop, stopped) = watch::channel(Stop::No);
    let mut running = Running {
        gateway: gateway.clone(),
        address,
        stop,
        threads: Vec::with_capacity(threads),
    };
    for (number, socket) in sockets.into_iter().enumerate() {
        let (gateway, stopped) = (gateway.clone(), stopped.clone());
        let idle = gateway.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .on_thread_park(move || idle.hurry_if_all_wait())
            .build()
            .map_err(Error::Thread)?;
        let thread = std::thread::Builder::new()
            .name(format!("serve-{number}"))
            .spawn(move || {
                runtime.block_on(serve(gateway, socket, stopped, number == 0));
                // Name look-ups that hang must not keep us here.
                runtime.shutdown_background();
            })
            .map_err(Error::Thread)?;
        running.threads.push(thread);
    }
    Ok(running)
}

impl Running {
    /// Where it listens; the port is the real one where 0 was asked for.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no new calls, waits for those in progress until the deadline, then ends them: what they
    /// have produced by then is billed. When it returns no call is open.
    pub async fn drain(self, deadline: Duration) {
        self.gateway.begin_drain();
        // Nobody listens any more only if all threads are gone already.
        let _ = self.stop.send(Stop::Gently);
        let threads = self.threads;
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                if thread.join().is_err() {
                    tracing::error!("a serving thread has panicked");
                }
            }
        });
        let mut joined = pin!(joined);
        if tokio::time::timeout(deadline, &mut joined).await.is_err() {
            tracing::warn!(
                "ending {} calls that are still in progress",
                self.gateway.open_calls.count()
            );
            let _ = self.stop.send(Stop::Now);
            let _ = joined.await;
        }
        self.gateway.finish_detached().await;
    }
}

fn bind(address: SocketAddr, shared: bool) -> Result<Socket, Error> {
    let listen = || {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        // Connections of an earlier run that linger do not stop us; one that listens does.
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(shared)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket)
    };
    listen().map_err(|source| Error::Listen { address, source })
}

fn local(socket: &Socket, asked: SocketAddr) -> Result<SocketAddr, Error> {
    let address = socket.local_addr().map_err(|source| Error::Listen {
        address: asked,
        source,
    })?;
    Ok(address.as_socket().unwrap_or(asked))
}

/// `first`: the thread that also does what one thread does for all.
async fn serve(
    gateway: Arc<Gateway>,
    socket: Socket,
    mut stopped: watch::Receiver<Stop>,
    first: bool,
) {
    let listener = match TcpListener::from_std(socket.into()) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!("a serving thread cannot use its socket: {error}");
            return;
        }
    };
    let worker = Arc::new(Worker::new(gateway));
    let router = router::routes(&worker.gateway);
    let syncs = worker.syncs.clone();
    let dispatcher = tokio::spawn(async move { syncs.dispatch().await });
    let prober = first.then(|| tokio::spawn(probe::watch(worker.clone())));
    let mut pulse = tokio::time::interval(PULSE);
    let mut connections = JoinSet::new();
    let for_connections = stopped.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    connections.spawn(connection(stream, address.ip(), worker.clone(), router.clone(), for_connections.clone()));
                }
                Err(error) => {
                    // Out of descriptors: those who wait stay in the backlog meanwhile.
                    tracing::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
            _ = pulse.tick() => {}
            _ = stopped.wait_for(|stop| *stop != Stop::No) => break,
        }
    }
    drop(listener);
    tokio::select! {
        () = async { while connections.join_next().await.is_some() {} } => {}
        _ = stopped.wait_for(|stop| *stop == Stop::Now) => {}
    }
    // Dropping what is left closes its calls.
    connections.shutdown().await;
    if let Some(prober) = prober {
        prober.abort();
        // What it was in the middle of is closed by then.
        let _ = prober.await;
    }
    dispatcher.abort();
}

async fn connection(
    stream: TcpStream,
    peer: IpAddr,
    worker: Arc<Worker>,
    routes: Router,
    stopped: watch::Receiver<Stop>,
) {
    // Without it every small write may wait 40 ms for the client's acknowledgement.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    if let Some(rest) = wire::serve(stream, peer, &worker, &stopped).await {
        // Its room is not taken from connections that never need it.
        Box::pin(general(rest, peer, worker, routes, stopped)).await;
    }
}

/// Serves whatever comes, for the rest of a connection.
async fn general(
    rest: Rest,
    peer: IpAddr,
    worker: Arc<Worker>,
    routes: Router,
    mut stopped: watch::Receiver<Stop>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        router::answer(worker.clone(), routes.clone(), peer, request)
    });
    let stream = Prefixed::new(rest.read, rest.stream);
    // Without `pipeline_flush`: an answer that closes would be lost where something was sent behind its request.
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = pin!(serving);
    let gently = async {
        // The sender is dropped only after it has said more than `No`.
        let _ = stopped.wait_for(|stop| *stop != Stop::No).await;
    };
    tokio::select! {
        biased;
        // Errors here are clients that went away or never spoke HTTP.
        _ = serving.as_mut() => return,
        () = gently => serving.as_mut().graceful_shutdown(),
    }
    let _ = serving.await;
}
