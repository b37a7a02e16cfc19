//! Target `http1`: request heads and the framing of bodies, as the HTTP/1.1 loop reads them.

use actix_http::Request;
use bytes::Bytes;

use super::body_decoder::{BodyDecoder, DecodeStep, FramingError, OVERHEAD_BYTES_MAX};
use super::head::{self, HEAD_BYTES_MAX, HeadError, HeadScanner};
use crate::fuzzing::{Input, split};
use crate::http::request_validation::BodyLength;

/// Size digits and line ends of one chunk.
const CHUNK_LINE_BYTES_MAX: usize = 16 + 6;

/// HTTP/1.1: the end of a head and the data of a body do not depend on where the network cuts, a head that is accepted
/// has CRLF line ends only and reads the same when it is written out again, and chunks give no more data than they
/// announce and at most 16 KiB of extensions, trailers and leading zeros.
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
        // What follows a head may be malformed; it is not read with the head in one piece and not in others.
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
    let Ok(facts) = head::parse(&Bytes::copy_from_slice(head), request.head_mut()) else { return };
    let line =
        head.split(|byte| *byte == b'\r').find(|line| !line.trim_ascii().is_empty()).unwrap_or_default();
    let line = line.trim_ascii_start();
    assert_eq!(line.iter().filter(|byte| **byte == b' ').count(), 2, "{}", String::from_utf8_lossy(line));
    assert!(!line.contains(&b'#') && !line.contains(&b'\t'));
    again(&mut request, line, facts);
}

/// The same head without its client's spelling of white space says the same.
fn again(request: &mut Request, line: &[u8], facts: head::HeadInfo) {
    let mut written = [line, b"\r\n"].concat();
    for (name, value) in &request.head().headers {
        assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
        written.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    written.extend_from_slice(b"\r\n");
    let mut other = Request::new();
    let told = head::parse(&Bytes::from(written), other.head_mut());
    assert_eq!(told, Ok(facts));
    assert_eq!((other.method(), other.uri()), (request.method(), request.uri()));
    for name in request.head().headers.keys() {
        let (mine, others) = (request.head().headers.get_all(name), other.head().headers.get_all(name));
        assert!(mine.eq(others), "{name}");
    }
}

/// What a decoder makes of a body.
#[derive(Debug, PartialEq)]
struct Body {
    data: Vec<u8>,
    consumed: usize,
    ended: Result<bool, FramingError>,
}

fn decode(length: BodyLength, pieces: &[&[u8]]) -> Body {
    let mut decoder = BodyDecoder::new(length);
    let mut body = Body { data: Vec::new(), consumed: 0, ended: Ok(false) };
    // Framing since data last came.
    let mut silent = 0;
    for piece in pieces {
        let mut rest = *piece;
        loop {
            let ahead = decoder.data_ahead();
            match decoder.step(rest) {
                Ok(DecodeStep::Data(count)) => {
                    assert!(count > 0 && count as u64 <= ahead && count <= rest.len());
                    body.data.extend_from_slice(&rest[..count]);
                    (body.consumed, rest, silent) = (body.consumed + count, &rest[count..], 0);
                }
                Ok(DecodeStep::Framing(count)) => {
                    assert!(count > 0 && count <= rest.len());
                    (body.consumed, rest, silent) = (body.consumed + count, &rest[count..], silent + count);
                    let most = OVERHEAD_BYTES_MAX as usize + 2 * CHUNK_LINE_BYTES_MAX;
                    assert!(silent <= 2 * most, "{silent} bytes of framing carry nothing");
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
        // The same data in chunks of the tests' own.
        let mut chunks = Vec::new();
        for chunk in whole.data.chunks(usize::from(cuts) + 1) {
            chunks.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
            chunks.extend_from_slice(&[chunk, b"\r\n"].concat());
        }
        chunks.extend_from_slice(b"0\r\n\r\nGET ");
        let told = decode(length, &split(&chunks, cuts));
        assert_eq!(told, Body { data: whole.data, consumed: chunks.len() - 4, ended: Ok(true) });
    }
}
