//! Which requests our own wire serves: whole, plain chat calls of HTTP/1.1. Pure, and never in doubt: what is
//! not exactly what is looked for goes to the general server, which answers it or refuses it.
//!
//! So nothing that could be read in two ways is ever read here: no transfer encoding, one length of digits
//! alone, no folded lines, no upgrade, no expectation.

use std::mem::MaybeUninit;

use httparse::{Header, Status};

/// A longer head goes to the general server, which refuses it.
pub const HEAD_MAX: usize = 32 << 10;
/// A longer body is read by the general server, piece by piece, once its sender is known.
pub const BODY_MAX: usize = 256 << 10;
/// Header fields at most.
pub const FIELDS_MAX: usize = 64;

/// Request lines of the chat endpoint.
const LINES: [&[u8]; 2] = [
    b"POST /v1/chat/completions HTTP/1.1\r\n",
    b"POST /chat/completions HTTP/1.1\r\n",
];

/// Room for the fields of a head.
pub type Room<'a> = [MaybeUninit<Header<'a>>; FIELDS_MAX];

/// What the first bytes of a request are.
#[derive(Debug, PartialEq, Eq)]
pub enum Judged<'r, 'a> {
    /// Perhaps the beginning of one.
    More,
    Call(Head<'r, 'a>),
    General,
}

/// A plain chat call.
#[derive(Debug, PartialEq, Eq)]
pub struct Head<'r, 'a> {
    pub fields: &'r [Header<'a>],
    /// Bytes of the head.
    pub length: usize,
    /// Bytes of the body.
    pub body: usize,
    /// The client wants to go on after the answer.
    pub keep: bool,
}

/// Judges what has come of a request.
pub fn judge<'r, 'a>(input: &'a [u8], room: &'r mut Room<'a>) -> Judged<'r, 'a> {
    let is_begun = |line: &&[u8]| {
        let both = line.len().min(input.len());
        line[..both] == input[..both]
    };
    let Some(line) = LINES.iter().find(|line| is_begun(line)) else {
        return Judged::General;
    };
    if input.len() < line.len() {
        return Judged::More;
    }
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(input, room) {
        Ok(Status::Complete(length)) if length <= HEAD_MAX => {
            let fields: &'r [Header<'a>] = request.headers;
            plain(fields).map_or(Judged::General, |(body, keep)| {
                Judged::Call(Head {
                    fields,
                    length,
                    body,
                    keep,
                })
            })
        }
        Ok(Status::Partial) if input.len() <= HEAD_MAX => Judged::More,
        _ => Judged::General,
    }
}

/// Length of the body and whether the connection is kept, if nothing about the request is unusual.
fn plain(fields: &[Header<'_>]) -> Option<(usize, bool)> {
    let (mut length, mut keep, mut hosts) = (None, true, 0);
    for field in fields {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        // By length first: most fields are none of these.
        match field.name.len() {
            4 if is("host") => hosts += 1,
            14 if is("content-length") => {
                let digits = std::str::from_utf8(field.value).ok()?;
                let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
                if length.is_some() || !all_digits {
                    return None;
                }
                length = Some(digits.parse().ok().filter(|length| *length <= BODY_MAX)?);
            }
            10 if is("connection") => {
                if field.value.eq_ignore_ascii_case(b"close") {
                    keep = false;
                } else if !field.value.eq_ignore_ascii_case(b"keep-alive") {
                    return None;
                }
            }
            17 if is("transfer-encoding") => return None,
            6 if is("expect") => return None,
            7 if is("upgrade") || is("trailer") => return None,
            2 if is("te") => return None,
            _ => {}
        }
    }
    (hosts == 1).then_some((length?, keep))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Header<'static> = httparse::EMPTY_HEADER;

    /// `Some((length of the head, of the body, keep))` for a call; `None` when more is needed.
    fn seen(input: &[u8]) -> Result<Option<(usize, usize, bool)>, &'static str> {
        let mut room = [MaybeUninit::new(NONE); FIELDS_MAX];
        match judge(input, &mut room) {
            Judged::More => Ok(None),
            Judged::Call(head) => Ok(Some((head.length, head.body, head.keep))),
            Judged::General => Err("general"),
        }
    }

    fn call(fields: &str) -> Vec<u8> {
        format!("POST /v1/chat/completions HTTP/1.1\r\n{fields}\r\n").into_bytes()
    }

    #[test]
    fn a_plain_call_is_ours_however_it_is_cut() {
        for line in ["POST /v1/chat/completions", "POST /chat/completions"] {
            let head = format!(
                "{line} HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\nConnection: Keep-Alive\r\n\r\n"
            );
            let whole = format!("{head}{{}}     NEXT");
            for end in 0..whole.len() {
                let wanted = (end >= head.len()).then_some((head.len(), 7, true));
                assert_eq!(seen(&whole.as_bytes()[..end]), Ok(wanted), "{end}");
            }
        }
        let close = call("host: a\r\nconnection: close\r\ncontent-length: 0\r\n");
        assert_eq!(seen(&close), Ok(Some((close.len(), 0, false))));
    }

    #[test]
    fn whatever_is_unusual_is_left_to_the_general_server() {
        let fields = [
            // Where does it end?
            "host: a\r\n",
            "host: a\r\ncontent-length: 5\r\ncontent-length: 5\r\n",
            "host: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n",
            "host: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n",
            "host: a\r\nTransfer-Encoding: chunked\r\n",
            "host: a\r\ncontent-length: 5\r\ntransfer-encoding: identity\r\n",
            "host: a\r\ncontent-length: +5\r\n",
            "host: a\r\ncontent-length: -5\r\n",
            "host: a\r\ncontent-length: 5, 5\r\n",
            "host: a\r\ncontent-length: 0x5\r\n",
            "host: a\r\ncontent-length: \r\n",
            "host: a\r\ncontent-length: 99999999999999999999999\r\n",
            "host: a\r\ncontent-length: 262145\r\n",
            // What does it want?
            "host: a\r\ncontent-length: 5\r\nexpect: 100-continue\r\n",
            "host: a\r\ncontent-length: 5\r\nupgrade: h2c\r\n",
            "host: a\r\ncontent-length: 5\r\nconnection: upgrade\r\n",
            "host: a\r\ncontent-length: 5\r\nconnection: close, te\r\n",
            "host: a\r\ncontent-length: 5\r\nte: trailers\r\n",
            // Whom does it ask?
            "content-length: 5\r\n",
            "host: a\r\nhost: b\r\ncontent-length: 5\r\n",
            // Lines that are none.
            "host: a\r\ncontent-length: 5\r\nx: a\r\n b\r\n",
            "host: a\r\ncontent-length : 5\r\n",
            "host: a\r\ncontent-length: 5\r\nx\r\n",
            "host: a\r\ncontent-length: 5\r\nx: \x01\r\n",
            "host: a\r\ncontent-length: 5\r\nx: a\rb\r\n",
            "host: a\r\ncontent-length: 5\r\n x: y\r\n",
        ];
        for fields in fields {
            assert_eq!(seen(&call(fields)), Err("general"), "{fields:?}");
        }
        let lines = [
            "GET /v1/models HTTP/1.1\r\n",
            "POST /v1/chat/completions HTTP/1.0\r\n",
            "POST /v1/chat/completions?x=1 HTTP/1.1\r\n",
            "POST /v1/chat/completions  HTTP/1.1\r\n",
            "POST /v1/chat/completions HTTP/1.1\n",
            "post /v1/chat/completions HTTP/1.1\r\n",
            "\r\nPOST /v1/chat/completions HTTP/1.1\r\n",
            "PRI * HTTP/2.0\r\n",
            "\0",
        ];
        for line in lines {
            let request = format!("{line}host: a\r\ncontent-length: 0\r\n\r\n");
            assert_eq!(seen(request.as_bytes()), Err("general"), "{line:?}");
        }
    }

    #[test]
    fn a_head_has_an_end() {
        let many: String = (0..FIELDS_MAX).map(|at| format!("x-{at}: y\r\n")).collect();
        assert_eq!(seen(&call(&format!("host: a\r\n{many}"))), Err("general"));
        let long = call(&format!("host: a\r\nx: {}", "y".repeat(HEAD_MAX)));
        assert_eq!(seen(&long), Err("general"));
    }
}
