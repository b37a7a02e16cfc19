//! Idle connections are closed when descriptors run short.

use std::time::Duration;

use super::{few_upstreams, kept, narrow};
use crate::https::Identity;
use crate::support::client::{Client, message};
use crate::support::{Gateway, Upstream, wait_for, wait_until};

const LIMIT: usize = 200;
const CLOSED: &str = "idle_connections_closed_total{cause=\"descriptors\",side=\"client\"}";

/// Requests on new connections are answered for longer than the monitor needs for several samples.
async fn later_requests_are_served(gateway: &Gateway) {
    for _ in 0..60 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

async fn falls_below_the_warning(gateway: &Gateway) {
    wait_until("descriptors fall below 80 %", || gateway.open_descriptors() < LIMIT * 8 / 10).await;
}

/// X8: with more kept connections than descriptors the oldest close, and every later request is served
#[tokio::test]
async fn kept_connections_do_not_block_new_ones() {
    let upstream = Upstream::ok("x");
    let gateway = narrow(&upstream).set("monitor.descriptor_limit", "200").start().await;
    let mut connections = Vec::new();
    for _ in 0..220 {
        connections.push(kept(&gateway).await);
    }
    later_requests_are_served(&gateway).await;
    falls_below_the_warning(&gateway).await;
    // The newest of them is still open, the oldest is closed.
    let (mut oldest, mut newest) = (connections.swap_remove(0), connections.swap_remove(218));
    assert!(oldest.is_closed().await);
    newest.send(message("GET", "/b/k", &[], None)).await;
    assert_eq!(newest.response("GET").await.complete_status(), 200);
    assert_eq!(gateway.metric("load_shed_total").await, 0.0, "nothing was refused");
}

/// X8: connections that never sent a byte are idle too
#[tokio::test]
async fn silent_connections_close_too() {
    let upstream = Upstream::ok("x");
    let gateway = narrow(&upstream).set("monitor.descriptor_limit", "200").start().await;
    let mut silent = Vec::new();
    for _ in 0..220 {
        silent.push(Client::connect(gateway.address()).await);
    }
    later_requests_are_served(&gateway).await;
    falls_below_the_warning(&gateway).await;
}

/// X8: a connection with half a head is closed like a silent one, and single bytes do not renew its idle time
#[tokio::test]
async fn connections_with_half_a_head_are_closed() {
    let upstream = Upstream::ok("x");
    let builder = narrow(&upstream).set("monitor.descriptor_limit", "200").set("server.header_timeout", "60");
    let gateway = builder.start().await;
    let mut halves = Vec::new();
    for _ in 0..220 {
        let mut half = Client::connect(gateway.address()).await;
        half.send("GET /b/k HTTP/1.1\r\nx-slow: ").await;
        halves.push(half);
    }
    let trickling = async {
        loop {
            for half in &mut halves {
                let _ = half.try_send("x").await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = trickling => {}
        () = later_requests_are_served(&gateway) => {}
    }
    falls_below_the_warning(&gateway).await;
    assert_eq!(gateway.metric("load_shed_total").await, 0.0, "nothing was refused");
}

/// X8: from `warning` on, only as many connections close as bring the usage below 80 %
#[tokio::test]
async fn only_the_needed_number_closes() {
    let upstream = Upstream::ok("x");
    let gateway = narrow(&upstream).set("monitor.descriptor_limit", "200").start().await;
    let before = gateway.open_descriptors();
    let mut connections = Vec::new();
    while gateway.open_descriptors() < 155 {
        connections.push(kept(&gateway).await);
    }
    assert!(before + 40 < 155, "{before} descriptors are open at the start");
    for _ in 0..15 {
        connections.push(kept(&gateway).await);
    }
    wait_for("some connections close", || async { (gateway.metric(CLOSED).await >= 1.0).then_some(()) })
        .await;
    falls_below_the_warning(&gateway).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let open = gateway.open_descriptors();
    assert!(open >= 130, "only {open} remain open");
    gateway.wait_for_log_line("idle connections close to free descriptors or memory", |_| true).await;
}

/// X8: HTTP/2 connections without a request get GOAWAY, and HTTP/1.1 connections over TLS close
#[tokio::test]
async fn kept_connections_over_tls_are_closed() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let builder = few_upstreams(identity.gateway_before(&upstream)).set("monitor.descriptor_limit", "200");
    let gateway = builder.start().await;
    let mut connections = Vec::new();
    for at in 0..220 {
        if at % 2 == 0 {
            let client = identity.http2(&gateway).await;
            assert_eq!(client.get("/b/k").await.complete_status(), 200);
            connections.push((Some(client), None));
        } else {
            let mut client = Client::new(identity.connect(&gateway, &["http/1.1"]).await);
            client.send(message("GET", "/b/k", &[], None)).await;
            assert_eq!(client.response("GET").await.complete_status(), 200);
            connections.push((None, Some(client)));
        }
    }
    for _ in 0..40 {
        assert_eq!(identity.http2(&gateway).await.get("/b/k").await.complete_status(), 200);
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    falls_below_the_warning(&gateway).await;
    assert_eq!(gateway.metric("load_shed_total").await, 0.0, "nothing was refused");
}

/// X8: connections without the beginning of a TLS handshake are idle too
#[tokio::test]
async fn connections_without_a_handshake_are_closed() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway = few_upstreams(identity.gateway_before(&upstream))
        .set("monitor.descriptor_limit", "200")
        .set("server.header_timeout", "60")
        .start()
        .await;
    let mut silent = Vec::new();
    for _ in 0..220 {
        silent.push(Client::connect(gateway.address()).await);
    }
    for _ in 0..20 {
        assert_eq!(identity.http2(&gateway).await.get("/b/k").await.complete_status(), 200);
    }
    falls_below_the_warning(&gateway).await;
}

/// X8: memory pressure closes connections with a minimum idle time
#[tokio::test]
async fn memory_pressure_closes_idle_connections() {
    let upstream = Upstream::ok("x");
    // Any process has more than that.
    let gateway = narrow(&upstream)
        .set("monitor.memory_limit_bytes", "1GiB")
        .set("monitor.warning", "1")
        .set("monitor.critical", "90")
        .set("monitor.recover", "1")
        .start()
        .await;
    let mut connections = Vec::new();
    for _ in 0..20 {
        connections.push(kept(&gateway).await);
    }
    let mut oldest = connections.swap_remove(0);
    assert!(oldest.is_closed().await);
    let closed = "idle_connections_closed_total{cause=\"memory\",side=\"client\"}";
    wait_for("all connections close", || async { (gateway.metric(closed).await >= 20.0).then_some(()) })
        .await;
}

/// Upstream connections that are kept, of a gateway with this mode of the action `idle_upstreams` and few descriptors left.
async fn kept_upstreams(mode: &str) -> (Upstream, Gateway) {
    let (upstream, latch) = crate::pool::held();
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.connection_pool.max_idle", "30")
        .set("monitor.descriptor_limit", "200")
        .set("actions.idle_upstreams.mode", mode)
        .start()
        .await;
    let requests: Vec<_> = (0..30).map(|i| crate::pool::spawn_get(&gateway, format!("/b/{i}"))).collect();
    upstream.wait_until_in_flight(30).await;
    latch.open_for_all();
    for request in requests {
        assert_eq!(request.await.unwrap().complete_status(), 200);
    }
    wait_for("connections are kept", || async { (upstream.open_connections() > 10).then_some(()) }).await;
    gateway.limit_descriptors(50);
    (upstream, gateway)
}

async fn touched_upstreams(gateway: &Gateway) -> u64 {
    crate::ladder::action(gateway, "idle_upstreams").await["touched"].as_u64().unwrap()
}

/// X2, X9: idle upstream connections close if too few client connections are idle, and the action counts them
#[tokio::test]
async fn idle_upstream_connections_close() {
    let (upstream, gateway) = kept_upstreams("enforce").await;
    wait_for("no connection is kept", || async { (upstream.open_connections() == 0).then_some(()) }).await;
    let closed = "idle_connections_closed_total{cause=\"descriptors\",side=\"upstream\"}";
    let closed = gateway.metric(closed).await;
    assert!(closed >= 10.0 && touched_upstreams(&gateway).await as f64 == closed, "{closed}");
    gateway.limit_descriptors(200);
    let served = || async { (gateway.get("/b/k").await.complete_status() == 200).then_some(()) };
    wait_for("requests are served again", served).await;
}

/// X2, X11: in shadow mode idle upstream connections are counted once and stay open; in mode off they only stay open
#[tokio::test]
async fn idle_upstream_connections_stay_open_without_the_action() {
    for mode in ["shadow", "off"] {
        let (upstream, gateway) = kept_upstreams(mode).await;
        let open = upstream.open_connections() as u64;
        wait_for("the level is exhausted", || async {
            (gateway.status().await["level"] == "exhausted").then_some(())
        })
        .await;
        if mode == "shadow" {
            wait_for("they are counted", || async { (touched_upstreams(&gateway).await > 0).then_some(()) })
                .await;
        }
        // Many samples.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let touched = touched_upstreams(&gateway).await;
        assert_eq!(upstream.open_connections() as u64, open, "{mode}");
        assert!(
            if mode == "shadow" { (1..=open).contains(&touched) } else { touched == 0 },
            "{mode}: {touched}"
        );
    }
}

/// X2: a refusal for lack of resources closes its connection
#[tokio::test]
async fn a_refusal_by_exhaustion_closes_the_connection() {
    let (upstream, latch) = crate::pool::held();
    let gateway = narrow(&upstream).start().await;
    let mut client = Client::connect(gateway.address()).await;
    // The second request is parsed after the first answer, so the connection is never idle.
    client.send([message("GET", "/b/1", &[], None), message("GET", "/b/2", &[], None)].concat()).await;
    upstream.wait_until_in_flight(1).await;
    gateway.limit_descriptors(40);
    let level = || async { (gateway.status().await["level"] == "exhausted").then_some(()) };
    wait_for("the level is exhausted", level).await;
    latch.open_for_all();
    assert_eq!(client.response("GET").await.complete_status(), 200);
    let answer = client.response("GET").await;
    assert_eq!(
        (answer.complete_status(), answer.reason(), answer.header("connection")),
        (503, "exhausted", Some("close"))
    );
    assert!(answer.retry_after().is_some());
    assert!(client.is_closed().await);
}
