//! Body bytes of one stream that the application has not read yet.
//!
//! A client chooses the size of DATA frames, so a piece must not cost more than its bytes: small pieces are copied together, and
//! only large ones are kept as they came. So the number of pieces is bounded by the number of bytes, which the stream's window bounds.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Pieces from this size on are kept without a copy.
const KEPT_BYTES_MIN: usize = 4 << 10;
/// Small pieces are joined up to this size.
const JOINED_BYTES_MAX: usize = 16 << 10;

/// A queue of body bytes.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    whole: VecDeque<Bytes>,
    joining: BytesMut,
    bytes: usize,
}

impl Pieces {
    /// Bytes in the queue.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        if piece.len() >= KEPT_BYTES_MIN {
            self.close_joining();
            self.whole.push_back(piece);
            return;
        }
        self.joining.extend_from_slice(&piece);
        if self.joining.len() >= JOINED_BYTES_MAX {
            self.close_joining();
        }
    }

    pub(super) fn pop(&mut self) -> Option<Bytes> {
        if self.whole.is_empty() {
            self.close_joining();
        }
        let piece = self.whole.pop_front()?;
        self.bytes -= piece.len();
        Some(piece)
    }

    fn close_joining(&mut self) {
        if !self.joining.is_empty() {
            self.whole.push_back(std::mem::take(&mut self.joining).freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// V9: bytes keep their order, and what holds them is in proportion to them
        #[test]
        fn pieces_are_joined_in_order(
            sizes in prop::collection::vec(prop_oneof![0_usize..3, 1_usize..600, 4000_usize..20_000], 0..200),
            pop_every in 1_usize..20,
        ) {
            let (mut pieces, mut sent, mut read) = (Pieces::default(), Vec::new(), Vec::new());
            for (at, size) in sizes.into_iter().enumerate() {
                let piece: Vec<u8> = (0..size).map(|n| (at * 31 + n) as u8).collect();
                sent.extend_from_slice(&piece);
                pieces.push(Bytes::from(piece));
                prop_assert!(pieces.whole.len() <= 2 * (pieces.bytes() / KEPT_BYTES_MIN) + 1);
                if at % pop_every == 0 {
                    read.extend(pieces.pop().unwrap_or_default());
                }
                prop_assert_eq!(pieces.bytes(), sent.len() - read.len());
            }
            read.extend(std::iter::from_fn(|| pieces.pop()).flatten());
            prop_assert_eq!(read, sent);
        }
    }
}
