//! The usage tables, asked directly over ClickHouse's HTTP interface: a question that is asked again and
//! again until rows have come is too dear as a process each time.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Where the tables are, and who asks.
#[derive(Debug, Clone)]
pub struct Tables {
    pub port: u16,
    pub user: String,
    pub password: String,
}

impl Tables {
    /// The answer to one query, or what went wrong. Blocks.
    ///
    /// # Errors
    /// Nobody listens, the connection broke, or the engine refused; its own words.
    pub fn ask(&self, query: &str) -> Result<String, String> {
        let answer = self.exchange(query).map_err(|error| error.to_string())?;
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .ok_or_else(|| format!("cut off: {answer:?}"))?;
        let body = if head
            .to_ascii_lowercase()
            .contains("transfer-encoding: chunked")
        {
            unchunked(body).ok_or_else(|| format!("cut off: {body:?}"))?
        } else {
            body.to_owned()
        };
        if head.starts_with("HTTP/1.1 200") || head.starts_with("HTTP/1.0 200") {
            Ok(body.trim_end_matches('\n').to_owned())
        } else {
            Err(body)
        }
    }

    fn exchange(&self, query: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        write!(
            stream,
            "POST / HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\nx-clickhouse-user: {}\r\n\
             x-clickhouse-key: {}\r\ncontent-length: {}\r\n\r\n{query}",
            self.user,
            self.password,
            query.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

fn unchunked(mut text: &str) -> Option<String> {
    let mut whole = String::new();
    loop {
        let (size, rest) = text.split_once("\r\n")?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        if size == 0 {
            return Some(whole);
        }
        whole.push_str(rest.get(..size)?);
        text = rest.get(size + 2..)?;
    }
}
