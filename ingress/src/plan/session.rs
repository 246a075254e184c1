//! Which session a call belongs to, so that it comes to where its provider keeps its prompt.

use std::borrow::Cow;

use memchr::memmem;
use serde_json::value::RawValue;

use crate::request::ModelRequest;

/// The most of the messages that a session is known by, where the client names none: they begin alike, turn
/// after turn.
const SESSION_BYTES: usize = 16 << 10;

/// By the client's own name for it, else by whose it is and how its messages begin.
pub(super) fn session(request: &ModelRequest, named: Option<&str>, by_prompt: bool) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut eat = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    match named {
        Some(named) => eat(named.as_bytes()),
        None => {
            let body = &request.body;
            let at = memmem::find(body, b"\"messages\"").unwrap_or(0);
            let messages = &body[at..];
            let prompt = by_prompt.then(|| opening(messages, &["system", "developer"]));
            match prompt.flatten() {
                Some(prompt) => eat(prompt),
                None => {
                    eat(request.end_user.as_deref().unwrap_or_default().as_bytes());
                    let begins = opening(messages, &["user"]).unwrap_or(messages);
                    eat(&begins[..begins.len().min(SESSION_BYTES)]);
                }
            }
        }
    }
    hash
}

/// A list of messages up to its first one of such a role; that of the system prompt is the first of all.
fn opening<'m>(messages: &'m [u8], roles: &[&str]) -> Option<&'m [u8]> {
    #[derive(serde::Deserialize)]
    struct Message<'a> {
        #[serde(borrow)]
        role: Cow<'a, str>,
    }
    let list = messages.iter().position(|byte| *byte == b'[')? + 1;
    let mut at = list;
    loop {
        let space = |byte: &u8| byte.is_ascii_whitespace() || *byte == b',';
        at += messages[at..].iter().take_while(|byte| space(byte)).count();
        let mut items =
            serde_json::Deserializer::from_slice(&messages[at..]).into_iter::<&RawValue>();
        let message: Message<'_> = serde_json::from_str(items.next()?.ok()?.get()).ok()?;
        at += items.byte_offset();
        if roles.contains(&&*message.role) {
            return Some(&messages[list..at]);
        }
        // Whoever asks for the prompt asks for what stands first.
        if !roles.contains(&"user") {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_known_by_how_it_opens() {
        let short = br#"{"messages": [{"role":"system","content":"be kind"}, {"role":"user","content":"hi"}]}"#;
        let long =
            br#"{"messages":[{"role":"system","content":"be kind"}, {"role":"user","content":"hi"},
            {"role":"assistant","content":"hello"},{"role":"user","content":"and now?"}]}"#;
        let user = |body| opening(body, &["user"]).map(String::from_utf8_lossy);
        assert_eq!(user(short), user(long));
        assert!(user(short).unwrap().ends_with("\"hi\"}"));
        let system = |body| opening(body, &["system", "developer"]).map(String::from_utf8_lossy);
        assert_eq!(
            system(long).as_deref(),
            Some(r#"{"role":"system","content":"be kind"}"#)
        );
        for none in [
            &b"{}"[..],
            b"[",
            b"[{\"role\":\"user\"",
            b"[{\"role\":\"user\",\"content\":\"x\"}]",
        ] {
            assert_eq!(system(none), None);
        }
    }
}
