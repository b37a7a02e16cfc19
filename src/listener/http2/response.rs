//! Converts a response's head from actix's types (http 0.2) to those of `h2` (http 1), without the fields of HTTP/1.1
//! connections.

use actix_web::body::BodySize;
use actix_web::dev::ResponseHead;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use http::header::{CONTENT_LENGTH, DATE};
use tidegate_actors::clock;
use tidegate_s3::checksum::CHECKSUM_PREFIX;

/// Fields of an HTTP/1.1 connection, which RFC 9113, 8.2.2 forbids.
const CONNECTION_FIELDS: [&str; 5] =
    ["connection", "transfer-encoding", "upgrade", "keep-alive", "proxy-connection"];

/// Fields with a different value in most responses.
const UNIQUE_FIELDS: [&str; 7] = [
    "x-request-id",
    "date",
    "last-modified",
    "content-range",
    "x-amz-request-id",
    "x-amz-id-2",
    "x-amz-version-id",
];

/// The kind of a checksum; the other fields with the prefix have its value.
const CHECKSUM_TYPE: &str = "x-amz-checksum-type";

/// Converts a head; `None` if a field of it cannot be sent.
pub(super) fn convert_head(head: &ResponseHead, size: BodySize) -> Option<http::Response<()>> {
    let mut response = http::Response::new(());
    *response.status_mut() = http::StatusCode::try_from(head.status.as_u16()).ok()?;
    let headers = response.headers_mut();
    // The length and the date are two more.
    headers.try_reserve(head.headers().len() + 2).ok()?;
    for (name, value) in head.headers() {
        if !CONNECTION_FIELDS.contains(&name.as_str()) {
            let (name, mut value) = convert_field(name, value)?;
            value.set_sensitive(is_unique(&name));
            headers.try_append(name, value).ok()?;
        }
    }
    if let BodySize::Sized(bytes) = size {
        headers.insert(CONTENT_LENGTH, bytes.into());
    }
    if !headers.contains_key(DATE)
        && let Ok(mut date) = http::HeaderValue::try_from(httpdate::fmt_http_date(clock::wall()))
    {
        date.set_sensitive(true);
        headers.insert(DATE, date);
    }
    Some(response)
}

/// Converts an interim response; `None` if it cannot be sent.
pub(super) fn convert_interim(status: StatusCode, headers: &HeaderMap) -> Option<http::Response<()>> {
    let mut response = http::Response::new(());
    *response.status_mut() = http::StatusCode::try_from(status.as_u16()).ok()?;
    for (name, value) in headers {
        if !CONNECTION_FIELDS.contains(&name.as_str()) {
            let (name, value) = convert_field(name, value)?;
            response.headers_mut().try_append(name, value).ok()?;
        }
    }
    Some(response)
}

/// Whether the field stays out of the compression table (RFC 7541, 6.2.3). `h2` compares a value with each entry of the same
/// name, and 60 request IDs fill the table: looking them all up took ten times as long as encoding one.
fn is_unique(name: &http::HeaderName) -> bool {
    let name = name.as_str();
    UNIQUE_FIELDS.contains(&name) || (name.starts_with(CHECKSUM_PREFIX) && name != CHECKSUM_TYPE)
}

fn convert_field(name: &HeaderName, value: &HeaderValue) -> Option<(http::HeaderName, http::HeaderValue)> {
    let name = http::HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
    let value = http::HeaderValue::from_bytes(value.as_bytes()).ok()?;
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A7, V7
    #[test]
    fn a_response_has_no_connection_fields() {
        let mut head = ResponseHead::new(StatusCode::OK);
        let pairs =
            [("connection", "close"), ("keep-alive", "x"), ("etag", "\"a\""), ("date", "d"), ("vary", "a")];
        for (name, value) in pairs.into_iter().chain([("vary", "b")]) {
            head.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let sent = convert_head(&head, BodySize::Sized(7)).unwrap();
        let mut names: Vec<&str> = sent.headers().keys().map(http::HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "date", "etag", "vary"]);
        assert_eq!(sent.headers()[CONTENT_LENGTH], "7");
        assert_eq!(sent.headers().get_all("vary").iter().count(), 2);
        assert_eq!(sent.status().as_u16(), 200);
        let unique = |name| is_unique(&http::HeaderName::from_static(name));
        assert!(unique("x-amz-checksum-sha256") && unique("x-amz-checksum-crc32") && unique("x-amz-id-2"));
        assert!(!unique("x-amz-checksum-type") && !unique("etag") && !unique("content-type"));
        let is_unindexed = |name: &str| sent.headers()[name].is_sensitive();
        assert!(is_unindexed("date") && !is_unindexed("vary") && !is_unindexed("content-length"));
        assert!(!convert_head(&head, BodySize::Stream).unwrap().headers().contains_key(CONTENT_LENGTH));
    }
}
