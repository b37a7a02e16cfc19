//! An actor that stands still, on demand: a real one, with the thread that it holds.

use crate::support::{Client, Gateway, Upstream, client, wait_for};

/// S8: an actor that handles nothing while messages wait is told of in the status, the log and the metrics, until it moves
#[tokio::test]
async fn a_stalled_actor_is_seen_until_it_moves_again() {
    let upstream = Upstream::ok("x");
    // Requests of the threads that the actor does not hold go on to ask it.
    let gateway = Gateway::builder().bucket("b", &upstream).chaos().set("server.workers", "4").start().await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    assert_eq!(gateway.actor("pool:b").await["state"], "running");
    let before = gateway.generation("pool:b").await;
    assert_eq!(gateway.post("/actors/pool:b/stall?ms=5000").await.complete_status(), 202);
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let mut asking = Client::connect(gateway.address()).await;
        asking.send(client::message("GET", "/b/k", &[], None)).await;
        waiting.push(asking);
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
    assert_eq!(gateway.actor("limiter").await["state"], "running", "others go on");

    wait_for("the pool moves again", || state("running")).await;
    gateway.wait_for_log_line("actor handles messages again", |line| line["stalled"] == "pool:b").await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200, "requests are served again");
    drop(waiting);
    assert_eq!(gateway.generation("pool:b").await, before, "it was not restarted for that");
    gateway.wait_until_idle().await;
}

/// S8: what to stall, and for how long, must be said
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
