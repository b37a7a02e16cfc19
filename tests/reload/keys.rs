//! Keys and policies that a reload adds, withdraws or changes.

use std::path::Path;

use serde_json::json;

use super::{apply, wait_until_retired, write};
use crate::auth::signer::{Headers, Signer};
use crate::support::{Client, Gateway, Latch, Response, Upstream, UpstreamReply, client, request, wait_for};

const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// Bucket `b` with two policies, and `keys`.
fn text(upstream: &Upstream, keys: &str) -> String {
    format!(
        "[buckets.b]\nauth = [\"sigv4\", \"api_key\"]\n[buckets.b.s3]\nendpoints = [\"http://{}\"]\n\
         [policies.all]\nbuckets = [\"b\"]\nmethods = [\"read\", \"write\"]\n\
         [policies.some]\nbuckets = [\"b\"]\nprefixes = [\"some/\"]\nmethods = [\"read\"]\n{keys}",
        upstream.address()
    )
}

fn key(name: &str, secret: &str, policy: &str) -> String {
    format!("[keys.{name}]\naccess_key_id = \"ID-{name}\"\nsecret = \"{secret}\"\npolicy = \"{policy}\"\n")
}

fn api_key(name: &str, secret: &str, policy: &str) -> String {
    format!("[api_keys.{name}]\nsecret = \"{secret}\"\npolicy = \"{policy}\"\n")
}

/// A secret that is valid for both kinds of keys.
fn secret(name: &str) -> String {
    format!("secret-of-the-key-{name}")
}

fn signed_headers(name: &str, secret: &str, target: &str) -> Headers {
    Signer::new(&format!("ID-{name}"), secret).headers("GET", target, UNSIGNED, &[])
}

/// A GET with these headers.
async fn get(gateway: &Gateway, target: &str, headers: &Headers) -> Response {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    request(gateway.address(), "GET", target, &headers, None).await
}

/// A signed GET: its status and the reason of a refusal.
async fn signed(gateway: &Gateway, name: &str, secret: &str, target: &str) -> (u16, String) {
    let answer = get(gateway, target, &signed_headers(name, secret, target)).await;
    (answer.complete_status(), answer.reason().to_owned())
}

/// A GET with an API key.
async fn with_api_key(gateway: &Gateway, secret: &str, target: &str) -> (u16, String) {
    let answer = request(gateway.address(), "GET", target, &[("x-api-key", secret)], None).await;
    (answer.complete_status(), answer.reason().to_owned())
}

fn ok() -> (u16, String) {
    (200, String::new())
}

fn refused(status: u16, reason: &str) -> (u16, String) {
    (status, reason.to_owned())
}

/// G3, A4: an added key is accepted at once; a withdrawn one is refused at once, although the cache has its signing key
#[tokio::test]
async fn a_key_is_added_and_withdrawn() {
    let upstream = Upstream::ok("x");
    let (one, both) = (
        text(&upstream, &key("m", &secret("m"), "all")),
        text(&upstream, &(key("m", &secret("m"), "all") + &key("z", &secret("z"), "all"))),
    );
    let gateway = Gateway::builder().config(&one).start().await;
    assert_eq!(signed(&gateway, "m", &secret("m"), "/b/k").await, ok());
    assert_eq!(signed(&gateway, "z", &secret("z"), "/b/k").await, refused(403, "unknown_key"));
    let reply = apply(&gateway, &both).await;
    assert_eq!(reply["configuration"], 2);
    for name in ["m", "z", "m", "z"] {
        assert_eq!(signed(&gateway, name, &secret(name), "/b/k").await, ok(), "{name}");
    }
    apply(&gateway, &one).await;
    assert_eq!(signed(&gateway, "z", &secret("z"), "/b/k").await, refused(403, "unknown_key"));
    assert_eq!(signed(&gateway, "m", &secret("m"), "/b/k").await, ok());
    // its name returns with another secret
    apply(&gateway, &text(&upstream, &(key("m", &secret("m"), "all") + &key("z", &secret("y"), "all"))))
        .await;
    assert_eq!(signed(&gateway, "z", &secret("z"), "/b/k").await, refused(403, "signature_mismatch"));
    assert_eq!(signed(&gateway, "z", &secret("y"), "/b/k").await, ok());
}

/// G3, A4: a secret in a file is read again: the former one is refused at once, and the new one accepted
#[tokio::test]
async fn a_changed_secret_file_holds_at_once() {
    let upstream = Upstream::ok("x");
    let builder = Gateway::builder();
    let file = builder.directory().join("secret");
    let write_secret = |name: &str| write(&file, &secret(name), 0o600);
    write_secret("first");
    let keys = |file: &Path| {
        format!("[keys.m]\naccess_key_id = \"ID-m\"\npolicy = \"all\"\nsecret_file = {file:?}\n")
    };
    let text = text(&upstream, &keys(&file));
    let gateway = builder.config(&text).start().await;
    assert_eq!(signed(&gateway, "m", &secret("first"), "/b/k").await, ok());
    write_secret("second");
    let reply = apply(&gateway, &text).await;
    assert_eq!(reply["changes"][0]["key"], "keys.m.secret_file");
    assert_eq!(signed(&gateway, "m", &secret("first"), "/b/k").await, refused(403, "signature_mismatch"));
    assert_eq!(signed(&gateway, "m", &secret("second"), "/b/k").await, ok());
}

/// G3, A4: a changed policy holds at once for its keys, and so does another policy of a key
#[tokio::test]
async fn a_changed_policy_holds_at_once() {
    let upstream = Upstream::ok("x");
    let with = |policy: &str| {
        let (keys, api_keys) = (key("m", &secret("m"), policy), api_key("n", &secret("n"), "some"));
        text(&upstream, &(keys + &api_keys))
    };
    let gateway = Gateway::builder().config(&with("all")).start().await;
    assert_eq!(signed(&gateway, "m", &secret("m"), "/b/k").await, ok());
    assert_eq!(with_api_key(&gateway, &secret("n"), "/b/k").await, refused(403, "policy_denied"));
    apply(&gateway, &with("some")).await;
    assert_eq!(signed(&gateway, "m", &secret("m"), "/b/k").await, refused(403, "policy_denied"));
    assert_eq!(signed(&gateway, "m", &secret("m"), "/b/some/k").await, ok());
    apply(&gateway, &with("some").replace("\"some/\"", "\"other/\"")).await;
    assert_eq!(signed(&gateway, "m", &secret("m"), "/b/some/k").await, refused(403, "policy_denied"));
    assert_eq!(signed(&gateway, "m", &secret("m"), "/b/other/k").await, ok());
    assert_eq!(with_api_key(&gateway, &secret("n"), "/b/other/k").await, ok());
}

/// G3, G10, A4, L1: keys with names that sort first or between give no other key their policy, their secret or their used tokens
#[tokio::test]
async fn added_names_change_nobody_else() {
    let upstream = Upstream::ok("x");
    let limit = "[rate_limit.per_key]\nrequests_per_second = 0.001\nburst = 2\n";
    let old = key("m", &secret("m"), "some")
        + &key("z", &secret("z"), "all")
        + &api_key("m2", &secret("m2"), "some")
        + limit;
    let gateway = Gateway::builder().config(&text(&upstream, &old)).start().await;
    // `m` uses up its limit, `z` and `m2` use half of theirs
    for _ in 0..2 {
        assert_eq!(signed(&gateway, "m", &secret("m"), "/b/some/k").await, ok());
    }
    assert_eq!(signed(&gateway, "z", &secret("z"), "/b/k").await, ok());
    assert_eq!(with_api_key(&gateway, &secret("m2"), "/b/some/k").await, ok());
    let more = key("a", &secret("a"), "all")
        + &key("n", &secret("n"), "some")
        + &api_key("a2", &secret("a2"), "all");
    apply(&gateway, &text(&upstream, &(more + &old))).await;
    assert_eq!(signed(&gateway, "m", &secret("m"), "/b/some/k").await, refused(429, "rate_limit_key"));
    assert_eq!(signed(&gateway, "a", &secret("a"), "/b/k").await, ok(), "its tokens are its own");
    assert_eq!(signed(&gateway, "a", &secret("m"), "/b/k").await, refused(403, "signature_mismatch"));
    assert_eq!(signed(&gateway, "z", &secret("n"), "/b/k").await, refused(403, "signature_mismatch"));
    assert_eq!(signed(&gateway, "n", &secret("n"), "/b/some/k").await, ok());
    assert_eq!(signed(&gateway, "n", &secret("n"), "/b/k").await, refused(403, "policy_denied"));
    assert_eq!(signed(&gateway, "z", &secret("z"), "/b/k").await, ok(), "the second of two tokens");
    assert_eq!(signed(&gateway, "z", &secret("z"), "/b/k").await, refused(429, "rate_limit_key"));
    assert_eq!(with_api_key(&gateway, &secret("m2"), "/b/k").await, refused(403, "policy_denied"));
    assert_eq!(with_api_key(&gateway, &secret("m2"), "/b/some/k").await, refused(429, "rate_limit_key"));
    assert_eq!(with_api_key(&gateway, &secret("a2"), "/b/k").await, ok());
}

/// A stream of key `m` that has begun, and waits for the upstream.
async fn stream(gateway: &Gateway) -> (Client, Response) {
    let headers = signed_headers("m", &secret("m"), "/b/k");
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut client = Client::connect(gateway.address()).await;
    client.send(client::message("GET", "/b/k", &headers, None)).await;
    let head = client.head().await;
    assert_eq!(head.status, 200);
    (client, head)
}

/// An upstream with endless answers that begin and then wait.
fn streaming() -> (Upstream, Latch) {
    let latch = Latch::new();
    let held = latch.clone();
    let reply = move |_: &_| UpstreamReply::ok("begin").then_body_when_open(&held, "end").chunked();
    (Upstream::start(reply), latch)
}

/// G3: a request of a withdrawn key ends within the grace, and the next one is refused
#[tokio::test]
async fn a_request_of_a_withdrawn_key_ends() {
    let (upstream, latch) = streaming();
    let (with, without) = (text(&upstream, &key("m", &secret("m"), "all")), text(&upstream, ""));
    let gateway = Gateway::builder().config(&with).start().await;
    let (mut client, mut answer) = stream(&gateway).await;
    apply(&gateway, &without).await;
    assert_eq!(signed(&gateway, "m", &secret("m"), "/b/k").await, refused(403, "unknown_key"));
    latch.open_for_all();
    client.body(&mut answer, "GET").await;
    assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "beginend"));
    wait_until_retired(&gateway, 1).await;
}

/// G3: a stream of a withdrawn key is cut after `server.revoke_grace` with its reason; that of a kept key goes on
#[tokio::test]
async fn a_stream_of_a_withdrawn_key_is_cut() {
    let (upstream, latch) = streaming();
    let grace = "[server]\nrevoke_grace = 0.3\n";
    let kept = api_key("n", &secret("n"), "all") + grace;
    let gateway =
        Gateway::builder().config(&text(&upstream, &(key("m", &secret("m"), "all") + &kept))).start().await;
    let (mut client, mut answer) = stream(&gateway).await;
    let mut other = Client::connect(gateway.address()).await;
    other.send(client::message("GET", "/b/k", &[("x-api-key", secret("n").as_str())], None)).await;
    let mut goes_on = other.head().await;
    assert_eq!(goes_on.status, 200);
    apply(&gateway, &text(&upstream, &kept)).await;
    client.body(&mut answer, "GET").await;
    assert!(answer.broken.is_some(), "a cut stream looks whole: {answer:?}");
    let line = gateway.wait_for_log_line("request", |line| line["reason"] == "key_withdrawn").await;
    assert_eq!((&line["key"], &line["status"]), (&json!("ID-m"), &json!(200)));
    let cut = gateway.wait_for_log_line("streams of withdrawn keys are cut", |_| true).await;
    assert_eq!((&cut["streams"], &cut["grace_ms"]), (&json!(1), &json!(300)));
    latch.open_for_all();
    other.body(&mut goes_on, "GET").await;
    assert_eq!((goes_on.complete_status(), goes_on.text().as_str()), (200, "beginend"));
    wait_until_retired(&gateway, 1).await;
}

/// G3: an upload of a withdrawn key that is not finished within the grace gets 403 and ends
#[tokio::test]
async fn an_upload_of_a_withdrawn_key_is_cut() {
    let upstream = Upstream::ok("x");
    let grace = "[server]\nrevoke_grace = 0.3\n";
    let with = text(&upstream, &(api_key("m", &secret("m"), "all") + grace));
    let gateway = Gateway::builder().config(&with).start().await;
    let mut client = Client::connect(gateway.address()).await;
    let mut bytes = format!(
        "PUT /b/k HTTP/1.1\r\nhost: gateway.test\r\nx-api-key: {}\r\ncontent-length: 100000000\r\n\r\n",
        secret("m")
    )
    .into_bytes();
    bytes.resize(bytes.len() + 4_000_000, b'x');
    client.send(&bytes).await;
    wait_for("the upload has begun", || async { (upstream.count() == 1).then_some(()) }).await;
    apply(&gateway, &text(&upstream, grace)).await;
    let answer = client.response("PUT").await;
    assert_eq!((answer.complete_status(), answer.reason()), (403, "key_withdrawn"));
    assert!(client.is_closed().await);
    wait_until_retired(&gateway, 1).await;
}
