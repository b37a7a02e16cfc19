//! Searches `#` in Huffman-coded strings (RFC 7541, B) without decoding them.
//!
//! The code is canonical: read as fractions, longer codes are greater than shorter ones. A comparison of the next
//! bits with the first code of each length gives the length of the next code; only the code of `#` itself must be
//! known.

/// The code of `#`, and its bits.
const HASH: u32 = 0xffa;
const HASH_BITS: u32 = 12;
/// The bits of the shortest code.
const SHORTEST_BITS: u32 = 5;

/// For each length of a code except the shortest: the number of bits, and the first code of that length or longer,
/// aligned left in 32 bits.
const LENGTHS: [(u32, u32); 20] = [
    (6, 0x5000_0000),
    (7, 0xb800_0000),
    (8, 0xf800_0000),
    (10, 0xfe00_0000),
    (11, 0xff40_0000),
    (12, 0xffa0_0000),
    (13, 0xffc0_0000),
    (14, 0xfff0_0000),
    (15, 0xfff8_0000),
    (19, 0xfffe_0000),
    (20, 0xfffe_6000),
    (21, 0xfffe_e000),
    (22, 0xffff_4800),
    (23, 0xffff_b000),
    (24, 0xffff_ea00),
    (25, 0xffff_f600),
    (26, 0xffff_f800),
    (27, 0xffff_fbc0),
    (28, 0xffff_fe20),
    (30, 0xffff_fff0),
];

/// The position in one string.
#[derive(Debug, Default)]
pub(super) struct HashFinder {
    /// Bits of an incomplete code, aligned left.
    ahead: u64,
    bits: u32,
}

impl HashFinder {
    /// Whether a `#` ends in the next octets of the string.
    pub(super) fn finds_hash(&mut self, octets: &[u8]) -> bool {
        for octet in octets {
            self.ahead |= u64::from(*octet) << (u64::BITS - 8 - self.bits);
            self.bits += 8;
            while let Some((code, length)) = self.next() {
                if (code, length) == (HASH, HASH_BITS) {
                    return true;
                }
            }
        }
        false
    }

    /// The next complete code and its number of bits.
    fn next(&mut self) -> Option<(u32, u32)> {
        let window = u32::try_from(self.ahead >> 32).unwrap_or(u32::MAX);
        let longer = LENGTHS.iter().take_while(|(_, first)| window >= *first).last();
        let length = longer.map_or(SHORTEST_BITS, |(bits, _)| *bits);
        if length > self.bits {
            return None;
        }
        self.ahead <<= length;
        self.bits -= length;
        Some((window >> (u32::BITS - length), length))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Codes of many lengths, from the table of the RFC: `#` last.
    const CODES: [(u32, u32); 14] = [
        (0x0, 5),
        (0x18, 6),
        (0x3, 5),
        (0x66, 7),
        (0xf8, 8),
        (0x3f8, 10),
        (0x7fa, 11),
        (0xffb, 12),
        (0x1ff9, 13),
        (0xfffe6, 20),
        (0x1f_ffdc, 21),
        (0x3ff_ffe0, 26),
        (0x3fff_fffc, 30),
        (HASH, HASH_BITS),
    ];

    fn encode(symbols: &[usize]) -> Vec<u8> {
        let mut bits = String::new();
        for symbol in symbols {
            let (code, length) = CODES[*symbol];
            bits.push_str(&format!("{code:032b}")[32 - length as usize..]);
        }
        bits.push_str(&"1".repeat((8 - bits.len() % 8) % 8));
        bits.as_bytes()
            .chunks(8)
            .map(|octet| u8::from_str_radix(std::str::from_utf8(octet).unwrap(), 2).unwrap())
            .collect()
    }

    proptest! {
        /// V9: a `#` is found among codes of any length, and nowhere else
        #[test]
        fn a_hash_is_found_where_there_is_one(
            symbols in prop::collection::vec(0..CODES.len(), 0..30),
            size in 1_usize..9,
        ) {
            let mut finder = HashFinder::default();
            let octets = encode(&symbols);
            let found = octets.chunks(size).any(|part| finder.finds_hash(part));
            prop_assert_eq!(found, symbols.contains(&(CODES.len() - 1)));
        }
    }
}
