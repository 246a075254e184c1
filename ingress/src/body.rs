//! The whole body of a request. Never more of it than is allowed.

use axum::extract::{FromRequest, Request};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;

use crate::Error;

/// Bytes of a management request at most: they are small, and what one makes must fit onto the log.
const MANAGEMENT_MAX: u64 = 1 << 20;

/// The body of a request that is no call. One that is refused is refused as everything else is.
pub struct Whole(pub Bytes);

impl<S: Sync> FromRequest<S> for Whole {
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Self, Error> {
        let (head, body) = request.into_parts();
        read(body, &head.headers, MANAGEMENT_MAX).await.map(Self)
    }
}

/// The whole body, if it is not too large.
pub async fn read<B>(mut body: B, headers: &HeaderMap, limit: u64) -> Result<Bytes, Error>
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
    while let Some(frame) = body.frame().await {
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
