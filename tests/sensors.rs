//! The resource sensors of a running gateway: what they measure, against which limit, and which level they cause.
//!
//! Sensors that need a cgroup, a full disk or a small range of ports are tested in `tests/cgroups` and `tests/network`.

use serde_json::Value;

use crate::support::{Client, Gateway, Latch, Scratch, Upstream, UpstreamReply, client, wait_for};

/// Each resource with its unit and the highest level that it causes by default.
const RESOURCES: [(&str, &str, &str); 10] = [
    ("memory", "bytes", "exhausted"),
    ("memory_total", "bytes", "warning"),
    ("descriptors", "descriptors", "exhausted"),
    ("in_flight", "requests", "critical"),
    ("ephemeral_ports", "ports", "critical"),
    ("cpu", "%", "normal"),
    ("cpu_throttled", "%", "critical"),
    ("mailbox_depth", "messages", "warning"),
    ("log_backlog", "bytes", "warning"),
    ("log_disk", "bytes", "warning"),
];

async fn resource(gateway: &Gateway, name: &str) -> Value {
    gateway.status().await["resources"][name].clone()
}

/// Waits until a resource was measured, and returns it.
async fn measured(gateway: &Gateway, name: &str) -> Value {
    wait_for(&format!("{name} is measured"), || async {
        let found = resource(gateway, name).await;
        found["used"].is_u64().then_some(found)
    })
    .await
}

/// X1, X4: every resource has its unit, highest level, origin of the limit and age; what this machine does not have is unknown with the
/// reason, and is no cause
#[tokio::test]
async fn every_resource_is_explained() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    measured(&gateway, "log_backlog").await;
    let status = gateway.status().await;
    let resources = status["resources"].as_object().unwrap();
    assert_eq!(resources.len(), RESOURCES.len(), "{status}");
    for (name, unit, level_max) in RESOURCES {
        let found = &resources[name];
        assert_eq!((&found["unit"], &found["level_max"]), (&unit.into(), &level_max.into()), "{name}");
        if found["unknown"] == true {
            let may_be_absent = ["cpu", "cpu_throttled", "log_disk"].contains(&name);
            assert!(may_be_absent && found["why"] != "the sensor failed", "{name}: {found}");
            assert!(found["used"].is_null() && found["pressure"].is_null(), "{name}: {found}");
            continue;
        }
        assert!(found["used"].is_u64() && found["limit"].as_u64() > Some(0), "{name}: {found}");
        assert!(found["age_ms"].is_u64(), "{name}: {found}");
        assert!(!found["limit_source"].as_str().unwrap().is_empty(), "{name}: {found}");
        let label = |metric: &str| format!("{metric}{{resource=\"{name}\"}}");
        assert_eq!(
            gateway.metric(&label("resource_limit")).await,
            found["limit"].as_f64().unwrap(),
            "{name}"
        );
        assert_eq!(gateway.metric(&label("resource_unknown")).await, 0.0, "{name}");
    }
    // The log of this gateway goes to a pipe.
    assert_eq!(resources["log_disk"]["why"], "log.output is not a regular file");
    assert_eq!(gateway.metric("resource_unknown{resource=\"log_disk\"}").await, 0.0, "that is no fault");
    let causes = status["causes"].as_array().unwrap();
    assert!(causes.iter().all(|cause| cause["code"] != "sensor_unknown"), "{causes:?}");
    for (name, source) in [
        ("in_flight", "server.max_concurrent_requests"),
        ("mailbox_depth", "supervision.mailbox_capacity"),
        ("descriptors", "RLIMIT_NOFILE"),
        ("ephemeral_ports", "/proc/sys/net/ipv4/ip_local_port_range"),
    ] {
        assert_eq!(resources[name]["limit_source"], source, "{name}");
    }
}

/// X1: the origin of a limit follows the configuration, and CPU pressure may cause a level only with a limit
#[tokio::test]
async fn the_origin_of_a_limit_is_its_key() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("monitor.descriptor_limit", "900")
        .set("monitor.memory_limit_bytes", "2GiB")
        .set("monitor.cpu_pressure_limit", "100")
        .start()
        .await;
    let descriptors = measured(&gateway, "descriptors").await;
    assert_eq!(descriptors["limit_source"], "monitor.descriptor_limit");
    let memory = measured(&gateway, "memory").await;
    assert_eq!(
        (&memory["limit_source"], &memory["limit"]),
        (&"monitor.memory_limit_bytes".into(), &(2_u64 << 30).into())
    );
    let cpu = resource(&gateway, "cpu").await;
    assert_eq!(cpu["level_max"], "warning");
    // The kernel may not measure the pressure.
    if cpu["unknown"].is_null() {
        assert_eq!(cpu["limit_source"], "monitor.cpu_pressure_limit");
    }
    let without = Gateway::in_front_of(&upstream).await;
    wait_for("a sample", || async { (!resource(&without, "cpu").await["age_ms"].is_null()).then_some(()) })
        .await;
    let cpu = resource(&without, "cpu").await;
    if cpu["unknown"].is_null() {
        assert_eq!(cpu["limit_source"], "percent of the time", "{cpu}");
        assert!(cpu["subject"].as_str().unwrap().contains("pressure"), "the file of the reading: {cpu}");
    }
}

/// X1: each wait has the key of its threshold
#[tokio::test]
async fn thresholds_of_waits_have_their_keys() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let status = wait_for("the threads have registered", || async {
        Some(gateway.status().await).filter(|status| !status["waits"]["event_loop"][0].is_null())
    })
    .await;
    let waits = &status["waits"];
    for (wait, key) in [
        (&waits["event_loop"][0], "shedding.target_wait_ms"),
        (&waits["mailboxes"], "shedding.target_wait_ms"),
        (&waits["buckets"]["b"], "buckets.b.s3.concurrency.shedding.target_wait_ms"),
    ] {
        assert_eq!(wait["threshold_source"], key, "{waits}");
    }
}

/// X4: while the sensors are not read every resource is unknown
#[tokio::test]
async fn resources_become_unknown_with_age() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).chaos().start().await;
    measured(&gateway, "descriptors").await;
    assert_eq!(gateway.post("/actors/monitor/stall?ms=4000").await.complete_status(), 202);
    wait_for("all resources are unknown", || async {
        let status = gateway.status().await;
        let resources = status["resources"].as_object()?;
        resources.values().all(|each| each["unknown"] == true).then_some(())
    })
    .await;
    let descriptors = resource(&gateway, "descriptors").await;
    assert_eq!(descriptors["why"], "the sensors were not read lately", "{descriptors}");
    assert!(descriptors["age_ms"].as_u64().unwrap() >= 1000, "{descriptors}");
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200, "unknown resources refuse nothing");
    measured(&gateway, "descriptors").await;
}

/// X1: connections to an upstream take local ports; a connection that the store closes first leaves none behind
#[tokio::test]
async fn ports_are_counted_by_destination() {
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |_| UpstreamReply::ok("x").when_open(&held));
    let closing = Upstream::start(|_| UpstreamReply::ok("x").closing());
    let gateway = Gateway::builder().bucket("b", &upstream).bucket("c", &closing).start().await;
    for _ in 0..9 {
        assert_eq!(gateway.get("/c/k").await.complete_status(), 200);
    }
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = Client::connect(gateway.address()).await;
        client.send(client::message("GET", "/b/held", &[], None)).await;
        clients.push(client);
    }
    upstream.wait_until_in_flight(5).await;
    let found = wait_for("five ports are in use for the busiest destination", || async {
        let found = resource(&gateway, "ephemeral_ports").await;
        (found["used"] == 5).then_some(found)
    })
    .await;
    assert_eq!(found["subject"], upstream.address().to_string(), "{found}");
    latch.open_for_all();
    for client in &mut clients {
        assert_eq!(client.response("GET").await.complete_status(), 200);
    }
}

/// X1, X12: the space where a log file is written is measured
#[tokio::test]
async fn the_space_of_a_log_file_is_measured() {
    let upstream = Upstream::ok("x");
    let scratch = Scratch::new();
    let file = scratch.path().join("log");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("log.output", file.to_str().unwrap())
        .start_with_log_file(&file)
        .await;
    let disk = measured(&gateway, "log_disk").await;
    assert!(disk["limit"].as_u64().unwrap() <= 1 << 30, "{disk}");
    assert_eq!(disk["limit_source"], "file system of log.output, at most 1 GiB");
    assert!(disk["age_ms"].as_u64().unwrap() < 60_000, "{disk}");
}

/// X1, X2: the fullest mailbox is named, and a full one warns
#[tokio::test]
async fn the_fullest_mailbox_is_named() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .chaos()
        .set("server.workers", "4")
        .set("supervision.mailbox_capacity", "4")
        .start()
        .await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    assert_eq!(gateway.post("/actors/pool:b/stall?ms=5000").await.complete_status(), 202);
    let mut waiting = Vec::new();
    for _ in 0..24 {
        let mut pending = Client::connect(gateway.address()).await;
        pending.send(client::message("GET", "/b/k", &[], None)).await;
        waiting.push(pending);
    }
    let status = wait_for("the mailbox of the stalled pool raises the level", || async {
        let status = gateway.status().await;
        (status["level"] == "warning").then_some(status)
    })
    .await;
    assert_eq!(status["reason"], "mailbox_depth at 100.0 %, threshold 80 %", "{status}");
    let mailbox = &status["resources"]["mailbox_depth"];
    assert_eq!((&mailbox["subject"], &mailbox["limit"]), (&"pool:b".into(), &4.into()), "{mailbox}");
    drop(waiting);
    wait_for("the level is normal again", || async {
        let status = gateway.status().await;
        (status["level"] == "normal" && status["resources"]["mailbox_depth"]["used"] == 0).then_some(())
    })
    .await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
}
