//! Blocked or closed log readers: requests are served, and the process still ends on a signal.

use std::io::{BufRead, BufReader, PipeReader};
use std::time::Duration;

use serde_json::Value;

use super::log_cause;
use crate::support::{Client, Gateway, Latch, Upstream, UpstreamReply, client, wait_for};

/// More lines than the pipe (64 KiB) and the gateway's buffer (8 MiB) hold, at 8 KiB a line.
const REQUESTS: usize = 1400;

/// Sends requests until log lines are lost.
async fn overflow(gateway: &Gateway) {
    let long = format!("/b/{}", "k".repeat(7900));
    let mut client = Client::connect(gateway.address()).await;
    for _ in 0..REQUESTS {
        client.send(client::message("GET", &long, &[], None)).await;
        assert_eq!(client.response("GET").await.complete_status(), 200);
    }
}

fn lines(reader: BufReader<PipeReader>) -> Vec<String> {
    // The reader reads one byte at a time.
    BufReader::new(reader.into_inner()).lines().map(Result::unwrap).collect()
}

/// The full log buffer is a reason for `warning` and for no higher level.
async fn backlog_warns(gateway: &Gateway) {
    let status = wait_for("the backlog of the log raises the level", || async {
        let status = gateway.status().await;
        status["reason"]
            .as_str()
            .is_some_and(|reason| reason.starts_with("log_backlog at "))
            .then_some(status)
    })
    .await;
    let backlog = &status["resources"]["log_backlog"];
    assert_eq!((&status["level"], &backlog["limit"]), (&"warning".into(), &(8 << 20).into()), "{status}");
}

/// X12, G4: a blocked log reader delays no request, and SIGTERM ends the gateway with 0
async fn blocked(format: &str) -> (Gateway, BufReader<PipeReader>) {
    let upstream = Upstream::ok("x");
    let (gateway, reader) = Gateway::builder()
        .bucket("b", &upstream)
        .set("server.keep_alive", "600")
        .set("log.format", format)
        .start_with_unread_log()
        .await;
    overflow(&gateway).await;
    let cause = log_cause(&gateway, "blocked").await;
    assert!(cause["since_ms"].as_u64().unwrap() >= 1000, "{cause}");
    assert_eq!(gateway.metric("log_write_failures_total{cause=\"blocked\"}").await, 1.0);
    backlog_warns(&gateway).await;
    let lost = gateway.metrics().await;
    let lost: f64 = lost
        .lines()
        .filter_map(|line| line.strip_prefix("tidegate_log_lines_lost_total{")?.rsplit_once(' '))
        .map(|(_, count)| count.parse::<f64>().unwrap())
        .sum();
    assert!(lost > 0.0);
    (gateway, reader)
}

/// X12, G4
#[tokio::test]
async fn a_blocked_json_log_delays_neither_requests_nor_the_end() {
    let (mut gateway, _reader) = blocked("json").await;
    gateway.send_sigterm();
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
}

/// X12, G4
#[tokio::test]
async fn a_blocked_terminal_log_delays_neither_requests_nor_the_end() {
    let (mut gateway, _reader) = blocked("terminal").await;
    gateway.send_sigterm();
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
}

/// X12: when the reader resumes, no line is torn, and the log has the number of lost lines
#[tokio::test]
async fn a_resumed_reader_gets_the_number_of_lost_lines() {
    let (mut gateway, reader) = blocked("json").await;
    let reading = std::thread::spawn(move || lines(reader));
    wait_for("the log works again", || async { (gateway.status().await["status"] == "ok").then_some(()) })
        .await;
    gateway.get("/b/last").await;
    // The end of the process waits a second for the log, which is less than a busy reader needs for 8 MiB.
    wait_for("the backlog is written", || async {
        (gateway.status().await["resources"]["log_backlog"]["used"] == 0).then_some(())
    })
    .await;
    gateway.send_sigterm();
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
    let lines = reading.join().unwrap();
    let parse = |line: &String| serde_json::from_str(line).unwrap_or_else(|_| panic!("a torn line: {line}"));
    let lines: Vec<Value> = lines.iter().map(parse).collect();
    let reported: u64 = lines
        .iter()
        .filter(|line| line["msg"] == "log output works again")
        .map(|line| line["lines_lost"].as_u64().unwrap())
        .sum();
    let requests = lines.iter().filter(|line| line["msg"] == "request").count();
    assert!(reported > 0, "lines were lost");
    assert_eq!(
        requests + usize::try_from(reported).unwrap(),
        REQUESTS + 1,
        "every request is logged or counted"
    );
}

/// G4: the second signal ends the process at once, although stdout and stderr are a blocked pipe and a request is in
/// flight
#[tokio::test]
async fn a_second_signal_ends_at_once_with_a_blocked_pipe() {
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |seen| match seen.target.as_str() {
        "/b/held" => UpstreamReply::ok("begin").then_body_when_open(&held, "end"),
        _ => UpstreamReply::ok("x"),
    });
    let builder = Gateway::builder().bucket("b", &upstream).set("server.drain_timeout", "600");
    let (mut gateway, _reader) = builder.start_with_unread_log().await;
    overflow(&gateway).await;
    let mut client = Client::connect(gateway.address()).await;
    client.send(client::message("GET", "/b/held", &[], None)).await;
    assert_eq!(client.head().await.status, 200);
    gateway.send_sigterm();
    wait_for("it drains", || async {
        (gateway.admin("/readyz").await.complete_status() == 503).then_some(())
    })
    .await;
    // Two signals within 100 ms count as one.
    tokio::time::sleep(Duration::from_millis(300)).await;
    gateway.send_sigterm();
    // This wait is much shorter than the drain time.
    assert_eq!(gateway.wait_exit().await.code(), Some(1));
    latch.open_for_all();
}

/// X12: `| head -1` closes the pipe after the first line, and the gateway keeps serving
#[tokio::test]
async fn a_closed_log_pipe_does_not_end_the_gateway() {
    let upstream = Upstream::ok("x");
    let (mut gateway, reader) = Gateway::builder().bucket("b", &upstream).start_with_unread_log().await;
    drop(reader);
    for _ in 0..10 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    }
    let cause = log_cause(&gateway, "broken_pipe").await;
    assert!(cause["message"].as_str().unwrap().contains("roken pipe"), "{cause}");
    assert!(gateway.metric("log_lines_lost_total{cause=\"broken_pipe\"}").await >= 1.0);
    gateway.send_sigterm();
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
}
