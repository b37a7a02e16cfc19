//! Tests of the runner with its own upstreams on real sockets, without a gateway: the report must match what happened.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::LocalSet;

use crate::client::{BodyCapture, Request};
use crate::configuration::{ConfigurationCheck, JudgedSpec, Placeholders, Timeline};
use crate::load::{self, Load, LoadShape};
use crate::load_checks::LoadChecks;
use crate::recorder::Recorder;
use crate::request_source::{RequestSource, RequestTemplate};
use crate::schedule::Schedule;
use crate::size::Bytes;
use crate::statistics::Statistics;
use crate::upstream::{Behaviour, Upstreams};
use crate::{clock, pattern};

fn upstreams(behaviours: &[(&str, Behaviour)]) -> Upstreams {
    let owned: Vec<_> =
        behaviours.iter().map(|(name, behaviour)| ((*name).to_owned(), behaviour.clone())).collect();
    Upstreams::start(&owned).unwrap()
}

fn normal(bytes: u64, verify: bool) -> Behaviour {
    Behaviour::Normal { body_bytes: Bytes(bytes), verify }
}

fn load_to(address: SocketAddr, shape: LoadShape, connections: usize) -> Load {
    let request = Request::new("GET", address, "/bucket/object", 0, BodyCapture::CountBytes);
    Load {
        destination: address.into(),
        requests: request.into(),
        shape,
        connections,
        timeout: Duration::from_secs(3),
        expected: None,
        recovery_allowance: None,
        pause: Duration::ZERO,
        pause_after_refusal: Duration::ZERO,
        hang_up_after: None,
        new_connections: false,
        checks: Rc::default(),
    }
}

async fn offer(load: Load) -> Statistics {
    let recorder = Rc::new(RefCell::new(Recorder::new()));
    load::run_load(load, Rc::clone(&recorder)).await.unwrap();
    let mut statistics = Statistics::default();
    recorder.borrow().summarize("x", &mut statistics);
    statistics
}

fn value(statistics: &Statistics, name: &str) -> f64 {
    statistics.value(&format!("x.{name}")).unwrap_or(0.0)
}

#[tokio::test(flavor = "current_thread")]
async fn an_open_loop_sends_its_schedule_and_counts_every_answer() {
    let servers = upstreams(&[("a", normal(1_024, false))]);
    let address = servers.get("a").unwrap().address;
    let offered = LoadShape::Open(Schedule::constant(500.0, 1.0));
    let statistics = LocalSet::new().run_until(offer(load_to(address, offered, 16))).await;
    assert_eq!((value(&statistics, "requests"), value(&statistics, "ok")), (500.0, 500.0));
    assert_eq!(value(&statistics, "body_bytes"), 500.0 * 1_024.0);
    assert_eq!(servers.get("a").unwrap().counters.requests(), 500);
}

/// 800/s for half a second to an upstream with 200/s: the queue grows to 1.5 s. A loop that waits for answers before it sends further
/// requests (coordinated omission) would report a fraction of that.
#[tokio::test(flavor = "current_thread")]
async fn a_queue_at_the_upstream_shows_in_the_latency_even_when_connections_run_out() {
    let servers = upstreams(&[("a", Behaviour::Capacity { parallel: 4, hold_ms: 20 })]);
    let upstream = servers.get("a").unwrap();
    let offered = LoadShape::Open(Schedule::constant(800.0, 0.5));
    let statistics = LocalSet::new().run_until(offer(load_to(upstream.address, offered, 8))).await;
    assert_eq!(value(&statistics, "ok"), 400.0);
    assert!(value(&statistics, "p99_ms") > 1_300.0, "p99 {}", value(&statistics, "p99_ms"));
    assert!(value(&statistics, "send_lag_p99_ms") > 1_200.0);
    assert!(upstream.counters.peak() <= 8, "never more requests in flight than connections");
}

#[tokio::test(flavor = "current_thread")]
async fn the_timeout_bounds_a_hanging_upstream() {
    let servers = upstreams(&[("a", Behaviour::Hang)]);
    let offered = LoadShape::Open(Schedule::constant(100.0, 0.5));
    let load = Load {
        timeout: Duration::from_millis(200),
        ..load_to(servers.get("a").unwrap().address, offered, 4)
    };
    let statistics = LocalSet::new().run_until(offer(load)).await;
    assert_eq!(value(&statistics, "errors"), 50.0);
    assert_eq!(value(&statistics, "fault_timed_out") + value(&statistics, "fault_unsent"), 50.0);
    assert!(value(&statistics, "error_max_ms") < 400.0, "{}", value(&statistics, "error_max_ms"));
}

#[tokio::test(flavor = "current_thread")]
async fn a_request_with_hang_up_succeeds_after_its_bytes() {
    let servers = upstreams(&[("half", Behaviour::Stall { body_bytes: Bytes(4096) })]);
    let address = servers.get("half").unwrap().address;
    let load = Load { hang_up_after: Some(2048), ..load_to(address, LoadShape::Requests(5), 1) };
    let statistics = LocalSet::new().run_until(offer(load)).await;
    assert_eq!((value(&statistics, "ok"), value(&statistics, "errors")), (5.0, 0.0));
    let load = Load {
        hang_up_after: Some(2049),
        timeout: Duration::from_millis(50),
        ..load_to(address, LoadShape::Requests(1), 1)
    };
    let statistics = LocalSet::new().run_until(offer(load)).await;
    assert_eq!(value(&statistics, "fault_timed_out"), 1.0, "the other half is never sent");
}

#[tokio::test(flavor = "current_thread")]
async fn each_fault_has_its_name() {
    let servers =
        upstreams(&[("no", Behaviour::Unavailable), ("rst", Behaviour::Reset), ("dead", Behaviour::Refused)]);
    for (name, statistic) in [("no", "status_503"), ("rst", "fault_closed"), ("dead", "fault_connect")] {
        let load = load_to(servers.get(name).unwrap().address, LoadShape::Requests(5), 1);
        let statistics = LocalSet::new().run_until(offer(load)).await;
        assert_eq!(value(&statistics, statistic), 5.0, "{name}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_killed_upstream_is_gone_and_a_restored_one_serves_on_the_same_port() {
    let servers = upstreams(&[("a", normal(10, false))]);
    let upstream = servers.get("a").unwrap();
    let request = || offer(load_to(upstream.address, LoadShape::Requests(3), 1));
    assert_eq!(value(&LocalSet::new().run_until(request()).await, "ok"), 3.0);
    servers.kill(upstream).await.unwrap();
    assert_eq!(value(&LocalSet::new().run_until(request()).await, "fault_connect"), 3.0);
    servers.restore(upstream).await.unwrap();
    assert_eq!(value(&LocalSet::new().run_until(request()).await, "ok"), 3.0);
}

/// M3, the part of the runner: large bodies are streamed both ways and compared by hash.
#[tokio::test(flavor = "current_thread")]
async fn large_bodies_are_verified_both_ways_and_a_wrong_one_is_corrupt() {
    let bytes = 8 << 20;
    let servers = upstreams(&[("a", normal(bytes, true))]);
    let address = servers.get("a").unwrap().address;
    let cases = [
        ("GET", 0, BodyCapture::Digest, bytes, "ok"),
        ("PUT", bytes, BodyCapture::Text, bytes, "ok"),
        ("GET", 0, BodyCapture::Digest, 7, "errors"),
    ];
    for (method, sent_bytes, keep, expected_bytes, statistic) in cases {
        let request = Request::new(method, address, "/a/big", sent_bytes, keep);
        let expected = Some(pattern::digest(expected_bytes));
        let load = Load { requests: request.into(), expected, ..load_to(address, LoadShape::Requests(2), 1) };
        let statistics = LocalSet::new().run_until(offer(load)).await;
        assert_eq!(value(&statistics, statistic), 2.0, "{method} of {expected_bytes}");
    }
}

/// G3, the part of the recorder: a server in the place of the gateway answers with parts of two configurations, and is found.
#[tokio::test(flavor = "current_thread")]
async fn a_planted_mixture_is_found_and_an_answer_of_one_configuration_is_none() {
    let servers = upstreams(&[("a", Behaviour::Echo { body_bytes: Bytes(10) })]);
    let address = servers.get("a").unwrap().address;
    let timeline = Rc::new(RefCell::new(Timeline::new(clock::now())));
    // The path shows the configuration of the request, and the key that of the signature.
    for (key_number, mixtures) in [("{n}", 0.0), ("{next}", 5.0)] {
        let spec = "own = { status = 200, headers = { x-store-path = 'c{n}', x-store-key = 'K{n}' } }";
        let spec: JudgedSpec = toml::from_str(spec).unwrap();
        let key = format!("access_key_id = 'K{key_number}'\nsecret = 'x'");
        let template = RequestTemplate {
            method: "GET".to_owned(),
            host: address,
            path: "/c{n}/object".to_owned(),
            headers: BTreeMap::new(),
            key: Some(toml::from_str(&key).unwrap()),
            body_bytes: 0,
            capture: BodyCapture::CountBytes,
            kept_headers: spec.header_names(),
            read_bytes_per_second: None,
        };
        let placeholders = Placeholders::default;
        let check = ConfigurationCheck::new(spec, placeholders(), Rc::clone(&timeline));
        let checks = Rc::new(RefCell::new(LoadChecks::new(Rc::clone(&timeline), false, Some(check), None)));
        let load = Load {
            requests: RequestSource::new(template, placeholders(), Rc::clone(&timeline), 0),
            checks: Rc::clone(&checks),
            ..load_to(address, LoadShape::Requests(5), 1)
        };
        LocalSet::new().run_until(offer(load)).await;
        let mut statistics = Statistics::default();
        checks.borrow().summarize("x", &mut statistics);
        assert_eq!(value(&statistics, "judged"), 5.0);
        assert_eq!(value(&statistics, "mixtures"), mixtures, "{:?}", checks.borrow().describe(clock::now()));
        assert_eq!(value(&statistics, "failed"), mixtures);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn slow_reads_and_event_streams_take_their_time() {
    let events = Behaviour::Events { events: 4, interval_ms: 30 };
    let servers = upstreams(&[("slow", normal(20_000, false)), ("events", events)]);
    let address = |name| servers.get(name).unwrap().address;
    let request =
        Request::new("GET", address("slow"), "/a/b", 0, BodyCapture::Digest).read_slowly(Some(100_000));
    let slow = Load {
        requests: request.into(),
        expected: Some(pattern::digest(20_000)),
        ..load_to(address("slow"), LoadShape::Requests(1), 1)
    };
    let statistics = LocalSet::new().run_until(offer(slow)).await;
    assert_eq!(value(&statistics, "ok"), 1.0);
    let events = load_to(address("events"), LoadShape::Requests(2), 1);
    let statistics = LocalSet::new().run_until(offer(Load { new_connections: true, ..events })).await;
    assert_eq!(value(&statistics, "ok"), 2.0);
    assert!(value(&statistics, "p50_ms") >= 120.0, "{}", value(&statistics, "p50_ms"));
}
