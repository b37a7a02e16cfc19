//! Queue throughput is measured: requests that would time out in the queue are refused at once, and Retry-After is the
//! expected wait.

use std::time::Duration;

use futures_util::future::join_all;

use super::{PATIENT, gated, queue_holds, spawn_get};
use crate::support::{Latch, Upstream, UpstreamReply, get};

/// The upstream's latency: a gate of one serves twenty requests a second.
const ANSWER: Duration = Duration::from_millis(50);

/// Requests that wait first, so that the throughput is known.
const MEASURED: usize = 15;

/// P3: with a known throughput, a request that cannot be served before its deadline is refused at once with its own
/// reason; the others are served
#[tokio::test]
async fn a_request_that_would_miss_its_deadline_is_refused_at_once() {
    const PATIENCE: Duration = Duration::from_secs(2);
    let upstream = Upstream::start(|_| UpstreamReply::ok("x").delayed(ANSWER));
    let gateway = gated(&upstream, 1, 1000, PATIENCE).start().await;
    let address = gateway.address();
    let measured = join_all((0..MEASURED).map(|i| spawn_get(&gateway, format!("/b/{i}")))).await;
    assert!(
        measured.into_iter().all(|answer| answer.unwrap().complete_status() == 200),
        "no refusal without a known throughput"
    );
    let asked = (0..100).map(|i| tokio::spawn(async move { get(address, &format!("/b/late-{i}")).await }));
    let (mut served, mut refused) = (0, 0);
    for asked in join_all(asked).await {
        let answer = asked.unwrap();
        match (answer.complete_status(), answer.reason()) {
            (200, _) => served += 1,
            (503, "queue_too_long") => {
                refused += 1;
                let line = gateway.wait_for_access_line(answer.header("x-request-id").unwrap()).await;
                assert_eq!(line["queue_us"], serde_json::Value::Null, "{line}");
                assert!((3..=72).contains(&answer.retry_after().unwrap()), "{answer:?}");
                let text = answer.text();
                let message = text.split_once("<Message>").unwrap().1.split_once("</Message>").unwrap().0;
                assert!(
                    !message.contains(|c: char| c.is_ascii_digit()),
                    "the figures are the operator's: {text}"
                );
            }
            // The throughput is an average, so the last admitted requests may just miss their deadline.
            (503, "queue_timeout") => {}
            _ => panic!("{answer:?}"),
        }
    }
    assert!(served > 0 && refused >= 40, "{served} served, {refused} refused");
    assert_eq!(upstream.count(), MEASURED + served);
    let counted = "request_queue_rejections_total{bucket=\"b\",reason=\"too_long\"}";
    assert_eq!(gateway.metric(counted).await, f64::from(refused));
    gateway.wait_until_idle().await;
}

/// P3, O4: at a full queue Retry-After is the time until the queue has drained, or later, with jitter
#[tokio::test]
async fn a_full_queues_retry_after_is_its_drain_time() {
    const QUEUED: usize = 40;
    let latch = Latch::new();
    let of_upstream = latch.clone();
    let upstream = Upstream::start(move |seen| match seen.target.starts_with("/b/held") {
        true => UpstreamReply::ok("x").when_open(&of_upstream),
        false => UpstreamReply::ok("x").delayed(ANSWER),
    });
    let gateway = gated(&upstream, 1, QUEUED, PATIENT).start().await;
    let measured = join_all((0..MEASURED).map(|i| spawn_get(&gateway, format!("/b/{i}")))).await;
    assert!(measured.into_iter().all(|answer| answer.unwrap().complete_status() == 200));
    let waiting: Vec<_> = (0..=QUEUED).map(|i| spawn_get(&gateway, format!("/b/held-{i}"))).collect();
    queue_holds(&gateway, QUEUED).await;
    let refused = join_all((0..20).map(|_| gateway.get("/b/k"))).await;
    for answer in &refused {
        assert_eq!((answer.status, answer.reason()), (503, "queue_full"));
        // 41 requests of 50 ms, and the maximum of the jitter.
        assert!((3..=72).contains(&answer.retry_after().unwrap()), "{answer:?}");
    }
    assert!(refused.windows(2).any(|pair| pair[0].retry_after() != pair[1].retry_after()));
    latch.open_for_all();
    for request in waiting {
        assert_eq!(request.await.unwrap().complete_status(), 200);
    }
    gateway.wait_until_idle().await;
}
