//! `__forward`: what an HTTP library alone costs. Bare hyper in and out on one current-thread runtime,
//! with a pool of its low-level connections; reads nothing of what passes.

use std::cell::RefCell;
use std::io::Write;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use anyhow::Result;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, LocalSet};

use crate::contender::Contender;
use crate::cores::{self, Cores};

pub const NAME: &str = "bare hyper forwarder";

pub fn start(cores: Cores, provider: SocketAddr) -> Result<Contender> {
    let (running, port) = cores::helper(cores.gateway, &["__forward", &provider.to_string()])?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let key = "sk-not-looked-at".to_owned();
    Ok(Contender {
        name: NAME.to_owned(),
        plain: address,
        streams: address,
        key,
        running,
    })
}

pub fn serve(provider: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, accept(provider))
}

async fn accept(provider: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?.port())?;
    let pool = Pool {
        provider,
        idle: Rc::default(),
        connections: Rc::default(),
    };
    let mut clients = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await?;
        client.set_nodelay(true)?;
        let pool = pool.clone();
        let service = hyper::service::service_fn(move |request| forward(pool.clone(), request));
        let serving = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(client), service);
        clients.spawn_local(async move { drop(serving.await) });
        while clients.try_join_next().is_some() {}
    }
}

async fn forward(pool: Pool, mut request: Request<Incoming>) -> Result<Response<Relayed>> {
    let mut sender = pool.take().await?;
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
    let response = sender.send_request(request).await?;
    Ok(response.map(|body| Relayed {
        body,
        sender: Some(sender),
        pool,
    }))
}

/// Connections to the provider that wait for a request.
#[derive(Clone)]
struct Pool {
    provider: SocketAddr,
    idle: Rc<RefCell<Vec<SendRequest<Incoming>>>>,
    connections: Rc<RefCell<JoinSet<()>>>,
}

impl Pool {
    async fn take(&self) -> Result<SendRequest<Incoming>> {
        loop {
            let Some(mut sender) = self.idle.borrow_mut().pop() else {
                break;
            };
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        let stream = TcpStream::connect(self.provider).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        self.connections
            .borrow_mut()
            .spawn_local(async move { drop(connection.await) });
        Ok(sender)
    }
}

/// The provider's body; gives the connection back at its end.
struct Relayed {
    body: Incoming,
    sender: Option<SendRequest<Incoming>>,
    pool: Pool,
}

impl Body for Relayed {
    type Data = bytes::Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            let sender = self.sender.take();
            self.pool.idle.borrow_mut().extend(sender);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
