//! Which requests may share an answer: the partition (everything but the question) and the exact
//! hash (the question too).
//!
//! Everything is hashed with its kind and length in front, so no choice of separators in a tenant's
//! name, a namespace or a prompt makes two different requests equal. Unknown fields are part of the
//! key: a parameter that a provider invents tomorrow can cause misses, never wrong hits. Reads no
//! clock and knows no entry.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;

/// Changes whenever the meaning of the hash changes; old entries are then never found again.
const VERSION: &[u8] = b"tollgate-cache-key/1";

/// Fields that do not shape the answer: how it is delivered, for whom it is counted, and what was
/// asked of the cache (whose namespace is hashed apart).
const NOT_KEYED: [&str; 10] = [
    "messages",
    "stream",
    "stream_options",
    "user",
    "metadata",
    "cache",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "service_tier",
];

/// A SHA-256.
pub type Hash = [u8; 32];

/// The two hashes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Requests of one partition differ in nothing but their question.
    pub partition: Hash,
    /// Requests of one exact hash are the same.
    pub exact: Hash,
}

/// Who asks what of which model, and in which compartment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub scope: &'a str,
    pub model: &'a str,
    pub revision: &'a str,
    pub namespace: Option<&'a str>,
    pub request: &'a Map<String, Value>,
}

/// The text of the last message, if that is a user's and is nothing but text.
pub(crate) fn question(request: &Map<String, Value>) -> Option<&str> {
    let last = request.get("messages")?.as_array()?.last()?;
    if last.get("role")?.as_str()? != "user" {
        return None;
    }
    plain_text(last.get("content")?)
}

/// A string, or a single text part without further fields: providers treat them alike.
fn plain_text(content: &Value) -> Option<&str> {
    match content {
        Value::String(text) => Some(text),
        Value::Array(parts) => match parts.as_slice() {
            [Value::Object(part)] if part.len() == 2 && part.get("type")? == "text" => {
                part.get("text")?.as_str()
            }
            _ => None,
        },
        _ => None,
    }
}

/// Hashes a request.
pub(crate) fn key(asked: Asked<'_>) -> Key {
    let question = question(asked.request);
    let mut hash = Sha256::new();
    bytes(&mut hash, b'v', VERSION);
    bytes(&mut hash, b's', asked.scope.as_bytes());
    bytes(&mut hash, b'm', asked.model.as_bytes());
    bytes(&mut hash, b'r', asked.revision.as_bytes());
    match asked.namespace {
        Some(name) => bytes(&mut hash, b'n', name.as_bytes()),
        None => hash.update(b"-"),
    }
    // The body's own namespace is hashed as whatever JSON it is, so that a malformed one separates
    // as well.
    value(
        &mut hash,
        asked
            .request
            .get("cache")
            .and_then(|c| c.get("namespace"))
            .unwrap_or(&Value::Null),
    );

    let mut fields: Vec<_> = asked
        .request
        .iter()
        .filter(|(name, _)| !NOT_KEYED.contains(&name.as_str()))
        .collect();
    fields.sort_unstable_by_key(|(name, _)| *name);
    length(&mut hash, b'o', fields.len());
    for (name, field) in fields {
        bytes(&mut hash, b'k', name.as_bytes());
        value(&mut hash, field);
    }

    let messages = asked
        .request
        .get("messages")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    length(&mut hash, b'a', messages.len());
    for (at, message) in messages.iter().enumerate() {
        match (message, question) {
            (Value::Object(fields), Some(_)) if at + 1 == messages.len() => {
                let mut rest: Vec<_> = fields
                    .iter()
                    .filter(|(name, _)| *name != "content")
                    .collect();
                rest.sort_unstable_by_key(|(name, _)| *name);
                length(&mut hash, b'q', rest.len());
                for (name, field) in rest {
                    bytes(&mut hash, b'k', name.as_bytes());
                    value(&mut hash, field);
                }
            }
            _ => value(&mut hash, message),
        }
    }
    let partition: Hash = hash.finalize().into();

    let mut hash = Sha256::new();
    hash.update(partition);
    match question {
        Some(text) => {
            let text: String = text.trim().nfc().collect();
            bytes(&mut hash, b'q', text.as_bytes());
        }
        None => hash.update(b"-"),
    }
    Key {
        partition,
        exact: hash.finalize().into(),
    }
}

fn length(hash: &mut Sha256, kind: u8, len: usize) {
    hash.update([kind]);
    hash.update((len as u64).to_le_bytes());
}

fn bytes(hash: &mut Sha256, kind: u8, text: &[u8]) {
    length(hash, kind, text.len());
    hash.update(text);
}

fn value(hash: &mut Sha256, json: &Value) {
    match json {
        Value::Null => hash.update(b"0"),
        Value::Bool(true) => hash.update(b"t"),
        Value::Bool(false) => hash.update(b"f"),
        Value::Number(number) => {
            bytes(hash, b'd', canonical_number(&number.to_string()).as_bytes())
        }
        Value::String(text) => bytes(hash, b's', text.as_bytes()),
        Value::Array(items) => {
            length(hash, b'a', items.len());
            for item in items {
                value(hash, item);
            }
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            length(hash, b'o', fields.len());
            for (name, field) in fields {
                bytes(hash, b'k', name.as_bytes());
                value(hash, field);
            }
        }
    }
}

/// `1`, `1.0` and `10e-1` are one number. Works on the digits, so that no two numbers meet in a
/// float.
fn canonical_number(text: &str) -> String {
    let (sign, rest) = text
        .strip_prefix('-')
        .map_or(("", text), |rest| ("-", rest));
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => match exponent.parse::<i64>() {
            Ok(exponent) => (mantissa, exponent),
            Err(_) => return text.to_owned(),
        },
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return "0".to_owned();
    }
    let trailing = digits.len() - digits.trim_end_matches('0').len();
    let Some(exponent) = exponent
        .checked_sub(fraction.len() as i64)
        .and_then(|e| e.checked_add(trailing as i64))
    else {
        return text.to_owned();
    };
    format!("{sign}{significant}e{exponent}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn of(scope: &str, namespace: Option<&str>, body: &Value) -> Key {
        let Value::Object(request) = body else {
            panic!("not an object")
        };
        key(Asked {
            scope,
            model: "m",
            revision: "",
            namespace,
            request,
        })
    }

    fn ask(text: &str) -> Value {
        json!({"model": "m", "messages": [{"role": "user", "content": text}]})
    }

    #[test]
    fn delivery_does_not_matter_and_everything_else_does() {
        let base = of("t", None, &ask("hi"));
        let same = [
            json!({"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}),
            json!({"stream_options":{"include_usage":true},"messages":[{"content":" hi\n","role":"user"}],"model":"m"}),
            json!({"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],"user":"u","metadata":{"a":1}}),
        ];
        for body in same {
            assert_eq!(of("t", None, &body), base, "{body}");
        }
        let other = [
            json!({"model":"m","messages":[{"role":"user","content":"hi"}],"temperature":0}),
            json!({"model":"m","messages":[{"role":"user","content":"hi"}],"brand_new_field":null}),
            json!({"model":"m2","messages":[{"role":"user","content":"hi"}]}),
            json!({"model":"m","messages":[{"role":"user","content":"hi","name":"x"}]}),
            json!({"model":"m","messages":[{"role":"system","content":"French"},{"role":"user","content":"hi"}]}),
            json!({"model":"m","messages":[{"role":"user","content":"hi"}],"cache":{"namespace":"n"}}),
            json!({"model":"m","messages":[{"role":"user","content":"hi"}],"cache":{"namespace":7}}),
        ];
        let mut seen = vec![base.partition];
        for body in other {
            let partition = of("t", None, &body).partition;
            assert!(!seen.contains(&partition), "{body}");
            seen.push(partition);
        }
        assert_ne!(of("t", Some(""), &ask("hi")).partition, base.partition);
        assert_eq!(of("t", None, &ask("ho")).partition, base.partition);
        assert_ne!(of("t", None, &ask("ho")).exact, base.exact);
    }

    #[test]
    fn numbers_are_compared_by_value() {
        for same in ["1", "1.0", "10e-1", "0.1E1", "1.000"] {
            assert_eq!(canonical_number(same), "1e0");
        }
        assert_eq!(canonical_number("-0.0"), "0");
        assert_ne!(canonical_number("-1"), canonical_number("1"));
        assert_ne!(
            canonical_number("9007199254740993"),
            canonical_number("9007199254740992")
        );
        assert_eq!(
            canonical_number("1e99999999999999999999"),
            "1e99999999999999999999"
        );
    }

    #[test]
    fn composed_and_decomposed_letters_are_one_question() {
        assert_eq!(
            of("t", None, &ask("caf\u{e9}")).exact,
            of("t", None, &ask("cafe\u{301}")).exact
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        /// Whatever is written into tenant, namespace and question, two requests of different
        /// tenants or namespaces never meet.
        #[test]
        fn no_separator_joins_two_tenants(
            a in "[ab|:/\\-\u{0}\"]{0,4}", b in "[ab|:/\\-\u{0}\"]{0,4}",
            n in proptest::option::of("[ab|:/\\-\u{0}\"]{0,4}"), m in proptest::option::of("[ab|:/\\-\u{0}\"]{0,4}"),
            q in "[ab|:\u{0}\"]{0,4}", r in "[ab|:\u{0}\"]{0,4}",
        ) {
            let (x, y) = (of(&a, n.as_deref(), &ask(&q)), of(&b, m.as_deref(), &ask(&r)));
            prop_assert_eq!(x.partition == y.partition, a == b && n == m);
            prop_assert_eq!(x.exact == y.exact, a == b && n == m && q.trim() == r.trim());
        }
    }
}
