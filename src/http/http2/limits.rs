//! The bounds of one connection, and what `h2` enforces of them. The calculation is in `docs/design/http2-loop.md`.

use std::time::Duration;

use h2::server::Builder;

/// Requests of one connection at a time; more wait with the client. RFC 9113, 6.5.2 recommends at least 100.
const STREAMS_MAX: u32 = 128;
/// What a client may send of one body before it is read: at 50 ms of round trip 5 MB/s.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// As much as all streams together, so that streams whose bodies are not read take nothing from the others.
const CONNECTION_WINDOW_BYTES: u32 = STREAMS_MAX * STREAM_WINDOW_BYTES;
/// What `h2` takes of one answer before the socket does.
const SEND_BYTES_MAX: usize = 64 << 10;
/// Above what the edge takes, so that it is the edge that refuses, in its own words. `h2` answers 431 beyond it, and ends the
/// connection beyond four times as much.
const HEADER_BYTES_SPARE: u32 = 64 << 10;
/// Requests that were reset before the loop took them from `h2`, at a time.
const RESET_BEFORE_ACCEPT_MAX: usize = 20;
/// Streams that were reset for a fault of the client's, in the life of the connection.
const RESET_FOR_FAULT_MAX: usize = 512;
/// Streams that the gateway reset, of which frames that were on their way are ignored, and for how long.
const RESET_REMEMBERED_MAX: usize = 128;
const RESET_REMEMBERED: Duration = Duration::from_secs(10);
/// Small DATA frames that `h2` may hold: each counts for 256 bytes less what it carries. A stream window of frames of
/// 50 bytes is 1 MiB; streams take their frames at every turn.
const SMALL_FRAMES_BYTES: usize = 4 << 20;

/// Bodies that nobody reads cannot use up what others need (V9); a connection cannot hold more than 64 MiB of them; one upload
/// reaches 3 MB/s at 50 ms of round trip.
const _: () = assert!(CONNECTION_WINDOW_BYTES / STREAM_WINDOW_BYTES >= STREAMS_MAX);
const _: () = assert!(CONNECTION_WINDOW_BYTES <= 64 << 20);
const _: () = assert!(STREAM_WINDOW_BYTES * 20 >= 3_000_000);

/// An `h2` server with these bounds. `header_bytes` is what the edge takes of one request's header.
pub(super) fn builder(header_bytes: u64) -> Builder {
    let header_bytes = u32::try_from(header_bytes).unwrap_or(u32::MAX);
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BYTES_MAX)
        .max_header_list_size(header_bytes.saturating_add(HEADER_BYTES_SPARE))
        .max_pending_accept_reset_streams(RESET_BEFORE_ACCEPT_MAX)
        .max_local_error_reset_streams(Some(RESET_FOR_FAULT_MAX))
        .max_concurrent_reset_streams(RESET_REMEMBERED_MAX)
        .reset_stream_duration(RESET_REMEMBERED)
        .data_frame_budget(SMALL_FRAMES_BYTES);
    builder
}
