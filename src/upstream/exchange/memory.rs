//! Buffers and tables of headers that a worker thread uses again for its next calls.
//!
//! A table of headers has 7 KiB, which is far above the sizes that the allocator serves quickly. The table of a request returns when the
//! request is written; that of a response becomes the one of the client's response, which gives another one in exchange.
//!
//! A call has one buffer for the head that it writes and one for the bytes that it reads. Each returns to its thread at the end of the
//! call, so an idle connection has neither. Slices of a read buffer may outlive the call; its memory is used again once they are gone.

use std::cell::RefCell;
use std::mem;

use actix_web::http::header::HeaderMap;
use bytes::BytesMut;

/// Buffers of each kind, and tables, that a thread keeps at most.
const KEPT_MAX: usize = 32;
/// Bytes per read if no long body is expected.
const READ_BYTES: usize = 8 << 10;
/// Bytes per read of a long body.
const BODY_READ_BYTES: usize = 64 << 10;
/// The least free capacity for a read.
const READ_BYTES_MIN: usize = 1 << 10;
/// A buffer with a longer head is not kept.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// A table with space for more headers is not kept. A new one has space for 28.
const HEADERS_MAX: usize = 64;

thread_local! {
    static TABLES: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
    static HEADS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static READS: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// An empty table of headers.
pub(super) fn take_headers() -> HeaderMap {
    TABLES.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Keeps the memory of a table, but not its headers: they may contain credentials.
pub(crate) fn keep_headers(mut headers: HeaderMap) {
    if (1..=HEADERS_MAX).contains(&headers.capacity()) {
        headers.clear();
        keep(&TABLES, headers);
    }
}

/// An empty buffer for a head.
pub(super) fn take_head() -> Vec<u8> {
    HEADS.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(1 << 10))
}

/// Keeps the memory of a head, but not its bytes: it may contain credentials.
pub(super) fn keep_head(mut head: Vec<u8>) {
    if (1..=HEAD_BYTES_MAX).contains(&head.capacity()) {
        head.clear();
        keep(&HEADS, head);
    }
}

/// The bytes that a call has read and not used yet.
pub(super) struct ReadBuffer {
    pub(super) bytes: BytesMut,
    /// Whether the memory has grown for a long body. It is then not kept.
    is_large: bool,
}

impl ReadBuffer {
    pub(super) fn new() -> Self {
        let bytes = READS.with_borrow_mut(Vec::pop).unwrap_or_default();
        Self { bytes, is_large: false }
    }

    /// Reserves capacity for a read. `ahead` is the number of bytes that are expected, as far as known.
    pub(super) fn reserve(&mut self, ahead: u64) {
        if self.bytes.capacity() - self.bytes.len() < READ_BYTES_MIN {
            let bytes = usize::try_from(ahead).unwrap_or(usize::MAX).clamp(READ_BYTES, BODY_READ_BYTES);
            self.is_large |= bytes > READ_BYTES || self.bytes.len() > READ_BYTES;
            self.bytes.reserve(bytes);
        }
    }
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        if !self.is_large {
            let mut bytes = mem::take(&mut self.bytes);
            bytes.clear();
            keep(&READS, bytes);
        }
    }
}

fn keep<T>(kept: &'static std::thread::LocalKey<RefCell<Vec<T>>>, buffer: T) {
    // The thread may be ending.
    let _ = kept.try_with(|kept| {
        let mut kept = kept.borrow_mut();
        if kept.len() < KEPT_MAX {
            kept.push(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    /// M3: memory is kept, bytes are not, and not without a limit
    #[test]
    fn kept_buffers_are_empty_and_few() {
        let mut head = take_head();
        head.extend_from_slice(b"authorization: secret");
        let capacity = head.capacity();
        keep_head(head);
        let again = take_head();
        assert_eq!((again.len(), again.capacity()), (0, capacity));
        keep_head(Vec::with_capacity(HEAD_BYTES_MAX + 1));
        assert_eq!(HEADS.with_borrow(Vec::len), 0);
        for _ in 0..KEPT_MAX + 5 {
            keep_head(Vec::with_capacity(10));
        }
        assert_eq!(HEADS.with_borrow(Vec::len), KEPT_MAX);
    }

    /// A kept table has nothing of the request before it; large tables and too many tables are not kept
    #[test]
    fn kept_tables_are_empty_and_few() {
        let table = |count: usize| {
            let name = |number| HeaderName::try_from(format!("x-{number}")).unwrap();
            HeaderMap::from_iter((0..count).map(|number| (name(number), HeaderValue::from_static("secret"))))
        };
        keep_headers(table(3));
        let again = take_headers();
        assert!(again.is_empty() && again.capacity() > 0);
        keep_headers(table(100));
        keep_headers(HeaderMap::new());
        assert_eq!(TABLES.with_borrow(Vec::len), 0);
        (0..KEPT_MAX + 5).for_each(|_| keep_headers(table(1)));
        assert_eq!(TABLES.with_borrow(Vec::len), KEPT_MAX);
    }

    /// M3: a read buffer is used again, empty; that of a long body is not
    #[test]
    fn read_buffers_are_used_again() {
        let mut first = ReadBuffer::new();
        first.reserve(0);
        first.bytes.extend_from_slice(b"HTTP/1.1");
        let memory = first.bytes.as_ptr();
        drop(first);
        let mut again = ReadBuffer::new();
        again.reserve(0);
        assert_eq!((again.bytes.len(), again.bytes.as_ptr()), (0, memory));
        again.bytes.resize(again.bytes.capacity(), 0);
        again.reserve(1 << 30);
        assert!(again.bytes.capacity() - again.bytes.len() >= BODY_READ_BYTES);
        drop(again);
        assert_eq!(READS.with_borrow(Vec::len), 0);
        drop((0..KEPT_MAX + 5).map(|_| ReadBuffer::new()).collect::<Vec<_>>());
        assert_eq!(READS.with_borrow(Vec::len), KEPT_MAX);
    }
}
