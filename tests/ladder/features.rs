//! Actions that switch off optional work: details of log and metrics, retries, health checks.

use std::sync::Mutex;

use super::{
    CRITICAL_REQUESTS, MODES, Pressure, WARNING_REQUESTS, action, assert_touched, causes, few_slots, reaches,
};
use crate::support::{Client, Gateway, Latch, Upstream, UpstreamReply, client, wait_for};

/// The number of observations of request phases.
async fn phases(gateway: &Gateway) -> f64 {
    let text = gateway.metrics().await;
    let counts = text.lines().filter_map(|line| {
        line.strip_prefix("tidegate_request_phase_seconds_count{bucket=\"b\"")?.rsplit_once(' ')
    });
    counts.map(|(_, count)| count.parse::<f64>().unwrap()).sum()
}

/// X2, X11: at critical the access line has no query and no phase is observed; shadow mode counts both and changes nothing;
/// with the mode off nothing is counted
#[tokio::test]
async fn log_and_metrics_lose_their_details() {
    for mode in MODES {
        let mut pressure = Pressure::new(|_| UpstreamReply::ok("x"));
        let gateway = pressure
            .gateway()
            .set("actions.access_log_detail.mode", mode)
            .set("actions.detailed_metrics.mode", mode)
            .start()
            .await;
        pressure.raise(&gateway).await;
        let before = phases(&gateway).await;
        let answer = gateway.get("/b/k?versionId=7").await;
        assert_eq!(answer.complete_status(), 200);
        let line = gateway.wait_for_access_line(answer.header("x-request-id").unwrap()).await;
        let touched = u64::from(mode != "off");
        assert_touched(&gateway, "access_log_detail", mode, touched).await;
        assert_touched(&gateway, "detailed_metrics", mode, touched).await;
        let is_off = mode == "enforce";
        assert_eq!(line.get("query").is_none_or(|query| query.is_null()), is_off, "{mode}: {line}");
        assert_eq!(phases(&gateway).await == before, is_off, "{mode}");
        let shadows = causes(&gateway, "action_shadow").await;
        let mut names: Vec<_> =
            shadows.iter().map(|cause| cause["scope"]["name"].as_str().unwrap()).collect();
        names.sort_unstable();
        let expected: &[&str] =
            if mode == "shadow" { &["access_log_detail", "detailed_metrics"] } else { &[] };
        assert_eq!(names, expected, "{shadows:?}");
        assert!(shadows.iter().all(|cause| cause["severity"] == "degraded"), "{shadows:?}");
        pressure.release(&gateway).await;
        let answer = gateway.get("/b/k?versionId=8").await;
        let line = gateway.wait_for_access_line(answer.header("x-request-id").unwrap()).await;
        assert_eq!(line["query"], "versionId=8", "{line}");
        assert_eq!(action(&gateway, "access_log_detail").await["touched"], touched, "not in force");
    }
}

/// X2, X11: at critical a failed read is not repeated; `shadow` and `off` repeat it
#[tokio::test]
async fn failed_attempts_are_not_repeated() {
    for mode in MODES {
        let attempts = Mutex::new(0);
        let mut pressure = Pressure::new(move |_| {
            let mut attempts = attempts.lock().unwrap();
            *attempts += 1;
            UpstreamReply::new(if *attempts == 1 { 503 } else { 200 }, "x")
        });
        let gateway = pressure
            .gateway()
            .set("actions.retries.mode", mode)
            .set("buckets.b.s3.retry.initial_backoff_ms", "1")
            .start()
            .await;
        pressure.raise(&gateway).await;
        let status = if mode == "enforce" { 503 } else { 200 };
        assert_eq!(gateway.get("/b/flaky").await.complete_status(), status, "{mode}");
        assert_touched(&gateway, "retries", mode, u64::from(mode != "off")).await;
    }
}

/// X2: `on_level` moves an action: with `exhausted` it is not in force at critical, with `warning` it is at warning
#[tokio::test]
async fn on_level_moves_an_action() {
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |_| UpstreamReply::ok("held").when_open(&held));
    let gateway = few_slots(Gateway::builder().bucket("b", &upstream))
        .set("actions.hedges.on_level", "exhausted")
        .set("actions.access_log_detail.on_level", "warning")
        .start()
        .await;
    let mut clients = Vec::new();
    for (count, level) in [(WARNING_REQUESTS, "warning"), (CRITICAL_REQUESTS, "critical")] {
        while clients.len() < count {
            let mut client = Client::connect(gateway.address()).await;
            client.send(client::message("GET", "/b/k", &[], None)).await;
            clients.push(client);
        }
        reaches(&gateway, level).await;
        assert_eq!(action(&gateway, "hedges").await["in_force"], false, "{level}");
        assert_eq!(action(&gateway, "access_log_detail").await["in_force"], true, "{level}");
        assert_eq!(action(&gateway, "retries").await["in_force"], level == "critical");
    }
    latch.open_for_all();
}

/// X2, X11: at critical three of four health checks are left out; shadow mode counts them and makes them
#[tokio::test]
async fn health_checks_are_rarer() {
    for mode in ["enforce", "shadow"] {
        let mut pressure = Pressure::new(|_| UpstreamReply::ok("x"));
        let gateway = pressure
            .gateway()
            .set("buckets.b.s3.health_check.path", "/up")
            .set("buckets.b.s3.health_check.interval_seconds", "0.02")
            .set("actions.health_check_rate.mode", mode)
            .start()
            .await;
        let checks = |pressure: &Pressure| {
            pressure.upstream.seen().iter().filter(|seen| seen.target == "/up").count() as u64
        };
        pressure.raise(&gateway).await;
        let before = checks(&pressure);
        let touched = wait_for("checks are counted", || async {
            let touched = action(&gateway, "health_check_rate").await["touched"].as_u64().unwrap();
            (touched >= 30).then_some(touched)
        })
        .await;
        let made = checks(&pressure) - before;
        // One check may be under way at either end, and the counter is read before the checks.
        match mode {
            "enforce" => assert!(made <= touched / 3 + 6, "{made} checks were made, {touched} left out"),
            _ => assert!(made + 6 >= touched, "{made} checks were made, {touched} counted"),
        }
        pressure.release(&gateway).await;
        let before = checks(&pressure);
        wait_for("checks continue", || async { (checks(&pressure) >= before + 5).then_some(()) }).await;
    }
}
