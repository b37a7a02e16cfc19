//! POST form uploads: tags, expirations, and forms that are refused before their end.

use super::forms::{
    BOUNDARY, END, content_type, form, post, signed, signed_until, status_and_code, storing_upstream, without,
};
use super::{signed_bucket, signer};
use crate::support::{Client, Gateway, Upstream, random_bytes};

/// A1: the `tagging` field becomes the upload's tagging header, and a policy can restrict it
#[tokio::test]
async fn a_forms_tags_become_a_header() {
    let upstream = storing_upstream();
    let gateway = signed_bucket(&upstream).start().await;
    let tags = "<Tagging><TagSet><Tag><Key>0</Key><Value>0</Value></Tag>\n<Tag><Key>a b</Key><Value>c&amp;d=e</Value></Tag>\
                </TagSet></Tagging>";
    let end = format!("\r\n--{BOUNDARY}--\r\n");
    for size in [10, 100_000] {
        let fields = signed(&signer(), &[("key", "k")], &["[\"starts-with\", \"$tagging\", \"<Tagging>\"]"]);
        let with = |value: &str| {
            let mut fields = fields.clone();
            fields.push(("tagging".to_owned(), value.to_owned()));
            form(&fields, &random_bytes(size), &end)
        };
        assert_eq!(post(&gateway, "/b", &with(tags)).await.complete_status(), 204);
        assert_eq!(upstream.last().header("x-amz-tagging"), Some("0=0&a%20b=c%26d%3De"));
        let denied = post(&gateway, "/b", &with("<TagSet/>")).await;
        assert_eq!(status_and_code(&denied), (403, "AccessDenied".to_owned()), "the policy uses the field");
        let empty = post(&gateway, "/b", &with("<Tagging><TagSet></TagSet></Tagging>")).await;
        assert_eq!((empty.complete_status(), upstream.last().header("x-amz-tagging")), (204, None));
    }
    assert_eq!(upstream.count(), 4);
}

/// A1: an expiration is parsed as S3 parses it: UTC, with `T` and `Z`
#[tokio::test]
async fn an_expiration_is_in_utc_with_t_and_z() {
    let upstream = storing_upstream();
    let gateway = signed_bucket(&upstream).start().await;
    let end = format!("\r\n--{BOUNDARY}--\r\n");
    for moment in ["2099-11-29T12:00:00Z", "2099-11-29T12:00:00.1Z", "2099-11-29T12:00:00.000Z"] {
        let fields = signed_until(moment, &signer(), &[("key", "k")], &[]);
        assert_eq!(
            post(&gateway, "/b", &form(&fields, b"data", &end)).await.complete_status(),
            204,
            "{moment}"
        );
    }
    for moment in [
        "2099-11-29 12:00:00.1+00:00",
        "2099-11-29T12:00:00+00:00",
        "2099-11-29t12:00:00z",
        "2099-11-29T12:00:00",
    ] {
        let fields = signed_until(moment, &signer(), &[("key", "k")], &[]);
        let answer = post(&gateway, "/b", &form(&fields, b"data", &end)).await;
        assert_eq!(status_and_code(&answer), (400, "InvalidPolicyDocument".to_owned()), "{moment}");
    }
    assert_eq!(upstream.count(), 3);
}

/// A1, V2: form fields become upload headers, which have the same limits as the headers of any request
#[tokio::test]
async fn fields_that_make_too_many_headers_are_refused() {
    let upstream = storing_upstream();
    let gateway = signed_bucket(&upstream)
        .set("server.limits.max_headers", "40")
        .set("server.limits.max_header_size", "2KiB")
        .start()
        .await;
    let end = format!("\r\n--{BOUNDARY}--\r\n");
    let names: Vec<String> = (0..50).map(|number| format!("x-amz-meta-{number}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), "v")).chain([("key", "k")]).collect();
    let (long, fits) = ("v".repeat(3000), "v".repeat(1500));
    let too_large = (400, "MetadataTooLarge", "the limit is 2048 (server.limits.max_header_size)");
    for (fields, (status, code, limit)) in [
        (&many[..], (400, "MetadataTooLarge", "the limit is 40 (server.limits.max_headers)")),
        (&[("key", "k"), ("x-amz-meta-a", &long)], too_large),
        (&[("key", "k"), ("x-amz-meta-a", &fits)], (204, "", "")),
        (&many[20..], (204, "", "")),
    ] {
        let body = form(&signed(&signer(), fields, &[]), b"data", &end);
        let answer = post(&gateway, "/b", &body).await;
        assert_eq!(status_and_code(&answer), (status, code.to_owned()), "{}", answer.text());
        assert!(answer.text().contains(limit), "{}", answer.text());
    }
    assert_eq!(upstream.count(), 2);
}

/// A1: a signed form without a bucket condition is refused, because it would be valid in every bucket
#[tokio::test]
async fn form_without_bucket_condition_is_refused() {
    let upstream = storing_upstream();
    let gateway = signed_bucket(&upstream).start().await;
    for (bucket, expected) in [("", 403), (", {\"bucket\": \"b\"}", 204), (", {\"bucket\": \"c\"}", 403)] {
        let mut fields = signer().form_fields();
        fields.push(("key".to_owned(), "k".to_owned()));
        let own: Vec<String> =
            fields.iter().map(|(name, value)| format!("{{\"{name}\": \"{value}\"}}")).collect();
        let listed = own.join(", ");
        let policy =
            format!("{{\"expiration\": \"2099-01-01T00:00:00Z\", \"conditions\": [{listed}{bucket}]}}");
        fields.extend(signer().sign_policy(&policy));
        let answer = post(&gateway, "/b", &form(&fields, b"data", &format!("\r\n--{BOUNDARY}--\r\n"))).await;
        assert_eq!(answer.complete_status(), expected, "{bucket}: {}", answer.text());
    }
    assert_eq!(upstream.count(), 1);
}

/// The answer to a form of which only the beginning is sent; the `content-length` announces much more.
async fn answer_to_partial_form(gateway: &Gateway, beginning: &[u8]) -> (u16, String) {
    let mut client = Client::connect(gateway.address()).await;
    let head = format!(
        "POST /b HTTP/1.1\r\nhost: gateway.test\r\ncontent-type: {}\r\ncontent-length: 5000000\r\n\r\n",
        content_type(),
    );
    client.send(head).await;
    client.send(beginning).await;
    status_and_code(&client.response("POST").await)
}

fn has_incomplete_request(upstream: &Upstream) -> bool {
    upstream.seen().iter().all(|seen| !seen.is_complete)
}

/// A1, I1: a part behind a large file, and fields over their limit, are refused as soon as they are parsed; nothing is
/// stored
#[tokio::test]
async fn a_form_is_refused_before_its_end() {
    let upstream = storing_upstream();
    let gateway = signed_bucket(&upstream).start().await;
    let fields = signed(&signer(), &[("key", "k")], &[]);
    for size in [0, 100, 100_000] {
        let beginning = form(&fields, &random_bytes(size), &format!("\r\n--{BOUNDARY}\r\n"));
        let expected = (400, "MalformedPOSTRequest".to_owned());
        assert_eq!(answer_to_partial_form(&gateway, &beginning).await, expected, "{size}");
    }
    let long = signed(&signer(), &[("key", "k"), ("x-amz-meta-long", &"x".repeat(21 << 10))], &[]);
    let beginning = form(&long, b"", "");
    let expected = (400, "MaxPostPreDataLengthExceeded".to_owned());
    assert_eq!(answer_to_partial_form(&gateway, &beginning[..21 << 10]).await, expected);
    gateway.wait_until_idle().await;
    assert!(has_incomplete_request(&upstream), "{:?}", upstream.seen());
}

/// A1: fields after the file are ignored, and the error for a form without fields before the file names the required
/// order
#[tokio::test]
async fn a_form_with_its_file_first_gets_an_error_that_names_the_order() {
    let upstream = storing_upstream();
    let gateway = signed_bucket(&upstream)
        .bucket("open", &upstream)
        .set("buckets.open.anonymous", "write")
        .start()
        .await;
    let right = signed(&signer(), &[("key", "k")], &[]);
    let field = |(name, value): &(String, String)| {
        format!("\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}")
    };
    let behind: String = right.iter().map(field).collect();
    let without_key = without(right.clone(), "key");
    for (target, before) in [("/b", &Vec::new()), ("/open", &Vec::new()), ("/b", &without_key)] {
        let answer = post(&gateway, target, &form(before, b"data", &format!("{behind}{END}"))).await;
        assert_eq!((answer.complete_status(), answer.reason()), (400, "form_field"), "{target}");
        assert_eq!(answer.element("Code").as_deref(), Some("InvalidArgument"));
        assert_eq!(answer.element("ArgumentName").as_deref(), Some("key"));
        assert!(answer.text().contains("send all of them before the file"), "{}", answer.text());
    }
    assert_eq!(upstream.count(), 0);
    assert_eq!(post(&gateway, "/b", &form(&right, b"data", END)).await.complete_status(), 204);
    gateway.wait_until_idle().await;
}

/// A1, I1: a malformed form stores nothing, whether the error is before or after the file
#[tokio::test]
async fn a_malformed_form_stores_nothing() {
    let upstream = storing_upstream();
    let gateway = signed_bucket(&upstream).start().await;
    let fields = || signed(&signer(), &[("key", "k")], &[]);
    let submit =
        format!("\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"submit\"\r\n\r\nUpload{END}");
    let small = post(&gateway, "/b", &form(&fields(), b"data", &submit)).await;
    assert_eq!(
        (small.complete_status(), upstream.last().body.as_slice()),
        (204, &b"data"[..]),
        "ignored behind a small file"
    );
    let data = random_bytes(300_000);
    for (data, end) in [
        (&data[..], submit.as_str()),
        (&data, "\r\n------WebKitFormBoundaryAbC--"),
        (&data, "no end at all"),
        (b"data", "no end at all"),
        (b"data", "\r\n------WebKitFormBoundaryAbC"),
    ] {
        let answer = post(&gateway, "/b", &form(&fields(), data, end)).await;
        assert_eq!(status_and_code(&answer), (400, "MalformedPOSTRequest".to_owned()), "{end}");
    }
    for body in [&b"nonsense"[..], b"", &form(&fields(), b"", "")[..500]] {
        assert_eq!(
            status_and_code(&post(&gateway, "/b", body).await),
            (400, "MalformedPOSTRequest".to_owned())
        );
    }
    let no_file = format!("--{BOUNDARY}--\r\n");
    assert_eq!(
        status_and_code(&post(&gateway, "/b", no_file.as_bytes()).await),
        (400, "InvalidArgument".to_owned())
    );
    let whole = upstream.seen().iter().filter(|seen| seen.is_complete).count();
    assert_eq!(whole, 1, "only the small object");
    gateway.wait_until_idle().await;
}
