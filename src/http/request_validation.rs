//! Validates a request's head before anything else happens (V1–V3). No state, no I/O.
//!
//! Framing that two parsers could read differently is refused and the connection closed, because it allows request
//! smuggling. A target in absolute form is accepted if it names the same authority as `Host` (RFC 9112, 3.2.2): if
//! the two differ, implementations disagree on which one counts. `authority.rs` has the grammar of `Host` and
//! authority. The loops of both protocols have refused malformed lines, obs-fold and `#` in the target before.

use std::time::Instant;

use actix_web::http::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use actix_web::http::{Method, Uri, Version};
use tidegate_config::{BucketConfig, Kind, LimitsConfig};
use tidegate_s3::late_error;
use tidegate_s3::request::BodyLength;
use tidegate_s3::sigv4::EMPTY_SHA256;

use crate::http::authority::is_authority;
use crate::http::injection::{self, InjectionFinding};
use crate::request_head::{CONTENT_SHA256, COPY_SOURCE, Head, HeaderView};
use crate::upstream::bucket::Bucket;
use crate::upstream::rules::deadline::Deadline;

/// Why request validation refused a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RequestRejection {
    /// Not exactly one valid Host; HTTP/1.0 may have none.
    Host,
    /// Content-Length and Transfer-Encoding together, repeated, or malformed.
    Framing(&'static str),
    /// The target is neither a path nor an http URL.
    Target,
    /// The target contains an attack pattern.
    Suspicious(InjectionFinding),
    /// The target is too long.
    UriTooLong {
        /// Its bytes.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The headers are too large.
    HeadersTooLarge {
        /// Their bytes.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// There are too many headers.
    TooManyHeaders {
        /// Their number.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// A body of unknown length.
    LengthRequired,
    /// The body is too large.
    BodyTooLarge {
        /// Its declared length, if it has one.
        bytes: Option<u64>,
        /// The limit.
        limit: u64,
    },
    /// A method that the gateway does not forward.
    Method,
    /// The client's timeout is not a duration.
    Deadline,
    /// A trusted proxy sent no PROXY header, and the request is not a probe.
    ProxyHeader,
}

/// Validates everything that does not depend on the bucket; returns the length of the body.
pub(crate) fn validate(head: Head<'_>, limits: &LimitsConfig) -> Result<BodyLength, RequestRejection> {
    if !names_one_host(head) {
        return Err(RequestRejection::Host);
    }
    let length = parse_body_length(head.version, head.header_view())?;
    let (count, bytes) = header_size(head.headers);
    if count > limits.max_headers {
        return Err(RequestRejection::TooManyHeaders { count, limit: limits.max_headers });
    }
    if bytes > limits.max_header_size {
        return Err(RequestRejection::HeadersTooLarge { bytes, limit: limits.max_header_size });
    }
    let method = head.method;
    // Whether OPTIONS is allowed depends on the bucket, which is resolved later.
    let forwarded = [Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::DELETE, Method::OPTIONS];
    if !forwarded.contains(method) {
        return Err(RequestRejection::Method);
    }
    let is_http = head.uri.scheme_str().is_none_or(|scheme| matches!(scheme, "http" | "https"));
    if !is_http || !head.uri.path().starts_with('/') {
        return Err(RequestRejection::Target);
    }
    injection::check(head.uri)?;
    let may_upload = length == BodyLength::Empty && matches!(*method, Method::PUT | Method::POST);
    if may_upload && !head.has(&CONTENT_LENGTH) && !declares_empty_body(head) {
        return Err(RequestRejection::LengthRequired);
    }
    Ok(length)
}

/// The number of headers, and their bytes as lines of HTTP/1.1.
pub(crate) fn header_size(headers: &HeaderMap) -> (usize, u64) {
    let (mut bytes, mut count) = (0, 0);
    for (name, value) in headers {
        bytes += name.as_str().len() + value.len() + 4;
        count += 1;
    }
    (count, bytes as u64)
}

/// Whether the request names exactly one host (RFC 9112, 3.2; RFC 9113, 8.3.1): by `Host`, which HTTP/1.1 requires, by the authority of
/// its target, or by both if they agree. HTTP/1.0 may name none.
fn names_one_host(head: Head<'_>) -> bool {
    let mut hosts = head.headers.get_all(HOST);
    let authority = head.uri.authority().map(|authority| authority.as_str().as_bytes());
    match (hosts.next().map(HeaderValue::as_bytes), hosts.next(), authority) {
        (Some(host), None, Some(authority)) => host.eq_ignore_ascii_case(authority) && is_authority(host),
        (Some(host), None, None) => is_authority(host),
        (None, None, Some(authority)) => head.version != Version::HTTP_11 && is_authority(authority),
        (None, None, None) => head.version < Version::HTTP_11,
        _ => false,
    }
}

/// Whether this is `100-continue`, the only expectation (RFC 9110, 10.1.1). Others are ignored, as by Ceph, nginx and
/// HAProxy: a server may ignore them, and the header is not forwarded.
pub(crate) fn is_expect_continue(expectation: &HeaderValue) -> bool {
    expectation.as_bytes().eq_ignore_ascii_case(b"100-continue")
}

/// Validates the limits of a bucket; `bytes` is the size of the body, as far as the head declares it.
pub(crate) fn validate_for_bucket(
    head: Head<'_>,
    bytes: Option<u64>,
    bucket: &BucketConfig,
) -> Result<(), RequestRejection> {
    check_target_length(head.uri, bucket.max_uri_length)?;
    match (bytes, bucket.max_request_size) {
        (Some(bytes), Some(limit)) if bytes > limit => {
            Err(RequestRejection::BodyTooLarge { bytes: Some(bytes), limit })
        }
        _ => Ok(()),
    }
}

/// The deadline of the response's head, with the client's own timeout.
pub(crate) fn request_deadline(
    head: Head<'_>,
    bucket: &Bucket,
    started: Instant,
) -> Result<Deadline, RequestRejection> {
    let is_long = bucket.config.kind == Kind::S3 && late_error::is_possible(head);
    let deadline = Deadline::of(head.header_view(), is_long, &bucket.config.upstream, started);
    deadline.map_err(|_| RequestRejection::Deadline)
}

/// Validates a target that is not a request's target: the key of a form.
pub(crate) fn validate_target(uri: &Uri, uri_max: u64) -> Result<(), RequestRejection> {
    injection::check(uri)?;
    check_target_length(uri, uri_max)
}

fn check_target_length(uri: &Uri, uri_max: u64) -> Result<(), RequestRejection> {
    let target = uri.path_and_query().map_or(0, |target| target.as_str().len()) as u64;
    if target > uri_max {
        Err(RequestRejection::UriTooLong { bytes: target, limit: uri_max })
    } else {
        Ok(())
    }
}

/// Determines the framing of the body (RFC 9112, 6.3).
pub(crate) fn parse_body_length(
    version: Version,
    headers: HeaderView<'_>,
) -> Result<BodyLength, RequestRejection> {
    let mut encodings = headers.values(&TRANSFER_ENCODING);
    let mut lengths = headers.values(&CONTENT_LENGTH);
    match (encodings.next(), lengths.next()) {
        (Some(_), _) if version < Version::HTTP_11 => {
            Err(RequestRejection::Framing("a transfer-encoding on HTTP/1.0"))
        }
        (Some(_), Some(_)) => Err(RequestRejection::Framing("both content-length and transfer-encoding")),
        (Some(encoding), None) => {
            let plain = encodings.next().is_none() && encoding.as_bytes().eq_ignore_ascii_case(b"chunked");
            if plain {
                Ok(BodyLength::Chunked)
            } else {
                Err(RequestRejection::Framing("a transfer-encoding other than chunked"))
            }
        }
        (None, Some(_)) if lengths.next().is_some() => {
            Err(RequestRejection::Framing("repeated content-length"))
        }
        (None, Some(length)) => {
            let digits = length.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            match digits.and_then(|text| text.parse().ok()) {
                Some(0) => Ok(BodyLength::Empty),
                Some(bytes) => Ok(BodyLength::Known(bytes)),
                None => Err(RequestRejection::Framing("malformed content-length")),
            }
        }
        (None, None) => Ok(BodyLength::Empty),
    }
}

/// Whether a request without a length has no body by S3's headers: SDKs omit the length then, as HTTP allows, and a
/// copy or the start of a multipart upload never has a body.
fn declares_empty_body(head: Head<'_>) -> bool {
    let starts_upload = |pair: &str| matches!(pair, "uploads" | "uploads=");
    head.find(&CONTENT_SHA256).is_some_and(|hash| hash == EMPTY_SHA256)
        || head.has(&COPY_SOURCE)
        || (*head.method == Method::POST
            && head.uri.query().is_some_and(|query| query.split('&').any(starts_upload)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_headers::headers;

    fn run(
        method: Method,
        uri: &str,
        pairs: &[(&'static str, &'static str)],
    ) -> Result<BodyLength, RequestRejection> {
        let uri: Uri = uri.parse().unwrap();
        let headers = headers(pairs);
        validate(Head::new(&method, &uri, Version::HTTP_11, &headers), &LimitsConfig::default())
    }

    /// V1
    #[test]
    fn ambiguous_framing_is_refused() {
        let post = |pairs: &[(&'static str, &'static str)]| {
            let mut all = vec![("host", "a")];
            all.extend_from_slice(pairs);
            run(Method::POST, "/b/k", &all)
        };
        assert_eq!(post(&[("content-length", "3")]), Ok(BodyLength::Known(3)));
        assert_eq!(post(&[("transfer-encoding", "chunked")]), Ok(BodyLength::Chunked));
        for bad in [
            &[("content-length", "3"), ("transfer-encoding", "chunked")][..],
            &[("content-length", "3"), ("content-length", "3")],
            &[("content-length", "+3")],
            &[("content-length", "3 ")],
            &[("transfer-encoding", "identity")],
            &[("transfer-encoding", "gzip, chunked")],
        ] {
            assert!(matches!(post(bad), Err(RequestRejection::Framing(_))), "{bad:?}");
        }
    }

    /// V1, V2
    #[test]
    fn host_length_and_method_are_required() {
        assert_eq!(run(Method::GET, "/b/k", &[]), Err(RequestRejection::Host));
        assert_eq!(run(Method::GET, "/b/k", &[("host", "a"), ("host", "b")]), Err(RequestRejection::Host));
        assert_eq!(run(Method::PUT, "/b/k", &[("host", "a")]), Err(RequestRejection::LengthRequired));
        assert_eq!(
            run(Method::PUT, "/b/k", &[("host", "a"), ("content-length", "0")]),
            Ok(BodyLength::Empty)
        );
        assert_eq!(run(Method::TRACE, "/b/k", &[("host", "a")]), Err(RequestRejection::Method));
    }

    /// V2: requests of SDKs without a length and without a body are accepted
    #[test]
    fn a_body_declared_empty_needs_no_length() {
        let empty = |method, uri, header| run(method, uri, &[("host", "a"), header]);
        assert_eq!(empty(Method::PUT, "/b/k", ("x-amz-content-sha256", EMPTY_SHA256)), Ok(BodyLength::Empty));
        assert_eq!(empty(Method::PUT, "/b/k", ("x-amz-copy-source", "/b/j")), Ok(BodyLength::Empty));
        assert_eq!(run(Method::POST, "/b/k?uploads", &[("host", "a")]), Ok(BodyLength::Empty));
        let unsigned = ("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
        assert_eq!(empty(Method::PUT, "/b/k", unsigned), Err(RequestRejection::LengthRequired));
        assert_eq!(run(Method::PUT, "/b/k?uploads", &[("host", "a")]), Err(RequestRejection::LengthRequired));
    }

    /// V1
    #[test]
    fn a_target_is_a_path() {
        let get = |target: &str| run(Method::GET, target, &[("host", "a")]);
        assert_eq!(get("http://other/b/k"), Err(RequestRejection::Host));
        assert_eq!(get("http://a/b/k"), Ok(BodyLength::Empty));
        assert_eq!(get("HTTPS://A/b/k"), Ok(BodyLength::Empty));
        assert_eq!(get("ftp://a/b/k"), Err(RequestRejection::Target));
        assert_eq!(get("*"), Err(RequestRejection::Target));
        assert_eq!(get("/b/http://x"), Ok(BodyLength::Empty));
    }

    /// V1: HTTP/2 names its host by `:authority`, which has no user information and agrees with `Host` if both are
    /// present
    #[test]
    fn an_authority_is_a_host() {
        let get = |target: &str, pairs: &[(&'static str, &'static str)]| {
            let uri: Uri = target.parse().unwrap();
            let headers = headers(pairs);
            let head = Head::new(&Method::GET, &uri, Version::HTTP_2, &headers);
            validate(head, &LimitsConfig::default())
        };
        assert_eq!(get("https://a:1/b/k", &[]), Ok(BodyLength::Empty));
        assert_eq!(get("https://a/b/k", &[("host", "A")]), Ok(BodyLength::Empty));
        assert_eq!(get("/b/k", &[("host", "a")]), Ok(BodyLength::Empty));
        for (target, host) in [("https://user@a/b/k", "user@a"), ("https://a/b/k", "b"), ("/b/k", "a, b")] {
            assert_eq!(get(target, &[("host", host)]), Err(RequestRejection::Host), "{target} {host}");
        }
        assert_eq!(get("https://user:secret@a/b/k", &[]), Err(RequestRejection::Host));
        assert_eq!(get("/b/k", &[]), Err(RequestRejection::Host));
        assert_eq!(get("ftp://a/b/k", &[]), Err(RequestRejection::Target));
    }

    /// V1: only `100-continue` is an expectation; others are ignored
    #[test]
    fn only_100_continue_is_an_expectation() {
        let is = |expect: &str| is_expect_continue(&HeaderValue::from_str(expect).unwrap());
        assert!(is("100-Continue"));
        for other in ["200-ok", "", "100-continue, x", "100-continued"] {
            assert!(!is(other), "{other}");
        }
    }
}
