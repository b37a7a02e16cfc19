//! What an upstream does with a request, as data.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

/// Holds back what waits for it until the test lets go.
#[derive(Debug, Clone)]
pub(crate) struct Latch(Arc<Semaphore>);

impl Latch {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Lets so many pass, those that have waited longest first.
    pub(crate) fn open(&self, count: usize) {
        self.0.add_permits(count);
    }

    /// Lets everything pass from now on.
    pub(crate) fn open_for_all(&self) {
        self.0.close();
    }

    pub(super) async fn wait(&self) {
        // Closed means open for all.
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
    /// The bytes are the whole answer, its head included.
    Raw,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionEnd {
    /// The connection serves another request.
    Keep,
    Close,
    Reset,
    /// Nothing more, until the other side closes.
    Hang,
}

/// What to do with one request.
#[derive(Debug, Clone)]
pub(crate) struct UpstreamReply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) before: Vec<ReplyPart>,
    pub(super) parts: Vec<ReplyPart>,
    pub(super) framing: Framing,
    /// Stop after so many body bytes, as if the rest had been lost.
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

    /// These bytes, head and all, and then the connection closes.
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

    /// The head comes only after so long.
    pub(crate) fn delayed(mut self, pause: Duration) -> Self {
        self.before.push(ReplyPart::Pause(pause));
        self
    }

    /// The head comes only when the latch opens.
    pub(crate) fn when_open(mut self, latch: &Latch) -> Self {
        self.before.push(ReplyPart::Hold(latch.clone()));
        self
    }

    /// More body, later.
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

    /// Chunked, a chunk for each part.
    pub(crate) fn chunked(self) -> Self {
        Self { framing: Framing::Chunked, ..self }
    }

    /// Neither length nor chunks: the close is the end.
    pub(crate) fn until_close(self) -> Self {
        Self { framing: Framing::Close, end: ConnectionEnd::Close, ..self }
    }

    /// Ends after so many body bytes although more was announced.
    pub(crate) fn cut_at(self, bytes: usize) -> Self {
        Self { cut_at: Some(bytes), end: ConnectionEnd::Close, ..self }
    }

    /// Says that the connection closes, and closes it.
    pub(crate) fn closing(self) -> Self {
        Self { end: ConnectionEnd::Close, ..self.header("connection", "close") }
    }
}
