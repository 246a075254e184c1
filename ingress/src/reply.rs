//! An answer to a client: its header as lines, and a body that is a whole text, a stream that is relayed,
//! or whatever a route of axum's makes. An enum, so that the usual case needs no box.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body::{Frame, SizeHint};

use crate::headers::Lines;
use crate::stream::Relay;

/// See the module. Whoever sends it adds what frames the body, and the date.
pub struct Reply {
    pub status: StatusCode,
    pub head: Lines,
    pub body: Content,
}

impl Reply {
    #[must_use]
    pub const fn ok(head: Lines, body: Content) -> Self {
        Self {
            status: StatusCode::OK,
            head,
            body,
        }
    }
}

impl From<Response<Body>> for Reply {
    fn from(response: Response<Body>) -> Self {
        let (head, body) = response.into_parts();
        Self {
            status: head.status,
            head: Lines::from(&head.headers),
            body: Content::Routed(body),
        }
    }
}

impl From<Reply> for Response<Content> {
    fn from(reply: Reply) -> Self {
        let mut response = Self::new(reply.body);
        *response.status_mut() = reply.status;
        *response.headers_mut() = HeaderMap::from(&reply.head);
        response
    }
}

/// The body.
pub enum Content {
    Whole(Bytes),
    Stream(Box<Relay>),
    Routed(Body),
}

impl http_body::Body for Content {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match &mut *self {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Stream(relay) => relay
                .poll_frame(cx)
                .map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes)))),
            Self::Routed(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Stream(relay) => relay.is_ended(),
            Self::Routed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(_) => SizeHint::default(),
            Self::Routed(body) => body.size_hint(),
        }
    }
}
