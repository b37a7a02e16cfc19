//! Every refusal that the fixture can provoke has exactly one record.

use std::collections::BTreeSet;

use super::{FaultyRequest, assert_recorded, decision, decisions, document, id};
use crate::auth::signer::Signer;
use crate::support::gateway::Builder;
use crate::support::unreachable::RefusingAddress;
use crate::support::{
    Client, Gateway, Response, SeenRequest, Upstream, UpstreamReply, client, request, wait_for,
};

/// An upstream with a failure for each path.
fn failing() -> Upstream {
    Upstream::start(|seen: &SeenRequest| match seen.target.rsplit('/').next().unwrap_or_default() {
        "reset" => UpstreamReply::reset(),
        "garbage" => UpstreamReply::raw("this is no HTTP\r\n\r\n"),
        "hang" => UpstreamReply::hang(),
        "redirect" => UpstreamReply::status(301).header("location", "http://elsewhere.test/"),
        _ => UpstreamReply::ok("x"),
    })
}

fn every_refusal(upstream: &Upstream, refusing: &RefusingAddress) -> Builder {
    let limited = |builder: Builder, section: &str| {
        builder.set(&format!("{section}.requests_per_second"), "0.001").set(&format!("{section}.burst"), "1")
    };
    let builder = Gateway::builder()
        .bucket("b", upstream)
        .bucket("limited", upstream)
        .bucket("forced", upstream)
        .bucket("readonly", upstream)
        .bucket("cors", upstream)
        .bucket("signed", upstream)
        .bucket("keyed", upstream)
        .bucket("closed", upstream)
        .bucket("full", upstream)
        .bucket_at("dead", &[refusing.address])
        .http_bucket("api", upstream)
        .set("admin.chaos", "true")
        .set("buckets.b.s3.timeout", "0.2")
        .set("buckets.b.s3.retry.max_attempts", "1")
        .set("buckets.b.s3.circuit_breaker.mode", "off")
        .set("buckets.b.max_request_size", "10")
        .set("buckets.forced.s3.circuit_breaker.mode", "forced_open")
        .set("buckets.readonly.anonymous", "read")
        .set("buckets.cors.cors.allowed_origins", "https://app.example.com")
        .set("buckets.cors.cors.allowed_methods", "GET")
        .set("buckets.signed.auth", "sigv4")
        .set("buckets.keyed.auth", "sigv4")
        .set("buckets.closed.auth", "")
        .set("buckets.full.s3.concurrency.max_concurrent", "1")
        .set("buckets.full.s3.concurrency.max_queued", "0")
        .set("buckets.dead.s3.retry.max_attempts", "1")
        .set("buckets.dead.s3.circuit_breaker.failure_threshold", "1")
        .set("buckets.api.auth", "api_key")
        .set("api_keys.robot.secret", "0123456789abcdef0123456789abcdef")
        .set("api_keys.robot.policy", "readers")
        .set("keys.reader.access_key_id", "READER")
        .set("keys.reader.secret", "a-secret-of-the-reader")
        .set("keys.reader.policy", "readers")
        .set("policies.readers.buckets", "signed,keyed,api")
        .set("policies.readers.methods", "read");
    limited(limited(builder, "buckets.limited.rate_limit"), "keys.reader.rate_limit")
}

async fn send(gateway: &Gateway, method: &str, target: &str, headers: &[(&str, &str)]) -> Response {
    let body: Option<&[u8]> = matches!(method, "PUT" | "POST").then_some(b"abc");
    request(gateway.address(), method, target, headers, body).await
}

/// Sends these bytes; the request has no body that is answered.
async fn send_raw(gateway: &Gateway, bytes: &str) -> Response {
    let mut client = Client::connect(gateway.address()).await;
    client.send(bytes).await;
    client.response("GET").await
}

async fn send_signed(gateway: &Gateway, signer: &Signer, method: &str, target: &str) -> Response {
    let headers = signer.headers(method, target, "UNSIGNED-PAYLOAD", &[]);
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    send(gateway, method, target, &headers).await
}

/// Requests with one fault each, and the reasons of their refusals.
async fn provoke_by_head(gateway: &Gateway) -> Vec<(Response, &'static str)> {
    let (long, many) = ("k".repeat(9000), "v".repeat(9000));
    let cases: [FaultyRequest<'_>; 22] = [
        ("PUT", "/", &[], "no_bucket"),
        ("GET", "/nowhere/k", &[], "no_such_bucket"),
        ("GET", "/b/k", &[("x-request-timeout", "soon")], "deadline"),
        ("GET", "/b/k", &[("x-request-timeout", "0")], "timeout_deadline"),
        ("GET", "/b/a/../k", &[], "path"),
        ("GET", "/b/k?q=%253cscript%253e", &[], "injection"),
        ("GET", "/b/k?response-content-type=a%0d%0ab", &[], "response_parameter"),
        ("GET", &format!("/b/{long}"), &[], "uri_too_long"),
        ("GET", "/b/k", &[("x-long", &many)], "headers_too_large"),
        ("PATCH", "/b/k", &[], "method"),
        ("GET", "/b/k", &[("x-tidegate-session", "a b")], "session_malformed"),
        ("GET", "/closed/k", &[], "bucket_closed"),
        ("GET", "/signed/k", &[], "not_signed"),
        ("PUT", "/readonly/k", &[], "anonymous_denied"),
        ("GET", "/api/k", &[], "unproven"),
        ("GET", "/api/k", &[("x-api-key", "wrong")], "api_key_unknown"),
        ("OPTIONS", "/cors/k", &[], "preflight"),
        ("PUT", "/b/k", &[("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")], "md5_mismatch"),
        ("PUT", "/b/k", &[("content-md5", "no")], "md5_malformed"),
        ("PUT", "/b/k", &[("x-amz-checksum-crc32", "AAAAAA==")], "checksum_mismatch"),
        ("GET", "/?max-buckets=0", &[], "bucket_list_parameter"),
        ("GET", "/forced/k", &[], "breaker_forced_open"),
    ];
    let mut answers = Vec::new();
    for (method, target, headers, reason) in cases {
        answers.push((send(gateway, method, target, headers).await, reason));
    }
    let preflight = [("origin", "https://evil.test"), ("access-control-request-method", "GET")];
    answers.push((send(gateway, "OPTIONS", "/cors/k", &preflight).await, "cors"));
    for (head, reason) in [
        ("GET /b/k HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", "host"),
        ("GET ftp://a/b/k HTTP/1.1\r\nhost: a\r\n\r\n", "target"),
        ("PUT /b/k HTTP/1.1\r\nhost: a\r\n\r\n", "length_required"),
        ("PUT /b/k HTTP/1.1\r\nhost: a\r\ncontent-length: 11\r\n\r\n", "body_too_large"),
        (
            "PUT /b/k HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            "framing",
        ),
    ] {
        answers.push((send_raw(gateway, head).await, reason));
    }
    answers
}

/// Refusals because of the client's signature, of limits, of the upstream and of actors.
async fn provoke_by_state(gateway: &Gateway) -> Vec<(Response, &'static str)> {
    let reader = Signer::new("READER", "a-secret-of-the-reader");
    let mut answers = Vec::new();
    for (signer, target, reason) in [
        (Signer::new("NOBODY", "x"), "/signed/k", "unknown_key"),
        (Signer::new("READER", "wrong"), "/signed/k", "signature_mismatch"),
        (Signer { ahead_seconds: 3600, ..reader.clone() }, "/signed/k", "clock_skewed"),
    ] {
        answers.push((send_signed(gateway, &signer, "GET", target).await, reason));
    }
    assert_eq!(send_signed(gateway, &reader, "GET", "/keyed/k").await.complete_status(), 200);
    answers.push((send_signed(gateway, &reader, "GET", "/keyed/k").await, "rate_limit_key"));
    assert_eq!(gateway.get("/limited/k").await.complete_status(), 200);
    answers.push((gateway.get("/limited/k").await, "rate_limit_bucket"));
    for (target, reason) in [
        ("/b/reset", "upstream_reset"),
        ("/b/garbage", "decode_failed"),
        ("/b/hang", "timeout_first_byte"),
        ("/b/redirect", "upstream_redirect"),
        ("/dead/k", "upstream_connect"),
    ] {
        answers.push((gateway.get(target).await, reason));
    }
    // The failure is reported to the circuit while its answer is sent.
    decision(gateway, "reason=circuit_opened&bucket=dead").await;
    answers.push((gateway.get("/dead/k").await, "breaker_open"));
    gateway.crash_next("limiter", "decide").await;
    answers.push((gateway.get("/limited/k").await, "limiter_unavailable"));
    assert_eq!(gateway.post("/requests/crash").await.complete_status(), 202);
    answers.push((gateway.get("/b/k").await, "panic"));
    answers
}

/// O4: each refusal has exactly one record with its request ID, reason, status, measured value and threshold
#[tokio::test]
async fn every_refusal_has_one_record() {
    let (upstream, refusing) = (failing(), RefusingAddress::new());
    let gateway = every_refusal(&upstream, &refusing).start().await;
    let mut answers = provoke_by_head(&gateway).await;
    answers.extend(provoke_by_state(&gateway).await);
    let mut reasons = BTreeSet::new();
    for (answer, reason) in &answers {
        assert_eq!(answer.reason(), *reason, "{answer:?}");
        assert_recorded(&gateway, answer).await;
        reasons.insert(*reason);
    }
    assert!(reasons.len() >= 40, "{} reasons: {reasons:?}", reasons.len());
    // Each refusal counts once, and nothing else was refused.
    let counts = document(&gateway, "limit=1").await["counts"].as_array().unwrap().clone();
    let refused: u64 =
        counts.iter().filter(|one| one["kind"] == "refusal").map(|one| one["count"].as_u64().unwrap()).sum();
    assert_eq!(refused, answers.len() as u64, "{counts:?}");
}

/// O4: a record has scope, actor, generation, and the key of the threshold with its origin
#[tokio::test]
async fn a_record_names_actor_and_configuration() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("rate_limit.per_ip.requests_per_second", "0.001")
        .set("rate_limit.per_ip.burst", "2")
        .start()
        .await;
    for _ in 0..2 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    }
    let record = assert_recorded(&gateway, &gateway.get("/b/k").await).await;
    assert_eq!(record["scope"], "client_address", "{record}");
    assert_eq!((&record["measured"], &record["threshold"]), (&0.into(), &2.into()), "{record}");
    assert_eq!(record["actor"]["name"], "limiter", "{record}");
    assert_eq!(record["actor"]["generation"], gateway.generation("limiter").await, "{record}");
    let config = &record["config"];
    assert_eq!(
        (&config["key"], &config["origin"], &config["source"]),
        (&"rate_limit.per_ip.burst".into(), &"variable".into(), &"TIDEGATE_RATE_LIMIT__PER_IP__BURST".into()),
        "{record}"
    );
    let too_long =
        assert_recorded(&gateway, &gateway.get(&format!("/nowhere/{}", "k".repeat(10))).await).await;
    assert_eq!(
        (&too_long["reason"], &too_long["bucket"]),
        (&"rate_limit_ip".into(), &serde_json::Value::Null)
    );
}

/// O4: a client's key is named as in the access log, and the limit of its section is the threshold's key
#[tokio::test]
async fn a_record_names_the_clients_key() {
    let (upstream, refusing) = (failing(), RefusingAddress::new());
    let gateway = every_refusal(&upstream, &refusing).start().await;
    let reader = Signer::new("READER", "a-secret-of-the-reader");
    assert_eq!(send_signed(&gateway, &reader, "GET", "/keyed/k").await.complete_status(), 200);
    let answer = send_signed(&gateway, &reader, "GET", "/keyed/k").await;
    let record = assert_recorded(&gateway, &answer).await;
    let line = gateway.wait_for_access_line(&id(&answer)).await;
    assert_eq!((&record["client_key"], &record["scope"]), (&line["key"], &"client_key".into()), "{record}");
    assert_eq!(record["config"]["key"], "keys.reader.rate_limit.burst", "{record}");
    let of_key = decisions(&gateway, "client=READER").await;
    assert_eq!(of_key.len(), 1, "{of_key:?}");
    let denied = send_signed(&gateway, &reader, "PUT", "/signed/k").await;
    assert!(["rate_limit_key", "policy_denied"].contains(&denied.reason()), "{denied:?}");
}

/// O4: a full gate and a full process are measured against their limits
#[tokio::test]
async fn capacity_is_measured() {
    let upstream = Upstream::start(|_| UpstreamReply::hang());
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.timeout", "30")
        .set("buckets.b.s3.concurrency.max_concurrent", "1")
        .set("buckets.b.s3.concurrency.max_queued", "0")
        .set("server.max_concurrent_requests", "2")
        .start()
        .await;
    let mut first = Client::connect(gateway.address()).await;
    first.send(client::message("GET", "/b/held", &[], None)).await;
    upstream.wait_until_in_flight(1).await;
    let record = assert_recorded(&gateway, &gateway.get("/b/k").await).await;
    assert_eq!(
        (&record["reason"], &record["measured"], &record["threshold"]),
        (&"queue_full".into(), &0.into(), &0.into())
    );
    assert_eq!(record["config"]["key"], "buckets.b.s3.concurrency.max_queued", "{record}");
    assert_eq!(record["actor"]["name"], "pool:b", "{record}");
    assert_ne!(record["until"], record["at"], "the time of the refusal is not its end: {record}");
}

/// O4: bytes that are no request have a record too, without a request ID
#[tokio::test]
async fn malformed_bytes_have_a_record() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let answer = send_raw(&gateway, "this is no request\r\n\r\n").await;
    assert_eq!(answer.status, 400);
    let record = decision(&gateway, "reason=malformed").await;
    assert_eq!((&record["kind"], &record["client"]), (&"refusal".into(), &"127.0.0.1".into()), "{record}");
    assert!(record["request_id"].is_null(), "{record}");
}

/// O4: refusals on all workers at a time have one record each, and their order is total
#[tokio::test]
async fn concurrent_refusals_have_one_record_each() {
    const CLIENTS: usize = 8;
    const REQUESTS: usize = 25;
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).set("server.workers", "4").start().await;
    let address = gateway.address();
    let clients = (0..CLIENTS).map(|client_number| {
        tokio::spawn(async move {
            for number in 0..REQUESTS {
                let id = format!("c{client_number}-{number}");
                let answer =
                    request(address, "GET", "/nowhere/k", &[("x-request-id", id.as_str())], None).await;
                assert_eq!(answer.complete_status(), 404);
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let found = decisions(&gateway, "reason=no_such_bucket&limit=1000").await;
    let ids: BTreeSet<&str> = found.iter().map(|one| one["request_id"].as_str().unwrap()).collect();
    assert_eq!((found.len(), ids.len()), (CLIENTS * REQUESTS, CLIENTS * REQUESTS));
    let orders: Vec<u64> = found.iter().map(|one| one["order"].as_u64().unwrap()).collect();
    assert!(orders.is_sorted_by(|newer, older| newer > older), "{orders:?}");
    for client_number in 0..CLIENTS {
        let own: Vec<&str> = found
            .iter()
            .rev()
            .filter_map(|one| one["request_id"].as_str()?.strip_prefix(&format!("c{client_number}-")))
            .collect();
        let expected: Vec<String> = (0..REQUESTS).map(|number| number.to_string()).collect();
        assert_eq!(own, expected, "the requests of one client are in their order");
    }
}

/// Settings, reason, key of the threshold, and threshold.
type LimitCase<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str, u64);

/// O4: the limits of process, client and queue are measured
#[tokio::test]
async fn limits_of_process_client_and_queue_are_measured() {
    let queue = ("buckets.b.s3.concurrency.queue_timeout_ms", "50");
    let cases: [LimitCase<'_>; 3] = [
        (
            &[("server.max_concurrent_requests", "1")],
            "too_many_requests_in_flight",
            "server.max_concurrent_requests",
            1,
        ),
        (&[("concurrency.max_per_client", "1")], "client_concurrency", "concurrency.max_per_client", 1),
        (&[("buckets.b.s3.concurrency.max_concurrent", "1"), queue], "queue_timeout", queue.0, 50),
    ];
    for (settings, reason, key, threshold) in cases {
        let upstream = Upstream::start(|_| UpstreamReply::hang());
        let builder = Gateway::builder().bucket("b", &upstream);
        let gateway =
            settings.iter().fold(builder, |builder, (key, value)| builder.set(key, value)).start().await;
        let mut first = Client::connect(gateway.address()).await;
        first.send(client::message("GET", "/b/held", &[], None)).await;
        upstream.wait_until_in_flight(1).await;
        let record = assert_recorded(&gateway, &gateway.get("/b/k").await).await;
        assert_eq!(
            (&record["reason"], &record["threshold"]),
            (&reason.into(), &threshold.into()),
            "{record}"
        );
        assert!(record["measured"].as_f64() >= record["threshold"].as_f64(), "{record}");
        assert_eq!(record["config"]["key"], key, "{record}");
    }
}

/// O4: at `exhausted` a refusal has the reading of the sensor, and decisions can still be read
#[tokio::test]
async fn an_exhausted_gateway_is_explained() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).exhaust_at_half_of_descriptors().start().await;
    gateway.exhaust_descriptors();
    let rose = decision(&gateway, "reason=level_rose").await;
    assert_eq!(rose["actor"]["name"], "monitor", "{rose}");
    wait_for("the level is exhausted", || async {
        (gateway.status().await["level"] == "exhausted").then_some(())
    })
    .await;
    let record = assert_recorded(&gateway, &gateway.get("/b/k").await).await;
    assert_eq!((&record["reason"], &record["threshold"]), (&"exhausted".into(), &50.into()), "{record}");
    assert!(record["measured"].as_f64() >= Some(50.0) && record["unit"] == "%", "{record}");
    assert_eq!(record["config"]["key"], "monitor.exhausted", "{record}");
}
