//! Validly signed requests are forwarded under the right identity.

use std::time::Duration;

use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{Credentials, Region, StalledStreamProtectionConfig};
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::{Client, Config};
use tidegate::origin::Origin;

use super::{ID, SECRET, send, send_signed, signed_bucket, signer, with_key};
use crate::support::{Gateway, Scratch, Upstream, get, put, request};

fn sdk(gateway: &Gateway, id: &str, secret: &str) -> Client {
    let keys = Credentials::new(id, secret, None, None, "test");
    let config = Config::builder()
        .behavior_version_latest()
        .endpoint_url(gateway.url(""))
        .region(Region::new("us-east-1"))
        .credentials_provider(keys)
        .force_path_style(true)
        .retry_config(RetryConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .http_client(aws_smithy_http_client::Builder::new().build_http());
    Client::from_conf(config.build())
}

/// A real server, bucket `real`, behind bucket `b` that takes signatures only.
async fn before_origin() -> (Gateway, Origin, Scratch) {
    let directory = Scratch::new();
    let origin = tidegate::origin::start(directory.path(), "real").unwrap();
    let builder = Gateway::builder()
        .bucket_at("b", &[origin.address])
        .set("buckets.b.auth", "sigv4")
        .set("buckets.b.s3.bucket", "real")
        .set("buckets.b.s3.access_key_id", &origin.access_key_id)
        .set("buckets.b.s3.secret_access_key", &origin.secret_access_key);
    (with_key(builder).start().await, origin, directory)
}

/// A1, A2: the SDK's signatures verify over unusual keys and metadata, and the requests are signed anew
#[tokio::test]
async fn the_sdks_signature_is_verified_and_the_request_signed_anew() {
    let (gateway, _origin, _directory) = before_origin().await;
    let client = sdk(&gateway, ID, SECRET);
    for key in ["plain", "a b/c+d", "it's (1)!*", "ü/ñ~", "100%/%2F", "=&?#;:@,$"] {
        let put = client.put_object().bucket("b").key(key).metadata("m", "  two   words ");
        put.body(key.as_bytes().to_vec().into()).content_type("text/plain").send().await.unwrap();
        let got = client.get_object().bucket("b").key(key).range("bytes=0-").send().await.unwrap();
        assert_eq!(got.body.collect().await.unwrap().to_vec(), key.as_bytes(), "{key}");
    }
    let listed = client.list_objects_v2().bucket("b").prefix("a b/").delimiter("/").send().await.unwrap();
    assert_eq!(listed.contents()[0].key(), Some("a b/c+d"));
    let wrong = sdk(&gateway, ID, "another/secret").get_object().bucket("b").key("plain").send().await;
    assert_eq!(wrong.unwrap_err().code(), Some("SignatureDoesNotMatch"));
    let unknown = sdk(&gateway, "AKIDUNKNOWN", SECRET).get_object().bucket("b").key("plain").send().await;
    assert_eq!(unknown.unwrap_err().code(), Some("InvalidAccessKeyId"));
}

/// A1: presigned URLs read and write until they expire
#[tokio::test]
async fn a_presigned_url_is_verified() {
    let (gateway, _origin, _directory) = before_origin().await;
    let client = sdk(&gateway, ID, SECRET);
    let hour = || PresigningConfig::expires_in(Duration::from_secs(3600)).unwrap();
    let target = |uri: &str| uri.strip_prefix(&gateway.url("")).unwrap().to_owned();
    let host = gateway.address().to_string();
    let send = async |method: &str, target: &str, body: Option<&[u8]>| {
        let length = body.map_or_else(String::new, |body| format!("content-length: {}\r\n", body.len()));
        let mut bytes = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\n{length}\r\n").into_bytes();
        bytes.extend_from_slice(body.unwrap_or_default());
        let mut client = crate::support::Client::connect(gateway.address()).await;
        client.send(bytes).await;
        client.response(method).await
    };
    let put = client.put_object().bucket("b").key("a b+c").presigned(hour()).await.unwrap();
    assert_eq!(send("PUT", &target(put.uri()), Some(b"presigned")).await.complete_status(), 200);
    let get = client.get_object().bucket("b").key("a b+c").response_content_type("text/x y");
    let get = target(get.presigned(hour()).await.unwrap().uri());
    let got = send("GET", &get, None).await;
    assert_eq!((got.complete_status(), got.text()), (200, "presigned".to_owned()));
    let other = send("GET", &get.replace("a%20b%2Bc", "other"), None).await;
    assert_eq!((other.complete_status(), other.reason()), (403, "signature_mismatch"));
    let lifted = send("GET", &get.replace("X-Amz-Expires=3600", "X-Amz-Expires=7200"), None).await;
    assert_eq!((lifted.complete_status(), lifted.reason()), (403, "signature_mismatch"));
}

/// A1, V5: a signature over the unencoded path is accepted too
#[tokio::test]
async fn a_path_may_be_signed_as_it_was_sent() {
    let upstream = Upstream::ok("x");
    let gateway = signed_bucket(&upstream).start().await;
    for target in ["/b/it's", "/b/it%27s", "/b/a%2Fb", "/b//x/./y", "/b/%7e", "/b/(1)!*", "/b/a@b:c,d;e=f"] {
        let answer = send_signed(&gateway, &signer(), "GET", target).await;
        assert_eq!(answer.complete_status(), 200, "{target}: {}", answer.text());
        assert_eq!(upstream.seen().last().unwrap().target, target);
    }
}

/// A2: with `upstream = "same"` the store gets the client's own key pair, for any other key the bucket's
#[tokio::test]
async fn a_key_may_sign_upstream_requests_itself() {
    let upstream = Upstream::ok("x");
    let gateway = signed_bucket(&upstream)
        .set("buckets.b.s3.access_key_id", "BUCKETKEY")
        .set("buckets.b.s3.secret_access_key", "bucket-secret")
        .set("keys.own.access_key_id", "AKIDOWN")
        .set("keys.own.secret", "own-secret")
        .set("keys.own.policy", "all")
        .set("keys.own.upstream", "same")
        .start()
        .await;
    assert_eq!(send_signed(&gateway, &signer(), "GET", "/b/k").await.complete_status(), 200);
    let own = super::Signer::new("AKIDOWN", "own-secret");
    assert_eq!(send_signed(&gateway, &own, "GET", "/b/k").await.complete_status(), 200);
    let [bucket, same] = <[_; 2]>::try_from(upstream.seen()).unwrap();
    assert!(bucket.header("authorization").unwrap().contains("Credential=BUCKETKEY/"), "{bucket:?}");
    assert!(same.header("authorization").unwrap().contains("Credential=AKIDOWN/"), "{same:?}");
}

/// A4: in a bucket that accepts both, an unauthenticated request gets the rights of `anonymous`; a wrong credential is
/// refused
#[tokio::test]
async fn a_wrong_credential_never_falls_back_to_anonymous() {
    let upstream = Upstream::ok("x");
    let gateway = signed_bucket(&upstream)
        .set("buckets.b.auth", "sigv4,anonymous")
        .set("buckets.b.anonymous", "read")
        .start()
        .await;
    assert_eq!(get(gateway.address(), "/b/k").await.complete_status(), 200);
    let denied = put(gateway.address(), "/b/k", "x").await;
    assert_eq!((denied.complete_status(), denied.reason()), (403, "anonymous_denied"));
    assert_eq!(get(gateway.address(), "/b").await.reason(), "anonymous_denied", "a listing is not a read");
    assert_eq!(send_signed(&gateway, &signer(), "PUT", "/b/k").await.complete_status(), 200);
    let wrong = super::Signer::new(ID, "wrong-secret");
    assert_eq!(send_signed(&gateway, &wrong, "GET", "/b/k").await.reason(), "signature_mismatch");
    assert_eq!(upstream.count(), 2);
}

/// A4: a session ID does not authenticate, not even the ID of a signed client
#[tokio::test]
async fn a_session_id_does_not_authenticate() {
    let upstream = Upstream::ok("x");
    let gateway = signed_bucket(&upstream).start().await;
    let mut headers = signer().headers("GET", "/b/k", "UNSIGNED-PAYLOAD", &[]);
    headers.push(("x-tidegate-session".to_owned(), "mine".to_owned()));
    assert_eq!(send(&gateway, "GET", "/b/k", &headers, None).await.complete_status(), 200);
    let stolen = request(gateway.address(), "GET", "/b/k", &[("x-tidegate-session", "mine")], None).await;
    assert_eq!((stolen.complete_status(), stolen.reason()), (403, "not_signed"));
    assert_eq!(upstream.count(), 1);
}

/// C1: each worker derives a client's signing key once
#[tokio::test]
async fn signing_keys_are_cached() {
    let upstream = Upstream::ok("x");
    let gateway = signed_bucket(&upstream).start().await;
    for _ in 0..40 {
        assert_eq!(send_signed(&gateway, &signer(), "GET", "/b/k").await.complete_status(), 200);
    }
    let cache = gateway.status().await["sessions"].clone();
    assert_eq!(cache["entries"], 1);
    let (hits, misses) = (cache["hits"].as_u64().unwrap(), cache["misses"].as_u64().unwrap());
    assert!(misses >= 1 && hits + misses <= 2, "two workers derived it at most once each: {cache}");
}

/// A2, C4, O2: the log names the key that signed, and no line holds a secret or a signature
#[tokio::test]
async fn the_log_names_the_key_and_holds_no_secret() {
    let upstream = Upstream::ok("x");
    let gateway = signed_bucket(&upstream).start().await;
    let target = signer().presigned("GET", "/b/k", "60");
    let answer = get(gateway.address(), &target).await;
    assert_eq!(answer.complete_status(), 200);
    let line = gateway.wait_for_access_line(answer.header("x-request-id").unwrap()).await;
    assert_eq!(line["key"], ID);
    let signature = target.rsplit('=').next().unwrap();
    let all = format!("{:?}{}{}", gateway.log_lines(), gateway.status().await, gateway.metrics().await);
    assert!(!all.contains(signature) && !all.contains(SECRET), "{all}");
}
