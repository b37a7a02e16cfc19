//! Replaces the store's name of a bucket by the client's name in responses (V5, G1).
//!
//! A document is rewritten while it is streamed, only in the elements in which the S3 schema has a bucket name (`bucket_elements.rs`). The
//! renamer buffers one tag or one such element, at most 8 KiB. From a longer tag or element on, the document is forwarded unchanged, and so
//! is any document that the operation does not respond with. The new length is not known in advance, so such a response is sent chunked.
//! Documents with a content coding are not rewritten.

use std::borrow::Cow;

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

use crate::bucket_elements::{BucketElement, BucketElements, ResponseDocument};
use crate::error_document::escape;
use crate::percent::percent_decode;
use crate::store_name;
use crate::xml::{local_name, tag_length, unescape};

/// The longest tag or name that is buffered.
const BUFFERED_BYTES_MAX: usize = 8 << 10;

/// The names of a bucket and its object at the store and for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketNames {
    /// The store's name of the bucket.
    pub store_name: String,
    /// The client's name of the bucket.
    pub client_name: String,
    /// The client's URL of the object.
    pub location: String,
    /// The decoded path of the store's request, if that path does not contain the bucket.
    pub key_path: Option<Vec<u8>>,
    /// The path of the store's endpoint. Clients must not see it.
    pub endpoint_path: String,
}

/// Rewrites one document while it is streamed.
#[derive(Debug)]
pub struct BucketRenamer {
    names: BucketNames,
    buffered: BytesMut,
    depth: usize,
    /// The documents that the operation responds with.
    expected: &'static [ResponseDocument],
    /// The elements of the document with the bucket's name.
    elements: BucketElements,
    field: Option<BucketElement>,
    mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Between tags.
    Text,
    /// The buffer starts with `<`.
    Tag,
    /// The rest is forwarded unchanged.
    Pass,
}

impl BucketNames {
    /// Replaces the store's name at the start of a path by the client's name. None if the path does not start with the bucket; a key may
    /// start with the same characters.
    pub fn rename_path(&self, path: &str) -> Option<String> {
        let below_endpoint = path.strip_prefix(&self.endpoint_path).unwrap_or(path);
        let is_key = |key: &Vec<u8>| is_path_of(path, key) || is_path_of(below_endpoint, key);
        if self.key_path.as_ref().is_some_and(is_key) {
            return None;
        }
        let rest = store_name::strip_bucket(&self.endpoint_path, &self.store_name, path)?;
        Some(format!("/{}{rest}", self.client_name))
    }

    fn rename_text(&self, element: BucketElement, text: &[u8]) -> Option<String> {
        let text = std::str::from_utf8(text).ok()?;
        match element {
            BucketElement::Name if self.store_name == self.client_name => None,
            BucketElement::Name => {
                store_name::matches_bucket(&self.store_name, text).then(|| self.client_name.clone())
            }
            BucketElement::Path => self.rename_path(text),
            BucketElement::Url => (!text.is_empty()).then(|| escape(&self.location)),
        }
    }
}

/// Whether a path in a document is this decoded path. Stores repeat paths as they were sent or decoded.
fn is_path_of(text: &str, decoded: &[u8]) -> bool {
    let matches =
        |text: Cow<'_, str>| text.as_bytes() == decoded || percent_decode(text.as_bytes()) == decoded;
    unescape(text).is_ok_and(matches)
}

impl BucketRenamer {
    /// A renamer for the response of an operation that responds with one of these documents.
    pub fn new(names: BucketNames, expected: &'static [ResponseDocument]) -> Self {
        Self {
            names,
            buffered: BytesMut::new(),
            depth: 0,
            expected,
            elements: &[],
            field: None,
            mode: Mode::Text,
        }
    }

    /// Adds the next bytes, and returns the bytes that can be forwarded.
    pub fn push(&mut self, bytes: Bytes) -> Bytes {
        if self.mode == Mode::Pass && self.buffered.is_empty() {
            return bytes;
        }
        self.buffered.extend_from_slice(&bytes);
        let mut out = BytesMut::with_capacity(self.buffered.len());
        while !self.buffered.is_empty() && self.step(&mut out) {}
        out.freeze()
    }

    /// Returns the buffered bytes at the end of an incomplete document.
    pub fn finish(&mut self) -> Bytes {
        self.mode = Mode::Pass;
        self.buffered.split().freeze()
    }

    /// Processes one text or one tag; false if more bytes are needed.
    fn step(&mut self, out: &mut BytesMut) -> bool {
        match self.mode {
            Mode::Pass => out.unsplit(self.buffered.split()),
            Mode::Text => return self.rewrite_text(out),
            Mode::Tag => match tag_length(&self.buffered) {
                Some(length) if length > BUFFERED_BYTES_MAX => self.mode = Mode::Pass,
                Some(length) => {
                    let tag = self.buffered.split_to(length);
                    self.process_tag(&tag);
                    out.extend_from_slice(&tag);
                }
                None => return self.pass_if_too_long(),
            },
        }
        true
    }

    fn rewrite_text(&mut self, out: &mut BytesMut) -> bool {
        let end = memchr(b'<', &self.buffered);
        match (self.field, end) {
            (Some(_), None) => return self.pass_if_too_long(),
            (Some(_), Some(end)) if end >= BUFFERED_BYTES_MAX => {
                self.mode = Mode::Pass;
                return true;
            }
            (Some(field), Some(end)) => {
                match self.names.rename_text(field, &self.buffered[..end]) {
                    Some(name) => out.extend_from_slice(name.as_bytes()),
                    None => out.extend_from_slice(&self.buffered[..end]),
                }
                self.buffered.advance(end);
            }
            (None, end) => out.extend_from_slice(&self.buffered.split_to(end.unwrap_or(self.buffered.len()))),
        }
        if end.is_some() {
            self.mode = Mode::Tag;
        }
        true
    }

    fn pass_if_too_long(&mut self) -> bool {
        // The result must not depend on the slices of the input: an incomplete tag has at least one byte more than the buffer.
        if self.buffered.len() >= BUFFERED_BYTES_MAX {
            self.mode = Mode::Pass;
        }
        self.mode == Mode::Pass
    }

    /// Tracks the depth and selects the element for one tag.
    fn process_tag(&mut self, tag: &[u8]) {
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
                let name = name_of(tag);
                match self.depth {
                    1 => match ResponseDocument::elements_of(name, self.expected) {
                        Some(elements) => self.elements = elements,
                        None => self.mode = Mode::Pass,
                    },
                    2 => {
                        let matches = |(element, _): &&(&str, _)| element.as_bytes() == name;
                        self.field = self.elements.iter().find(matches).map(|(_, contents)| *contents);
                    }
                    _ => {}
                }
            }
        }
    }
}

/// The element's name in a start tag, without its namespace prefix.
fn name_of(tag: &[u8]) -> &[u8] {
    let end = tag.iter().position(|byte| byte.is_ascii_whitespace() || *byte == b'>').unwrap_or(tag.len());
    local_name(tag.get(1..end).unwrap_or_default())
}

#[cfg(test)]
#[path = "bucket_renamer_tests.rs"]
mod tests;
