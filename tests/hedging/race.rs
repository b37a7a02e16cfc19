//! The race between a first attempt and its hedge: which answer is used, and how the other is dropped.

use super::{Times, first_held, hedged, learn, p95, sent, slow, start, won};
use crate::support::{Gateway, Latch, Upstream, UpstreamReply, get, head, request, wait_for, wait_until};

/// T7, P4, B3, O2, O3: a slow read is answered by its hedge; the loser's connection closes at once, its permit is free,
/// and no failure is counted
#[tokio::test]
async fn a_slow_read_is_answered_by_its_hedge() {
    let latch = Latch::new();
    let upstream = first_held(&latch);
    let gateway = start(&upstream, &[]).await;
    let answer = gateway.get("/b/slow").await;
    assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "second"));
    assert_eq!((slow(&upstream), sent(&gateway).await, won(&gateway).await), (2, 1.0, 1.0));
    wait_until("the losing attempt is cancelled", || upstream.cancelled() == 1 && upstream.in_flight() == 0)
        .await;
    gateway.wait_until_idle().await;
    let line = gateway.wait_for_log_line("request", |line| line["path"] == "/b/slow").await;
    assert_eq!((&line["attempts"], &line["hedge"]), (&2.into(), &"won".into()));
    let circuit = &gateway.status().await["buckets"]["b"]["breaker"]["read"];
    assert_eq!((&circuit["state"], &circuit["consecutive_failures"]), (&"closed".into(), &0.into()));
    assert_eq!(
        gateway.metric("s3_retry_attempts_total{bucket=\"b\"}").await,
        0.0,
        "it did not count as a retry"
    );
    assert_eq!(gateway.metric("s3_retry_success_total{bucket=\"b\"}").await, 0.0);
    assert!(
        gateway.metric("upstream_amplification{bucket=\"b\"}").await > 1.0,
        "but it counted as an attempt"
    );
    let line = gateway.wait_for_log_line("request", |line| line["path"] == "/b/fast").await;
    assert!(line["hedge"].is_null(), "a fast read has no hedge");
}

/// R3: HEAD is hedged too, and listings once their latency is known
#[tokio::test]
async fn heads_and_listings_are_hedged() {
    let latch = Latch::new();
    let upstream = first_held(&latch);
    let gateway = start(&upstream, &[]).await;
    assert_eq!(head(gateway.address(), "/b/slow").await.status, 200);
    assert_eq!((slow(&upstream), won(&gateway).await), (2, 1.0));
    assert_eq!(gateway.metric(&p95("list")).await, 0.0, "latencies of objects do not apply to listings");
    learn(&gateway, "/b?list-type=2", "list").await;
    assert_eq!(gateway.get("/b?list-type=2&prefix=slow").await.text(), "second");
    assert_eq!((slow(&upstream), won(&gateway).await), (4, 2.0));
}

/// R3: writes and requests with a body are not hedged, however slow they are
#[tokio::test]
async fn nothing_but_reads_is_hedged() {
    let latch = Latch::new();
    let upstream = first_held(&latch);
    let gateway = start(&upstream, &[]).await;
    let large = vec![b'x'; 100_000];
    let asked: [(&str, Option<&[u8]>); 5] = [
        ("PUT", Some(b"small")),
        ("PUT", Some(&large)),
        ("POST", Some(b"x")),
        ("DELETE", None),
        ("GET", Some(b"x")),
    ];
    let pending: Vec<_> = asked
        .iter()
        .enumerate()
        .map(|(number, (method, body))| {
            let (address, method) = (gateway.address(), (*method).to_owned());
            let body = body.map(<[u8]>::to_vec);
            tokio::spawn(async move {
                request(address, &method, &format!("/b/slow/{number}"), &[], body.as_deref()).await
            })
        })
        .collect();
    wait_until("all of them are in flight", || slow(&upstream) == asked.len()).await;
    // A read of the same duration is hedged, so the others had enough time.
    assert_eq!(gateway.get("/b/slow").await.text(), "second");
    assert_eq!((slow(&upstream), sent(&gateway).await), (asked.len() + 2, 1.0));
    latch.open_for_all();
    for pending in pending {
        assert_eq!(pending.await.unwrap().text(), "first");
    }
}

/// R3, O2: the first attempt's answer is used if it arrives first; the hedge is then dropped
#[tokio::test]
async fn the_first_answer_counts_if_it_is_faster() {
    let (first, second, times) = (Latch::new(), Latch::new(), Times::default());
    let held = [first.clone(), second.clone()];
    let upstream = Upstream::start(move |seen| match seen.target.contains("slow") {
        true => UpstreamReply::ok("first").when_open(&held[times.count(seen) - 1]),
        false => UpstreamReply::ok("fast"),
    });
    let gateway = start(&upstream, &[]).await;
    let address = gateway.address();
    let pending = tokio::spawn(async move { get(address, "/b/slow").await });
    wait_until("it is hedged", || slow(&upstream) == 2).await;
    first.open_for_all();
    assert_eq!(pending.await.unwrap().text(), "first");
    wait_until("the hedge is cancelled", || upstream.cancelled() == 1 && upstream.in_flight() == 0).await;
    gateway.wait_until_idle().await;
    assert_eq!((sent(&gateway).await, won(&gateway).await), (1.0, 0.0));
    let line = gateway.wait_for_log_line("request", |line| line["path"] == "/b/slow").await;
    assert_eq!((&line["attempts"], &line["hedge"]), (&2.into(), &"lost".into()));
}

/// R1, R3: a failed hedge has no effect: the first attempt's answer is used as if there had been no hedge
#[tokio::test]
async fn a_failed_hedge_has_no_effect() {
    for bad in [
        UpstreamReply::status(500),
        UpstreamReply::status(429),
        UpstreamReply::reset(),
        UpstreamReply::s3_error(503, "SlowDown"),
    ] {
        let (latch, times) = (Latch::new(), Times::default());
        let held = latch.clone();
        let upstream = Upstream::start(move |seen| match (seen.target.contains("slow"), times.count(seen)) {
            (false, _) => UpstreamReply::ok("fast"),
            (true, 1) => UpstreamReply::ok("first").when_open(&held),
            (true, _) => bad.clone(),
        });
        let gateway = start(&upstream, &[]).await;
        let address = gateway.address();
        let pending = tokio::spawn(async move { get(address, "/b/slow").await });
        wait_until("its hedge has failed", || slow(&upstream) == 2 && upstream.in_flight() == 1).await;
        wait_for("its permit is released", || async {
            (gateway.status().await["buckets"]["b"]["pool"]["in_flight"] == 1).then_some(())
        })
        .await;
        latch.open_for_all();
        let answer = pending.await.unwrap();
        assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "first"));
        assert_eq!((slow(&upstream), won(&gateway).await), (2, 0.0));
        gateway.wait_until_idle().await;
    }
}

/// R1, B3: a first attempt that fails while its hedge is in flight is not retried: the hedge's answer is used, and the
/// failure is still counted
#[tokio::test]
async fn a_hedge_replaces_a_retry() {
    let (first, second, times) = (Latch::new(), Latch::new(), Times::default());
    let held = [first.clone(), second.clone()];
    let upstream = Upstream::start(move |seen| match (seen.target.contains("slow"), times.count(seen)) {
        (false, _) => UpstreamReply::ok("fast"),
        (true, 1) => UpstreamReply::status(500).when_open(&held[0]),
        (true, _) => UpstreamReply::ok("second").when_open(&held[1]),
    });
    let gateway = start(&upstream, &[]).await;
    let address = gateway.address();
    let pending = tokio::spawn(async move { get(address, "/b/slow").await });
    wait_until("it is hedged", || slow(&upstream) == 2).await;
    first.open_for_all();
    wait_for("the failure is counted, and its permit is free", || async {
        let bucket = &gateway.status().await["buckets"]["b"];
        let failures = &bucket["breaker"]["read"]["consecutive_failures"];
        (*failures == 1 && bucket["pool"]["in_flight"] == 1).then_some(())
    })
    .await;
    second.open_for_all();
    assert_eq!(pending.await.unwrap().text(), "second");
    assert_eq!((slow(&upstream), won(&gateway).await), (2, 1.0));
    assert_eq!(gateway.metric("s3_retry_attempts_total{bucket=\"b\"}").await, 0.0);
}

/// R2: a hedge counts as an attempt, and a request has at most one
#[tokio::test]
async fn a_hedge_is_one_of_the_attempts() {
    for (attempts, retries) in [("2", 0.0), ("3", 1.0)] {
        let (latch, times) = (Latch::new(), Times::default());
        let held = latch.clone();
        let upstream = Upstream::start(move |seen| match (seen.target.contains("slow"), times.count(seen)) {
            (false, _) => UpstreamReply::ok("fast"),
            (true, 1 | 3) => UpstreamReply::status(503).when_open(&held),
            (true, _) => UpstreamReply::status(503),
        });
        let gateway = start(&upstream, &[("retry.max_attempts", attempts)]).await;
        let address = gateway.address();
        let pending = tokio::spawn(async move { get(address, "/b/slow").await });
        wait_until("its hedge has failed", || slow(&upstream) == 2 && upstream.in_flight() == 1).await;
        latch.open_for_all();
        assert_eq!(pending.await.unwrap().complete_status(), 503);
        assert_eq!((slow(&upstream).to_string().as_str(), sent(&gateway).await), (attempts, 1.0));
        assert_eq!(gateway.metric("s3_retry_attempts_total{bucket=\"b\"}").await, retries);
    }
}

/// P5: a hedge goes to another endpoint if there is one
#[tokio::test]
async fn a_hedge_goes_to_another_endpoint() {
    let latch = Latch::new();
    let times = std::sync::Arc::new(Times::default());
    let upstreams = [(); 2].map(|()| {
        let (latch, times) = (latch.clone(), std::sync::Arc::clone(&times));
        Upstream::start(move |seen| match (seen.target.contains("slow"), times.count(seen)) {
            (true, 1) => UpstreamReply::ok("first").when_open(&latch),
            (true, _) => UpstreamReply::ok("second"),
            (false, _) => UpstreamReply::ok("fast"),
        })
    });
    let addresses = [upstreams[0].address(), upstreams[1].address()];
    let gateway = hedged(Gateway::builder().bucket_at("b", &addresses), &[]).start().await;
    learn(&gateway, "/b/fast", "read").await;
    for number in 1..=8 {
        assert_eq!(gateway.get(&format!("/b/slow/{number}")).await.text(), "second");
        assert_eq!((slow(&upstreams[0]), slow(&upstreams[1])), (number, number));
    }
    gateway.wait_until_idle().await;
    let status = gateway.status().await;
    let endpoints = status["buckets"]["b"]["pool"]["endpoints"].as_array().unwrap();
    assert!(endpoints.iter().all(|endpoint| endpoint["state"] == "in_rotation"), "{endpoints:?}");
}

/// T6, R3: after the first forwarded byte of the winner there is no fallback: the client gets a truncated answer
#[tokio::test]
async fn a_winner_that_breaks_off_is_not_replaced() {
    let (latch, times) = (Latch::new(), Times::default());
    let held = latch.clone();
    let upstream = Upstream::start(move |seen| match (seen.target.contains("slow"), times.count(seen)) {
        (false, _) => UpstreamReply::ok("fast"),
        (true, 1) => UpstreamReply::ok("first").when_open(&held),
        (true, _) => UpstreamReply::ok("0123456789").cut_at(5),
    });
    let gateway = start(&upstream, &[]).await;
    let mut client = crate::support::Client::connect(gateway.address()).await;
    client.send("GET /b/slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let answer = client.try_response("GET").await;
    assert!(answer.is_none_or(|answer| answer.broken.is_some()), "a truncated body looks complete");
    gateway.wait_until_idle().await;
    assert_eq!(slow(&upstream), 2);
}

/// T7: a client disconnect ends both attempts
#[tokio::test]
async fn a_client_disconnect_ends_both_attempts() {
    let upstream = Upstream::start(|seen| match seen.target.contains("slow") {
        true => UpstreamReply::hang(),
        false => UpstreamReply::ok("fast"),
    });
    let gateway = start(&upstream, &[]).await;
    let mut client = crate::support::Client::connect(gateway.address()).await;
    client.send("GET /b/slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    wait_until("it is hedged", || slow(&upstream) == 2).await;
    drop(client);
    wait_until("both are cancelled", || upstream.cancelled() == 2 && upstream.in_flight() == 0).await;
    gateway.wait_until_idle().await;
    let line = gateway.wait_for_log_line("request", |line| line["path"] == "/b/slow").await;
    assert_eq!((&line["attempts"], &line["hedge"]), (&2.into(), &"lost".into()));
}
