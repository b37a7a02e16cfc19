//! Bytes in order, over a socket that takes as many at a time as it likes.

use futures_util::task::noop_waker;
use proptest::prelude::*;

use super::*;

/// A socket that takes as many bytes as it is told to, and nothing every other time.
struct Socket {
    taken: Vec<u8>,
    appetites: Vec<usize>,
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
        let appetite = self.appetites.pop().unwrap_or(usize::MAX);
        if appetite == 0 {
            return Poll::Pending;
        }
        let before = self.taken.len();
        let whole = slices.iter().flat_map(|slice| slice.iter().copied());
        self.taken.extend(whole.take(appetite));
        Poll::Ready(Ok(self.taken.len() - before))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

proptest! {
    /// T6: whatever the socket takes at a time, the bytes leave in the order in which they came, and all are counted
    #[test]
    fn bytes_leave_in_their_order(
        sizes in prop::collection::vec((0_usize..3, 0_usize..10_000), 1..40),
        appetites in prop::collection::vec(0_usize..9_000, 0..80),
    ) {
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        let (mut outbox, mut socket) = (WriteBuffer::default(), Socket { taken: Vec::new(), appetites });
        let (mut expected, mut counted) = (Vec::new(), 0);
        for (number, (kind, size)) in sizes.into_iter().enumerate() {
            let piece: Vec<u8> = (0..size).map(|at| (at * 31 + number) as u8).collect();
            match kind {
                0 => outbox.write(|buffer| buffer.extend_from_slice(&piece)),
                1 => outbox.push(Bytes::from(piece.clone())),
                _ => outbox.push_chunk(Bytes::from(piece.clone())),
            }
            if kind == 2 {
                expected.extend_from_slice(format!("{size:x}\r\n").as_bytes());
            }
            expected.extend_from_slice(&piece);
            if kind == 2 {
                expected.extend_from_slice(b"\r\n");
            }
            let _ = outbox.poll_write(&mut cx, &mut socket, |bytes| counted += bytes);
            prop_assert_eq!(outbox.bytes() + socket.taken.len(), expected.len());
        }
        while outbox.poll_write(&mut cx, &mut socket, |bytes| counted += bytes).is_pending() {}
        prop_assert!(socket.taken == expected);
        prop_assert_eq!((outbox.bytes(), counted), (0, expected.len()));
    }
}

/// P6: what was written is given back although something always waits
#[test]
fn a_buffer_that_is_never_empty_does_not_grow() {
    let waker = noop_waker();
    let mut cx = Context::from_waker(&waker);
    let mut outbox = WriteBuffer::default();
    let mut socket = Socket { taken: Vec::new(), appetites: Vec::new() };
    outbox.write(|buffer| buffer.extend_from_slice(&[b'x'; 2000]));
    for _ in 0..10_000 {
        outbox.write(|buffer| buffer.extend_from_slice(&[b'x'; 1000]));
        socket.appetites = vec![0, 1000];
        assert!(outbox.poll_write(&mut cx, &mut socket, |_| ()).is_pending());
    }
    assert_eq!(outbox.bytes(), 2000);
    assert!(outbox.buffer.capacity() < 4 * COMPACT_BYTES, "{}", outbox.buffer.capacity());
}
