//! The order of bytes over a socket that accepts any number of them at a time.

use futures_util::task::noop_waker;
use proptest::prelude::*;

use super::*;

/// A socket that accepts these numbers of bytes; 0 means pending.
struct Socket {
    accepted: Vec<u8>,
    capacities: Vec<usize>,
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let capacity = self.capacities.pop().unwrap_or(usize::MAX);
        if capacity == 0 {
            return Poll::Pending;
        }
        let before = self.accepted.len();
        let whole = slices.iter().flat_map(|slice| slice.iter().copied());
        self.accepted.extend(whole.take(capacity));
        Poll::Ready(Ok(self.accepted.len() - before))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

proptest! {
    /// T6: the bytes are written in their order, and all are counted, however many the socket accepts at a time
    #[test]
    fn bytes_are_written_in_order(
        sizes in prop::collection::vec((0_usize..3, 0_usize..10_000), 1..40),
        capacities in prop::collection::vec(0_usize..9_000, 0..80),
    ) {
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        let (mut write_buffer, mut socket) = (WriteBuffer::default(), Socket { accepted: Vec::new(), capacities });
        let (mut expected, mut counted) = (Vec::new(), 0);
        for (number, (kind, size)) in sizes.into_iter().enumerate() {
            let piece: Vec<u8> = (0..size).map(|at| (at * 31 + number) as u8).collect();
            match kind {
                0 => write_buffer.write(|buffer| buffer.extend_from_slice(&piece)),
                1 => write_buffer.push(Bytes::from(piece.clone())),
                _ => write_buffer.push_chunk(Bytes::from(piece.clone())),
            }
            if kind == 2 {
                expected.extend_from_slice(format!("{size:x}\r\n").as_bytes());
            }
            expected.extend_from_slice(&piece);
            if kind == 2 {
                expected.extend_from_slice(b"\r\n");
            }
            let _ = write_buffer.poll_write(&mut cx, &mut socket, |bytes| counted += bytes);
            prop_assert_eq!(write_buffer.bytes() + socket.accepted.len(), expected.len());
        }
        while write_buffer.poll_write(&mut cx, &mut socket, |bytes| counted += bytes).is_pending() {}
        prop_assert!(socket.accepted == expected);
        prop_assert_eq!((write_buffer.bytes(), counted), (0, expected.len()));
    }
}

/// P6: written bytes are freed although the buffer is never empty
#[test]
fn a_buffer_that_is_never_empty_does_not_grow() {
    let waker = noop_waker();
    let mut cx = Context::from_waker(&waker);
    let mut write_buffer = WriteBuffer::default();
    let mut socket = Socket { accepted: Vec::new(), capacities: Vec::new() };
    write_buffer.write(|buffer| buffer.extend_from_slice(&[b'x'; 2000]));
    for _ in 0..10_000 {
        write_buffer.write(|buffer| buffer.extend_from_slice(&[b'x'; 1000]));
        socket.capacities = vec![0, 1000];
        assert!(write_buffer.poll_write(&mut cx, &mut socket, |_| ()).is_pending());
    }
    assert_eq!(write_buffer.bytes(), 2000);
    assert!(write_buffer.buffer.capacity() < 4 * COMPACT_BYTES, "{}", write_buffer.buffer.capacity());
}
