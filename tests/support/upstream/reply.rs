//! The replies of a scripted upstream, as data.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

/// Blocks its waiters until the test opens it.
#[derive(Debug, Clone)]
pub(crate) struct Latch(Arc<Semaphore>);

impl Latch {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Releases this many waiters, the longest waiting first.
    pub(crate) fn open(&self, count: usize) {
        self.0.add_permits(count);
    }

    /// Releases all waiters, present and future.
    pub(crate) fn open_for_all(&self) {
        self.0.close();
    }

    pub(super) async fn wait(&self) {
        // A closed semaphore releases all.
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
    }
}

#[derive(Debug, Clone)]
pub(super) enum ReplyPart {
    Bytes(Vec<u8>),
    Pause(Duration),
    Hold(Latch),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Length,
    Chunked,
    /// Everything until the connection closes.
    Close,
    /// The bytes are the complete answer with its head.
    Raw,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionEnd {
    /// The connection stays open for another request.
    Keep,
    Close,
    Reset,
    /// Sends nothing more until the peer closes.
    Hang,
}

/// The reply to one request.
#[derive(Debug, Clone)]
pub(crate) struct UpstreamReply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) before: Vec<ReplyPart>,
    pub(super) parts: Vec<ReplyPart>,
    pub(super) framing: Framing,
    /// Stops after this many body bytes, as if the rest were lost.
    pub(super) cut_at: Option<usize>,
    pub(super) end: ConnectionEnd,
}

impl UpstreamReply {
    /// An answer with a Content-Length.
    pub(crate) fn new(status: u16, body: impl AsRef<[u8]>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            before: Vec::new(),
            parts: vec![ReplyPart::Bytes(body.as_ref().to_vec())],
            framing: Framing::Length,
            cut_at: None,
            end: ConnectionEnd::Keep,
        }
    }

    pub(crate) fn ok(body: impl AsRef<[u8]>) -> Self {
        Self::new(200, body)
    }

    pub(crate) fn status(status: u16) -> Self {
        Self::new(status, "")
    }

    /// An S3 error document.
    pub(crate) fn s3_error(status: u16, code: &str) -> Self {
        let document =
            format!("<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>m</Message></Error>");
        Self::new(status, document).header("content-type", "application/xml")
    }

    /// These bytes, head included, and then the connection closes.
    pub(crate) fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self { framing: Framing::Raw, end: ConnectionEnd::Close, ..Self::new(0, bytes) }
    }

    /// Never an answer.
    pub(crate) fn hang() -> Self {
        Self { end: ConnectionEnd::Hang, ..Self::raw("") }
    }

    /// A reset instead of an answer.
    pub(crate) fn reset() -> Self {
        Self { end: ConnectionEnd::Reset, ..Self::raw("") }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Resets the connection after its last byte.
    pub(crate) fn then_reset(self) -> Self {
        Self { end: ConnectionEnd::Reset, ..self }
    }

    /// The head is sent after this delay.
    pub(crate) fn delayed(mut self, pause: Duration) -> Self {
        self.before.push(ReplyPart::Pause(pause));
        self
    }

    /// The head is sent when the latch opens.
    pub(crate) fn when_open(mut self, latch: &Latch) -> Self {
        self.before.push(ReplyPart::Hold(latch.clone()));
        self
    }

    /// More body, after a delay.
    pub(crate) fn then_body_after(mut self, pause: Duration, body: impl AsRef<[u8]>) -> Self {
        self.parts.push(ReplyPart::Pause(pause));
        self.parts.push(ReplyPart::Bytes(body.as_ref().to_vec()));
        self
    }

    /// More body, when the latch opens.
    pub(crate) fn then_body_when_open(mut self, latch: &Latch, body: impl AsRef<[u8]>) -> Self {
        self.parts.push(ReplyPart::Hold(latch.clone()));
        self.parts.push(ReplyPart::Bytes(body.as_ref().to_vec()));
        self
    }

    /// Chunked, one chunk for each part.
    pub(crate) fn chunked(self) -> Self {
        Self { framing: Framing::Chunked, ..self }
    }

    /// Without length or chunks: the body is delimited by the close.
    pub(crate) fn until_close(self) -> Self {
        Self { framing: Framing::Close, end: ConnectionEnd::Close, ..self }
    }

    /// Ends after this many body bytes although more was announced.
    pub(crate) fn cut_at(self, bytes: usize) -> Self {
        Self { cut_at: Some(bytes), end: ConnectionEnd::Close, ..self }
    }

    /// Sends `Connection: close`, and closes.
    pub(crate) fn closing(self) -> Self {
        Self { end: ConnectionEnd::Close, ..self.header("connection", "close") }
    }
}
