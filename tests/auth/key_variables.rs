//! Keys that are defined only by environment variables: variable names are upper case, key IDs may not be.

use super::{Signer, send_signed};
use crate::support::gateway::Builder;
use crate::support::{Gateway, Upstream};

const SECRET: &str = "reader/secret+of/forty=characters";

/// Bucket `b`, and the policy of a key that variables define.
fn bucket(upstream: &Upstream) -> Builder {
    Gateway::builder()
        .bucket("b", upstream)
        .set("buckets.b.auth", "sigv4")
        .set("keys.akiaxyz.secret", SECRET)
        .set("keys.akiaxyz.policy", "all")
        .set("policies.all.buckets", "*")
        .set("policies.all.methods", "read")
}

/// G12, A1: `TIDEGATE_KEYS__AKIAXYZ__SECRET` defines the key IDs AKIAXYZ and akiaxyz, and one log line states it
#[tokio::test]
async fn a_key_from_a_variable_has_both_cases() {
    let upstream = Upstream::ok("x");
    let gateway = bucket(&upstream).start().await;
    for id in ["AKIAXYZ", "akiaxyz"] {
        assert_eq!(
            send_signed(&gateway, &Signer::new(id, SECRET), "GET", "/b/k").await.complete_status(),
            200,
            "{id}"
        );
    }
    let other = send_signed(&gateway, &Signer::new("Akiaxyz", SECRET), "GET", "/b/k").await;
    assert_eq!((other.complete_status(), other.reason()), (403, "unknown_key"));
    let line = gateway
        .wait_for_log_line("configuration warning", |line| line["key"] == "keys.akiaxyz.access_key_id")
        .await;
    assert!(line["detail"].as_str().unwrap().contains("AKIAXYZ"), "{line}");
}

/// G12, A1: an explicit key ID is used exactly
#[tokio::test]
async fn an_explicit_id_has_one_case() {
    let upstream = Upstream::ok("x");
    let gateway = bucket(&upstream).set("keys.akiaxyz.access_key_id", "AKIAXYZ").start().await;
    assert_eq!(
        send_signed(&gateway, &Signer::new("AKIAXYZ", SECRET), "GET", "/b/k").await.complete_status(),
        200
    );
    let other = send_signed(&gateway, &Signer::new("akiaxyz", SECRET), "GET", "/b/k").await;
    assert_eq!((other.complete_status(), other.reason()), (403, "unknown_key"));
    assert!(gateway.log_lines().iter().all(|line| line["msg"] != "configuration warning"));
}

/// G12: two keys that differ only in case are a start-up error, because either could match
#[test]
fn two_keys_that_differ_in_case_stop_the_start() {
    let upstream = Upstream::ok("x");
    let ended = bucket(&upstream)
        .set("keys.other.access_key_id", "AkiaXYZ")
        .set("keys.other.secret", SECRET)
        .set("keys.other.policy", "all")
        .run();
    assert_eq!(ended.code, Some(78), "{}", ended.stderr);
    let expected = "keys.other: has the same access key ID as keys.akiaxyz, in another case";
    assert!(ended.stderr.contains(expected), "{}", ended.stderr);
}
