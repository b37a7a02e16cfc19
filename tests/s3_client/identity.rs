//! Identity at the upstream: the gateway's bucket name and keys, never the client's.

use std::time::Duration;

use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::types::MetadataDirective;
use futures_util::future::join_all;

use super::{client, config, demo, direct, gateway_before, noise, origin, put, read};
use crate::support::client::sha256;
use crate::support::{Gateway, Upstream, get};

/// G1, V5, A2: `buckets.NAME.s3.bucket` is the upstream's bucket; clients use only NAME
#[tokio::test]
async fn the_upstreams_bucket_may_have_another_name() {
    let (origin, _directory) = origin();
    let gateway = gateway_before(&origin).start().await;
    let client = client(&gateway);
    put(&client, "alias", "folder/k ü+", b"under another name".to_vec()).await;
    assert_eq!(read(&direct(&origin), "real", "folder/k ü+").await, b"under another name");
    let listed = client.list_objects_v2().bucket("alias").prefix("folder/").send().await.unwrap();
    assert_eq!(listed.contents()[0].key(), Some("folder/k ü+"));
    assert_eq!(read(&client, "alias", "folder/k ü+").await, b"under another name");
    let behind = client.get_object().bucket("real").key("folder/k ü+").send().await.unwrap_err();
    assert_eq!(behind.code(), Some("NoSuchBucket"));
}

/// V5, I2: a copy source has the gateway's name of the bucket; bytes and metadata are copied or replaced
#[tokio::test]
async fn a_copy_within_a_renamed_bucket_succeeds() {
    let (origin, _directory) = origin();
    let gateway = gateway_before(&origin).start().await;
    let client = client(&gateway);
    let source = client.put_object().bucket("alias").key("from +%").body(b"bytes".to_vec().into());
    source.metadata("a", "1").send().await.unwrap();
    let copy = || client.copy_object().bucket("alias").copy_source("alias/from%20%2B%25");
    copy().key("kept").send().await.unwrap();
    copy()
        .key("replaced")
        .metadata_directive(MetadataDirective::Replace)
        .metadata("b", "2")
        .send()
        .await
        .unwrap();
    let metadata = async |key: &str| {
        let head = client.head_object().bucket("alias").key(key).send().await.unwrap();
        head.metadata().cloned().unwrap_or_default().into_iter().collect::<Vec<_>>()
    };
    assert_eq!(read(&client, "alias", "kept").await, b"bytes");
    assert_eq!(metadata("kept").await, [("a".to_owned(), "1".to_owned())]);
    assert_eq!(metadata("replaced").await, [("b".to_owned(), "2".to_owned())]);
    let stolen = client
        .copy_object()
        .bucket("alias")
        .key("x")
        .copy_source("real/from%20%2B%25")
        .send()
        .await
        .unwrap_err();
    assert_eq!(stolen.raw_response().unwrap().status().as_u16(), 403);
}

/// A2, V7: the client's signature, session token and presigned query are not forwarded
#[tokio::test]
async fn the_clients_identity_is_not_forwarded() {
    let upstream = Upstream::ok("");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.access_key_id", "GATEWAYKEY")
        .set("buckets.b.s3.secret_access_key", "gateway-secret")
        .start()
        .await;
    let client = client(&gateway);
    client.get_object().bucket("b").key("k").send().await.unwrap();
    let presigned = client.get_object().bucket("b").key("k").response_content_type("text/plain");
    let presigned =
        presigned.presigned(PresigningConfig::expires_in(Duration::from_secs(60)).unwrap()).await.unwrap();
    let target = presigned.uri().strip_prefix(&gateway.url("")).unwrap();
    assert!(target.contains("X-Amz-Security-Token=token"));
    assert_eq!(get(gateway.address(), target).await.complete_status(), 200);
    let [signed, from_query] = <[_; 2]>::try_from(upstream.seen()).unwrap();
    assert_eq!(from_query.target, "/b/k?x-id=GetObject&response-content-type=text%2Fplain");
    for seen in [signed, from_query] {
        assert!(seen.header("authorization").unwrap().contains("Credential=GATEWAYKEY/"), "{seen:?}");
        assert_eq!(seen.header("x-amz-security-token"), None);
        let whole = format!("{seen:?}");
        assert!(!whole.contains("CLIENTSOWNKEY") && !whole.contains("X-Amz-"), "{whole}");
    }
}

/// A2: a presigned URL with a key unknown to the server is served by a server that verifies the gateway's signature
#[tokio::test]
async fn a_presigned_url_is_signed_anew() {
    let (gateway, client) = demo().await;
    put(&client, "demo", "a b+c", b"presigned".to_vec()).await;
    let hour = PresigningConfig::expires_in(Duration::from_secs(3600)).unwrap();
    let presigned = client.get_object().bucket("demo").key("a b+c").presigned(hour).await.unwrap();
    let got = get(gateway.address(), presigned.uri().strip_prefix(&gateway.url("")).unwrap()).await;
    assert_eq!((got.complete_status(), got.text()), (200, "presigned".to_owned()));
}

/// P3, V5: many concurrent clients through a narrow gate are all served, each with its own body
#[tokio::test]
async fn concurrent_objects_do_not_mix() {
    let (origin, _directory) = origin();
    let gateway = gateway_before(&origin)
        .set("buckets.alias.s3.concurrency.max_concurrent", "4")
        .set("buckets.alias.s3.concurrency.queue_timeout_ms", "30000")
        .start()
        .await;
    let round_trip = async |n: u64| {
        let client = aws_sdk_s3::Client::from_conf(config(gateway.url("")).build());
        let (key, body) = (format!("{n:02}"), noise(20_000 + n as usize * 1000, n));
        put(&client, "alias", &key, body.clone()).await;
        assert_eq!(sha256(&read(&client, "alias", &key).await), sha256(&body));
    };
    join_all((0..40).map(round_trip)).await;
    gateway.wait_until_idle().await;
}
