//! The connection of a request of the gateway itself, as awc reads it.
//!
//! awc reads a close within chunks as the end of the body, takes an interim response for the final one, and gives an HTTP/1.1 response
//! without length and chunks no body. So a response head is read here by the parser of proxied responses, with the same refusals, and
//! awc gets it in one form: interim responses are left out, one framing header is written, and the version of a body that ends with the
//! close is 1.0. A close is the end of such a body only, and an error elsewhere.
//!
//! Design: `docs/design/connections.md`.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use actix_rt::net::{ActixStream, Ready};
use actix_web::http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::buffers::{BufferRetention, OpenSocket};
use crate::upstream::connect::stream::UpstreamStream;
use crate::upstream::exchange::connection::closed_error;
use crate::upstream::exchange::outbound_head::write_header;
use crate::upstream::exchange::response_framing::UpstreamFraming;
use crate::upstream::exchange::response_head::{ParsedHead, ResponseHeadLimits, ResponseHeadScanner, parse};
use crate::upstream::exchange::response_head_error::ResponseHeadError;

/// Limits of a head. Those of awc are the same: with a larger head it would wait for more bytes.
const HEAD_LIMITS: ResponseHeadLimits = ResponseHeadLimits { bytes_max: 128 << 10, fields_max: 96 };

/// A connection that serves one request.
pub(super) struct InternalConnection<S = UpstreamStream> {
    /// Dropped before the stream. Counts the socket's buffers.
    _socket: Option<OpenSocket>,
    stream: S,
    /// Bytes of the response that are read and not passed on.
    ahead: BytesMut,
    head: HeadState,
}

enum HeadState {
    Reading {
        scanner: ResponseHeadScanner,
        /// The bytes of interim responses.
        interim_bytes: usize,
    },
    Complete {
        close_ends_body: bool,
    },
}

impl InternalConnection {
    pub(super) fn new(stream: UpstreamStream, retention: BufferRetention) -> Self {
        let socket = OpenSocket::new(Some(stream.descriptor()), retention);
        Self { _socket: Some(socket), ..Self::of_stream(stream) }
    }
}

impl<S: AsyncRead + Unpin> InternalConnection<S> {
    fn of_stream(stream: S) -> Self {
        let head = HeadState::Reading { scanner: ResponseHeadScanner::default(), interim_bytes: 0 };
        Self { _socket: None, stream, ahead: BytesMut::new(), head }
    }

    /// Reads the head of the final response, and writes it anew into `ahead`.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let HeadState::Reading { scanner, interim_bytes } = &mut self.head {
            let bytes_max = HEAD_LIMITS.bytes_max.saturating_sub(*interim_bytes);
            let limits = ResponseHeadLimits { bytes_max, ..HEAD_LIMITS };
            let Some(length) = scanner.end(&self.ahead, limits).map_err(refusal)? else {
                if ready!(pin!(self.stream.read_buf(&mut self.ahead)).poll(cx))? == 0 {
                    return Poll::Ready(Err(closed_error()));
                }
                continue;
            };
            let head = parse(&self.ahead.split_to(length).freeze(), false, limits).map_err(refusal)?;
            match head.status.as_u16() {
                101 => return Poll::Ready(Err(refusal(ResponseHeadError::Switch))),
                100..=199 => {
                    *interim_bytes += length;
                    *scanner = ResponseHeadScanner::default();
                }
                _ => {
                    let body = std::mem::replace(&mut self.ahead, written_anew(&head));
                    self.ahead.extend_from_slice(&body);
                    let close_ends_body = head.framing == UpstreamFraming::Close;
                    self.head = HeadState::Complete { close_ends_body };
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// A head that awc reads as `head` was read. It has no more fields than the one that arrived.
fn written_anew(head: &ParsedHead) -> BytesMut {
    let version = if head.framing == UpstreamFraming::Close { "1.0" } else { "1.1" };
    let mut bytes = format!("HTTP/{version} {} \r\n", head.status.as_str()).into_bytes();
    match head.framing {
        UpstreamFraming::Length(length) => {
            write_header(&mut bytes, CONTENT_LENGTH.as_str(), itoa::Buffer::new().format(length).as_bytes());
        }
        UpstreamFraming::Chunked => write_header(&mut bytes, TRANSFER_ENCODING.as_str(), b"chunked"),
        UpstreamFraming::Close | UpstreamFraming::NoBody => {}
    }
    // awc refuses a second `Host`, and takes `Upgrade` for the end of HTTP.
    let left_out = [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, UPGRADE, HOST];
    for (name, value) in head.headers.iter().filter(|(name, _)| !left_out.contains(name)) {
        write_header(&mut bytes, name.as_str(), value.as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    BytesMut::from(&bytes[..])
}

fn refusal(error: ResponseHeadError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The reason for which a head was refused, if this is such an error.
pub(super) fn head_error(error: &io::Error) -> Option<ResponseHeadError> {
    error.get_ref()?.downcast_ref::<ResponseHeadError>().copied()
}

impl<S: AsyncRead + Unpin> AsyncRead for InternalConnection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.poll_head(cx))?;
        if this.ahead.has_remaining() {
            let bytes = this.ahead.len().min(buf.remaining());
            buf.put_slice(&this.ahead.split_to(bytes));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        let is_end = buf.filled().len() == before && buf.remaining() > 0;
        match this.head {
            HeadState::Complete { close_ends_body: false } if is_end => Poll::Ready(Err(closed_error())),
            _ => Poll::Ready(Ok(())),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for InternalConnection<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl ActixStream for InternalConnection {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_read_ready(self.stream.socket(), cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_write_ready(self.stream.socket(), cx)
    }
}

impl<S> fmt::Debug for InternalConnection<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InternalConnection").field("ahead", &self.ahead.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// What awc reads of these bytes, which arrive one by one, and how it ends.
    async fn read(bytes: &[u8]) -> (String, io::Result<()>) {
        let (mut upstream, gateway) = tokio::io::duplex(1);
        let bytes = bytes.to_vec();
        let (_, result) = tokio::join!(
            async move {
                // The reader may leave before the last byte.
                let _ = upstream.write_all(&bytes).await;
            },
            async move {
                let (mut read, mut connection) = (Vec::new(), InternalConnection::of_stream(gateway));
                let end = connection.read_to_end(&mut read).await;
                (String::from_utf8(read).unwrap(), end.map(drop))
            }
        );
        result
    }

    /// E7: each way in which a body ends is written in the form that awc reads in the same way
    #[tokio::test]
    async fn a_head_is_written_anew() {
        let closed = |read: &(String, io::Result<()>)| {
            read.1.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::UnexpectedEof)
        };
        let by_close = read(b"HTTP/1.1 200 OK\r\nA: 1\r\nConnection: x\r\n\r\nbody").await;
        assert_eq!(by_close.0, "HTTP/1.0 200 \r\na: 1\r\n\r\nbody");
        by_close.1.unwrap();
        for (arrives, expected) in [
            (
                "HTTP/1.1 200\r\nContent-Length: 9, 9\n\nbody",
                "HTTP/1.1 200 \r\ncontent-length: 9\r\n\r\nbody",
            ),
            (
                "HTTP/1.1 103 x\r\nlink: x\r\n\r\nHTTP/1.1 404 \r\nTransfer-Encoding: Chunked\r\nUpgrade: websocket\r\n\r\n5",
                "HTTP/1.1 404 \r\ntransfer-encoding: chunked\r\n\r\n5",
            ),
            ("HTTP/1.1 204 x\r\n\r\n", "HTTP/1.1 204 \r\n\r\n"),
        ] {
            let read = read(arrives.as_bytes()).await;
            assert_eq!(read.0, expected);
            assert!(closed(&read), "a close ends no other body: {:?}", read.1);
        }
        assert!(closed(&read(b"HTTP/1.1 200 OK\r\n").await));
    }

    /// E7: the refusals are those of proxied responses
    #[tokio::test]
    async fn a_head_is_refused_for_the_same_reasons() {
        let interim = "HTTP/1.1 103 x\r\na: b\r\n\r\n".repeat(8192);
        for (arrives, expected) in [
            ("SSH-2.0-x\r\n", ResponseHeadError::Protocol),
            ("HTTP/1.1 101 x\r\n\r\n", ResponseHeadError::Switch),
            (
                "HTTP/1.1 200 x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
                ResponseHeadError::DifferentLengths,
            ),
            (
                "HTTP/1.1 200 x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
                ResponseHeadError::LengthAndCoding,
            ),
            (&interim, ResponseHeadError::TooLong),
        ] {
            let (read, end) = read(arrives.as_bytes()).await;
            assert_eq!(read, "");
            assert_eq!(head_error(&end.unwrap_err()), Some(expected));
        }
    }
}
