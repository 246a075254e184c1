//! Server-sent events on their way through: whole frames go on as the bytes that came, and what the
//! gateway has to know is looked for in them without parsing a frame that does not hold it.
//!
//! A JSON text never holds an unescaped quote inside a string, so the bytes `"usage"` followed by a
//! colon are a key and nothing else.

use bytes::{Bytes, BytesMut};
use schemas::Text;

use super::name::Name;
use super::out::Out;
use crate::endpoint::Endpoint;
use crate::json::{KEYS, is_empty_list, text_at};
use crate::sse::{self, Event};
use crate::usage::Reading;

/// The largest frame that is waited for.
const FRAME_MAX: usize = 16 << 20;
/// The longest end of a frame: a line's, and a blank line's.
const BLANK_MAX: usize = 3;

/// Events after which a stream of an answer is over, by endpoint: responses, images, transcriptions, speech.
/// <https://platform.openai.com/docs/api-reference/responses-streaming>
const LAST_EVENTS: [&str; 5] = [
    "response.completed",
    "response.incomplete",
    "image_generation.completed",
    "transcript.text.done",
    "speech.audio.done",
];

/// What a stream has said so far.
#[derive(Debug, Default)]
pub struct Seen {
    pub usage: Option<Reading>,
    pub finish: Option<Text>,
    pub service_tier: Option<Text>,
    /// `[DONE]` came. It is not sent on: the relay says it when the record is durable.
    pub done: bool,
    /// The provider ended its stream with an error frame.
    pub failed: bool,
    /// The event that ended a stream of events, held back in the same way.
    pub last: Option<Bytes>,
    /// The frame that told the usage, held back where the cost is to stand in it.
    pub held: Option<Bytes>,
    /// Frames with content, their payload in bytes, and the smallest one's.
    frames: u64,
    bytes: u64,
    smallest: u64,
}

impl Seen {
    /// Tokens of output so far. Providers send about one token a frame; where they send more, the text
    /// beyond the frame's own framing tells.
    #[must_use]
    pub fn output_estimate(&self) -> u64 {
        let text = self
            .bytes
            .saturating_sub(self.frames.saturating_mul(self.smallest));
        self.frames.max(text / 4)
    }
}

/// The state of one stream.
#[derive(Debug)]
pub struct Scanner {
    pub seen: Seen,
    name: Name,
    show_usage: bool,
    /// A frame with usage waits for the next one, or for the end: only then is the cost known.
    hold_usage: bool,
    /// Named events instead of chunks that end with `[DONE]`.
    events: bool,
    /// The beginning of a frame whose end has not come, and so much of it that no end begins in.
    rest: BytesMut,
    searched: usize,
}

enum Verdict {
    Pass,
    Drop,
    Replace(Bytes),
    Hold(Bytes),
    Done,
}

impl Scanner {
    #[must_use]
    pub fn new(endpoint: Endpoint, requested: &str, show_usage: bool) -> Self {
        Self {
            events: !endpoint.ends_with_done(),
            seen: Seen::default(),
            name: Name::new(requested),
            show_usage,
            hold_usage: false,
            rest: BytesMut::new(),
            searched: 0,
        }
    }

    /// Holds the frame that tells the usage back, for its cost to be put in.
    #[must_use]
    pub const fn holding_usage(mut self, hold: bool) -> Self {
        self.hold_usage = hold;
        self
    }

    /// Takes what arrived; puts what goes on into `out`.
    ///
    /// # Errors
    /// A frame without an end.
    pub fn feed(&mut self, chunk: Bytes, out: &mut Out) -> Result<(), usize> {
        let chunk = if self.rest.is_empty() {
            chunk
        } else {
            self.rest.extend_from_slice(&chunk);
            // A frame of megabytes comes in hundreds of pieces: none of it is looked at, or moved, for each.
            if sse::end(&self.rest[self.searched..]).is_none() {
                return self.wait();
            }
            self.rest.split().freeze()
        };
        // `from..at` are whole frames that go on as they are.
        let (mut from, mut at) = (0, 0);
        while let Some(end) = sse::end(&chunk[at..]) {
            let frame = at..at + end.length;
            let verdict = self.inspect(&chunk[frame.clone()], end.single);
            // Not the last one after all.
            if !matches!(verdict, Verdict::Done)
                && let Some(held) = self.seen.held.take()
            {
                out.push(held);
            }
            match verdict {
                Verdict::Pass => {}
                Verdict::Drop => {
                    out.push(chunk.slice(from..at));
                    from = frame.end;
                }
                Verdict::Replace(with) => {
                    out.push(chunk.slice(from..at));
                    out.push(with);
                    from = frame.end;
                }
                Verdict::Hold(frame_held) => {
                    out.push(chunk.slice(from..at));
                    self.seen.held = Some(frame_held);
                    from = frame.end;
                }
                Verdict::Done => {
                    out.push(chunk.slice(from..at));
                    self.seen.done = true;
                    return Ok(());
                }
            }
            at = frame.end;
        }
        out.push(chunk.slice(from..at));
        self.rest.extend_from_slice(&chunk[at..]);
        self.wait()
    }

    /// The end of what is left has not come.
    fn wait(&mut self) -> Result<(), usize> {
        if self.rest.len() > FRAME_MAX {
            return Err(FRAME_MAX);
        }
        // The last of it may be the beginning of a blank line.
        self.searched = self.rest.len().saturating_sub(BLANK_MAX);
        Ok(())
    }

    /// The stream ended. Some providers leave the last blank line out: the frame before it counts.
    pub fn end(&mut self, out: &mut Out) {
        if !self.rest.is_empty() {
            // Cannot be too long: it was not before.
            let _ = self.feed(Bytes::from_static(b"\n\n"), out);
        }
    }

    fn inspect(&mut self, frame: &[u8], single: bool) -> Verdict {
        // Comments and retry hints go on as they are.
        let Some(event) = Event::of(frame, single) else {
            return Verdict::Pass;
        };
        if self.events {
            return self.inspect_event(frame, &event);
        }
        let data = &*event.data;
        if data == b"[DONE]" {
            return Verdict::Done;
        }
        if event.is_error() {
            self.seen.failed = true;
            return Verdict::Pass;
        }
        let first = self.name.is_unknown();
        let (mut only_usage, mut tells_usage) = (false, false);
        if let Some(at) = KEYS.usage.first(data)
            && let Some(reading) = Reading::openai(&data[at..])
        {
            self.seen.usage = Some(reading);
            tells_usage = true;
            only_usage = KEYS
                .choices
                .first(data)
                .is_some_and(|at| is_empty_list(data, at));
        }
        if let Some(at) = KEYS.finish_reason.first(data)
            && let Some(reason) = text_at(data, at)
        {
            // OpenRouter's word for an answer that broke off.
            self.seen.failed |= reason == "error";
            self.seen.finish = Some(reason.into());
            // Some say their last words, or all of them, with it.
            if has_output(data) {
                self.count(data);
            }
        } else if !only_usage {
            self.count(data);
        }
        if (first || only_usage)
            && let Some(tier) = KEYS
                .service_tier
                .first(data)
                .and_then(|at| text_at(data, at))
        {
            self.seen.service_tier = Some(tier.into());
        }
        if only_usage && !self.show_usage {
            return Verdict::Drop;
        }
        match self.rename(frame) {
            verdict if !(tells_usage && self.hold_usage) => verdict,
            Verdict::Replace(renamed) => Verdict::Hold(renamed),
            _ => Verdict::Hold(Bytes::copy_from_slice(frame)),
        }
    }

    /// An event of a stream that does not end with `[DONE]`: the last one says so, and carries the usage.
    fn inspect_event(&mut self, frame: &[u8], event: &Event<'_>) -> Verdict {
        let data = &*event.data;
        if data == b"[DONE]" {
            self.seen.last = Some(Bytes::copy_from_slice(frame));
            return Verdict::Done;
        }
        // In the data it may stand behind others of that name, as with vLLM.
        let kind = match event.name {
            Some(name) if name != "message" => Some(name),
            _ => KEYS.kind.first(data).and_then(|at| text_at(data, at)),
        };
        let kind = kind.unwrap_or_default();
        if kind.ends_with(".delta") {
            self.count(data);
            return Verdict::Pass;
        }
        let failed = matches!(kind, "error" | "response.failed");
        if !failed && !LAST_EVENTS.contains(&kind) {
            return self.rename(frame);
        }
        self.seen.failed = failed;
        self.seen.usage = KEYS
            .usage
            .first(data)
            .and_then(|at| Reading::openai(&data[at..]));
        self.seen.service_tier = KEYS
            .service_tier
            .first(data)
            .and_then(|at| text_at(data, at))
            .map(Text::from);
        self.seen.finish = kind.rsplit('.').next().map(Text::from);
        self.seen.last = Some(match self.rename(frame) {
            Verdict::Replace(renamed) => renamed,
            _ => Bytes::copy_from_slice(frame),
        });
        Verdict::Done
    }

    /// Counts a frame that carries output; those that only open the stream do not.
    fn count(&mut self, data: &[u8]) {
        if self.seen.frames == 0 && is_opening(data) {
            return;
        }
        let bytes = data.len() as u64;
        self.seen.smallest = if self.seen.frames == 0 {
            bytes
        } else {
            self.seen.smallest.min(bytes)
        };
        self.seen.frames += 1;
        self.seen.bytes += bytes;
    }

    fn rename(&mut self, frame: &[u8]) -> Verdict {
        let renamed = self.name.in_place(frame);
        renamed.map_or(Verdict::Pass, Verdict::Replace)
    }
}

/// Whether a frame names a role, or filters of the prompt, and has no output yet.
fn is_opening(data: &[u8]) -> bool {
    let no_choice = KEYS
        .choices
        .first(data)
        .is_some_and(|at| is_empty_list(data, at));
    let no_content = KEYS.content.first(data).is_none_or(|at| {
        let value = &data[at..];
        value.starts_with(b"\"\"") || value.starts_with(b"null")
    });
    let role = KEYS.role.first(data).is_some();
    no_choice || (role && no_content && KEYS.tool_calls.first(data).is_none())
}

/// Whether a frame that says why an answer ended has some of it, too.
fn has_output(data: &[u8]) -> bool {
    let has_text = [&KEYS.content, &KEYS.text].into_iter().any(|key| {
        let value = key.first(data).map(|at| &data[at..]);
        value.is_some_and(|value| value.starts_with(b"\"") && !value.starts_with(b"\"\""))
    });
    let calls = || KEYS.tool_calls.first(data);
    has_text || calls().is_some_and(|at| data[at..].starts_with(b"[") && !is_empty_list(data, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    const USAGE: &str = r#""usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}"#;

    fn frame(delta: &str, finish: &str) -> String {
        format!(
            "data: {{\"id\":\"c\",\"model\":\"up-1\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}],\"usage\":null}}\n\n"
        )
    }

    fn whole() -> String {
        [
            frame(r#"{"role":"assistant","content":""}"#, "null"),
            frame(r#"{"content":"usage"}"#, "null"),
            frame(r#"{"content":"\"usage\":{\"prompt_tokens\":9}"}"#, "null"),
            frame("{}", "\"stop\""),
            format!("data: {{\"id\":\"c\",\"model\":\"up-1\",\"choices\":[],{USAGE},\"service_tier\":\"flex\"}}\n\n"),
            "data: [DONE]\n\n".to_owned(),
        ]
        .concat()
    }

    /// Feeds a text in pieces of a size.
    fn run(text: &str, size: usize, requested: &str, show_usage: bool) -> (Scanner, String) {
        let mut scanner = Scanner::new(Endpoint::Chat, requested, show_usage);
        let mut sent = Vec::new();
        for piece in text.as_bytes().chunks(size) {
            let mut out = Out::default();
            scanner
                .feed(Bytes::copy_from_slice(piece), &mut out)
                .unwrap();
            sent.extend_from_slice(&out.take());
        }
        (scanner, String::from_utf8(sent).unwrap())
    }

    #[test]
    fn however_it_is_cut_the_same_comes_out() {
        let text = whole();
        let asked = text.replace("up-1", "mine").replace("data: [DONE]\n\n", "");
        let usage_frame = asked
            .find("data: {\"id\":\"c\",\"model\":\"mine\",\"choices\":[]")
            .unwrap();
        for size in [1, 2, 3, 7, 64, 100_000] {
            let (scanner, sent) = run(&text, size, "mine", true);
            assert_eq!(sent, asked, "in pieces of {size}");
            assert!(scanner.seen.done && !scanner.seen.failed);
            assert_eq!(scanner.seen.finish.as_deref(), Some("stop"));
            assert_eq!(scanner.seen.service_tier.as_deref(), Some("flex"));
            assert_eq!(
                scanner.seen.usage.as_ref().unwrap().meters.output_tokens(),
                2
            );
            let (_, hidden) = run(&text, size, "mine", false);
            assert_eq!(hidden, asked[..usage_frame], "in pieces of {size}");
        }
    }

    #[test]
    fn frames_that_need_no_change_are_the_same_memory() {
        let text = Bytes::from(whole());
        let mut scanner = Scanner::new(Endpoint::Chat, "up-1", true);
        let mut out = Out::default();
        scanner.feed(text.clone(), &mut out).unwrap();
        let sent = out.take();
        assert_eq!(sent.as_ptr(), text.as_ptr());
        assert_eq!(sent.len(), text.len() - "data: [DONE]\n\n".len());
    }

    #[test]
    fn other_line_ends_and_comments_pass() {
        let text = whole().replace("\n\n", "\r\n\r\n");
        let text = format!(": keep-alive\r\n\r\n{text}");
        for size in [1, 5, 10_000] {
            let (scanner, sent) = run(&text, size, "up-1", true);
            assert!(scanner.seen.done);
            assert!(sent.starts_with(": keep-alive\r\n\r\ndata: {"), "{sent}");
        }
    }

    #[test]
    fn output_is_estimated_by_frames() {
        let text: String = (0..3)
            .map(|at| frame(&format!("{{\"content\":\"w{at}\"}}"), "null"))
            .collect();
        let opened = format!(
            "{}{text}",
            frame(r#"{"role":"assistant","content":""}"#, "null")
        );
        let (scanner, _) = run(&opened, 50, "up-1", true);
        assert_eq!(scanner.seen.output_estimate(), 3);
    }

    #[test]
    fn a_last_frame_without_its_blank_line_counts() {
        let mut scanner = Scanner::new(Endpoint::Chat, "up-1", true);
        let mut out = Out::default();
        scanner
            .feed(Bytes::from("data: [DONE]\n"), &mut out)
            .unwrap();
        assert!(!scanner.seen.done);
        scanner.end(&mut out);
        assert!(scanner.seen.done);
    }

    /// Names, ids, and data in several lines: as good as the usual frame.
    #[test]
    fn frames_of_every_form_are_read() {
        for (from, to) in [
            ("data: ", "event: message\ndata: "),
            ("data: ", "id: 7\ndata: "),
            ("data: ", ": hi\ndata: "),
            (",\"choices\"", "\ndata: ,\"choices\""),
        ] {
            let text = whole().replace(from, to);
            for size in [1, 7, 100_000] {
                let (scanner, sent) = run(&text, size, "mine", true);
                assert!(scanner.seen.done, "{to}");
                let usage = scanner.seen.usage.as_ref().unwrap();
                assert_eq!(usage.meters.output_tokens(), 2, "{to}");
                assert_eq!(scanner.seen.finish.as_deref(), Some("stop"));
                assert!(sent.contains("mine") && !sent.contains("up-1"), "{sent}");
            }
        }
    }

    #[test]
    fn an_answer_that_ends_as_an_error_has_failed() {
        let text = frame("{\"content\":\"\"}", "\"error\"");
        let (scanner, sent) = run(&text, 50, "up-1", true);
        assert!(scanner.seen.failed && !scanner.seen.done);
        assert_eq!(sent, text);
        let named = "event: error\ndata: {\"message\":\"x\"}\n\n";
        assert!(run(named, 50, "up-1", true).0.seen.failed);
    }

    #[test]
    fn last_words_count_where_they_stand() {
        let mut text = frame("{\"content\":\"all of it\"}", "\"stop\"");
        let (scanner, _) = run(&text, 50, "up-1", true);
        assert_eq!(scanner.seen.output_estimate(), 1);
        text += &frame("{\"content\":\"\"}", "\"stop\"");
        assert_eq!(run(&text, 50, "up-1", true).0.seen.output_estimate(), 1);
    }

    /// vLLM writes the answer before the type of the event.
    #[test]
    fn the_last_event_is_known_by_its_name() {
        let text = format!(
            "event: response.completed\ndata: {{\"response\":{{\"model\":\"up-1\",\"tools\":[{{\"type\":\"function\"}}],\
             {USAGE}}},\"type\":\"response.completed\"}}\n\n"
        );
        let mut scanner = Scanner::new(Endpoint::Responses, "mine", true);
        scanner.feed(text.into(), &mut Out::default()).unwrap();
        assert!(scanner.seen.done && !scanner.seen.failed);
        let usage = scanner.seen.usage.unwrap();
        assert_eq!(usage.meters.output_tokens(), 2);
    }

    /// What does not end is looked at once, however many pieces it comes in.
    #[test]
    fn a_frame_of_megabytes_is_taken_in_pieces() {
        let text = frame(
            &format!("{{\"content\":\"{}\"}}", "x".repeat(12 << 20)),
            "null",
        );
        let (scanner, sent) = run(&text, 4_096, "up-1", true);
        assert_eq!(sent.len(), text.len());
        assert_eq!(scanner.seen.output_estimate(), 1);
        let mut scanner = Scanner::new(Endpoint::Chat, "up-1", true);
        let mut out = Out::default();
        let long = Bytes::from("y".repeat(FRAME_MAX));
        scanner.feed(long.clone(), &mut out).unwrap();
        scanner.feed(long, &mut out).unwrap_err();
    }

    #[test]
    fn an_error_frame_is_seen_and_sent_on() {
        let (scanner, sent) = run("data: {\"error\":{\"message\":\"x\"}}\n\n", 9, "m", false);
        assert!(scanner.seen.failed);
        assert!(sent.contains("\"x\""));
    }
}
