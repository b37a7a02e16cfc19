//! Removes the checksums of the parts from a CompleteMultipartUpload, for a store that gets no checksums (`checksums = "strip"`).
//!
//! Only the `Checksum*` children of `Part` are removed; every other byte stays. A document with a comment, a document type, a CDATA section
//! or tags that do not match is forwarded unchanged, and the store accepts or rejects it.
//!
//! Source: S3 API Reference, CompleteMultipartUpload and CompletedPart.

use memchr::memchr;

use crate::sigv4::query::{decoded_name, pairs};
use crate::xml::{local_name, tag_length};

/// The longest document that is buffered: 10,000 parts of about 400 bytes each. A part with a SHA-512 has 210 bytes.
pub const BYTES_MAX: u64 = 4 << 20;

/// Whether a request is a CompleteMultipartUpload. Its `x-amz-checksum-*` headers are about the object, not about the body.
pub fn is_completion(method: &str, query: &str) -> bool {
    method == "POST" && pairs(query).any(|pair| decoded_name(pair) == "uploadId")
}

/// The document without the checksums of its parts; none if there is nothing to remove.
pub(crate) fn without_checksums(document: &[u8]) -> Option<Vec<u8>> {
    let mut kept = Vec::with_capacity(document.len());
    // The start of the bytes that are kept but not copied yet.
    let mut from = 0;
    let mut open: Vec<&[u8]> = Vec::new();
    let mut at = 0;
    while let Some(begin) = memchr(b'<', &document[at..]).map(|offset| at + offset) {
        let tag = Tag::parse(&document[begin..])?;
        at = begin + tag.bytes;
        match tag.kind {
            Kind::Instruction => {}
            Kind::Empty if is_checksum(&open, tag.name) => {
                kept.extend_from_slice(&document[from..begin]);
                from = at;
            }
            Kind::Empty => {}
            Kind::Open => {
                if is_checksum(&open, tag.name) {
                    kept.extend_from_slice(&document[from..begin]);
                    from = begin;
                }
                open.push(tag.name);
            }
            Kind::Close => {
                if open.pop() != Some(tag.name) {
                    return None;
                }
                if is_checksum(&open, tag.name) {
                    from = at;
                }
            }
        }
    }
    kept.extend_from_slice(&document[from..]);
    (open.is_empty() && kept.len() < document.len()).then_some(kept)
}

/// Whether an element inside these open elements is the checksum of a part.
fn is_checksum(open: &[&[u8]], name: &[u8]) -> bool {
    open.len() == 2
        && local_name(open[0]) == b"CompleteMultipartUpload"
        && local_name(open[1]) == b"Part"
        && local_name(name).starts_with(b"Checksum")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `<a>`
    Open,
    /// `</a>`
    Close,
    /// `<a/>`
    Empty,
    /// `<?…?>`
    Instruction,
}

struct Tag<'a> {
    kind: Kind,
    /// With its namespace prefix.
    name: &'a [u8],
    /// From `<` to `>`.
    bytes: usize,
}

impl<'a> Tag<'a> {
    /// The tag at the start of `text`; none if it is not a tag of these kinds.
    fn parse(text: &'a [u8]) -> Option<Self> {
        if text.starts_with(b"<!") {
            return None;
        }
        let bytes = tag_length(text)?;
        if text.starts_with(b"<?") {
            return Some(Self { kind: Kind::Instruction, name: &[], bytes });
        }
        let inside = &text[1..bytes - 1];
        let (kind, inside) = match (inside.strip_prefix(b"/"), inside.strip_suffix(b"/")) {
            (Some(name), _) => (Kind::Close, name),
            (None, Some(name)) => (Kind::Empty, name),
            (None, None) => (Kind::Open, inside),
        };
        let name = inside.split(u8::is_ascii_whitespace).next().filter(|name| !name.is_empty())?;
        Some(Self { kind, name, bytes })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stripped(document: &str) -> Option<String> {
        without_checksums(document.as_bytes()).map(|kept| String::from_utf8(kept).unwrap())
    }

    fn document(parts: &[&str]) -> String {
        let parts: String = parts.iter().map(|part| format!("<Part>{part}</Part>")).collect();
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<CompleteMultipartUpload \
             xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{parts}</CompleteMultipartUpload>"
        )
    }

    const KEPT: &str = "<PartNumber>1</PartNumber><ETag>&quot;a&quot;</ETag>";

    /// I1
    #[test]
    fn only_the_checksums_of_parts_are_removed() {
        let before = format!("<ChecksumCRC32>AAAAAA==</ChecksumCRC32>{KEPT}");
        let after = format!("{KEPT}<ChecksumXXHASH128\n>x</ChecksumXXHASH128 ><ChecksumSHA1/>");
        assert_eq!(stripped(&document(&[&before, KEPT, &after])), Some(document(&[KEPT, KEPT, KEPT])));
        let prefixed = |checksum: &str| {
            format!(
                "<s:CompleteMultipartUpload xmlns:s='>'><s:Part>{checksum}1</s:Part></s:CompleteMultipartUpload>"
            )
        };
        let checksum = "<s:ChecksumMD5><s:x>a</s:x></s:ChecksumMD5>";
        assert_eq!(stripped(&prefixed(checksum)), Some(prefixed("")));
    }

    /// I1
    #[test]
    fn documents_without_checksums_or_with_other_markup_are_unchanged() {
        let checksum = "<ChecksumCRC32>AAAAAA==</ChecksumCRC32>";
        for text in [
            "",
            "x",
            &document(&[KEPT]),
            &document(&[&format!("<!-- {checksum} -->{checksum}")]),
            &document(&[&format!("<![CDATA[{checksum}]]>{checksum}")]),
            &document(&[&format!("<ETag>{checksum}</ETag>")]),
            &document(&["<ChecksumCRC32>AAAAAA=="]),
            &document(&["<ChecksumCRC32>AAAAAA==</ChecksumSHA1>"]),
            &document(&["<ChecksumCRC32"]),
            &document(&["<>"]),
            &document(&[checksum])[..120],
            &format!("<Other><Part>{checksum}</Part></Other>"),
            &format!("<CompleteMultipartUpload>{checksum}</CompleteMultipartUpload>"),
        ] {
            assert_eq!(stripped(text), None, "{text}");
        }
    }

    /// I1
    #[test]
    fn completions_are_recognized_by_method_and_query() {
        assert!(is_completion("POST", "uploadId=7"));
        assert!(is_completion("POST", "x-id=CompleteMultipartUpload&upload%49d=7"));
        for (method, query) in [("PUT", "partNumber=1&uploadId=7"), ("POST", "uploads"), ("POST", "delete")] {
            assert!(!is_completion(method, query), "{method} {query}");
        }
    }

    proptest! {
        /// I1: no document causes a panic, and the output has no checksum left
        #[test]
        fn any_document_is_handled(pieces in prop::collection::vec(prop::sample::select(vec![
            "<CompleteMultipartUpload>", "</CompleteMultipartUpload>", "<Part>", "</Part>", "<ChecksumSHA1>",
            "</ChecksumSHA1>", "<ChecksumSHA1/>", "<?", "?>", "<!--", ">", "<", "'", "\"", "é", " ",
        ]), 0..40)) {
            let document = pieces.concat();
            if let Some(kept) = without_checksums(document.as_bytes()) {
                prop_assert!(kept.len() < document.len());
                prop_assert_eq!(without_checksums(&kept), None);
            }
        }
    }
}
