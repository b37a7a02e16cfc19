//! Event streams (`text/event-stream`) at the end of a drain: they end with the end of their protocol and are not cut (G4).
//!
//! A client cannot know the end of an event stream before it comes, so an end by the gateway is complete: the last chunk of HTTP/1.1,
//! END_STREAM of HTTP/2. A stream ends at the boundary of an event if one comes within [`BOUNDARY_MAX`]. A client discards an
//! incomplete last event (HTML Living Standard, 9.2.6), so a later end is right too. A stream does not end before its client
//! has taken what was sent before: the drain cuts it. A stream with a declared length or a content coding is an ordinary answer, because it
//! would be truncated.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use bytes::Bytes;
use tidegate_actors::clock;
use tokio::time::Sleep;

use crate::upstream::RequestHost;
use crate::upstream::exchange::response_framing::UpstreamFraming;
use crate::upstream::record::Record;
use crate::upstream::rules::event_streams::{EventStreams, OpenStream};

/// The longest wait for the boundary of an event.
pub(crate) const BOUNDARY_MAX: Duration = Duration::from_secs(1);
/// The time between two looks at a client that does not take its bytes.
const CLIENT_POLL: Duration = Duration::from_millis(20);
const EVENT_STREAM: &str = "text/event-stream";
/// The longest blank line with the end of the line before it: CR LF CR LF.
const BOUNDARY_BYTES: usize = 4;

/// Whether an answer with these headers is an event stream.
fn is_event_stream(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(EVENT_STREAM))
}

/// Whether its bytes are those of its events, without a content coding.
fn is_plain(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_ENCODING).is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// One event stream from the upstream to a client.
pub(super) struct EventStream {
    ending: Pin<Box<dyn Future<Output = ()>>>,
    /// The end of the wait for a boundary, once the stream is to end.
    ends_at: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    boundary: EventBoundary,
    _open: OpenStream,
}

impl EventStream {
    fn new(streams: &EventStreams) -> Self {
        let (boundary, ending) = (EventBoundary::default(), Box::pin(streams.ending()));
        Self { ending, ends_at: None, timer: None, boundary, _open: streams.count() }
    }

    /// The event stream of this answer, if it can end before its upstream ends it. Also marks the record of any stream.
    pub(super) fn of(
        host: &dyn RequestHost,
        headers: &HeaderMap,
        framing: UpstreamFraming,
        record: &Record,
    ) -> Option<Box<Self>> {
        let is_event_stream = is_event_stream(headers) && framing != UpstreamFraming::NoBody;
        let is_endless = matches!(framing, UpstreamFraming::Chunked | UpstreamFraming::Close);
        if is_event_stream || is_endless {
            record.mark_stream();
        }
        let may_end = is_event_stream && is_endless && is_plain(headers);
        may_end.then(|| Box::new(Self::new(host.event_streams())))
    }

    /// Ready when the stream ends now. `client_waits`: its client has not taken all bytes.
    pub(super) fn poll_end(&mut self, client_waits: bool, cx: &mut Context<'_>) -> Poll<()> {
        let ends_at = match self.ends_at {
            Some(ends_at) => ends_at,
            None => {
                if self.ending.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                *self.ends_at.insert(clock::now() + BOUNDARY_MAX)
            }
        };
        let now = clock::now();
        if !client_waits && (self.boundary.is_reached || now >= ends_at) {
            return Poll::Ready(());
        }
        // Nothing wakes the body when the client has taken its bytes.
        let due = if client_waits { now + CLIENT_POLL } else { ends_at };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due.into())));
        timer.as_mut().reset(due.into());
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) if !client_waits => Poll::Ready(()),
            Poll::Ready(()) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Whether the stream ends at the whole event that it has now: what follows must not be sent.
    pub(super) fn is_complete(&self) -> bool {
        self.ends_at.is_some() && self.boundary.is_reached
    }

    /// Records a piece of the stream. Once the stream is to end, it is cut after its last whole event.
    pub(super) fn record(&mut self, piece: Bytes) -> Bytes {
        if self.ends_at.is_none() {
            self.boundary.advance_to_end(&piece);
            return piece;
        }
        match self.boundary.advance(&piece) {
            Some(end) => {
                self.boundary.is_reached = true;
                piece.slice(..end)
            }
            None => piece,
        }
    }
}

/// Whether the bytes so far end with a whole event: with a blank line, or there are none.
#[derive(Debug, Clone, Copy)]
struct EventBoundary {
    is_reached: bool,
    /// The line that has begun is empty.
    is_line_empty: bool,
    /// The last byte is CR. LF after it is of the same end of a line.
    is_after_cr: bool,
}

impl Default for EventBoundary {
    fn default() -> Self {
        Self { is_reached: true, is_line_empty: true, is_after_cr: false }
    }
}

impl EventBoundary {
    /// Adds bytes of which only the last ones count.
    fn advance_to_end(&mut self, bytes: &[u8]) {
        let skipped = bytes.len().saturating_sub(BOUNDARY_BYTES);
        if skipped > 0 {
            *self = Self { is_reached: false, is_line_empty: false, is_after_cr: false };
        }
        self.advance(&bytes[skipped..]);
    }

    /// Adds bytes; returns the position after the last whole event among them.
    fn advance(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut last = None;
        for (at, byte) in bytes.iter().enumerate() {
            let is_line_end = matches!(byte, b'\r' | b'\n');
            let is_second_half = *byte == b'\n' && self.is_after_cr;
            self.is_after_cr = *byte == b'\r';
            if !is_second_half {
                self.is_reached = is_line_end && self.is_line_empty;
                self.is_line_empty = is_line_end;
            }
            if self.is_reached {
                last = Some(at + 1);
            }
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends_whole(pieces: &[&str]) -> bool {
        let mut boundary = EventBoundary::default();
        pieces.iter().for_each(|piece| boundary.advance_to_end(piece.as_bytes()));
        boundary.is_reached
    }

    /// G4: an event ends with a blank line, whatever the line ends and the pieces
    #[test]
    fn events_end_with_a_blank_line() {
        for end in ["\n", "\r", "\r\n"] {
            let event = format!("data: a long line of text{end}{end}");
            for size in 1..=event.len() {
                let text = format!("{event}{event}");
                let pieces: Vec<&str> =
                    text.as_bytes().chunks(size).map(|piece| std::str::from_utf8(piece).unwrap()).collect();
                assert!(ends_whole(&pieces), "{end:?} in pieces of {size}");
                let cut = &text[..text.len() - 2 * end.len()];
                assert!(!ends_whole(&[cut]) && !ends_whole(&[cut, end]), "{end:?}");
            }
        }
        assert!(ends_whole(&[]) && ends_whole(&["\n"]) && ends_whole(&[": heartbeat\n\n"]));
        assert!(!ends_whole(&["data: x\r\n"]) && !ends_whole(&["data: x\n\ndata"]));
    }

    /// G4: once a stream is to end, nothing after its last whole event is sent
    #[test]
    fn an_ending_stream_is_cut_after_its_last_event() {
        let of = |before: &str, piece: &str| {
            let streams = EventStreams::default();
            let mut stream = EventStream::new(&streams);
            stream.record(Bytes::copy_from_slice(before.as_bytes()));
            stream.ends_at = Some(clock::now());
            let was_complete = stream.is_complete();
            let sent = stream.record(Bytes::copy_from_slice(piece.as_bytes()));
            assert!(
                !was_complete && stream.is_complete() == stream.boundary.is_reached,
                "nothing may follow"
            );
            (String::from_utf8(sent.to_vec()).unwrap(), stream.boundary.is_reached)
        };
        assert_eq!(of("data: a", "b\n\ndata: c\n\ndata: d"), ("b\n\ndata: c\n\n".to_owned(), true));
        assert_eq!(of("data: a\r\n", "\r\ndata: b"), ("\r\n".to_owned(), true));
        assert_eq!(of("data: a", "b\ndata: c\n"), ("b\ndata: c\n".to_owned(), false));
    }

    /// G4: only plain answers of the type are event streams
    #[test]
    fn event_streams_are_known_by_their_type() {
        let of = |kind: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, kind.parse().unwrap());
            is_event_stream(&headers)
        };
        assert!(of("text/event-stream") && of("Text/Event-Stream ; charset=utf-8"));
        assert!(!of("text/event-stream2") && !of("application/json") && !is_event_stream(&HeaderMap::new()));
    }
}
