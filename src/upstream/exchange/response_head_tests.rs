//! Heads of responses, valid and refused, split at any byte.

use std::time::Duration;

use actix_web::http::header::HeaderMap;
use proptest::prelude::*;

use super::*;

const LIMITS: ResponseHeadLimits = ResponseHeadLimits { bytes_max: 4096, fields_max: 20 };

/// Parses a stream that arrives in these pieces: the head, and the number of bytes after it. None if its end did not arrive.
fn read(
    pieces: &[&[u8]],
    is_head: bool,
    limits: ResponseHeadLimits,
) -> Result<Option<(ParsedHead, usize)>, ResponseHeadError> {
    let (mut scanner, mut buffer) = (ResponseHeadScanner::default(), Vec::new());
    let mut end = None;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        if end.is_none() {
            end = scanner.end(&buffer, limits)?;
        }
    }
    let Some(end) = end else { return Ok(None) };
    let bytes = Bytes::copy_from_slice(&buffer[..end]);
    parse(&bytes, is_head, limits).map(|head| Some((head, buffer.len() - end)))
}

fn whole(text: &str) -> Result<ParsedHead, ResponseHeadError> {
    read(&[text.as_bytes()], false, LIMITS).map(|head| head.unwrap().0)
}

fn framing(fields: &str) -> Result<(UpstreamFraming, Persistence), ResponseHeadError> {
    whole(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).map(|head| (head.framing, head.persistence))
}

const KEPT: Persistence = Persistence::Persists(None);

/// V1, T6: the framing of RFC 9112, 6.3
#[test]
fn a_head_decides_how_its_body_ends() {
    assert_eq!(framing("content-length: 5\r\n"), Ok((UpstreamFraming::Length(5), KEPT)));
    assert_eq!(
        framing("Content-Length: 5, 5\r\ncontent-length: 05\r\n"),
        Ok((UpstreamFraming::Length(5), KEPT))
    );
    assert_eq!(framing("transfer-encoding: Chunked\r\n"), Ok((UpstreamFraming::Chunked, KEPT)));
    assert_eq!(framing("x: y\r\n"), Ok((UpstreamFraming::Close, Persistence::Closes)));
    let none = |status, fields: &str| {
        whole(&format!("HTTP/1.1 {status} X\r\n{fields}\r\n")).map(|head| (head.framing, head.persistence))
    };
    assert_eq!(none(304, "content-length: 7\r\n"), Ok((UpstreamFraming::NoBody, KEPT)));
    assert_eq!(none(204, "content-length: 0\r\n"), Ok((UpstreamFraming::NoBody, KEPT)));
    assert_eq!(none(204, "content-length: 7\r\n"), Ok((UpstreamFraming::NoBody, Persistence::Closes)));
    assert_eq!(none(103, "content-length: x\r\ncontent-length: 7\r\n"), Ok((UpstreamFraming::NoBody, KEPT)));
    let head = read(&[b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"], true, LIMITS).unwrap().unwrap().0;
    assert_eq!(head.framing, UpstreamFraming::NoBody);
    assert_eq!(
        head.framing.body_size(&head.headers, &actix_web::http::Method::HEAD),
        actix_web::body::BodySize::Sized(9)
    );
}

/// T6: a repeated length is forwarded once
#[test]
fn a_repeated_length_is_one() {
    let head = whole("HTTP/1.1 304 X\r\ncontent-length: 5 , 5\r\ncontent-length: 5\r\n\r\n").unwrap();
    let lengths: Vec<_> = head.headers.get_all(CONTENT_LENGTH).collect();
    assert_eq!(lengths, ["5"]);
}

/// V1: a head that can be read in two ways is refused
#[test]
fn ambiguous_framing_is_refused() {
    for (fields, error) in [
        ("content-length: 5\r\ncontent-length: 6\r\n", ResponseHeadError::DifferentLengths),
        ("content-length: 5, 6\r\n", ResponseHeadError::DifferentLengths),
        ("content-length: -1\r\n", ResponseHeadError::Length),
        ("content-length: +5\r\n", ResponseHeadError::Length),
        ("content-length: 0x5\r\n", ResponseHeadError::Length),
        ("content-length: 5,\r\n", ResponseHeadError::Length),
        ("content-length:\r\n", ResponseHeadError::Length),
        ("content-length: 18446744073709551616\r\n", ResponseHeadError::Length),
        ("content-length: 5\r\ntransfer-encoding: chunked\r\n", ResponseHeadError::LengthAndCoding),
        ("transfer-encoding: identity\r\ncontent-length: 5\r\n", ResponseHeadError::LengthAndCoding),
        ("transfer-encoding: gzip, chunked\r\n", ResponseHeadError::Coding),
        ("transfer-encoding: chunked, chunked\r\n", ResponseHeadError::Coding),
        ("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", ResponseHeadError::Coding),
        ("transfer-encoding: identity\r\n", ResponseHeadError::Coding),
        ("transfer-encoding:\r\n", ResponseHeadError::Coding),
    ] {
        assert_eq!(framing(fields), Err(error), "{fields:?}");
    }
    let old = whole("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    assert_eq!(old.map(|_| ()), Err(ResponseHeadError::Coding));
}

/// P1: versions, `Connection` and `Keep-Alive` decide whether a connection is used again
#[test]
fn a_head_decides_whether_its_connection_persists() {
    let of = |version: &str, fields: &str| {
        whole(&format!("HTTP/1.{version} 200 OK\r\ncontent-length: 0\r\n{fields}\r\n")).unwrap().persistence
    };
    let idle = |ms| Persistence::Persists(Some(Duration::from_millis(ms)));
    assert_eq!(of("1", ""), KEPT);
    assert_eq!(of("0", ""), Persistence::Closes);
    assert_eq!(of("0", "connection: x, Keep-Alive\r\n"), KEPT);
    for closing in [
        "connection: close\r\n",
        "connection: keep-alive, CLOSE\r\n",
        "connection: x\r\nconnection: close\r\n",
    ] {
        assert_eq!(of("1", closing), Persistence::Closes, "{closing}");
    }
    assert_eq!(of("1", "keep-alive: timeout=5\r\n"), idle(4000));
    assert_eq!(of("1", "Keep-Alive: max=100, Timeout = 60\r\n"), idle(59_000));
    assert_eq!(of("1", "keep-alive: timeout=1\r\n"), idle(500));
    assert_eq!(of("1", "keep-alive: timeout=0\r\n"), Persistence::Closes);
    for no_time in ["keep-alive: 300\r\n", "keep-alive: timeout=x\r\n", "keep-alive: max=1\r\n"] {
        assert_eq!(of("1", no_time), KEPT, "{no_time}");
    }
}

/// B3: what is not HTTP/1 is refused at its first byte, and a malformed head is never repaired
#[test]
fn malformed_heads_are_refused() {
    let start = |text: &str| ResponseHeadScanner::default().end(text.as_bytes(), LIMITS);
    for text in ["<html>", "SSH-2.0", "\r\n", "\n", "h", "HTTX", " HTTP/1.1 200"] {
        assert_eq!(start(text), Err(ResponseHeadError::Protocol), "{text:?}");
    }
    assert_eq!(start("HTTP/2"), Err(ResponseHeadError::Version));
    assert_eq!(
        (start(""), start("HTTP"), start("HTTP/1.1 200 OK\r\nx: y\r\n\r")),
        (Ok(None), Ok(None), Ok(None))
    );
    for (text, error) in [
        ("HTTP/1.2 200 OK\r\n\r\n", ResponseHeadError::Version),
        ("HTTP/1.1 20 OK\r\n\r\n", ResponseHeadError::StatusLine),
        ("HTTP/1.1 99999 OK\r\n\r\n", ResponseHeadError::StatusLine),
        ("HTTP/1.1 099 OK\r\n\r\n", ResponseHeadError::StatusLine),
        ("HTTP/1.1 200 a\0b\r\n\r\n", ResponseHeadError::StatusLine),
        ("HTTP/1.1 200 OK\r\nx y: z\r\n\r\n", ResponseHeadError::Name),
        ("HTTP/1.1 200 OK\r\n: z\r\n\r\n", ResponseHeadError::Name),
        ("HTTP/1.1 200 OK\r\nx: a\0\r\n\r\n", ResponseHeadError::Value),
        ("HTTP/1.1 200 OK\r\nx: a\rb\r\n\r\n", ResponseHeadError::Value),
        ("HTTP/1.1 200 OK\r\nx: a\r\n b\r\n\r\n", ResponseHeadError::Name),
        ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", ResponseHeadError::Name),
    ] {
        assert_eq!(whole(text).map(|_| ()), Err(error), "{text:?}");
    }
}

/// B3: a bare LF ends a line, white space may precede a colon, and a reason phrase may be empty, odd or absent
#[test]
fn lax_heads_are_read() {
    for text in [
        "HTTP/1.1 200 OK\ncontent-length: 3\nx: \u{e9}\n\n",
        "HTTP/1.1 200\r\ncontent-length: 3\r\nX: \u{e9}\r\n\r\n",
        "HTTP/1.1 200 \r\ncontent-length : 3\r\nx : \u{e9} \r\n\r\n",
        "HTTP/1.0 200 ok \u{2603} fine\r\nCONTENT-LENGTH:3\nx:\t\u{e9}\r\n\n",
    ] {
        let head = whole(text).unwrap();
        assert_eq!((head.status.as_u16(), head.framing), (200, UpstreamFraming::Length(3)), "{text:?}");
        assert_eq!(head.headers.get("x").unwrap().as_bytes(), "\u{e9}".as_bytes());
    }
}

/// B3: the limits hold whether or not the head ever ends
#[test]
fn long_heads_are_refused() {
    let head = |bytes: usize| format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "v".repeat(bytes - 24));
    assert!(whole(&head(LIMITS.bytes_max)).is_ok());
    assert_eq!(whole(&head(LIMITS.bytes_max + 1)).map(|_| ()), Err(ResponseHeadError::TooLong));
    let endless = "HTTP/1.1 200 OK\r\nx: ".to_owned() + &"v".repeat(LIMITS.bytes_max);
    let error = read(&[endless.as_bytes()], false, LIMITS).map(|_| ());
    assert_eq!(error, Err(ResponseHeadError::TooLong));
    let fields = |count: usize| format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(count));
    assert!(whole(&fields(LIMITS.fields_max)).is_ok());
    assert_eq!(whole(&fields(LIMITS.fields_max + 1)).map(|_| ()), Err(ResponseHeadError::TooManyFields));
}

fn fields(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> =
        headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect();
    all.sort();
    all
}

proptest! {
    /// E4: any split of a stream gives the same result
    #[test]
    fn a_head_is_read_alike_however_it_is_split(
        names in prop::collection::vec("[a-zA-Z-]{1,12}", 0..24),
        value in "[ -~]{0,30}",
        is_lax in any::<bool>(),
        damage in prop::option::of((0_usize..400, any::<u8>())),
        cuts in prop::collection::vec(0_usize..400, 0..6),
    ) {
        let end = if is_lax { "\n" } else { "\r\n" };
        let mut text = format!("HTTP/1.1 200 OK{end}").into_bytes();
        for name in names {
            text.extend_from_slice(format!("{name}: {value}{end}").as_bytes());
        }
        text.extend_from_slice(end.as_bytes());
        text.extend_from_slice(b"body");
        if let Some((at, byte)) = damage {
            let at = at % text.len();
            text[at] = byte;
        }
        let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at % (text.len() + 1)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
        let summary = |read: Result<Option<(ParsedHead, usize)>, ResponseHeadError>| {
            read.map(|head| head.map(|(head, rest)| (head.status, fields(&head.headers), head.framing, head.persistence, rest)))
        };
        let limits = ResponseHeadLimits { bytes_max: 1000, ..LIMITS };
        prop_assert_eq!(summary(read(&pieces, false, limits)), summary(read(&[&text], false, limits)));
    }
}
