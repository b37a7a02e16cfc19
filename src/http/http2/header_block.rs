//! Finds errors in header blocks (RFC 7541) that `h2` does not report: pseudo-header fields in trailers, which RFC 9113, 8.1 forbids, and
//! `#` in a pseudo-header field, where `http` truncates the target.
//!
//! Nothing is decoded or stored. A name is a pseudo-header's by its index in the static table, or by its first character: the colon is
//! visible in the first seven bits of Huffman code. Two bits are kept for each entry of the dynamic table. Entries are addressed
//! by age, so a shift register holds them; a table of 4,096 bytes has at most 128 entries. Only the values of pseudo-header fields
//! are searched. `h2` refuses malformed blocks; their result here does not matter.

use super::huffman;

/// Entries of the static table (RFC 7541, A), of which the first so many are pseudo-header fields.
const STATIC_ENTRIES: u32 = 61;
const STATIC_PSEUDO: u32 = 14;
/// The first octet of a Huffman-coded string that begins with `:`, without its last bit.
const HUFFMAN_COLON: u8 = 0b101_1100;

/// The findings in one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Seen {
    /// A pseudo-header field.
    pub(super) pseudo: bool,
    /// A `#` in one.
    pub(super) fragment: bool,
}

/// The bits of the dynamic table's entries: bit 0 is the newest.
#[derive(Debug, Default)]
struct Table {
    pseudo: u128,
    fragment: u128,
}

impl Table {
    fn insert(&mut self, entry: Seen) {
        self.pseudo = self.pseudo << 1 | u128::from(entry.pseudo);
        self.fragment = self.fragment << 1 | u128::from(entry.fragment);
    }

    fn get(&self, index: u32) -> Seen {
        match index.checked_sub(STATIC_ENTRIES + 1) {
            None => Seen { pseudo: (1..=STATIC_PSEUDO).contains(&index), fragment: false },
            Some(age) if age < u128::BITS => {
                Seen { pseudo: self.pseudo >> age & 1 == 1, fragment: self.fragment >> age & 1 == 1 }
            }
            Some(_) => Seen::default(),
        }
    }
}

/// A literal field, as far as it has been read.
#[derive(Debug, Clone, Copy)]
struct Literal {
    is_inserted: bool,
    seen: Seen,
}

/// The meaning of an integer.
#[derive(Debug, Clone, Copy)]
enum Integer {
    Indexed,
    TableSize,
    NameIndex(Literal),
    NameLength(Literal, bool),
    ValueLength(Literal, bool),
}

#[derive(Debug)]
enum State {
    Field,
    Integer { of: Integer, value: u32, shift: u32 },
    NameHead(Literal),
    Name { literal: Literal, is_first: bool, is_huffman: bool, left: u32 },
    ValueHead(Literal),
    Value { literal: Literal, huffman: Option<huffman::Finder>, left: u32 },
}

/// Reads all header blocks of one direction of a connection, in any pieces.
#[derive(Debug)]
pub(super) struct BlockScanner {
    table: Table,
    state: State,
    seen: Seen,
}

impl Default for BlockScanner {
    fn default() -> Self {
        Self { table: Table::default(), state: State::Field, seen: Seen::default() }
    }
}

impl BlockScanner {
    /// Ends a block and returns the findings.
    pub(super) fn end(&mut self) -> Seen {
        self.state = State::Field;
        std::mem::take(&mut self.seen)
    }

    /// Reads the next bytes of a block.
    pub(super) fn scan(&mut self, mut bytes: &[u8]) {
        while let Some((&first, rest)) = bytes.split_first() {
            match &mut self.state {
                State::Name { literal, is_first, is_huffman, left } => {
                    if *is_first {
                        let is_pseudo = if *is_huffman { first >> 1 == HUFFMAN_COLON } else { first == b':' };
                        literal.seen.pseudo = is_pseudo;
                        *is_first = false;
                    }
                    let count = bytes.len().min(*left as usize);
                    *left -= u32::try_from(count).unwrap_or(*left);
                    bytes = &bytes[count..];
                    if *left == 0 {
                        self.state = State::ValueHead(*literal);
                    }
                }
                State::Value { literal, huffman, left } => {
                    let count = bytes.len().min(*left as usize);
                    *left -= u32::try_from(count).unwrap_or(*left);
                    if literal.seen.pseudo {
                        let part = &bytes[..count];
                        literal.seen.fragment |= match huffman {
                            Some(finder) => finder.finds_hash(part),
                            None => memchr::memchr(b'#', part).is_some(),
                        };
                    }
                    bytes = &bytes[count..];
                    if *left == 0 {
                        let literal = *literal;
                        self.field(literal);
                    }
                }
                _ => {
                    self.octet(first);
                    bytes = rest;
                }
            }
        }
    }

    /// Reads an octet of a field's structure.
    fn octet(&mut self, octet: u8) {
        match self.state {
            State::Field => {
                let literal =
                    |is_inserted| Integer::NameIndex(Literal { is_inserted, seen: Seen::default() });
                match octet {
                    0x80.. => self.integer(Integer::Indexed, octet, 0x7f),
                    0x40.. => self.integer(literal(true), octet, 0x3f),
                    0x20.. => self.integer(Integer::TableSize, octet, 0x1f),
                    _ => self.integer(literal(false), octet, 0x0f),
                }
            }
            State::NameHead(literal) => {
                self.integer(Integer::NameLength(literal, octet & 0x80 != 0), octet, 0x7f);
            }
            State::ValueHead(literal) => {
                self.integer(Integer::ValueLength(literal, octet & 0x80 != 0), octet, 0x7f);
            }
            State::Integer { of, value, shift } => {
                let more = u32::from(octet & 0x7f).checked_shl(shift).unwrap_or(u32::MAX);
                let value = value.saturating_add(more);
                if octet & 0x80 == 0 {
                    self.known(of, value);
                } else {
                    self.state = State::Integer { of, value, shift: shift + 7 };
                }
            }
            State::Name { .. } | State::Value { .. } => {}
        }
    }

    /// Starts an integer (RFC 7541, 5.1).
    fn integer(&mut self, of: Integer, octet: u8, mask: u8) {
        let value = octet & mask;
        if value == mask {
            self.state = State::Integer { of, value: u32::from(value), shift: 0 };
        } else {
            self.known(of, u32::from(value));
        }
    }

    /// An integer is complete.
    fn known(&mut self, of: Integer, value: u32) {
        match of {
            Integer::TableSize => self.state = State::Field,
            Integer::Indexed => {
                self.note(self.table.get(value));
                self.state = State::Field;
            }
            Integer::NameIndex(literal) if value == 0 => self.state = State::NameHead(literal),
            Integer::NameIndex(literal) => {
                let seen = Seen { pseudo: self.table.get(value).pseudo, fragment: false };
                self.state = State::ValueHead(Literal { seen, ..literal });
            }
            Integer::NameLength(literal, _) if value == 0 => self.state = State::ValueHead(literal),
            Integer::NameLength(literal, is_huffman) => {
                self.state = State::Name { literal, is_first: true, is_huffman, left: value };
            }
            Integer::ValueLength(literal, _) if value == 0 => self.field(literal),
            Integer::ValueLength(literal, is_huffman) => {
                let huffman = is_huffman.then(huffman::Finder::default);
                self.state = State::Value { literal, huffman, left: value };
            }
        }
    }

    /// A literal field is complete.
    fn field(&mut self, literal: Literal) {
        if literal.is_inserted {
            self.table.insert(literal.seen);
        }
        self.note(literal.seen);
        self.state = State::Field;
    }

    fn note(&mut self, seen: Seen) {
        self.seen.pseudo |= seen.pseudo;
        self.seen.fragment |= seen.fragment;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PSEUDO: Seen = Seen { pseudo: true, fragment: false };
    const FRAGMENT: Seen = Seen { pseudo: true, fragment: true };
    const NOTHING: Seen = Seen { pseudo: false, fragment: false };

    /// The findings in the last of these blocks, read at once and octet by octet.
    fn last(blocks: &[&[u8]]) -> Seen {
        let run = |size: usize| {
            let mut scanner = BlockScanner::default();
            let scan = |block: &&[u8]| {
                block.chunks(size).for_each(|part| scanner.scan(part));
                scanner.end()
            };
            blocks.iter().map(scan).fold(NOTHING, |_, seen| seen)
        };
        let whole = run(usize::MAX);
        assert_eq!(run(1), whole, "{blocks:?}");
        whole
    }

    /// V9: the ways in which a field can be written (RFC 7541, 6 and C)
    #[test]
    fn pseudo_header_fields_are_seen_however_they_are_written() {
        for (block, seen) in [
            (&[0x82][..], PSEUDO),
            (&[0x8e], PSEUDO),
            (&[0x8f], NOTHING),
            (&[0x90], NOTHING),
            (b"\x41\x03abc", PSEUDO),
            (b"\x01\x03abc", PSEUDO),
            (b"\x04\x02/a", PSEUDO),
            (b"\x14\x04/a#b", FRAGMENT),
            (b"\x04\x04/a#b", FRAGMENT),
            (b"\x00\x05:path\x04/a#b", FRAGMENT),
            (b"\x00\x05:path\x02/a", PSEUDO),
            (b"\x40\x03x-a\x04/a#b", NOTHING),
            (b"\x00\x00\x01x", NOTHING),
            (b"\x0f\x2f\x03abc", NOTHING),
            (b"\x3f\xe1\x1f\x82", PSEUDO),
            (b"", NOTHING),
            (b"\x04\x86\x62\x36\x07\xff\x51\xff", FRAGMENT),
            // Huffman: `:path`, and `custom-key: custom-value`
            (b"\x00\x84\xb9\x58\xd3\x3f\x02/a", PSEUDO),
            (b"\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf", NOTHING),
        ] {
            assert_eq!(last(&[block]), seen, "{block:02x?}");
        }
    }

    /// V9: an entry of the dynamic table is known by its age
    #[test]
    fn pseudo_header_fields_are_seen_by_their_index() {
        let many: Vec<u8> = b"\x40\x01x\x01y".repeat(63);
        let insert = b"\x41\x04host\x40\x03x-a\x01b";
        for (blocks, seen) in [
            (&[&insert[..], b"\xbe"][..], NOTHING),
            (&[insert, b"\xbf"], PSEUDO),
            (&[insert, b"\x7f\x00\x01c\xbe"], PSEUDO),
            (&[insert, b"\xc0"], NOTHING),
            (&[b"\x44\x04/a#b", b"\xbe"], FRAGMENT),
            (&[b"\x44\x04/a#b", b"\x0f\x2f\x02/b"], PSEUDO),
            (&[insert, &many, b"\xff\x00"], NOTHING),
            (&[insert, &many, b"\xfe"], PSEUDO),
            (&[insert, &many, b"\xfd"], NOTHING),
        ] {
            assert_eq!(last(blocks), seen, "{blocks:02x?}");
        }
    }
}
