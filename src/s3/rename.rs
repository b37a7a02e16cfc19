//! Answers in the client's words where the store calls the bucket by another name.
//!
//! Some documents of S3 name their bucket: listings, the steps of a multipart upload, errors. They are rewritten as they stream
//! by, element by element: of the root's own children those that name the bucket, everywhere else not a byte. What is held
//! back is one tag or one such name, 8 KiB at most; a document in which either is longer passes as it is, and so does whatever
//! is none of these documents. The new length is not known ahead, so such an answer goes out in chunks. Objects are never
//! touched, whatever they hold.
//!
//! Source: S3 API reference, the responses of ListObjects (V2), ListObjectVersions, ListMultipartUploads, ListParts,
//! CreateMultipartUpload, CompleteMultipartUpload, and "Error responses". Deliberately absent: messages, which are prose, and
//! documents in a content coding.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;
use memchr::memmem::find;

use crate::s3::document::escape;
use crate::s3::store_name;

/// The longest tag or name that is held back.
const HELD_BYTES_MAX: usize = 8 << 10;

/// What is called how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    /// The bucket, as the store calls it.
    pub(crate) theirs: String,
    /// The bucket, as the client calls it.
    pub(crate) ours: String,
    /// The object's URL, as the client calls it.
    pub(crate) location: String,
    /// The path of the store's endpoint, which clients do not see.
    pub(crate) below: String,
}

/// Rewrites one document as it streams by.
#[derive(Debug)]
pub(crate) struct Renamer {
    names: Names,
    held: BytesMut,
    depth: usize,
    field: Option<Field>,
    mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Between tags.
    Text,
    /// What is held begins with `<`.
    Tag,
    /// The rest passes as it is.
    Pass,
}

/// An element that names the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Name,
    Resource,
    Location,
}

const ROOTS: [&[u8]; 7] = [
    b"ListBucketResult",
    b"ListVersionsResult",
    b"ListMultipartUploadsResult",
    b"ListPartsResult",
    b"InitiateMultipartUploadResult",
    b"CompleteMultipartUploadResult",
    b"Error",
];

impl Field {
    fn of(element: &[u8]) -> Option<Self> {
        match element {
            b"Name" | b"Bucket" | b"BucketName" => Some(Self::Name),
            b"Resource" => Some(Self::Resource),
            b"Location" => Some(Self::Location),
            _ => None,
        }
    }
}

impl Names {
    /// A path that begins with the store's name, in the client's words.
    pub(crate) fn path(&self, path: &str) -> Option<String> {
        let rest = store_name::behind_bucket(&self.below, &self.theirs, path)?;
        Some(format!("/{}{rest}", self.ours))
    }

    fn renamed(&self, field: Field, text: &[u8]) -> Option<String> {
        let text = std::str::from_utf8(text).ok()?;
        match field {
            Field::Name if self.theirs == self.ours => None,
            Field::Name => store_name::is_name(&self.theirs, text).then(|| self.ours.clone()),
            Field::Resource => self.path(text),
            Field::Location => Some(escape(&self.location)),
        }
    }
}

impl Renamer {
    pub(crate) fn new(names: Names) -> Self {
        Self { names, held: BytesMut::new(), depth: 0, field: None, mode: Mode::Text }
    }

    /// Takes the next bytes and gives what can go on.
    pub(crate) fn push(&mut self, bytes: Bytes) -> Bytes {
        if self.mode == Mode::Pass && self.held.is_empty() {
            return bytes;
        }
        self.held.extend_from_slice(&bytes);
        let mut out = BytesMut::with_capacity(self.held.len());
        while !self.held.is_empty() && self.step(&mut out) {}
        out.freeze()
    }

    /// What is still held once the document is over; it is no whole one then.
    pub(crate) fn finish(&mut self) -> Bytes {
        self.mode = Mode::Pass;
        self.held.split().freeze()
    }

    /// Moves on by one text or one tag; false if more bytes are needed first.
    fn step(&mut self, out: &mut BytesMut) -> bool {
        match self.mode {
            Mode::Pass => out.unsplit(self.held.split()),
            Mode::Text => return self.text(out),
            Mode::Tag => match tag_length(&self.held) {
                Some(length) if length > HELD_BYTES_MAX => self.mode = Mode::Pass,
                Some(length) => {
                    let tag = self.held.split_to(length);
                    self.enter(&tag);
                    out.extend_from_slice(&tag);
                }
                None => return self.give_up_if_long(),
            },
        }
        true
    }

    fn text(&mut self, out: &mut BytesMut) -> bool {
        let end = memchr(b'<', &self.held);
        match (self.field, end) {
            (Some(_), None) => return self.give_up_if_long(),
            (Some(_), Some(end)) if end >= HELD_BYTES_MAX => {
                self.mode = Mode::Pass;
                return true;
            }
            (Some(field), Some(end)) => {
                match self.names.renamed(field, &self.held[..end]) {
                    Some(name) => out.extend_from_slice(name.as_bytes()),
                    None => out.extend_from_slice(&self.held[..end]),
                }
                self.held.advance(end);
            }
            (None, end) => out.extend_from_slice(&self.held.split_to(end.unwrap_or(self.held.len()))),
        }
        if end.is_some() {
            self.mode = Mode::Tag;
        }
        true
    }

    fn give_up_if_long(&mut self) -> bool {
        // The same tags and names pass wherever the document is cut: a tag that is not whole has one byte more at least.
        if self.held.len() >= HELD_BYTES_MAX {
            self.mode = Mode::Pass;
        }
        self.mode == Mode::Pass
    }

    /// Follows the tree by one tag.
    fn enter(&mut self, tag: &[u8]) {
        self.mode = Mode::Text;
        self.field = None;
        match tag {
            [b'<', b'!' | b'?', ..] => {}
            [b'<', b'/', ..] => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 {
                    self.mode = Mode::Pass;
                }
            }
            [.., b'/', b'>'] => {}
            _ => {
                self.depth += 1;
                let name = local_name(tag);
                match self.depth {
                    1 if !ROOTS.contains(&name) => self.mode = Mode::Pass,
                    2 => self.field = Field::of(name),
                    _ => {}
                }
            }
        }
    }
}

/// The length of the tag, comment or the like at the beginning, once it is whole.
fn tag_length(bytes: &[u8]) -> Option<usize> {
    let to = |end: &[u8]| find(bytes, end).map(|at| at + end.len());
    match bytes {
        // what may yet become one of these
        b"<!" | b"<!-" | b"<![" => None,
        [b'<', b'!', b'-', b'-', ..] => to(b"-->"),
        [b'<', b'!', b'[', ..] => to(b"]]>"),
        [b'<', b'?', ..] => to(b"?>"),
        _ => {
            let mut quote = None;
            let end = bytes.iter().position(|byte| match (quote, byte) {
                (None, b'>') => true,
                (None, b'"' | b'\'') => {
                    quote = Some(*byte);
                    false
                }
                (Some(open), byte) if open == *byte => {
                    quote = None;
                    false
                }
                _ => false,
            });
            end.map(|at| at + 1)
        }
    }
}

/// The element's name without its namespace prefix.
fn local_name(tag: &[u8]) -> &[u8] {
    let end = tag.iter().position(|byte| byte.is_ascii_whitespace() || *byte == b'>').unwrap_or(tag.len());
    let name = tag.get(1..end).unwrap_or_default();
    memchr(b':', name).map_or(name, |colon| &name[colon + 1..])
}

#[cfg(test)]
#[path = "rename_tests.rs"]
mod tests;
