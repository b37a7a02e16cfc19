//! Every signal that platforms send, without and with TLS.

use std::time::Instant;

use rustix::process::Signal;

use super::{REPEAT_WINDOW, download, holding};
use crate::https::Identity;
use crate::support::{Gateway, Upstream, wait_for};

/// Signals with a fatal default action, and the log message of each without TLS.
const HARMLESS: [(Signal, Option<&str>); 4] = [
    (Signal::HUP, Some("configuration reloaded: nothing has changed")),
    (Signal::USR1, Some("log not reopened: log.output is not a file")),
    (Signal::ALARM, Some("signal ignored")),
    (Signal::PIPE, None),
];

fn count(gateway: &Gateway, message: &str) -> usize {
    gateway.log_lines().iter().filter(|line| line["msg"] == message).count()
}

/// G4, G3: SIGHUP, SIGUSR1, SIGALRM and SIGPIPE do not end a gateway without TLS, and the log names the effect
#[tokio::test]
async fn other_signals_do_not_end_a_cleartext_gateway() {
    let upstream = Upstream::ok("x");
    let mut gateway = Gateway::in_front_of(&upstream).await;
    for (signal, message) in HARMLESS {
        gateway.signal(signal);
        if let Some(message) = message {
            gateway.wait_for_log_line(message, |_| true).await;
        }
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200, "after {signal:?}");
    }
    gateway.wait_for_log_line("signal ignored", |line| line["signal"] == "SIGALRM").await;
    gateway.send_sigterm();
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
}

/// G4, A7: they do not end a gateway with TLS either, where SIGHUP loads the certificate
#[tokio::test]
async fn other_signals_do_not_end_a_gateway_with_tls() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let mut gateway =
        identity.gateway_before(&upstream).set("server.tls.reload_interval", "3600").start().await;
    for (signal, message) in HARMLESS {
        gateway.signal(signal);
        let message = if signal == Signal::HUP { Some("certificate reloaded") } else { message };
        if let Some(message) = message {
            gateway.wait_for_log_line(message, |_| true).await;
        }
        assert_eq!(
            identity.http2(&gateway).await.get("/b/k").await.complete_status(),
            200,
            "after {signal:?}"
        );
    }
    gateway.send_sigterm();
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
}

/// X12: a log file at `RLIMIT_FSIZE` raises SIGXFSZ; the lines are lost and counted, and requests are served
#[tokio::test]
async fn a_file_size_limit_does_not_end_the_gateway() {
    let upstream = Upstream::ok("x");
    let builder = Gateway::builder().bucket("b", &upstream).ulimit("-f 4");
    let file = builder.directory().join("log");
    let gateway = builder.set("log.output", file.to_str().unwrap()).start_with_log_file(&file).await;
    wait_for("the file is full", || async {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
        (gateway.metric("log_lines_lost_total{cause=\"io\"}").await >= 1.0).then_some(())
    })
    .await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
}

/// Sends a signal twice, and again when the drain has begun. False if this machine was too slow to do so within the window.
async fn repeat_within_the_window(gateway: &Gateway, signal: Signal) -> bool {
    let began = Instant::now();
    gateway.signal(signal);
    gateway.signal(signal);
    while gateway.admin("/readyz").await.status != 503 && began.elapsed() < REPEAT_WINDOW {}
    gateway.signal(signal);
    began.elapsed() < REPEAT_WINDOW
}

/// G4: a repeated signal within 100 ms, as `timeout` and process groups send it, counts once: the request in flight
/// finishes
#[tokio::test]
async fn a_repeated_signal_counts_once() {
    for signal in [Signal::TERM, Signal::INT] {
        let (upstream, latch) = holding();
        let (mut gateway, (mut client, mut answer)) =
            wait_for("three signals are sent within the window", async || {
                let gateway = Gateway::in_front_of(&upstream).await;
                let download = download(&gateway).await;
                repeat_within_the_window(&gateway, signal).await.then_some((gateway, download))
            })
            .await;
        tokio::time::sleep(REPEAT_WINDOW * 2).await;
        latch.open_for_all();
        client.body(&mut answer, "GET").await;
        assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "beginend"), "{signal:?}");
        assert_eq!(gateway.wait_exit().await.code(), Some(0), "{signal:?}");
    }
}

/// G4: two SIGHUPs at once load the certificate once; a SIGHUP after the window loads it again
#[tokio::test]
async fn a_repeated_reload_counts_once() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let gateway = identity.gateway_before(&upstream).set("server.tls.reload_interval", "3600").start().await;
    gateway.send_sighup();
    gateway.send_sighup();
    gateway.wait_for_log_line("certificate reloaded", |_| true).await;
    tokio::time::sleep(REPEAT_WINDOW * 3).await;
    assert_eq!(count(&gateway, "certificate reloaded"), 1);
    gateway.send_sighup();
    let second = || async { (count(&gateway, "certificate reloaded") == 2).then_some(()) };
    wait_for("the certificate is loaded again", second).await;
}

/// G4: a different termination signal counts as a second one, however soon it arrives
#[tokio::test]
async fn an_interrupt_after_a_termination_ends_at_once() {
    let (upstream, _latch) = holding();
    let mut gateway =
        Gateway::builder().bucket("b", &upstream).set("server.drain_timeout", "600").start().await;
    let (_client, _) = download(&gateway).await;
    gateway.send_sigterm();
    gateway.wait_for_log_line("draining", |_| true).await;
    gateway.signal(Signal::INT);
    assert_eq!(gateway.wait_exit().await.code(), Some(1));
}

/// G4: SIGUSR1 reopens the log file, so that a rotated file is closed
#[tokio::test]
async fn the_log_file_is_reopened() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).start_with_terminal_log().await;
    let (current, rotated) = (gateway.directory().join("log"), gateway.directory().join("log.1"));
    std::fs::rename(&current, &rotated).unwrap();
    gateway.signal(Signal::USR1);
    wait_for("the new file is written", || async {
        std::fs::read_to_string(&current).ok().filter(|text| text.contains("log file reopened"))
    })
    .await;
    assert!(std::fs::read_to_string(&rotated).unwrap().contains("listening"));
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
}

/// G4: signals other than termination signals do not end a drain
#[tokio::test]
async fn other_signals_do_not_end_a_drain() {
    let (upstream, latch) = holding();
    let mut gateway = Gateway::in_front_of(&upstream).await;
    let (mut client, mut answer) = download(&gateway).await;
    gateway.send_sigterm();
    gateway.wait_for_log_line("draining", |_| true).await;
    for (signal, message) in HARMLESS {
        gateway.signal(signal);
        if let Some(message) = message {
            gateway.wait_for_log_line(message, |_| true).await;
        }
    }
    latch.open_for_all();
    client.body(&mut answer, "GET").await;
    assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "beginend"));
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
}
