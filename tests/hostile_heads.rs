//! Hostile upstream heads: long, numerous or endless ones. Each is refused as an invalid answer, counted, and costs
//! little memory. `breaker/retry_after.rs` tests hostile Retry-After values.

use std::fmt::Write as _;
use std::time::Duration;

use crate::support::gateway::Builder;
use crate::support::{Gateway, Upstream, UpstreamReply, get, wait_for};

const REASON: &str = "errors_total{bucket=\"b\",reason=\"decode_failed\"}";

fn gateway_before(upstream: &Upstream) -> Builder {
    Gateway::builder().bucket("b", upstream).set("buckets.b.s3.circuit_breaker.failure_threshold", "1000")
}

/// A head with this many headers of this size, and an empty body.
fn head(count: usize, bytes: usize) -> UpstreamReply {
    let mut head = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n".to_owned();
    for number in 0..count {
        write!(head, "x-{number}: {}\r\n", "v".repeat(bytes)).unwrap();
    }
    UpstreamReply::raw(head + "\r\n")
}

/// The process's peak memory, in KiB.
fn peak_kib(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// B3, E4: a head over the limits is 502, the connection is closed, the circuit counts a failure, and the request is
/// not retried
#[tokio::test]
async fn an_oversized_head_is_refused_and_counted() {
    let upstream = Upstream::start(|seen| match seen.target.as_str() {
        "/b/long" => head(1, 10 << 20),
        "/b/many" => head(10_000, 1),
        "/b/hundred" => head(100, 1),
        "/b/heavy" => head(90, 4 << 10),
        "/b/length" => UpstreamReply::raw("HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\nx"),
        "/b/negative" => UpstreamReply::raw("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nx"),
        "/b/status" => UpstreamReply::raw("HTTP/1.1 99999 OK\r\n\r\n"),
        "/b/nul" => UpstreamReply::raw("HTTP/1.1 200 OK\r\nx-a: \0\r\n\r\n"),
        _ => head(90, 100),
    });
    let gateway = gateway_before(&upstream).start().await;
    let cases = ["long", "many", "hundred", "heavy", "length", "negative", "status", "nul"];
    for (number, case) in cases.iter().enumerate() {
        let answer = gateway.get(&format!("/b/{case}")).await;
        assert_eq!((answer.complete_status(), answer.reason()), (502, "decode_failed"), "{case}");
        wait_for("its connection is closed", || async { (upstream.open_connections() == 0).then_some(()) })
            .await;
        assert_eq!(upstream.count(), number + 1, "{case}: it was retried");
        assert_eq!(gateway.metric(REASON).await, (number + 1) as f64, "{case}");
    }
    wait_for("the circuit has counted them", || async {
        let status = gateway.status().await;
        (status["buckets"]["b"]["breaker"]["read"]["consecutive_failures"] == cases.len()).then_some(())
    })
    .await;
    let answer = gateway.get("/b/fine").await;
    assert_eq!((answer.complete_status(), answer.header("x-89").map(str::len)), (200, Some(100)));
}

/// B3, M3: many concurrent oversized heads are not held in memory
#[tokio::test]
async fn oversized_heads_take_no_memory() {
    let upstream = Upstream::start(|seen| match seen.target.as_str() {
        "/b/interim" => UpstreamReply::raw("HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n".repeat(200_000)),
        "/b/many" => head(500_000, 1),
        _ => head(1, 10 << 20),
    });
    let gateway = gateway_before(&upstream)
        .set("buckets.b.s3.retry.max_attempts", "1")
        .set("buckets.b.s3.circuit_breaker.mode", "off")
        .start()
        .await;
    assert_eq!(gateway.get("/b/long").await.complete_status(), 502);
    let before_kib = peak_kib(&gateway);
    for case in ["long", "many", "interim"] {
        let target = format!("/b/{case}");
        let asked = (0..12).map(|_| get(gateway.address(), &target));
        for answer in futures_util::future::join_all(asked).await {
            assert_eq!(answer.complete_status(), 502, "{case}");
        }
    }
    let grown_kib = peak_kib(&gateway).saturating_sub(before_kib);
    assert!(grown_kib < 24 << 10, "{grown_kib} KiB more for 36 heads of 5 to 10 MiB");
}

/// T2, T3: an endless series of interim answers does not satisfy the first-byte timeout
#[tokio::test]
async fn endless_interim_answers_time_out() {
    let interim = "HTTP/1.1 103 Early Hints\r\n\r\n";
    let upstream = Upstream::start(move |_| {
        let pause = Duration::from_millis(50);
        let reply =
            (0..400).fold(UpstreamReply::raw(interim), |reply, _| reply.then_body_after(pause, interim));
        reply.then_body_after(pause, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    });
    let gateway = gateway_before(&upstream)
        .set("buckets.b.s3.timeout", "0.5")
        .set("buckets.b.s3.retry.max_attempts", "1")
        .start()
        .await;
    let answer = gateway.get("/b/k").await;
    assert_eq!((answer.complete_status(), answer.reason()), (504, "timeout_first_byte"));
    wait_for("its connection is closed", || async { (upstream.open_connections() == 0).then_some(()) }).await;
    gateway.wait_until_idle().await;
}
