//! The receive buffer of one connection: an array of fixed size with a window of unread bytes.
//!
//! A body of any size passes through it slice by slice, so that buffering in the client or the upstream cannot mask buffering in the
//! gateway.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::TcpStream;

use crate::clock;
use crate::framing::BodyFraming;

const CAPACITY_BYTES: usize = 64 * 1024;
/// Initial capacity, and the maximum size of a head.
const SMALL_BYTES: usize = 16 * 1024;

/// Unread bytes of a connection.
pub(crate) struct ReceiveBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl ReceiveBuffer {
    /// An empty buffer of the initial capacity. It grows with a large body.
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; SMALL_BYTES], start: 0, end: 0 }
    }

    /// Received bytes that were not consumed.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Marks the first `count` unread bytes as read.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Waits for more bytes; 0 means the peer closed.
    pub(crate) async fn fill(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
        let space = self.space()?;
        let count = stream.read(space).await?;
        self.end += count;
        Ok(count)
    }

    /// Reads available bytes without waiting.
    pub(crate) fn try_fill(&mut self, stream: &TcpStream) -> io::Result<usize> {
        let space = self.space()?;
        let count = stream.try_read(space)?;
        self.end += count;
        Ok(count)
    }

    /// Reads a whole body and passes every slice to `each`. An early close is `UnexpectedEof`.
    pub(crate) async fn read_body(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        framing: BodyFraming,
        each: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        self.read_body_slowly(stream, framing, None, each).await
    }

    /// Reads a whole body at most at this speed.
    pub(crate) async fn read_body_slowly(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        mut framing: BodyFraming,
        bytes_per_second: Option<u64>,
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let (begin, mut read_bytes) = (clock::now(), 0.0);
        while !framing.is_done() {
            if let Some(speed) = bytes_per_second {
                let due = begin + Duration::from_secs_f64(read_bytes / speed.max(1) as f64);
                tokio::time::sleep_until(due.into()).await;
            }
            if self.unread().is_empty() {
                if self.bytes.len() < CAPACITY_BYTES
                    && !matches!(framing, BodyFraming::Length(left) if left < SMALL_BYTES as u64)
                {
                    self.bytes.resize(CAPACITY_BYTES, 0);
                }
                if self.fill(stream).await? == 0 {
                    return if framing == BodyFraming::UntilClose {
                        Ok(())
                    } else {
                        Err(io::ErrorKind::UnexpectedEof.into())
                    };
                }
            }
            let used = framing
                .feed(self.unread(), &mut each)
                .map_err(|cause| io::Error::new(io::ErrorKind::InvalidData, cause))?;
            self.consume(used);
            read_bytes += used as f64;
        }
        Ok(())
    }

    fn space(&mut self) -> io::Result<&mut [u8]> {
        if self.end == self.bytes.len() && self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.bytes.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "message head too large"));
        }
        Ok(&mut self.bytes[self.end..])
    }
}
