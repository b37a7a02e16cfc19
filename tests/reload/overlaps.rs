//! Reloads while requests of an earlier configuration run, and crashes of actors after a reload.

use super::{apply, open_bucket, wait_until_retired};
use crate::pool::{held, spawn_get};
use crate::support::{Client, Gateway, Latch, Upstream, UpstreamReply, client, wait_for};

fn gated(upstream: &Upstream, concurrent: usize) -> String {
    let gate = format!("concurrency.max_concurrent = {concurrent}\nconcurrency.queue_timeout_ms = 30000");
    open_bucket("b", &[upstream], &gate)
}

/// G3: a bucket that returns while a request of its removed namesake runs is another one, and loses neither actors nor series
#[tokio::test]
async fn a_bucket_returns_while_a_request_runs() {
    let (latch, other) = (Latch::new(), Upstream::ok("x"));
    let of_upstream = latch.clone();
    let old = Upstream::start(move |_| UpstreamReply::ok("begin").then_body_when_open(&of_upstream, "end"));
    let new = Upstream::ok("new");
    let kept = open_bucket("kept", &[&other], "");
    let with = |upstream: &Upstream| kept.clone() + &open_bucket("b", &[upstream], "");
    let gateway = Gateway::builder().config(&with(&old)).start().await;
    let mut client = Client::connect(gateway.address()).await;
    client.send(client::message("GET", "/b/k", &[], None)).await;
    let mut answer = client.head().await;
    assert_eq!(answer.status, 200);
    apply(&gateway, &kept).await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 404);
    apply(&gateway, &with(&new)).await;
    assert_eq!(gateway.get("/b/k").await.text(), "new");
    assert_eq!(
        gateway.status().await["buckets"]["b"]["pool"]["in_flight"],
        0,
        "that of the first one is not its own"
    );
    latch.open_for_all();
    client.body(&mut answer, "GET").await;
    assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "beginend"));
    for number in [1, 2] {
        wait_until_retired(&gateway, number).await;
    }
    assert_eq!(gateway.get("/b/k").await.text(), "new");
    assert_eq!((old.count(), new.count()), (1, 2));
    let actors = gateway.status().await["actors"].clone();
    for actor in ["pool:b", "breaker:b"] {
        assert_eq!(actors[actor]["state"], actors["limiter"]["state"], "{actor}: {actors}");
    }
    assert_eq!(gateway.metric("circuit_breaker_state{bucket=\"b\",class=\"read\"}").await, 0.0);
    let requests = gateway.metrics().await;
    assert!(
        requests.lines().any(|line| line.starts_with("tidegate_requests_total{bucket=\"b\"")),
        "{requests}"
    );
}

/// G3, S3: actors that crash after a reload come back with the settings of the current configuration
#[tokio::test]
async fn a_crash_keeps_the_settings_of_a_reload() {
    let (upstream, latch) = held();
    let with = |concurrent: usize, burst: u32| {
        gated(&upstream, concurrent)
            + &format!("[buckets.b.rate_limit]\nrequests_per_second = 0.001\nburst = {burst}\n")
    };
    let gateway = Gateway::builder().chaos().config(&with(5, 100)).start().await;
    apply(&gateway, &with(1, 3)).await;
    for actor in ["limiter", "pool:b", "breaker:b", "monitor", "sessions"] {
        let generation = gateway.generation(actor).await;
        gateway.crash(actor, "decide").await;
        gateway.wait_for_generation(actor, generation + 1).await;
    }
    let requests: Vec<_> = (0..3).map(|at| spawn_get(&gateway, format!("/b/{at}"))).collect();
    wait_for("one request is sent, and two wait", || async {
        let queued = gateway.status().await["buckets"]["b"]["pool"]["queued"] == 2;
        (queued && upstream.in_flight() == 1).then_some(())
    })
    .await;
    let refused = gateway.get("/b/k").await;
    assert_eq!((refused.complete_status(), refused.reason()), (429, "rate_limit_bucket"));
    latch.open_for_all();
    for request in requests {
        assert_eq!(request.await.unwrap().complete_status(), 200);
    }
    assert_eq!(upstream.peak_in_flight(), 1);
}

/// G3: the pool of a replaced configuration crashes while its request runs: the request ends, and the gate of both stays exact
#[tokio::test]
async fn a_crash_of_pools_loses_no_permit() {
    let (upstream, latch) = held();
    let gateway = Gateway::builder().chaos().config(&gated(&upstream, 2)).start().await;
    let mut requests = vec![spawn_get(&gateway, "/b/0")];
    upstream.wait_until_in_flight(1).await;
    apply(&gateway, &gated(&upstream, 3)).await;
    let generation = gateway.generation("pool:b").await;
    gateway.crash("pool:b", "decide").await;
    gateway.wait_for_generation("pool:b", generation + 1).await;
    requests.extend((1..5).map(|at| spawn_get(&gateway, format!("/b/{at}"))));
    upstream.wait_until_in_flight(3).await;
    latch.open_for_all();
    for request in requests {
        assert_eq!(request.await.unwrap().complete_status(), 200);
    }
    assert_eq!(upstream.peak_in_flight(), 3);
    gateway.wait_until_idle().await;
    wait_until_retired(&gateway, 1).await;
}

/// G3, G5: requests are signed with the changed credentials of the bucket at once
#[tokio::test]
async fn credentials_of_a_bucket_change() {
    let upstream = Upstream::ok("x");
    let with = |id: &str| {
        let pair = format!("access_key_id = \"{id}\"\nsecret_access_key = \"secret-of-{id}\"");
        open_bucket("b", &[&upstream], &pair)
    };
    let gateway = Gateway::builder().config(&with("FIRST")).start().await;
    let signer = async || {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
        let authorization = upstream.last().header("authorization").unwrap().to_owned();
        authorization.split_once("Credential=").unwrap().1.split('/').next().unwrap().to_owned()
    };
    assert_eq!(signer().await, "FIRST");
    apply(&gateway, &with("SECOND")).await;
    for _ in 0..4 {
        assert_eq!(signer().await, "SECOND");
    }
}

/// G3: a changed `server.max_concurrent_requests` holds at once
#[tokio::test]
async fn the_cap_of_requests_in_flight_changes() {
    let (upstream, latch) = held();
    let bucket = open_bucket("b", &[&upstream], "");
    let with = |max: usize| format!("{bucket}[server]\nmax_concurrent_requests = {max}\n");
    let gateway = Gateway::builder().config(&with(2)).start().await;
    let mut requests: Vec<_> = (0..2).map(|at| spawn_get(&gateway, format!("/b/{at}"))).collect();
    upstream.wait_until_in_flight(2).await;
    let refused = async |count: usize| {
        let answer = gateway.get("/b/k").await;
        assert_eq!((answer.complete_status(), upstream.in_flight()), (503, count), "{}", answer.text());
    };
    refused(2).await;
    apply(&gateway, &with(3)).await;
    requests.push(spawn_get(&gateway, "/b/3"));
    upstream.wait_until_in_flight(3).await;
    refused(3).await;
    apply(&gateway, &with(1)).await;
    refused(3).await;
    latch.open_for_all();
    for request in requests {
        assert_eq!(request.await.unwrap().complete_status(), 200);
    }
    gateway.wait_until_idle().await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
}
