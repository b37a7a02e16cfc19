//! Each kind of invalid SigV2 signature is refused.

use super::signer::Signer;
use super::{
    GUEST, ID, SECRET, builder, expected, get, request, s3_error_code, send, send_signed, signer,
    status_code_reason,
};
use crate::auth::signer::Headers;
use crate::support::{Gateway, Response, Upstream};

const TARGET: &str = "/b/k?versionId=1&x-id=GetObject";

fn headers_with_changed(name: &str, change: impl Fn(&str) -> String) -> Headers {
    let mut headers = signer().headers("GET", TARGET, &[]);
    let (_, value) = headers.iter_mut().find(|(each, _)| each == name).unwrap();
    *value = change(value);
    headers
}

fn headers_with(name: &str, value: &str) -> Headers {
    let mut headers = signer().headers("GET", TARGET, &[]);
    headers.push((name.to_owned(), value.to_owned()));
    headers
}

fn headers_of_changed_signer(change: impl Fn(&mut Signer)) -> Headers {
    let mut signer = signer();
    change(&mut signer);
    signer.headers("GET", TARGET, &[])
}

const MISMATCH: (u16, &str, &str) = (403, "SignatureDoesNotMatch", "signature_mismatch");
const MALFORMED: (u16, &str, &str) = (400, "InvalidArgument", "sigv2_malformed");
const MALFORMED_URL: (u16, &str, &str) = (403, "AccessDenied", "sigv2_malformed");
const NO_DATE: (u16, &str, &str) = (403, "AccessDenied", "date_missing");
const AMBIGUOUS: (u16, &str, &str) = (400, "InvalidArgument", "signature_ambiguous");

/// A8, V8: an invalid header is refused, and nothing is sent upstream
#[tokio::test]
async fn a_wrong_header_is_refused() {
    let upstream = Upstream::ok("x");
    let gateway = builder(&upstream).start().await;
    let authorization = |text: &str| headers_with_changed("authorization", |_| text.to_owned());
    let cases = [
        (headers_of_changed_signer(|signer| signer.secret.push('x')), MISMATCH),
        (headers_of_changed_signer(|signer| signer.id.push('x')), (403, "InvalidAccessKeyId", "unknown_key")),
        (
            headers_of_changed_signer(|signer| signer.id.make_ascii_lowercase()),
            (403, "InvalidAccessKeyId", "unknown_key"),
        ),
        (headers_with_changed("authorization", |text| text.trim_end_matches('=').to_owned()), MISMATCH),
        (headers_with_changed("authorization", |text| format!("{text}=")), MISMATCH),
        (
            headers_with_changed("authorization", |text| text.replace("AWS ", "aws ")),
            (400, "InvalidArgument", "authorization_scheme"),
        ),
        (authorization("AWS"), MALFORMED),
        (authorization("AWS "), MALFORMED),
        (authorization("AWS :"), MALFORMED),
        (authorization(&format!("AWS {ID}")), MALFORMED),
        (authorization(&format!("AWS {ID}:")), MALFORMED),
        (authorization(&format!("AWS {ID}:AAAA")), MISMATCH),
        (authorization(&format!("AWS {ID}:{}", "A".repeat(6000))), MISMATCH),
        (
            headers_of_changed_signer(|signer| signer.ahead_seconds = 16 * 60),
            (403, "RequestTimeTooSkewed", "clock_skewed"),
        ),
        (
            headers_of_changed_signer(|signer| signer.ahead_seconds = -16 * 60),
            (403, "RequestTimeTooSkewed", "clock_skewed"),
        ),
        (headers_with_changed("date", |_| "yesterday".to_owned()), NO_DATE),
        (headers_with("date", &signer().date()), NO_DATE),
        (headers_with("x-amz-date", "yesterday"), NO_DATE),
        (headers_with("x-amz-date", &signer().date()), MISMATCH),
        (headers_with("x-amz-acl", "public-read"), MISMATCH),
        (headers_with("X-AMZ-Acl", "public-read"), MISMATCH),
        (headers_with("content-type", "text/plain"), MISMATCH),
        (headers_with("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg=="), MISMATCH),
        (headers_with("authorization", "AWS4-HMAC-SHA256 x"), AMBIGUOUS),
        (headers_with("authorization", "Bearer x"), AMBIGUOUS),
        (headers_with("x-amz-security-token", "t"), (400, "InvalidToken", "security_token")),
    ];
    for (headers, (status, code, reason)) in cases {
        let answer = send(&gateway, "GET", TARGET, &headers, None).await;
        assert_eq!(status_code_reason(&answer), expected(status, code, reason), "{headers:?}");
    }
    let mut without = signer().headers("GET", TARGET, &[]);
    without.retain(|(name, _)| name != "date");
    let answer = send(&gateway, "GET", TARGET, &without, None).await;
    assert_eq!(status_code_reason(&answer), expected(403, "AccessDenied", "date_missing"));
    let twice = [("content-type", "a/b"), ("content-type", "c/d")];
    let headers = signer().headers("GET", TARGET, &twice);
    assert_eq!(send(&gateway, "GET", TARGET, &headers, None).await.reason(), "sigv2_malformed");
    assert_eq!(upstream.count(), 0, "nothing is sent upstream");
    assert_eq!(
        send_signed(&gateway, &signer(), "GET", TARGET).await.complete_status(),
        200,
        "the unchanged one is forwarded"
    );
}

/// A8: with `x-amz-date` the `date` header is ignored: it may be wrong, missing or repeated
#[tokio::test]
async fn x_amz_date_replaces_the_date_header() {
    let upstream = Upstream::ok("x");
    let gateway = builder(&upstream).start().await;
    let at = |date: &str| signer().headers("GET", TARGET, &[("x-amz-date", date)]);
    for date in [signer().date(), super::super::signer().timestamp()] {
        let mut headers = at(&date);
        assert_eq!(send(&gateway, "GET", TARGET, &headers, None).await.complete_status(), 200, "{date}");
        headers.push(("date".to_owned(), "Tue, 27 Mar 2007 19:36:42 GMT".to_owned()));
        assert_eq!(send(&gateway, "GET", TARGET, &headers, None).await.complete_status(), 200, "{date}");
    }
    let mut old = at("Tue, 27 Mar 2007 19:36:42 GMT");
    old.push(("date".to_owned(), signer().date()));
    assert_eq!(send(&gateway, "GET", TARGET, &old, None).await.reason(), "clock_skewed");
}

/// A8, V8: an invalid URL is refused, and nothing is sent upstream
#[tokio::test]
async fn a_wrong_url_is_refused() {
    let upstream = Upstream::ok("x");
    let gateway = builder(&upstream).start().await;
    let expires = signer().expires(60);
    let right = signer().presigned("GET", TARGET, &expires, &[]);
    let replaced = |from: &str, to: &str| {
        assert!(right.contains(from), "{from}");
        right.replacen(from, to, 1)
    };
    let until = |expires: &str| signer().presigned("GET", TARGET, expires, &[]);
    let wrong = Signer::new(ID, "wrong").presigned("GET", TARGET, &expires, &[]);
    let unknown = Signer::new("STRANGER", SECRET).presigned("GET", TARGET, &expires, &[]);
    let cases = [
        (wrong, MISMATCH),
        (unknown, (403, "InvalidAccessKeyId", "unknown_key")),
        (replaced("/b/k", "/b/l"), MISMATCH),
        (replaced("/b/k", "/b//k"), MISMATCH),
        (replaced("/b/k", "/b/%6b"), MISMATCH),
        (replaced("versionId=1", "versionId=2"), MISMATCH),
        (replaced("versionId=1&", ""), MISMATCH),
        (replaced("versionId=1", "versionId=1&versionId=1"), MALFORMED_URL),
        (format!("{right}&partNumber=1"), MISMATCH),
        (format!("{right}&response-content-type=text%2Fhtml"), MISMATCH),
        (format!("{right}&x-amz-acl=public-read"), MISMATCH),
        (format!("{right}&Signature=AAAA"), MALFORMED_URL),
        (format!("{right}&AWSAccessKeyId={ID}"), MALFORMED_URL),
        (format!("{right}&Expires={expires}"), MALFORMED_URL),
        (format!("{right}&expires=9"), MALFORMED_URL),
        (replaced("AWSAccessKeyId", "awsaccesskeyid"), MALFORMED_URL),
        (replaced("Signature", "signature"), MALFORMED_URL),
        (replaced("%3D", ""), MISMATCH),
        (replaced(&format!("&Expires={expires}"), ""), MALFORMED_URL),
        (
            replaced(&format!("Expires={expires}"), &format!("Expires={expires}0")),
            (403, "AccessDenied", "sigv2_lifetime"),
        ),
        (replaced(&format!("Expires={expires}"), "Expires=soon"), MALFORMED_URL),
        (until("0"), (403, "AccessDenied", "presigned_expired")),
        (until(&signer().expires(-2)), (403, "AccessDenied", "presigned_expired")),
        (until(&signer().expires(8 * 86_400)), (403, "AccessDenied", "sigv2_lifetime")),
        (until("18446744073709551615"), MALFORMED_URL),
        (until("-1"), MALFORMED_URL),
        (format!("{TARGET}&Signature=AAAA"), MALFORMED_URL),
        (format!("{TARGET}&AWSAccessKeyId={ID}"), MALFORMED_URL),
        (format!("{right}&X-Amz-Security-Token=t"), (400, "InvalidToken", "security_token")),
        (
            format!("{right}&x-amz-security-token=t&X-Amz-Security-Token=t"),
            (400, "InvalidToken", "security_token"),
        ),
    ];
    for (target, (status, code, reason)) in cases {
        let answer = get(gateway.address(), &target).await;
        assert_eq!(status_code_reason(&answer), expected(status, code, reason), "{target}");
    }
    for method in ["HEAD", "DELETE"] {
        let answer = request(gateway.address(), method, &right, &[], None).await;
        assert_eq!((answer.complete_status(), answer.reason()), (403, "signature_mismatch"), "{method}");
    }
    assert_eq!(upstream.count(), 0);
    assert_eq!(get(gateway.address(), &right).await.complete_status(), 200, "the unchanged one is accepted");
    let other_order = right.replacen("versionId=1&x-id=GetObject", "x-id=Other&versionId=1", 1);
    assert_eq!(get(gateway.address(), &other_order).await.complete_status(), 200, "`x-id` has no effect");
}

/// A8: a request with two kinds of authentication is refused
#[tokio::test]
async fn version_2_beside_version_4_is_refused() {
    let upstream = Upstream::ok("x");
    let gateway = builder(&upstream).start().await;
    let version_4 = super::super::signer();
    let url_2 = signer().presigned("GET", "/b/k", &signer().expires(60), &[]);
    let url_4 = version_4.presigned("GET", "/b/k", "60");
    let query_2 = url_2.split_once('?').unwrap().1;
    let headers_2 = signer().headers("GET", "/b/k", &[]);
    let headers_4 = version_4.headers("GET", "/b/k", "UNSIGNED-PAYLOAD", &[]);
    let cases = [
        (format!("{url_4}&{query_2}"), Headers::new()),
        (format!("{url_4}&AWSAccessKeyId=a"), Headers::new()),
        (format!("{url_4}&Signature=a"), Headers::new()),
        (format!("{url_2}&X-Amz-Algorithm=AWS4-HMAC-SHA256"), Headers::new()),
        (format!("{url_2}&x-amz-date=20130524T000000Z"), Headers::new()),
        (format!("{url_2}&X-Amz-Expires=9"), Headers::new()),
        (url_2.clone(), headers_4.clone()),
        (url_2, headers_2.clone()),
        (url_4, headers_2.clone()),
        ("/b/k?X-Amz-Security-Token=t".to_owned(), headers_2.clone()),
        ("/b/k".to_owned(), [headers_2, headers_4].concat()),
    ];
    for bucket in ["b", "strict"] {
        for (target, headers) in &cases {
            let target = target.replacen("/b/", &format!("/{bucket}/"), 1);
            let answer = send(&gateway, "GET", &target, headers, None).await;
            assert_eq!(
                status_code_reason(&answer),
                expected(400, "InvalidArgument", "signature_ambiguous"),
                "{target} {headers:?}"
            );
        }
    }
    assert_eq!(upstream.count(), 0);
}

/// A8: the error for an expired URL has S3's extra fields
#[tokio::test]
async fn an_expired_urls_error_has_its_end() {
    let upstream = Upstream::ok("x");
    let gateway = builder(&upstream).set("buckets.b.sigv2_max_lifetime", "1h").start().await;
    let ended = get(gateway.address(), &signer().presigned("GET", "/b/k", "1175139620", &[])).await;
    assert!(ended.text().contains("<Message>Request has expired</Message>"), "{}", ended.text());
    assert!(
        ended.text().contains("<Expires>2007-03-29T03:40:20Z<") && ended.text().contains("<ServerTime>20")
    );
    for (seconds, status) in [(3590, 200), (3700, 403)] {
        let url = signer().presigned("GET", "/b/k", &signer().expires(seconds), &[]);
        let answer = get(gateway.address(), &url).await;
        assert_eq!(answer.complete_status(), status, "{seconds}");
        let names_key = answer.text().contains("buckets.NAME.sigv2_max_lifetime");
        assert_eq!(names_key, status == 403, "{}", answer.text());
    }
}

/// A8: the answer to a malformed signature names the parameter
#[tokio::test]
async fn a_malformed_signature_is_answered_with_the_parameter() {
    let upstream = Upstream::ok("x");
    let gateway = builder(&upstream).start().await;
    let right = signer().presigned("GET", TARGET, &signer().expires(60), &[]);
    for (url, named) in [
        (right.replacen("AWSAccessKeyId", "awsaccesskeyid", 1), "AWSAccessKeyId has the wrong case"),
        (format!("{right}&Expires=1"), "Expires is repeated"),
        (format!("{right}&versionId=1"), "`versionId` is repeated"),
        (format!("{right}&partNumber=1%0A2"), "`partNumber` has a line feed"),
        (format!("{right}&x-amz-meta-a=1&x-amz-meta-a=1"), "`x-amz-meta-a` is repeated"),
    ] {
        let answer = get(gateway.address(), &url).await;
        assert_eq!((answer.complete_status(), answer.reason()), (403, "sigv2_malformed"), "{url}");
        assert!(answer.text().contains(named), "{url}: {}", answer.text());
    }
    let long = format!("{right}&x-amz-{}=1%0A", "a".repeat(500));
    let answer = get(gateway.address(), &long).await;
    assert!(answer.text().contains(&format!("`x-amz-{}`", "a".repeat(58))), "{}", answer.text());
    assert_eq!(upstream.count(), 0);
}

/// A8: a temporary key needs its token, in the header or in the query of a URL
#[tokio::test]
async fn a_temporary_key_needs_its_token() {
    let upstream = Upstream::ok("x");
    let gateway = super::with_guest(builder(&upstream))
        .set("keys.guest.session_token", "token/of+guest==")
        .start()
        .await;
    let guest = Signer::new("GUEST", GUEST);
    for (token, status, reason) in [("token/of+guest==", 200, ""), ("another", 400, "security_token")] {
        let headers = guest.headers("GET", "/b/public/k", &[("x-amz-security-token", token)]);
        let answer = send(&gateway, "GET", "/b/public/k", &headers, None).await;
        assert_eq!((answer.complete_status(), answer.reason()), (status, reason), "{token}");
    }
    assert_eq!(send_signed(&gateway, &guest, "GET", "/b/public/k").await.reason(), "unknown_key");
    let url = |query: &str| guest.presigned("GET", &format!("/b/public/k{query}"), &guest.expires(60), &[]);
    let cases: [(&str, u16); 4] = [
        ("?x-amz-security-token=token%2Fof%2Bguest%3D%3D", 200),
        ("?x-amz-security-token=another", 400),
        ("?x-amz-security-token=", 400),
        ("", 403),
    ];
    for (query, status) in cases {
        let answer: Response = get(gateway.address(), &url(query)).await;
        assert_eq!(answer.complete_status(), status, "{query}: {}", s3_error_code(&answer));
    }
    assert_eq!(upstream.count(), 2);
    assert!(upstream.seen().iter().all(|seen| seen.target == "/b/public/k"));
    assert!(upstream.seen().iter().all(|seen| seen.header("x-amz-security-token").is_none()));
    expired(&upstream).await;
}

async fn expired(upstream: &Upstream) {
    let gateway: Gateway =
        super::with_guest(builder(upstream)).set("keys.guest.expires", "2020-01-01T00:00:00Z").start().await;
    let answer = send_signed(&gateway, &Signer::new("GUEST", GUEST), "GET", "/b/public/k").await;
    assert_eq!(status_code_reason(&answer), expected(400, "ExpiredToken", "key_expired"));
}

/// A8, C4: a signature that does not match is answered with the string that the gateway computed, without secrets
#[tokio::test]
async fn a_mismatch_shows_the_string_to_sign() {
    let upstream = Upstream::ok("x");
    let gateway = builder(&upstream).set("keys.reader.session_token", "the-token-of-the-key").start().await;
    let wrong = Signer::new(ID, "wrong");
    let secrets = [
        ("x-amz-security-token", "the-token-of-the-key"),
        ("x-amz-server-side-encryption-customer-key", "a-key-of-the-customer"),
        ("x-amz-meta-a", "shown"),
    ];
    let headers = wrong.headers("GET", "/b/k?acl", &secrets);
    let answer = send(&gateway, "GET", "/b/k?acl", &headers, None).await;
    assert_eq!(status_code_reason(&answer), expected(403, "SignatureDoesNotMatch", "signature_mismatch"));
    let text = answer.text();
    let (_, shown) = text.split_once("<StringToSign>GET\n\n\n").unwrap();
    let (shown, _) = shown.split_once("</StringToSign>").unwrap();
    assert!(shown.ends_with("\n/b/k?acl") && shown.contains("\nx-amz-meta-a:shown\n"), "{shown}");
    assert!(!text.contains("the-token") && !text.contains("a-key-of"), "{text}");
    let with_cdn = signer().headers("GET", "/b/k", &secrets);
    let cdn = [&with_cdn[..], &[("x-amz-cf-id".to_owned(), "5Zx==".to_owned())]].concat();
    assert_eq!(
        send(&gateway, "GET", "/b/k", &cdn, None).await.complete_status(),
        200,
        "a CDN may add its header"
    );
    assert_eq!(upstream.last().header("x-amz-cf-id"), None);
}
