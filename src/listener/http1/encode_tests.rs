//! The head of a response, line by line, for each kind of request and body.

use actix_web::http::Method;
use actix_web::http::header::{HeaderName, HeaderValue};
use tidegate_s3::request::BodyLength;

use super::*;

fn request(method: &Method, version: Version) -> HeadInfo {
    HeadInfo {
        length: Some(BodyLength::Empty),
        keeps_alive: true,
        expects_continue: false,
        version,
        is_head: method == Method::HEAD,
    }
}

fn head(status: u16, headers: &[(&'static str, &'static str)]) -> ResponseHead {
    let mut head = ResponseHead::new(StatusCode::from_u16(status).unwrap());
    for (name, value) in headers {
        head.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    head
}

/// The lines of a response's head, in lower case.
fn lines(request: &HeadInfo, head: &ResponseHead, size: BodySize, keeps_alive: bool) -> Vec<String> {
    let mut bytes = Vec::new();
    let transfer = ResponseFraming::of(request, head.status, size);
    write_head(&mut bytes, head, (request, size, transfer), keeps_alive, b"today");
    let text = String::from_utf8(bytes).unwrap();
    let lines = text.strip_suffix("\r\n\r\n").unwrap();
    lines.split("\r\n").map(str::to_lowercase).collect()
}

/// T6: the framing of a response fits the version of its request
#[test]
fn the_framing_fits_the_version_of_the_request() {
    let (new, old) = (request(&Method::GET, Version::HTTP_11), request(&Method::GET, Version::HTTP_10));
    let of = |request: &HeadInfo, size| lines(request, &head(200, &[]), size, true);
    assert_eq!(of(&new, BodySize::Sized(7)), ["http/1.1 200 ok", "content-length: 7", "date: today"]);
    assert_eq!(of(&new, BodySize::None), ["http/1.1 200 ok", "content-length: 0", "date: today"]);
    assert_eq!(of(&new, BodySize::Stream), ["http/1.1 200 ok", "transfer-encoding: chunked", "date: today"]);
    assert_eq!(of(&old, BodySize::Sized(7))[1..3], ["content-length: 7", "connection: keep-alive"]);
    assert_eq!(ResponseFraming::of(&old, StatusCode::OK, BodySize::Stream), ResponseFraming::UntilClose);
    let closed = lines(&old, &head(200, &[]), BodySize::Stream, false);
    assert_eq!(closed, ["http/1.1 200 ok", "connection: close", "date: today"]);
}

/// V7: responses to HEAD, 204 and 304 have no body; they have a length only if it is allowed
#[test]
fn bodyless_responses_have_the_allowed_framing() {
    let (get, only_head) =
        (request(&Method::GET, Version::HTTP_11), request(&Method::HEAD, Version::HTTP_11));
    let length = |request: &HeadInfo, head: &ResponseHead, size| {
        let lines = lines(request, head, size, true);
        assert!(!lines.iter().any(|line| line.starts_with("transfer-encoding")), "{lines:?}");
        lines.into_iter().find(|line| line.starts_with("content-length"))
    };
    let length_line = |bytes: &str| Some(format!("content-length: {bytes}"));
    assert_eq!(length(&only_head, &head(200, &[]), BodySize::Sized(7)), length_line("7"));
    assert_eq!(length(&only_head, &head(200, &[]), BodySize::None), None);
    assert_eq!(length(&only_head, &head(200, &[]), BodySize::Stream), None);
    assert_eq!(length(&get, &head(204, &[]), BodySize::Sized(0)), None);
    assert_eq!(length(&get, &head(304, &[("content-length", "9")]), BodySize::None), length_line("9"));
    assert_eq!(length(&only_head, &head(304, &[]), BodySize::Sized(9)), None);
    for (request, status) in [(&only_head, 200), (&get, 204), (&get, 304), (&get, 101)] {
        let transfer = ResponseFraming::of(request, StatusCode::from_u16(status).unwrap(), BodySize::Stream);
        assert_eq!(transfer, ResponseFraming::NoBody, "{status}");
    }
}

/// V7: connection headers of the application are dropped, and there is one date
#[test]
fn connection_headers_of_the_application_are_dropped() {
    let response = head(
        200,
        &[
            ("connection", "upgrade"),
            ("upgrade", "h2c"),
            ("transfer-encoding", "gzip"),
            ("content-length", "99"),
            ("date", "theirs"),
            ("etag", "\"a\""),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
        ],
    );
    let mut sent = lines(&request(&Method::GET, Version::HTTP_11), &response, BodySize::Sized(3), false);
    sent.sort();
    assert_eq!(
        sent,
        [
            "connection: close",
            "content-length: 3",
            "date: theirs",
            "etag: \"a\"",
            "http/1.1 200 ok",
            "set-cookie: a=1",
            "set-cookie: b=2"
        ]
    );
}

/// H2
#[test]
fn a_chunks_size_is_hexadecimal() {
    for bytes in [1, 9, 10, 15, 16, 255, 256, 4096, 65_535, 1 << 20, usize::MAX] {
        let mut line = Vec::new();
        write_chunk_size(&mut line, bytes);
        assert_eq!(String::from_utf8(line).unwrap(), format!("{bytes:x}\r\n"));
    }
}
