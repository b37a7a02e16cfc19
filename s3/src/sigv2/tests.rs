//! The published examples of the S3 User Guide, and ambiguous requests.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;
use crate::sample_request::SampleRequest;
use crate::sigv2::canonical::{canonical_resources, signature_bytes, string_to_sign_lines, verify_hmac};
use crate::sigv4::{PayloadHash, SignatureRejection};

const ID: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// 27 March 2007, 19:36:42.
const DATE_SECONDS: u64 = 1_175_024_202;
const DATE: &str = "Tue, 27 Mar 2007 19:36:42 +0000";

/// A request as the gateway receives it. `bucket` is the bucket in the host.
struct Sent {
    request: SampleRequest,
    bucket: Option<&'static str>,
}

impl Sent {
    fn new(method: &str, target: &str, headers: &[(&str, &str)]) -> Self {
        Self { request: SampleRequest::new(method, target, headers.iter().copied()), bucket: None }
    }

    fn to(self, bucket: &'static str) -> Self {
        Self { bucket: Some(bucket), ..self }
    }

    fn verify(&self) -> Result<PayloadHash, SignatureRejection> {
        let head = &self.request;
        check_single_auth(head)?;
        Ok(PresentedSigV2::from_request(head)?.verify(head, self.bucket, SECRET)?.payload)
    }

    fn check_time(&self, now_seconds: u64) -> Result<(), SignatureRejection> {
        PresentedSigV2::from_request(&self.request)?
            .check_time(SystemTime::UNIX_EPOCH + Duration::from_secs(now_seconds), WEEK)
    }

    /// The string to sign with the first spelling of the resource.
    fn string_to_sign(&self, date: &str, location: SigV2Location) -> Result<String, SignatureRejection> {
        let head = &self.request;
        let lines = string_to_sign_lines(head, date.as_bytes(), location, |_| false)?;
        let resource = canonical_resources(head, self.bucket, location)?.remove(0);
        Ok(String::from_utf8([lines, resource].concat()).unwrap())
    }
}

fn authorized(signature: &str) -> (&'static str, String) {
    ("authorization", format!("AWS {ID}:{signature}"))
}

/// A request with a date and a signature in its headers.
fn signed(method: &str, target: &str, signature: &str, date: &str, more: &[(&str, &str)]) -> Sent {
    let (name, authorization) = authorized(signature);
    let headers = [&[("date", date), (name, authorization.as_str())], more].concat();
    Sent::new(method, target, &headers)
}

/// A8: the examples of the S3 User Guide ("Authentication Examples"), each with its published signature
#[test]
fn the_documented_examples_are_accepted() {
    let upload = [
        ("x-amz-acl", "public-read"),
        ("content-type", "application/x-download"),
        ("content-md5", "4gJE4saaMU4BqNR0kLY+lw=="),
        ("x-amz-meta-reviewedby", "joe@johnsmith.net"),
        ("x-amz-meta-reviewedby", "jane@johnsmith.net"),
        ("x-amz-meta-filechecksum", "0x02661779"),
        ("x-amz-meta-checksumalgorithm", "crc32"),
        ("content-disposition", "attachment; filename=database.dat"),
        ("content-encoding", "gzip"),
    ];
    let all = [
        signed("GET", "/photos/puppy.jpg", "bWq2s1WEIj+Ydj0vQ697zp+IXMU=", DATE, &[]).to("johnsmith"),
        signed(
            "PUT",
            "/photos/puppy.jpg",
            "MyyxeRY7whkBe+bq8fHCL/2kKUg=",
            "Tue, 27 Mar 2007 21:15:45 +0000",
            &[("content-type", "image/jpeg"), ("content-length", "94328")],
        )
        .to("johnsmith"),
        signed(
            "GET",
            "/?prefix=photos&max-keys=50&marker=puppy",
            "htDYFYduRNen8P9ZfE/s9SuKy0U=",
            "Tue, 27 Mar 2007 19:42:41 +0000",
            &[("user-agent", "Mozilla/5.0")],
        )
        .to("johnsmith"),
        signed("GET", "/?acl", "c2WLPFtWHVgbEmeEG93a4cG37dM=", "Tue, 27 Mar 2007 19:44:46 +0000", &[])
            .to("johnsmith"),
        signed(
            "PUT",
            "/db-backup.dat.gz",
            "ilyl83RwaSoYIEdixDQcA4OnAnc=",
            "Tue, 27 Mar 2007 21:06:08 +0000",
            &upload,
        )
        .to("static.johnsmith.net"),
        signed("GET", "/", "qGdzdERIC03wnaRNKh6OqZehG9s=", "Wed, 28 Mar 2007 01:29:59 +0000", &[]),
        signed(
            "GET",
            "/dictionary/fran%C3%A7ais/pr%c3%a9f%c3%a8re",
            "DNEZGsoieTZ92F3bUfSPQcbGmlM=",
            "Wed, 28 Mar 2007 01:49:49 +0000",
            &[],
        ),
        Sent::new(
            "GET",
            "/photos/puppy.jpg?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE\
             &Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D&Expires=1175139620",
            &[],
        )
        .to("johnsmith"),
    ];
    for sent in all {
        assert_eq!(
            sent.verify(),
            Ok(PayloadHash::Unsigned),
            "{} {}",
            sent.request.method,
            sent.request.target
        );
    }
}

/// A8: with `x-amz-date` the date line is empty, as the guide's text defines; its example signs another string
#[test]
fn the_date_line_is_empty_with_the_amazon_date() {
    let more = [("x-amz-date", "Tue, 27 Mar 2007 21:20:26 +0000")];
    let delete = |signature| {
        let date = "Tue, 27 Mar 2007 21:20:27 +0000";
        signed("DELETE", "/johnsmith/photos/puppy.jpg", signature, date, &more)
    };
    assert!(delete("R4dJ53KECjStyBO5iTBJZ4XVOaI=").verify().is_ok());
    assert_eq!(delete("lx3byBScXR6KzyMaifNkardMwNk=").verify(), Err(SignatureRejection::Mismatch));
}

/// A8: the content and order of the string to sign
#[test]
fn headers_and_parameters_are_sorted() {
    let sent = Sent::new(
        "PUT",
        "/b/a%20b//~?versionId=3&prefix=p&acl&response-content-type=text%2Fplain%3B+charset%3Dutf-8",
        &[
            ("X-Amz-Meta-B", "  two   words "),
            ("x-amz-meta-a", "1"),
            ("x-amz-meta-a", "2"),
            ("content-type", " text/plain "),
            ("range", "bytes=0-1"),
        ],
    );
    assert_eq!(
        sent.string_to_sign(DATE, SigV2Location::Header).unwrap(),
        format!(
            "PUT\n\ntext/plain\n{DATE}\nx-amz-meta-a:1,2\nx-amz-meta-b:two   words\n\
             /b/a%20b//~?acl&response-content-type=text/plain; charset=utf-8&versionId=3"
        )
    );
    let presigned = Sent::new(
        "PUT",
        "/b/k?X-Amz-Meta-Who=me%20and&x-amz-acl=private&content-type=text%2Fplain",
        &[("x-amz-acl", "private")],
    );
    assert_eq!(
        presigned.string_to_sign("9", SigV2Location::Query).unwrap(),
        "PUT\n\n\n9\nx-amz-acl:private\nx-amz-meta-who:me and\n/b/k"
    );
}

/// A8: botocore signs a slash at the end of a bucket's path, and signers differ on an empty value's `=`
#[test]
fn every_spelling_of_the_same_resource_is_tried() {
    let spelled = |target: &str, bucket| {
        let sent = Sent::new("GET", target, &[]);
        let all = canonical_resources(&sent.request, bucket, SigV2Location::Header).unwrap();
        all.into_iter().map(|bytes| String::from_utf8(bytes).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(spelled("/b?uploads", None), ["/b?uploads", "/b/?uploads"]);
    assert_eq!(spelled("/b/k?acl=", None), ["/b/k?acl=", "/b/k?acl"]);
    assert_eq!(spelled("/b?acl=", None), ["/b?acl=", "/b?acl", "/b/?acl=", "/b/?acl"]);
    assert_eq!(spelled("/?acl", Some("b")), ["/b/?acl"]);
    assert_eq!(spelled("/k", Some("b")), ["/b/k"]);
    assert_eq!(spelled("/", None), ["/"]);
}

/// A8, V12: a value with the same string to sign as further parameters could be replaced by them
#[test]
fn ambiguous_values_are_rejected() {
    for query in [
        "response-content-type=a%26versionId%3D3",
        "partNumber=1%26uploadId%3Dx",
        "versionId=1%26acl",
        "response-expires=a%0Ab",
        "acl&acl",
        "versionId=1&version%49d=1",
    ] {
        let sent = Sent::new("GET", &format!("/b/k?{query}"), &[]);
        let result = sent.string_to_sign(DATE, SigV2Location::Header);
        assert!(
            matches!(
                result,
                Err(SignatureRejection::SigV2(SigV2Rejection::Malformed(SigV2Location::Header, _)))
            ),
            "{query}: {result:?}"
        );
    }
    let name = Sent::new("GET", "/b/k?response-content-disposition=filename%3D%22a%26b.txt%22", &[]);
    assert!(
        name.string_to_sign(DATE, SigV2Location::Header).is_ok(),
        "an ampersand alone does not start a parameter"
    );
    for hoisted in ["x-amz-a=1%0Ax-amz-acl:private", "x-amz-a=1&X-Amz-A=1", "x-amz-a%3Ab=1"] {
        let sent = Sent::new("GET", &format!("/b/k?{hoisted}"), &[]);
        assert!(sent.string_to_sign("9", SigV2Location::Query).is_err(), "{hoisted}");
    }
    let twice = Sent::new("GET", "/b/k?x-amz-acl=private", &[("x-amz-acl", "public-read")]);
    assert_eq!(twice.string_to_sign("9", SigV2Location::Query), Err(SignatureRejection::Mismatch));
    let beside_header = Sent::new("GET", "/b/k?x-amz-acl=private", &[]);
    assert!(matches!(
        beside_header.string_to_sign(DATE, SigV2Location::Header),
        Err(SignatureRejection::SigV2(SigV2Rejection::Uncovered(name))) if name == "x-amz-acl"
    ));
}

/// A8: only the canonical base64 of a signature is accepted
#[test]
fn a_signature_has_one_spelling() {
    let right = "bWq2s1WEIj+Ydj0vQ697zp+IXMU=";
    assert!(signature_bytes(right).is_ok());
    for bad in [
        "bWq2s1WEIj-Ydj0vQ697zp-IXMU=",
        "bWq2s1WEIj+Ydj0vQ697zp+IXMU",
        "bWq2s1WEIj+Ydj0vQ697zp+IXMV=",
        "bWq2s1WEIj+Ydj0vQ697zp+IXMU==",
        " bWq2s1WEIj+Ydj0vQ697zp+IXMU=",
        "bWq2s1WEIj+Ydj0v\nQ697zp+IXMU=",
        "6d6ab6b3558422",
        "",
    ] {
        assert_eq!(signature_bytes(bad), Err(SignatureRejection::Mismatch), "{bad}");
    }
}

/// A8: every format of HTTP dates, and the two other formats that clients send
#[test]
fn dates_are_parsed_in_every_format() {
    for date in [
        DATE,
        "Tue, 27 Mar 2007 19:36:42 GMT",
        "Tuesday, 27-Mar-07 19:36:42 GMT",
        "Tue Mar 27 19:36:42 2007",
        "20070327T193642Z",
        "Tue, 27 Mar 2007 21:36:42 +0200",
    ] {
        let sent = signed("GET", "/b/k", "x", date, &[]);
        for (ahead, is_right) in [(0, true), (900, true), (901, false)] {
            assert_eq!(sent.check_time(DATE_SECONDS + ahead).is_ok(), is_right, "{date} {ahead}");
            assert_eq!(sent.check_time(DATE_SECONDS - ahead).is_ok(), is_right, "{date} -{ahead}");
        }
    }
    for bad in [
        "",
        "yesterday",
        "1175024202",
        "2007-03-27T19:36:42Z",
        "Tue, 31 Feb 2007 19:36:42 GMT",
        "Tue, 07 Jul 1950 21:53:04 +0000",
    ] {
        assert_eq!(
            signed("GET", "/b/k", "x", bad, &[]).verify(),
            Err(SignatureRejection::MissingDate),
            "{bad}"
        );
    }
}

/// A8: the expiration of a URL is in the future, and not too far
#[test]
fn a_url_is_valid_until_its_expiration() {
    let expiring = |expires: &str| {
        Sent::new("GET", &format!("/b/k?AWSAccessKeyId={ID}&Signature=x&Expires={expires}"), &[])
    };
    let sent = expiring("1000000");
    assert_eq!(sent.check_time(1_000_000), Ok(()));
    assert_eq!(sent.check_time(1_000_000 - WEEK.as_secs()), Ok(()));
    assert_eq!(
        sent.check_time(1_000_000 - WEEK.as_secs() - 1),
        Err(SigV2Rejection::TooFarAhead { max: WEEK }.into())
    );
    assert!(matches!(
        sent.check_time(1_000_001),
        Err(SignatureRejection::SigV2(SigV2Rejection::Expired { .. }))
    ));
    for bad in ["", "-1", "+9", "9.5", "1e9", "99999999999999999999", "18446744073709551615", "soon"] {
        assert!(matches!(
            expiring(bad).verify(),
            Err(SignatureRejection::SigV2(SigV2Rejection::Malformed(SigV2Location::Query, _)))
        ));
    }
}

/// A8: an `aws-chunked` body is rejected, and a payload hash is parsed if the client sends one
#[test]
fn chunked_bodies_are_rejected() {
    let with = |name: &str, value: &str| {
        let sent = signed("PUT", "/b/k", "bWq2s1WEIj+Ydj0vQ697zp+IXMU=", DATE, &[(name, value)]);
        sent.verify()
    };
    for (name, value) in [
        ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
        ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
        ("content-encoding", "gzip, AWS-Chunked"),
        ("x-amz-decoded-content-length", "5"),
        ("x-amz-trailer", "x-amz-checksum-crc32"),
    ] {
        assert_eq!(with(name, value), Err(SigV2Rejection::ChunkedBody.into()), "{name}");
    }
    assert_eq!(with("content-encoding", "gzip"), Err(SignatureRejection::Mismatch));
    assert_eq!(with("x-amz-content-sha256", "none"), Err(SignatureRejection::MalformedContentSha256));
}

/// A8: the signature covers the base64 text of the policy, as in the S3 User Guide's page on SigV2 forms
#[test]
fn the_base64_text_of_a_policy_is_signed() {
    let policy = "eyJleHBpcmF0aW9uIjogIjIwMjYtMTEtMjlUMjE6NTA6MjNaIiwgImNvbmRpdGlvbnMiOiBbeyJidWNrZXQiOiAiYmt0In0sIHsia2V5\
                  IjogImsifV19";
    // Computed with botocore.
    let signature = "L/EcpLRAXEeqN7oLkGZmxbh+2Ok=";
    assert_eq!(verify_policy(policy, signature, "sec"), Ok(()));
    for (policy, secret) in [(policy, "sed"), (&policy[4..], "sec"), ("", "sec")] {
        assert_eq!(verify_policy(policy, signature, secret), Err(SignatureRejection::Mismatch));
    }
}

proptest! {
    /// A8, V12: two queries with the same string to sign have the same covered parameters
    #[test]
    fn no_two_queries_share_a_string_to_sign(
        one in proptest::collection::vec((0_usize..8, "(&acl|&versionId=|=|%26|%3D|a|b|;){0,4}"), 0..4),
        other in proptest::collection::vec((0_usize..8, "(&acl|&versionId=|=|%26|%3D|a|b|;){0,4}"), 0..4),
    ) {
        const NAMES: [&str; 8] =
            ["acl", "versionId", "uploadId", "partNumber", "response-expires", "prefix", "x-amz-a", "x-amz-b"];
        let query = |parts: &[(usize, String)]| {
            parts.iter().map(|(at, value)| format!("{}={value}", NAMES[*at])).collect::<Vec<_>>().join("&")
        };
        let signed = |query: &str| Sent::new("GET", &format!("/b/k?{query}"), &[]).string_to_sign("9", SigV2Location::Query);
        let (one, other) = (query(&one), query(&other));
        if let (Ok(first), Ok(second)) = (signed(&one), signed(&other)) && first == second {
            prop_assert_eq!(covered_pairs(&one), covered_pairs(&other));
        }
    }

    /// A8: a signature verifies for one secret and one string only
    #[test]
    fn a_signature_fits_one_string(secret in "[ -~]{0,80}", text in ".{0,80}", at in 0_usize..20, bit in 0_u8..8) {
        let code = code(&secret, text.as_bytes());
        prop_assert!(verify_hmac(&secret, [text.as_bytes(), b""], &code));
        prop_assert!(!verify_hmac(&secret, [text.as_bytes(), b"x"], &code));
        let mut other = code;
        other[at] ^= 1 << bit;
        prop_assert!(!verify_hmac(&secret, [text.as_bytes(), b""], &other));
    }
}

/// The decoded pairs of a query that SigV2 covers, sorted.
fn covered_pairs(query: &str) -> Vec<(String, Vec<u8>)> {
    let decode = |part: &str| crate::sigv4::query::decoded_bytes(part).into_owned();
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut covered: Vec<_> = pairs
        .map(|(name, value)| (String::from_utf8_lossy(&decode(name)).into_owned(), decode(value)))
        .filter(|(name, _)| query::covers(name))
        .collect();
    covered.sort();
    covered
}

fn code(secret: &str, data: &[u8]) -> [u8; 20] {
    use hmac::{Hmac, KeyInit, Mac};
    let mac = Hmac::<sha1::Sha1>::new_from_slice(secret.as_bytes()).unwrap();
    mac.chain_update(data).finalize().into_bytes().into()
}
