//! A standing queue in overload mode, as opposed to a burst.

use std::cell::RefCell;

use futures_util::future::join_all;
use tokio::task::JoinHandle;

use super::{PATIENT, gated, held, spawn_get};
use crate::support::{Response, wait_for};

/// P3, O4: in overload requests that waited longer than the target are refused at once, the newest is served first, and
/// none times out
#[tokio::test]
async fn in_overload_the_newest_is_served_and_the_late_are_refused() {
    let (upstream, latch) = held();
    let gateway = gated(&upstream, 1, 1000, PATIENT)
        .set("buckets.b.s3.concurrency.overload", "codel")
        .set("buckets.b.s3.concurrency.codel_target_ms", "20")
        .set("buckets.b.s3.concurrency.codel_interval_ms", "100")
        .start()
        .await;
    let holder = spawn_get(&gateway, "/b/holder");
    upstream.wait_until_in_flight(1).await;
    let waiting: RefCell<Vec<JoinHandle<Response>>> = RefCell::default();
    wait_for("the queue is in overload, and the first waiter is refused", || async {
        let newcomer = spawn_get(&gateway, format!("/b/{}", waiting.borrow().len()));
        waiting.borrow_mut().push(newcomer);
        waiting.borrow()[0].is_finished().then_some(())
    })
    .await;
    // A newcomer after the others have been decided: all that are still open are in the queue.
    let settled = || async {
        let queued = gateway.status().await["buckets"]["b"]["pool"]["queued"].as_u64().unwrap();
        let there = waiting.borrow().iter().filter(|request| !request.is_finished()).count();
        (queued == there as u64).then_some(())
    };
    wait_for("the new requests are in the queue", settled).await;
    waiting.borrow_mut().push(spawn_get(&gateway, "/b/newest"));
    wait_for("the newest is in the queue", settled).await;
    latch.open(1);
    assert_eq!(holder.await.unwrap().complete_status(), 200);
    wait_for("the next request is sent", || async { (upstream.count() == 2).then_some(()) }).await;
    assert_eq!(upstream.last().target, "/b/newest");
    latch.open_for_all();
    let (mut served, mut shed) = (0, 0);
    for answer in join_all(waiting.into_inner()).await {
        let answer = answer.unwrap();
        match (answer.complete_status(), answer.reason()) {
            (200, _) => served += 1,
            (503, "queue_overload") => {
                shed += 1;
                assert!(matches!(answer.retry_after(), Some(1 | 2)), "{answer:?}");
            }
            _ => panic!("{answer:?}"),
        }
    }
    assert!(served > 0 && shed > 0, "{served} served, {shed} refused");
    let counted = "request_queue_rejections_total{bucket=\"b\",reason=\"overload\"}";
    assert_eq!(gateway.metric(counted).await, f64::from(shed));
    gateway.wait_until_idle().await;
}

/// P3, P4: a burst is served completely and in order, although it waits longer than the target
#[tokio::test]
async fn a_burst_is_served_in_its_order() {
    let (upstream, latch) = held();
    let gateway = gated(&upstream, 1, 1000, PATIENT)
        .set("buckets.b.s3.concurrency.overload", "codel")
        .set("buckets.b.s3.concurrency.codel_target_ms", "1")
        .set("buckets.b.s3.concurrency.codel_interval_ms", "30000")
        .start()
        .await;
    let mut requests = vec![spawn_get(&gateway, "/b/0")];
    upstream.wait_until_in_flight(1).await;
    for i in 1..=10 {
        requests.push(spawn_get(&gateway, format!("/b/{i}")));
        super::queue_holds(&gateway, i).await;
    }
    latch.open_for_all();
    for request in requests {
        assert_eq!(request.await.unwrap().complete_status(), 200);
    }
    let order: Vec<String> = upstream.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(order, Vec::from_iter((0..=10).map(|i| format!("/b/{i}"))));
    gateway.wait_until_idle().await;
}
