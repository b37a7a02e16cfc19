//! Valid and malformed chunk streams, split at any byte.

use proptest::prelude::*;

use super::*;

/// Decodes a stream that arrives in these pieces: the data, and the bytes after the body if it ended.
fn decode(length: BodyLength, pieces: &[&[u8]]) -> Result<(Vec<u8>, Option<Vec<u8>>), FramingError> {
    let (mut decoder, mut buffer, mut data) = (BodyDecoder::new(length), Vec::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.step(&buffer)? {
                DecodeStep::Data(bytes) => data.extend(buffer.drain(..bytes)),
                DecodeStep::Framing(bytes) => drop(buffer.drain(..bytes)),
                DecodeStep::NeedMore => break,
                DecodeStep::End => break,
            }
        }
    }
    Ok((data, decoder.has_ended().then_some(buffer)))
}

fn chunked(bytes: &str) -> Result<(String, Option<String>), FramingError> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    decode(BodyLength::Chunked, &[bytes.as_bytes()]).map(|(data, rest)| (text(data), rest.map(text)))
}

/// V1
#[test]
fn a_body_ends_at_its_framed_length() {
    let complete = |data: &str, rest: &str| Ok((data.to_owned(), Some(rest.to_owned())));
    assert_eq!(chunked("3\r\nabc\r\n0\r\n\r\nGET"), complete("abc", "GET"));
    assert_eq!(chunked("A\r\n0123456789\r\n1;a=b\r\nx\r\n000\r\n\r\n"), complete("0123456789x", ""));
    assert_eq!(chunked("0;a=\"\u{e9} \t;\"\r\nTrailer: v\r\nx:\r\n\r\nrest"), complete("", "rest"));
    assert_eq!(chunked("00003\r\nabc\r\n0\r\n"), Ok(("abc".to_owned(), None)));
    assert_eq!(decode(BodyLength::Known(3), &[b"ab", b"cd"]), Ok((b"abc".to_vec(), Some(b"d".to_vec()))));
    assert_eq!(decode(BodyLength::Empty, &[b"x"]), Ok((Vec::new(), Some(b"x".to_vec()))));
}

/// V1, V10: sizes are digits, lines end with CRLF, and malformed framing is never repaired
#[test]
fn ambiguous_chunks_are_refused() {
    for (bytes, error) in [
        ("5;\n\r\n", FramingError::Extension),
        ("5;\0\r\n", FramingError::Extension),
        ("5;a\rb\r\n", FramingError::LineEnd),
        ("5\n12345\r\n", FramingError::Size),
        ("5\r\r\n", FramingError::LineEnd),
        ("+5\r\n", FramingError::Size),
        ("-1\r\n", FramingError::Size),
        (" 5\r\n", FramingError::Size),
        ("5 \r\n", FramingError::Size),
        ("5 ;a\r\n", FramingError::Size),
        ("0x5\r\n", FramingError::Size),
        ("\r\n", FramingError::Size),
        (";a\r\n", FramingError::Size),
        ("xyz\r\n", FramingError::Size),
        ("fffffffffffffffff\r\n", FramingError::TooLarge),
        ("10000000000000000\r\n", FramingError::TooLarge),
        ("3\r\nabcdef\r\n", FramingError::ChunkEnd),
        ("3\r\nabc\n0\r\n", FramingError::ChunkEnd),
        ("3\r\nabc\rx", FramingError::LineEnd),
        ("0\r\n\n", FramingError::Trailer),
        ("0\r\nx: y\n\r\n", FramingError::Trailer),
        ("0\r\nno colon\r\n\r\n", FramingError::Trailer),
        ("0\r\n: v\r\n\r\n", FramingError::Trailer),
        ("0\r\nx : v\r\n\r\n", FramingError::Trailer),
        ("0\r\nx: v\r\n folded\r\n\r\n", FramingError::Trailer),
        ("0\r\nx: v\rz", FramingError::LineEnd),
        ("0\r\n\rx", FramingError::LineEnd),
    ] {
        assert_eq!(chunked(bytes), Err(error), "{bytes:?}");
    }
    assert_eq!(chunked("ffffffffffffffff\r\nx"), Ok(("x".to_owned(), None)), "the largest size there is");
}

/// V10: overhead is bounded over the whole body, wherever it stands
#[test]
fn extensions_trailers_and_zeros_are_bounded_together() {
    let max = OVERHEAD_BYTES_MAX as usize;
    let each = |count: usize| {
        [
            format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(count - 1)),
            format!("{}1\r\nx\r\n0\r\n\r\n", "0".repeat(count + 1)),
            format!("1\r\nx\r\n0\r\na:{}\r\n\r\n", "v".repeat(count - 4)),
            "1;ab\r\nx\r\n".repeat(count / 3) + &format!("0;{}\r\n\r\n", "e".repeat(count % 3)),
            format!("0\r\n{}\r\n", "a:\r\n".repeat(count.div_ceil(4))),
        ]
    };
    for bytes in each(max - 3) {
        assert!(chunked(&bytes).is_ok_and(|(_, rest)| rest.is_some()), "{:.20}", bytes);
    }
    for bytes in each(max + 3) {
        assert_eq!(chunked(&bytes), Err(FramingError::Overhead), "{:.20}", bytes);
    }
}

fn streams() -> impl Strategy<Value = Vec<u8>> {
    let chunk = (
        prop::collection::vec(any::<u8>(), 1..40),
        prop::sample::select(vec!["", ";a", ";a=b", ";\"q\""]),
        0_usize..3,
    );
    let chunks = prop::collection::vec(chunk, 0..8).prop_map(|chunks| {
        let mut bytes = Vec::new();
        for (data, extension, zeros) in chunks {
            bytes.extend_from_slice(
                format!("{}{:x}{extension}\r\n", "0".repeat(zeros), data.len()).as_bytes(),
            );
            bytes.extend_from_slice(&data);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    });
    let end = prop::sample::select(vec![
        "0\r\n\r\nrest",
        "0\r\nx: y\r\n\r\n",
        "0\r\n",
        "",
        "zz",
        "0\r\n\n",
        "5;\n",
    ]);
    (chunks, end).prop_map(|(mut bytes, end)| {
        bytes.extend_from_slice(end.as_bytes());
        bytes
    })
}

proptest! {
    /// V1: the decoded body does not depend on how the network splits it
    #[test]
    fn any_split_gives_the_same_body(bytes in streams(), cuts in prop::collection::vec(0_usize..400, 0..8)) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).chain([0, bytes.len()]).collect();
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(decode(BodyLength::Chunked, &pieces), decode(BodyLength::Chunked, &[&bytes]));
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(decode(BodyLength::Chunked, &single), decode(BodyLength::Chunked, &[&bytes]));
    }

    /// V1: no input makes the decoder panic or return more data than the input has
    #[test]
    fn any_input_is_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let decoded = decode(BodyLength::Chunked, &[&bytes]);
        prop_assert!(decoded.is_err() || decoded.is_ok_and(|(data, _)| data.len() <= bytes.len()));
    }
}

/// V1: only the upstream side allows white space after a size, and nothing but white space
#[test]
fn white_space_after_a_size_is_allowed_on_request() {
    let decode = |bytes: &str| {
        let mut decoder = BodyDecoder::new(BodyLength::Chunked).allowing_space();
        let mut rest = bytes.as_bytes();
        loop {
            match decoder.step(rest)? {
                DecodeStep::Data(bytes) | DecodeStep::Framing(bytes) => rest = &rest[bytes..],
                DecodeStep::NeedMore => return Ok(false),
                DecodeStep::End => return Ok(true),
            }
        }
    };
    for padded in ["5  \r\nabcde\r\n0 \t\r\n\r\n", "5 ;a=b\r\nabcde\r\n0 ; x\r\n\r\n", "0\r\n\r\n"] {
        assert_eq!(decode(padded), Ok(true), "{padded:?}");
    }
    for bad in ["5 6\r\n", "5 a\r\n", " 5\r\n", "5 \n"] {
        assert_eq!(decode(bad), Err(FramingError::Size), "{bad:?}");
    }
    assert_eq!(decode(&format!("5{}", " ".repeat(20 << 10))), Err(FramingError::Overhead));
}
