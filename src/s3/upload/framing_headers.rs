//! The headers that describe a body's framing, towards the upstream.
//!
//! `aws-chunked` is no encoding of the object, so that word always ends here: S3 strips it too, and stores that do not would
//! hand it to readers. The upstream sees from `x-amz-content-sha256` that a body is framed.

use actix_web::http::header::{CONTENT_ENCODING, HeaderMap, HeaderName, HeaderValue};

use crate::s3::checksum::ChecksumAlgorithm;
use crate::s3::chunked::encode::ChunkEncoding;
use crate::s3::upload::declared_body::{DECODED_LENGTH, SDK_ALGORITHM, TRAILER};

/// What became of a trailing checksum.
pub(crate) enum TrailerOutcome {
    /// There was none.
    Absent,
    /// It was verified and goes no further.
    Dropped,
    /// It is known before the body is sent, and becomes a header.
    Header(ChecksumAlgorithm, String),
    /// It is sent behind the body.
    Forwarded,
}

/// Takes the client's framing out of the headers and puts the upstream's in.
pub(crate) fn rewrite_framing_headers(
    headers: &mut HeaderMap,
    frame: Option<&ChunkEncoding>,
    trailing: &TrailerOutcome,
) {
    remove_aws_chunked(headers);
    headers.remove(TRAILER);
    headers.remove(DECODED_LENGTH);
    match trailing {
        TrailerOutcome::Absent | TrailerOutcome::Forwarded => {}
        TrailerOutcome::Dropped => {
            headers.remove(SDK_ALGORITHM);
        }
        TrailerOutcome::Header(algorithm, value) => {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(algorithm.header()), value);
            }
        }
    }
    if let Some(frame) = frame {
        headers.insert(DECODED_LENGTH, HeaderValue::from(frame.length));
        if let Some((name, _)) = frame.trailer {
            headers.insert(TRAILER, HeaderValue::from_static(name));
        }
    }
}

fn remove_aws_chunked(headers: &mut HeaderMap) {
    let is_framing = |encoding: &&str| encoding.eq_ignore_ascii_case("aws-chunked");
    let texts = || headers.get_all(CONTENT_ENCODING).filter_map(|value| value.to_str().ok());
    let encodings: Vec<&str> = texts().flat_map(|text| text.split(',')).map(str::trim).collect();
    if !encodings.iter().any(&is_framing) {
        return;
    }
    let kept: Vec<&str> = encodings.into_iter().filter(|encoding| !is_framing(encoding)).collect();
    let kept = HeaderValue::from_str(&kept.join(",")).ok().filter(|value| !value.is_empty());
    headers.remove(CONTENT_ENCODING);
    if let Some(kept) = kept {
        headers.insert(CONTENT_ENCODING, kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3::chunked::ChunkLayout;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        map
    }

    fn encodings(pairs: &[(&'static str, &'static str)]) -> Option<String> {
        let mut map = headers(pairs);
        rewrite_framing_headers(&mut map, None, &TrailerOutcome::Absent);
        map.get(CONTENT_ENCODING).map(|value| value.to_str().unwrap().to_owned())
    }

    /// A1, V7
    #[test]
    fn the_objects_own_encodings_stay() {
        assert_eq!(encodings(&[("content-encoding", "aws-chunked")]), None);
        assert_eq!(encodings(&[("content-encoding", "AWS-chunked, gzip")]).as_deref(), Some("gzip"));
        let two = [("content-encoding", "gzip"), ("content-encoding", "br,aws-chunked")];
        assert_eq!(encodings(&two).as_deref(), Some("gzip,br"));
        assert_eq!(encodings(&[("content-encoding", "gzip , br")]).as_deref(), Some("gzip , br"));
    }

    /// A1
    #[test]
    fn the_clients_framing_gives_way_to_the_upstreams() {
        let from_client = [
            ("x-amz-trailer", "x-amz-checksum-crc32"),
            ("x-amz-decoded-content-length", "70000"),
            ("x-amz-sdk-checksum-algorithm", "CRC32"),
        ];
        let told = |frame: Option<ChunkEncoding>, trailing| {
            let mut map = headers(&from_client);
            rewrite_framing_headers(&mut map, frame.as_ref(), &trailing);
            let mut pairs: Vec<String> =
                map.iter().map(|(name, value)| format!("{}: {}", name, value.to_str().unwrap())).collect();
            pairs.sort();
            pairs
        };
        assert!(told(None, TrailerOutcome::Dropped).is_empty());
        assert_eq!(
            told(None, TrailerOutcome::Header(ChecksumAlgorithm::Crc32, "AAAAAA==".to_owned())),
            ["x-amz-checksum-crc32: AAAAAA==", "x-amz-sdk-checksum-algorithm: CRC32"]
        );
        let frame =
            ChunkEncoding { layout: ChunkLayout::Signed, chunk_bytes: 65_536, length: 70_000, trailer: None };
        assert_eq!(told(Some(frame), TrailerOutcome::Dropped), ["x-amz-decoded-content-length: 70000"]);
        let trailer = Some((ChecksumAlgorithm::Crc32.header(), ChecksumAlgorithm::Crc32.encoded_bytes()));
        let frame = ChunkEncoding { layout: ChunkLayout::SignedTrailer, trailer, ..frame };
        assert_eq!(
            told(Some(frame), TrailerOutcome::Forwarded),
            [
                "x-amz-decoded-content-length: 70000",
                "x-amz-sdk-checksum-algorithm: CRC32",
                "x-amz-trailer: x-amz-checksum-crc32"
            ]
        );
    }
}
