//! From the headers of a call to its caller. Looks at memory only; no secret leaves this file.

use std::net::IpAddr;

use http::HeaderMap;
use schemas::{KeyHash, Micros};
use subtle::ConstantTimeEq;

use crate::directory::{Principal, Role};
use crate::error::Error;
use crate::{Gateway, access};

/// Headers that may carry a key, in the order they are looked at: our own, OpenAI's, Anthropic's,
/// Azure's, Google's, Azure API Management's.
const KEY_HEADERS: [&str; 6] = [
    "x-litellm-api-key",
    "authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "ocp-apim-subscription-key",
];

/// Headers in which something is looked for.
pub trait Sought {
    /// The first value of a name, given in lower case, if it is a text.
    fn first(&self, name: &str) -> Option<&str>;
}

impl Sought for HeaderMap {
    fn first(&self, name: &str) -> Option<&str> {
        self.get(name)?.to_str().ok()
    }
}

impl Sought for [httparse::Header<'_>] {
    fn first(&self, name: &str) -> Option<&str> {
        let field = self
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case(name))?;
        let is_text = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t');
        let value = field.value;
        std::str::from_utf8(value)
            .ok()
            .filter(|_| value.iter().all(is_text))
    }
}

/// The caller behind a request.
///
/// # Errors
/// 401 when no key, an unknown, expired or blocked key is presented, or the key's team is blocked; 503
/// before keys and prices are known.
pub fn authenticate<H: Sought + ?Sized>(
    gateway: &Gateway,
    headers: &H,
    now: Micros,
) -> Result<Principal, Error> {
    authenticate_from(gateway, headers, now, None)
}

/// As [`authenticate`], of a call that comes from `peer`.
///
/// # Errors
/// As there; 403 where the file leaves such an address out.
pub fn authenticate_from<H: Sought + ?Sized>(
    gateway: &Gateway,
    headers: &H,
    now: Micros,
    peer: Option<IpAddr>,
) -> Result<Principal, Error> {
    let models = gateway.models.load();
    if let Some(peer) = peer {
        access::address(&models.config.server.access, peer, headers)?;
    }
    let own = models.config.server.key_header.as_deref();
    let presented = presented_key(own, headers).ok_or(Error::NoKey)?;
    drop(models);
    if !gateway.is_grounded() {
        return Err(Error::NotReady);
    }
    let hash = KeyHash::of(presented);
    // Both sides are hashes, and the comparison takes the same time wherever they differ.
    if bool::from(hash.0.ct_eq(&gateway.master_key.0)) {
        return Ok(Principal::master());
    }
    let principal = gateway
        .directory
        .principal(&hash)
        .ok_or_else(|| Error::UnknownKey {
            short: shorten(presented),
            hash,
        })?;
    if let Some(key) = &principal.key {
        if let Some(at) = key.expires.filter(|expiry| *expiry <= now) {
            return Err(Error::ExpiredKey {
                name: key.display_name().to_owned(),
                at,
            });
        }
        if key.blocked {
            return Err(Error::BlockedKey);
        }
    }
    if principal.team.as_ref().is_some_and(|team| team.blocked) {
        return Err(Error::BlockedTeam);
    }
    Ok(principal)
}

/// The caller, if it holds the master key.
///
/// # Errors
/// As [`authenticate`]; 403 naming the route for any other key.
pub fn authenticate_admin(
    gateway: &Gateway,
    headers: &HeaderMap,
    now: Micros,
    route: &str,
) -> Result<Principal, Error> {
    let principal = authenticate(gateway, headers, now)?;
    match principal.role {
        Role::Master => Ok(principal),
        Role::Key => Err(Error::NotAdmin {
            route: route.to_owned(),
        }),
    }
}

/// The text of the key, without the word before it.
fn presented_key<'h, H: Sought + ?Sized>(own: Option<&str>, headers: &'h H) -> Option<&'h str> {
    own.into_iter().chain(KEY_HEADERS).find_map(|name| {
        let value = headers.first(name)?.trim();
        let key = match value.split_once(' ') {
            Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => key.trim(),
            Some(_) => return None,
            None => value,
        };
        (!key.is_empty() && !key.eq_ignore_ascii_case("bearer")).then_some(key)
    })
}

/// Enough of a key to recognise it, too little to use it: `sk-...ab12`.
#[must_use]
pub fn shorten(key: &str) -> String {
    let mut tail: Vec<char> = key.chars().rev().take(4).collect();
    tail.reverse();
    // A short text shown by its last four would be shown whole.
    if key.chars().count() < 12 {
        "sk-...".to_owned()
    } else {
        format!("sk-...{}", tail.iter().collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(name: &'static str, value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        presented_key(None, &headers).map(ToOwned::to_owned)
    }

    #[test]
    fn a_key_is_found_wherever_clients_put_it() {
        assert_eq!(
            key_of("authorization", "Bearer sk-1").as_deref(),
            Some("sk-1")
        );
        assert_eq!(
            key_of("authorization", "bearer  sk-1").as_deref(),
            Some("sk-1")
        );
        assert_eq!(key_of("authorization", "sk-1").as_deref(), Some("sk-1"));
        assert_eq!(key_of("x-api-key", "sk-1").as_deref(), Some("sk-1"));
        assert_eq!(key_of("api-key", "sk-1").as_deref(), Some("sk-1"));
        assert_eq!(key_of("authorization", "Basic c2stMQ=="), None);
        assert_eq!(key_of("authorization", "Bearer "), None);
    }

    #[test]
    fn a_shortened_key_cannot_be_used() {
        assert_eq!(shorten("sk-abcdefghijkl"), "sk-...ijkl");
        assert_eq!(shorten("secret"), "sk-...");
    }
}
