//! `POST /explain`: what would happen to a made-up request, without consuming anything.

use serde_json::{Value, json};

use super::{FaultyRequest, document};
use crate::auth::signer::Signer;
use crate::pool::{held, spawn_get};
use crate::support::gateway::Builder;
use crate::support::unreachable::RefusingAddress;
use crate::support::{Client, Gateway, Response, Upstream, request, wait_for};

pub(super) async fn post(gateway: &Gateway, body: &str) -> Response {
    request(gateway.admin_address(), "POST", "/explain", &[], Some(body.as_bytes())).await
}

pub(super) async fn explain(gateway: &Gateway, made_up: &Value) -> Value {
    let answer = post(gateway, &made_up.to_string()).await;
    assert_eq!(answer.complete_status(), 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

/// The results of the steps by their names, in order.
fn results(explanation: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let steps = explanation["steps"].as_array().unwrap().iter();
    steps.map(|step| (text(&step["step"]), text(&step["result"]))).collect()
}

fn limited(upstream: &Upstream) -> Builder {
    Gateway::builder()
        .bucket("b", upstream)
        .set("rate_limit.per_ip.requests_per_second", "0.001")
        .set("rate_limit.per_ip.burst", "3")
        .set("buckets.b.rate_limit.requests_per_second", "0.001")
        .set("buckets.b.rate_limit.burst", "5")
        .set("buckets.b.rate_limit.cost.read", "1")
}

/// The metrics that requests change. Peek messages are messages of their actors, and readings of the process change by themselves.
fn of_requests(metrics: &str) -> Vec<String> {
    let others = [
        "actor_",
        "connection_pool_idle",
        "cpu_",
        "event_loop_lag_",
        "file_descriptors",
        "log_",
        "mailbox_",
        "memory_",
        "process_",
        "rate_limit_current_rate",
        "resource_",
        "shedding_",
        "socket_buffers_bytes",
        "upstream_amplification",
    ];
    let name = |line: &str| line.strip_prefix("tidegate_").unwrap_or(line).to_owned();
    let lines = metrics.lines().filter(|line| !line.starts_with('#')).map(name);
    lines.filter(|line| !others.iter().any(|name| line.starts_with(name))).collect()
}

/// O6: a thousand explanations consume no token, permit or slot, and count nothing
#[tokio::test]
async fn explanations_consume_nothing() {
    let upstream = Upstream::ok("x");
    let gateway = limited(&upstream).start().await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    gateway.wait_until_idle().await;
    let recorded = document(&gateway, "").await["recorded"].clone();
    let (before, status) = (of_requests(&gateway.metrics().await), gateway.status().await);
    let made_up = json!({ "url": "/b/k", "client": "127.0.0.1" });
    let first = explain(&gateway, &made_up).await;
    assert_eq!(first["outcome"], "forwarded", "{first}");
    for _ in 0..1000 {
        let again = explain(&gateway, &made_up).await;
        assert_eq!(again["steps"], first["steps"], "nothing has changed");
    }
    let metrics = of_requests(&gateway.metrics().await);
    assert!(metrics.len() > 50 && metrics.len() == before.len(), "{metrics:?}");
    for (after, before) in metrics.iter().zip(&before) {
        assert_eq!(after, before);
    }
    let after = gateway.status().await;
    for place in ["/requests_in_flight", "/limiter", "/buckets/b/pool/in_flight", "/buckets/b/pool/queued"] {
        assert!(after.pointer(place).is_some(), "{place}");
        assert_eq!(after.pointer(place), status.pointer(place), "{place}");
    }
    assert_eq!(document(&gateway, "").await["recorded"], recorded);
    assert_eq!(upstream.count(), 1);
    // Two of three tokens are left for the client.
    for expected in [200, 200, 429] {
        assert_eq!(gateway.get("/b/k").await.complete_status(), expected);
    }
}

/// O6: the explanation has the steps of the request path, the limits with their tokens, and the endpoint
#[tokio::test]
async fn an_explanation_has_the_steps_of_the_path() {
    let upstream = Upstream::ok("x");
    let gateway = limited(&upstream).start().await;
    let explanation = explain(&gateway, &json!({ "url": "/b/k", "client": "10.0.0.1" })).await;
    let names: Vec<String> = results(&explanation).into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            "route",
            "shedding",
            "level",
            "limits",
            "limits",
            "validation",
            "authentication",
            "policy",
            "circuit",
            "shedding",
            "gate",
            "endpoint"
        ]
    );
    assert_eq!((&explanation["bucket"], &explanation["refusal"]), (&"b".into(), &Value::Null));
    let limits: Vec<&Value> = explanation["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| &step["limit"])
        .filter(|one| !one.is_null())
        .collect();
    assert_eq!(
        (&limits[0]["scope"], &limits[0]["remaining"], &limits[0]["burst"]),
        (&"ip".into(), &3.into(), &3.into())
    );
    assert_eq!((&limits[1]["scope"], &limits[1]["remaining"]), (&"bucket".into(), &5.into()));
    assert_eq!((&limits[1]["cost"], &limits[1]["fits"]), (&1.into(), &true.into()));
    let endpoint = explanation["steps"].as_array().unwrap().last().unwrap();
    assert!(endpoint["sentence"].as_str().unwrap().contains(&upstream.address().to_string()), "{endpoint}");
}

/// O6: an explained refusal has the status and the reason of the real one
#[tokio::test]
async fn an_explained_refusal_is_the_real_one() {
    let (upstream, refusing) = (Upstream::ok("x"), RefusingAddress::new());
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .bucket("forced", &upstream)
        .bucket("readonly", &upstream)
        .bucket("signed", &upstream)
        .bucket("closed", &upstream)
        .bucket_at("dead", &[refusing.address])
        .http_bucket("api", &upstream)
        .set("buckets.forced.s3.circuit_breaker.mode", "forced_open")
        .set("buckets.readonly.anonymous", "read")
        .set("buckets.signed.auth", "sigv4")
        .set("buckets.closed.auth", "")
        .set("buckets.api.auth", "api_key")
        .set("buckets.dead.s3.retry.max_attempts", "1")
        .set("buckets.dead.s3.circuit_breaker.failure_threshold", "1")
        .set("api_keys.robot.secret", "0123456789abcdef0123456789abcdef")
        .set("api_keys.robot.policy", "readers")
        .set("policies.readers.buckets", "signed,api")
        .set("policies.readers.methods", "read")
        .start()
        .await;
    assert_eq!(gateway.get("/dead/k").await.complete_status(), 502);
    wait_for("the circuit is open", || async {
        (gateway.get("/dead/k").await.reason() == "breaker_open").then_some(())
    })
    .await;
    let long = format!("/b/{}", "k".repeat(9000));
    let robot = "0123456789abcdef0123456789abcdef";
    let cases: [FaultyRequest<'_>; 13] = [
        ("GET", "/nowhere/k", &[], "no_such_bucket"),
        ("PUT", "/", &[("content-length", "0")], "no_bucket"),
        ("PATCH", "/b/k", &[], "method"),
        ("GET", "/b/a/../k", &[], "path"),
        ("GET", &long, &[], "uri_too_long"),
        ("GET", "/b/k", &[("x-request-timeout", "soon")], "deadline"),
        ("GET", "/signed/k", &[], "not_signed"),
        ("GET", "/closed/k", &[], "bucket_closed"),
        ("DELETE", "/readonly/k", &[], "anonymous_denied"),
        ("GET", "/api/k", &[("x-api-key", "wrong")], "api_key_unknown"),
        ("DELETE", "/api/k", &[("x-api-key", robot)], "policy_denied"),
        ("GET", "/forced/k", &[], "breaker_forced_open"),
        ("GET", "/dead/k", &[], "breaker_open"),
    ];
    for (method, url, headers, reason) in cases {
        let by_name: Value =
            headers.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect();
        let made_up = json!({ "method": method, "url": url, "headers": by_name, "client": "127.0.0.1" });
        let explanation = explain(&gateway, &made_up).await;
        let answer = request(gateway.address(), method, url, headers, None).await;
        assert_eq!(answer.reason(), reason, "{method} {url}");
        assert_eq!(explanation["outcome"], "refused", "{method} {url}: {explanation}");
        let refusal = &explanation["refusal"];
        assert_eq!(
            (&refusal["reason"], &refusal["status"]),
            (&reason.into(), &answer.status.into()),
            "{explanation}"
        );
    }
}

/// O6: a signature is not verified, but its key and the key's limit are known
#[tokio::test]
async fn a_signature_is_assumed_to_be_valid() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.auth", "sigv4")
        .set("keys.reader.access_key_id", "READER")
        .set("keys.reader.secret", "a-secret-of-the-reader")
        .set("keys.reader.policy", "readers")
        .set("keys.reader.rate_limit.requests_per_second", "0.001")
        .set("keys.reader.rate_limit.burst", "7")
        .set("policies.readers.buckets", "b")
        .set("policies.readers.methods", "read")
        .start()
        .await;
    let explained = async |id: &str, method: &str| {
        let headers = Signer::new(id, "wrong-secret").headers(method, "/b/k", "UNSIGNED-PAYLOAD", &[]);
        let headers: Value = headers.into_iter().map(|(name, value)| (name, Value::from(value))).collect();
        explain(&gateway, &json!({ "method": method, "url": "/b/k", "headers": headers })).await
    };
    let read = explained("READER", "GET").await;
    assert_eq!(read["outcome"], "forwarded", "{read}");
    let of_key = read["steps"].as_array().unwrap().iter().find(|step| step["step"] == "key_limits").unwrap();
    assert_eq!((&of_key["limit"]["scope"], &of_key["limit"]["remaining"]), (&"key".into(), &7.into()));
    let denied = explained("READER", "DELETE").await;
    assert_eq!(denied["refusal"]["reason"], "policy_denied", "{denied}");
    assert_eq!(denied["refusal"]["config"]["key"], "keys.reader.policy", "{denied}");
    let unknown = explained("NOBODY", "GET").await;
    assert_eq!(unknown["refusal"]["reason"], "unknown_key", "{unknown}");
    assert!(!read.to_string().contains("Signature="), "no signature is shown: {read}");
}

/// O6: used tokens and a full gate are explained with their figures
#[tokio::test]
async fn used_up_limits_are_explained() {
    let (upstream, latch) = held();
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.concurrency.max_concurrent", "1")
        .set("buckets.b.s3.concurrency.max_queued", "1")
        .set("buckets.b.s3.concurrency.queue_timeout_ms", "20000")
        .set("rate_limit.per_ip.requests_per_second", "0.001")
        .set("rate_limit.per_ip.burst", "2")
        .start()
        .await;
    let other = json!({ "url": "/b/k", "client": "10.0.0.9" });
    assert_eq!(explain(&gateway, &other).await["outcome"], "forwarded");
    let first = spawn_get(&gateway, "/b/first");
    upstream.wait_until_in_flight(1).await;
    let waits = explain(&gateway, &other).await;
    assert_eq!(waits["outcome"], "waits", "{waits}");
    let second = spawn_get(&gateway, "/b/second");
    wait_for("the second waits", || async {
        (gateway.status().await["buckets"]["b"]["pool"]["queued"] == 1).then_some(())
    })
    .await;
    let full = explain(&gateway, &other).await;
    assert_eq!(
        (&full["refusal"]["reason"], &full["refusal"]["measured"]),
        (&"queue_full".into(), &1.0.into()),
        "{full}"
    );
    assert_eq!(full["refusal"]["config"]["key"], "buckets.b.s3.concurrency.max_queued", "{full}");
    let spent = explain(&gateway, &json!({ "url": "/b/k", "client": "127.0.0.1" })).await;
    let refusal = &spent["refusal"];
    assert_eq!((&refusal["reason"], &refusal["status"]), (&"rate_limit_ip".into(), &429.into()), "{spent}");
    assert_eq!((&refusal["measured"], &refusal["threshold"]), (&0.0.into(), &2.0.into()), "{spent}");
    let limits: Vec<_> = results(&spent).into_iter().filter(|(step, _)| step == "limits").collect();
    assert_eq!(limits, [("limits".to_owned(), "refuse".to_owned())], "{spent}");
    let step = spent["steps"].as_array().unwrap().iter().find(|step| step["step"] == "limits").unwrap();
    assert_eq!(step["limit"]["fits"], false, "{spent}");
    latch.open_for_all();
    assert_eq!((first.await.unwrap().status, second.await.unwrap().status), (200, 200));
}

/// O6: what the explanation cannot know is said to be unknown
#[tokio::test]
async fn what_depends_on_the_body_is_unknown() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let form = json!({
        "method": "POST",
        "url": "/b",
        "headers": { "content-type": "multipart/form-data; boundary=x", "content-length": "10" },
    });
    assert_eq!(explain(&gateway, &form).await["outcome"], "unknown");
    assert_eq!(explain(&gateway, &json!({ "url": "/" })).await["outcome"], "unknown");
}

/// O6, O5: a probe is answered by the gateway; the same path below a bucket is a key
#[tokio::test]
async fn a_probe_is_answered() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    for made_up in [
        json!({ "url": "/-/livez" }),
        json!({ "url": "/-/readyz", "method": "HEAD" }),
        json!({ "url": "/", "method": "OPTIONS" }),
    ] {
        let explanation = explain(&gateway, &made_up).await;
        assert_eq!((&explanation["outcome"], &explanation["refusal"]), (&"answered".into(), &Value::Null));
        assert_eq!(results(&explanation), [("probe".to_owned(), "pass".to_owned())], "{explanation}");
    }
    assert_eq!(explain(&gateway, &json!({ "url": "/b/-/livez" })).await["outcome"], "forwarded");
    let other = explain(&gateway, &json!({ "url": "/-/other" })).await;
    assert_eq!(other["refusal"]["reason"], "no_such_bucket", "{other}");
}

/// O6: a malformed body gets a 400 that names the field
#[tokio::test]
async fn a_malformed_body_is_refused() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    for (body, named) in [
        ("", "JSON"),
        ("{\"url\":\"/b\"", "JSON"),
        ("{\"url\":\"/b\",\"colour\":\"red\"}", "`colour`"),
        ("{\"method\":\"GET\"}", "`url`"),
        ("{\"url\":\"/b\",\"client\":\"localhost\"}", "`client`"),
        ("{\"url\":\"/b\",\"headers\":{\"a\":[1]}}", "`headers`"),
    ] {
        let answer = post(&gateway, body).await;
        assert_eq!(answer.complete_status(), 400, "{}", answer.text());
        let error: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(error["error"]["code"], "invalid_request", "{error}");
        assert!(error["error"]["message"].as_str().unwrap().contains(named), "{error}");
    }
    let answer = post(&gateway, &format!("{{\"url\":\"/{}\"}}", "x".repeat(400_000))).await;
    assert_eq!(answer.complete_status(), 413, "{}", answer.text());
    let error: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(error["error"]["code"], "body_too_large", "{error}");
    assert!(error["error"]["message"].as_str().unwrap().contains("65536 bytes"), "{error}");
}

/// O6, Bad input: a body with malformed framing is named as such, and one that is too long keeps its own error
#[tokio::test]
async fn malformed_framing_is_named() {
    let upstream = Upstream::ok("x");
    let gateway = limited(&upstream).start().await;
    let long = format!("{:x}\r\n{}\r\n", 300 << 10, "x".repeat(300 << 10));
    for (body, status, code, named) in [
        ("4\r\n{\"urQQ", 400, "invalid_request", "the body is incomplete or its framing is malformed"),
        ("zz\r\n", 400, "invalid_request", "the body is incomplete or its framing is malformed"),
        (long.as_str(), 413, "body_too_large", "65536 bytes"),
    ] {
        let mut client = Client::connect(gateway.admin_address()).await;
        client.send("POST /explain HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n").await;
        // The gateway may close before it has received everything.
        let _ = client.try_send(body).await;
        let answer = client.response("POST").await;
        let error: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(
            (answer.complete_status(), error["error"]["code"].as_str()),
            (status, Some(code)),
            "{body:.20}: {error}"
        );
        assert!(error["error"]["message"].as_str().unwrap().contains(named), "{body:.20}: {error}");
    }
}
