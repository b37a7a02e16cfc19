//! Each kind of invalid signature gets S3's own error code.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::signer::{HOST, Headers};
use super::{ID, Signer, s3_error_code, send, signed_bucket, signer};
use crate::support::{Client, Gateway, Response, Upstream, get, request};

const TARGET: &str = "/b/k?a=1";

async fn gateway() -> (Gateway, Upstream) {
    let upstream = Upstream::ok("x");
    (signed_bucket(&upstream).start().await, upstream)
}

fn headers() -> Headers {
    signer().headers("GET", TARGET, "UNSIGNED-PAYLOAD", &[])
}

/// Status, code and reason.
fn status_code_reason(answer: &Response) -> (u16, String, String) {
    (answer.complete_status(), s3_error_code(answer), answer.reason().to_owned())
}

fn expected(status: u16, code: &str, reason: &str) -> (u16, String, String) {
    (status, code.to_owned(), reason.to_owned())
}

/// The right headers with one value changed.
fn headers_with_changed(name: &str, change: impl Fn(&str) -> String) -> Headers {
    let mut headers = headers();
    let (_, value) = headers.iter_mut().find(|(each, _)| each == name).unwrap();
    *value = change(value);
    headers
}

fn headers_without(name: &str) -> Headers {
    let mut headers = headers();
    headers.retain(|(each, _)| each != name);
    headers
}

fn headers_with(name: &str, value: &str) -> Headers {
    let mut headers = headers();
    headers.push((name.to_owned(), value.to_owned()));
    headers
}

fn headers_of_changed_signer(change: impl Fn(&mut Signer)) -> Headers {
    let mut signer = signer();
    change(&mut signer);
    signer.headers("GET", TARGET, "UNSIGNED-PAYLOAD", &[])
}

/// The same signature with its last digit changed.
fn change_last_digit(text: &str) -> String {
    let (start, last) = text.split_at(text.len() - 1);
    format!("{start}{}", if last == "0" { "1" } else { "0" })
}

/// A1, V8: every invalid `Authorization` header is refused with S3's code, and nothing is sent upstream
#[tokio::test]
async fn a_wrong_authorization_header_is_refused() {
    let (gateway, upstream) = gateway().await;
    let authorization = |change: &dyn Fn(&str) -> String| headers_with_changed("authorization", change);
    let replaced = |from: &'static str, to: &'static str| authorization(&|text| text.replace(from, to));
    let mismatch = (403, "SignatureDoesNotMatch", "signature_mismatch");
    let malformed = (400, "AuthorizationHeaderMalformed", "authorization_malformed");
    let cases = [
        (headers_of_changed_signer(|signer| signer.secret.push('x')), mismatch),
        (authorization(&|text| change_last_digit(text)), mismatch),
        (authorization(&|text| text[..text.len() - 1].to_owned()), mismatch),
        (
            authorization(&|text| {
                text.to_uppercase()
                    .replace("SIGNEDHEADERS", "SignedHeaders")
                    .replace("CREDENTIAL", "Credential")
                    .replace("SIGNATURE", "Signature")
            }),
            malformed,
        ),
        (
            headers_with_changed("x-amz-content-sha256", |_| super::super::support::client::sha256(b"")),
            mismatch,
        ),
        (headers_of_changed_signer(|signer| signer.id.push('x')), (403, "InvalidAccessKeyId", "unknown_key")),
        (headers_of_changed_signer(|signer| signer.region = "EU_WEST_1".to_owned()), malformed),
        (headers_of_changed_signer(|signer| signer.service = "ec2".to_owned()), malformed),
        (replaced("aws4_request", "aws4_reques"), malformed),
        (replaced("Credential=AKIDREADER/", "Credential="), malformed),
        (replaced("SignedHeaders", "Signed"), malformed),
        (replaced(", Signature=", ", Signature=0, Signature="), malformed),
        (authorization(&|text| text.split(", Signature").next().unwrap().to_owned()), malformed),
        (authorization(&|_| "AWS4-HMAC-SHA256".to_owned()), malformed),
        (replaced("host;", "host;host;"), malformed),
        (replaced("host;", "Host;"), malformed),
        (replaced("SignedHeaders=host;x-amz-content-sha256;x-amz-date", "SignedHeaders="), malformed),
        (replaced("host;", ""), (403, "AccessDenied", "header_not_signed")),
        (replaced("host;", "host;x-amz-absent;"), mismatch),
        (headers_with("x-amz-acl", "public-read"), (403, "AccessDenied", "header_not_signed")),
        (
            headers_of_changed_signer(|signer| signer.ahead_seconds = 16 * 60),
            (403, "RequestTimeTooSkewed", "clock_skewed"),
        ),
        (
            headers_of_changed_signer(|signer| signer.ahead_seconds = -16 * 60),
            (403, "RequestTimeTooSkewed", "clock_skewed"),
        ),
    ];
    refuses_each(&gateway, cases).await;
    assert_eq!(upstream.count(), 0, "nothing is sent upstream");
    let unchanged = send(&gateway, "GET", TARGET, &headers(), None).await;
    assert_eq!(unchanged.complete_status(), 200, "the unchanged one is forwarded");
}

type Expected = (u16, &'static str, &'static str);

/// Each of these headers is refused with this status, code and reason.
async fn refuses_each(gateway: &Gateway, cases: impl IntoIterator<Item = (Headers, Expected)>) {
    for (headers, (status, code, reason)) in cases {
        let answer = send(gateway, "GET", TARGET, &headers, None).await;
        assert_eq!(status_code_reason(&answer), expected(status, code, reason), "{headers:?}");
    }
}

/// A1, V8: a request with a missing, repeated or malformed date, payload hash or scheme is refused
#[tokio::test]
async fn wrong_dates_hashes_and_schemes_are_refused() {
    let (gateway, upstream) = gateway().await;
    let authorization = |change: &dyn Fn(&str) -> String| headers_with_changed("authorization", change);
    let malformed = (400, "AuthorizationHeaderMalformed", "authorization_malformed");
    let cases = [
        (headers_without("x-amz-date"), (403, "AccessDenied", "date_missing")),
        (headers_with("x-amz-date", "20130524T000000Z"), (403, "AccessDenied", "date_missing")),
        (
            headers_with_changed("x-amz-date", |_| "yesterday".to_owned()),
            (403, "AccessDenied", "date_missing"),
        ),
        (headers_with_changed("x-amz-date", |_| "20130524T000000Z".to_owned()), malformed),
        (headers_without("x-amz-content-sha256"), (400, "InvalidRequest", "content_sha256_missing")),
        (
            headers_with("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
            (400, "InvalidArgument", "content_sha256_malformed"),
        ),
        (
            headers_with_changed("x-amz-content-sha256", |_| "STREAMING".to_owned()),
            (400, "InvalidArgument", "content_sha256_malformed"),
        ),
        (
            headers_with("authorization", "AWS4-HMAC-SHA256 x"),
            (400, "InvalidArgument", "signature_ambiguous"),
        ),
        (authorization(&|_| "Basic YTpi".to_owned()), (400, "InvalidArgument", "authorization_scheme")),
        (authorization(&|_| String::new()), (400, "InvalidArgument", "authorization_scheme")),
        (
            authorization(&|_| format!("AWS {ID}:c2lnbmF0dXJl")),
            (501, "NotImplemented", "signature_not_implemented"),
        ),
        (
            authorization(&|text| text.replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256")),
            (501, "NotImplemented", "signature_not_implemented"),
        ),
    ];
    refuses_each(&gateway, cases).await;
    let token = signer().headers("GET", TARGET, "UNSIGNED-PAYLOAD", &[("x-amz-security-token", "t")]);
    let answer = send(&gateway, "GET", TARGET, &token, None).await;
    assert_eq!(status_code_reason(&answer), expected(400, "InvalidToken", "security_token"));
    assert_eq!(upstream.count(), 0, "nothing is sent upstream");
}

/// A1: the signature covers method, path, query and signed headers
#[tokio::test]
async fn a_signature_is_valid_for_one_request() {
    let (gateway, upstream) = gateway().await;
    for (method, target) in [
        ("HEAD", TARGET),
        ("DELETE", TARGET),
        ("GET", "/b/l?a=1"),
        ("GET", "/b/k"),
        ("GET", "/b/k?a=2"),
        ("GET", "/b/k?a=1&a=1"),
        ("GET", "/b/K?a=1"),
    ] {
        let answer = send(&gateway, method, target, &headers(), None).await;
        assert_eq!(
            (answer.complete_status(), answer.reason()),
            (403, "signature_mismatch"),
            "{method} {target}"
        );
    }
    let with_meta = signer().headers("GET", TARGET, "UNSIGNED-PAYLOAD", &[("x-amz-meta-a", "1")]);
    let forged: Headers = with_meta
        .into_iter()
        .map(|(name, value)| {
            let value = if name == "x-amz-meta-a" { "2".to_owned() } else { value };
            (name, value)
        })
        .collect();
    assert_eq!(send(&gateway, "GET", TARGET, &forged, None).await.reason(), "signature_mismatch");
    assert_eq!(upstream.count(), 0);
}

/// A1: the signature covers the host, so a signature for another gateway is refused
#[tokio::test]
async fn a_signature_is_valid_for_one_host() {
    let (gateway, upstream) = gateway().await;
    let headers: String = headers().iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    for (host, status) in [("other.test", 403), (HOST, 200)] {
        let mut client = Client::connect(gateway.address()).await;
        client.send(format!("GET {TARGET} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n").into_bytes()).await;
        assert_eq!(client.response("GET").await.complete_status(), status, "{host}");
    }
    assert_eq!(upstream.count(), 1);
}

/// A1, V8: every invalid presigned URL is refused with S3's code
#[tokio::test]
async fn a_wrong_presigned_url_is_refused() {
    let (gateway, upstream) = gateway().await;
    let right = signer().presigned("GET", TARGET, "60");
    let replaced = |from: &str, to: &str| right.replacen(from, to, 1);
    let by = |change: &dyn Fn(&mut Signer), expires: &str| {
        let mut signer = signer();
        change(&mut signer);
        signer.presigned("GET", TARGET, expires)
    };
    let mismatch = (403, "SignatureDoesNotMatch", "signature_mismatch");
    let malformed = (400, "AuthorizationQueryParametersError", "presigned_malformed");
    let cases = [
        (by(&|signer| signer.secret.push('x'), "60"), mismatch),
        (right[..right.len() - 1].to_owned(), mismatch),
        (replaced("a=1", "a=2"), mismatch),
        (replaced("/b/k", "/b/l"), mismatch),
        (format!("{right}&extra=1"), mismatch),
        (by(&|signer| signer.id.push('x'), "60"), (403, "InvalidAccessKeyId", "unknown_key")),
        (by(&|signer| signer.region = "EU_WEST_1".to_owned(), "60"), malformed),
        (by(&|signer| signer.service = "sts".to_owned(), "60"), malformed),
        (by(&|_| (), "604801"), (403, "AuthorizationQueryParametersError", "presigned_malformed")),
        (by(&|_| (), "-1"), (403, "AuthorizationQueryParametersError", "presigned_malformed")),
        (by(&|_| (), "soon"), malformed),
        (
            by(&|_| (), "99999999999999999999"),
            (403, "AuthorizationQueryParametersError", "presigned_malformed"),
        ),
        (by(&|signer| signer.ahead_seconds = -120, "60"), (403, "AccessDenied", "presigned_expired")),
        (by(&|signer| signer.ahead_seconds = 3600, "60"), (403, "AccessDenied", "presigned_early")),
        (replaced("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"), malformed),
        (
            replaced("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
            (501, "NotImplemented", "signature_not_implemented"),
        ),
        (replaced("&X-Amz-Expires=60", ""), malformed),
        (replaced("&X-Amz-SignedHeaders=host", ""), malformed),
        (replaced("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=x-amz-date"), mismatch),
        (replaced("X-Amz-Algorithm=AWS4-HMAC-SHA256&", ""), malformed),
        (replaced("X-Amz-Date=", "X-Amz-Date=x"), malformed),
        (format!("{right}&X-Amz-Signature=00"), malformed),
        (format!("{right}&X-Amz-Expires=604800"), malformed),
        (
            replaced("X-Amz-Expires=60", "X-Amz-Expires=604801"),
            (403, "AuthorizationQueryParametersError", "presigned_malformed"),
        ),
        (
            replaced("X-Amz-Expires=60", "X-Amz-Expires=-60"),
            (403, "AuthorizationQueryParametersError", "presigned_malformed"),
        ),
        (replaced("X-Amz-Expires=60", "X-Amz-Expires=6x"), malformed),
        (replaced("X-Amz-Expires", "x-amz-expires"), malformed),
        (format!("{TARGET}&x-amz-signature=00"), malformed),
        (format!("{TARGET}&X-Amz-Security-Token=t"), malformed),
        (format!("{TARGET}&X%2DAmz-Credential=t"), malformed),
        (format!("{right}&X-Amz-Security-Token=t"), (400, "InvalidToken", "security_token")),
        (
            format!("{TARGET}&AWSAccessKeyId={ID}&Expires=9&Signature=x"),
            (501, "NotImplemented", "signature_not_implemented"),
        ),
    ];
    for (target, (status, code, reason)) in cases {
        let answer = get(gateway.address(), &target).await;
        assert_eq!(status_code_reason(&answer), expected(status, code, reason), "{target}");
    }
    let both = send(&gateway, "GET", &right, &headers(), None).await;
    assert_eq!(status_code_reason(&both), expected(400, "InvalidArgument", "signature_ambiguous"));
    assert_eq!(upstream.count(), 0);
    assert_eq!(get(gateway.address(), &right).await.complete_status(), 200, "the unchanged one is accepted");
    assert_eq!(upstream.seen()[0].target, TARGET, "and its signature is not forwarded");
}

/// A1, V11: store headers must be signed, because the store obeys headers that were added in transit
#[tokio::test]
async fn store_headers_must_be_signed() {
    let (gateway, upstream) = gateway().await;
    let not_signed = expected(403, "AccessDenied", "header_not_signed");
    for added in [("x-amz-acl", "public-read"), ("x-minio-extract", "true"), ("X-MinIO-Force-Delete", "true")]
    {
        let answer = send(&gateway, "GET", TARGET, &headers_with(added.0, added.1), None).await;
        assert_eq!(status_code_reason(&answer), not_signed, "{added:?}");
        for method in ["GET", "DELETE"] {
            let url = signer().presigned(method, TARGET, "60");
            let answer = request(gateway.address(), method, &url, &[added], None).await;
            assert_eq!(status_code_reason(&answer), not_signed, "{method} {added:?}");
        }
    }
    assert_eq!(upstream.count(), 0);
    let signed = signer().headers("GET", TARGET, "UNSIGNED-PAYLOAD", &[("x-minio-extract", "true")]);
    assert_eq!(send(&gateway, "GET", TARGET, &signed, None).await.complete_status(), 200);
}

/// A1: errors have the fields that S3 adds for SDKs to correct themselves
#[tokio::test]
async fn errors_have_the_fields_for_self_correction() {
    let (gateway, _upstream) = gateway().await;
    let late = send(
        &gateway,
        "GET",
        TARGET,
        &headers_of_changed_signer(|signer| signer.ahead_seconds = -3600),
        None,
    )
    .await;
    assert!(late.text().contains("<MaxAllowedSkewMilliseconds>900000</MaxAllowedSkewMilliseconds>"));
    // SDKs correct their clocks by the server time in the error.
    for element in ["RequestTime", "ServerTime"] {
        let text = late.text();
        let (_, rest) = text.split_once(&format!("<{element}>")).unwrap();
        let moment = OffsetDateTime::parse(rest.split('<').next().unwrap(), &Rfc3339).unwrap();
        let ago = OffsetDateTime::now_utc() - moment;
        let expected = if element == "ServerTime" { 0 } else { 3600 };
        assert!((ago.whole_seconds() - expected).abs() < 60, "{element}: {text}");
    }
    let nearly = headers_of_changed_signer(|signer| signer.ahead_seconds = -14 * 60);
    assert_eq!(send(&gateway, "GET", TARGET, &nearly, None).await.complete_status(), 200);
}

/// A1: the error for an expired or not yet valid presigned URL has its lifetime, its end and the server time, as in S3
#[tokio::test]
async fn an_expired_urls_error_has_its_times() {
    let (gateway, _upstream) = gateway().await;
    let within = |answer: &Response, element: &str, seconds: i64| {
        let text = answer.element(element).unwrap_or_default();
        let moment = OffsetDateTime::parse(&text, &Rfc3339).unwrap();
        let ahead = (moment - OffsetDateTime::now_utc()).whole_seconds();
        assert!((ahead - seconds).abs() < 60, "{element}: {text}");
    };
    for (ahead_seconds, message) in [(-3600, "Request has expired"), (3600, "Request is not yet valid")] {
        let url = Signer { ahead_seconds, ..signer() }.presigned("GET", TARGET, "60");
        let answer = get(gateway.address(), &url).await;
        assert_eq!(answer.element("Code").as_deref(), Some("AccessDenied"));
        assert_eq!(answer.element("Message").as_deref(), Some(message));
        assert_eq!(answer.element("X-Amz-Expires").as_deref(), Some("60"));
        within(&answer, "Expires", ahead_seconds + 60);
        within(&answer, "ServerTime", 0);
    }
}

/// A4: a bucket that requires signatures refuses unauthenticated requests and forms
#[tokio::test]
async fn unsigned_requests_are_refused() {
    let (gateway, upstream) = gateway().await;
    let answer = get(gateway.address(), "/b/k").await;
    assert_eq!(status_code_reason(&answer), expected(403, "AccessDenied", "not_signed"));
    let kind = [("content-type", "multipart/form-data; boundary=x")];
    let form = b"--x\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nk\r\n--x\r\n\
                 Content-Disposition: form-data; name=\"file\"\r\n\r\ndata\r\n--x--\r\n";
    let answer = request(gateway.address(), "POST", "/b", &kind, Some(form)).await;
    assert_eq!(status_code_reason(&answer), expected(403, "AccessDenied", "not_signed"));
    assert_eq!(upstream.count(), 0);
}
