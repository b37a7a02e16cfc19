//! The watchdog of the service manager.

use std::time::Duration;

use super::NotifySocket;
use crate::support::{Gateway, Upstream, wait_for, wait_until};

/// How long a thread is stalled: several intervals of the watchdog.
const STALL: Duration = Duration::from_secs(6);
/// A shorter time, because a machine without free CPU time sends a ping late that was due before the stall.
const SILENCE: Duration = Duration::from_secs(4);

/// G8, S8: pings stop while a worker thread or the monitor hangs, the log names it, and they go on afterwards
#[tokio::test]
async fn a_thread_that_hangs_ends_the_pings() {
    let (upstream, socket) = (Upstream::ok("x"), NotifySocket::new());
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .chaos()
        .env("NOTIFY_SOCKET", &socket.address)
        .env("WATCHDOG_USEC", "2000000")
        .start()
        .await;
    wait_until("pings", || socket.pings().len() >= 3).await;
    for (actor, thread) in [("pool:b", "data worker "), ("monitor", "monitor")] {
        let before = socket.pings().len();
        let stalled = gateway.post(&format!("/actors/{actor}/stall?ms={}", STALL.as_millis())).await;
        assert_eq!(stalled.complete_status(), 202);
        let message = "threads do not answer, so the watchdog of the service manager gets no ping";
        let is_named = |waits_for: &str| waits_for.split(", ").any(|name| name.starts_with(thread));
        gateway.wait_for_log_line(message, |line| is_named(line["waits_for"].as_str().unwrap())).await;
        let silence = wait_for("pings after the stall", || async {
            let pings = socket.pings();
            let gaps = pings[before - 1..].windows(2).map(|pair| pair[1] - pair[0]);
            gaps.filter(|gap| *gap >= SILENCE).max()
        })
        .await;
        assert!(silence >= SILENCE);
        let pings = socket.pings().len();
        wait_until("pings go on", || socket.pings().len() >= pings + 2).await;
    }
}

/// G8: the watchdog of another process gets no pings
#[tokio::test]
async fn the_watchdog_of_another_process_gets_no_pings() {
    let (upstream, socket) = (Upstream::ok("x"), NotifySocket::new());
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .env("NOTIFY_SOCKET", &socket.address)
        .env("WATCHDOG_USEC", "20000")
        .env("WATCHDOG_PID", "1")
        .start()
        .await;
    socket.wait_for_line(0, "READY=1").await;
    gateway.send_sighup();
    // Several intervals pass, because a reload waits for the repeats of its signal.
    socket.wait_for_line(2, "READY=1").await;
    assert_eq!(socket.pings().len(), 0);
}

/// G8: a watchdog that is shorter than twice the interval of the monitor is a warning at the start, with both values and what to change
#[tokio::test]
async fn a_watchdog_that_is_too_short_is_a_warning() {
    const WARNING: &str = "the watchdog of the service manager is too short for monitor.interval_ms";
    let (upstream, socket) = (Upstream::ok("x"), NotifySocket::new());
    let start = async |usec: &str| {
        Gateway::builder()
            .bucket("b", &upstream)
            .env("NOTIFY_SOCKET", &socket.address)
            .env("WATCHDOG_USEC", usec)
            .set("monitor.interval_ms", "500")
            .start()
            .await
    };
    let gateway = start("999000").await;
    let line = gateway.wait_for_log_line(WARNING, |_| true).await;
    let (detail, hint) = (line["detail"].as_str().unwrap(), line["hint"].as_str().unwrap());
    assert!(
        detail.contains("WatchdogSec= is 999 ms") && detail.contains("monitor.interval_ms, 500 ms"),
        "{line}"
    );
    assert!(hint.contains("more than 1000 ms") && hint.contains("less than 499 ms"), "{line}");
    let enough = start("1000000").await;
    enough.wait_for_log_line("the watchdog of the service manager is on", |_| true).await;
    assert!(!enough.log_lines().iter().any(|line| line["msg"] == WARNING));
}
