//! Fuzzing target `http1`: request heads and the framing of bodies, as the HTTP/1.1 loop reads them.

use actix_http::Request;
use bytes::Bytes;
use tidegate_s3::request::BodyLength;

use super::head::{self, HEAD_BYTES_MAX, HeadScanner};
use crate::body_framing::{BodyDecoder, DecodeStep, FramingError, OVERHEAD_BYTES_MAX};
use crate::fuzz_input::{Input, split};
use crate::http::head_rejection::HeadError;

/// The most bytes of size digits and line ends of one chunk.
const CHUNK_LINE_BYTES_MAX: usize = 16 + 6;

/// Checks for HTTP/1.1: the end of a head and the data of a body do not depend on how the network splits them; an
/// accepted head has CRLF line ends only and parses to the same result after it is written again; chunks give no more
/// data than their sizes and at most 16 KiB of extensions, trailers and leading zeros.
pub fn http1(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (mode, cuts) = (input.byte(), input.byte());
    match mode % 3 {
        0 => any_head(cuts, input.rest()),
        1 => any_body(BodyLength::Chunked, cuts, input.rest()),
        // A length of 0 is `BodyLength::Empty`.
        _ => any_body(BodyLength::Known(input.u64().max(1)), cuts, input.rest()),
    }
}

fn scan(pieces: &[&[u8]]) -> Result<Option<usize>, HeadError> {
    let (mut scan, mut arrived) = (HeadScanner::default(), Vec::new());
    for piece in pieces {
        arrived.extend_from_slice(piece);
        if let Some(end) = scan.end(&arrived)? {
            return Ok(Some(end));
        }
    }
    Ok(None)
}

fn any_head(cuts: u8, bytes: &[u8]) {
    let whole = scan(&[bytes]);
    for cuts in [1, cuts] {
        let cut = scan(&split(bytes, cuts));
        // Malformed bytes after a head are an error only if they arrive in one piece with it.
        assert!(cut == whole || (cut.is_err() && whole.is_err()), "cut by {cuts}: {cut:?} {whole:?}");
    }
    let Ok(Some(end)) = whole else { return };
    assert!(end <= bytes.len() && end <= HEAD_BYTES_MAX + 2);
    let head = &bytes[..end];
    assert!(head.ends_with(b"\r\n\r\n"));
    for at in memchr::memchr_iter(b'\n', head) {
        assert!(at > 0 && head[at - 1] == b'\r', "a bare line feed at {at}");
    }
    let mut request = Request::new();
    let Ok(head_info) = head::parse(&Bytes::copy_from_slice(head), request.head_mut()) else { return };
    let line =
        head.split(|byte| *byte == b'\r').find(|line| !line.trim_ascii().is_empty()).unwrap_or_default();
    let line = line.trim_ascii_start();
    assert_eq!(line.iter().filter(|byte| **byte == b' ').count(), 2, "{}", String::from_utf8_lossy(line));
    assert!(!line.contains(&b'#') && !line.contains(&b'\t'));
    check_rewritten(&mut request, line, head_info);
}

/// The same head with normalized white space parses to the same result.
fn check_rewritten(request: &mut Request, line: &[u8], head_info: head::HeadInfo) {
    let mut written = [line, b"\r\n"].concat();
    for (name, value) in &request.head().headers {
        assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
        written.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    written.extend_from_slice(b"\r\n");
    let mut other = Request::new();
    let reparsed = head::parse(&Bytes::from(written), other.head_mut());
    assert_eq!(reparsed, Ok(head_info));
    assert_eq!((other.method(), other.uri()), (request.method(), request.uri()));
    for name in request.head().headers.keys() {
        let (mine, others) = (request.head().headers.get_all(name), other.head().headers.get_all(name));
        assert!(mine.eq(others), "{name}");
    }
}

/// The result of decoding a body.
#[derive(Debug, PartialEq)]
struct Body {
    data: Vec<u8>,
    consumed: usize,
    ended: Result<bool, FramingError>,
}

fn decode(length: BodyLength, pieces: &[&[u8]]) -> Body {
    let mut decoder = BodyDecoder::new(length);
    let mut body = Body { data: Vec::new(), consumed: 0, ended: Ok(false) };
    // Bytes of framing since the last data.
    let mut overhead = 0;
    for piece in pieces {
        let mut rest = *piece;
        loop {
            let ahead = decoder.data_ahead();
            match decoder.step(rest) {
                Ok(DecodeStep::Data(count)) => {
                    assert!(count > 0 && count as u64 <= ahead && count <= rest.len());
                    body.data.extend_from_slice(&rest[..count]);
                    (body.consumed, rest, overhead) = (body.consumed + count, &rest[count..], 0);
                }
                Ok(DecodeStep::Framing(count)) => {
                    assert!(count > 0 && count <= rest.len());
                    (body.consumed, rest, overhead) =
                        (body.consumed + count, &rest[count..], overhead + count);
                    let most = OVERHEAD_BYTES_MAX as usize + 2 * CHUNK_LINE_BYTES_MAX;
                    assert!(overhead <= 2 * most, "{overhead} bytes of framing without data");
                }
                Ok(DecodeStep::NeedMore) => break,
                Ok(DecodeStep::End) => return Body { ended: Ok(true), ..body },
                Err(error) => return Body { ended: Err(error), ..body },
            }
        }
    }
    Body { ended: Ok(decoder.has_ended()), ..body }
}

fn any_body(length: BodyLength, cuts: u8, bytes: &[u8]) {
    let whole = decode(length, &[bytes]);
    for cuts in [1, cuts] {
        let cut = decode(length, &split(bytes, cuts));
        assert_eq!((&cut.data, &cut.ended), (&whole.data, &whole.ended), "cut by {cuts}");
        assert!(whole.ended.is_err() || cut.consumed == whole.consumed, "cut by {cuts}");
    }
    assert!(whole.consumed <= bytes.len() && whole.data.len() <= whole.consumed);
    if let BodyLength::Known(length) = length {
        assert_eq!(whole.data.len() as u64, length.min(bytes.len() as u64));
        assert_eq!(whole.ended, Ok(length <= bytes.len() as u64));
    } else {
        // The same data in other chunks.
        let mut chunks = Vec::new();
        for chunk in whole.data.chunks(usize::from(cuts) + 1) {
            chunks.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
            chunks.extend_from_slice(&[chunk, b"\r\n"].concat());
        }
        chunks.extend_from_slice(b"0\r\n\r\nGET ");
        let decoded = decode(length, &split(&chunks, cuts));
        assert_eq!(decoded, Body { data: whole.data, consumed: chunks.len() - 4, ended: Ok(true) });
    }
}
