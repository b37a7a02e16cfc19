//! POST form uploads: the forms of browsers become uploads that the store accepts, and each kind of invalid form is
//! refused.

use super::{ID, SECRET, Signer, guest, s3_error_code, signed_bucket, signer, with_guest, with_key};
use crate::integrity::checksums;
use crate::support::client::sha256;
use crate::support::{
    Client, Gateway, Response, Scratch, Upstream, UpstreamReply, get, random_bytes, request,
};

pub(super) const BOUNDARY: &str = "----WebKitFormBoundaryAbC";
pub(super) const END: &str = "\r\n------WebKitFormBoundaryAbC--\r\n";
/// File sizes below and above the limit for buffering.
const SIZES: [usize; 2] = [1000, 300_000];

pub(super) type Fields = Vec<(String, String)>;

/// The fields of a signed form: each of these with its condition, and a policy that also has `conditions`.
pub(super) fn signed(signer: &Signer, fields: &[(&str, &str)], conditions: &[&str]) -> Fields {
    signed_until("2099-01-01T00:00:00.000Z", signer, fields, conditions)
}

pub(super) fn signed_until(
    end: &str,
    signer: &Signer,
    fields: &[(&str, &str)],
    conditions: &[&str],
) -> Fields {
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let mut all: Fields = fields.iter().copied().map(owned).collect();
    all.extend(signer.form_fields());
    let exact = |(name, value): &(String, String)| format!("{{\"{name}\": \"{value}\"}}");
    let mut listed: Vec<String> =
        all.iter().filter(|(_, value)| !value.contains("${filename}")).map(exact).collect();
    // A field `bucket` has its condition from the line above.
    if !fields.iter().any(|(name, _)| *name == "bucket") {
        listed.push("{\"bucket\": \"b\"}".to_owned());
    }
    listed.extend(conditions.iter().map(|condition| (*condition).to_owned()));
    let policy = format!("{{\"expiration\": \"{end}\", \"conditions\": [{}]}}", listed.join(", "));
    all.extend(signer.sign_policy(&policy));
    all
}

/// A form with these fields, this file, and `after` behind it.
pub(super) fn form(fields: &Fields, data: &[u8], end: &str) -> Vec<u8> {
    let mut form = String::new();
    for (name, value) in fields {
        form +=
            &format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    }
    form += &format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"C:\\dir\\my file.txt\"\r\n\
         Content-Type: text/plain\r\n\r\n"
    );
    [form.as_bytes(), data, end.as_bytes()].concat()
}

pub(super) fn content_type() -> String {
    format!("multipart/form-data; boundary={BOUNDARY}")
}

pub(super) async fn post(gateway: &Gateway, target: &str, body: &[u8]) -> Response {
    let kind = content_type();
    request(gateway.address(), "POST", target, &[("content-type", kind.as_str())], Some(body)).await
}

pub(super) fn status_and_code(answer: &Response) -> (u16, String) {
    (answer.complete_status(), s3_error_code(answer))
}

pub(super) fn storing_upstream() -> Upstream {
    Upstream::start(|_| UpstreamReply::ok("").header("etag", "\"e\"").header("x-amz-version-id", "v7"))
}

/// A1, A2: a form becomes a signed upload of its file, with the headers from its fields; no form field is forwarded
#[tokio::test]
async fn a_form_becomes_an_upload() {
    for size in SIZES {
        let upstream = storing_upstream();
        let gateway = signed_bucket(&upstream)
            .set("buckets.b.s3.access_key_id", "upstreams")
            .set("buckets.b.s3.secret_access_key", "own")
            .start()
            .await;
        let data = random_bytes(size);
        let fields = [
            ("key", "user/a b/${filename}"),
            ("Content-Type", "image/png"),
            ("acl", "private"),
            ("x-amz-meta-m", "two words"),
        ];
        let fields =
            signed(&signer(), &fields, &["[\"starts-with\", \"$key\", \"user/\"]", "{\"bucket\": \"b\"}"]);
        let answer = post(&gateway, "/b", &form(&fields, &data, END)).await;
        assert_eq!(answer.complete_status(), 204, "{}", answer.text());
        let location = "http://gateway.test/b/user/a%20b/my%20file.txt";
        assert_eq!((answer.header("etag"), answer.header("location")), (Some("\"e\""), Some(location)));
        assert_eq!(answer.header("x-amz-version-id"), Some("v7"));
        let seen = upstream.last();
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("PUT", "/b/user/a%20b/my%20file.txt"));
        assert_eq!(
            (seen.header("content-type"), seen.header("x-amz-acl")),
            (Some("image/png"), Some("private"))
        );
        assert_eq!(seen.header("x-amz-meta-m"), Some("two words"));
        assert!(seen.header("authorization").unwrap().contains("Credential=upstreams/"));
        for gone in ["policy", "x-amz-signature", "x-amz-credential", "key"] {
            assert_eq!(seen.header(gone), None);
        }
        if size < 65_536 {
            assert_eq!(
                (seen.sha256(), seen.header("x-amz-content-sha256")),
                (sha256(&data), Some(sha256(&data).as_str()))
            );
        } else {
            let length = size.to_string();
            assert_eq!(seen.header("x-amz-decoded-content-length"), Some(length.as_str()));
            assert!(seen.header("x-amz-content-sha256").unwrap().starts_with("STREAMING-AWS4-HMAC-SHA256"));
        }
        gateway.wait_until_idle().await;
    }
}

/// A1: a server that verifies signatures stores the file, however the form is split into pieces
#[tokio::test]
async fn a_real_server_stores_the_file() {
    let directory = Scratch::new();
    let origin = tidegate::origin::start(directory.path(), "real").unwrap();
    let builder = Gateway::builder()
        .bucket_at("b", &[origin.address])
        .set("buckets.b.auth", "sigv4,anonymous")
        .set("buckets.b.anonymous", "read")
        .set("buckets.b.s3.bucket", "real")
        .set("buckets.b.s3.access_key_id", &origin.access_key_id)
        .set("buckets.b.s3.secret_access_key", &origin.secret_access_key);
    let gateway = with_key(builder).start().await;
    for size in [0, 1, 65_000, 66_000, 1_000_003] {
        for piece in [701, 65_536] {
            let data = random_bytes(size);
            let key = format!("{size}-{piece}");
            let body = form(&signed(&signer(), &[("key", key.as_str())], &[]), &data, END);
            let mut client = Client::connect(gateway.address()).await;
            let head = format!(
                "POST /b/ HTTP/1.1\r\nhost: gateway.test\r\ncontent-type: {}\r\ncontent-length: {}\r\n\r\n",
                content_type(),
                body.len()
            );
            client.send(head).await;
            for piece in body.chunks(piece.max(body.len() / 1000)) {
                client.send(piece).await;
            }
            let answer = client.response("POST").await;
            assert_eq!(answer.complete_status(), 204, "{}", answer.text());
            let got = get(gateway.address(), &format!("/b/{key}")).await;
            assert_eq!((got.complete_status(), got.sha256()), (200, sha256(&data)), "{key}");
        }
    }
}

/// A1: the form selects the answer: 200, 201 with a document, or 303 to a page
#[tokio::test]
async fn the_form_selects_the_answer() {
    let upstream = storing_upstream();
    let gateway = signed_bucket(&upstream).start().await;
    let send = async |name: &str, value: &str| {
        let fields = signed(&signer(), &[("key", "a&b"), (name, value)], &[]);
        post(&gateway, "/b", &form(&fields, b"data", END)).await
    };
    assert_eq!(send("success_action_status", "200").await.complete_status(), 200);
    assert_eq!(send("success_action_status", "204").await.complete_status(), 204);
    let created = send("success_action_status", "201").await;
    assert_eq!((created.complete_status(), created.header("content-type")), (201, Some("application/xml")));
    let parts = "<Location>http://gateway.test/b/a%26b</Location><Bucket>b</Bucket><Key>a&amp;b</Key>\
                 <ETag>&quot;e&quot;</ETag>";
    assert!(created.text().contains(parts), "{}", created.text());
    let page = send("success_action_redirect", "https://pages.example/done?x=1").await;
    assert_eq!(page.complete_status(), 303);
    let target = "https://pages.example/done?x=1&bucket=b&key=a%26b&etag=%22e%22";
    assert_eq!(page.header("location"), Some(target));
    let failing = Upstream::start(|_| UpstreamReply::s3_error(507, "QuotaExceeded"));
    let gateway = signed_bucket(&failing).start().await;
    let fields =
        signed(&signer(), &[("key", "k"), ("success_action_redirect", "https://pages.example/")], &[]);
    let answer = post(&gateway, "/b", &form(&fields, b"data", END)).await;
    assert_eq!(
        status_and_code(&answer),
        (507, "QuotaExceeded".to_owned()),
        "a failure is the store's own answer"
    );
}

fn with_changed(mut fields: Fields, name: &str, value: &str) -> Fields {
    fields.iter_mut().find(|(known, _)| known == name).unwrap().1 = value.to_owned();
    fields
}

pub(super) fn without(mut fields: Fields, name: &str) -> Fields {
    fields.retain(|(known, _)| known != name);
    fields
}

fn with(mut fields: Fields, name: &str, value: &str) -> Fields {
    fields.push((name.to_owned(), value.to_owned()));
    fields
}

/// A1, V8: each invalid field gets S3's own error, and nothing is sent upstream
#[tokio::test]
async fn a_wrong_form_is_refused() {
    let upstream = storing_upstream();
    let gateway = signed_bucket(&upstream).start().await;
    let right = || signed(&signer(), &[("key", "k")], &["[\"content-length-range\", 2, 10]"]);
    let by = |change: &dyn Fn(&mut Signer)| {
        let mut signer = signer();
        change(&mut signer);
        signed(&signer, &[("key", "k")], &[])
    };
    let also = |name: &str, value: &str| signed(&signer(), &[("key", "k"), (name, value)], &[]);
    let day = 24 * 60 * 60;
    let past = signed_until("2020-01-01T00:00:00Z", &signer(), &[("key", "k")], &[]);
    let elsewhere = signed(&signer(), &[("key", "k")], &["{\"bucket\": \"c\"}"]);
    let old = |fields: Fields| with(without(fields, "x-amz-signature"), "signature", "c2ln");
    for (fields, status, code) in [
        (with_changed(right(), "x-amz-signature", &"0".repeat(64)), 403, "SignatureDoesNotMatch"),
        (with_changed(right(), "policy", "e30="), 403, "SignatureDoesNotMatch"),
        (by(&|signer| signer.secret.push('x')), 403, "SignatureDoesNotMatch"),
        (by(&|signer| signer.id.push('x')), 403, "InvalidAccessKeyId"),
        (by(&|signer| signer.region.push('_')), 400, "InvalidArgument"),
        (by(&|signer| signer.region = "x".repeat(5_000)), 400, "InvalidArgument"),
        (by(&|signer| signer.service = "ec2".to_owned()), 400, "InvalidArgument"),
        (by(&|signer| signer.ahead_seconds = -8 * day), 403, "AccessDenied"),
        (by(&|signer| signer.ahead_seconds = day), 403, "AccessDenied"),
        (past, 403, "AccessDenied"),
        (elsewhere, 403, "AccessDenied"),
        (with_changed(right(), "key", "other"), 403, "AccessDenied"),
        (with(right(), "acl", "public-read"), 403, "AccessDenied"),
        (with(right(), "submit", "Upload"), 403, "AccessDenied"),
        (with(right(), "Key", "other"), 400, "InvalidArgument"),
        (with(right(), "x-amz-security-token", "t"), 400, "InvalidToken"),
        (without(right(), "x-amz-signature"), 400, "InvalidArgument"),
        (without(right(), "x-amz-credential"), 400, "InvalidArgument"),
        (without(right(), "x-amz-date"), 400, "InvalidArgument"),
        (without(right(), "policy"), 400, "InvalidArgument"),
        (with_changed(right(), "x-amz-algorithm", "AWS4-HMAC-SHA1"), 400, "InvalidArgument"),
        (with_changed(right(), "x-amz-algorithm", "AWS4-ECDSA-P256-SHA256"), 501, "NotImplemented"),
        (old(right()), 400, "InvalidArgument"),
        (signed(&signer(), &[], &[]), 400, "InvalidArgument"),
        (also("tagging", "a=b"), 400, "MalformedXML"),
        (also("tagging", "<Tagging><TagSet><Tag><Key>k</Key></Tag></TagSet></Tagging>"), 400, "MalformedXML"),
        (also("x-amz-tagging", "a=b"), 501, "NotImplemented"),
        (also("x-amz-copy-source", "/b/secret"), 501, "NotImplemented"),
        (signed(&signer(), &[("key", "../c/k")], &[]), 400, "InvalidURI"),
        (signed(&signer(), &[("key", "k")], &["{}"]), 400, "InvalidPolicyDocument"),
        (also("x-amz-checksum-crc32", "AAAAAA=="), 400, "BadDigest"),
        (also("x-amz-checksum-crc32", "A"), 400, "InvalidRequest"),
        (also("x-amz-meta-long", &"x".repeat(21 << 10)), 400, "MaxPostPreDataLengthExceeded"),
        (Vec::new(), 400, "InvalidArgument"),
    ] {
        let answer = post(&gateway, "/b", &form(&fields, b"data", END)).await;
        assert_eq!(status_and_code(&answer), (status, code.to_owned()), "{fields:?} {}", answer.text());
    }
    for (data, code) in
        [(&b"x"[..], "EntityTooSmall"), (&[b'x'; 11], "EntityTooLarge"), (&[b'x'; 70_000], "EntityTooLarge")]
    {
        let answer = post(&gateway, "/b", &form(&right(), data, END)).await;
        assert_eq!(status_and_code(&answer), (400, code.to_owned()));
    }
    assert_eq!(upstream.count(), 0);
    assert_eq!(
        post(&gateway, "/b", &form(&right(), b"data", END)).await.complete_status(),
        204,
        "the unchanged one passes"
    );
    let crc = &checksums(b"data")[0].1;
    assert_eq!(
        post(&gateway, "/b", &form(&also("x-amz-checksum-crc32", crc), b"data", END)).await.complete_status(),
        204
    );
    gateway.wait_until_idle().await;
}

/// A5, V3: the policy is applied to the key that the form names
#[tokio::test]
async fn the_keys_policy_applies_to_forms() {
    let upstream = storing_upstream();
    let gateway = with_guest(signed_bucket(&upstream), "public/", "write")
        .bucket("c", &upstream)
        .set("buckets.c.auth", "sigv4")
        .set("buckets.b.injection_patterns", "off")
        .bucket("open", &upstream)
        .set("buckets.open.anonymous", "write")
        .bucket("readable", &upstream)
        .set("buckets.readable.anonymous", "read")
        .start()
        .await;
    let guest = guest();
    let send = async |bucket: &str, key: &str| {
        let body = form(&signed(&guest, &[("key", key)], &[]), b"data", END);
        post(&gateway, &format!("/{bucket}"), &body).await.complete_status()
    };
    assert_eq!(send("b", "public/k").await, 204);
    assert_eq!(send("b", "secret/k").await, 403);
    assert_eq!(send("b", "public/../secret").await, 400);
    assert_eq!(send("c", "public/k").await, 403);
    let unsigned = vec![("key".to_owned(), "k".to_owned())];
    assert_eq!(post(&gateway, "/open", &form(&unsigned, b"data", END)).await.complete_status(), 204);
    assert_eq!(post(&gateway, "/readable", &form(&unsigned, b"data", END)).await.complete_status(), 403);
    assert_eq!(post(&gateway, "/b", &form(&unsigned, b"data", END)).await.complete_status(), 403);
    assert_eq!(upstream.count(), 2);
}

/// A1, L1, L8: `Expect: 100-continue`, rate limits and failure counts apply to forms as to any request
#[tokio::test]
async fn expect_and_limits_apply_to_forms() {
    let upstream = storing_upstream();
    let gateway = signed_bucket(&upstream)
        .set("rate_limit.failed_auth.requests_per_second", "0.001")
        .set("rate_limit.failed_auth.burst", "2")
        .start()
        .await;
    let body = form(&signed(&signer(), &[("key", "k")], &[]), b"data", END);
    let mut client = Client::connect(gateway.address()).await;
    let head = format!(
        "POST /b HTTP/1.1\r\nhost: gateway.test\r\nexpect: 100-continue\r\ncontent-type: {}\r\ncontent-length: {}\r\n\r\n",
        content_type(),
        body.len()
    );
    client.send(head).await;
    assert_eq!(client.head().await.status, 100);
    client.send(&body).await;
    assert_eq!(client.response("POST").await.complete_status(), 204);
    let forged = form(&signed(&Signer::new(ID, &SECRET[1..]), &[("key", "k")], &[]), b"data", END);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(post(&gateway, "/b", &forged).await.complete_status());
    }
    assert_eq!(statuses, [403, 403, 429, 429]);
}
