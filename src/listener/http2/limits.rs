//! The limits of one connection that `h2` enforces. `docs/design/http2-loop.md` has the calculation.

use std::time::Duration;

use h2::server::Builder;

/// Concurrent streams of one connection. RFC 9113, 6.5.2 recommends at least 100.
const STREAMS_MAX: u32 = 128;
/// Initial window of one stream: bytes of a body that may arrive before they are read.
const STREAM_WINDOW_BYTES_MIN: u32 = 64 << 10;
/// Window of one stream on a connection with a fast upload (`windows.rs`). 5 MB/s at 50 ms of round-trip time.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// Additional bytes that a connection with large windows may hold.
pub(super) const LARGE_WINDOWS_BYTES: u64 =
    (STREAMS_MAX * (STREAM_WINDOW_BYTES - STREAM_WINDOW_BYTES_MIN)) as u64;
/// Bytes of one response that `h2` buffers before the socket accepts them.
const SEND_BYTES_MAX: usize = 64 << 10;
/// Header bytes above the configured limit, so that request validation replies 431 with its reason. Beyond it `h2`
/// sends 431; beyond four times the sum it ends the connection.
const HEADER_BYTES_SPARE: u32 = 64 << 10;
/// The most streams at a time that were reset before they were accepted.
const RESET_BEFORE_ACCEPT_MAX: usize = 20;
/// The most streams that `h2` resets for protocol errors in the life of the connection.
const RESET_FOR_FAULT_MAX: usize = 512;
/// The most streams after a reset by the gateway for which late frames are ignored, and the time for that.
const RESET_REMEMBERED_MAX: usize = 128;
const RESET_REMEMBERED: Duration = Duration::from_secs(10);
/// Budget for small DATA frames inside `h2`: a frame counts 256 bytes less its payload, which is about its overhead in memory. A full
/// stream window in frames of 50 bytes counts 1 MiB. The stream tasks empty `h2` whenever they run, so only a burst counts.
const SMALL_FRAMES_BYTES: usize = 16 << 20;

/// V9: unread bodies leave a window for every stream and take at most 64 MiB; one upload reaches 3 MB/s at 50 ms.
const _: () = assert!(connection_window(STREAM_WINDOW_BYTES) <= 64 << 20);
const _: () = assert!(STREAM_WINDOW_BYTES * 20 >= 3_000_000);

/// Window of the connection: the sum of all streams' windows, so that unread bodies leave window for other streams.
const fn connection_window(stream_bytes: u32) -> u32 {
    STREAMS_MAX * stream_bytes
}

/// The windows of a stream and of the connection, in bytes.
pub(super) fn windows(is_large: bool) -> (u32, u32) {
    let stream = if is_large { STREAM_WINDOW_BYTES } else { STREAM_WINDOW_BYTES_MIN };
    (stream, connection_window(stream))
}

/// An `h2` server with these limits. `header_bytes` is `server.limits.max_header_size`.
pub(super) fn builder(header_bytes: u64) -> Builder {
    let header_bytes = u32::try_from(header_bytes).unwrap_or(u32::MAX);
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .initial_window_size(STREAM_WINDOW_BYTES_MIN)
        .initial_connection_window_size(connection_window(STREAM_WINDOW_BYTES_MIN))
        .max_send_buffer_size(SEND_BYTES_MAX)
        .max_header_list_size(header_bytes.saturating_add(HEADER_BYTES_SPARE))
        .max_pending_accept_reset_streams(RESET_BEFORE_ACCEPT_MAX)
        .max_local_error_reset_streams(Some(RESET_FOR_FAULT_MAX))
        .max_concurrent_reset_streams(RESET_REMEMBERED_MAX)
        .reset_stream_duration(RESET_REMEMBERED)
        .data_frame_budget(SMALL_FRAMES_BYTES);
    builder
}
