//! Several endpoints of one bucket: one failing endpoint costs clients almost nothing, the circuit acts when all fail,
//! and recovered endpoints are used again (P5).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::support::gateway::Builder;
use crate::support::{Client, Gateway, Response, Upstream, UpstreamReply, client, wait_for};

/// Concurrent clients, and requests of each.
const CLIENTS: usize = 8;
const REQUESTS: usize = 40;
/// Consecutive failures that eject an endpoint.
const ROW: usize = 5;

/// An upstream with this behaviour while it is failing, and 200 otherwise.
fn switchable(reply: UpstreamReply) -> (Upstream, Arc<AtomicBool>) {
    let is_bad = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&is_bad);
    let upstream =
        Upstream::start(
            move |_| if switch.load(Ordering::SeqCst) { reply.clone() } else { UpstreamReply::ok("x") },
        );
    (upstream, is_bad)
}

fn bucket_of(upstreams: &[&Upstream]) -> Builder {
    let addresses: Vec<_> = upstreams.iter().map(|upstream| upstream.address()).collect();
    Gateway::builder().bucket_at("b", &addresses).set("buckets.b.s3.timeout", "1")
}

/// Many requests from several clients at once; the answers, or none for a connection that ended without one.
async fn storm(gateway: &Gateway) -> Vec<Option<Response>> {
    let (address, answers) = (gateway.address(), Arc::new(std::sync::Mutex::new(Vec::new())));
    let clients = (0..CLIENTS).map(|_| {
        let answers = Arc::clone(&answers);
        tokio::spawn(async move {
            for _ in 0..REQUESTS {
                let mut client = Client::connect(address).await;
                client.send(client::message("GET", "/b/k", &[], None)).await;
                let answer = client.try_response("GET").await;
                answers.lock().unwrap().push(answer);
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    std::mem::take(&mut *answers.lock().unwrap())
}

fn is_whole(answer: &Option<Response>) -> bool {
    answer.as_ref().is_some_and(|answer| answer.status == 200 && answer.broken.is_none())
}

async fn endpoint(gateway: &Gateway, index: usize) -> Value {
    gateway.status().await["buckets"]["b"]["pool"]["endpoints"][index].clone()
}

/// Sends requests until the endpoint has got one.
async fn is_called(gateway: &Gateway, upstream: &Upstream) {
    let before = upstream.count();
    wait_for("the endpoint is called", || async {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
        (upstream.count() > before).then_some(())
    })
    .await;
}

/// P5: with one failing endpoint of three and no retries, clients see only the failures that lead to its ejection; the
/// bucket's circuit stays closed
#[tokio::test]
async fn a_failing_endpoint_costs_only_a_few_requests() {
    let acts = [
        ("503", UpstreamReply::status(503)),
        ("hangs", UpstreamReply::hang()),
        ("resets", UpstreamReply::reset()),
        ("is no HTTP", UpstreamReply::raw("x\r\n\r\n")),
        ("cut short", UpstreamReply::ok("abcdef").cut_at(3)),
    ];
    for (what, reply) in acts {
        let (left, right) = (Upstream::ok("x"), Upstream::ok("x"));
        let (bad, _) = switchable(reply);
        let gateway =
            bucket_of(&[&left, &bad, &right]).set("buckets.b.s3.retry.max_attempts", "1").start().await;
        let answers = storm(&gateway).await;
        let failed = answers.iter().filter(|answer| !is_whole(answer)).count();
        assert!((ROW..ROW + CLIENTS).contains(&failed), "{what}: {failed} failed");
        assert_eq!(bad.count(), failed, "{what}");
        let entry = endpoint(&gateway, 1).await;
        assert_eq!((&entry["state"], &entry["ejections"]), (&"ejected".into(), &1.into()), "{what}");
        assert!(left.count() > 50 && right.count() > 50, "{what}");
        let refused = answers.iter().flatten().find(|answer| answer.reason().starts_with("breaker"));
        assert!(refused.is_none(), "{what}: {refused:?}");
    }
}

/// P5, R1: with the default retries clients see no error
#[tokio::test]
async fn retries_hide_a_failing_endpoint() {
    for (what, reply) in [
        ("503", UpstreamReply::status(503)),
        ("hangs", UpstreamReply::hang()),
        ("resets", UpstreamReply::reset()),
    ] {
        let (left, right) = (Upstream::ok("x"), Upstream::ok("x"));
        let (bad, _) = switchable(reply);
        let gateway = bucket_of(&[&bad, &left, &right]).start().await;
        let answers = storm(&gateway).await;
        assert!(
            answers.iter().all(is_whole),
            "{what}: {:?}",
            answers.iter().find(|answer| !is_whole(answer))
        );
        assert!(bad.count() < ROW + CLIENTS, "{what}: called {} times", bad.count());
        let labels = format!("{{bucket=\"b\",endpoint=\"{}\"}}", bad.address());
        assert_eq!(gateway.metric(&format!("upstream_endpoint_healthy{labels}")).await, 0.0);
        assert_eq!(gateway.metric(&format!("upstream_endpoint_ejections_total{labels}")).await, 1.0);
        let line = gateway.wait_for_log_line("endpoint ejected", |_| true).await;
        assert_eq!(line["endpoint"], bad.address().to_string());
    }
}

/// P5: an endpoint that refuses connections is ejected at once, and used again when it listens again
#[tokio::test]
async fn a_refusing_endpoint_is_ejected_until_it_listens_again() {
    let (stays, goes) = (Upstream::ok("x"), Upstream::ok("x"));
    let gateway =
        bucket_of(&[&stays, &goes]).set("buckets.b.s3.outlier_ejection.base_seconds", "0.2").start().await;
    is_called(&gateway, &goes).await;
    goes.stop().await;
    gateway_notices(&gateway).await;
    assert!(storm(&gateway).await.iter().all(is_whole));
    goes.start_again().await;
    is_called(&gateway, &goes).await;
}

async fn gateway_notices(gateway: &Gateway) {
    wait_for("the endpoint is ejected", || async {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
        (endpoint(gateway, 1).await["state"] != "in_rotation").then_some(())
    })
    .await;
    assert_eq!(endpoint(gateway, 1).await["cause"], "unreachable");
}

/// P5: an ejection ends, and a recovered endpoint is used again
#[tokio::test]
async fn an_ejected_endpoint_comes_back() {
    let good = Upstream::ok("x");
    let (bad, is_bad) = switchable(UpstreamReply::status(500));
    let gateway =
        bucket_of(&[&good, &bad]).set("buckets.b.s3.outlier_ejection.base_seconds", "0.2").start().await;
    wait_for("it is ejected", || async {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
        (endpoint(&gateway, 1).await["ejections"].as_u64() > Some(0)).then_some(())
    })
    .await;
    is_bad.store(false, Ordering::SeqCst);
    is_called(&gateway, &bad).await;
    gateway
        .wait_for_log_line("endpoint returned to rotation", |line| {
            line["endpoint"] == bad.address().to_string()
        })
        .await;
}

/// P5, B1: if all endpoints fail, none stays ejected: the circuit opens, and the first recovered endpoint serves all
/// requests
#[tokio::test]
async fn the_circuit_opens_when_all_endpoints_fail() {
    let bad: Vec<_> = (0..3).map(|_| switchable(UpstreamReply::status(503))).collect();
    let upstreams: Vec<&Upstream> = bad.iter().map(|(upstream, _)| upstream).collect();
    let gateway =
        bucket_of(&upstreams).set("buckets.b.s3.circuit_breaker.timeout_seconds", "0.2").start().await;
    wait_for("the circuit opens", || async {
        let answer = gateway.get("/b/k").await;
        assert_eq!(answer.complete_status(), 503);
        answer.reason().starts_with("breaker").then_some(())
    })
    .await;
    let attempts: usize = upstreams.iter().map(|upstream| upstream.count()).sum();
    assert!(attempts < 3 * 3 * ROW, "{attempts} attempts until the ejection");
    bad[1].1.store(false, Ordering::SeqCst);
    wait_for("it is served", || async { (gateway.get("/b/k").await.complete_status() == 200).then_some(()) })
        .await;
    let before = upstreams[1].count();
    wait_for("the circuit closes", || async {
        (gateway.get("/b/k").await.complete_status() == 200 && upstreams[1].count() > before + 5)
            .then_some(())
    })
    .await;
    assert!(storm(&gateway).await.iter().all(is_whole));
}

/// How often the circuit of reads has opened.
async fn opened_total(gateway: &Gateway) -> u64 {
    gateway.status().await["buckets"]["b"]["breaker"]["read"]["opened_total"].as_u64().unwrap()
}

/// Two stores that were stopped, with an open circuit. Then one of them listens again, and the open time has ended. Also returns how often
/// the circuit has opened: more than once if this machine took longer than an open time to see that it was open.
async fn after_an_outage(attempts: &str) -> (Gateway, [Upstream; 2], u64) {
    let stores = [Upstream::ok("x"), Upstream::ok("x")];
    let gateway = bucket_of(&[&stores[0], &stores[1]])
        .set("buckets.b.s3.retry.max_attempts", attempts)
        .set("buckets.b.s3.circuit_breaker.timeout_seconds", "0.3")
        .set("buckets.b.s3.circuit_breaker.success_threshold", "1")
        .start()
        .await;
    for store in &stores {
        store.stop().await;
    }
    let circuit = || async { gateway.status().await["buckets"]["b"]["breaker"]["read"].clone() };
    wait_for("the circuit opens", || async {
        gateway.get("/b/k").await;
        (circuit().await["state"] == "open").then_some(())
    })
    .await;
    stores[1].start_again().await;
    wait_for("the open time has ended", || async { (circuit().await["open_for_ms"] == 0).then_some(()) })
        .await;
    let opened = opened_total(&gateway).await;
    (gateway, stores, opened)
}

/// P5, B2: of two endpoints one is dead, and the other answers again: the first trial reaches it, by its second attempt if need be
#[tokio::test]
async fn the_first_trial_finds_the_endpoint_that_answers() {
    for round in 0..6 {
        let (gateway, _stores, opened) = after_an_outage("2").await;
        let answer = gateway.get("/b/k").await;
        assert_eq!((answer.complete_status(), answer.reason()), (200, ""), "round {round}");
        assert_eq!(opened_total(&gateway).await, opened, "round {round}");
        assert!(storm(&gateway).await.iter().all(is_whole), "round {round}");
    }
}

/// P5, B2: without retries the second trial reaches it at the latest, so the open time doubles once at most
#[tokio::test]
async fn trials_without_retries_call_the_endpoints_in_turn() {
    for round in 0..6 {
        let (gateway, _stores, opened) = after_an_outage("1").await;
        wait_for("it is served", || async {
            (gateway.get("/b/k").await.complete_status() == 200).then_some(())
        })
        .await;
        assert!(opened_total(&gateway).await <= opened + 1, "round {round}");
    }
}

/// P5: health checks, for which only 2xx is success, eject an endpoint before a request reaches it, and return it
#[tokio::test]
async fn health_checks_eject_and_return_endpoints() {
    let good = Upstream::ok("x");
    let is_well = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&is_well);
    let failing = Upstream::start(move |seen| match seen.target.as_str() {
        "/healthz?deep=1" if !switch.load(Ordering::SeqCst) => UpstreamReply::status(400),
        _ => UpstreamReply::ok("x"),
    });
    let gateway = bucket_of(&[&good, &failing])
        .set("buckets.b.s3.health_check.path", "/healthz?deep=1")
        .set("buckets.b.s3.health_check.interval_seconds", "0.05")
        .set("buckets.b.s3.access_key_id", "AKID")
        .set("buckets.b.s3.secret_access_key", "secret")
        .start()
        .await;
    wait_for("the endpoint is unhealthy", || async {
        (endpoint(&gateway, 1).await["state"] == "unhealthy").then_some(())
    })
    .await;
    let objects = |upstream: &Upstream| upstream.seen().iter().filter(|seen| seen.target == "/b/k").count();
    let before = objects(&failing);
    assert!(storm(&gateway).await.iter().all(is_whole));
    assert_eq!((before, objects(&failing), objects(&good)), (0, 0, CLIENTS * REQUESTS));
    let labels = format!("{{bucket=\"b\",endpoint=\"{}\"}}", failing.address());
    assert_eq!(gateway.metric(&format!("upstream_endpoint_healthy{labels}")).await, 0.0);
    let check = failing.last();
    assert_eq!(
        (check.method.as_str(), check.header("host").unwrap()),
        ("GET", &*failing.address().to_string())
    );
    assert!(check.header("authorization").unwrap().contains("Credential=AKID/"), "{check:?}");
    is_well.store(true, Ordering::SeqCst);
    wait_for("the endpoint is called again", || async {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
        (objects(&failing) > 0).then_some(())
    })
    .await;
}

/// P5: a health check without an answer in time fails
#[tokio::test]
async fn a_health_check_times_out() {
    let (good, hangs) = (Upstream::ok("x"), Upstream::start(|_| UpstreamReply::hang()));
    let gateway = bucket_of(&[&good, &hangs])
        .set("buckets.b.s3.health_check.path", "/")
        .set("buckets.b.s3.health_check.interval_seconds", "0.05")
        .set("buckets.b.s3.health_check.timeout_seconds", "0.1")
        .start()
        .await;
    wait_for("the endpoint is unhealthy", || async {
        (endpoint(&gateway, 1).await["state"] == "unhealthy").then_some(())
    })
    .await;
    assert_eq!(
        gateway.wait_for_log_line("health check failed", |_| true).await["endpoint"],
        hangs.address().to_string()
    );
    assert!(hangs.seen().iter().all(|seen| seen.target == "/"));
}

/// P5: a successful health check ends an ejection long before its time
#[tokio::test]
async fn a_good_check_brings_a_restarted_endpoint_back_early() {
    let (stays, goes) = (Upstream::ok("x"), Upstream::ok("x"));
    let gateway = bucket_of(&[&stays, &goes])
        .set("buckets.b.s3.outlier_ejection.base_seconds", "3600")
        .set("buckets.b.s3.slow_start_seconds", "0")
        .set("buckets.b.s3.health_check.path", "/healthz")
        .set("buckets.b.s3.health_check.interval_seconds", "0.05")
        .start()
        .await;
    goes.stop().await;
    wait_for("the endpoint is ejected", || async {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
        (endpoint(&gateway, 1).await["state"] == "unhealthy").then_some(())
    })
    .await;
    goes.start_again().await;
    wait_for("the endpoint is back", || async {
        (endpoint(&gateway, 1).await["state"] == "in_rotation").then_some(())
    })
    .await;
    let objects = || goes.seen().iter().filter(|seen| seen.target == "/b/k").count();
    let before = objects();
    assert!(storm(&gateway).await.iter().all(is_whole));
    assert!(objects() > before + 50, "{} of {}", objects() - before, CLIENTS * REQUESTS);
}

/// P5: a standby endpoint is used only while the others are ejected, without a lost request, and traffic returns
/// afterwards
#[tokio::test]
async fn requests_fail_over_and_return() {
    let (first, second) = (Upstream::ok("x"), Upstream::ok("x"));
    let gateway = bucket_of(&[&first])
        .set("buckets.b.s3.failover.endpoints", &format!("http://{}", second.address()))
        .set("buckets.b.s3.failover.return_after_seconds", "0.1")
        .set("buckets.b.s3.outlier_ejection.base_seconds", "0.3")
        .start()
        .await;
    assert!(storm(&gateway).await.iter().all(is_whole));
    assert_eq!((first.count(), second.count()), (CLIENTS * REQUESTS, 0));
    first.stop().await;
    assert!(storm(&gateway).await.iter().all(is_whole));
    assert!(second.count() >= CLIENTS * REQUESTS);
    gateway.wait_for_log_line("failed over to standby endpoints", |line| line["bucket"] == "b").await;
    first.start_again().await;
    is_called(&gateway, &first).await;
    gateway.wait_for_log_line("failed back from standby endpoints", |line| line["bucket"] == "b").await;
}

/// P5, S5: an ejection survives a crash of the pool's actor
#[tokio::test]
async fn ejections_survive_a_pool_crash() {
    let good = Upstream::ok("x");
    let (bad, _) = switchable(UpstreamReply::status(503));
    let gateway = bucket_of(&[&good, &bad]).chaos().start().await;
    wait_for("it is ejected", || async {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
        (endpoint(&gateway, 1).await["state"] == "ejected").then_some(())
    })
    .await;
    let before = bad.count();
    for at in ["decide", "apply"] {
        let generation = gateway.generation("pool:b").await;
        gateway.crash("pool:b", at).await;
        gateway.wait_for_generation("pool:b", generation + 1).await;
        assert_eq!(endpoint(&gateway, 1).await["state"], "ejected");
        assert!(storm(&gateway).await.iter().all(is_whole));
    }
    assert_eq!(bad.count(), before);
}
