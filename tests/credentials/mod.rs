//! Several credentials for one upstream: selection, concurrency limits, and cool-down or ejection after throttling or
//! rejection.

mod pairs;
mod rejections;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::support::gateway::Builder;
use crate::support::{
    Gateway, Latch, Scratch, SeenRequest, Upstream, UpstreamReply, get, request, wait_for, wait_until,
};

const FIRST: &str = "first-secret-of-the-api";
const SECOND: &str = "second-secret-of-the-api";

/// An API bucket `b` with two keys in `x-api-key`, each for one request at a time.
fn api(upstream: &Upstream) -> Builder {
    Gateway::builder()
        .http_bucket("b", upstream)
        .set("buckets.b.http.credentials.one.header", "x-api-key")
        .set("buckets.b.http.credentials.one.value", FIRST)
        .set("buckets.b.http.credentials.two.header", "x-api-key")
        .set("buckets.b.http.credentials.two.value", SECOND)
}

/// A credential's entry in the status.
async fn credential(gateway: &Gateway, name: &str) -> Value {
    let status = gateway.status().await;
    let all = status["buckets"]["b"]["pool"]["credentials"].as_array().unwrap().clone();
    all.into_iter()
        .find(|one| one["name"] == name)
        .unwrap_or_else(|| panic!("no credential {name}: {status}"))
}

async fn state(gateway: &Gateway, name: &str) -> String {
    credential(gateway, name).await["state"].as_str().unwrap().to_owned()
}

fn key(seen: &SeenRequest) -> &str {
    let keys = seen.headers_named("x-api-key");
    assert_eq!(keys.len(), 1, "one key and no other: {:?}", seen.headers);
    keys[0]
}

/// No status, metric, log line or answer contains any of these.
async fn assert_none_exposed(gateway: &Gateway, secrets: &[&str]) {
    let log: Vec<String> = gateway.log_lines().iter().map(Value::to_string).collect();
    let shown =
        [gateway.status().await.to_string(), gateway.metrics().await, log.join("\n"), gateway.stderr()];
    for secret in secrets {
        assert!(shown.iter().all(|text| !text.contains(secret)), "{secret} in {shown:?}");
    }
}

/// H1, C3, C4: requests use the bucket's keys in turn and no key of the client; no output contains a key
#[tokio::test]
async fn api_keys_rotate_and_are_never_exposed() {
    let upstream = Upstream::ok("x");
    let gateway = api(&upstream)
        .set("buckets.b.http.credentials.two.header", "authorization")
        .set("buckets.b.http.credentials.two.value", "Bearer second-secret-of-the-api")
        .start()
        .await;
    for _ in 0..4 {
        let headers =
            [("x-api-key", "clients-own"), ("authorization", "Bearer clients-own"), ("accept", "*/*")];
        let answer = request(gateway.address(), "GET", "/b/v1/models?key=1", &headers, None).await;
        assert_eq!(answer.complete_status(), 200);
    }
    let seen: Vec<_> = upstream
        .seen()
        .iter()
        .map(|seen| {
            (seen.headers_named("x-api-key").join(","), seen.headers_named("authorization").join(","))
        })
        .collect();
    let (one, two) = ((FIRST.to_owned(), String::new()), (String::new(), format!("Bearer {SECOND}")));
    assert_eq!(seen, [one.clone(), two.clone(), one, two]);
    assert_eq!(upstream.last().target, "/v1/models?key=1", "never in the URL");
    assert_none_exposed(&gateway, &[FIRST, SECOND, "clients-own"]).await;
}

/// C3, P3: a key is never used beyond its concurrency limit, and every request is served
#[tokio::test]
async fn no_key_is_used_beyond_its_limit() {
    let (latch, working) =
        (Latch::new(), std::sync::Arc::new(Mutex::new(BTreeMap::<String, (usize, usize)>::new())));
    let (held, of_upstream) = (latch.clone(), std::sync::Arc::clone(&working));
    let upstream = Upstream::start(move |seen| {
        let mut working = of_upstream.lock().unwrap();
        let (now, total) = working.entry(key(seen).to_owned()).or_default();
        (*now, *total) = (*now + 1, *total + 1);
        UpstreamReply::ok("x").when_open(&held)
    });
    let gateway = api(&upstream)
        .set("buckets.b.http.credentials.two.max_concurrent", "3")
        .set("buckets.b.http.concurrency.queue_timeout_ms", "20000")
        .start()
        .await;
    let address = gateway.address();
    let pending: Vec<_> = (0..12).map(|_| tokio::spawn(async move { get(address, "/b/k").await })).collect();
    upstream.wait_until_in_flight(4).await;
    wait_for("the other requests wait", || async {
        (gateway.status().await["buckets"]["b"]["pool"]["queued"] == 8).then_some(())
    })
    .await;
    let by_key = |key: &str| working.lock().unwrap()[key].0;
    assert_eq!((by_key(FIRST), by_key(SECOND)), (1, 3));
    assert_eq!(credential(&gateway, "two").await["in_flight"], 3);
    latch.open_for_all();
    for pending in pending {
        assert_eq!(pending.await.unwrap().complete_status(), 200);
    }
    assert_eq!((upstream.count(), upstream.peak_in_flight()), (12, 4));
}

/// C3: a throttled key cools down for the upstream's Retry-After, and the request is retried with the other key at once
#[tokio::test]
async fn a_throttled_key_is_replaced_by_the_other() {
    let upstream = Upstream::start(|seen| match key(seen) {
        FIRST => UpstreamReply::new(429, "slower").header("retry-after", "300"),
        _ => UpstreamReply::ok("x"),
    });
    let gateway = api(&upstream).start().await;
    for _ in 0..5 {
        let answer = gateway.get("/b/k").await;
        assert_eq!(answer.complete_status(), 200);
        let line = gateway.wait_for_access_line(answer.header("x-request-id").unwrap()).await;
        assert_eq!(line["credential"], "two", "the credential that served it: {line}");
    }
    let keys: Vec<String> = upstream.seen().iter().map(|seen| key(seen).to_owned()).collect();
    assert_eq!(keys.iter().filter(|key| *key == FIRST).count(), 1, "it was not used: {keys:?}");
    assert_eq!(upstream.count(), 6);
    let one = credential(&gateway, "one").await;
    assert_eq!(
        (one["state"].as_str(), one["cause"].as_str(), one["throttled"].as_u64()),
        (Some("cooling"), Some("throttled"), Some(1))
    );
    let left = one["out_for_ms"].as_u64().unwrap();
    assert!((1..=300_000).contains(&left) && left > 200_000, "{left}");
    let labels = "{bucket=\"b\",credential=\"one\"}";
    assert_eq!(gateway.metric(&format!("upstream_credential_in_use{labels}")).await, 0.0);
    let errors = "upstream_credential_setbacks_total{bucket=\"b\",cause=\"throttled\",credential=\"one\"}";
    assert_eq!(gateway.metric(errors).await, 1.0);
    let logged = gateway.wait_for_log_line("credential throttled", |_| true).await;
    assert_eq!((logged["credential"].as_str(), logged["for_ms"].as_u64()), (Some("one"), Some(300_000)));
    assert_none_exposed(&gateway, &[FIRST, SECOND]).await;
}

/// C3: if all keys cool down longer than requests wait, requests are refused at once with the first key's true recovery
/// time
#[tokio::test]
async fn all_keys_throttled_is_refused_with_the_true_retry_after() {
    let upstream = Upstream::start(|seen| match key(seen) {
        FIRST => UpstreamReply::new(429, "slower").header("retry-after", "300"),
        _ => UpstreamReply::new(429, "slower").header("retry-after", "100"),
    });
    let gateway = api(&upstream).start().await;
    let answer = gateway.get("/b/k").await;
    assert_eq!(
        (answer.complete_status(), answer.text()),
        (429, "slower".to_owned()),
        "the upstream's own words"
    );
    assert_eq!(upstream.count(), 2, "each key was used once");
    let answer = gateway.get("/b/k").await;
    assert_eq!((answer.status, answer.reason()), (429, "credentials_throttled"));
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((90..=120).contains(&seconds), "{seconds}");
    assert_eq!(upstream.count(), 2, "no further request was sent");
}

/// C3: keys in one quota group cool down together
#[tokio::test]
async fn a_quota_group_cools_down_together() {
    let upstream = Upstream::start(|_| UpstreamReply::new(429, "slower").header("retry-after", "300"));
    let gateway = api(&upstream)
        .set("buckets.b.http.credentials.one.quota_group", "account")
        .set("buckets.b.http.credentials.two.quota_group", "account")
        .start()
        .await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 429);
    assert_eq!(upstream.count(), 1, "the other key was not used");
    assert_eq!(
        (state(&gateway, "one").await, state(&gateway, "two").await),
        ("cooling".to_owned(), "cooling".to_owned())
    );
}

/// C3: a cool-down shorter than the wait time delays the request without an error
#[tokio::test]
async fn a_short_cool_down_is_waited_for() {
    let upstream = Upstream::start(|seen| match seen.number {
        1 => UpstreamReply::new(429, "slower"),
        _ => UpstreamReply::ok("x"),
    });
    let gateway = Gateway::builder()
        .http_bucket("b", &upstream)
        .set("buckets.b.http.credentials.only.value", "Bearer x")
        .set("buckets.b.http.credential_pool.cool_down_seconds", "0.5")
        .set("buckets.b.http.concurrency.queue_timeout_ms", "20000")
        .start()
        .await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 429, "there is no other key");
    let answer = gateway.get("/b/k").await;
    assert_eq!(answer.complete_status(), 200);
    let waited = gateway.wait_for_access_line(answer.header("x-request-id").unwrap()).await;
    assert_eq!(waited["status"], 200, "{waited}");
    assert_eq!(upstream.count(), 2);
}

/// C3: a key that the API rejects is ejected with a log line, and one request tries it again after the ejection time
#[tokio::test]
async fn a_rejected_key_is_ejected_until_its_trial() {
    let is_good = std::sync::Arc::new(AtomicBool::new(false));
    let good = std::sync::Arc::clone(&is_good);
    let upstream = Upstream::start(move |seen| match seen.headers_named("x-api-key")[..] {
        [FIRST] if !good.load(Ordering::SeqCst) => {
            UpstreamReply::new(401, format!("{{\"bad\":\"{FIRST}\"}}"))
        }
        [] => UpstreamReply::new(401, "no key"),
        _ => UpstreamReply::ok("x"),
    });
    let gateway = api(&upstream)
        .set("buckets.b.http.credential_check_path", "/me")
        .set("buckets.b.http.credential_pool.refused_seconds", "4")
        .start()
        .await;
    for _ in 0..3 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    }
    wait_for("a check finds it rejected", || async {
        (state(&gateway, "one").await == "refused").then_some(())
    })
    .await;
    let logged = gateway.wait_for_log_line("credential refused by the upstream: replace it", |_| true).await;
    assert_eq!(
        (logged["level"].as_str(), logged["credential"].as_str()),
        (Some("ERROR"), Some("one")),
        "{logged}"
    );
    is_good.store(true, Ordering::SeqCst);
    wait_for("it is tried again and stays in use", || async {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
        (state(&gateway, "one").await == "in_use").then_some(())
    })
    .await;
    assert_none_exposed(&gateway, &[FIRST, SECOND]).await;
}

/// C3, C4: if the API rejects every key, the gateway answers with its own error, because the client's credential is
/// valid
#[tokio::test]
async fn all_keys_rejected_is_a_gateway_error() {
    let upstream = Upstream::start(|seen| {
        UpstreamReply::new(401, format!("no such key: {:?}", seen.headers_named("x-api-key")))
    });
    let gateway = api(&upstream).set("buckets.b.http.credential_check_path", "/me").start().await;
    let answer = gateway.get("/b/k").await;
    assert_eq!((answer.status, answer.reason()), (503, "upstream_credentials"));
    assert!(!answer.text().contains("secret"), "{}", answer.text());
    wait_for("checks find both rejected", || async {
        let states = [state(&gateway, "one").await, state(&gateway, "two").await];
        (states == ["refused", "refused"]).then_some(())
    })
    .await;
    let asked = upstream.count();
    let answer = gateway.get("/b/k").await;
    assert_eq!((answer.status, answer.reason()), (503, "credentials_refused"));
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((850..=1_100).contains(&seconds), "{seconds}");
    assert_eq!(upstream.count(), asked, "no further request was sent");
}

/// C3, R3: a request that is not replayable is not sent again with another key
#[tokio::test]
async fn a_throttled_post_is_not_sent_twice() {
    let upstream = Upstream::start(|_| UpstreamReply::new(429, "slower"));
    let gateway = api(&upstream).start().await;
    let answer = request(gateway.address(), "POST", "/b/v1/chat", &[], Some(b"{}")).await;
    assert_eq!((answer.complete_status(), answer.text()), (429, "slower".to_owned()));
    assert_eq!(upstream.count(), 1);
    let again = request(gateway.address(), "POST", "/b/v1/chat", &[], Some(b"{}")).await;
    assert_eq!(again.complete_status(), 429);
    let keys: Vec<String> = upstream.seen().iter().map(|seen| key(seen).to_owned()).collect();
    assert_ne!(keys[0], keys[1], "the next request uses the other key");
}

/// C3, S5: a crash of the pool, even in mid-write, keeps cool-downs and limits and leaks no permit
#[tokio::test]
async fn cool_downs_survive_a_pool_crash() {
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |seen| match key(seen) {
        FIRST => UpstreamReply::new(429, "slower").header("retry-after", "300"),
        _ => UpstreamReply::ok("x").when_open(&held),
    });
    let gateway =
        api(&upstream).chaos().set("buckets.b.http.concurrency.queue_timeout_ms", "300").start().await;
    let address = gateway.address();
    let first = tokio::spawn(async move { get(address, "/b/k").await });
    upstream.wait_until_in_flight(1).await;
    wait_until("the throttled key was used", || upstream.count() == 2).await;
    let mut generation = gateway.generation("pool:b").await;
    for at in ["decide", "apply", "started"] {
        gateway.crash("pool:b", at).await;
        generation += 1;
        gateway.wait_for_generation("pool:b", generation).await;
        assert_eq!(state(&gateway, "one").await, "cooling", "after a crash in {at}");
        let refused = gateway.get("/b/k").await;
        assert_eq!(refused.status, 503, "the other key's only permit is taken: {}", refused.text());
    }
    assert_eq!(upstream.count(), 2);
    latch.open_for_all();
    assert_eq!(first.await.unwrap().complete_status(), 200);
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    gateway.wait_until_idle().await;
    assert_eq!(
        (
            credential(&gateway, "one").await["in_flight"].as_u64(),
            credential(&gateway, "two").await["in_flight"].as_u64()
        ),
        (Some(0), Some(0))
    );
}

/// C3, C5: a credential may be in a file; contradictions are start-up errors without the secret
#[tokio::test]
async fn a_credential_may_be_in_a_file() {
    let (directory, upstream) = (Scratch::new(), Upstream::ok("x"));
    let path = directory.path().join("key");
    std::fs::write(&path, "Bearer from-a-file\n").unwrap();
    let mode =
        |mode| std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    let builder = || {
        Gateway::builder()
            .http_bucket("b", &upstream)
            .set("buckets.b.http.credentials.k.value_file", path.to_str().unwrap())
    };
    mode(0o600);
    let gateway = builder().start().await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    assert_eq!(upstream.last().headers_named("authorization"), ["Bearer from-a-file"]);
    mode(0o644);
    let ended = builder().run();
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(
        ended.stderr.contains("buckets.b.http.credentials.k.value_file") && ended.stderr.contains("0644")
    );
    assert!(!ended.stderr.contains("from-a-file"));
}

/// T5, C3: a streamed answer holds its key's permit until the last byte
#[tokio::test]
async fn a_stream_holds_its_permit_until_the_last_byte() {
    let latch = Latch::new();
    let held = latch.clone();
    let upstream =
        Upstream::start(move |_| UpstreamReply::ok("begin ").then_body_when_open(&held, "end").chunked());
    let gateway = Gateway::builder()
        .http_bucket("b", &upstream)
        .set("buckets.b.http.credentials.k.value", "Bearer x")
        .set("buckets.b.http.concurrency.queue_timeout_ms", "200")
        .start()
        .await;
    let address = gateway.address();
    let streaming = tokio::spawn(async move { get(address, "/b/events").await });
    upstream.wait_until_in_flight(1).await;
    assert_eq!(gateway.get("/b/k").await.reason(), "queue_timeout");
    latch.open_for_all();
    assert_eq!(streaming.await.unwrap().text(), "begin end");
    wait_for("its permit is released", || async {
        (credential(&gateway, "k").await["in_flight"] == 0).then_some(())
    })
    .await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
}
