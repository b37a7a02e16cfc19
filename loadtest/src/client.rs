//! One HTTP/1.1 keep-alive connection directly on a socket.
//!
//! It replaces a client library, because the library's pool, tasks and retries would distort latencies or hide losses. Here a request is
//! one write, an answer is one parse, and each failure has a name. A connection that the peer closed while it was idle is replaced before
//! use (`is_usable`). After the first byte of a request was sent nothing is retried.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncWriteExt as _, Interest};

use crate::destination::{ClientStream, Destination};
use crate::framing::BodyFraming;
use crate::head::{self, RefusalHead, ResponseHead};
use crate::pattern;
use crate::receive_buffer::ReceiveBuffer;

/// Bodies up to this size are sent in one write with their head.
const INLINE_BYTES: u64 = 16 * 1024;
/// Maximum of captured text of an answer.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RequestFault {
    /// The connect failed.
    Connect,
    /// The connection ended before the first byte of the answer.
    Closed,
    /// The connection ended within the answer.
    Truncated,
    /// The answer is not valid HTTP.
    Malformed,
    /// The client's timeout expired.
    TimedOut,
    /// All connections were busy until the client's timeout expired.
    Unsent,
    /// The body is not the expected one.
    Corrupt,
}

impl RequestFault {
    /// All faults, so that zero counts are reported too.
    pub(crate) const ALL: [Self; 7] = [
        Self::Connect,
        Self::Closed,
        Self::Truncated,
        Self::Malformed,
        Self::TimedOut,
        Self::Unsent,
        Self::Corrupt,
    ];

    /// Whether the connection broke without an action of the client.
    pub(crate) fn is_broken_connection(self) -> bool {
        matches!(self, Self::Connect | Self::Closed | Self::Truncated)
    }

    /// Its name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Closed => "closed",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::TimedOut => "timed_out",
            Self::Unsent => "unsent",
            Self::Corrupt => "corrupt",
        }
    }
}

/// What to capture of an answer's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyCapture {
    /// The length.
    CountBytes,
    /// The length and the SHA-256.
    Digest,
    /// The length and the (short) text.
    Text,
}

/// A request, encoded once and sent many times.
#[derive(Debug)]
pub(crate) struct Request {
    inline: Vec<u8>,
    streamed_bytes: u64,
    capture: BodyCapture,
    /// Headers of the answer that are kept.
    kept_headers: Vec<String>,
    read_bytes_per_second: Option<u64>,
}

impl Request {
    /// A request with a body of `body_bytes` of the pattern for PUT or POST.
    pub(crate) fn new(
        method: &str,
        host: SocketAddr,
        path: &str,
        body_bytes: u64,
        capture: BodyCapture,
    ) -> Self {
        let mut inline = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n").into_bytes();
        if matches!(method, "PUT" | "POST") {
            inline.extend_from_slice(format!("content-length: {body_bytes}\r\n").as_bytes());
        }
        inline.extend_from_slice(b"\r\n");
        let streamed_bytes = if body_bytes > INLINE_BYTES { body_bytes } else { 0 };
        if streamed_bytes == 0 {
            inline.extend_from_slice(pattern::slice(0, body_bytes));
        }
        Self { inline, streamed_bytes, capture, kept_headers: Vec::new(), read_bytes_per_second: None }
    }

    /// Keeps the values of these headers of the answer.
    pub(crate) fn keeping_headers(self, kept_headers: Vec<String>) -> Self {
        Self { kept_headers, ..self }
    }

    /// Reads the body of the answer at most at this speed.
    pub(crate) fn read_slowly(self, read_bytes_per_second: Option<u64>) -> Self {
        Self { read_bytes_per_second, ..self }
    }

    /// Adds a header.
    pub(crate) fn with_header(mut self, name: &str, value: &str) -> Self {
        let begin = self.inline.iter().position(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        self.inline.splice(begin..begin, format!("{name}: {value}\r\n").into_bytes());
        self
    }
}

/// A complete answer.
#[derive(Debug)]
pub(crate) struct LoadResponse {
    pub(crate) status: u16,
    /// The reason of a refusal, if it has one.
    pub(crate) refusal: Option<RefusalHead>,
    pub(crate) body_bytes: u64,
    /// The captured digest or text.
    pub(crate) captured: String,
    /// The values of the kept headers, in their order; empty for an absent one.
    pub(crate) kept_headers: Vec<Box<str>>,
}

/// An open connection with at most one request in flight.
pub(crate) struct Connection {
    stream: ClientStream,
    receive_buffer: ReceiveBuffer,
    keep_alive: bool,
}

impl Connection {
    /// Opens a connection.
    pub(crate) async fn open(destination: &Destination) -> Result<Self, RequestFault> {
        let stream = destination.connect().await.map_err(|_| RequestFault::Connect)?;
        Ok(Self { stream, receive_buffer: ReceiveBuffer::new(), keep_alive: true })
    }

    /// Whether another request may be sent: the last answer allowed it and no byte arrived since.
    pub(crate) fn is_usable(&mut self) -> bool {
        self.keep_alive && self.stream.is_idle() && self.receive_buffer.unread().is_empty()
    }

    /// Sends `request` and reads the complete answer, at most until `deadline`.
    pub(crate) async fn exchange(
        &mut self,
        request: &Request,
        deadline: Instant,
    ) -> Result<LoadResponse, RequestFault> {
        self.keep_alive = false;
        tokio::time::timeout_at(deadline.into(), self.exchange_unbounded(request))
            .await
            .unwrap_or(Err(RequestFault::TimedOut))
    }

    /// Sends `request`, reads `after_bytes` of the answer's body and closes the connection.
    pub(crate) async fn hang_up(
        mut self,
        request: &Request,
        after_bytes: u64,
        deadline: Instant,
    ) -> Result<LoadResponse, RequestFault> {
        let exchange = async {
            self.send(request).await.map_err(|_| RequestFault::Closed)?;
            let (head, kept_headers) = self.receive_head(&request.kept_headers).await?;
            let mut body_bytes = 0;
            loop {
                let unread = self.receive_buffer.unread().len();
                self.receive_buffer.consume(unread);
                body_bytes += unread as u64;
                if body_bytes >= after_bytes {
                    let (status, refusal, captured) = (head.status, head.refusal, String::new());
                    return Ok(LoadResponse { status, refusal, body_bytes, captured, kept_headers });
                }
                if self.receive_buffer.fill(&mut self.stream).await.map_err(|_| RequestFault::Truncated)? == 0
                {
                    return Err(RequestFault::Truncated);
                }
            }
        };
        tokio::time::timeout_at(deadline.into(), exchange).await.unwrap_or(Err(RequestFault::TimedOut))
    }

    async fn exchange_unbounded(&mut self, request: &Request) -> Result<LoadResponse, RequestFault> {
        // After a write error an early answer may be available, so it is read before the request counts as lost.
        let sent_whole = self.send(request).await.unwrap_or(false);
        let (head, kept_headers) = self.receive_head(&request.kept_headers).await?;
        let (body_bytes, captured) = self.receive_body(head.body, request).await?;
        self.keep_alive = head.keep_alive && sent_whole;
        let (status, refusal) = (head.status, head.refusal);
        Ok(LoadResponse { status, refusal, body_bytes, captured, kept_headers })
    }

    /// Sends the request. Returns false if an answer arrived before the whole body was sent.
    async fn send(&mut self, request: &Request) -> io::Result<bool> {
        self.stream.write_all(&request.inline).await?;
        self.stream.flush().await?;
        let mut offset = 0;
        let stream = match &mut self.stream {
            ClientStream::Plain(stream) => stream,
            ClientStream::Tls(stream) => {
                while offset < request.streamed_bytes {
                    let piece = pattern::slice(offset, request.streamed_bytes);
                    stream.write_all(piece).await?;
                    offset += piece.len() as u64;
                }
                return stream.flush().await.map(|()| true);
            }
        };
        while offset < request.streamed_bytes {
            let ready = stream.ready(Interest::READABLE | Interest::WRITABLE).await?;
            if ready.is_readable() {
                match self.receive_buffer.try_fill(stream) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    early => return early.map(|_| false),
                }
            }
            match stream.try_write(pattern::slice(offset, request.streamed_bytes)) {
                Ok(count) => offset += count as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// The head of the answer, and its headers with these names.
    async fn receive_head(&mut self, kept: &[String]) -> Result<(ResponseHead, Vec<Box<str>>), RequestFault> {
        loop {
            let unread = self.receive_buffer.unread();
            match head::response(unread) {
                Ok(Some(head)) => {
                    let values = kept.iter().map(|name| head::value(unread, name)).collect();
                    self.receive_buffer.consume(head.length_bytes);
                    if head.status >= 200 {
                        return Ok((head, values));
                    }
                }
                Ok(None) => {
                    let empty = self.receive_buffer.unread().is_empty();
                    let lost = if empty { RequestFault::Closed } else { RequestFault::Truncated };
                    if self.receive_buffer.fill(&mut self.stream).await.map_err(|_| lost)? == 0 {
                        return Err(lost);
                    }
                }
                Err(_) => return Err(RequestFault::Malformed),
            }
        }
    }

    async fn receive_body(
        &mut self,
        framing: BodyFraming,
        request: &Request,
    ) -> Result<(u64, String), RequestFault> {
        let (keep, speed) = (request.capture, request.read_bytes_per_second);
        let (mut body_bytes, mut hash, mut text) = (0, Sha256::new(), Vec::new());
        let read = self.receive_buffer.read_body_slowly(&mut self.stream, framing, speed, |slice| {
            body_bytes += slice.len() as u64;
            match keep {
                BodyCapture::CountBytes => {}
                BodyCapture::Digest => hash.update(slice),
                BodyCapture::Text => {
                    text.extend_from_slice(&slice[..slice.len().min(TEXT_BYTES_MAX - text.len())])
                }
            }
        });
        read.await.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => RequestFault::Malformed,
            _ => RequestFault::Truncated,
        })?;
        let kept = match keep {
            BodyCapture::CountBytes => String::new(),
            BodyCapture::Digest => hex::encode(hash.finalize()),
            BodyCapture::Text => String::from_utf8_lossy(&text).into_owned(),
        };
        Ok((body_bytes, kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_added_header_is_in_the_head() {
        let host = SocketAddr::from(([127, 0, 0, 1], 9));
        let request = Request::new("PUT", host, "/b/k", 4, BodyCapture::CountBytes).with_header("x-a", "1");
        let head = b"PUT /b/k HTTP/1.1\r\nx-a: 1\r\nhost: 127.0.0.1:9\r\ncontent-length: 4\r\n\r\n";
        assert_eq!(*request.inline, [head, pattern::slice(0, 4)].concat());
    }
}
