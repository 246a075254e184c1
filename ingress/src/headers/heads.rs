//! Heads of answers, put together from the last ones like them.
//!
//! Some thirty headers stand on every answer, nearly always the same ones in the same order. To hash and
//! insert each costs more than everything else that is done to them; a copy of a finished map whose values
//! are then set in order costs a tenth of it.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;

use crate::upstream::Fields;

/// Finished heads that are remembered: one for each mix of limits, providers and kinds of answers.
const REMEMBERED: usize = 32;

/// Headers in the order in which they are told.
#[derive(Debug, Default)]
pub struct List(Vec<(HeaderName, HeaderValue)>);

impl List {
    pub fn insert(&mut self, name: HeaderName, value: HeaderValue) {
        self.0.push((name, value));
    }
}

/// What a serving thread remembers of the heads it has sent.
#[derive(Debug, Default)]
pub struct Heads(
    // Never contended: one thread uses it. A lock, since the futures of handlers must be `Send`.
    Mutex<Inner>,
);

#[derive(Debug, Default)]
struct Inner {
    /// Kept for its room.
    list: List,
    finished: Vec<HeaderMap>,
    copies: Vec<Copies>,
}

/// The names of a provider's head and what each is called in ours; none for those that stay behind.
#[derive(Debug)]
struct Copies(Vec<(Bytes, Option<HeaderName>)>);

impl Heads {
    /// A head out of what `tell` says, and of a provider's own headers, each again as
    /// `llm_provider-<name>`.
    pub fn make(&self, upstream: &Fields, tell: impl FnOnce(&mut List)) -> HeaderMap {
        let mut inner = self.0.lock();
        let Inner {
            list,
            finished,
            copies,
        } = &mut *inner;
        list.0.clear();
        tell(list);
        copy(copies, upstream, list);
        let like = finished.iter().position(|known| is_like(known, list));
        if let Some(at) = like {
            let mut head = finished[at].clone();
            for (place, (_, value)) in head.values_mut().zip(list.0.drain(..)) {
                *place = value;
            }
            return head;
        }
        let mut head = HeaderMap::with_capacity(list.0.len());
        for (name, value) in &list.0 {
            head.append(name.clone(), value.clone());
        }
        // A name that stands twice has no place of its own: such heads are made anew each time.
        if head.keys_len() == list.0.len() {
            let mut empty = head.clone();
            empty
                .values_mut()
                .for_each(|value| *value = HeaderValue::from_static(""));
            if finished.len() >= REMEMBERED {
                finished.remove(0);
            }
            finished.push(empty);
        }
        list.0.clear();
        head
    }
}

/// Whether a finished head has the names of the list, in its order.
fn is_like(known: &HeaderMap, list: &List) -> bool {
    known.len() == list.0.len() && known.keys().eq(list.0.iter().map(|(name, _)| name))
}

fn copy(known: &mut Vec<Copies>, upstream: &Fields, list: &mut List) {
    let fields = upstream.iter();
    if fields.len() == 0 {
        return;
    }
    let names = || fields.clone().map(|(name, _)| name);
    let is_known = |copies: &Copies| {
        copies.0.len() == fields.len() && names().eq(copies.0.iter().map(|(name, _)| name))
    };
    let at = known.iter().position(is_known).unwrap_or_else(|| {
        let copies = names().map(|name| {
            let text = String::from_utf8_lossy(name).to_ascii_lowercase();
            let copy = (!stays_behind(&text))
                .then(|| HeaderName::try_from(format!("llm_provider-{text}")).ok());
            // A copy: the slice would keep all of the head that it came with.
            (Bytes::copy_from_slice(name), copy.flatten())
        });
        if known.len() >= REMEMBERED {
            known.remove(0);
        }
        known.push(Copies(copies.collect()));
        known.len() - 1
    });
    for ((_, copy), (_, value)) in known[at].0.iter().zip(fields) {
        if let Some(copy) = copy {
            list.insert(copy.clone(), value.clone());
        }
    }
}

/// About the connection or the framing, not the answer; and cookies, which are the gateway's own.
fn stays_behind(name: &str) -> bool {
    [
        "connection",
        "keep-alive",
        "transfer-encoding",
        "content-length",
        "set-cookie",
        "upgrade",
        "trailer",
        "te",
    ]
    .contains(&name)
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;

    fn pairs(head: &HeaderMap) -> Vec<(String, String)> {
        head.iter()
            .map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned()))
            .collect()
    }

    #[test]
    fn a_remembered_head_is_the_one_made_anew() {
        let heads = Heads::default();
        let mut upstream = HeaderMap::new();
        upstream.append("x-a", HeaderValue::from_static("1"));
        upstream.append("connection", HeaderValue::from_static("close"));
        upstream.append("x-a", HeaderValue::from_static("2"));
        let mut once = HeaderMap::new();
        once.insert("x-b", HeaderValue::from_static("3"));
        for upstream in [&once, &upstream, &HeaderMap::new()] {
            let make = |number: &'static str| {
                heads.make(&Fields::from(upstream), |list| {
                    list.insert(
                        HeaderName::from_static("x-one"),
                        HeaderValue::from_static(number),
                    );
                    list.insert(header::CONTENT_TYPE, HeaderValue::from_static("t"));
                })
            };
            let (first, second, third) = (make("1"), make("2"), make("1"));
            assert_eq!(pairs(&first), pairs(&third));
            assert_eq!(second["x-one"], "2");
            assert_eq!(
                first.len(),
                2 + upstream
                    .iter()
                    .filter(|(name, _)| !stays_behind(name.as_str()))
                    .count()
            );
        }
        let copied = heads.make(&Fields::from(&upstream), |_| {});
        let values: Vec<_> = copied.get_all("llm_provider-x-a").iter().collect();
        assert_eq!(values, ["1", "2"]);
    }
}
