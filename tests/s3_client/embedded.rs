//! The embedded origin: a gateway without configuration, and the S3 server behind it.

use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::operation::get_object_tagging::GetObjectTaggingOutput;
use aws_sdk_s3::types::{
    BucketVersioningStatus, CompletedMultipartUpload, CompletedPart, Tag, Tagging, VersioningConfiguration,
};
use tidegate::origin;

use super::{MIB, demo, direct, hash_of, noise, outcome, put, read};
use crate::auth::signer::Signer;
use crate::support::client::sha256;
use crate::support::{Scratch, request};

/// I2: GET and HEAD under each condition, alone and with a range; 304 has the headers that a cache needs
#[tokio::test]
async fn conditional_reads_are_answered() {
    let (gateway, client) = demo().await;
    put(&client, "demo", "o", b"stored".to_vec()).await;
    let head = client.head_object().bucket("demo").key("o").send().await.unwrap();
    let etag = head.e_tag().unwrap();
    let (now, old) = ("Fri, 01 Jan 2100 00:00:00 GMT", "Sat, 01 Jan 2000 00:00:00 GMT");
    for method in ["GET", "HEAD"] {
        for (name, value, status) in [
            ("if-none-match", etag, 304),
            ("if-none-match", "*", 304),
            ("if-none-match", "\"other\"", 200),
            ("if-match", etag, 200),
            ("if-match", "\"other\"", 412),
            ("if-modified-since", now, 304),
            ("if-modified-since", old, 200),
            ("if-unmodified-since", now, 200),
            ("if-unmodified-since", old, 412),
        ] {
            let answer = request(gateway.address(), method, "/demo/o", &[(name, value)], None).await;
            assert_eq!(answer.complete_status(), status, "{method} {name}: {value}");
            if status == 304 {
                assert_eq!((answer.header("etag"), answer.body.len()), (Some(etag), 0), "{method} {name}");
                assert!(answer.header("last-modified").is_some(), "{method} {name}");
            }
        }
    }
    let ranged = async |condition: (&str, &str)| {
        let headers = [("range", "bytes=1-3"), condition];
        let answer = request(gateway.address(), "GET", "/demo/o", &headers, None).await;
        (answer.complete_status(), answer.text())
    };
    assert_eq!(ranged(("if-match", etag)).await, (206, "tor".to_owned()));
    assert_eq!(ranged(("if-match", "\"other\"")).await.0, 412);
    assert_eq!(ranged(("if-range", etag)).await, (206, "tor".to_owned()));
    assert_eq!(ranged(("if-range", "\"other\"")).await, (200, "stored".to_owned()));
    assert_eq!(gateway.metric("circuit_breaker_failures{bucket=\"demo\",class=\"read\"}").await, 0.0);
}

/// I2, R1: concurrent conditional writes succeed at most once
#[tokio::test]
async fn conditional_writes_are_atomic() {
    let (_gateway, client) = demo().await;
    let write = |n: u8| {
        let put = client.put_object().bucket("demo").key("once").if_none_match("*");
        put.body(vec![n; 70_000].into()).send()
    };
    let outcomes = futures_util::future::join_all((0..8).map(write)).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let codes = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()?.code());
    assert!(codes.clone().all(|code| code == "PreconditionFailed"), "{:?}", codes.collect::<Vec<_>>());
    let etag = client.head_object().bucket("demo").key("once").send().await.unwrap();
    let put = || client.put_object().bucket("demo").key("once").body(b"second".to_vec().into());
    let refused = put().if_match("\"other\"").send().await.unwrap_err();
    assert_eq!(refused.code(), Some("PreconditionFailed"));
    put().if_match(etag.e_tag().unwrap()).send().await.unwrap();
    assert_eq!(read(&client, "demo", "once").await, b"second");
}

/// E1, E2: further buckets are created, used, listed and removed; each error is S3's
#[tokio::test]
async fn buckets_are_created_and_removed() {
    let (gateway, client) = demo().await;
    client.create_bucket().bucket("second-one").send().await.unwrap();
    let listed = gateway.get("/").await;
    assert_eq!(listed.complete_status(), 200);
    let names = ["<Name>demo</Name>", "<Name>second-one</Name>"];
    assert!(names.iter().all(|name| listed.text().contains(name)), "{}", listed.text());
    let again = client.create_bucket().bucket("second-one").send().await.unwrap_err();
    assert_eq!(again.code(), Some("BucketAlreadyOwnedByYou"));
    put(&client, "second-one", "k", b"2".to_vec()).await;
    put(&client, "demo", "k", b"1".to_vec()).await;
    assert_eq!(read(&client, "second-one", "k").await, b"2");
    let copy = client.copy_object().bucket("second-one").key("copy").copy_source("demo/k");
    copy.send().await.unwrap();
    assert_eq!(read(&client, "second-one", "copy").await, b"1");
    let full = client.delete_bucket().bucket("second-one").send().await.unwrap_err();
    assert_eq!(full.code(), Some("BucketNotEmpty"));
    for key in ["k", "copy"] {
        client.delete_object().bucket("second-one").key(key).send().await.unwrap();
    }
    client.delete_bucket().bucket("second-one").send().await.unwrap();
    assert_eq!(outcome(&gateway, "HEAD", "/second-one", &[]).await.0, 404);
    let gone = outcome(&gateway, "GET", "/second-one/k", &[]).await;
    assert_eq!(gone, (404, "NoSuchBucket".to_owned()));
    assert_eq!(outcome(&gateway, "GET", "/Not_A_Name", &[]).await, (400, "InvalidBucketName".to_owned()));
}

/// V5: keys that a file system would merge or refuse are separate objects
#[tokio::test]
async fn keys_are_not_paths() {
    let (_gateway, client) = demo().await;
    let long = format!("{}/{}", "k".repeat(900), "ü".repeat(61));
    let keys =
        ["a", "a/", "a/b", "a//b", "a//", "/a", "//", ".", "...", "..name", "name..", "b/...c/d", &long];
    for key in keys {
        put(&client, "demo", key, key.into()).await;
    }
    for key in keys {
        assert_eq!(read(&client, "demo", key).await, key.as_bytes());
    }
    let listed = client.list_objects_v2().bucket("demo").send().await.unwrap();
    let mut expected = keys.to_vec();
    expected.sort_unstable();
    assert_eq!(listed.contents().iter().map(|item| item.key().unwrap()).collect::<Vec<_>>(), expected);
    let grouped = client.list_objects_v2().bucket("demo").prefix("a").delimiter("/").send().await.unwrap();
    assert_eq!(grouped.contents().iter().map(|item| item.key().unwrap()).collect::<Vec<_>>(), ["a"]);
    assert_eq!(
        grouped.common_prefixes().iter().map(|item| item.prefix().unwrap()).collect::<Vec<_>>(),
        ["a/"]
    );
    for key in ["a/", "a//b"] {
        client.delete_object().bucket("demo").key(key).send().await.unwrap();
    }
    assert_eq!(read(&client, "demo", "a").await, b"a");
    assert_eq!(read(&client, "demo", "a/b").await, b"a/b");
    let too_long = client.put_object().bucket("demo").key("k".repeat(1025)).send().await.unwrap_err();
    assert_eq!(too_long.code(), Some("KeyTooLongError"));
}

/// V2, V5: the calls of AWS CLI version 2 to copy a large object: its tags first, then parts of it
#[tokio::test]
async fn a_large_object_is_copied_in_parts() {
    const BYTES: usize = 65 * MIB + 17;
    const PART: usize = 8 * MIB;
    let (gateway, client) = demo().await;
    let whole = noise(BYTES, 9);
    client
        .put_object()
        .bucket("demo")
        .key("big one")
        .tagging("a=1&b=2%203")
        .body(whole.clone().into())
        .send()
        .await
        .unwrap();
    let head = client.head_object().bucket("demo").key("big one").send().await.unwrap();
    assert_eq!(head.content_length(), Some(BYTES as i64));
    let tags = client.get_object_tagging().bucket("demo").key("big one").send().await.unwrap();
    assert_eq!(pairs(&tags), [("a", "1"), ("b", "2 3")]);
    let begun = client.create_multipart_upload().bucket("demo").key("copy").tagging("a=1&b=2%203");
    let begun = begun.send().await.unwrap();
    let id = begun.upload_id().unwrap();
    let part = async |number: i32| {
        let first = (number as usize - 1) * PART;
        let last = (first + PART).min(BYTES) - 1;
        let part = client.upload_part_copy().bucket("demo").key("copy").upload_id(id).part_number(number);
        let part = part.copy_source("demo/big%20one").copy_source_range(format!("bytes={first}-{last}"));
        let copied = part.copy_source_if_match(head.e_tag().unwrap()).send().await.unwrap();
        let e_tag = copied.copy_part_result().unwrap().e_tag().unwrap().to_owned();
        CompletedPart::builder().part_number(number).e_tag(e_tag).build()
    };
    let parts = futures_util::future::join_all((1..=BYTES.div_ceil(PART) as i32).map(part)).await;
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let complete = client.complete_multipart_upload().bucket("demo").key("copy").upload_id(id);
    let done = complete.multipart_upload(parts).send().await.unwrap();
    assert!(done.e_tag().unwrap().ends_with("-9\""));
    let got = client.get_object().bucket("demo").key("copy").send().await.unwrap();
    assert_eq!((got.tag_count(), got.e_tag()), (Some(2), done.e_tag()));
    assert_eq!(hash_of(got).await, (BYTES, sha256(&whole)));
    let second = client.get_object().bucket("demo").key("copy").part_number(2).send().await.unwrap();
    assert_eq!((second.parts_count(), second.content_length()), (Some(9), Some(PART as i64)));
    assert_eq!(hash_of(second).await, (PART, sha256(&whole[PART..2 * PART])));
    gateway.wait_until_idle().await;
}

fn pairs(tags: &GetObjectTaggingOutput) -> Vec<(&str, &str)> {
    tags.tag_set().iter().map(|tag| (tag.key(), tag.value())).collect()
}

/// V5: tags are set, replaced and removed; an object without tags has an empty set
#[tokio::test]
async fn tags_are_stored() {
    let (_gateway, client) = demo().await;
    put(&client, "demo", "o", b"x".to_vec()).await;
    let tags = async || client.get_object_tagging().bucket("demo").key("o").send().await.unwrap();
    assert_eq!(pairs(&tags().await), []);
    let tag = Tag::builder().key("k 1").value("v&1").build().unwrap();
    let tagging = Tagging::builder().tag_set(tag).build().unwrap();
    client.put_object_tagging().bucket("demo").key("o").tagging(tagging).send().await.unwrap();
    assert_eq!(pairs(&tags().await), [("k 1", "v&1")]);
    client.copy_object().bucket("demo").key("copy").copy_source("demo/o").send().await.unwrap();
    let copied = client.get_object_tagging().bucket("demo").key("copy").send().await.unwrap();
    assert_eq!(pairs(&copied), [("k 1", "v&1")]);
    client.delete_object_tagging().bucket("demo").key("o").send().await.unwrap();
    assert_eq!(pairs(&tags().await), []);
    assert_eq!(read(&client, "demo", "o").await, b"x");
}

/// E1, E2: uploads and parts are listed, and errors of uploads are S3's
#[tokio::test]
async fn uploads_can_be_listed_and_aborted() {
    let (_gateway, client) = demo().await;
    let mut ids = Vec::new();
    for key in ["a/1", "a/2", "b"] {
        let begun = client.create_multipart_upload().bucket("demo").key(key).send().await.unwrap();
        ids.push(begun.upload_id().unwrap().to_owned());
    }
    let part = client.upload_part().bucket("demo").key("b").upload_id(&ids[2]).part_number(3);
    part.body(b"part".to_vec().into()).send().await.unwrap();
    let parts = client.list_parts().bucket("demo").key("b").upload_id(&ids[2]).send().await.unwrap();
    let listed: Vec<_> = parts.parts().iter().map(|part| (part.part_number(), part.size())).collect();
    assert_eq!(listed, [(Some(3), Some(4))]);
    let uploads = client.list_multipart_uploads().bucket("demo").delimiter("/").send().await.unwrap();
    assert_eq!(uploads.uploads().iter().map(|upload| upload.key().unwrap()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(uploads.common_prefixes()[0].prefix(), Some("a/"));
    let small = CompletedPart::builder().part_number(3).e_tag("\"other\"").build();
    let small = CompletedMultipartUpload::builder().parts(small).build();
    let complete = client.complete_multipart_upload().bucket("demo").key("b").upload_id(&ids[2]);
    assert_eq!(complete.multipart_upload(small).send().await.unwrap_err().code(), Some("InvalidPart"));
    for (key, id) in ["a/1", "a/2", "b"].into_iter().zip(&ids) {
        let abort = || client.abort_multipart_upload().bucket("demo").key(key).upload_id(id).send();
        abort().await.unwrap();
        assert_eq!(abort().await.unwrap_err().code(), Some("NoSuchUpload"));
    }
    let uploads = client.list_multipart_uploads().bucket("demo").send().await.unwrap();
    assert!(uploads.uploads().is_empty());
}

/// E5: an unimplemented operation is 501, and changes nothing
#[tokio::test]
async fn unimplemented_operations_are_501() {
    let (gateway, client) = demo().await;
    put(&client, "demo", "o", b"before".to_vec()).await;
    let left_out = [
        "versions",
        "policy",
        "lifecycle",
        "acl",
        "encryption",
        "replication",
        "website",
        "cors",
        "notification",
        "logging",
        "tagging",
        "object-lock",
    ];
    let not_implemented = (501, "NotImplemented".to_owned());
    for name in left_out {
        assert_eq!(outcome(&gateway, "GET", &format!("/demo?{name}"), &[]).await, not_implemented, "{name}");
    }
    for name in ["acl", "retention", "legal-hold", "torrent"] {
        assert_eq!(
            outcome(&gateway, "GET", &format!("/demo/o?{name}"), &[]).await,
            not_implemented,
            "{name}"
        );
    }
    for name in ["policy", "lifecycle", "cors", "website"] {
        assert_eq!(
            outcome(&gateway, "DELETE", &format!("/demo?{name}"), &[]).await,
            not_implemented,
            "{name}"
        );
    }
    let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    let versioning = client.put_bucket_versioning().bucket("demo").versioning_configuration(enabled);
    assert_eq!(versioning.send().await.unwrap_err().code(), Some("NotImplemented"));
    for (name, value) in [
        ("x-amz-acl", "public-read"),
        ("x-amz-server-side-encryption", "AES256"),
        ("x-amz-object-lock-mode", "GOVERNANCE"),
        ("x-amz-grant-read", "id=1"),
    ] {
        let headers = [(name, value)];
        let answer = request(gateway.address(), "PUT", "/demo/o", &headers, Some(b"after")).await;
        assert_eq!(answer.complete_status(), 501, "{name}: {}", answer.text());
    }
    assert_eq!(read(&client, "demo", "o").await, b"before");
}

/// E1, A2: the origin verifies every request: forged ones are 403, bodies that do not match the signature 400, nothing
/// is stored
#[tokio::test]
async fn the_origin_verifies_every_request() {
    let directory = Scratch::new();
    let mut origin = origin::start(directory.path(), "real").unwrap();
    let client = direct(&origin);
    put(&client, "real", "o", b"right".to_vec()).await;
    let md5 = client.put_object().bucket("real").key("o").content_md5("1B2M2Y8AsgTpgAmY7PhCfg==");
    assert_eq!(md5.body(b"x".to_vec().into()).send().await.unwrap_err().code(), Some("BadDigest"));
    let crc = client.put_object().bucket("real").key("o").checksum_crc32("AAAAAA==");
    assert_eq!(crc.body(b"x".to_vec().into()).send().await.unwrap_err().code(), Some("BadDigest"));
    // Signed as one body, sent as another.
    let signer = Signer::new(&origin.access_key_id, &origin.secret_access_key);
    let send = async |payload: &str, body: &[u8]| {
        let headers = signer.headers("PUT", "/real/o", payload, &[]);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        request(origin.address, "PUT", "/real/o", &headers, Some(body)).await
    };
    let refused = send(&sha256(b"wrong"), b"x").await;
    assert_eq!(refused.complete_status(), 400);
    assert!(refused.text().contains("<Code>XAmzContentSHA256Mismatch</Code>"), "{}", refused.text());
    assert_eq!(send(&sha256(b"right"), b"right").await.complete_status(), 200);
    origin.secret_access_key.push('x');
    let forged = direct(&origin).get_object().bucket("real").key("o").send().await.unwrap_err();
    assert_eq!(forged.code(), Some("SignatureDoesNotMatch"));
    origin.access_key_id.push('x');
    let unknown = direct(&origin).get_object().bucket("real").key("o").send().await.unwrap_err();
    assert_eq!(unknown.raw_response().unwrap().status().as_u16(), 403);
    assert_eq!(read(&client, "real", "o").await, b"right");
}
