//! Converts a request's head from the types of `h2` (http 1) to those of actix (http 0.2), and validates it by RFC 9113.
//!
//! `h2` refuses uppercase names, connection-specific fields, repeated, unknown or misplaced pseudo-header fields, an empty `:path` and
//! a content-length that does not match. The remaining errors are found here; they are stream errors of type PROTOCOL_ERROR
//! (RFC 9113, 8.1.1).

use actix_web::http::header::{
    CONTENT_LENGTH, COOKIE, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use actix_web::http::uri::{Authority, Parts, PathAndQuery, Scheme};
use actix_web::http::{Method, Uri};
use bytes::{Bytes, BytesMut};

/// Why a request is malformed.
pub(crate) type MalformedRequest = &'static str;

/// The head in actix's types.
#[derive(Debug)]
pub(super) struct ConvertedHead {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
}

/// Converts a head. `has_body`: the head has no END_STREAM.
pub(super) fn convert_head(
    parts: &http::request::Parts,
    has_body: bool,
) -> Result<ConvertedHead, MalformedRequest> {
    let method = Method::from_bytes(parts.method.as_str().as_bytes()).map_err(|_| "a malformed :method")?;
    let uri = convert_target(&method, &parts.uri)?;
    let mut headers = convert_headers(&parts.headers)?;
    if has_body && !headers.contains_key(CONTENT_LENGTH) {
        // The later steps treat a body without a length as chunked.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    join_cookies(&mut headers);
    Ok(ConvertedHead { method, uri, headers })
}

/// Refuses white space around values (RFC 9113, 8.2.1).
pub(super) fn check_values(fields: &http::HeaderMap) -> Result<(), MalformedRequest> {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let is_padded = |value: &[u8]| is_space(value.first()) || is_space(value.last());
    if fields.values().any(|value| is_padded(value.as_bytes())) {
        return Err("white space around a field's value");
    }
    Ok(())
}

fn convert_target(method: &Method, uri: &http::Uri) -> Result<Uri, MalformedRequest> {
    let mut parts = Parts::default();
    match uri.authority().map(http::uri::Authority::as_str) {
        Some(authority) if authority.contains('@') => return Err("userinfo in :authority"),
        Some(authority) => {
            parts.authority = Some(Authority::try_from(authority).map_err(|_| "a malformed :authority")?);
        }
        None if *method == Method::CONNECT => return Err("CONNECT without :authority"),
        None => {}
    }
    if *method != Method::CONNECT {
        let path = uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
        if !path.starts_with('/') && (path != "*" || *method != Method::OPTIONS) {
            return Err("a :path that does not begin with a slash");
        }
        parts.path_and_query = Some(PathAndQuery::try_from(path).map_err(|_| "a malformed :path")?);
        // http 0.2 accepts an authority with a path only if there is a scheme.
        if parts.authority.is_some() {
            let is_plain = uri.scheme_str() == Some("http");
            parts.scheme = Some(if is_plain { Scheme::HTTP } else { Scheme::HTTPS });
        }
    }
    Uri::from_parts(parts).map_err(|_| "a malformed target")
}

/// Converts the headers. All values share one allocation.
fn convert_headers(fields: &http::HeaderMap) -> Result<HeaderMap, MalformedRequest> {
    check_values(fields)?;
    let mut values = BytesMut::with_capacity(fields.values().map(http::HeaderValue::len).sum());
    fields.values().for_each(|value| values.extend_from_slice(value.as_bytes()));
    let mut values: Bytes = values.freeze();
    let mut headers = HeaderMap::with_capacity(fields.keys_len());
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_str().as_bytes()).map_err(|_| "a malformed field name")?;
        let value = HeaderValue::from_maybe_shared(values.split_to(value.len()));
        headers.append(name, value.map_err(|_| "a malformed field value")?);
    }
    Ok(headers)
}

/// Joins cookies that were split for compression into one header (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let cookies: Vec<&[u8]> = headers.get_all(COOKIE).map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        headers.insert(COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(method: &str, uri: &str, fields: &[(&str, &[u8])]) -> http::request::Parts {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, http::HeaderValue::from_bytes(value).unwrap());
        }
        request.body(()).unwrap().into_parts().0
    }

    fn refusal(method: &str, uri: &str, fields: &[(&str, &[u8])]) -> Option<MalformedRequest> {
        convert_head(&parts(method, uri, fields), false).err()
    }

    fn fields(pairs: &[(&str, &[u8])], has_body: bool) -> Vec<(String, Vec<u8>)> {
        let head = convert_head(&parts("PUT", "https://a/k", pairs), has_body).unwrap();
        let text = |(name, value): (&HeaderName, &HeaderValue)| (name.to_string(), value.as_bytes().to_vec());
        let mut fields: Vec<_> = head.headers.iter().map(text).collect();
        fields.sort();
        fields
    }

    fn pair(name: &str, value: &[u8]) -> (String, Vec<u8>) {
        (name.to_owned(), value.to_vec())
    }

    /// V9
    #[test]
    fn errors_by_rfc_9113_are_malformed() {
        for (method, uri, why) in [
            ("GET", "https://user@a/k", Some("userinfo in :authority")),
            ("GET", "https://a:b@c/k", Some("userinfo in :authority")),
            ("CONNECT", "/k", Some("CONNECT without :authority")),
            ("GET", "*", Some("a :path that does not begin with a slash")),
            ("GET", "https://a/k", None),
            ("GET", "http://a:443/k?q", None),
            ("GET", "/k", None),
            ("OPTIONS", "*", None),
            ("CONNECT", "a:443", None),
        ] {
            assert_eq!(refusal(method, uri, &[]), why, "{method} {uri}");
        }
        for value in [&b" a"[..], b"a ", b"\ta", b"a\t", b" "] {
            assert_eq!(refusal("GET", "/k", &[("x-a", value)]), Some("white space around a field's value"));
        }
        for value in [&b""[..], b"a b", b"a\tb", b"\xc3\xa9"] {
            assert_eq!(refusal("GET", "/k", &[("x-a", value)]), None);
        }
    }

    /// A7
    #[test]
    fn a_head_is_the_same_in_both_types() {
        let head = convert_head(&parts("PATCH", "https://b.host:444/k%2Fa//b?x=%20&y", &[]), false).unwrap();
        assert_eq!(head.method, Method::PATCH);
        assert_eq!(head.uri.path_and_query().unwrap().as_str(), "/k%2Fa//b?x=%20&y");
        assert_eq!(head.uri.authority().unwrap().as_str(), "b.host:444");
        let pairs: &[(&str, &[u8])] =
            &[("x-a", b"1"), ("etag", b""), ("x-a", b"\xff2"), ("range", b"bytes=0-")];
        let same = [pair("etag", b""), pair("range", b"bytes=0-"), pair("x-a", b"1"), pair("x-a", b"\xff2")];
        assert_eq!(fields(pairs, false), same);
    }

    /// V1, V2
    #[test]
    fn a_body_without_a_length_is_marked_as_chunked() {
        assert_eq!(fields(&[], false), []);
        assert_eq!(fields(&[], true), [pair("transfer-encoding", b"chunked")]);
        assert_eq!(fields(&[("content-length", b"3")], true), [pair("content-length", b"3")]);
    }

    /// A7
    #[test]
    fn split_cookies_are_joined() {
        assert_eq!(fields(&[("cookie", b"a=1"), ("cookie", b"b=2")], false), [pair("cookie", b"a=1; b=2")]);
        assert_eq!(fields(&[("cookie", b"a=1")], false), [pair("cookie", b"a=1")]);
    }
}
