//! What a request may be made of, before anything is spent on it (V1–V3). No state, no message.
//!
//! Framing that two parsers could read differently is refused and the connection closed: that is what request
//! smuggling lives on. A target in absolute form is taken if it names the same authority as `Host` (RFC 9112, 3.2.2): of two that
//! differ, some reader would follow the other. `Host` and authority are checked against their grammar in `authority.rs`.
//! Deliberately absent: what the loops of both protocols have refused before (malformed lines, obs-fold, `#` in the target),
//! which never gets here.

use std::time::Instant;

use actix_web::dev::RequestHead;
use actix_web::http::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use actix_web::http::{Method, Uri, Version};
use tidegate_config::{Kind, LimitsConfig};

use crate::http::authority::is_authority;
use crate::http::injection::{self, InjectionFinding};
use crate::router::Bucket;
use crate::s3::copy_source::COPY_SOURCE;
use crate::s3::late_error;
use crate::s3::signer::{CONTENT_SHA256, EMPTY_SHA256};
use crate::upstream::deadline::Deadline;

/// Why a request was refused at the edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RequestRejection {
    /// Not exactly one valid Host; HTTP/1.0 may do without.
    Host,
    /// Content-Length and Transfer-Encoding together, repeated, or not understood.
    Framing(&'static str),
    /// The target is not a path alone.
    Target,
    /// The target looks like an attack.
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
    /// The announced body is too large.
    BodyTooLarge {
        /// Its announced bytes, if it was announced.
        bytes: Option<u64>,
        /// The limit.
        limit: u64,
    },
    /// A method the gateway does not pass on.
    Method,
    /// The client's time is no length of time.
    Deadline,
    /// A trusted proxy sent no PROXY header, and the request is no probe.
    ProxyHeader,
}

/// What the body is said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyLength {
    /// There is none.
    Empty,
    /// So many bytes.
    Known(u64),
    /// Chunked.
    Chunked,
}

impl BodyLength {
    /// Its bytes on the wire, where they are said.
    pub(crate) fn bytes(self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Known(bytes) => Some(bytes),
            Self::Chunked => None,
        }
    }
}

/// The parts of a request that the edge looks at.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) version: Version,
    pub(crate) headers: &'a HeaderMap,
}

impl<'a> From<&'a RequestHead> for Head<'a> {
    fn from(head: &'a RequestHead) -> Self {
        Self { method: &head.method, uri: &head.uri, version: head.version, headers: &head.headers }
    }
}

/// Checks what does not depend on the bucket, and says how long the body is.
pub(crate) fn validate(head: Head<'_>, limits: &LimitsConfig) -> Result<BodyLength, RequestRejection> {
    if !names_one_host(head) {
        return Err(RequestRejection::Host);
    }
    let length = parse_body_length(head.version, head.headers)?;
    let (count, bytes) = header_size(head.headers);
    if count > limits.max_headers {
        return Err(RequestRejection::TooManyHeaders { count, limit: limits.max_headers });
    }
    if bytes > limits.max_header_size {
        return Err(RequestRejection::HeadersTooLarge { bytes, limit: limits.max_header_size });
    }
    let method = head.method;
    // OPTIONS depends on the bucket, which is known later.
    let passes = [Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::DELETE, Method::OPTIONS];
    if !passes.contains(method) {
        return Err(RequestRejection::Method);
    }
    let is_http = head.uri.scheme_str().is_none_or(|scheme| matches!(scheme, "http" | "https"));
    if !is_http || !head.uri.path().starts_with('/') {
        return Err(RequestRejection::Target);
    }
    injection::check(head.uri)?;
    let uploads = length == BodyLength::Empty && matches!(*method, Method::PUT | Method::POST);
    if uploads && !head.headers.contains_key(CONTENT_LENGTH) && !declares_empty_body(head) {
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

/// Whether this is the one expectation there is (RFC 9110, 10.1.1). Others are ignored, as by Ceph, nginx and
/// HAProxy: a server may, and the header ends here.
pub(crate) fn is_expect_continue(expectation: &HeaderValue) -> bool {
    expectation.as_bytes().eq_ignore_ascii_case(b"100-continue")
}

/// Checks what a bucket may set for itself; `bytes` is what comes in the body, as far as the head says it.
pub(crate) fn validate_for_bucket(
    head: Head<'_>,
    bytes: Option<u64>,
    uri_max: u64,
    body_max: Option<u64>,
) -> Result<(), RequestRejection> {
    check_target_length(head.uri, uri_max)?;
    match (bytes, body_max) {
        (Some(bytes), Some(limit)) if bytes > limit => {
            Err(RequestRejection::BodyTooLarge { bytes: Some(bytes), limit })
        }
        _ => Ok(()),
    }
}

/// Until when the answer's head is due, a time of the client's own included.
pub(crate) fn request_deadline(
    head: Head<'_>,
    bucket: &Bucket,
    started: Instant,
) -> Result<Deadline, RequestRejection> {
    let is_long = bucket.config.kind == Kind::S3 && late_error::is_possible(head);
    let deadline = Deadline::of(head.headers, is_long, &bucket.config.upstream, started);
    deadline.map_err(|_| RequestRejection::Deadline)
}

/// Checks a target that did not come as one: the key of a form.
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

/// How the body is delimited (RFC 9112, 6.3), whatever else the head says.
pub(crate) fn parse_body_length(
    version: Version,
    headers: &HeaderMap,
) -> Result<BodyLength, RequestRejection> {
    let mut encodings = headers.get_all(TRANSFER_ENCODING);
    let mut lengths = headers.get_all(CONTENT_LENGTH);
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

/// Whether a request without a length says in S3's words that it has no body: SDKs leave the length out there, as
/// HTTP lets them, and a copy or the start of a multipart upload never has one.
fn declares_empty_body(head: Head<'_>) -> bool {
    let starts_upload = |pair: &str| matches!(pair, "uploads" | "uploads=");
    head.headers.get(CONTENT_SHA256).is_some_and(|hash| hash == EMPTY_SHA256)
        || head.headers.contains_key(COPY_SOURCE)
        || (*head.method == Method::POST
            && head.uri.query().is_some_and(|query| query.split('&').any(starts_upload)))
}

/// Percent-decodes; what is no escape stays as it is.
pub(crate) fn percent_decode(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        if *byte == b'%'
            && let (Some(high), Some(low)) = (digit(at + 1), digit(at + 2))
            && let Ok(value) = u8::try_from(high * 16 + low)
        {
            decoded.push(value);
            at += 3;
        } else {
            decoded.push(*byte);
            at += 1;
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        map
    }

    fn run(
        method: Method,
        uri: &str,
        pairs: &[(&'static str, &'static str)],
    ) -> Result<BodyLength, RequestRejection> {
        let uri: Uri = uri.parse().unwrap();
        let headers = headers(pairs);
        validate(
            Head { method: &method, uri: &uri, version: Version::HTTP_11, headers: &headers },
            &LimitsConfig::default(),
        )
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

    /// V2: what SDKs send without a length because there is no body is no reason to refuse them
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

    /// V1: HTTP/2 names its host by `:authority`, which holds no user, and agrees with `Host` where both are there
    #[test]
    fn an_authority_is_a_host() {
        let get = |target: &str, pairs: &[(&'static str, &'static str)]| {
            let uri: Uri = target.parse().unwrap();
            let headers = headers(pairs);
            let head = Head { method: &Method::GET, uri: &uri, version: Version::HTTP_2, headers: &headers };
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

    /// V1: of expectations there is one; others are ignored
    #[test]
    fn only_the_100_may_be_expected() {
        let is = |expect: &str| is_expect_continue(&HeaderValue::from_str(expect).unwrap());
        assert!(is("100-Continue"));
        for other in ["200-ok", "", "100-continue, x", "100-continued"] {
            assert!(!is(other), "{other}");
        }
    }
}
