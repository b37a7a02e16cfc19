//! The session cache from the clients' view.

use crate::support::{Gateway, Response, Upstream, request};

async fn with_session(gateway: &Gateway, id: &str) -> Response {
    request(gateway.address(), "GET", "/b/k", &[("x-tidegate-session", id)], None).await
}

async fn cache(gateway: &Gateway) -> serde_json::Value {
    gateway.status().await["sessions"].clone()
}

/// C1: a session is verified once and then cached; a request without one does not use the cache
#[tokio::test]
async fn a_session_is_cached() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    assert_eq!(cache(&gateway).await["misses"], 0);
    for _ in 0..3 {
        assert_eq!(with_session(&gateway, "Session-1").await.complete_status(), 200);
    }
    assert_eq!(with_session(&gateway, "session-1").await.complete_status(), 200, "another one: case counts");
    let seen = cache(&gateway).await;
    assert_eq!((&seen["entries"], &seen["hits"], &seen["misses"]), (&2.into(), &2.into(), &2.into()));
    assert_eq!(gateway.metric("session_cache_entries").await, 2.0);
    assert_eq!(gateway.metric("session_cache_hits_total").await, 2.0);
    assert_eq!(gateway.metric("session_cache_misses_total").await, 2.0);
}

/// C1, V8: a malformed session ID is an authentication failure and never a crash
#[tokio::test]
async fn a_malformed_session_is_401() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let long = "x".repeat(129);
    for bad in ["", "a_b", "a b", "a/../b", "é", "a;b", "%61", "'; DROP TABLE sessions", &long] {
        let answer = with_session(&gateway, bad).await;
        assert_eq!((answer.complete_status(), answer.reason()), (401, "session_malformed"), "{bad:?}");
        assert!(!answer.text().contains("DROP TABLE"), "a session is not repeated: {}", answer.text());
    }
    assert_eq!(with_session(&gateway, &"x".repeat(128)).await.complete_status(), 200);
    assert_eq!(upstream.count(), 1);
    assert_eq!(gateway.generation("sessions").await, 1);
}

/// C1: at capacity the oldest tenth is evicted at once
#[tokio::test]
async fn at_capacity_the_oldest_tenth_is_evicted() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).set("sessions.capacity", "20").start().await;
    for i in 0..20 {
        assert_eq!(with_session(&gateway, &format!("s-{i}")).await.complete_status(), 200);
    }
    let full = cache(&gateway).await;
    assert_eq!((&full["entries"], &full["evicted"], &full["capacity"]), (&20.into(), &0.into(), &20.into()));
    assert_eq!(with_session(&gateway, "one-more").await.complete_status(), 200);
    let after = cache(&gateway).await;
    assert_eq!((&after["entries"], &after["evicted"]), (&19.into(), &2.into()));
    let hits = after["hits"].as_u64().unwrap();
    for id in ["s-2", "s-19", "one-more"] {
        assert_eq!(with_session(&gateway, id).await.complete_status(), 200);
    }
    assert_eq!(cache(&gateway).await["hits"].as_u64(), Some(hits + 3), "the others are still cached");
    for id in ["s-0", "s-1"] {
        assert_eq!(
            with_session(&gateway, id).await.complete_status(),
            200,
            "an evicted session is verified again"
        );
    }
    let last = cache(&gateway).await;
    assert_eq!(last["hits"].as_u64(), Some(hits + 3));
    assert!(last["entries"].as_u64().unwrap() <= 20);
    for i in 0..200 {
        assert_eq!(with_session(&gateway, &format!("t-{i}")).await.complete_status(), 200);
    }
    assert!(cache(&gateway).await["entries"].as_u64().unwrap() <= 20);
}

/// C1: a session expires
#[tokio::test]
async fn a_session_expires() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).set("sessions.ttl_seconds", "0.2").start().await;
    assert_eq!(with_session(&gateway, "s").await.complete_status(), 200);
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    assert_eq!(with_session(&gateway, "s").await.complete_status(), 200);
    let seen = cache(&gateway).await;
    assert_eq!((&seen["hits"], &seen["misses"]), (&0.into(), &2.into()));
}

/// A4, C1: a session grants no access to a bucket that is closed to its identity
#[tokio::test]
async fn a_session_grants_no_closed_bucket() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.closed.s3.endpoints", &format!("http://{}", upstream.address()))
        .start()
        .await;
    assert_eq!(with_session(&gateway, "s").await.complete_status(), 200);
    let answer = request(gateway.address(), "GET", "/closed/k", &[("x-tidegate-session", "s")], None).await;
    assert_eq!((answer.complete_status(), answer.reason()), (403, "bucket_closed"));
}
