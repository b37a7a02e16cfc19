//! Limits hold for both processes together, and are whole again after an upgrade that failed.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::json;

use super::Upgradable;
use crate::adaptive::{Demand, MAX, adaptive, limit};
use crate::support::client::message;
use crate::support::gateway::Builder;
use crate::support::{Client, Gateway, Latch, Response, Upstream, UpstreamReply, wait_for, wait_until};

const BURST: usize = 20;

/// A rate so low that no token becomes free during a test.
fn limited(builder: Builder, key: &str) -> Builder {
    builder
        .set(&format!("{key}.requests_per_second"), "0.001")
        .set(&format!("{key}.burst"), &BURST.to_string())
}

async fn ask(client: &mut Client) -> Response {
    client.send(message("GET", "/b/k", &[], None)).await;
    client.response("GET").await
}

/// Connections that have each had one answer.
async fn connected(gateway: &Gateway, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = Client::connect(gateway.address()).await;
        assert_eq!(ask(&mut client).await.complete_status(), 200);
        clients.push(client);
    }
    clients
}

/// Sends requests until one is refused. Returns the number before it.
async fn admitted(gateway: &Gateway) -> usize {
    for count in 0..=BURST {
        let answer = gateway.get("/b/k").await;
        if answer.complete_status() == 429 {
            return count;
        }
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    panic!("more than the burst was admitted");
}

/// G11, L1: what was used of a rate limit stays used, and both processes together admit the rest once, whichever is asked first
#[tokio::test]
async fn a_burst_is_not_doubled() {
    for key in ["rate_limit.global", "rate_limit.per_ip", "buckets.b.rate_limit"] {
        for is_old_first in [true, false] {
            let upstream = Upstream::ok("x");
            let mut running =
                Upgradable::start(limited(Gateway::builder().bucket("b", &upstream), key)).await;
            let mut kept = connected(&running.gateway, 8).await;
            running.upgraded().await;
            let mut of_new = if is_old_first { 0 } else { admitted(&running.gateway).await };
            let mut of_old = 0;
            for client in &mut kept {
                of_old += usize::from(ask(client).await.complete_status() == 200);
            }
            if is_old_first {
                of_new = admitted(&running.gateway).await;
            }
            // Half of the 12 free tokens for the old process, although it has 8 connections.
            assert_eq!((of_old, of_new), (6, 6), "{key}, old first: {is_old_first}");
            assert_eq!(upstream.count(), BURST);
            running.wait_for_end_of_predecessor().await;
            assert_eq!(admitted(&running.gateway).await, 0, "{key}: the end of the old process frees none");
        }
    }
}

/// An upstream that holds every request.
fn holding() -> (Upstream, Latch) {
    let latch = Latch::new();
    let held = latch.clone();
    (Upstream::start(move |_| UpstreamReply::ok("x").when_open(&held)), latch)
}

/// Four requests at a time, and a long queue.
fn gated(upstream: &Upstream) -> Builder {
    Gateway::builder()
        .bucket("b", upstream)
        .set("buckets.b.s3.concurrency.max_concurrent", "4")
        .set("buckets.b.s3.concurrency.queue_timeout_ms", "20000")
}

/// Connections with one request each that has no answer yet.
async fn waiting(gateway: &Gateway, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = Client::connect(gateway.address()).await;
        client.send(message("GET", "/b/k", &[], None)).await;
        clients.push(client);
    }
    clients
}

async fn all_answered(clients: Vec<Client>) {
    for mut client in clients {
        assert_eq!(client.response("GET").await.complete_status(), 200);
    }
}

/// Waits until the bucket has this many requests at its store and this many in the queue.
async fn wait_for_pool(gateway: &Gateway, in_flight: usize, queued: usize) {
    wait_for(&format!("{in_flight} are in flight and {queued} queued"), || async {
        let pool = gateway.status().await["buckets"]["b"]["pool"].clone();
        (pool["in_flight"] == in_flight && pool["queued"] == queued).then_some(())
    })
    .await;
}

/// Waits until the predecessor has this many requests, and reports what it may use: permits, and one slot for each request and connection.
async fn reported(gateway: &Gateway, requests: usize, permits: usize) {
    let expected = (&json!(requests), &json!(2 * requests), &json!(permits));
    wait_for(&format!("the predecessor reports {requests} requests and {permits} permits"), || async {
        let predecessor = gateway.status().await["predecessors"][0].clone();
        let (drain, limits) = (&predecessor["drain"], &predecessor["limits"]);
        ((&drain["requests"], &limits["in_flight"], &limits["permits"]["b"]) == expected).then_some(())
    })
    .await;
}

/// G11, P3: the requests that the old process still has count in the gate of the new one, which has the whole gate after their end
#[tokio::test]
async fn a_gate_is_not_doubled() {
    let (upstream, latch) = holding();
    let mut running = Upgradable::start(gated(&upstream)).await;
    let old = waiting(&running.gateway, 3).await;
    upstream.wait_until_in_flight(3).await;
    running.upgraded().await;
    let mut new = waiting(&running.gateway, 6).await;
    wait_for_pool(&running.gateway, 1, 5).await;
    // Each of the 3 connections may have one request more, but for the gate that would be more than half of what was free.
    reported(&running.gateway, 3, 3).await;
    assert_eq!(upstream.in_flight(), 4);

    // The store answers the requests in the order in which they came: the first ones are of the old process.
    latch.open(2);
    reported(&running.gateway, 1, 2).await;
    wait_for_pool(&running.gateway, 2, 4).await;
    latch.open(1);
    all_answered(old).await;
    running.wait_for_end_of_predecessor().await;
    wait_for_pool(&running.gateway, 4, 2).await;
    upstream.wait_until_in_flight(4).await;
    latch.open_for_all();
    new.extend(waiting(&running.gateway, 4).await);
    all_answered(new).await;
    assert_eq!((upstream.count(), upstream.peak_in_flight()), (13, 4));
}

/// G11, B4, L1, P3: after a new process that fails with the state the old one has all permits, all tokens and its trials; a second
/// new process gets what is left then, and both together no more than one
#[tokio::test]
async fn a_failed_hand_over_leaves_all_limits() {
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |seen| match seen.target.as_str() {
        "/b/held" => UpstreamReply::ok("x").when_open(&held),
        _ => UpstreamReply::ok("x"),
    });
    let ill = Upstream::sequence(vec![UpstreamReply::status(500), UpstreamReply::ok("x")]);
    let builder = limited(gated(&upstream), "buckets.b.rate_limit")
        .bucket("ill", &ill)
        .set("buckets.ill.s3.retry.max_attempts", "1")
        .set("buckets.ill.s3.circuit_breaker.failure_threshold", "1")
        .set("buckets.ill.s3.circuit_breaker.timeout_seconds", "1");
    let running = Upgradable::start(builder).await;
    let circuit = || async { running.gateway.status().await["buckets"]["ill"]["breaker"]["read"].clone() };
    assert_eq!(running.gateway.get("/ill/k").await.complete_status(), 500);
    wait_for("the circuit opens", || async { (circuit().await["state"] == "open").then_some(()) }).await;
    let mut kept = connected(&running.gateway, 2).await;

    running.fail_hand_over().await;

    wait_for("a trial closes the circuit", || async {
        running.gateway.get("/ill/k").await;
        (circuit().await["state"] == "closed").then_some(())
    })
    .await;
    let mut holding = Vec::new();
    for _ in 0..4 {
        let mut client = Client::connect(running.gateway.address()).await;
        client.send(message("GET", "/b/held", &[], None)).await;
        holding.push(client);
    }
    upstream.wait_until_in_flight(4).await;
    latch.open_for_all();
    all_answered(holding).await;
    // The connections of these requests have ended, those of `kept` are open.
    wait_for("two connections are open", || async {
        (running.gateway.status().await["clients"]["open"] == 2).then_some(())
    })
    .await;
    running.replace_by(super::BINARY);
    running.upgraded().await;
    let of_new = admitted(&running.gateway).await;
    let mut of_old = 0;
    for client in &mut kept {
        of_old += usize::from(ask(client).await.complete_status() == 200);
    }
    assert_eq!((of_new, of_old), (BURST - 6 - 2, 2));
    wait_until("its answers were counted", || upstream.count() == BURST).await;
}

/// G11, R5: the retries that the old process has in flight, and those that it may begin, count in the budget of the new one
#[tokio::test]
async fn a_retry_budget_is_not_doubled() {
    let latch = Latch::new();
    let (held, seen) = (latch.clone(), Mutex::new(BTreeSet::new()));
    // The first attempt of each request fails, its retry is held.
    let upstream =
        Upstream::start(move |request| match seen.lock().unwrap().insert(request.target.clone()) {
            true => UpstreamReply::status(503),
            false => UpstreamReply::ok("x").when_open(&held),
        });
    let key = |name: &str| format!("buckets.b.s3.{name}");
    let builder = Gateway::builder()
        .bucket("b", &upstream)
        .set(&key("circuit_breaker.mode"), "off")
        .set(&key("retry.max_attempts"), "2")
        .set(&key("retry.initial_backoff_ms"), "0")
        .set(&key("retry.max_backoff_ms"), "0")
        .set(&key("retry.budget.percent"), "0")
        .set(&key("retry.budget.min_per_second"), "1000")
        .set(&key("retry.budget.min_concurrent"), "4");
    let mut running = Upgradable::start(builder).await;
    let send = async |count: usize, name: &str| {
        let mut clients = Vec::new();
        for number in 0..count {
            let mut client = Client::connect(running.gateway.address()).await;
            client.send(message("GET", &format!("/b/{name}-{number}"), &[], None)).await;
            clients.push(client);
        }
        clients
    };
    let old = send(2, "old").await;
    upstream.wait_until_in_flight(2).await;
    running.upgraded().await;
    let mut new = send(6, "new").await;
    wait_until("the first attempts have failed", || upstream.count() > 2 * 2 + 6).await;
    // Four may be in flight: two are, and the old process may begin one of the others.
    let refused = || async { running.gateway.metric("retry_budget_exhausted_total{bucket=\"b\"}").await };
    wait_for("five retries are refused", || async { (refused().await == 5.0).then_some(()) }).await;
    assert_eq!((upstream.count(), upstream.in_flight()), (2 * 2 + 6 + 1, 3));
    latch.open_for_all();
    all_answered(old).await;
    let mut statuses = Vec::new();
    for client in &mut new {
        statuses.push(client.response("GET").await.complete_status());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 503, 503, 503, 503, 503]);
    running.wait_for_end_of_predecessor().await;
}

/// G11, P7: the learnt limit of concurrent requests crosses; it does not begin at the floor again
#[tokio::test]
async fn a_learnt_limit_stays() {
    let upstream = Upstream::start(|_| UpstreamReply::ok("x").delayed(Duration::from_millis(30)));
    let mut running = Upgradable::start(adaptive(&upstream, "100")).await;
    assert_eq!(limit(&running.gateway).await, 2, "the floor");
    let demand = Demand::on(&running.gateway);
    wait_for("the limit is learnt", || async { (limit(&running.gateway).await == MAX).then_some(()) }).await;
    demand.end().await;
    running.gateway.wait_until_idle().await;
    let before = limit(&running.gateway).await;
    assert!(before > 2, "{before}");
    running.upgraded().await;
    assert_eq!(limit(&running.gateway).await, before);
    running.wait_for_end_of_predecessor().await;
    assert_eq!(limit(&running.gateway).await, before);
}
