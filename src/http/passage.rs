//! A way past actix's write buffer for the bodies of long answers, so that they are not copied once more.
//!
//! actix encodes an answer into one buffer and writes that. A long body's pieces go here instead, and the connection
//! writes them right behind what the buffer holds, in one vectored write. Three rules keep the order:
//!
//! - The first byte of each batch, the *carrier*, still goes through the buffer. It makes actix flush, and marks the place
//!   behind which the batch belongs; more pieces may join the batch until it is written.
//! - The connection reports the last byte of the buffer as written when the batch behind it is. To actix, a batch that
//!   waits for a slow client is a buffer that is not empty yet: back-pressure, shutdown and timeouts stay its own.
//! - The body ends for actix only when its last batch is written, so that nothing else gets into the buffer before.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::rc::Rc;
use std::task::{Context, Waker};

use bytes::{Buf, Bytes};

/// The most pieces of one vectored write.
const SLICES_MAX: usize = 16;

/// Shared by a connection and the body that is on its way over it.
#[derive(Clone, Default)]
pub(crate) struct Passage(Rc<Shared>);

#[derive(Default)]
struct Shared {
    pieces: RefCell<VecDeque<Bytes>>,
    bytes: Cell<usize>,
    /// The body, where it waits for the batch to be written.
    waiting: Cell<Option<Waker>>,
}

impl Passage {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.bytes.get() == 0
    }

    /// What is yet to be written.
    pub(crate) fn bytes(&self) -> usize {
        self.0.bytes.get()
    }

    pub(crate) fn push(&self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        self.0.bytes.set(self.0.bytes.get() + piece.len());
        self.0.pieces.borrow_mut().push_back(piece);
    }

    /// Wakes the caller's task when everything is written.
    pub(crate) fn wait(&self, cx: &Context<'_>) {
        self.0.waiting.set(Some(cx.waker().clone()));
    }

    /// Gives `write` the buffer's bytes and the batch behind them, as one.
    pub(crate) fn write_behind<R>(&self, buffer: &[u8], write: impl FnOnce(&[IoSlice<'_>]) -> R) -> R {
        let pieces = self.0.pieces.borrow();
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        for bytes in std::iter::once(buffer)
            .filter(|buffer| !buffer.is_empty())
            .chain(pieces.iter().map(|piece| &**piece))
            .take(SLICES_MAX)
        {
            slices[count] = IoSlice::new(bytes);
            count += 1;
        }
        write(&slices[..count])
    }

    /// So many bytes of the batch are written.
    pub(crate) fn written(&self, mut count: usize) {
        self.0.bytes.set(self.0.bytes.get() - count);
        let mut pieces = self.0.pieces.borrow_mut();
        while let Some(piece) = pieces.front_mut() {
            if count < piece.len() {
                piece.advance(count);
                break;
            }
            count -= piece.len();
            pieces.pop_front();
        }
        if pieces.is_empty()
            && let Some(waker) = self.0.waiting.take()
        {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::task::Poll;

    use futures_util::task::noop_waker;
    use proptest::prelude::*;
    use tokio::io::AsyncWrite;

    use super::*;
    use crate::http::client_address::Source;
    use crate::http::connection::Connection;

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

    /// Flushes as actix does: what was taken leaves the buffer, until it is empty or the socket is full.
    fn flush(connection: &mut Connection<Socket>, cx: &mut Context<'_>, buffer: &mut Vec<u8>) {
        while !buffer.is_empty() {
            match Pin::new(&mut *connection).poll_write(cx, buffer) {
                Poll::Ready(Ok(count)) => {
                    assert!(count > 0, "a write of nothing is an error to actix");
                    buffer.drain(..count);
                }
                Poll::Ready(Err(error)) => panic!("{error}"),
                Poll::Pending => return,
            }
        }
    }

    proptest! {
        /// T6: whatever the socket takes at a time, the bytes leave in the order in which the body gave them
        #[test]
        fn a_batch_follows_its_carrier(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 1..30),
            appetites in prop::collection::vec(0_usize..60, 0..80),
        ) {
            let (waker, head) = (noop_waker(), b"head".to_vec());
            let mut cx = Context::from_waker(&waker);
            let mut connection = Connection::new(Socket { taken: Vec::new(), appetites }, Source::Peer);
            let passage = connection.passage.clone();
            let mut buffer = head.clone();
            for piece in &pieces {
                let mut piece = Bytes::from(piece.clone());
                if passage.is_empty() {
                    buffer.extend_from_slice(&piece.split_to(1));
                }
                passage.push(piece);
                flush(&mut connection, &mut cx, &mut buffer);
            }
            while !buffer.is_empty() {
                flush(&mut connection, &mut cx, &mut buffer);
            }
            prop_assert!(passage.is_empty(), "the buffer is not empty before the batch is written");
            prop_assert_eq!(connection.into_stream().taken, [head, pieces.concat()].concat());
        }
    }
}
