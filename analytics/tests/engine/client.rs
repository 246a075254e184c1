//! An HTTP client that adds nothing of its own: one request per connection, no decoding.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode, request};
use base64::Engine as _;
use http_body_util::BodyExt as _;

pub struct Ask {
    builder: request::Builder,
    body: Vec<u8>,
}

pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Ask {
    fn new(method: Method, url: &str) -> Self {
        Self {
            builder: Request::builder().method(method).uri(url),
            body: Vec::new(),
        }
    }

    pub fn get(url: &str) -> Self {
        Self::new(Method::GET, url)
    }

    pub fn post(url: &str) -> Self {
        Self::new(Method::POST, url)
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.builder = self.builder.header(name, value);
        self
    }

    pub fn login(self, user: &str, password: &str) -> Self {
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        self.header("authorization", &format!("Basic {pair}"))
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub async fn send(self) -> Reply {
        let request = self.builder.body(Body::from(self.body)).unwrap();
        let host = request.uri().authority().unwrap().to_string();
        let stream = tokio::net::TcpStream::connect(&host).await.unwrap();
        let stream = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        let exchange = async {
            let (mut parts, body) = request.into_parts();
            parts.uri = parts
                .uri
                .path_and_query()
                .unwrap()
                .as_str()
                .parse()
                .unwrap();
            parts.headers.insert("host", host.parse().unwrap());
            let sent = sender
                .send_request(Request::from_parts(parts, body))
                .await
                .unwrap();
            let (parts, body) = sent.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            // Closes the connection, which ends the other half.
            drop(sender);
            Reply {
                status: parts.status,
                headers: parts.headers,
                body,
            }
        };
        let (reply, closed) = tokio::join!(exchange, connection);
        closed.unwrap();
        reply
    }
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}
