//! Connect probes: the gateway tests connections to an unreachable upstream until one succeeds.

use std::time::Duration;

use super::{breaking, circuit, opens, start};
use crate::support::unreachable::RefusingAddress;
use crate::support::{Gateway, Upstream, UpstreamReply, wait_for};

const PROBED: [(&str, &str); 3] =
    [("failure_threshold", "2"), ("timeout_seconds", "600"), ("connect_probe_interval_ms", "20")];

async fn refused_twice(gateway: &Gateway) {
    for _ in 0..2 {
        assert_eq!(gateway.get("/b/k").await.reason(), "upstream_connect");
    }
    opens(gateway).await;
}

async fn serves(gateway: &Gateway) {
    wait_for("a request is served", || async {
        (gateway.get("/b/k").await.complete_status() == 200).then_some(())
    })
    .await;
}

/// B1, B2: a port that comes back is used long before the open time ends; until then it gets no request
#[tokio::test]
async fn a_port_that_comes_back_ends_the_open_time() {
    let upstream = Upstream::ok("x");
    let gateway = start(&upstream, &PROBED).await;
    upstream.stop().await;
    refused_twice(&gateway).await;
    let failed = "circuit_breaker_probes_total{bucket=\"b\",result=\"failed\"}";
    wait_for("connections are probed", || async { (gateway.metric(failed).await >= 2.0).then_some(()) })
        .await;
    assert_eq!(gateway.get("/b/k").await.reason(), "breaker_open");
    let waiting = circuit(&gateway).await;
    assert_eq!((&waiting["cause"], &waiting["ends_when_reached"]), (&"connect".into(), &true.into()));
    upstream.start_again().await;
    serves(&gateway).await;
    gateway.wait_for_log_line("endpoint can be connected to again", |line| line["bucket"] == "b").await;
    gateway
        .wait_for_log_line("circuit half-open because a connection to its upstream succeeded", |line| {
            line["class"] == "read"
        })
        .await;
    assert_eq!(gateway.metric("circuit_breaker_probes_total{bucket=\"b\",result=\"reached\"}").await, 1.0);
    assert_eq!(circuit(&gateway).await["opened_total"], 1);
}

/// B1: connect probes are off by default
#[tokio::test]
async fn connect_probes_are_off_by_default() {
    let upstream = Upstream::ok("x");
    let gateway = start(&upstream, &[("failure_threshold", "2")]).await;
    upstream.stop().await;
    refused_twice(&gateway).await;
    upstream.start_again().await;
    assert_eq!(circuit(&gateway).await["ends_when_reached"], false);
    assert_eq!(gateway.get("/b/k").await.reason(), "breaker_open");
    for result in ["failed", "reached"] {
        let metric = format!("circuit_breaker_probes_total{{bucket=\"b\",result=\"{result}\"}}");
        assert_eq!(gateway.metric(&metric).await, 0.0);
    }
}

/// B1, R4: connect probes do not shorten the upstream's Retry-After, although connections succeed, and although one
/// failed after it
#[tokio::test]
async fn a_retry_after_is_not_cut_short() {
    let upstream = Upstream::start(|_| UpstreamReply::status(503).header("retry-after", "500"));
    for goes_away in [false, true] {
        let gateway = start(&upstream, &PROBED).await;
        assert_eq!(gateway.get("/b/k").await.complete_status(), 503);
        if goes_away {
            upstream.stop().await;
            assert_eq!(gateway.get("/b/k").await.complete_status(), 502);
            upstream.start_again().await;
        } else {
            assert_eq!(gateway.get("/b/k").await.complete_status(), 503);
        }
        opens(&gateway).await;
        let connections = upstream.connections();
        // Longer than many probe intervals: the absence of an event cannot be waited for.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(gateway.get("/b/k").await.reason(), "breaker_open");
        assert_eq!(circuit(&gateway).await["ends_when_reached"], false);
        assert_eq!(upstream.connections(), connections);
    }
}

/// P5, B1: with several endpoints the trials go to the one that comes back; a bucket with all endpoints ejected is
/// still probed (zentinel #261)
#[tokio::test]
async fn any_recovered_endpoint_gets_the_trials() {
    let (dead, upstream) = (RefusingAddress::new(), Upstream::ok("x"));
    let builder = Gateway::builder().bucket_at("b", &[dead.address, upstream.address()]);
    let gateway = breaking(builder, &PROBED).start().await;
    upstream.stop().await;
    wait_for("the circuit opens", || async {
        gateway.get("/b/k").await;
        (circuit(&gateway).await["state"] == "open").then_some(())
    })
    .await;
    upstream.start_again().await;
    serves(&gateway).await;
    assert_eq!(circuit(&gateway).await["opened_total"], 1, "no trial went to the unreachable endpoint");
}

/// S5, B1: a crash of the breaker keeps the circuit open, and the connect probes continue
#[tokio::test]
async fn a_crash_neither_closes_the_circuit_nor_ends_the_probes() {
    let upstream = Upstream::ok("x");
    let gateway = breaking(Gateway::builder().chaos().bucket("b", &upstream), &PROBED).start().await;
    upstream.stop().await;
    refused_twice(&gateway).await;
    let generation = gateway.generation("breaker:b").await;
    gateway.crash("breaker:b", "apply").await;
    gateway.wait_for_generation("breaker:b", generation + 1).await;
    assert_eq!(gateway.get("/b/k").await.reason(), "breaker_open");
    assert_eq!(circuit(&gateway).await["ends_when_reached"], true);
    upstream.start_again().await;
    serves(&gateway).await;
}
