//! POST forms that are signed with SigV2.

use super::signer::Signer;
use super::{GUEST, ID, SECRET, builder, expected, request, signer, status_code_reason, with_guest};
use crate::auth::signer::Headers;
use crate::support::{Gateway, Response, Upstream, UpstreamReply};

const BOUNDARY: &str = "----WebKitFormBoundaryAbC";

/// The fields of a signed form, each with its condition.
pub(super) fn signed(signer: &Signer, fields: &[(&str, &str)]) -> Headers {
    signed_until("2099-01-01T00:00:00Z", signer, fields)
}

fn signed_until(end: &str, signer: &Signer, fields: &[(&str, &str)]) -> Headers {
    let conditions: Vec<String> = [("bucket", "b")]
        .iter()
        .chain(fields)
        .map(|(name, value)| format!("{{\"{name}\": \"{value}\"}}"))
        .collect();
    let policy = format!("{{\"expiration\": \"{end}\", \"conditions\": [{}]}}", conditions.join(", "));
    let mut all: Headers =
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    all.extend(signer.form_fields(&policy));
    all
}

pub(super) async fn post(gateway: &Gateway, target: &str, fields: &Headers) -> Response {
    let mut form = String::new();
    for (name, value) in fields {
        form +=
            &format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    }
    form += &format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\ndata\r\n--{BOUNDARY}--\r\n"
    );
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    request(gateway.address(), "POST", target, &[("content-type", &kind)], Some(form.as_bytes())).await
}

fn storing_upstream() -> Upstream {
    Upstream::start(|_| UpstreamReply::ok("").header("etag", "\"e\""))
}

/// A8: a form with a signed policy becomes an upload, and none of its signature fields is forwarded
#[tokio::test]
async fn a_form_becomes_an_upload() {
    let upstream = storing_upstream();
    let gateway = with_guest(builder(&upstream)).set("buckets.b.sigv2_max_lifetime", "3650d").start().await;
    let fields =
        signed_until(&in_an_hour(), &signer(), &[("key", "a b"), ("acl", "private"), ("x-amz-meta-m", "v")]);
    let answer = post(&gateway, "/b", &fields).await;
    assert_eq!(answer.complete_status(), 204, "{}", answer.text());
    let seen = upstream.last();
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str(), &seen.body[..]),
        ("PUT", "/b/a%20b", &b"data"[..])
    );
    assert_eq!((seen.header("x-amz-acl"), seen.header("x-amz-meta-m")), (Some("private"), Some("v")));
    for gone in ["policy", "signature", "awsaccesskeyid", "key"] {
        assert_eq!(seen.header(gone), None);
    }
    let other_case: Headers =
        fields.iter().map(|(name, value)| (name.to_ascii_uppercase(), value.clone())).collect();
    assert_eq!(post(&gateway, "/b", &other_case).await.complete_status(), 204);
    let guest = signed_until(&in_an_hour(), &Signer::new("GUEST", GUEST), &[("key", "public/k")]);
    assert_eq!(
        status_code_reason(&post(&gateway, "/b", &guest).await),
        expected(403, "AccessDenied", "policy_denied")
    );
}

/// An hour from now, in ISO 8601.
fn in_an_hour() -> String {
    in_seconds(3600)
}

fn in_seconds(seconds: i64) -> String {
    let at = time::OffsetDateTime::now_utc() + time::Duration::seconds(seconds);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

/// A8: each kind of invalid form signature is refused
#[tokio::test]
async fn a_wrong_form_is_refused() {
    let upstream = storing_upstream();
    let gateway = builder(&upstream).start().await;
    let right = signed_until(&in_an_hour(), &signer(), &[("key", "k")]);
    let without = |gone: &str| {
        let mut fields = right.clone();
        fields.retain(|(name, _)| name != gone);
        fields
    };
    let with = |name: &str, value: &str| {
        let mut fields = right.clone();
        fields.push((name.to_owned(), value.to_owned()));
        fields
    };
    let changed = |name: &str, change: &dyn Fn(&str) -> String| {
        let mut fields = right.clone();
        let (_, value) = fields.iter_mut().find(|(each, _)| each == name).unwrap();
        *value = change(value);
        fields
    };
    let mismatch = (403, "SignatureDoesNotMatch", "signature_mismatch");
    let field = (400, "InvalidArgument", "form_field");
    let ambiguous = (400, "InvalidArgument", "signature_ambiguous");
    let cases = [
        (signed_until(&in_an_hour(), &Signer::new(ID, "wrong"), &[("key", "k")]), mismatch),
        (
            signed_until(&in_an_hour(), &Signer::new("STRANGER", SECRET), &[("key", "k")]),
            (403, "InvalidAccessKeyId", "unknown_key"),
        ),
        (changed("signature", &|text| text.replace('=', "")), mismatch),
        (changed("signature", &|text| format!("{text} ")), mismatch),
        (changed("policy", &|text| format!("{text} ")), mismatch),
        (without("policy"), field),
        (without("signature"), field),
        (without("AWSAccessKeyId"), field),
        (with("Signature", "AAAA"), field),
        (with("awsaccesskeyid", ID), field),
        (with("x-amz-signature", "00"), ambiguous),
        (with("x-amz-algorithm", "AWS4-HMAC-SHA256"), ambiguous),
        (with("X-Amz-Credential", "a"), ambiguous),
        (with("x-amz-date", "20130524T000000Z"), ambiguous),
        (with("x-amz-security-token", "t"), (400, "InvalidToken", "security_token")),
        (with("x-amz-meta-more", "1"), (403, "AccessDenied", "form_denied")),
        (signed_until(&in_seconds(-5), &signer(), &[("key", "k")]), (403, "AccessDenied", "form_denied")),
        (
            signed_until(&in_seconds(8 * 86_400), &signer(), &[("key", "k")]),
            (403, "AccessDenied", "sigv2_lifetime"),
        ),
        (signed(&signer(), &[("key", "k")]), (403, "AccessDenied", "sigv2_lifetime")),
    ];
    for (fields, (status, code, reason)) in cases {
        let answer = post(&gateway, "/b", &fields).await;
        assert_eq!(status_code_reason(&answer), expected(status, code, reason), "{fields:?}");
    }
    assert_eq!(upstream.count(), 0, "nothing is stored");
    assert_eq!(post(&gateway, "/b", &right).await.complete_status(), 204, "the unchanged one is stored");
}

/// A8: a form without a policy is anonymous, and a bucket with anonymous access still verifies a given
/// signature
#[tokio::test]
async fn a_wrong_form_never_falls_back_to_anonymous() {
    let upstream = storing_upstream();
    let gateway = builder(&upstream).set("buckets.b.auth", "sigv4,sigv2,anonymous").start().await;
    let wrong = signed_until(&in_an_hour(), &Signer::new(ID, "wrong"), &[("key", "k")]);
    assert_eq!(post(&gateway, "/b", &wrong).await.reason(), "signature_mismatch");
    let lone = vec![("key".to_owned(), "k".to_owned()), ("signature".to_owned(), "x".to_owned())];
    assert_eq!(post(&gateway, "/b", &lone).await.reason(), "form_field");
    assert_eq!(upstream.count(), 0);
    assert_eq!(post(&gateway, "/b", &vec![("key".to_owned(), "k".to_owned())]).await.complete_status(), 204);
}
