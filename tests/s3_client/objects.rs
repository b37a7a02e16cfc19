//! Single objects and listings are returned as stored, under the same key.

use std::collections::BTreeSet;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{MIB, client, config, demo, hash_of, noise, put, read};
use crate::support::client::sha256;
use crate::support::{Gateway, Upstream};

/// Keys that proxies often change.
const KEYS: [&str; 18] = [
    "plain.txt",
    "with space.txt",
    "ünïcödé-日本語-🚀.txt",
    "plus+plus",
    "percent%",
    "looks%20encoded",
    "slash%2Fencoded",
    "tilde~",
    "..name",
    "name..",
    "it's (fine)!*",
    "a&b=c;d,e:f@g$",
    "question?mark#hash",
    "deep/er/and/deeper",
    "double//slash",
    "///",
    "trailing/",
    "trailing//",
];

/// V5, I2: GET and HEAD return body, ETag, length and metadata of the PUT
#[tokio::test]
async fn an_object_and_its_metadata_are_returned_unchanged() {
    let (_gateway, client) = demo().await;
    let body = noise(3 * MIB + 1, 1);
    let put = client.put_object().bucket("demo").key("o").body(body.clone().into());
    let put = put.content_type("text/x-test; charset=utf-8").cache_control("max-age=60, no-transform");
    let put = put.metadata("colour", "blue").metadata("n", "1").send().await.unwrap();
    let head = client.head_object().bucket("demo").key("o").send().await.unwrap();
    let got = client.get_object().bucket("demo").key("o").send().await.unwrap();
    assert_eq!((head.e_tag(), got.e_tag()), (put.e_tag(), put.e_tag()));
    assert_eq!(
        (head.content_length(), got.content_length()),
        (Some(body.len() as i64), Some(body.len() as i64))
    );
    assert_eq!(got.content_type(), Some("text/x-test; charset=utf-8"));
    assert_eq!(got.cache_control(), Some("max-age=60, no-transform"));
    assert_eq!(head.metadata(), got.metadata());
    assert_eq!(got.metadata().unwrap()["colour"], "blue");
    assert_eq!(hash_of(got).await, (body.len(), sha256(&body)));
}

/// V5: unusual keys are unchanged in put, get, head, list, copy and delete
#[tokio::test]
async fn awkward_keys_name_the_same_object_in_every_operation() {
    let (_gateway, client) = demo().await;
    for key in KEYS {
        put(&client, "demo", key, key.into()).await;
        assert_eq!(read(&client, "demo", key).await, key.as_bytes());
        let head = client.head_object().bucket("demo").key(key).send().await.unwrap();
        assert_eq!(head.content_length(), Some(key.len() as i64), "{key}");
        let source = format!("demo/{}", utf8_percent_encode(key, NON_ALPHANUMERIC));
        client.copy_object().bucket("demo").key("copy").copy_source(source).send().await.unwrap();
        assert_eq!(read(&client, "demo", "copy").await, key.as_bytes());
        let listed = client.list_objects_v2().bucket("demo").prefix(key).send().await.unwrap();
        assert!(listed.contents().iter().any(|object| object.key() == Some(key)), "{key}");
        client.delete_object().bucket("demo").key(key).send().await.unwrap();
        let gone =
            client.head_object().bucket("demo").key(key).send().await.unwrap_err().into_service_error();
        assert!(gone.is_not_found(), "{key}: {gone:?}");
    }
}

/// V5: the upstream gets the same target as from a client without a gateway
#[tokio::test]
async fn no_key_is_normalized_decoded_or_encoded_again() {
    let upstream = Upstream::ok("");
    let gateway = Gateway::in_front_of(&upstream).await;
    let direct = Client::from_conf(config(format!("http://{}", upstream.address())).build());
    let through = client(&gateway);
    for key in KEYS {
        direct.get_object().bucket("b").key(key).send().await.unwrap();
        let expected = upstream.last();
        through.get_object().bucket("b").key(key).send().await.unwrap();
        assert_eq!(upstream.last().target, expected.target);
        assert_ne!(upstream.last().number, expected.number, "{key} was not forwarded");
    }
}

/// V5: prefix, delimiter and continuation tokens are forwarded in both directions
#[tokio::test]
async fn listings_are_filtered_grouped_and_paged() {
    let (_gateway, client) = demo().await;
    let keys = ["a b/1", "a b/2", "a+b/1", "top", "x/y/1", "x/y/2", "x/z"];
    for key in keys {
        put(&client, "demo", key, vec![]).await;
    }
    let below = client.list_objects_v2().bucket("demo").prefix("a b/").send().await.unwrap();
    assert_eq!(
        below.contents().iter().map(|object| object.key().unwrap()).collect::<Vec<_>>(),
        ["a b/1", "a b/2"]
    );
    let grouped = client.list_objects_v2().bucket("demo").delimiter("/").send().await.unwrap();
    assert_eq!(
        grouped.common_prefixes().iter().map(|p| p.prefix().unwrap()).collect::<Vec<_>>(),
        ["a b/", "a+b/", "x/"]
    );
    assert_eq!(grouped.contents().iter().map(|object| object.key().unwrap()).collect::<Vec<_>>(), ["top"]);
    let mut pages = client.list_objects_v2().bucket("demo").into_paginator().page_size(2).send();
    let mut paged = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.unwrap();
        assert!(page.contents().len() <= 2);
        paged.extend(page.contents().iter().map(|object| object.key().unwrap().to_owned()));
    }
    assert_eq!(paged, keys);
}

/// E5, V5: the POST's document and its answer are forwarded, item by item
#[tokio::test]
async fn many_objects_are_deleted_in_one_request() {
    let (_gateway, client) = demo().await;
    for n in 0..6 {
        put(&client, "demo", &format!("k{n}"), vec![n]).await;
    }
    let asked = (0..5).map(|n| ObjectIdentifier::builder().key(format!("k{n}")).build().unwrap());
    let delete = Delete::builder().set_objects(Some(asked.collect())).build().unwrap();
    let answer = client.delete_objects().bucket("demo").delete(delete).send().await.unwrap();
    let deleted: BTreeSet<_> = answer.deleted().iter().map(|item| item.key().unwrap()).collect();
    assert_eq!(deleted, BTreeSet::from(["k0", "k1", "k2", "k3", "k4"]));
    assert!(answer.errors().is_empty());
    let left = client.list_objects_v2().bucket("demo").send().await.unwrap();
    assert_eq!(left.contents().iter().map(|object| object.key().unwrap()).collect::<Vec<_>>(), ["k5"]);
}

/// I2: ranges are exact, with their Content-Range; a range past the end is the server's 416, unchanged
#[tokio::test]
async fn a_range_is_answered_with_exactly_its_bytes() {
    let (_gateway, client) = demo().await;
    let body = noise(10_000, 2);
    put(&client, "demo", "o", body.clone()).await;
    let ranges = [
        ("bytes=0-", 0..=9999),
        ("bytes=5000-5099", 5000..=5099),
        ("bytes=-500", 9500..=9999),
        ("bytes=9999-", 9999..=9999),
    ];
    for (asked, range) in ranges {
        let got = client.get_object().bucket("demo").key("o").range(asked).send().await.unwrap();
        let content_range = format!("bytes {}-{}/10000", range.start(), range.end());
        assert_eq!(got.content_range(), Some(content_range.as_str()));
        assert_eq!(got.body.collect().await.unwrap().to_vec(), body[range]);
    }
    let past = client.get_object().bucket("demo").key("o").range("bytes=10000-").send().await.unwrap_err();
    assert_eq!(past.raw_response().unwrap().status().as_u16(), 416);
    assert_eq!(past.code(), Some("InvalidRange"));
}
