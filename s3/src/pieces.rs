//! A queue of body pieces in which small pieces share memory (V10).
//!
//! A client determines the size of the pieces of its body. A [`Bytes`] costs 32 bytes and its own allocation, so one-byte pieces would cost
//! far more than their data. So a small piece is copied to the end of the previous one, unless it is the only piece.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// Pieces smaller than this are copied.
const SMALL_BYTES: usize = 4 << 10;
/// The size of a buffer for copied pieces.
const BUFFER_BYTES: usize = 16 << 10;

/// A FIFO queue of pieces.
#[derive(Debug, Default)]
pub struct PieceQueue {
    whole: VecDeque<Bytes>,
    /// The copied small pieces after the whole ones.
    small: BytesMut,
}

impl PieceQueue {
    /// Adds a piece at the end.
    pub fn push(&mut self, piece: Bytes) {
        let is_only = self.whole.is_empty() && self.small.is_empty();
        if piece.len() >= SMALL_BYTES || (is_only && !piece.is_empty()) {
            self.close_small();
            self.whole.push_back(piece);
            return;
        }
        if self.small.len() + piece.len() > BUFFER_BYTES {
            self.close_small();
        }
        self.small.extend_from_slice(&piece);
    }

    /// Removes and returns all pieces.
    pub(crate) fn drain_all(&mut self) -> Vec<Bytes> {
        self.close_small();
        std::mem::take(&mut self.whole).into()
    }

    /// Removes and returns the first piece.
    pub fn pop(&mut self) -> Option<Bytes> {
        if self.whole.is_empty() {
            self.close_small();
        }
        self.whole.pop_front()
    }

    /// Whether there is no piece.
    pub fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.small.is_empty()
    }

    /// Points these slices at the first pieces. Returns the number of slices used.
    pub fn fill_slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let small = Some(&*self.small).filter(|small| !small.is_empty());
        let pieces = self.whole.iter().map(|piece| &**piece).chain(small);
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    /// Drops this many bytes from the front.
    pub fn advance(&mut self, mut bytes: usize) {
        while let Some(piece) = self.whole.front_mut() {
            if bytes < piece.len() {
                piece.advance(bytes);
                return;
            }
            bytes -= piece.len();
            self.whole.pop_front();
        }
        self.small.advance(bytes.min(self.small.len()));
    }

    fn close_small(&mut self) {
        if !self.small.is_empty() {
            self.whole.push_back(self.small.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// V10: one-byte pieces are stored in shared buffers
    #[test]
    fn small_pieces_share_memory() {
        let mut pieces = PieceQueue::default();
        (0..100_000).for_each(|_| pieces.push(Bytes::from_static(b"x")));
        let all = pieces.drain_all();
        assert_eq!(all.iter().map(Bytes::len).sum::<usize>(), 100_000);
        assert!(all.len() <= 100_000 / BUFFER_BYTES + 2, "{} pieces", all.len());
    }

    /// V10: a large piece is never copied, nor is a single small one
    #[test]
    fn large_pieces_are_not_copied() {
        let mut pieces = PieceQueue::default();
        let (alone, large) = (Bytes::from(vec![1; 10]), Bytes::from(vec![2; SMALL_BYTES]));
        pieces.push(alone.clone());
        assert_eq!(pieces.drain_all()[0].as_ptr(), alone.as_ptr());
        pieces.push(Bytes::from_static(b"a"));
        pieces.push(Bytes::from_static(b"b"));
        pieces.push(large.clone());
        assert_eq!(pieces.drain_all().last().unwrap().as_ptr(), large.as_ptr());
    }

    proptest! {
        /// V10, I1: the order of the bytes is kept for every sequence of calls
        #[test]
        fn order_is_kept(
            lengths in prop::collection::vec(0_usize..9000, 0..60),
            takes in prop::collection::vec(0_usize..30_000, 0..60),
        ) {
            let mut expected = Vec::new();
            let (mut pieces, mut written) = (PieceQueue::default(), Vec::new());
            let mut takes = takes.into_iter();
            for (at, length) in lengths.into_iter().enumerate() {
                let piece = vec![u8::try_from(at).unwrap(); length];
                expected.extend_from_slice(&piece);
                pieces.push(piece.into());
                let mut slices = [IoSlice::new(&[]); 4];
                let count = pieces.fill_slices(&mut slices);
                let offered: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
                let taken = takes.next().unwrap_or_default().min(offered.len());
                written.extend_from_slice(&offered[..taken]);
                pieces.advance(taken);
            }
            for piece in pieces.drain_all() {
                written.extend_from_slice(&piece);
            }
            prop_assert!(pieces.is_empty());
            prop_assert_eq!(written, expected);
        }
    }
}
