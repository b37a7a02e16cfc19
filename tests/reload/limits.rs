//! Limits that a reload lowers or raises.

use super::{apply, open_bucket};
use crate::pool::spawn_get;
use crate::support::{Gateway, Latch, Upstream, UpstreamReply, wait_for, wait_until};

fn held() -> (Upstream, Latch) {
    let latch = Latch::new();
    let of_upstream = latch.clone();
    (Upstream::start(move |_| UpstreamReply::ok("x").when_open(&of_upstream)), latch)
}

fn gated(upstream: &Upstream, concurrent: usize) -> String {
    let gate = format!("concurrency.max_concurrent = {concurrent}\nconcurrency.queue_timeout_ms = 30000");
    open_bucket("b", &[upstream], &gate)
}

async fn queue_holds(gateway: &Gateway, waiting: usize) {
    wait_for(&format!("{waiting} wait"), || async {
        (gateway.status().await["buckets"]["b"]["pool"]["queued"] == waiting).then_some(())
    })
    .await;
}

/// G3, P3: a raised limit of concurrent requests admits a waiting request at once
#[tokio::test]
async fn a_raised_gate_wakes_its_waiters() {
    let (upstream, latch) = held();
    let gateway = Gateway::builder().config(&gated(&upstream, 1)).start().await;
    let requests: Vec<_> = (0..3).map(|at| spawn_get(&gateway, format!("/b/{at}"))).collect();
    upstream.wait_until_in_flight(1).await;
    queue_holds(&gateway, 2).await;
    apply(&gateway, &gated(&upstream, 2)).await;
    upstream.wait_until_in_flight(2).await;
    assert_eq!(upstream.count(), 2, "the third one waits");
    latch.open_for_all();
    for request in requests {
        assert_eq!(request.await.unwrap().complete_status(), 200);
    }
    assert_eq!(upstream.peak_in_flight(), 2);
    gateway.wait_until_idle().await;
}

/// G3, P3: a lowered limit of concurrent requests holds at once, for requests that wait in the replaced configuration too
#[tokio::test]
async fn a_lowered_gate_holds_at_once() {
    let (upstream, latch) = held();
    let gateway = Gateway::builder().config(&gated(&upstream, 3)).start().await;
    let mut requests: Vec<_> = (0..5).map(|at| spawn_get(&gateway, format!("/b/{at}"))).collect();
    upstream.wait_until_in_flight(3).await;
    queue_holds(&gateway, 2).await;
    apply(&gateway, &gated(&upstream, 1)).await;
    requests.extend((5..8).map(|at| spawn_get(&gateway, format!("/b/{at}"))));
    latch.open(2);
    upstream.wait_until_in_flight(1).await;
    for served in 3..8 {
        assert_eq!((upstream.count(), upstream.in_flight()), (served, 1));
        latch.open(1);
        wait_until("the next request is sent", || upstream.count() > served).await;
        upstream.wait_until_in_flight(1).await;
    }
    latch.open_for_all();
    for request in requests {
        assert_eq!(request.await.unwrap().complete_status(), 200);
    }
    gateway.wait_until_idle().await;
}

/// G3, L1: used tokens stay used; a lowered burst holds at once, and a raised one gives no more than its own
#[tokio::test]
async fn used_tokens_stay_used() {
    let upstream = Upstream::ok("x");
    for section in ["rate_limit.global", "rate_limit.per_ip", "buckets.b.rate_limit"] {
        let with = |burst: u32, more: &str| {
            let limit = format!("[{section}]\nrequests_per_second = 0.001\nburst = {burst}\n");
            open_bucket("b", &[&upstream], "") + &limit + more
        };
        let gateway = Gateway::builder().config(&with(5, "")).start().await;
        let count = async |most: usize| {
            let mut admitted = 0;
            while admitted <= most && gateway.get("/b/k").await.complete_status() == 200 {
                admitted += 1;
            }
            admitted
        };
        for _ in 0..3 {
            assert_eq!(gateway.get("/b/k").await.complete_status(), 200, "{section}");
        }
        apply(&gateway, &with(5, "[server]\nkeep_alive = 7\n")).await;
        assert_eq!(count(9).await, 2, "{section}: another setting changed, 3 of 5 are used");
        apply(&gateway, &with(8, "")).await;
        assert_eq!(count(9).await, 3, "{section}: 5 of 8 are used");
        apply(&gateway, &with(2, "")).await;
        assert_eq!(count(9).await, 0, "{section}: more than 2 are used");
        apply(&gateway, &with(8, "")).await;
        assert_eq!(count(9).await, 0, "{section}: 8 of 8 are used, although at most 2 counted meanwhile");
        apply(&gateway, &with(1, "")).await;
        apply(&gateway, &with(11, "")).await;
        assert_eq!(count(9).await, 3, "{section}: 8 of 11 are used");
        apply(&gateway, &open_bucket("b", &[&upstream], "")).await;
        assert_eq!(count(9).await, 10, "{section}: without a limit");
    }
}

/// G3, L1: an added limit holds at once, with its burst
#[tokio::test]
async fn an_added_limit_holds() {
    let upstream = Upstream::ok("x");
    let open = open_bucket("b", &[&upstream], "");
    let gateway = Gateway::builder().config(&open).start().await;
    for _ in 0..4 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    }
    let limit = "[buckets.b.rate_limit]\nrequests_per_second = 0.001\nburst = 2\n";
    apply(&gateway, &(open + limit)).await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(gateway.get("/b/k").await.complete_status());
    }
    assert_eq!(statuses, [200, 200, 429]);
}
