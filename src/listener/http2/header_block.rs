//! Finds errors in header blocks (RFC 7541) that `h2` does not report: pseudo-header fields in trailers, which RFC
//! 9113, 8.1 forbids, `#` in a pseudo-header field, at which `http` truncates the target, and a `:scheme` other than
//! `http` and `https`, which is lost without `:authority`.
//!
//! Nothing is decoded or stored. A name is a pseudo-header's by its index in the static table, or by its first
//! character: the colon is visible in the first seven bits of Huffman code. Three bits are kept for each entry of the
//! dynamic table. Entries are addressed by age, so a shift register holds them; a table of 4,096 bytes has at most
//! 128 entries. Only the values of pseudo-header fields are searched. `h2` refuses malformed blocks; their result
//! here does not matter.

use super::huffman;

/// Entries of the static table (RFC 7541, A): the first 14 are pseudo-header fields, two of them `:scheme`.
const STATIC_ENTRIES: u32 = 61;
const STATIC_PSEUDO: u32 = 14;
const STATIC_SCHEMES: [u32; 2] = [6, 7];
/// The first octet of a Huffman-coded string that begins with `:`, without its last bit.
const HUFFMAN_COLON: u8 = 0b101_1100;
/// `:scheme` and its values, as plain text and in Huffman code.
const SCHEME: [&[u8]; 2] = [b":scheme", b"\xb8\x82\x4e\x5a\x4b"];
const SCHEMES: [&[u8]; 4] = [b"http", b"https", b"\x9d\x29\xaf", b"\x9d\x29\xad\x1f"];

/// The findings in one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct BlockFindings {
    /// A pseudo-header field.
    pub(super) pseudo: bool,
    /// A pseudo-header field with a `#` or an unknown scheme.
    pub(super) invalid: bool,
}

/// The properties of a field that are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Field {
    is_pseudo: bool,
    is_scheme: bool,
    is_invalid: bool,
}

/// The bits of the dynamic table's entries: bit 0 is the newest.
#[derive(Debug, Default)]
struct DynamicTable {
    pseudo: u128,
    scheme: u128,
    invalid: u128,
}

impl DynamicTable {
    fn insert(&mut self, field: Field) {
        self.pseudo = self.pseudo << 1 | u128::from(field.is_pseudo);
        self.scheme = self.scheme << 1 | u128::from(field.is_scheme);
        self.invalid = self.invalid << 1 | u128::from(field.is_invalid);
    }

    fn get(&self, index: u32) -> Field {
        let bit = |bits: u128, age: u32| bits >> age & 1 == 1;
        match index.checked_sub(STATIC_ENTRIES + 1) {
            None => Field {
                is_pseudo: (1..=STATIC_PSEUDO).contains(&index),
                is_scheme: STATIC_SCHEMES.contains(&index),
                is_invalid: false,
            },
            Some(age) if age < u128::BITS => Field {
                is_pseudo: bit(self.pseudo, age),
                is_scheme: bit(self.scheme, age),
                is_invalid: bit(self.invalid, age),
            },
            Some(_) => Field::default(),
        }
    }
}

/// A short string in its wire encoding, for comparison.
#[derive(Debug, Clone, Copy, Default)]
struct ShortString {
    bytes: [u8; 8],
    length: usize,
}

impl ShortString {
    fn push(&mut self, part: &[u8]) {
        for (target, byte) in self.bytes.iter_mut().skip(self.length).zip(part) {
            *target = *byte;
        }
        self.length = self.length.saturating_add(part.len());
    }

    fn is_one_of(&self, texts: &[&[u8]]) -> bool {
        self.bytes.get(..self.length).is_some_and(|bytes| texts.contains(&bytes))
    }
}

/// A literal field that is being read.
#[derive(Debug, Clone, Copy)]
struct Literal {
    is_inserted: bool,
    field: Field,
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
    Name { literal: Literal, text: ShortString, is_huffman: bool, left: u32 },
    ValueHead(Literal),
    Value { literal: Literal, text: ShortString, huffman: Option<huffman::HashFinder>, left: u32 },
}

/// Reads all header blocks of one direction of a connection, in any pieces.
#[derive(Debug)]
pub(super) struct BlockScanner {
    table: DynamicTable,
    state: State,
    seen: BlockFindings,
}

impl Default for BlockScanner {
    fn default() -> Self {
        Self { table: DynamicTable::default(), state: State::Field, seen: BlockFindings::default() }
    }
}

impl BlockScanner {
    /// Ends a block and returns the findings.
    pub(super) fn end(&mut self) -> BlockFindings {
        self.state = State::Field;
        std::mem::take(&mut self.seen)
    }

    /// Reads the next bytes of a block.
    pub(super) fn scan(&mut self, mut bytes: &[u8]) {
        while let Some((&first, rest)) = bytes.split_first() {
            match &mut self.state {
                State::Name { literal, text, is_huffman, left } => {
                    if text.length == 0 {
                        let is_colon = if *is_huffman { first >> 1 == HUFFMAN_COLON } else { first == b':' };
                        literal.field.is_pseudo = is_colon;
                    }
                    let count = bytes.len().min(*left as usize);
                    text.push(&bytes[..count]);
                    *left -= u32::try_from(count).unwrap_or(*left);
                    bytes = &bytes[count..];
                    if *left == 0 {
                        literal.field.is_scheme = text.is_one_of(&SCHEME);
                        self.state = State::ValueHead(*literal);
                    }
                }
                State::Value { literal, text, huffman, left } => {
                    let count = bytes.len().min(*left as usize);
                    let part = &bytes[..count];
                    *left -= u32::try_from(count).unwrap_or(*left);
                    if literal.field.is_pseudo {
                        text.push(part);
                        literal.field.is_invalid |= match huffman {
                            Some(finder) => finder.finds_hash(part),
                            None => memchr::memchr(b'#', part).is_some(),
                        };
                    }
                    bytes = &bytes[count..];
                    if *left == 0 {
                        let (mut literal, text) = (*literal, *text);
                        literal.field.is_invalid |= literal.field.is_scheme && !text.is_one_of(&SCHEMES);
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
                    |is_inserted| Integer::NameIndex(Literal { is_inserted, field: Field::default() });
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
                    self.integer_read(of, value);
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
            self.integer_read(of, u32::from(value));
        }
    }

    /// An integer is complete.
    fn integer_read(&mut self, of: Integer, value: u32) {
        match of {
            Integer::TableSize => self.state = State::Field,
            Integer::Indexed => {
                self.record_field(self.table.get(value));
                self.state = State::Field;
            }
            Integer::NameIndex(literal) if value == 0 => self.state = State::NameHead(literal),
            Integer::NameIndex(literal) => {
                let field = Field { is_invalid: false, ..self.table.get(value) };
                self.state = State::ValueHead(Literal { field, ..literal });
            }
            Integer::NameLength(literal, _) if value == 0 => self.state = State::ValueHead(literal),
            Integer::NameLength(literal, is_huffman) => {
                self.state = State::Name { literal, text: ShortString::default(), is_huffman, left: value };
            }
            Integer::ValueLength(mut literal, _) if value == 0 => {
                literal.field.is_invalid |= literal.field.is_scheme;
                self.field(literal);
            }
            Integer::ValueLength(literal, is_huffman) => {
                let huffman = is_huffman.then(huffman::HashFinder::default);
                self.state = State::Value { literal, text: ShortString::default(), huffman, left: value };
            }
        }
    }

    /// A literal field is complete.
    fn field(&mut self, literal: Literal) {
        if literal.is_inserted {
            self.table.insert(literal.field);
        }
        self.record_field(literal.field);
        self.state = State::Field;
    }

    fn record_field(&mut self, field: Field) {
        self.seen.pseudo |= field.is_pseudo;
        self.seen.invalid |= field.is_invalid;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PSEUDO: BlockFindings = BlockFindings { pseudo: true, invalid: false };
    const INVALID: BlockFindings = BlockFindings { pseudo: true, invalid: true };
    const NOTHING: BlockFindings = BlockFindings { pseudo: false, invalid: false };

    /// The findings in the last of these blocks, read at once and octet by octet.
    fn last(blocks: &[&[u8]]) -> BlockFindings {
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
    fn pseudo_header_fields_are_found_in_every_representation() {
        for (block, seen) in [
            (&[0x82][..], PSEUDO),
            (&[0x8e], PSEUDO),
            (&[0x8f], NOTHING),
            (&[0x90], NOTHING),
            (b"\x41\x03abc", PSEUDO),
            (b"\x01\x03abc", PSEUDO),
            (b"\x04\x02/a", PSEUDO),
            (b"\x14\x04/a#b", INVALID),
            (b"\x04\x04/a#b", INVALID),
            (b"\x00\x05:path\x04/a#b", INVALID),
            (b"\x00\x05:path\x02/a", PSEUDO),
            (b"\x40\x03x-a\x04/a#b", NOTHING),
            (b"\x00\x00\x01x", NOTHING),
            (b"\x0f\x2f\x03abc", NOTHING),
            (b"\x3f\xe1\x1f\x82", PSEUDO),
            (b"", NOTHING),
            (b"\x04\x86\x62\x36\x07\xff\x51\xff", INVALID),
            (b"\x06\x04http", PSEUDO),
            (b"\x07\x03ftp", INVALID),
            (b"\x00\x07:scheme\x05https", PSEUDO),
            (b"\x00\x07:scheme\x03ftp", INVALID),
            (b"\x00\x07:schemf\x03ftp", PSEUDO),
            (b"\x00\x06scheme\x03ftp", NOTHING),
            // Huffman: `:scheme` and its values, `ftp` last
            (b"\x07\x83\x9d\x29\xaf", PSEUDO),
            (b"\x07\x84\x9d\x29\xad\x1f", PSEUDO),
            (b"\x00\x85\xb8\x82\x4e\x5a\x4b\x84\x9d\x29\xad\x1f", PSEUDO),
            (b"\x00\x85\xb8\x82\x4e\x5a\x4b\x83\x95\x35\xff", INVALID),
            // Huffman: `:path`, and `custom-key: custom-value`
            (b"\x00\x84\xb9\x58\xd3\x3f\x02/a", PSEUDO),
            (b"\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf", NOTHING),
        ] {
            assert_eq!(last(&[block]), seen, "{block:02x?}");
        }
    }

    /// V9: an entry of the dynamic table is addressed by its age
    #[test]
    fn pseudo_header_fields_are_found_by_their_index() {
        let many: Vec<u8> = b"\x40\x01x\x01y".repeat(63);
        let insert = b"\x41\x04host\x40\x03x-a\x01b";
        for (blocks, seen) in [
            (&[&insert[..], b"\xbe"][..], NOTHING),
            (&[insert, b"\xbf"], PSEUDO),
            (&[insert, b"\x7f\x00\x01c\xbe"], PSEUDO),
            (&[insert, b"\xc0"], NOTHING),
            (&[b"\x44\x04/a#b", b"\xbe"], INVALID),
            (&[b"\x44\x04/a#b", b"\x0f\x2f\x02/b"], PSEUDO),
            (&[b"\x46\x04http", b"\xbe"], PSEUDO),
            (&[b"\x46\x04http", b"\x0f\x2f\x05https"], PSEUDO),
            (&[b"\x46\x04http", b"\x0f\x2f\x03ftp"], INVALID),
            (&[b"\x46\x03ftp", b"\xbe"], INVALID),
            (&[insert, &many, b"\xff\x00"], NOTHING),
            (&[insert, &many, b"\xfe"], PSEUDO),
            (&[insert, &many, b"\xfd"], NOTHING),
        ] {
            assert_eq!(last(blocks), seen, "{blocks:02x?}");
        }
    }
}
