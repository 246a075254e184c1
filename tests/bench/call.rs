//! Single calls, with waiting: readiness, and the making of a key.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

pub fn get(to: SocketAddr, path: &str) -> Result<Vec<u8>> {
    ask(
        to,
        format!("GET {path} HTTP/1.1\r\nhost: {to}\r\n\r\n").as_bytes(),
    )
}

/// Sends a request and gives the body of its answer, which must be a success of known length.
pub fn ask(to: SocketAddr, request: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        let count = stream.read(&mut buffer)?;
        answer.extend_from_slice(&buffer[..count]);
        if let Some(body) = body(&answer)? {
            return Ok(body.to_vec());
        }
        if count == 0 {
            bail!("cut off: {}", String::from_utf8_lossy(&answer));
        }
    }
}

fn body(answer: &[u8]) -> Result<Option<&[u8]>> {
    let Some(end) = memchr::memmem::find(answer, b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length: usize = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .context("an answer without a length")?
        .trim()
        .parse()?;
    let Some(body) = answer.get(end + 4..end + 4 + length) else {
        return Ok(None);
    };
    if !head.starts_with("http/1.1 2") {
        bail!("{}", String::from_utf8_lossy(answer));
    }
    Ok(Some(body))
}
