//! Validates requests that the server library would parse wrongly, before the library gets them.
//!
//! The library decodes a query that is not UTF-8 to other characters, so that its signature does not match; here it is answered 400. The
//! library refuses a range with a number above 2^63 as malformed. By RFC 9110, 14.1.2, a last position beyond the end means the end, and a
//! first position beyond the end is answered 416. Such numbers are replaced by 2^63 - 1, which is beyond the end of every object.

use futures_util::future::{Either, Ready, ready};
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, RANGE};
use hyper::body::Incoming;
use hyper::service::Service;
use s3s::service::S3Service;
use s3s::{HttpError, HttpResponse, S3Result, s3_error};
use tidegate_s3::sigv4::query::decoded_bytes;

/// The largest position that the library reads.
const POSITION_MAX: u64 = i64::MAX as u64;

/// The library's service with the validation in front.
#[derive(Clone)]
pub(super) struct ValidatedService(pub(super) S3Service);

type Answer = Result<HttpResponse, HttpError>;

impl Service<http::Request<Incoming>> for ValidatedService {
    type Response = HttpResponse;
    type Error = HttpError;
    type Future = Either<Ready<Answer>, <S3Service as Service<http::Request<Incoming>>>::Future>;

    fn call(&self, mut request: http::Request<Incoming>) -> Self::Future {
        if let Err(refused) = check_query(request.uri().query().unwrap_or_default()) {
            return Either::Left(ready(
                refused.to_http_response().map_err(|error| HttpError::new(Box::new(error))),
            ));
        }
        bound_range(request.headers_mut());
        Either::Right(Service::call(&self.0, request))
    }
}

fn check_query(query: &str) -> S3Result<()> {
    match str::from_utf8(&decoded_bytes(query)) {
        Ok(_) => Ok(()),
        Err(_) => Err(s3_error!(InvalidURI, "the query is not UTF-8")),
    }
}

/// Bounds the range. A signed range stays unchanged, because the signature covers its text.
fn bound_range(headers: &mut HeaderMap) {
    let is_signed = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.split_once("SignedHeaders="))
        .is_some_and(|(_, names)| {
            names.split([',', ' ']).next().unwrap_or_default().split(';').any(|name| name == "range")
        });
    let Some(range) = headers.get(RANGE).filter(|_| !is_signed) else {
        return;
    };
    if let Some(range) =
        range.to_str().ok().and_then(bounded).and_then(|range| HeaderValue::from_str(&range).ok())
    {
        headers.insert(RANGE, range);
    }
}

/// The range with all numbers replaced that the library cannot parse. None if there are none, or if it is not a single range of bytes.
fn bounded(range: &str) -> Option<String> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(first) || !is_number(last) {
        return None;
    }
    let bound = |text: &str| match text.parse::<u64>() {
        Ok(position) if position <= POSITION_MAX => text.to_owned(),
        _ if text.is_empty() => String::new(),
        _ => POSITION_MAX.to_string(),
    };
    let bounded = format!("bytes={}-{}", bound(first), bound(last));
    (bounded != range).then_some(bounded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_utf_8() {
        for (query, expected) in [
            ("", true),
            ("prefix=%C3%BC&a", true),
            ("prefix=%ff", false),
            ("%ff", false),
            ("a=b&prefix=%C3", false),
        ] {
            assert_eq!(check_query(query).is_ok(), expected, "{query}");
        }
    }

    /// Numbers above 2^63 - 1 and above 2^64 are replaced; other forms than a single range stay unchanged
    #[test]
    fn ranges_are_bounded() {
        let max = "9223372036854775807";
        for (range, expected) in [
            ("bytes=0-9", None),
            ("bytes=-5", None),
            ("bytes=0-9223372036854775807", None),
            ("bytes=0-9223372036854775808", Some(format!("bytes=0-{max}"))),
            ("bytes=0-18446744073709551615", Some(format!("bytes=0-{max}"))),
            ("bytes=0-99999999999999999999999", Some(format!("bytes=0-{max}"))),
            ("bytes=18446744073709551615-", Some(format!("bytes={max}-"))),
            ("bytes=-18446744073709551616", Some(format!("bytes=-{max}"))),
            ("bytes=0-1,99999999999999999999-", None),
            ("bytes=x-", None),
            ("items=0-99999999999999999999", None),
        ] {
            assert_eq!(bounded(range), expected, "{range}");
        }
    }

    #[test]
    fn a_signed_range_stays() {
        let range = "bytes=0-18446744073709551615";
        for (names, expected) in [("host;range", range), ("host", "bytes=0-9223372036854775807")] {
            let mut headers = HeaderMap::new();
            headers.insert(RANGE, HeaderValue::from_static(range));
            let value = format!("AWS4-HMAC-SHA256 Credential=x, SignedHeaders={names}, Signature=y");
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            bound_range(&mut headers);
            assert_eq!(headers[RANGE], expected, "{names}");
        }
    }
}
