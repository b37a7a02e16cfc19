//! Changes of the degradation level: their causes, an intermittent load, and memory that refusals cannot free.
//!
//! The cases that need a memory cgroup are in `tests/cgroups`.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::Value;

use crate::support::{Client, Gateway, Latch, Upstream, UpstreamReply, client, wait_for};

/// Requests without an answer until the latch opens.
async fn requests(address: SocketAddr, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = Client::connect(address).await;
        client.send(client::message("GET", "/b/held", &[], None)).await;
        clients.push(client);
    }
    clients
}

async fn reaches(gateway: &Gateway, level: &str) -> Value {
    wait_for(&format!("the level is {level}"), || async {
        let status = gateway.status().await;
        (status["level"] == level).then_some(status)
    })
    .await
}

/// A gateway with ten slots in front of an upstream that holds its answers.
async fn ten_slots(latch: &Latch) -> (Gateway, Upstream) {
    let latch = latch.clone();
    let upstream = Upstream::start(move |_| UpstreamReply::ok("x").when_open(&latch));
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("server.max_concurrent_requests", "10")
        .set("monitor.interval_ms", "50")
        .start()
        .await;
    (gateway, upstream)
}

/// X2, X7: the reason of a level is the sensor that raised it; after a fall it is the cause of that fall
#[tokio::test]
async fn the_reason_of_a_level_is_the_cause_of_its_last_change() {
    let latch = Latch::new();
    let (gateway, upstream) = ten_slots(&latch).await;
    let clients = requests(gateway.address(), 9).await;
    upstream.wait_until_in_flight(9).await;
    let status = reaches(&gateway, "critical").await;
    assert_eq!(status["reason"], "in_flight at 90.0 %, threshold 90 %", "{status}");
    latch.open_for_all();
    let status = reaches(&gateway, "normal").await;
    assert_eq!(status["reason"], "in_flight at 0.0 %, below 80 %", "{status}");
    let last = status["transitions"].as_array().unwrap().last().unwrap();
    assert_eq!(last["reason"], status["reason"]);
    gateway
        .wait_for_log_line("degradation level fell", |line| {
            line["reason"] == "in_flight at 0.0 %, below 80 %"
        })
        .await;
    drop(clients);
}

/// X2: a load that alternates between on and off every second raises the level once and causes no flapping
#[tokio::test]
async fn a_square_wave_of_load_does_not_flap() {
    let latch = Latch::new();
    let (gateway, upstream) = ten_slots(&latch).await;
    for _ in 0..6 {
        let clients = requests(gateway.address(), 9).await;
        upstream.wait_until_in_flight(9).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        // Client disconnects end their requests.
        drop(clients);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let status = gateway.status().await;
    let transitions = status["transitions"].as_array().unwrap();
    assert!((1..=2).contains(&transitions.len()), "{transitions:?}");
    reaches(&gateway, "normal").await;
}

/// X8, X2: a memory limit below the use of an idle process is critical, but requests are answered: refusals would free
/// nothing
#[tokio::test]
async fn memory_outside_requests_causes_no_refusals() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("monitor.memory_limit_bytes", "1MiB")
        .set("monitor.interval_ms", "20")
        .start()
        .await;
    let status = reaches(&gateway, "critical").await;
    assert!(status["reason"].as_str().unwrap().starts_with("memory at "), "{status}");
    for _ in 0..20 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(gateway.status().await["level"], "critical");
    assert_eq!(gateway.metric("load_shed_total").await, 0.0);
}

/// X1, X7: status and metrics show the kernel's memory count, the process's own share, its sockets and its resident set
#[tokio::test]
async fn the_status_shows_the_components_of_memory() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let status = wait_for("the sensors have a reading", || async {
        let status = gateway.status().await;
        status["memory"].is_object().then_some(status)
    })
    .await;
    let memory = &status["memory"];
    let bytes = |field: &str| memory[field].as_u64().unwrap_or_else(|| panic!("{field}: {status}"));
    assert!(["cgroup_v1", "cgroup_v2", "host"].contains(&memory["source"].as_str().unwrap()), "{memory}");
    assert!(0 < bytes("own_bytes") && bytes("own_bytes") <= bytes("used_bytes"), "{memory}");
    assert!(bytes("used_bytes") < bytes("limit_bytes") && bytes("own_limit_bytes") > 0, "{memory}");
    assert_eq!(status["resources"]["memory"]["limit"], memory["own_limit_bytes"]);
    assert_eq!(status["resources"]["memory_total"]["limit"], memory["limit_bytes"]);
    let resident = gateway.resident_bytes();
    assert!(bytes("rss_bytes").abs_diff(resident) < 16 << 20, "{memory}, resident {resident}");
    assert!(bytes("sockets_bytes") < 64 << 20, "{memory}");
    for (metric, field) in [
        ("memory_allocated_bytes", "rss_bytes"),
        ("memory_used_bytes", "used_bytes"),
        ("memory_limit_bytes", "limit_bytes"),
        ("memory_own_bytes", "own_bytes"),
    ] {
        assert!(gateway.metric(metric).await > 0.0, "{metric} is {field}");
    }
    assert!(gateway.metric("socket_buffers_bytes").await >= 0.0);
}

/// X1: unread bytes of slow clients are in kernel buffers, and the sensor counts them
#[tokio::test]
async fn socket_buffers_are_counted() {
    let upstream = Upstream::start(|_| UpstreamReply::ok(vec![b'x'; 8 << 20]));
    let gateway = Gateway::builder().bucket("b", &upstream).set("monitor.interval_ms", "50").start().await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = Client::connect_from([127, 0, 0, 1], gateway.address(), Some(1)).await;
        client.send(client::message("GET", "/b/large", &[], None)).await;
        clients.push(client);
    }
    wait_for("buffers of the slow downloads are counted", || async {
        let status = gateway.status().await;
        let sockets = status["memory"]["sockets_bytes"].as_u64().unwrap_or(0);
        let own = status["memory"]["own_bytes"].as_u64().unwrap_or(0);
        (sockets >= 128 << 10 && own > sockets).then_some(())
    })
    .await;
    drop(clients);
    wait_for("and no longer counted afterwards", || async {
        let status = gateway.status().await;
        (status["memory"]["sockets_bytes"].as_u64()? < 64 << 10).then_some(())
    })
    .await;
}

/// X4, X1: without a free descriptor every sensor works, and a limit lowered by `prlimit` at run time is noticed
#[tokio::test]
async fn sensors_work_without_a_free_descriptor() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).set("monitor.interval_ms", "50").start().await;
    let mut admin = Client::connect(gateway.admin_address()).await;
    let mut status = async || {
        admin.send(client::message("GET", "/status", &[], None)).await;
        let answer = admin.response("GET").await;
        serde_json::from_slice::<Value>(&answer.body).unwrap()
    };
    assert_eq!(status().await["level"], "normal");
    let pid = Pid::from_raw(i32::try_from(gateway.pid()).unwrap());
    let maximum = getrlimit(Resource::Nofile).maximum;
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(10), maximum }).unwrap();
    // Longer than the last reading of a failed sensor stays valid.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let found = status().await;
    let resources = &found["resources"];
    assert_eq!(resources["descriptors"]["limit"], 10, "{found}");
    assert!(resources["descriptors"]["used"].as_u64().unwrap() > 10, "{found}");
    for sensor in ["memory", "memory_total"] {
        assert!(resources[sensor]["used"].as_u64().is_some_and(|bytes| bytes > 0), "{sensor}: {found}");
    }
    assert!(found["memory"]["rss_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{found}");
    assert_eq!(found["level"], "exhausted", "{found}");
    prlimit(pid, Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    reaches(&gateway, "normal").await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
}

/// X6, X8: a burst is admitted as far as memory is free; the admitted requests are served, then the others are
#[tokio::test]
async fn a_burst_is_admitted_as_far_as_memory_is_free() {
    const BURST: usize = 300;
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |_| UpstreamReply::ok("x").when_open(&held));
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("monitor.memory_limit_bytes", "64MiB")
        .set("buckets.b.s3.concurrency.max_concurrent", "1000")
        .set("buckets.b.s3.connection_pool.size", "1000")
        .start()
        .await;
    let enough_for = async || gateway.status().await["memory"]["max_requests_in_flight"].as_u64().unwrap();
    let at_start = wait_for("the memory has a reading", || async {
        gateway.status().await["memory"]["max_requests_in_flight"].as_u64()
    })
    .await;
    assert!((16..=256).contains(&at_start), "64 MiB are enough for {at_start} requests");
    let mut clients = requests(gateway.address(), BURST).await;
    wait_for("the others were refused", || async {
        let in_flight = gateway.status().await["requests_in_flight"].as_u64().unwrap();
        let refused = gateway.metric("concurrency_limit_rejections_total").await;
        (in_flight + refused as u64 == BURST as u64 && refused > 0.0).then_some(())
    })
    .await;
    assert_eq!(gateway.metric("load_shed_total").await, 0.0, "the level refused nothing");
    let in_flight = gateway.status().await["requests_in_flight"].as_u64().unwrap();
    wait_for("older requests count with their actual memory", || async {
        (enough_for().await > in_flight).then_some(())
    })
    .await;
    latch.open_for_all();
    let mut statuses = Vec::new();
    for client in &mut clients {
        let answer = client.response("GET").await;
        let reason = if answer.complete_status() == 200 { "" } else { "too_many_requests_in_flight" };
        assert_eq!(answer.reason(), reason);
        statuses.push(answer.complete_status());
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count() as u64, in_flight);
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
}
