//! The SDK recognises errors: the server's are forwarded unchanged, the gateway's have the same format.

use aws_sdk_s3::error::ProvideErrorMetadata;

use super::{MIB, client, demo, gateway_before, noise, origin, put};
use crate::support::{Gateway, Upstream, get};

/// E1, E2: the server's NoSuchKey is the SDK's type for it, and HEAD, which has no document, gives its NotFound
#[tokio::test]
async fn a_missing_key_is_the_sdks_no_such_key() {
    let (gateway, client) = demo().await;
    let missing =
        client.get_object().bucket("demo").key("none").send().await.unwrap_err().into_service_error();
    assert!(missing.is_no_such_key(), "{missing:?}");
    let missing =
        client.head_object().bucket("demo").key("none").send().await.unwrap_err().into_service_error();
    assert!(missing.is_not_found(), "{missing:?}");
    assert_eq!(gateway.get("/demo/none").await.reason(), "", "the gateway answered instead of the server");
}

/// E1, O1, O4: an unknown bucket is NoSuchBucket, with the request ID and the reason
#[tokio::test]
async fn an_unknown_bucket_is_named() {
    let upstream = Upstream::ok("");
    let gateway = Gateway::in_front_of(&upstream).await;
    let client = client(&gateway);
    let unknown = client.list_objects_v2().bucket("nowhere").send().await.unwrap_err();
    let response = unknown.raw_response().unwrap();
    assert_eq!(response.status().as_u16(), 404);
    assert_eq!(response.headers().get("x-tidegate-reason"), Some("no_such_bucket"));
    let id = response.headers().get("x-request-id").unwrap().to_owned();
    assert_eq!(gateway.wait_for_access_line(&id).await["status"], 404);
    let unknown = unknown.into_service_error();
    assert!(unknown.is_no_such_bucket(), "{unknown:?}");
    assert!(unknown.message().unwrap().contains("`nowhere`"));
}

/// A4, E1, O4: a bucket without an `auth` entry refuses every request, signed or not, and the start logs it
#[tokio::test]
async fn a_closed_bucket_is_access_denied() {
    let upstream = Upstream::ok("");
    let gateway = Gateway::builder().bucket("b", &upstream).set("buckets.b.auth", "").start().await;
    gateway.wait_for_log_line("configuration warning", |line| line["key"] == "buckets.b.auth").await;
    let client = client(&gateway);
    let read = client.get_object().bucket("b").key("k").send().await.unwrap_err();
    assert_eq!(read.raw_response().unwrap().status().as_u16(), 403);
    assert_eq!(read.code(), Some("AccessDenied"));
    assert_eq!(read.raw_response().unwrap().headers().get("x-tidegate-reason"), Some("bucket_closed"));
    let written = client.put_object().bucket("b").key("k").body(vec![1].into()).send().await.unwrap_err();
    assert_eq!(written.code(), Some("AccessDenied"));
    assert_eq!(get(gateway.address(), "/b/k").await.complete_status(), 403);
    assert_eq!(upstream.count(), 0);
}

/// V2, E1: a body over the limit gets S3's error, and nothing is stored
#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let (origin, _directory) = origin();
    let gateway = gateway_before(&origin).set("buckets.alias.max_request_size", "1MiB").start().await;
    let client = client(&gateway);
    let refused =
        client.put_object().bucket("alias").key("o").body(noise(MIB + 1, 6).into()).send().await.unwrap_err();
    assert_eq!(refused.raw_response().unwrap().status().as_u16(), 413);
    assert_eq!(refused.code(), Some("EntityTooLarge"));
    put(&client, "alias", "o", noise(MIB, 6)).await;
}

/// E2: the server's error for an aborted upload is forwarded, and nothing of the upload remains
#[tokio::test]
async fn an_aborted_upload_refuses_more_parts() {
    let (_gateway, client) = demo().await;
    let upload = client.create_multipart_upload().bucket("demo").key("o").send().await.unwrap();
    let part = |number| {
        let part = client.upload_part().bucket("demo").key("o").upload_id(upload.upload_id().unwrap());
        part.part_number(number).body(vec![1].into()).send()
    };
    part(1).await.unwrap();
    let abort =
        client.abort_multipart_upload().bucket("demo").key("o").upload_id(upload.upload_id().unwrap());
    abort.send().await.unwrap();
    let refused = part(2).await.unwrap_err();
    let response = refused.raw_response().unwrap();
    assert_eq!((response.status().as_u16(), refused.code()), (404, Some("NoSuchUpload")));
    assert_eq!(response.headers().get("x-tidegate-reason"), None);
    let missing = client.head_object().bucket("demo").key("o").send().await.unwrap_err().into_service_error();
    assert!(missing.is_not_found(), "{missing:?}");
}

/// E2, A2, R1: with wrong upstream credentials the server's refusal is forwarded after one attempt
#[tokio::test]
async fn wrong_upstream_credentials_forward_the_servers_error() {
    let (origin, _directory) = origin();
    let gateway =
        gateway_before(&origin).set("buckets.alias.s3.secret_access_key", "not-the-secret").start().await;
    let refused = client(&gateway).get_object().bucket("alias").key("k").send().await.unwrap_err();
    assert_eq!(refused.raw_response().unwrap().status().as_u16(), 403);
    assert_eq!(refused.code(), Some("SignatureDoesNotMatch"));
    assert_eq!(refused.raw_response().unwrap().headers().get("x-tidegate-reason"), None);
    assert_eq!(gateway.metric("s3_retry_attempts_total{bucket=\"alias\"}").await, 0.0);
    assert_eq!(gateway.metric("circuit_breaker_failures{bucket=\"alias\",class=\"read\"}").await, 0.0);
}

/// E5: the origin's NotImplemented is forwarded
#[tokio::test]
async fn an_operation_the_server_lacks_is_not_implemented() {
    let (_gateway, client) = demo().await;
    let refused = client.list_object_versions().bucket("demo").send().await.unwrap_err();
    assert_eq!(refused.raw_response().unwrap().status().as_u16(), 501);
    assert_eq!(refused.code(), Some("NotImplemented"));
}
