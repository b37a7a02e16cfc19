//! Priority classes in the wait queue: order, displacement and freedom from starvation.

use tokio::task::JoinHandle;

use super::{PATIENT, gated, held, queue_holds};
use crate::support::{Gateway, Response, Upstream, request};

const URGENT: &str = "urgent-0123456789abcdef";
const NIGHTLY: &str = "nightly-0123456789abcdef";

/// Queues a request behind `waiting` others, with this key's class or, without one, its operation's.
async fn queue_request(
    gateway: &Gateway,
    waiting: usize,
    (method, target): (&'static str, &str),
    key: Option<&'static str>,
) -> JoinHandle<Response> {
    let (address, target) = (gateway.address(), target.to_owned());
    let pending = tokio::spawn(async move {
        let headers: Vec<(&str, &str)> = key.map(|key| ("x-api-key", key)).into_iter().collect();
        let body: Option<&[u8]> = (method == "PUT").then_some(b"x");
        request(address, method, &target, &headers, body).await
    });
    queue_holds(gateway, waiting + 1).await;
    pending
}

fn order(upstream: &Upstream) -> Vec<String> {
    upstream.seen().into_iter().map(|seen| seen.target).collect()
}

/// P3, P4: a free permit goes to the highest class, and within it first come, first served; the class is the
/// operation's, or the key's if configured
#[tokio::test]
async fn a_higher_class_goes_first() {
    let (upstream, latch) = held();
    let gateway = gated(&upstream, 1, 100, PATIENT)
        .set("buckets.b.auth", "api_key,anonymous")
        .set("buckets.b.s3.concurrency.priority.write", "high")
        .set("buckets.b.s3.concurrency.priority.list", "low")
        .set("policies.all.buckets", "*")
        .set("policies.all.methods", "read,write,list")
        .set("api_keys.urgent.secret", URGENT)
        .set("api_keys.urgent.policy", "all")
        .set("api_keys.urgent.priority", "high")
        .set("api_keys.nightly.secret", NIGHTLY)
        .set("api_keys.nightly.policy", "all")
        .set("api_keys.nightly.priority", "low")
        .start()
        .await;
    let mut requests = vec![tokio::spawn({
        let address = gateway.address();
        async move { request(address, "GET", "/b/holder", &[], None).await }
    })];
    upstream.wait_until_in_flight(1).await;
    let waiting = [
        ("GET", "/b?list-type=2", None),
        ("PUT", "/b/nightly-write", Some(NIGHTLY)),
        ("GET", "/b/read", None),
        ("PUT", "/b/write", None),
        ("GET", "/b/urgent-read", Some(URGENT)),
        ("GET", "/b/read-2", None),
    ];
    for (waits, (method, target, key)) in waiting.into_iter().enumerate() {
        requests.push(queue_request(&gateway, waits, (method, target), key).await);
    }
    latch.open(requests.len());
    for request in requests {
        assert_eq!(request.await.unwrap().complete_status(), 200);
    }
    assert_eq!(
        order(&upstream),
        [
            "/b/holder",
            "/b/write",
            "/b/urgent-read",
            "/b/read",
            "/b/read-2",
            "/b?list-type=2",
            "/b/nightly-write"
        ]
    );
    gateway.wait_until_idle().await;
}

/// P3, O4: at a full queue a request of a higher class displaces the last of the lowest; the displaced one is refused
/// at once, and without a lower class the newcomer is refused
#[tokio::test]
async fn a_higher_class_displaces_a_lower_one_from_a_full_queue() {
    let (upstream, latch) = held();
    let gateway =
        gated(&upstream, 1, 2, PATIENT).set("buckets.b.s3.concurrency.priority.write", "high").start().await;
    let address = gateway.address();
    let holder = tokio::spawn(async move { request(address, "GET", "/b/holder", &[], None).await });
    upstream.wait_until_in_flight(1).await;
    let first = queue_request(&gateway, 0, ("GET", "/b/first"), None).await;
    let last = queue_request(&gateway, 1, ("GET", "/b/last"), None).await;
    assert_eq!(gateway.get("/b/k").await.reason(), "queue_full");
    let high = tokio::spawn(async move { request(address, "PUT", "/b/high", &[], Some(b"x")).await });
    let displaced = last.await.unwrap();
    assert_eq!((displaced.complete_status(), displaced.reason()), (503, "queue_displaced"));
    assert!(displaced.text().contains("<Code>SlowDown</Code>"), "{}", displaced.text());
    assert!(matches!(displaced.retry_after(), Some(1 | 2)), "{displaced:?}");
    queue_holds(&gateway, 2).await;
    let counted = "request_queue_rejections_total{bucket=\"b\",reason=\"displaced\"}";
    assert_eq!(gateway.metric(counted).await, 1.0);
    latch.open_for_all();
    for request in [holder, first, high] {
        assert_eq!(request.await.unwrap().complete_status(), 200);
    }
    assert_eq!(order(&upstream), ["/b/holder", "/b/high", "/b/first"]);
    gateway.wait_until_idle().await;
}

/// P3: a request of a lower class is overtaken at most eleven times, however many of a higher one wait
#[tokio::test]
async fn a_lower_class_does_not_starve() {
    let (upstream, latch) = held();
    let gateway = gated(&upstream, 1, 100, PATIENT)
        .set("buckets.b.s3.concurrency.priority.write", "high")
        .start()
        .await;
    let address = gateway.address();
    let mut requests =
        vec![tokio::spawn(async move { request(address, "GET", "/b/holder", &[], None).await })];
    upstream.wait_until_in_flight(1).await;
    requests.push(queue_request(&gateway, 0, ("GET", "/b/lower"), None).await);
    for waiting in 1..=15 {
        requests.push(queue_request(&gateway, waiting, ("PUT", &format!("/b/{waiting}")), None).await);
    }
    latch.open_for_all();
    for request in requests {
        assert_eq!(request.await.unwrap().complete_status(), 200);
    }
    assert_eq!(order(&upstream).iter().position(|target| target == "/b/lower"), Some(11));
    gateway.wait_until_idle().await;
}
