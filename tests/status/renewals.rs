//! Causes of values that are renewed in the background: certificates, token keys, credentials.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{cause_that_refused, has_begun, has_ended};
use crate::support::{Gateway, ReplaceableUpstream, Scratch, Upstream, UpstreamReply, request, wait_for};

/// Writes a self-signed certificate that ends after this time, and its key.
fn write_certificate(directory: &Path, left: Duration) {
    write_certificate_of(directory, |params| {
        params.not_after = OffsetDateTime::from(SystemTime::now() + left);
    });
}

fn write_certificate_of(directory: &Path, change: impl FnOnce(&mut CertificateParams)) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["gateway.test".to_owned()]).unwrap();
    change(&mut params);
    let certificate = params.self_signed(&key).unwrap();
    for (name, text, mode) in
        [("certificate.pem", certificate.pem(), 0o644), ("key.pem", key.serialize_pem(), 0o600)]
    {
        fs::write(directory.join(name), text).unwrap();
        fs::set_permissions(directory.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);

/// X10, A7: a certificate within 14 days of its end is a cause until a later one is loaded; a bad file is another
#[tokio::test]
async fn an_expiring_certificate_is_a_cause() {
    let (upstream, directory) = (Upstream::ok("x"), Scratch::new());
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    write_certificate(directory.path(), DAY * 5 + DAY / 2);
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("server.tls.certificate_file", &file("certificate.pem"))
        .set("server.tls.private_key_file", &file("key.pem"))
        .set("server.tls.reload_interval", "3600")
        .start()
        .await;
    let expires = has_begun(&gateway, "certificate_expires", "process").await;
    assert_eq!(expires["scope"], json!({ "kind": "listener", "bucket": null, "name": "data" }));
    assert_eq!(expires["threshold"], json!({ "value": 14.0, "unit": "days" }));
    let days = expires["measured"]["value"].as_f64().unwrap();
    assert!(days > 5.4 && days <= 5.5, "{expires}");
    let end = OffsetDateTime::parse(expires["until"].as_str().unwrap(), &Rfc3339).unwrap();
    assert!((end - OffsetDateTime::from(SystemTime::now())).whole_days() == 5, "{expires}");

    fs::write(directory.path().join("certificate.pem"), "no certificate").unwrap();
    gateway.send_sighup();
    let refused = has_begun(&gateway, "certificate_refused", "process").await;
    assert!(refused["message"].as_str().unwrap().contains("certificate.pem"), "{refused}");

    write_certificate(directory.path(), DAY * 90);
    gateway.send_sighup();
    has_ended(&gateway, "certificate_refused", "process").await;
    has_ended(&gateway, "certificate_expires", "process").await;
    assert_eq!(gateway.status().await["status"], "ok");

    write_certificate(directory.path(), Duration::ZERO);
    gateway.send_sighup();
    let expired = has_begun(&gateway, "certificate_expired", "process").await;
    assert_eq!(expired["scope"], json!({ "kind": "listener", "bucket": null, "name": "data" }));
    write_certificate(directory.path(), DAY * 90);
    gateway.send_sighup();
    has_ended(&gateway, "certificate_expired", "process").await;
}

/// X10, A7: a certificate before its validity is a critical cause with its end, until a valid one is loaded
#[tokio::test]
async fn a_certificate_before_its_validity_is_a_cause() {
    let (upstream, directory) = (Upstream::ok("x"), Scratch::new());
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let begins = OffsetDateTime::from(SystemTime::now() + DAY * 2);
    write_certificate_of(directory.path(), |params| {
        (params.not_before, params.not_after) = (begins, begins + DAY * 90);
    });
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("server.tls.certificate_file", &file("certificate.pem"))
        .set("server.tls.private_key_file", &file("key.pem"))
        .set("server.tls.reload_interval", "3600")
        .start()
        .await;
    let early = has_begun(&gateway, "certificate_not_yet_valid", "process").await;
    assert_eq!(early["scope"], json!({ "kind": "listener", "bucket": null, "name": "data" }));
    let until = OffsetDateTime::parse(early["until"].as_str().unwrap(), &Rfc3339).unwrap();
    assert!((until - begins).whole_seconds().abs() <= 1, "{early}");
    write_certificate(directory.path(), DAY * 90);
    gateway.send_sighup();
    has_ended(&gateway, "certificate_not_yet_valid", "process").await;
}

/// X10, A3: a set of token keys that cannot be fetched is a cause until it is
#[tokio::test]
async fn a_failing_key_set_is_a_cause() {
    let upstream = Upstream::ok("x");
    let source = ReplaceableUpstream::start(UpstreamReply::status(500));
    let url = format!("http://{}/keys", source.address());
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.auth", "jwt")
        .set("jwt.issuer", "https://issuer.test")
        .set("jwt.audience", "tidegate")
        .set("jwt.jwks_url", &url)
        .start()
        .await;
    let missing = has_begun(&gateway, "token_keys_missing", "process").await;
    assert_eq!(missing["severity"], "critical");
    let message = missing["message"].as_str().unwrap();
    assert!(message.contains(&url) && message.contains("500"), "{message}");
    assert_eq!(missing["measured"]["unit"], "failures in a row");
    source.publish(UpstreamReply::ok(json!({ "keys": [] }).to_string()));
    has_ended(&gateway, "token_keys_missing", "process").await;
    assert_eq!(gateway.status().await["status"], "ok");
}

/// A token with the key ID `invented`.
const UNKNOWN_KEY_TOKEN: &str = "Bearer eyJhbGciOiJSUzI1NiIsImtpZCI6ImludmVudGVkIn0.eyJzdWIiOiJ4In0.c2ln";

/// X10, A3: a refresh of the token keys that fails is a cause while the fetched keys verify tokens
#[tokio::test]
async fn a_failing_refresh_of_token_keys_is_a_cause() {
    let upstream = Upstream::ok("x");
    let keys = || UpstreamReply::ok(json!({ "keys": [] }).to_string());
    let source = ReplaceableUpstream::start(keys());
    let url = format!("http://{}/keys", source.address());
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.auth", "jwt")
        .set("jwt.issuer", "https://issuer.test")
        .set("jwt.audience", "tidegate")
        .set("jwt.jwks_url", &url)
        .start()
        .await;
    wait_for("the keys are fetched", || async { (source.server.count() > 0).then_some(()) }).await;
    source.publish(UpstreamReply::status(500));
    let token = [("authorization", UNKNOWN_KEY_TOKEN)];
    let refused = wait_for("an unknown key asks for a refresh", || async {
        let answer = request(gateway.address(), "GET", "/b/k", &token, None).await;
        (source.server.count() > 1).then_some(answer)
    })
    .await;
    assert_eq!(refused.complete_status(), 401, "{refused:?}");
    let failing = has_begun(&gateway, "token_keys_refresh", "process").await;
    assert_eq!(
        (&failing["severity"], &failing["measured"]["unit"]),
        (&"degraded".into(), &"failures in a row".into())
    );
    assert!(failing["message"].as_str().unwrap().contains(&url), "{failing}");
    source.publish(keys());
    has_ended(&gateway, "token_keys_refresh", "process").await;
}

fn lease(left: Duration) -> UpstreamReply {
    let end = OffsetDateTime::from(SystemTime::now() + left).format(&Rfc3339).unwrap();
    UpstreamReply::ok(format!(
        "{{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"hidden\",\"Token\":\"t\",\"Expiration\":\"{end}\"}}"
    ))
}

/// X10, A2: a renewal that fails is a cause while the old credentials are valid, and a critical one once they are not
#[tokio::test]
async fn a_failing_renewal_of_credentials_is_a_cause() {
    let upstream = Upstream::ok("x");
    let source = ReplaceableUpstream::start(lease(Duration::from_secs(6)));
    let url = format!("http://{}/credentials", source.address());
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.container_credentials.url", &url)
        .start()
        .await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    source.publish(UpstreamReply::status(500));
    let failing = has_begun(&gateway, "credential_renewal", "b").await;
    assert_eq!((&failing["severity"], &failing["effect"]["refused"]), (&"degraded".into(), &0.into()));
    assert!(failing["message"].as_str().unwrap().contains("expire in"), "{failing}");
    let missing = has_begun(&gateway, "credentials_missing", "b").await;
    assert_eq!(missing["severity"], "critical");
    has_ended(&gateway, "credential_renewal", "b").await;
    for _ in 0..4 {
        assert_eq!(gateway.get("/b/k").await.reason(), "upstream_credentials");
    }
    cause_that_refused(&gateway, "credentials_missing", 4).await;
    source.publish(lease(Duration::from_secs(3600)));
    assert_eq!(has_ended(&gateway, "credentials_missing", "b").await["refused"], 4);
    assert!(!gateway.status().await.to_string().contains("hidden"));
}
