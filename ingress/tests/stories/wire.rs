//! What a client may do on a connection, byte by byte: our own wire must answer like any good server, and
//! leave what is unusual to the general one.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::provider::{Step, chunk, last_chunk, plain, stream, tokens};
use crate::world::{MASTER, PATIENCE, World, request};

struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

/// An answer as it came.
#[derive(Debug)]
struct Answer {
    head: String,
    body: String,
}

impl Answer {
    fn status(&self) -> &str {
        &self.head[9..12]
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

impl Client {
    async fn to(world: &World) -> Self {
        let stream = TcpStream::connect(world.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            read: Vec::new(),
        }
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    async fn more(&mut self) -> bool {
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.read));
        matches!(read.await.expect("nothing comes"), Ok(count) if count > 0)
    }

    /// The next answer, of a known length or in chunks.
    async fn answer(&mut self) -> Answer {
        let head = self.until(b"\r\n\r\n").await;
        let head = String::from_utf8(head).unwrap();
        let mut answer = Answer {
            head,
            body: String::new(),
        };
        let mut body = Vec::new();
        if let Some(length) = answer.header("content-length") {
            let length: usize = length.parse().unwrap();
            while self.read.len() < length {
                assert!(self.more().await, "the body breaks off");
            }
            body.extend(self.read.drain(..length));
        } else {
            assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
            loop {
                let size = String::from_utf8(self.until(b"\r\n").await).unwrap();
                let size = usize::from_str_radix(size.trim(), 16).unwrap();
                while self.read.len() < size + 2 {
                    assert!(self.more().await, "a chunk breaks off");
                }
                body.extend(self.read.drain(..size));
                assert_eq!(self.read.drain(..2).collect::<Vec<u8>>(), b"\r\n");
                if size == 0 {
                    break;
                }
            }
        }
        answer.body = String::from_utf8(body).unwrap();
        answer
    }

    async fn until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|w| w == end) {
                return self.read.drain(..at + end.len()).collect();
            }
            assert!(
                self.more().await,
                "closed after {:?}",
                String::from_utf8_lossy(&self.read)
            );
        }
    }

    /// Nothing more comes.
    async fn is_closed(&mut self) -> bool {
        self.read.is_empty() && !self.more().await
    }
}

/// A call with more header lines.
fn call(fields: &str, body: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {MASTER}\r\n{fields}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn usual() -> String {
    call("", &request(json!({})).to_string())
}

#[tokio::test]
async fn one_connection_carries_call_after_call_however_they_are_cut() {
    let world = World::start().await;
    let mut client = Client::to(&world).await;
    let bytes = usual().into_bytes();
    for size in [bytes.len(), 1, 7, 100] {
        for piece in bytes.chunks(size) {
            client.send(piece).await;
            if size > 1 {
                tokio::task::yield_now().await;
            }
        }
        let answer = client.answer().await;
        assert_eq!(answer.status(), "200");
        assert!(answer.body.contains("hello"), "{answer:?}");
        let date = answer.header("date").unwrap();
        assert!(date.ends_with(" GMT") && date.len() == 29, "{date}");
        assert_eq!(answer.header("x-litellm-response-cost"), Some("0.00002"));
    }
    world.ended(4).await;
    world.stop().await;
}

#[tokio::test]
async fn calls_sent_ahead_are_answered_in_their_order() {
    let world = World::start().await;
    let mut client = Client::to(&world).await;
    let ids = ["first", "second", "third"];
    let all: String = ids
        .iter()
        .map(|id| {
            call(
                &format!("x-litellm-call-id: {id}\r\n"),
                &request(json!({})).to_string(),
            )
        })
        .collect();
    // The last of them asks something else, so that the connection changes hands with a call behind it.
    let other =
        format!("GET /v1/models HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {MASTER}\r\n\r\n");
    client.send(format!("{all}{other}{}", usual())).await;
    for id in ids {
        let answer = client.answer().await;
        assert_eq!(answer.status(), "200");
        assert_eq!(answer.header("x-litellm-call-id"), Some(id));
    }
    assert!(client.answer().await.body.contains("\"object\":\"list\""));
    let last = client.answer().await;
    assert_eq!(
        (last.status(), last.header("x-litellm-response-cost")),
        ("200", Some("0.00002"))
    );
    world.ended(4).await;
    world.stop().await;
}

#[tokio::test]
async fn both_servers_tell_the_same() {
    let world = World::start().await;
    let body = request(json!({})).to_string();
    let mut told = Vec::new();
    for fields in ["x-y: z\r\n", "te: trailers\r\n"] {
        let mut client = Client::to(&world).await;
        client.send(call(fields, &body)).await;
        let answer = client.answer().await;
        let mut names: Vec<String> = answer
            .head
            .lines()
            .skip(1)
            .filter_map(|line| Some(line.split_once(": ")?.0.to_owned()))
            .collect();
        names.sort();
        told.push((answer.status().to_owned(), names, answer.body));
    }
    assert_eq!(told[0], told[1]);
    world.stop().await;
}

#[tokio::test]
async fn a_stream_ends_and_the_connection_goes_on() {
    let world = World::start().await;
    world.provider.script(stream("up-1"));
    let mut client = Client::to(&world).await;
    let streamed = call("", &request(json!({ "stream": true })).to_string());
    for _ in 0..2 {
        client.send(&streamed).await;
        let answer = client.answer().await;
        assert!(answer.body.ends_with("data: [DONE]\n\n"), "{answer:?}");
        assert_eq!(answer.body.matches("\"content\":\"w").count(), 5);
    }
    world.provider.script(plain("up-1"));
    client.send(usual()).await;
    assert!(client.answer().await.body.contains("hello"));
    world.ended(3).await;
    world.stop().await;
}

#[tokio::test]
async fn who_wants_to_close_is_told_so() {
    let world = World::start().await;
    let mut client = Client::to(&world).await;
    client
        .send(call(
            "connection: close\r\n",
            &request(json!({})).to_string(),
        ))
        .await;
    let answer = client.answer().await;
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(client.is_closed().await);
    // From the other server, too, and whatever was sent behind it.
    for behind in ["\r\n", &usual()] {
        let mut client = Client::to(&world).await;
        let auth = format!("host: a\r\nauthorization: Bearer {MASTER}\r\nconnection: close\r\n");
        client
            .send(format!("GET /v1/models HTTP/1.1\r\n{auth}\r\n{behind}"))
            .await;
        assert_eq!(client.answer().await.status(), "200");
        assert!(client.is_closed().await);
    }
    assert_eq!(world.provider.bodies().len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn a_hang_up_stops_the_call_even_behind_bytes_sent_ahead() {
    let world = World::start().await;
    let mut steps = tokens("up-1", 2);
    steps.push(Step::Stall);
    world.provider.script(steps);
    let mut client = Client::to(&world).await;
    client
        .send(call("", &request(json!({ "stream": true })).to_string()))
        .await;
    client.until(b"w1").await;
    client.send("POST /v1/chat").await;
    let left = Instant::now();
    drop(client);
    let usages = world.ended(1).await;
    assert_eq!(usages[0].outcome, schemas::Outcome::Cancelled);
    let deadline = left + PATIENCE;
    while world.provider.hung_up().is_none() {
        assert!(Instant::now() < deadline, "the provider was not told");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    world.stop().await;
}

#[tokio::test]
async fn a_stream_that_breaks_off_never_looks_complete() {
    let world = World::start().await;
    let mut steps = tokens("up-1", 1);
    steps.push(Step::Cut);
    world.provider.script(steps);
    let mut client = Client::to(&world).await;
    client
        .send(call("", &request(json!({ "stream": true })).to_string()))
        .await;
    let answer = client.answer().await;
    assert!(
        answer.body.contains("\"error\"") && !answer.body.contains("[DONE]"),
        "{answer:?}"
    );
    world.stop().await;
}

#[tokio::test]
async fn what_has_two_readings_is_read_in_none() {
    let world = World::start().await;
    let hidden = usual();
    let auth = format!("host: a\r\nauthorization: Bearer {MASTER}\r\n");
    let body = request(json!({})).to_string();
    let length = body.len();
    let table = [
        format!("{auth}content-length: {length}\r\ncontent-length: 5\r\n\r\n{body}{hidden}"),
        format!("{auth}content-length: +{length}\r\n\r\n{body}{hidden}"),
        format!("{auth}content-length: {length}, {length}\r\n\r\n{body}{hidden}"),
        format!("{auth}content-length : {length}\r\n\r\n{body}{hidden}"),
        format!("{auth}content-length: {length}\r\n x: y\r\n\r\n{body}{hidden}"),
        format!("{auth}content-length: {length}\r\nx\x01y: z\r\n\r\n{body}{hidden}"),
        format!("{auth}transfer-encoding: chunked, identity\r\n\r\n{body}{hidden}"),
        format!("{auth}transfer-encoding: chunked\r\n\r\nzz\r\n{body}\r\n0\r\n\r\n{hidden}"),
    ];
    for lines in &table {
        let mut client = Client::to(&world).await;
        client
            .send(format!("POST /v1/chat/completions HTTP/1.1\r\n{lines}"))
            .await;
        while client.more().await {}
        let told = String::from_utf8(client.read).unwrap();
        // Refused in words, or by closing in the middle of a body.
        assert!(
            told.is_empty() || told.starts_with("HTTP/1.1 400"),
            "{lines:?}: {told}"
        );
        assert!(told.matches("HTTP/1.1").count() <= 1, "{lines:?}: {told}");
    }
    assert_eq!(world.provider.bodies().len(), 0, "nothing was smuggled");
    world.stop().await;
}

/// A length beside chunks may have told somebody on the way that the request ends elsewhere: what stands behind it
/// is not read.
#[tokio::test]
async fn what_follows_a_body_in_chunks_is_no_request() {
    let world = World::start().await;
    let body = request(json!({})).to_string();
    let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let auth = format!("host: a\r\nauthorization: Bearer {MASTER}\r\n");
    let length = format!("content-length: {}\r\n", chunks.len() + usual().len());
    for framing in [
        format!("{length}transfer-encoding: chunked\r\n"),
        format!("transfer-encoding: chunked\r\n{length}"),
    ] {
        let before = world.provider.bodies().len();
        let mut client = Client::to(&world).await;
        client
            .send(format!(
                "POST /v1/chat/completions HTTP/1.1\r\n{auth}{framing}\r\n{chunks}{}",
                usual()
            ))
            .await;
        let answer = client.answer().await;
        assert_eq!(
            (answer.status(), answer.header("connection")),
            ("200", Some("close"))
        );
        assert!(client.is_closed().await);
        assert_eq!(world.provider.bodies().len(), before + 1, "{framing}");
    }
    world.stop().await;
}

#[tokio::test]
async fn bodies_in_chunks_and_expectations_are_served_by_the_general_server() {
    let world = World::start().await;
    let body = request(json!({})).to_string();
    let mut client = Client::to(&world).await;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {MASTER}\r\n"
    );
    let (first, second) = body.split_at(10);
    client
        .send(format!(
            "{head}transfer-encoding: chunked\r\n\r\na\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
            second.len()
        ))
        .await;
    assert_eq!(client.answer().await.status(), "200");

    let mut client = Client::to(&world).await;
    let length = body.len();
    client
        .send(format!(
            "{head}expect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        ))
        .await;
    assert!(client.until(b"\r\n\r\n").await.starts_with(b"HTTP/1.1 100"));
    client.send(&body).await;
    assert_eq!(client.answer().await.status(), "200");

    let mut client = Client::to(&world).await;
    client
        .send(format!(
            "POST /v1/chat/completions HTTP/1.0\r\nauthorization: Bearer {MASTER}\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
        .await;
    assert_eq!(client.answer().await.status(), "200");
    assert!(client.is_closed().await);
    world.stop().await;
}

#[tokio::test]
async fn too_much_is_refused_and_large_is_not() {
    let world = World::with(|config| config.limits.body_bytes_max = 600_000).await;
    let large = |bytes: usize| {
        let extra = json!({ "messages": [{ "role": "user", "content": "x".repeat(bytes) }] });
        request(extra).to_string()
    };
    for bytes in [100_000, 500_000] {
        let mut client = Client::to(&world).await;
        client.send(call("", &large(bytes))).await;
        assert_eq!(client.answer().await.status(), "200", "{bytes}");
    }
    let mut client = Client::to(&world).await;
    // Only the head: it is refused before the body is sent.
    let whole = call("", &large(700_000));
    client
        .send(&whole[..whole.find("\r\n\r\n").unwrap() + 4])
        .await;
    assert_eq!(client.answer().await.status(), "413");

    let mut client = Client::to(&world).await;
    let long = format!("x: {}\r\n", "y".repeat(600_000));
    // It closes before it has read all of it: the rest may not be taken.
    let _ = client.stream.write_all(call(&long, "{}").as_bytes()).await;
    let refused = tokio::time::timeout(PATIENCE, async {
        while client.more().await {}
        client.read
    });
    let refused = refused.await.unwrap();
    assert!(refused.is_empty() || refused.starts_with(b"HTTP/1.1 431"));

    let small = World::with(|config| config.limits.body_bytes_max = 10).await;
    let mut client = Client::to(&small).await;
    client.send(usual()).await;
    assert_eq!(client.answer().await.status(), "413");
    small.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn strangers_are_refused_and_may_try_again() {
    let world = World::start().await;
    let mut client = Client::to(&world).await;
    let body = request(json!({})).to_string();
    let stranger = format!(
        "POST /chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer sk-nobody\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    client.send(&stranger).await;
    let answer = client.answer().await;
    assert_eq!(answer.status(), "401");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    client.send(call("", "{\"model\":")).await;
    assert_eq!(client.answer().await.status(), "400");
    client.send(usual()).await;
    assert_eq!(client.answer().await.status(), "200");
    world.stop().await;
}

#[tokio::test]
async fn a_drain_lets_the_open_call_end_and_closes_what_is_idle() {
    let world = World::start().await;
    let mut idle = Client::to(&world).await;
    idle.send(usual()).await;
    idle.answer().await;
    let mut steps = tokens("up-1", 1);
    steps.push(chunk("data: [DONE]\n\n"));
    steps.push(last_chunk());
    world.provider.script(steps);
    world.stop().await;
    assert!(idle.is_closed().await);
}
