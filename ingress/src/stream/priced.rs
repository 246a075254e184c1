//! The cost of a call inside of the usage that its stream ends with (`include_cost_in_streaming_usage`).

use bytes::Bytes;
use schemas::NanoUsd;
use serde_json::{Map, Value};

use crate::json::KEYS;

/// A frame with `cost` in its usage: what the caller is charged, in the place of whatever the provider said there.
/// A frame without usage stays as it is.
#[must_use]
pub fn priced(frame: &Bytes, cost: NanoUsd) -> Bytes {
    let with_cost = || {
        let at = KEYS.usage.first(frame)?;
        let mut objects =
            serde_json::Deserializer::from_slice(&frame[at..]).into_iter::<Map<String, Value>>();
        let mut usage = objects.next()?.ok()?;
        let end = at + objects.byte_offset();
        usage.insert("cost".to_owned(), serde_json::to_value(cost).ok()?);
        let usage = serde_json::to_vec(&usage).ok()?;
        Some([&frame[..at], &usage, &frame[end..]].concat().into())
    };
    with_cost().unwrap_or_else(|| frame.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_usage_is_touched() {
        for (frame, wanted) in [
            (
                "data: {\"choices\":[], \"usage\": {\"prompt_tokens\":3,\"cost\":0.5},\"x\":1.10}\n\n",
                "data: {\"choices\":[], \"usage\": {\"cost\":0.000084,\"prompt_tokens\":3},\"x\":1.10}\n\n",
            ),
            ("data: {\"usage\":null}\n\n", "data: {\"usage\":null}\n\n"),
            ("data: {}\n\n", "data: {}\n\n"),
        ] {
            let frame = Bytes::from_static(frame.as_bytes());
            assert_eq!(priced(&frame, NanoUsd(84_000)), wanted);
        }
    }
}
