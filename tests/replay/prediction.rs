//! A prediction from a log equals what really happens with the other configuration.
//!
//! Clients send at fixed times, whatever the answers are (open loop). The loads are such that a delay of some tens of milliseconds changes
//! no decision, or only few of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::Value;
use tokio::time::sleep_until;

use super::{report, side, write_log};
use crate::support::client::message;
use crate::support::gateway::Builder;
use crate::support::{Client, Gateway, Scratch, Upstream, UpstreamReply};

/// A connection is made before its request, so that the time to connect does not shift the request.
const CONNECTED_BEFORE: Duration = Duration::from_millis(300);

/// Less than the wait for a permit in these tests, and more than a busy machine needs to grant a free one.
const WAITED_US: u64 = 200_000;

/// Answers by reason; the empty reason is that of forwarded answers.
type Answers = BTreeMap<String, u64>;

/// One request on a connection of its own, sent at this time.
async fn send_at(gateway: std::net::SocketAddr, client: u8, at: Instant) -> String {
    sleep_until((at - CONNECTED_BEFORE).into()).await;
    let mut client = Client::connect_from([127, 0, 0, client], gateway, None).await;
    sleep_until(at.into()).await;
    client.send(message("GET", "/b/k", &[], None)).await;
    let answer = client.response("GET").await;
    assert!([200, 429, 500, 503].contains(&answer.complete_status()), "{answer:?}");
    answer.reason().to_owned()
}

/// Sends requests: client and time in ms. Returns the answers, and the lines of the log.
async fn run(builder: Builder, load: &[(u8, u64)]) -> (Answers, Vec<String>) {
    let gateway = builder.start().await;
    let begin = Instant::now() + 2 * CONNECTED_BEFORE;
    let address = gateway.address();
    let sends = load.iter().map(|(client, at)| send_at(address, *client, begin + Duration::from_millis(*at)));
    let mut answers = Answers::new();
    for reason in join_all(sends).await {
        *answers.entry(reason).or_default() += 1;
    }
    gateway.wait_until_idle().await;
    let is_request = |line: &String| line.contains("\"msg\":\"request\"");
    crate::support::wait_until("each request has its line", || {
        gateway.raw_log().iter().filter(|line| is_request(line)).count() == load.len()
    })
    .await;
    (answers, gateway.raw_log())
}

/// Compares the predicted with the real numbers: each within 2 % of all requests.
fn assert_predicted(new: &Value, real: &Answers, requests: usize) {
    let tolerance = u64::try_from(requests).unwrap() / 50;
    let mut predicted: Answers = new["refused_by_reason"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(reason, count)| (reason.clone(), count.as_u64().unwrap()))
        .collect();
    predicted.insert(String::new(), new["admitted"].as_u64().unwrap());
    for reason in predicted.keys().chain(real.keys()) {
        let of = |answers: &Answers| answers.get(reason).copied().unwrap_or_default();
        assert!(
            of(&predicted).abs_diff(of(real)) <= tolerance,
            "{reason:?}: predicted {predicted:?}, really {real:?}, tolerance {tolerance}"
        );
    }
}

fn in_front_of(upstream: &Upstream, keys: &[(&str, &str)]) -> Builder {
    let builder = Gateway::builder().bucket("b", upstream);
    keys.iter().fold(builder, |builder, (key, value)| builder.set(key, value))
}

/// The keys as a file.
fn file(keys: &[(&str, &str)]) -> String {
    let written = keys.iter().map(|(key, value)| {
        let is_number = value.parse::<f64>().is_ok();
        if is_number { format!("{key} = {value}\n") } else { format!("{key} = \"{value}\"\n") }
    });
    let bucket = "buckets.b.auth = [\"anonymous\"]\nbuckets.b.s3.endpoints = [\"http://127.0.0.1:9\"]\n";
    written.chain([bucket.to_owned()]).collect()
}

/// O7, L1: rate limits per address and per bucket refuse what they were predicted to refuse
#[tokio::test]
async fn rate_limits_refuse_as_predicted() {
    let upstream = Upstream::ok("x");
    // 3 s: one client with 60 requests per second, one with 30, one with 5.
    let load: Vec<(u8, u64)> = [(2_u8, 60), (3, 30), (4, 5)]
        .into_iter()
        .flat_map(|(client, rate)| (0..3 * rate).map(move |at| (client, at * 1_000 / rate)))
        .collect();
    let (recorded, lines) = run(in_front_of(&upstream, &[]), &load).await;
    assert_eq!(recorded, Answers::from([(String::new(), 285)]));
    // One limit at a time: of two limits that refuse a request, the one with the longer wait is the reason, which may be either.
    let per_ip = [("rate_limit.per_ip.requests_per_second", "20"), ("rate_limit.per_ip.burst", "10")];
    let of_bucket = [("buckets.b.rate_limit.requests_per_second", "36"), ("buckets.b.rate_limit.burst", "5")];
    let directory = Scratch::new();
    let log = write_log(directory.path(), "log", &lines);
    for (new, reason) in [(per_ip, "rate_limit_ip"), (of_bucket, "rate_limit_bucket")] {
        let predicted = report(&file(&new), &[], &[&log]);
        assert_eq!(side(&predicted, "log")["admitted"], 285);
        assert_eq!(predicted["log"]["estimated"], 0);
        let (real, lines) = run(in_front_of(&upstream, &new), &load).await;
        assert!(real[reason] > 100 && real.len() == 2, "{real:?}");
        assert_predicted(side(&predicted, "new"), &real, load.len());

        // Backwards: the log with refusals, and the model of the configuration that made it.
        let log = write_log(directory.path(), "refusals", &lines);
        let old = directory.path().join("old.toml");
        std::fs::write(&old, file(&new)).unwrap();
        let backwards = report(&file(&[]), &["--against", old.to_str().unwrap()], &[&log]);
        let refused = 285 - real[""];
        assert_eq!(backwards["log"]["estimated"], refused);
        assert_eq!(side(&backwards, "new")["admitted"], 285);
        assert_eq!(backwards["newly_admitted"], refused);
        assert_predicted(side(&backwards, "against"), &real, load.len());
    }
}

/// O7, P3: a narrow gate with a short queue admits, queues and refuses as predicted
#[tokio::test]
async fn a_gate_queues_and_refuses_as_predicted() {
    let upstream = Upstream::start(|_| UpstreamReply::ok("x").delayed(Duration::from_millis(400)));
    // Four times 20 requests at once: 2 permits, 3 waiters, 15 too many; all are done before the next 20.
    let load: Vec<(u8, u64)> = (0..4).flat_map(|burst| (0..20).map(move |_| (2, burst * 1_800))).collect();
    let (recorded, lines) = run(in_front_of(&upstream, &[]), &load).await;
    assert_eq!(recorded, Answers::from([(String::new(), 80)]));
    let new = [
        ("buckets.b.s3.concurrency.max_concurrent", "2"),
        ("buckets.b.s3.concurrency.max_queued", "3"),
        ("buckets.b.s3.concurrency.queue_timeout_ms", "10000"),
    ];
    let directory = Scratch::new();
    let log = write_log(directory.path(), "log", &lines);
    let predicted = report(&file(&new), &[], &[&log]);
    assert_eq!(side(&predicted, "new")["queued"], 12, "{predicted}");
    let (real, lines) = run(in_front_of(&upstream, &new), &load).await;
    assert_eq!(real, Answers::from([(String::new(), 20), ("queue_full".to_owned(), 60)]));
    assert_predicted(side(&predicted, "new"), &real, load.len());
    let really_queued = lines.iter().filter(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["queue_us"].as_u64().is_some_and(|queued| queued > WAITED_US)
    });
    assert_eq!(really_queued.count(), 12);
}

/// O7, P2, B1: a bound on requests in flight and a circuit refuse as predicted
#[tokio::test]
async fn circuits_and_slots_refuse_as_predicted() {
    let upstream = Upstream::start(|_| UpstreamReply::status(500).delayed(Duration::from_millis(200)));
    // One failure after the other, then eight at once.
    let mut load: Vec<(u8, u64)> = (0..10).map(|at| (2, at * 400)).collect();
    load.extend((0..8).map(|_| (3, 5_000)));
    let off = [("buckets.b.s3.circuit_breaker.mode", "off"), ("buckets.b.s3.retry.max_attempts", "1")];
    let (_, lines) = run(in_front_of(&upstream, &off), &load).await;
    let slots = [off[0], off[1], ("server.max_concurrent_requests", "5")];
    let circuit = [off[1], ("buckets.b.s3.circuit_breaker.failure_threshold", "4")];
    let directory = Scratch::new();
    let log = write_log(directory.path(), "log", &lines);
    for (new, reason, count) in
        [(&slots[..], "too_many_requests_in_flight", 3), (&circuit[..], "breaker_open", 14)]
    {
        let predicted = report(&file(new), &[], &[&log]);
        let (real, _) = run(in_front_of(&upstream, new), &load).await;
        assert_eq!(real.get(reason), Some(&count), "{real:?}");
        assert_predicted(side(&predicted, "new"), &real, load.len());
        let opened = u64::from(reason == "breaker_open");
        assert_eq!(predicted["circuits_total"], opened, "{predicted}");
    }
}
