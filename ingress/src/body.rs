//! The whole body of a request. Never more of it than is allowed, and never waited for without an end.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;

use crate::Error;

/// A client that has sent nothing more of its body by then is not going to.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of a management request at most: they are small, and what one makes must fit onto the log.
const MANAGEMENT_MAX: u64 = 1 << 20;

/// The body of a request that is no call. One that is refused is refused as everything else is.
pub struct Whole(pub Bytes);

impl<S: Sync> FromRequest<S> for Whole {
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Self, Error> {
        let (head, body) = request.into_parts();
        read(body, &head.headers, MANAGEMENT_MAX, PATIENCE)
            .await
            .map(Self)
    }
}

/// The whole body, if it is not too large. Each piece of it is waited for as long as `patience` says.
pub async fn read<B>(
    mut body: B,
    headers: &HeaderMap,
    limit: u64,
    patience: Duration,
) -> Result<Bytes, Error>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let too_large = || Error::BodyTooLarge { limit };
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut first: Option<Bytes> = None;
    let mut all = BytesMut::new();
    let stalled = |_| Error::BodyStalled {
        seconds: patience.as_secs(),
    };
    while let Some(frame) = tokio::time::timeout(patience, body.frame())
        .await
        .map_err(stalled)?
    {
        let frame = frame.map_err(|_| Error::BadRequest {
            message: "the request body ended early".to_owned(),
            param: None,
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if (all.len() + first.as_ref().map_or(0, Bytes::len) + data.len()) as u64 > limit {
            return Err(too_large());
        }
        match first.take() {
            None if all.is_empty() => first = Some(data),
            None => all.extend_from_slice(&data),
            Some(begin) => {
                let whole = declared
                    .and_then(|length| usize::try_from(length).ok())
                    .unwrap_or(0);
                // No more than has come is promised by a header: the rest of the room grows as needed.
                all.reserve(whole.min(1 << 20).max(begin.len() + data.len()));
                all.extend_from_slice(&begin);
                all.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| all.freeze()))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{StreamExt, stream};
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

    #[tokio::test]
    async fn a_body_that_stops_coming_is_given_up() {
        let piece = || Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"{\"a\":")));
        let ends = StreamBody::new(stream::iter([piece(), piece()]));
        let never = StreamBody::new(stream::iter([piece()]).chain(stream::pending()));
        let (none, patience) = (HeaderMap::new(), Duration::from_millis(20));
        let whole = read(ends, &none, 100, Duration::from_secs(60)).await;
        assert_eq!(&whole.unwrap()[..], b"{\"a\":{\"a\":");
        let error = read(never, &none, 100, patience).await.unwrap_err();
        assert!(matches!(error, Error::BodyStalled { .. }), "{error}");
    }
}
