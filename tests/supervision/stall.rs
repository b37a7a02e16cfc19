//! An injected stall of an actor, which blocks its real thread.

use crate::support::{Client, Gateway, Upstream, client, wait_for};

/// S8: an actor with waiting messages and no progress is reported in the status, the log and the metrics, until it
/// continues
#[tokio::test]
async fn a_stalled_actor_is_reported_until_it_continues() {
    let upstream = Upstream::ok("x");
    // Requests on the other threads keep calling it.
    let gateway = Gateway::builder().bucket("b", &upstream).chaos().set("server.workers", "4").start().await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    assert_eq!(gateway.actor("pool:b").await["state"], "running");
    let before = gateway.generation("pool:b").await;
    assert_eq!(gateway.post("/actors/pool:b/stall?ms=5000").await.complete_status(), 202);
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let mut pending = Client::connect(gateway.address()).await;
        pending.send(client::message("GET", "/b/k", &[], None)).await;
        waiting.push(pending);
    }
    let state = async |wanted: &str| {
        let state = gateway.actor("pool:b").await["state"].clone();
        (state == wanted).then_some(())
    };
    wait_for("the pool stalls", || state("stalled")).await;
    gateway
        .wait_for_log_line("actor stalled: messages wait and none was handled for a second", |line| {
            line["stalled"] == "pool:b"
        })
        .await;
    assert_eq!(gateway.metric("actor_state{actor=\"pool:b\"}").await, 1.0);
    assert_eq!(gateway.actor("limiter").await["state"], "running", "requests of other threads continue");

    wait_for("the pool moves again", || state("running")).await;
    gateway.wait_for_log_line("actor handles messages again", |line| line["stalled"] == "pool:b").await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200, "requests are served again");
    drop(waiting);
    assert_eq!(gateway.generation("pool:b").await, before, "it was not restarted for that");
    gateway.wait_until_idle().await;
}

/// S8: a stall needs an actor and a duration
#[tokio::test]
async fn a_stall_without_a_time_or_an_actor_is_refused() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).chaos().start().await;
    let answer = gateway.post("/actors/pool:b/stall").await;
    assert_eq!(answer.complete_status(), 400);
    assert!(answer.text().contains("milliseconds"), "{}", answer.text());
    let answer = gateway.post("/actors/nobody/stall?ms=1").await;
    assert_eq!(answer.complete_status(), 404);
    assert!(answer.text().contains("pool:b"), "{}", answer.text());
}
