//! The bytes that go over the wire: the client's request, the provider's answer and stream.

use std::net::SocketAddr;

use rustix::time::{ClockId, clock_gettime};

/// Models of the mock provider: how it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// One JSON answer of 610 bytes, at once.
    Plain,
    /// [`BURST_CHUNKS`] chunks, ten at a time.
    Burst,
    /// [`PACED_CHUNKS`] chunks, one at a time.
    Paced,
}

pub const BURST_CHUNKS: usize = 150;
pub const PACED_CHUNKS: usize = 50;
/// Length of the plain answer's body, bytes.
pub const ANSWER_BYTES: usize = 610;

impl Model {
    pub const ALL: [Self; 3] = [Self::Plain, Self::Burst, Self::Paced];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "bench-plain",
            Self::Burst => "bench-burst",
            Self::Paced => "bench-paced",
        }
    }

    /// The model that a request body asks for.
    pub fn asked(body: &[u8]) -> Self {
        Self::ALL
            .into_iter()
            .find(|model| memchr::memmem::find(body, model.name().as_bytes()).is_some())
            .unwrap_or(Self::Plain)
    }
}

/// A whole request, head and body.
pub fn request(to: SocketAddr, key: &str, model: Model) -> Vec<u8> {
    let stream = match model {
        Model::Plain => "",
        Model::Burst | Model::Paced => r#","stream":true,"stream_options":{"include_usage":true}"#,
    };
    let body = format!(
        r#"{{"model":"{}","messages":[{{"role":"system","content":"You are a helpful assistant who answers in few words and never invents facts. If you do not know the answer, say that you do not know."}},{{"role":"user","content":"Which rivers flow through Berlin, how long are they, and into which larger river do they lead in the end? Name their sources as well, please."}}],"temperature":0.2,"max_tokens":200{stream}}}"#,
        model.name()
    );
    post(to, "/v1/chat/completions", key, &body)
}

pub fn post(to: SocketAddr, path: &str, key: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: {to}\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\naccept: */*\r\nuser-agent: tollgate-bench\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The plain answer, head and body.
pub fn answer() -> Vec<u8> {
    let open = r#"{"id":"chatcmpl-9aBcDeFgHiJkLmNoPqRsTuVwXyZ01","object":"chat.completion","created":1790000000,"model":"bench-plain-2026-01-01","choices":[{"index":0,"message":{"role":"assistant","content":""#;
    let close = r#"","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":74,"completion_tokens":42,"total_tokens":116,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}},"system_fingerprint":"fp_0123456789"}"#;
    let words = "The Spree and the Havel flow through Berlin. ";
    let text: String = words
        .chars()
        .cycle()
        .take(ANSWER_BYTES - open.len() - close.len())
        .collect();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {ANSWER_BYTES}\r\n\r\n{open}{text}{close}"
    )
    .into_bytes()
}

/// The head of a stream.
pub const STREAM_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// What stands before the time at which a chunk was sent.
pub const STAMP: &[u8] = b"\"system_fingerprint\":\"fp_";
/// Digits of that time, microseconds.
pub const STAMP_DIGITS: usize = 16;

/// Appends one chunk of text, stamped with the time, in chunked framing.
pub fn chunk(out: &mut Vec<u8>, now: u64) {
    frame(
        out,
        format_args!(
            r#"data: {{"id":"chatcmpl-9aBcDeFgHiJkLmNoPqRsTuVwXyZ01","object":"chat.completion.chunk","created":1790000000,"model":"bench-2026-01-01","system_fingerprint":"fp_{now:016}","choices":[{{"index":0,"delta":{{"content":" river"}},"logprobs":null,"finish_reason":null}}]}}"#
        ),
    );
}

/// Appends the end of a stream: the reason, the usage, and `[DONE]`.
pub fn stream_end(out: &mut Vec<u8>, produced: usize) {
    let open = r#"data: {"id":"chatcmpl-9aBcDeFgHiJkLmNoPqRsTuVwXyZ01","object":"chat.completion.chunk","created":1790000000,"model":"bench-2026-01-01","choices":["#;
    frame(
        out,
        format_args!(
            "{open}{}",
            r#"{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}"#
        ),
    );
    frame(
        out,
        format_args!(
            r#"{open}],"usage":{{"prompt_tokens":74,"completion_tokens":{produced},"total_tokens":{}}}}}"#,
            74 + produced
        ),
    );
    frame(out, format_args!("data: [DONE]"));
    out.extend_from_slice(b"0\r\n\r\n");
}

fn frame(out: &mut Vec<u8>, event: std::fmt::Arguments<'_>) {
    let event = event.to_string();
    out.extend_from_slice(format!("{:x}\r\n{event}\n\n\r\n", event.len() + 2).as_bytes());
}

/// The clock that all processes of this machine share, microseconds.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.cast_unsigned() * 1_000_000 + time.tv_nsec.cast_unsigned() / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_has_the_length_it_says() {
        let answer = answer();
        let body = memchr::memmem::find(&answer, b"\r\n\r\n").unwrap() + 4;
        assert_eq!(answer.len() - body, ANSWER_BYTES);
    }
}
