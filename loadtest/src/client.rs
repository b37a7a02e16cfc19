//! One keep-alive HTTP/1.1 connection, bare on a socket.
//!
//! A client library would bring its own pool, its own tasks and its own idea of retries, each of which blurs a
//! latency or hides a loss. Here a request is one write, an answer is one parse, and a failure is named. A connection
//! whose peer went away while it was idle is replaced before use (`is_usable`); once a byte of a request was sent
//! nothing is repeated: a lost request stays lost.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncWriteExt as _, Interest};

use crate::destination::{Destination, Wire};
use crate::framing::Framing;
use crate::head::{self, ResponseHead};
use crate::inbox::Inbox;
use crate::pattern;

/// Bodies up to this size travel in one write with their head.
const INLINE_BYTES: u64 = 16 * 1024;
/// As much text of an answer is kept where text is asked for.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// No connection could be made.
    Connect,
    /// The connection ended before the first byte of an answer.
    Closed,
    /// The connection ended inside an answer.
    Truncated,
    /// What came is not HTTP.
    Malformed,
    /// The client's patience ended.
    TimedOut,
    /// All connections were busy until the client's patience ended.
    Unsent,
    /// The body is not the one that was meant.
    Corrupt,
}

impl Fault {
    /// Every one, so that the absence of a fault can be reported too.
    pub(crate) const ALL: [Self; 7] = [
        Self::Connect,
        Self::Closed,
        Self::Truncated,
        Self::Malformed,
        Self::TimedOut,
        Self::Unsent,
        Self::Corrupt,
    ];

    /// Whether the connection broke, which is not the client's doing.
    pub(crate) fn is_broken_connection(self) -> bool {
        matches!(self, Self::Connect | Self::Closed | Self::Truncated)
    }

    /// As it is printed.
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

/// What to keep of an answer's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Its length.
    Count,
    /// Its SHA-256 too.
    Digest,
    /// Its (short) text too.
    Text,
}

/// A request, written out once and sent many times.
#[derive(Debug)]
pub(crate) struct Request {
    inline: Vec<u8>,
    streamed_bytes: u64,
    keep: Keep,
}

impl Request {
    /// `body_bytes` of the pattern follow the head of a PUT or POST.
    pub(crate) fn new(method: &str, host: SocketAddr, path: &str, body_bytes: u64, keep: Keep) -> Self {
        let mut inline = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n").into_bytes();
        if matches!(method, "PUT" | "POST") {
            inline.extend_from_slice(format!("content-length: {body_bytes}\r\n").as_bytes());
        }
        inline.extend_from_slice(b"\r\n");
        let streamed_bytes = if body_bytes > INLINE_BYTES { body_bytes } else { 0 };
        if streamed_bytes == 0 {
            inline.extend_from_slice(pattern::slice(0, body_bytes));
        }
        Self { inline, streamed_bytes, keep }
    }

    /// The same with one more header.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        let begin = self.inline.iter().position(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        self.inline.splice(begin..begin, format!("{name}: {value}\r\n").into_bytes());
        self
    }
}

/// An answer that arrived whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Whether it names the reason of a refusal.
    pub(crate) has_reason: bool,
    pub(crate) body_bytes: u64,
    /// The digest or the text, as the request asked.
    pub(crate) kept: String,
}

/// An open connection with at most one request under way.
pub(crate) struct Connection {
    stream: Wire,
    inbox: Inbox,
    keep_alive: bool,
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(destination: &Destination) -> Result<Self, Fault> {
        let stream = destination.connect().await.map_err(|_| Fault::Connect)?;
        Ok(Self { stream, inbox: Inbox::new(), keep_alive: true })
    }

    /// Whether another request may be sent: the last answer allowed it and nothing came in since.
    pub(crate) fn is_usable(&mut self) -> bool {
        self.keep_alive && self.stream.is_quiet() && self.inbox.unread().is_empty()
    }

    /// Sends `request` and reads the answer to its last byte, or gives up at `deadline`.
    pub(crate) async fn exchange(&mut self, request: &Request, deadline: Instant) -> Result<Answer, Fault> {
        self.keep_alive = false;
        tokio::time::timeout_at(deadline.into(), self.exchange_unbounded(request))
            .await
            .unwrap_or(Err(Fault::TimedOut))
    }

    /// Sends `request`, reads so many bytes of the answer's body and hangs up on the rest.
    pub(crate) async fn hang_up(
        mut self,
        request: &Request,
        after_bytes: u64,
        deadline: Instant,
    ) -> Result<Answer, Fault> {
        let exchange = async {
            self.send(request).await.map_err(|_| Fault::Closed)?;
            let head = self.receive_head().await?;
            let mut body_bytes = 0;
            loop {
                let unread = self.inbox.unread().len();
                self.inbox.consume(unread);
                body_bytes += unread as u64;
                if body_bytes >= after_bytes {
                    let (status, has_reason) = (head.status, head.has_reason);
                    return Ok(Answer { status, has_reason, body_bytes, kept: String::new() });
                }
                if self.inbox.fill(&mut self.stream).await.map_err(|_| Fault::Truncated)? == 0 {
                    return Err(Fault::Truncated);
                }
            }
        };
        tokio::time::timeout_at(deadline.into(), exchange).await.unwrap_or(Err(Fault::TimedOut))
    }

    async fn exchange_unbounded(&mut self, request: &Request) -> Result<Answer, Fault> {
        // a write error often means that an answer is waiting: look before calling it lost
        let sent_whole = self.send(request).await.unwrap_or(false);
        let head = self.receive_head().await?;
        let (body_bytes, kept) = self.receive_body(head.body, request.keep).await?;
        self.keep_alive = head.keep_alive && sent_whole;
        Ok(Answer { status: head.status, has_reason: head.has_reason, body_bytes, kept })
    }

    /// Returns false if an answer came before the whole body was sent.
    async fn send(&mut self, request: &Request) -> io::Result<bool> {
        self.stream.write_all(&request.inline).await?;
        self.stream.flush().await?;
        let mut offset = 0;
        let stream = match &mut self.stream {
            Wire::Plain(stream) => stream,
            Wire::Tls(stream) => {
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
                match self.inbox.try_fill(stream) {
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

    async fn receive_head(&mut self) -> Result<ResponseHead, Fault> {
        loop {
            match head::response(self.inbox.unread()) {
                Ok(Some(head)) => {
                    self.inbox.consume(head.length_bytes);
                    if head.status >= 200 {
                        return Ok(head);
                    }
                }
                Ok(None) => {
                    let empty = self.inbox.unread().is_empty();
                    let lost = if empty { Fault::Closed } else { Fault::Truncated };
                    if self.inbox.fill(&mut self.stream).await.map_err(|_| lost)? == 0 {
                        return Err(lost);
                    }
                }
                Err(_) => return Err(Fault::Malformed),
            }
        }
    }

    async fn receive_body(&mut self, framing: Framing, keep: Keep) -> Result<(u64, String), Fault> {
        let (mut body_bytes, mut hash, mut text) = (0, Sha256::new(), Vec::new());
        let read = self.inbox.body(&mut self.stream, framing, |slice| {
            body_bytes += slice.len() as u64;
            match keep {
                Keep::Count => {}
                Keep::Digest => hash.update(slice),
                Keep::Text => text.extend_from_slice(&slice[..slice.len().min(TEXT_BYTES_MAX - text.len())]),
            }
        });
        read.await.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => Fault::Malformed,
            _ => Fault::Truncated,
        })?;
        let kept = match keep {
            Keep::Count => String::new(),
            Keep::Digest => hex::encode(hash.finalize()),
            Keep::Text => String::from_utf8_lossy(&text).into_owned(),
        };
        Ok((body_bytes, kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_further_header_stands_in_the_head_and_leaves_the_body_alone() {
        let host = SocketAddr::from(([127, 0, 0, 1], 9));
        let request = Request::new("PUT", host, "/b/k", 4, Keep::Count).with("x-a", "1");
        let head = b"PUT /b/k HTTP/1.1\r\nx-a: 1\r\nhost: 127.0.0.1:9\r\ncontent-length: 4\r\n\r\n";
        assert_eq!(*request.inline, [head, pattern::slice(0, 4)].concat());
    }
}
