//! A drain survives crashes of the pool's actor and reloads; it ends with its bucket or its endpoint.

use std::fs;

use serde_json::{Value, json};

use super::{Held, at, drain, drains, end, get, holding, of_endpoint, refusal, refused, wait_until_left};
use crate::support::{Gateway, Upstream, request};

/// The configuration of anonymous buckets with one setting of the gate each.
fn text(buckets: &[(&str, &[&Upstream], usize)]) -> String {
    let bucket = |(name, endpoints, gate): &(&str, &[&Upstream], usize)| {
        let urls: Vec<_> =
            endpoints.iter().map(|endpoint| format!("\"http://{}\"", endpoint.address())).collect();
        format!(
            "[buckets.{name}]\nauth = [\"anonymous\"]\n[buckets.{name}.s3]\nendpoints = [{}]\n\
             concurrency.max_concurrent = {gate}\n",
            urls.join(", ")
        )
    };
    buckets.iter().map(bucket).collect()
}

async fn reload(gateway: &Gateway, text: &str) {
    fs::write(gateway.directory().join("tidegate.toml"), text).unwrap();
    let answer = gateway.post("/reload").await;
    let reply: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(reply["result"], "applied", "{reply}");
}

/// S3, P5: a crash of the actor at any point keeps the drains; an order that crashes it gets 503, and can be given again
#[tokio::test]
async fn drains_survive_crashes_of_the_actor() {
    let (first, second) = (Upstream::ok("first"), Upstream::ok("second"));
    let gateway = at(&[&first, &second]).bucket("other", &first).chaos().start().await;
    drain(&gateway, &of_endpoint(first.address())).await;
    drain(&gateway, "bucket=other").await;
    for at in ["decide", "apply", "applied", "timer", "started"] {
        let generation = gateway.generation("pool:b").await;
        gateway.crash("pool:b", at).await;
        gateway.crash("pool:other", at).await;
        gateway.wait_for_generation("pool:b", generation + 1).await;
        assert_eq!(get(&gateway, "/b/k").await, (200, "second".to_owned()), "{at}");
        assert_eq!(refusal(&gateway, "/other/k").await, refused("bucket_draining"), "{at}");
    }
    assert_eq!(first.count(), 0);
    for at in ["decide", "apply", "applied"] {
        let generation = gateway.generation("pool:other").await;
        gateway.crash_next("pool:other", at).await;
        let answer = request(gateway.admin_address(), "DELETE", "/drain?bucket=other", &[], None).await;
        assert_eq!(answer.complete_status(), 503, "{}", answer.text());
        gateway.wait_for_generation("pool:other", generation + 1).await;
        let is_kept = at != "applied";
        assert_eq!(gateway.get("/other/k").await.complete_status(), if is_kept { 503 } else { 200 }, "{at}");
    }
    assert_eq!(end(&gateway, "bucket=other").await["was_draining"], false);
}

/// G3, P5: drains survive a reload that changes the bucket, for requests of both configurations
#[tokio::test]
async fn drains_survive_a_reload() {
    let ((first, latch), second, third) = (holding("first"), Upstream::ok("second"), Upstream::ok("third"));
    let before = text(&[("b", &[&first, &second], 10), ("other", &[&third], 10)]);
    let gateway = Gateway::builder().config(&before).start().await;
    drain(&gateway, &of_endpoint(second.address())).await;
    let held = Held::begin(&gateway, "/b/held").await;
    drain(&gateway, &of_endpoint(first.address())).await;
    end(&gateway, &of_endpoint(second.address())).await;
    drain(&gateway, "bucket=other&reason=move").await;
    let count = first.count();

    // Another order of the endpoints, and other gates: both buckets get a successor of their pool.
    reload(&gateway, &text(&[("b", &[&third, &second, &first], 20), ("other", &[&third], 20)])).await;
    for _ in 0..30 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    }
    assert_eq!(first.count(), count, "it still drains");
    assert_eq!(refusal(&gateway, "/other/k").await, refused("bucket_draining"));
    let all = drains(&gateway).await;
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!(
        (&all[0]["endpoint"], &all[0]["requests_left"]),
        (&json!(first.address().to_string()), &json!(1))
    );
    assert!(all[0]["oldest_ms"].is_u64(), "the request of the replaced configuration: {}", all[0]);
    assert_eq!((&all[1]["bucket"], &all[1]["reason"]), (&json!("other"), &json!("move")));
    end(&gateway, "bucket=other").await;
    latch.open_for_all();
    held.end().await;
    wait_until_left(&gateway, 0).await;

    // An endpoint that went and returns has no drain.
    reload(&gateway, &text(&[("b", &[&second], 20), ("other", &[&third], 20)])).await;
    assert!(drains(&gateway).await.is_empty());
    reload(&gateway, &text(&[("b", &[&first], 20), ("other", &[&third], 20)])).await;
    assert_eq!(get(&gateway, "/b/k").await, (200, "first".to_owned()));
}

/// G3: a bucket that was removed and is added again does not drain
#[tokio::test]
async fn a_bucket_that_returns_does_not_drain() {
    let (upstream, other) = (Upstream::ok("x"), Upstream::ok("y"));
    let both = text(&[("b", &[&upstream], 10), ("other", &[&other], 10)]);
    let gateway = Gateway::builder().config(&both).start().await;
    drain(&gateway, "bucket=b").await;
    assert_eq!(refusal(&gateway, "/b/k").await, refused("bucket_draining"));
    reload(&gateway, &text(&[("other", &[&other], 10)])).await;
    assert_eq!(refusal(&gateway, "/b/k").await, (404, "no_such_bucket".to_owned()));
    assert!(drains(&gateway).await.is_empty());
    reload(&gateway, &both).await;
    assert_eq!(get(&gateway, "/b/k").await, (200, "x".to_owned()));
}
