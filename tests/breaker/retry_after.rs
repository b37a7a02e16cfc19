//! Retry-After: the upstream's, which extends the open time, and the gateway's, which clients get.

use std::collections::BTreeSet;

use super::{circuit, opens, start};
use crate::support::{Upstream, UpstreamReply};

const OPEN_FIRST_S: u64 = 30;
const OPEN_MOST_S: u64 = 40;

/// B1, R4: an invalid, past or huge Retry-After neither keeps the circuit open for ever nor closes it, and is counted
#[tokio::test]
async fn a_hostile_retry_after_is_capped_and_counted() {
    for (asked, oddity, open_s) in [
        ("1e99", "malformed", OPEN_FIRST_S),
        ("-5", "malformed", OPEN_FIRST_S),
        ("Fri, 20 Nov 2020 12:00:00 GMT", "past", OPEN_FIRST_S),
        ("99999999999999999999999", "capped", OPEN_MOST_S),
        ("Fri, 31 Dec 9999 23:59:59 GMT", "capped", OPEN_MOST_S),
    ] {
        let upstream = Upstream::start(move |_| UpstreamReply::status(503).header("retry-after", asked));
        let (first, most) = (OPEN_FIRST_S.to_string(), OPEN_MOST_S.to_string());
        let settings =
            [("failure_threshold", "1"), ("timeout_seconds", &*first), ("max_timeout_seconds", &*most)];
        let gateway = start(&upstream, &settings).await;
        assert_eq!(gateway.get("/b/k").await.complete_status(), 503, "{asked}");
        opens(&gateway).await;
        let left_ms = circuit(&gateway).await["open_for_ms"].as_u64().unwrap();
        assert!(((open_s - 10) * 1000..=open_s * 1000).contains(&left_ms), "{asked}: {left_ms}");
        let counter = format!("upstream_retry_after_odd_total{{bucket=\"b\",oddity=\"{oddity}\"}}");
        assert_eq!(gateway.metric(&counter).await, 1.0, "{asked}");
    }
}

/// B3, R4: a response head of 10 MB is refused and not buffered
#[tokio::test]
async fn an_endless_head_is_refused() {
    let upstream = Upstream::start(|seen| match seen.target.as_str() {
        "/b/endless" => {
            UpstreamReply::raw(format!("HTTP/1.1 503 x\r\nretry-after: {}\r\n\r\n", "9".repeat(10 << 20)))
        }
        _ => UpstreamReply::ok("x"),
    });
    let gateway = start(&upstream, &[]).await;
    let answer = gateway.get("/b/endless").await;
    assert_eq!((answer.complete_status(), answer.reason()), (502, "decode_failed"));
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
}

/// B2: refused clients get different Retry-After values, none before the circuit admits trials
#[tokio::test]
async fn retry_after_is_jittered_and_never_too_early() {
    let upstream = Upstream::start(|_| UpstreamReply::status(500));
    let gateway = start(&upstream, &[("failure_threshold", "1"), ("timeout_seconds", "600")]).await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 500);
    opens(&gateway).await;
    let mut values = BTreeSet::new();
    for _ in 0..20 {
        let refused = gateway.get("/b/k").await;
        let left_ms = circuit(&gateway).await["open_for_ms"].as_u64().unwrap();
        let after = refused.retry_after().unwrap();
        assert!(after * 1000 >= left_ms && after <= 720, "{after} s, {left_ms} ms are left");
        values.insert(after);
    }
    assert!(values.len() > 5, "{values:?}");
}
