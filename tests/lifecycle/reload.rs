//! SIGHUP installs a changed configuration on all threads while requests go on.

use std::collections::BTreeSet;
use std::fs;
use std::time::Instant;

use serde_json::Value;

use super::{download, holding};
use crate::https::Identity;
use crate::support::{Client, Gateway, Upstream, WAIT_MAX, client, wait_for};

/// Reloads of one run. Each waits for the end of the window of repeated signals. `TIDEGATE_RELOADS=1000` makes a longer run.
const RELOADS: u64 = 60;
/// Reloads before the first measurement: the first ones grow the heaps of the threads.
const WARM_UP: u64 = 20;
/// The most that the memory may grow.
const GROWTH_MAX: u64 = 2 << 20;

const RELOADED: &str = "configuration reloaded";
const RETIRED: &str = "configuration retired: its last request has ended";

/// A setting that differs in each configuration, and leaves the buckets of the builder unchanged.
fn text(number: u64) -> String {
    format!("[server]\nrevoke_grace = {number}\n")
}

/// The same with a bucket and a key, which come and go with every second configuration.
fn text_with_bucket(number: u64, upstream: &Upstream) -> String {
    let base = text(number);
    if number.is_multiple_of(2) {
        return base;
    }
    let more = format!(
        "[buckets.a]\nauth = [\"api_key\"]\n[buckets.a.s3]\nendpoints = [\"http://{}\"]\nhealth_check.path = \"/h\"\n",
        upstream.address()
    );
    base + &more
        + "[policies.all]\nbuckets = [\"*\"]\nmethods = [\"read\"]\n"
        + "[api_keys.a]\nsecret = \"0123456789abcdef-a\"\npolicy = \"all\"\n"
}

fn numbers(gateway: &Gateway, message: &str, field: &str) -> BTreeSet<u64> {
    let lines = gateway.log_lines();
    lines.iter().filter(|line| line["msg"] == message).filter_map(|line| line[field].as_u64()).collect()
}

/// Writes the file anew and sends SIGHUP.
fn send_reload(gateway: &Gateway, text: &str) {
    fs::write(gateway.directory().join("tidegate.toml"), text).unwrap();
    gateway.send_sighup();
}

/// Reloads a changed configuration; returns when number `number` serves new requests.
async fn reload(gateway: &Gateway, number: u64) {
    send_reload(gateway, &text(number));
    gateway.wait_for_log_line(RELOADED, |line| line["configuration"] == number).await;
}

async fn retired(gateway: &Gateway, number: u64) -> Value {
    gateway.wait_for_log_line(RETIRED, |line| line["number"] == number).await
}

async fn get(client: &mut Client) -> u16 {
    client.send(client::message("GET", "/b/k", &[], None)).await;
    client.response("GET").await.complete_status()
}

/// G3: connections of clients and idle connections to the upstream stay over a reload, and the replaced configuration retires at once
#[tokio::test]
async fn a_reload_keeps_connections() {
    let upstream = Upstream::ok("x");
    let builder = Gateway::builder().bucket("b", &upstream).set("server.workers", "1");
    let gateway = builder.config(&text(1)).start().await;
    let mut kept = Client::connect(gateway.address()).await;
    assert_eq!(get(&mut kept).await, 200);
    for number in 2..5 {
        reload(&gateway, number).await;
        retired(&gateway, number - 1).await;
        assert_eq!(get(&mut kept).await, 200, "configuration {number}");
    }
    assert_eq!(upstream.connections(), 1, "the idle connection to the upstream was used again");
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    assert_eq!(gateway.admin("/readyz").await.complete_status(), 200);
}

/// G3: an HTTP/2 connection serves each stream with the configuration that is current when it begins
#[tokio::test]
async fn a_reload_keeps_http2_connections() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway = identity.gateway_before(&upstream).config(&text(1)).start().await;
    let kept = identity.http2(&gateway).await;
    assert_eq!(kept.get("/b/k").await.complete_status(), 200);
    reload(&gateway, 2).await;
    retired(&gateway, 1).await;
    assert_eq!(kept.get("/b/k").await.complete_status(), 200);
}

/// G3: a request under way ends with the configuration it began with, which retires with its last byte
#[tokio::test]
async fn a_request_under_way_keeps_its_configuration() {
    let (upstream, latch) = holding();
    let gateway = Gateway::builder().bucket("b", &upstream).config(&text(1)).start().await;
    let (mut client, mut answer) = download(&gateway).await;
    reload(&gateway, 2).await;
    reload(&gateway, 3).await;
    retired(&gateway, 2).await;
    assert_eq!(
        numbers(&gateway, RETIRED, "number"),
        BTreeSet::from([2]),
        "the download holds configuration 1"
    );
    assert_eq!(gateway.status().await["requests_in_flight"], 1);
    latch.open_for_all();
    client.body(&mut answer, "GET").await;
    assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "beginend"));
    retired(&gateway, 1).await;
}

/// G3: an unchanged configuration is not installed again, and the log names that
#[tokio::test]
async fn an_unchanged_configuration_stays() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    gateway.send_sighup();
    let unchanged = "configuration reloaded: nothing has changed";
    gateway.wait_for_log_line(unchanged, |line| line["configuration"] == 1).await;
    assert_eq!(numbers(&gateway, RELOADED, "configuration"), BTreeSet::new());
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
}

/// G3: reloads under traffic fail no request and leave no memory, descriptor, thread, connection or configuration behind
#[tokio::test]
async fn reloads_leak_nothing() {
    let upstream = Upstream::ok("x");
    let builder = Gateway::builder().bucket("b", &upstream).set("log.access", "false");
    let builder = builder.set("server.workers", "2").set("buckets.b.s3.health_check.path", "/h");
    let gateway = builder.config(&text_with_bucket(1, &upstream)).start().await;
    let reloads = std::env::var("TIDEGATE_RELOADS").map_or(RELOADS, |count| count.parse().unwrap());
    let mut kept = Client::connect(gateway.address()).await;
    let mut before = None;
    for number in 2..WARM_UP + reloads + 2 {
        let began = Instant::now();
        send_reload(&gateway, &text_with_bucket(number, &upstream));
        while !numbers(&gateway, RELOADED, "configuration").contains(&number) {
            assert!(began.elapsed() < WAIT_MAX, "configuration {number} is not installed");
            assert_eq!(get(&mut kept).await, 200, "before configuration {number}");
        }
        if number == WARM_UP + 1 {
            before = Some((gateway.resident_bytes(), gateway.open_descriptors(), gateway.threads()));
        }
    }
    let (bytes, descriptors, threads) = before.unwrap();
    // A health check has a connection for a moment, and threads for blocking calls come and go.
    wait_for("no descriptor is left", || async { (gateway.open_descriptors() <= descriptors).then_some(()) })
        .await;
    assert!(gateway.threads() <= threads + 2, "{} threads, {threads} before", gateway.threads());
    let grown = gateway.resident_bytes().saturating_sub(bytes);
    assert!(grown < GROWTH_MAX, "{grown} bytes of growth in {reloads} reloads");
    let last = WARM_UP + reloads + 1;
    wait_for("all replaced configurations are retired", || async {
        let retired = numbers(&gateway, RETIRED, "number");
        (retired == (1..last).collect()).then_some(())
    })
    .await;
}
