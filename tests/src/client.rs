//! Calls as an application makes them, and what came back.

use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::{Value, json};

/// An HTTP client. It has no TLS to speak of here, but wants to know with what.
pub fn http() -> reqwest::Client {
    // The second time it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// A call that is being put together.
#[derive(Clone)]
pub struct Chat {
    client: reqwest::Client,
    url: String,
    key: String,
    pub body: Value,
    headers: Vec<(String, String)>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answered {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answered {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e} in {:?}", self.text))
    }

    /// A header as text; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// `error.message`.
    pub fn message(&self) -> String {
        self.json()["error"]["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// `error.type`.
    pub fn error_type(&self) -> String {
        self.json()["error"]["type"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Text of the first choice.
    pub fn content(&self) -> String {
        self.json()["choices"][0]["message"]["content"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

/// A stream, read to its end or to where its reader stopped.
#[derive(Debug, Default)]
pub struct Streamed {
    pub headers: HeaderMap,
    /// The chunks, without `[DONE]`.
    pub chunks: Vec<Value>,
    pub done: bool,
}

impl Streamed {
    /// All text of the first choice.
    pub fn content(&self) -> String {
        self.chunks
            .iter()
            .filter_map(|chunk| {
                let choice = chunk["choices"]
                    .as_array()?
                    .iter()
                    .find(|choice| choice["index"] == 0)?;
                choice["delta"]["content"].as_str()
            })
            .collect()
    }

    /// The usage object, if a chunk carried one.
    pub fn usage(&self) -> Option<&Value> {
        self.chunks
            .iter()
            .map(|chunk| &chunk["usage"])
            .find(|usage| usage.is_object())
    }
}

impl Chat {
    pub fn new(
        client: &reqwest::Client,
        base: &str,
        key: &str,
        model: &str,
        question: &str,
    ) -> Self {
        Self {
            client: client.clone(),
            url: format!("{base}/v1/chat/completions"),
            key: key.to_owned(),
            body: json!({"model": model, "messages": [{"role": "user", "content": question}]}),
            headers: Vec::new(),
        }
    }

    /// Sets one field of the body.
    #[must_use]
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.body[field] = value.into();
        self
    }

    /// Adds one header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn request(&self) -> reqwest::RequestBuilder {
        let mut request = self
            .client
            .post(&self.url)
            .bearer_auth(&self.key)
            .json(&self.body);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.timeout(Duration::from_secs(60))
    }

    pub async fn send(&self) -> Answered {
        self.try_send().await.unwrap()
    }

    /// As [`Self::send`], where the gateway may die under the call.
    pub async fn try_send(&self) -> reqwest::Result<Answered> {
        let response = self.request().send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answered {
            status,
            headers,
            text: response.text().await?,
        })
    }

    /// Streams to the end.
    pub async fn stream(&self) -> Streamed {
        self.read(usize::MAX).await
    }

    /// Streams until so many chunks have come, then hangs up.
    pub async fn read(&self, most: usize) -> Streamed {
        let chat = self.clone().with("stream", true);
        let mut response = chat.request().send().await.unwrap();
        let mut streamed = Streamed {
            headers: response.headers().clone(),
            ..Streamed::default()
        };
        assert_eq!(response.status(), 200, "{:?}", response.text().await);
        let mut buffer = Vec::new();
        while let Ok(Some(bytes)) = response.chunk().await {
            buffer.extend_from_slice(&bytes);
            while let Some(end) = buffer.windows(2).position(|pair| pair == b"\n\n") {
                let frame: Vec<u8> = buffer.drain(..end + 2).collect();
                let frame = String::from_utf8(frame).unwrap();
                let Some(data) = frame.trim().strip_prefix("data: ") else {
                    continue;
                };
                if data == "[DONE]" {
                    streamed.done = true;
                } else {
                    streamed.chunks.push(serde_json::from_str(data).unwrap());
                }
                if streamed.chunks.len() >= most {
                    return streamed;
                }
            }
        }
        streamed
    }
}
