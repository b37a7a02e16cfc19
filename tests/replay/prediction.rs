//! A prediction from a log equals what really happens with the other configuration.
//!
//! Clients send at fixed times, whatever the answers are (open loop). Two tests predict from the log of the first run alone. Their limits
//! are far from the load, so that a delay of a second changes less than the tolerance.
//!
//! On a busy machine the requests of two runs arrive with other delays, and a limit near the load decides by the time of the arrival. So
//! the predictions of the other tests have the requests of the first run with the conditions of the second one: its arrivals, and the
//! service times of the calls that it made. The other calls have the service times of the first run.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
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

/// One request on a connection of its own, sent at this time. Its path names it in the log.
async fn send_at(gateway: std::net::SocketAddr, (number, client): (usize, u8), at: Instant) -> String {
    sleep_until((at - CONNECTED_BEFORE).into()).await;
    let mut client = Client::connect_from([127, 0, 0, client], gateway, None).await;
    sleep_until(at.into()).await;
    client.send(message("GET", &format!("/b/{number}"), &[], None)).await;
    let answer = client.response("GET").await;
    assert!([200, 429, 500, 503].contains(&answer.complete_status()), "{answer:?}");
    answer.reason().to_owned()
}

/// Sends requests: client and time in ms. Returns the answers, and the lines of the log.
async fn run(builder: Builder, load: &[(u8, u64)]) -> (Answers, Vec<String>) {
    let gateway = builder.start().await;
    let begin = Instant::now() + 2 * CONNECTED_BEFORE;
    let address = gateway.address();
    let sends = load.iter().enumerate().map(|(number, (client, at))| {
        send_at(address, (number, *client), begin + Duration::from_millis(*at))
    });
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

/// The access lines by their requests.
fn by_request(lines: &[String]) -> BTreeMap<String, Value> {
    let lines = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let requests = lines.filter(|line| line["msg"] == "request");
    requests.map(|line| (line["path"].as_str().unwrap().to_owned(), line)).collect()
}

/// The time for which a request held its permit, if it made its call.
fn service_us(line: &Value) -> Option<u64> {
    let time = |name: &str| line[name].as_u64();
    let is_called = time("attempts").is_some_and(|attempts| attempts > 0);
    is_called.then(|| time("total_us").unwrap() - time("admission_us").unwrap() - time("queue_us").unwrap())
}

/// The requests of a log with the conditions of another one.
fn with_conditions(requests: &[String], conditions: &[String]) -> Vec<String> {
    let conditions = by_request(conditions);
    let mut moved: Vec<(u64, String)> = by_request(requests)
        .into_iter()
        .map(|(path, mut line)| {
            let other = &conditions[&path];
            let start = other["start_us"].as_u64().unwrap();
            let service = service_us(other).or(service_us(&line)).unwrap();
            let end = start + service;
            let written = OffsetDateTime::from_unix_timestamp_nanos(i128::from(end) * 1_000).unwrap();
            (line["admission_us"], line["queue_us"]) = (0.into(), 0.into());
            (line["start_us"], line["total_us"]) = (start.into(), service.into());
            line["ts"] = written.format(&Rfc3339).unwrap().into();
            (end, line.to_string())
        })
        .collect();
    moved.sort();
    moved.into_iter().map(|(_, line)| line).collect()
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

/// A replay has no cursor of the process, which the event-loop lag of a busy machine raises.
fn in_front_of(upstream: &Upstream, keys: &[(&str, &str)]) -> Builder {
    let builder = Gateway::builder().bucket("b", upstream).set("shedding.mode", "off");
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

/// O7, L1: the log of a run without limits predicts rate limits
#[tokio::test]
async fn the_log_alone_predicts_rate_limits() {
    let upstream = Upstream::ok("x");
    // 3 s: one client with 90 requests per second, one with 45, one with 5.
    let load: Vec<(u8, u64)> = [(2_u8, 90), (3, 45), (4, 5)]
        .into_iter()
        .flat_map(|(client, rate)| (0..3 * rate).map(move |at| (client, at * 1_000 / rate)))
        .collect();
    let (recorded, lines) = run(in_front_of(&upstream, &[]), &load).await;
    assert_eq!(recorded, Answers::from([(String::new(), 420)]));
    // The tokens of one second are fewer than 2 % of the requests, and no pause of 3 s fills a burst.
    let per_ip = [("rate_limit.per_ip.requests_per_second", "3"), ("rate_limit.per_ip.burst", "30")];
    let of_bucket = [("buckets.b.rate_limit.requests_per_second", "6"), ("buckets.b.rate_limit.burst", "40")];
    let directory = Scratch::new();
    let log = write_log(directory.path(), "log", &lines);
    for (new, reason) in [(per_ip, "rate_limit_ip"), (of_bucket, "rate_limit_bucket")] {
        let predicted = report(&file(&new), &[], &[&log]);
        let (real, _) = run(in_front_of(&upstream, &new), &load).await;
        assert!(real[reason] > 250 && real[""] > 50 && real.len() == 2, "{real:?}");
        assert_predicted(side(&predicted, "new"), &real, load.len());
    }
}

/// O7, P3: the log of a run with a wide gate predicts a narrow one with a short queue
#[tokio::test]
async fn the_log_alone_predicts_a_full_queue() {
    // All requests arrive while the first ones are served.
    let upstream = Upstream::start(|_| UpstreamReply::ok("x").delayed(Duration::from_secs(2)));
    let load = [(2, 0); 50];
    let (recorded, lines) = run(in_front_of(&upstream, &[]), &load).await;
    assert_eq!(recorded, Answers::from([(String::new(), 50)]));
    let new = [
        ("buckets.b.s3.concurrency.max_concurrent", "4"),
        ("buckets.b.s3.concurrency.max_queued", "8"),
        ("buckets.b.s3.concurrency.queue_timeout_ms", "20000"),
    ];
    let directory = Scratch::new();
    let log = write_log(directory.path(), "log", &lines);
    let predicted = report(&file(&new), &[], &[&log]);
    let (real, queued) = run(in_front_of(&upstream, &new), &load).await;
    assert!(real["queue_full"] > 30 && real[""] > 10, "{real:?}");
    assert_predicted(side(&predicted, "new"), &real, load.len());
    let queued = by_request(&queued);
    let waits = queued.values().filter_map(|line| line["queue_us"].as_u64());
    let really_queued = u64::try_from(waits.filter(|wait| *wait > WAITED_US).count()).unwrap();
    let predicted = side(&predicted, "new")["queued"].as_u64().unwrap();
    assert!(
        really_queued >= 7 && predicted.abs_diff(really_queued) <= 1,
        "predicted {predicted}, really {really_queued}"
    );
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
    for (new, reason) in [(per_ip, "rate_limit_ip"), (of_bucket, "rate_limit_bucket")] {
        let (real, limited) = run(in_front_of(&upstream, &new), &load).await;
        assert!(real[reason] > 50 && real.len() == 2, "{real:?}");
        let log = write_log(directory.path(), "log", &with_conditions(&lines, &limited));
        let predicted = report(&file(&new), &[], &[&log]);
        assert_eq!(side(&predicted, "log")["admitted"], 285);
        assert_eq!(predicted["log"]["estimated"], 0);
        assert_predicted(side(&predicted, "new"), &real, load.len());

        // Backwards: the log with refusals, and the model of the configuration that made it.
        let log = write_log(directory.path(), "refusals", &limited);
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
    let (real, queued) = run(in_front_of(&upstream, &new), &load).await;
    assert!(real["queue_full"] > 40 && real[""] >= 20, "{real:?}");
    let log = write_log(directory.path(), "log", &with_conditions(&lines, &queued));
    let predicted = report(&file(&new), &[], &[&log]);
    assert_predicted(side(&predicted, "new"), &real, load.len());
    let queued = by_request(&queued);
    let waits = queued.values().filter_map(|line| line["queue_us"].as_u64());
    let really_queued = u64::try_from(waits.filter(|wait| *wait > WAITED_US).count()).unwrap();
    let predicted = side(&predicted, "new")["queued"].as_u64().unwrap();
    assert!(
        really_queued >= 8 && predicted.abs_diff(really_queued) <= 1,
        "predicted {predicted}, really {really_queued}"
    );
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
    for (new, reason, least) in
        [(&slots[..], "too_many_requests_in_flight", 2), (&circuit[..], "breaker_open", 10)]
    {
        let (real, refused) = run(in_front_of(&upstream, new), &load).await;
        assert!(real[reason] >= least, "{real:?}");
        let log = write_log(directory.path(), "log", &with_conditions(&lines, &refused));
        let predicted = report(&file(new), &[], &[&log]);
        assert_predicted(side(&predicted, "new"), &real, load.len());
        let opened = u64::from(reason == "breaker_open");
        assert_eq!(predicted["circuits_total"], opened, "{predicted}");
    }
}

/// The address of the first light client ends with this number.
const LIGHT: u8 = 10;

/// Whether a row of a report, or an access line, is of a light client.
fn is_light(row: &Value) -> bool {
    let address = row["client"].as_str().unwrap();
    address.rsplit('.').next().unwrap().parse::<u8>().unwrap() >= LIGHT
}

/// O7, X11: the cursor of a bucket refuses as many requests as predicted, of the clients that were predicted
#[tokio::test]
async fn a_cursor_refuses_as_predicted() {
    // A call is long, so that the time from a release of a permit to the next grant is a small part of it.
    let upstream = Upstream::start(|_| UpstreamReply::ok("x").delayed(Duration::from_millis(1_500)));
    // 8 s with 75 requests per second at 40 that the gate admits: three heavy clients and five light ones.
    let heavy = (2..5).map(|client| (client, 20));
    let light = (LIGHT..LIGHT + 5).map(|client| (client, 3));
    let load: Vec<(u8, u64)> = heavy
        .chain(light)
        .flat_map(|(client, rate)| {
            (0..8 * rate).map(move |at| (client, u64::from(client) * 7 + at * 1_000 / rate))
        })
        .collect();
    let off =
        [("buckets.b.s3.connection_pool.size", "200"), ("buckets.b.s3.concurrency.max_concurrent", "200")];
    let (recorded, lines) = run(in_front_of(&upstream, &off), &load).await;
    assert_eq!(recorded, Answers::from([(String::new(), load.len() as u64)]));
    let new = [
        off[0],
        ("buckets.b.s3.concurrency.max_concurrent", "60"),
        ("buckets.b.s3.concurrency.max_queued", "200"),
        ("buckets.b.s3.concurrency.queue_timeout_ms", "5000"),
        ("buckets.b.s3.concurrency.shedding.target_wait_ms", "300"),
    ];
    let (real, shed) = run(in_front_of(&upstream, &new), &load).await;
    assert!(real["shed_bucket"] > 100, "{real:?}");
    let directory = Scratch::new();
    let log = write_log(directory.path(), "log", &with_conditions(&lines, &shed));
    let predicted = report(&file(&new), &[], &[&log]);
    assert_predicted(side(&predicted, "new"), &real, load.len());
    let rows = predicted["clients"].as_array().unwrap().iter();
    let light = rows.filter(|row| is_light(row));
    let predicted_light: u64 = light.map(|row| row["refused_by_new"].as_u64().unwrap()).sum();
    let lines = by_request(&shed);
    let really_light =
        lines.values().filter(|line| is_light(line) && line["reason"] == "shed_bucket").count();
    assert!(
        predicted_light.abs_diff(really_light as u64) <= load.len() as u64 / 50,
        "predicted {predicted_light}, really {really_light}"
    );

    // Backwards: the log with refusals, and the model of the configuration that made it.
    let log = write_log(directory.path(), "refusals", &shed);
    let old = directory.path().join("old.toml");
    std::fs::write(&old, file(&new)).unwrap();
    let backwards = report(&file(&off), &["--against", old.to_str().unwrap()], &[&log]);
    assert_eq!(side(&backwards, "new")["admitted"], load.len());
    assert_predicted(side(&backwards, "against"), &real, load.len());
}
