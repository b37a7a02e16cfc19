//! Requests at the bounds of the embedded origin: empty parts, sizes, ranges, names.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, Delete, ObjectIdentifier};

use super::{MIB, demo, direct, noise, origin, outcome, put, read};
use crate::support::request;

/// Uploads these parts and completes them; returns the error code of a refusal.
async fn complete(client: &Client, key: &str, parts: &[Vec<u8>]) -> Result<(), String> {
    let begun = client.create_multipart_upload().bucket("demo").key(key).send().await.unwrap();
    let id = begun.upload_id().unwrap();
    let mut listed = CompletedMultipartUpload::builder();
    for (number, body) in (1..).zip(parts) {
        let part = client.upload_part().bucket("demo").key(key).upload_id(id).part_number(number);
        let part = part.body(body.clone().into()).send().await.unwrap();
        listed =
            listed.parts(CompletedPart::builder().part_number(number).e_tag(part.e_tag().unwrap()).build());
    }
    let complete = client.complete_multipart_upload().bucket("demo").key(key).upload_id(id);
    let completed = complete.multipart_upload(listed.build()).send().await;
    completed.map(drop).map_err(|error| error.code().unwrap().to_owned())
}

/// E1: the last part may be empty, and is a part of the object; any other part has at least 5 MiB
#[tokio::test]
async fn the_last_part_may_be_empty() {
    let (_gateway, client) = demo().await;
    let first = noise(5 * MIB, 3);
    complete(&client, "two", &[first.clone(), Vec::new()]).await.unwrap();
    let head = |number: i32| client.head_object().bucket("demo").key("two").part_number(number).send();
    let sizes = [head(1).await.unwrap(), head(2).await.unwrap()];
    assert_eq!(
        sizes.map(|part| (part.parts_count(), part.content_length())),
        [(Some(2), Some(5 * MIB as i64)), (Some(2), Some(0))]
    );
    assert_eq!(read(&client, "demo", "two").await, first);
    complete(&client, "empty", &[Vec::new()]).await.unwrap();
    let empty = client.head_object().bucket("demo").key("empty").part_number(1).send().await.unwrap();
    assert_eq!((empty.parts_count(), empty.content_length()), (Some(1), Some(0)));
    assert_eq!(read(&client, "demo", "empty").await, b"");
    for parts in [vec![Vec::new(), b"end".to_vec()], vec![first[1..].to_vec(), b"end".to_vec()]] {
        assert_eq!(complete(&client, "small", &parts).await, Err("EntityTooSmall".to_owned()));
    }
}

/// E2: each violated bound of a request has S3's error
#[tokio::test]
async fn each_bound_has_its_error() {
    let (origin, _directory) = origin();
    let client = direct(&origin);
    let put_with = || client.put_object().bucket("real").key("k");
    put_with().metadata("a", "x".repeat(2047)).content_type("x".repeat(2048)).send().await.unwrap();
    let code = |refused: Option<&str>| refused.unwrap_or_default().to_owned();
    let large = [
        put_with().metadata("a", "x".repeat(2048)).send().await,
        put_with().content_type("x".repeat(2049)).send().await,
        put_with().cache_control("x".repeat(1025)).content_disposition("x".repeat(1024)).send().await,
        put_with().website_redirect_location(format!("/{}", "x".repeat(2048))).send().await,
    ];
    for refused in large {
        assert_eq!(code(refused.unwrap_err().code()), "MetadataTooLarge");
    }
    let long = client.put_object().bucket("real").key("k".repeat(1025)).send().await;
    assert_eq!(code(long.unwrap_err().code()), "KeyTooLongError");
    let begun = client.create_multipart_upload().bucket("real").key("k").send().await.unwrap();
    for number in [0, 10_001] {
        let part = client.upload_part().bucket("real").key("k").upload_id(begun.upload_id().unwrap());
        let refused = part.part_number(number).body(noise(MIB, 1).into()).send().await.unwrap_err();
        assert_eq!(code(refused.code()), "InvalidArgument", "{number}");
    }
    let key = |number: usize| ObjectIdentifier::builder().key(number.to_string()).build().unwrap();
    let delete = Delete::builder().set_objects(Some((0..1001).map(key).collect())).build().unwrap();
    let refused = client.delete_objects().bucket("real").delete(delete).send().await.unwrap_err();
    assert_eq!(code(refused.code()), "MalformedXML");
}

/// E2: a refused part is answered before its body is complete
#[tokio::test]
async fn a_refused_part_is_answered() {
    let (origin, _directory) = origin();
    let client = direct(&origin);
    for _ in 0..8 {
        let part = client.upload_part().bucket("real").key("k").upload_id("0".repeat(32)).part_number(1);
        let refused = part.body(noise(MIB, 1).into()).send().await.unwrap_err();
        assert_eq!(refused.code(), Some("NoSuchUpload"), "{refused:?}");
    }
}

/// I2, E2: a position beyond the end means the end (RFC 9110, 14.1.2), also beyond any integer; a query that is not
/// UTF-8 is 400
#[tokio::test]
async fn extreme_numbers_and_names_are_answered() {
    let (gateway, client) = demo().await;
    put(&client, "demo", "o", b"stored".to_vec()).await;
    for (range, status, body) in [
        ("bytes=1-18446744073709551615", 206, "tored"),
        ("bytes=1-9223372036854775808", 206, "tored"),
        ("bytes=1-99999999999999999999999", 206, "tored"),
        ("bytes=-18446744073709551615", 206, "stored"),
        ("bytes=-99999999999999999999999", 206, "stored"),
    ] {
        let answer = request(gateway.address(), "GET", "/demo/o", &[("range", range)], None).await;
        assert_eq!((answer.complete_status(), answer.text()), (status, body.to_owned()), "{range}");
    }
    for range in ["bytes=18446744073709551615-", "bytes=99999999999999999999999-", "bytes=6-"] {
        let refused = outcome(&gateway, "GET", "/demo/o", &[("range", range)]).await;
        assert_eq!(refused, (416, "InvalidRange".to_owned()), "{range}");
    }
    for query in
        ["list-type=2&prefix=%ff", "prefix=a%C3", "list-type=2&start-after=%fe", "uploads&prefix=%ff"]
    {
        let refused = outcome(&gateway, "GET", &format!("/demo?{query}"), &[]).await;
        assert_eq!(refused, (400, "InvalidURI".to_owned()), "{query}");
    }
}
