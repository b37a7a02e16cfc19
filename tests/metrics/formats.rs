//! The formats of a scrape: the text format of Prometheus, and OpenMetrics with exemplars.

use std::collections::{BTreeMap, BTreeSet};

use super::{scrape, series};
use crate::support::{Gateway, Upstream, get, request, wait_for};

/// `Accept` of Prometheus 2 and 3.
const PROMETHEUS: &str = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
     text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
const PROMETHEUS_3: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
     text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,*/*;q=0.2";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; version=0.0.4";

/// The suffixes of a family's samples in OpenMetrics 1.0.
fn suffixes(kind: &str) -> &'static [&'static str] {
    match kind {
        "counter" => &["_total", "_created"],
        "histogram" => &["_bucket", "_count", "_sum", "_created"],
        "gauge" => &[""],
        _ => panic!("no type of this gateway: {kind}"),
    }
}

/// Checks a text by the rules of OpenMetrics 1.0; returns the families.
fn families(text: &str) -> BTreeMap<String, String> {
    let body = text.strip_suffix("# EOF\n").unwrap_or_else(|| panic!("no end: {text}"));
    let (mut known, mut current) = (BTreeMap::new(), (String::new(), String::new()));
    for line in body.lines() {
        assert!(!line.is_empty());
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').unwrap();
            current = (name.to_owned(), kind.to_owned());
            assert_eq!(known.insert(name.to_owned(), kind.to_owned()), None, "{name} is declared twice");
            continue;
        }
        let (name, kind) = &current;
        if let Some(unit) = line.strip_prefix(&format!("# UNIT {name} ")) {
            assert!(name.ends_with(&format!("_{unit}")), "{line}");
        } else if line.starts_with('#') {
            assert!(line.starts_with(&format!("# HELP {name} ")), "{line}");
        } else {
            let sample = line.split(['{', ' ']).next().unwrap();
            let suffix = sample.strip_prefix(name.as_str()).unwrap_or_else(|| panic!("{line} of {name}"));
            assert!(suffixes(kind).contains(&suffix), "{line} of {kind} {name}");
            assert!(!line.contains(" # ") || suffix == "_bucket", "{line}");
        }
    }
    // No family's sample has the name of another family's sample.
    let samples: Vec<String> = known
        .iter()
        .flat_map(|(name, kind)| suffixes(kind).iter().map(move |suffix| format!("{name}{suffix}")))
        .collect();
    assert_eq!(samples.iter().collect::<BTreeSet<_>>().len(), samples.len());
    known
}

/// O3: the format is the one that the scraper prefers, and text for every other header
#[tokio::test]
async fn the_format_follows_accept() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    for accept in [
        [PROMETHEUS].as_slice(),
        &[PROMETHEUS_3],
        &["application/openmetrics-text"],
        &["text/plain;q=0.1", "application/openmetrics-text;q=0.2"],
    ] {
        let answer = scrape(&gateway, accept).await;
        assert_eq!(answer.header("content-type"), Some(OPENMETRICS), "{accept:?}");
        families(&answer.text());
    }
    let garbage = format!("{}application/openmetrics-text;q=x", ";,=\"".repeat(500));
    for accept in [
        [].as_slice(),
        &["*/*"],
        &["text/plain"],
        &["application/openmetrics-text;q=0"],
        &["application/openmetrics-text;q=0.1,*/*;q=0.2"],
        &["application/openmetrics-text;version=9.9.9"],
        &["application/openmetrics-text;q=1e9"],
        &["image/png"],
        &[&garbage],
    ] {
        let answer = scrape(&gateway, accept).await;
        assert_eq!(answer.header("content-type"), Some(TEXT), "{accept:?}");
        assert!(
            !answer.text().contains("# EOF")
                && answer.text().contains("# TYPE tidegate_requests_total counter\n")
        );
    }
}

/// O3: both formats have the same families and values, and OpenMetrics has a counter's family without its suffix
#[tokio::test]
async fn both_formats_have_the_same_series() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .http_bucket("api", &upstream)
        .set("buckets.b.s3.hedging.enabled", "true")
        .start()
        .await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    let openmetrics = scrape(&gateway, &[PROMETHEUS]).await.text();
    let declared = families(&openmetrics);
    assert_eq!(declared["tidegate_requests"], "counter");
    assert_eq!(declared["tidegate_request_duration_seconds"], "histogram");
    assert_eq!(declared["tidegate_requests_in_flight"], "gauge");
    assert!(openmetrics.contains("# UNIT tidegate_received_bytes bytes\n"), "{openmetrics}");
    let without_exemplars: String = openmetrics
        .lines()
        .map(|line| format!("{}\n", line.split_once(" # {").map_or(line, |(sample, _)| sample)))
        .collect();
    // A bound is a float in OpenMetrics.
    let normal = |scrape: &str| -> BTreeSet<String> {
        series(scrape).into_keys().map(|name| name.replace(".0\"}", "\"}")).collect()
    };
    assert_eq!(normal(&without_exemplars), normal(&gateway.metrics().await));
}

/// O3: an exemplar leads to the access line of its request, and an ID that is too long for OpenMetrics is left out
#[tokio::test]
async fn exemplars_lead_to_the_access_log() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).set("metrics.buckets", "60").start().await;
    let exemplar = async || {
        let text = scrape(&gateway, &["application/openmetrics-text"]).await.text();
        let bucket = "tidegate_request_duration_seconds_bucket{bucket=\"b\",le=\"60.0\"} ";
        let line = text.lines().find_map(|line| line.strip_prefix(bucket)).map(str::to_owned);
        line.unwrap_or_else(|| panic!("no bucket in {text}"))
    };
    assert_eq!(exemplar().await, "0", "no exemplar before the first request");
    let answer = get(gateway.address(), "/b/k").await;
    let id = answer.header("x-request-id").unwrap();
    let found = wait_for("the request is counted", || async {
        let found = exemplar().await;
        found.starts_with("1 # ").then_some(found)
    })
    .await;
    let labels = format!("1 # {{request_id=\"{id}\"}} ");
    let rest = found.strip_prefix(&labels).unwrap_or_else(|| panic!("{id}: {found}"));
    let line = gateway.wait_for_access_line(id).await;
    let (seconds, at) = rest.split_once(' ').unwrap();
    let logged = line["total_us"].as_f64().unwrap() / 1e6;
    assert!((seconds.parse::<f64>().unwrap() - logged).abs() < 2e-6, "{found}: {line}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((0.0..600.0).contains(&(now - at.parse::<f64>().unwrap())), "{found} at {now}");

    for length in [119, 128] {
        let long = "x".repeat(length);
        let sent = request(gateway.address(), "GET", "/b/k", &[("x-request-id", &long)], None).await;
        assert_eq!(sent.header("x-request-id"), Some(long.as_str()));
        gateway.wait_for_access_line(&long).await;
    }
    assert!(exemplar().await.contains(&format!("\"{id}\"")), "{}", exemplar().await);
    let longest = "y".repeat(118);
    let sent = request(gateway.address(), "GET", "/b/k", &[("x-request-id", &longest)], None).await;
    assert_eq!(sent.complete_status(), 200);
    gateway.wait_for_access_line(&longest).await;
    assert!(exemplar().await.contains(&format!("# {{request_id=\"{longest}\"}} ")));
    assert!(!gateway.metrics().await.contains(&longest), "the text format has no exemplars");
}

/// O3: under load each scrape is whole: counts rise, and a histogram's count is that of its last bucket
#[tokio::test]
async fn scrapes_under_load_are_consistent() {
    const CLIENTS: usize = 8;
    const REQUESTS: usize = 60;
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let address = gateway.address();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            tokio::spawn(async move {
                for _ in 0..REQUESTS {
                    assert_eq!(get(address, "/b/k").await.complete_status(), 200);
                }
            })
        })
        .collect();
    let name = "tidegate_request_duration_seconds";
    let (mut last, mut scrapes) = (0.0, 0);
    while !clients.iter().all(tokio::task::JoinHandle::is_finished) || scrapes < 5 {
        families(&scrape(&gateway, &[PROMETHEUS]).await.text());
        let all = series(&gateway.metrics().await);
        let count = all[&format!("{name}_count{{bucket=\"b\"}}")];
        assert_eq!(count, all[&format!("{name}_bucket{{bucket=\"b\",le=\"+Inf\"}}")]);
        assert!(count >= last, "{count} after {last}");
        (last, scrapes) = (count, scrapes + 1);
    }
    for client in clients {
        client.await.unwrap();
    }
    let expected = (CLIENTS * REQUESTS) as f64;
    wait_for("all requests are counted", || async {
        (gateway.metric("request_duration_seconds_count{bucket=\"b\"}").await == expected).then_some(())
    })
    .await;
}
