//! The headers of an upstream request that describe the framing of its body.
//!
//! `aws-chunked` is not an encoding of the object, so it is always removed from `Content-Encoding`, as S3 does. A store that kept it would
//! send it to readers. `x-amz-content-sha256` shows the upstream that a body is framed.

use crate::checksum::ChecksumAlgorithm;
use crate::chunked::encode::ChunkEncoding;
use crate::headers::{Headers, HeadersMut, KnownHeader, ascii_text};

/// What happens to the client's trailing checksum.
pub enum TrailerOutcome {
    /// The client sent none.
    Absent,
    /// It is verified and not forwarded.
    Dropped,
    /// It is known before the body is sent, and is forwarded as a header.
    Header(ChecksumAlgorithm, String),
    /// It is forwarded as a trailer.
    Forwarded,
}

/// Replaces the headers of the client's framing by those of the upstream's framing.
pub fn rewrite_framing_headers(
    headers: &mut impl HeadersMut,
    encoding: Option<&ChunkEncoding>,
    trailing: &TrailerOutcome,
) {
    remove_aws_chunked(headers);
    headers.remove(KnownHeader::Trailer);
    headers.remove(KnownHeader::DecodedLength);
    match trailing {
        TrailerOutcome::Absent | TrailerOutcome::Forwarded => {}
        TrailerOutcome::Dropped => headers.remove(KnownHeader::SdkAlgorithm),
        TrailerOutcome::Header(algorithm, value) => headers.set(algorithm.known_header(), value),
    }
    if let Some(encoding) = encoding {
        headers.set(KnownHeader::DecodedLength, &encoding.length.to_string());
        if let Some((name, _)) = encoding.trailer {
            headers.set(KnownHeader::Trailer, name);
        }
    }
}

fn remove_aws_chunked(headers: &mut impl HeadersMut) {
    let is_framing = |encoding: &&str| encoding.eq_ignore_ascii_case("aws-chunked");
    let view = headers.view();
    let texts = view.get_all(KnownHeader::ContentEncoding).filter_map(ascii_text);
    let encodings: Vec<&str> = texts.flat_map(|text| text.split(',')).map(str::trim).collect();
    if !encodings.iter().any(is_framing) {
        return;
    }
    let kept: Vec<&str> = encodings.into_iter().filter(|encoding| !is_framing(encoding)).collect();
    let kept = kept.join(",");
    if kept.is_empty() {
        headers.remove(KnownHeader::ContentEncoding);
    } else {
        headers.set(KnownHeader::ContentEncoding, &kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunked::ChunkLayout;
    use crate::sample_request::HeaderList;

    fn encodings(pairs: &[(&'static str, &'static str)]) -> Option<String> {
        let mut headers = HeaderList::new(pairs.iter().copied());
        rewrite_framing_headers(&mut headers, None, &TrailerOutcome::Absent);
        headers.get_text(KnownHeader::ContentEncoding).map(str::to_owned)
    }

    /// A1, V7
    #[test]
    fn the_encodings_of_the_object_are_kept() {
        assert_eq!(encodings(&[("content-encoding", "aws-chunked")]), None);
        assert_eq!(encodings(&[("content-encoding", "AWS-chunked, gzip")]).as_deref(), Some("gzip"));
        let two = [("content-encoding", "gzip"), ("content-encoding", "br,aws-chunked")];
        assert_eq!(encodings(&two).as_deref(), Some("gzip,br"));
        assert_eq!(encodings(&[("content-encoding", "gzip , br")]).as_deref(), Some("gzip , br"));
    }

    /// A1
    #[test]
    fn the_headers_of_the_clients_framing_are_replaced() {
        let from_client = [
            ("x-amz-trailer", "x-amz-checksum-crc32"),
            ("x-amz-decoded-content-length", "70000"),
            ("x-amz-sdk-checksum-algorithm", "CRC32"),
        ];
        let rewritten = |encoding: Option<ChunkEncoding>, trailing| {
            let mut headers = HeaderList::new(from_client);
            rewrite_framing_headers(&mut headers, encoding.as_ref(), &trailing);
            let mut lines = headers.lines();
            lines.sort();
            lines
        };
        assert!(rewritten(None, TrailerOutcome::Dropped).is_empty());
        assert_eq!(
            rewritten(None, TrailerOutcome::Header(ChecksumAlgorithm::Crc32, "AAAAAA==".to_owned())),
            ["x-amz-checksum-crc32: AAAAAA==", "x-amz-sdk-checksum-algorithm: CRC32"]
        );
        let encoding =
            ChunkEncoding { layout: ChunkLayout::Signed, chunk_bytes: 65_536, length: 70_000, trailer: None };
        assert_eq!(
            rewritten(Some(encoding), TrailerOutcome::Dropped),
            ["x-amz-decoded-content-length: 70000"]
        );
        let trailer = Some((ChecksumAlgorithm::Crc32.header(), ChecksumAlgorithm::Crc32.encoded_bytes()));
        let encoding = ChunkEncoding { layout: ChunkLayout::SignedTrailer, trailer, ..encoding };
        assert_eq!(
            rewritten(Some(encoding), TrailerOutcome::Forwarded),
            [
                "x-amz-decoded-content-length: 70000",
                "x-amz-sdk-checksum-algorithm: CRC32",
                "x-amz-trailer: x-amz-checksum-crc32"
            ]
        );
    }
}
