//! Decisions that are no refusals: waits, retries, hedges, ejections and transitions, and all decisions as log lines.

use std::time::Duration;

use super::{assert_recorded, decision, decisions, document, id};
use crate::pool::{held, spawn_get};
use crate::support::{Client, Gateway, Latch, Upstream, UpstreamReply, client, wait_for};

/// O4: a wait of more than 10 ms in the queue is a decision, a shorter one is not
#[tokio::test]
async fn a_long_wait_is_recorded() {
    let (upstream, latch) = held();
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.concurrency.max_concurrent", "1")
        .set("buckets.b.s3.concurrency.queue_timeout_ms", "20000")
        .start()
        .await;
    let first = spawn_get(&gateway, "/b/first");
    upstream.wait_until_in_flight(1).await;
    let second = spawn_get(&gateway, "/b/second");
    wait_for("the second waits", || async {
        (gateway.status().await["buckets"]["b"]["pool"]["queued"] == 1).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    latch.open_for_all();
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_eq!((first.complete_status(), second.complete_status()), (200, 200));
    let found = decisions(&gateway, &format!("reason=permit_wait&request_id={}", id(&second))).await;
    assert_eq!(found.len(), 1, "{found:?}");
    let record = &found[0];
    assert_eq!(record["kind"], "queued", "{record}");
    assert!(record["measured"].as_f64().unwrap() >= 30.0, "{record}");
    assert_eq!((&record["threshold"], &record["unit"]), (&20_000.into(), &"ms".into()), "{record}");
    assert_eq!(record["actor"]["name"], "pool:b", "{record}");
    let waits = decisions(&gateway, "reason=permit_wait").await;
    assert!(waits.iter().all(|one| one["measured"].as_f64().unwrap() > 10.0), "{waits:?}");
}

/// O4: each retry is a decision with the reason of the failed attempt
#[tokio::test]
async fn every_retry_is_recorded() {
    // A reset on a kept connection would be no failure.
    let refusal = UpstreamReply::status(503).closing();
    let upstream = Upstream::sequence(vec![refusal, UpstreamReply::reset(), UpstreamReply::ok("x")]);
    let gateway = Gateway::in_front_of(&upstream).await;
    let answer = gateway.get("/b/k").await;
    assert_eq!(answer.complete_status(), 200);
    let found = decisions(&gateway, &format!("request_id={}", id(&answer))).await;
    let told: Vec<_> = found
        .iter()
        .rev()
        .filter(|one| one["kind"] == "retry")
        .map(|one| {
            (one["kind"].as_str(), one["reason"].as_str(), one["measured"].as_u64(), one["status"].as_u64())
        })
        .collect();
    assert_eq!(
        told,
        [
            (Some("retry"), Some("upstream_status"), Some(1), Some(503)),
            (Some("retry"), Some("upstream_reset"), Some(2), None)
        ]
    );
    assert_eq!(found[0]["endpoint"], upstream.address().to_string());
    assert_eq!(gateway.metric("s3_retry_attempts_total{bucket=\"b\"}").await, 2.0);
}

/// O4: each hedge is a decision, measured against its delay
#[tokio::test]
async fn every_hedge_is_recorded() {
    let latch = Latch::new();
    let of_upstream = latch.clone();
    let upstream = Upstream::start(move |seen| match seen.target.as_str() {
        "/b/slow" if seen.number % 2 == 1 => UpstreamReply::ok("x").when_open(&of_upstream),
        _ => UpstreamReply::ok("x"),
    });
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.hedging.enabled", "true")
        .set("buckets.b.s3.hedging.percent", "100")
        .set("buckets.b.s3.hedging.min_calls", "20")
        .set("buckets.b.s3.hedging.delay_min_ms", "150")
        .start()
        .await;
    wait_for("the percentile is known", || async {
        for _ in 0..20 {
            assert_eq!(gateway.get("/b/fast").await.complete_status(), 200);
        }
        let known = gateway.metric("hedge_first_byte_p95_seconds{bucket=\"b\",class=\"read\"}").await;
        (known > 0.0).then_some(())
    })
    .await;
    // Two slow reads: the attempts of one of them are held.
    for _ in 0..2 {
        assert_eq!(gateway.get("/b/slow").await.complete_status(), 200);
        if gateway.metric("hedges_sent_total{bucket=\"b\"}").await > 0.0 {
            break;
        }
        assert_eq!(gateway.get("/b/fast").await.complete_status(), 200);
    }
    latch.open_for_all();
    let record = decision(&gateway, "reason=slow_read").await;
    assert_eq!((&record["kind"], &record["unit"]), (&"hedge".into(), &"ms".into()), "{record}");
    assert!(record["threshold"].as_f64().unwrap() >= 150.0, "{record}");
    assert!(record["measured"].as_f64() >= record["threshold"].as_f64(), "{record}");
}

/// O4, X3: malformed connections at the admin listener overwrite no transition and add no decision, and one address has one log line
#[tokio::test]
async fn strangers_at_the_admin_listener_erase_no_transition() {
    let bad = Upstream::start(|_| UpstreamReply::status(500));
    let gateway = Gateway::builder()
        .bucket("b", &bad)
        .set("log.decision_memory", "32KiB")
        .set("server.workers", "2")
        .set("buckets.b.s3.retry.max_attempts", "1")
        .set("buckets.b.s3.circuit_breaker.failure_threshold", "3")
        .start()
        .await;
    for _ in 0..3 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 500);
    }
    decision(&gateway, "reason=circuit_opened").await;
    let recorded = document(&gateway, "").await["recorded"].clone();
    for _ in 0..300 {
        let mut stranger = Client::connect_from([127, 0, 0, 2], gateway.admin_address(), None).await;
        stranger.send("\0\r\n\r\n").await;
        assert_eq!(stranger.response("GET").await.status, 400);
    }
    assert_eq!(decisions(&gateway, "reason=circuit_opened").await.len(), 1);
    assert_eq!(document(&gateway, "").await["recorded"], recorded, "no decision of a stranger");
    assert_eq!(gateway.metric("unrouted_total{reason=\"malformed\"}").await, 300.0);
    // The line of a later address shows that all earlier ones are written.
    let mut other = Client::connect_from([127, 0, 0, 3], gateway.admin_address(), None).await;
    other.send("\0\r\n\r\n").await;
    gateway.wait_for_log_line("request", |line| line["client"] == "127.0.0.3").await;
    let lines = gateway.log_lines();
    assert_eq!(lines.iter().filter(|line| line["client"] == "127.0.0.2").count(), 1);
}

/// O4: transitions of a circuit and ejections of an endpoint are decisions of their actors
#[tokio::test]
async fn transitions_and_ejections_are_recorded() {
    let bad = Upstream::start(|_| UpstreamReply::status(500));
    let good = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &bad)
        .bucket_at("two", &[bad.address(), good.address()])
        .set("buckets.b.s3.retry.max_attempts", "1")
        .set("buckets.b.s3.circuit_breaker.failure_threshold", "3")
        .set("buckets.two.s3.outlier_ejection.consecutive_failures", "2")
        .start()
        .await;
    for _ in 0..3 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 500);
    }
    let opened = decision(&gateway, "reason=circuit_opened&bucket=b").await;
    assert_eq!((&opened["kind"], &opened["actor"]["name"]), (&"transition".into(), &"breaker:b".into()));
    assert_eq!((&opened["measured"], &opened["unit"]), (&3.into(), &"failures".into()), "{opened}");
    assert!(opened["request_id"].is_null() && opened["until"].is_string(), "{opened}");
    assert!(opened["detail"].as_str().unwrap().contains("read"), "{opened}");
    let refused = assert_recorded(&gateway, &gateway.get("/b/k").await).await;
    assert_eq!(
        (&refused["reason"], &refused["measured"], &refused["threshold"]),
        (&"breaker_open".into(), &3.into(), &3.into())
    );
    assert_eq!(refused["config"]["key"], "buckets.b.s3.circuit_breaker.failure_threshold", "{refused}");
    wait_for("the endpoint is ejected", || async {
        gateway.get("/two/k").await.complete_status();
        decisions(&gateway, "reason=endpoint_ejected&bucket=two").await.into_iter().next()
    })
    .await;
    let ejected = decision(&gateway, "reason=endpoint_ejected").await;
    assert_eq!((&ejected["kind"], &ejected["scope"]), (&"ejection".into(), &"endpoint".into()), "{ejected}");
    assert_eq!(ejected["endpoint"], bad.address().to_string(), "{ejected}");
    let figures = (&ejected["measured"], &ejected["threshold"], &ejected["unit"]);
    assert_eq!(figures, (&2.into(), &2.into(), &"failures".into()), "{ejected}");
    let key = "buckets.two.s3.outlier_ejection.consecutive_failures";
    assert_eq!(ejected["config"]["key"], key, "{ejected}");
}

/// O4: a change of the level is a decision of the monitor
#[tokio::test]
async fn a_change_of_level_is_recorded() {
    let (upstream, latch) = held();
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("server.max_concurrent_requests", "10")
        .set("monitor.interval_ms", "50")
        .start()
        .await;
    let mut clients = Vec::new();
    for number in 0..9 {
        let mut client = Client::connect(gateway.address()).await;
        client.send(client::message("GET", &format!("/b/{number}"), &[], None)).await;
        clients.push(client);
    }
    let record = decision(&gateway, "reason=level_rose").await;
    assert_eq!((&record["kind"], &record["scope"]), (&"transition".into(), &"process".into()), "{record}");
    assert_eq!((&record["actor"]["name"], &record["unit"]), (&"monitor".into(), &"%".into()), "{record}");
    assert!(record["measured"].as_f64().unwrap() >= record["threshold"].as_f64().unwrap(), "{record}");
    latch.open_for_all();
}

/// O4: a transfer that the gateway ends after the head of the answer is a decision
#[tokio::test]
async fn a_cut_transfer_is_recorded() {
    let upstream = Upstream::start(|_| {
        UpstreamReply::ok("").header("content-length", "10").then_body_after(Duration::from_secs(30), "late")
    });
    let gateway =
        Gateway::builder().bucket("b", &upstream).set("buckets.b.s3.idle_timeout", "0.2").start().await;
    let answer = gateway.get("/b/k").await;
    assert!(answer.broken.is_some(), "{answer:?}");
    let record = decision(&gateway, "reason=timeout_idle").await;
    assert_eq!((&record["kind"], &record["status"]), (&"cut".into(), &200.into()), "{record}");
    assert_eq!(record["request_id"], id(&answer));
}

/// O4: `log.decisions` writes each decision as one line, and client input forges none
#[tokio::test]
async fn every_decision_is_a_log_line() {
    let upstream = Upstream::sequence(vec![UpstreamReply::status(503), UpstreamReply::ok("x")]);
    let gateway = Gateway::builder().bucket("b", &upstream).set("log.decisions", "true").start().await;
    let repeated = gateway.get("/b/k").await;
    let refused = gateway.get("/nowhere%0A%7B%22msg%22/k").await;
    assert_eq!((repeated.complete_status(), refused.complete_status()), (200, 404));
    for (answer, kind, reason) in
        [(&repeated, "retry", "upstream_status"), (&refused, "refusal", "no_such_bucket")]
    {
        let id = id(answer);
        let line = gateway.wait_for_log_line("decision", |line| line["id"] == id).await;
        crate::tidy::documented_words::assert_documented(&line);
        let record = &decisions(&gateway, &format!("request_id={id}")).await[0];
        assert_eq!((&line["kind"], &line["reason"]), (&kind.into(), &reason.into()), "{line}");
        for field in ["scope", "status", "bucket", "endpoint", "client", "elapsed_us"] {
            assert_eq!(
                line.get(field).unwrap_or(&serde_json::Value::Null),
                &record[field],
                "{field} of {line}"
            );
        }
        assert_eq!(line["measured"].as_f64(), record["measured"].as_f64(), "{line}");
    }
    let lines = gateway.log_lines().iter().filter(|line| line["msg"] == "decision").count();
    assert_eq!(document(&gateway, "").await["recorded"], lines, "one line each");
}

/// O4: without `log.decisions` there is no line
#[tokio::test]
async fn decisions_are_no_log_lines_by_default() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let answer = gateway.get("/nowhere/k").await;
    gateway.wait_for_access_line(&id(&answer)).await;
    assert!(gateway.log_lines().iter().all(|line| line["msg"] != "decision"));
    assert_eq!(document(&gateway, "").await["recorded"], 1);
}
