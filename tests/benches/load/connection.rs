//! A connection that stays open: as little of HTTP/1.1 as the load needs, so that the load costs little.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What most answers fit into.
const BUFFER: usize = 16 * 1024;
/// No answer is longer.
const MOST: usize = 16 * 1024 * 1024;
const HEADERS: usize = 48;

/// A client's side of one connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What was answered.
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    /// `Rentstream-Position`, of a write.
    pub(crate) position: u64,
    pub(crate) body: &'a [u8],
}

impl Answer<'_> {
    /// An error unless it has this status.
    pub(crate) fn expect(&self, status: u16) -> Result<()> {
        if self.status != status {
            bail!("expected {status}, got {}: {}", self.status, String::from_utf8_lossy(self.body));
        }
        Ok(())
    }

    /// The body.
    pub(crate) fn json(&self) -> Result<serde_json::Value> {
        Ok(serde_json::from_slice(self.body)?)
    }
}

/// Where an answer's parts are.
struct Parts {
    status: u16,
    position: u64,
    body: std::ops::Range<usize>,
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; BUFFER] })
    }

    /// So many of them.
    pub(crate) async fn several(address: SocketAddr, count: usize) -> Result<Vec<Self>> {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            connections.push(Self::open(address).await?);
        }
        Ok(connections)
    }

    /// Sends a request and waits for its whole answer.
    pub(crate) async fn ask(&mut self, request: &str) -> Result<Answer<'_>> {
        self.stream.write_all(request.as_bytes()).await?;
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await?;
            if read == 0 {
                bail!("the connection was closed");
            }
            filled += read;
            if let Some(Parts { status, position, body }) = parts(&self.buffer[..filled])? {
                return Ok(Answer { status, position, body: &self.buffer[body] });
            }
            if filled == self.buffer.len() {
                if filled >= MOST {
                    bail!("the answer is too long");
                }
                self.buffer.resize(filled * 2, 0);
            }
        }
    }
}

/// `None` while there's more to come.
fn parts(bytes: &[u8]) -> Result<Option<Parts>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(start) = response.parse(bytes)? else { return Ok(None) };
    let header = |name: &str| -> Option<u64> {
        let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(found.value).ok()?.parse().ok()
    };
    let length = header("content-length").context("the answer doesn't say how long it is")?;
    let end = start + usize::try_from(length)?;
    let status = response.code.unwrap_or_default();
    let position = header("rentstream-position").unwrap_or_default();
    Ok((bytes.len() >= end).then_some(Parts { status, position, body: start..end }))
}

/// Writes a request; `key` is its Idempotency-Key.
pub(crate) fn post(path: &str, token: &str, key: Option<u64>, body: &str) -> String {
    let key = key.map(|key| format!("Idempotency-Key: bench-{key:016x}\r\n")).unwrap_or_default();
    format!(
        "POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\n{key}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Writes a read.
pub(crate) fn get(path: &str, token: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n")
}
