//! Reads choices and texts from a fuzzer's bytes.
//!
//! Missing bytes count as zero, so every input is valid and a fuzzer may truncate it anywhere.

/// The unread bytes of one input.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// A little-endian number.
    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// A length in one byte, then as many bytes, or the remaining ones.
    pub(crate) fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes
    }

    /// A text with its length in one byte, without the bytes for which `is_legal` is false.
    pub(crate) fn text(&mut self, is_legal: impl Fn(&u8) -> bool) -> String {
        self.bytes().iter().copied().filter(is_legal).map(char::from).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All remaining bytes.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// Splits bytes into pieces. Seed 0 gives one piece, seed 1 pieces of one byte, other seeds pieces of different sizes.
pub(crate) fn split(bytes: &[u8], seed: u8) -> Vec<&[u8]> {
    if seed == 0 {
        return vec![bytes];
    }
    let mut pieces = Vec::new();
    let (mut rest, mut state) = (bytes, u32::from(seed) | 0x9e37_0000);
    while !rest.is_empty() {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let size = if seed == 1 { 1 } else { 1 + state as usize % usize::from(seed) };
        let (piece, after) = rest.split_at(size.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}
