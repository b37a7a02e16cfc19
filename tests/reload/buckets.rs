//! Buckets that a reload adds, removes, returns or changes.

use super::{apply, open_bucket, wait_until_retired};
use crate::support::{Client, Gateway, Latch, Upstream, UpstreamReply, client, wait_for};

/// Each line of the metrics with this label.
async fn series(gateway: &Gateway, label: &str) -> Vec<String> {
    gateway.metrics().await.lines().filter(|line| line.contains(label)).map(str::to_owned).collect()
}

/// The names of actors, without those of threads.
async fn has_actor(gateway: &Gateway, name: &str) -> bool {
    gateway.status().await["actors"].get(name).is_some()
}

async fn status_of(gateway: &Gateway, target: &str) -> u16 {
    gateway.get(target).await.complete_status()
}

/// An upstream with answers that begin and then wait.
fn streaming() -> (Upstream, Latch) {
    let latch = Latch::new();
    let held = latch.clone();
    (Upstream::start(move |_| UpstreamReply::ok("begin").then_body_when_open(&held, "end")), latch)
}

/// G3: an added bucket serves at once with its own pool, breaker and metrics, and its neighbours stay as they are
#[tokio::test]
async fn a_bucket_is_added() {
    let (first, second) = (Upstream::ok("first"), Upstream::ok("second"));
    let (old, added) = (open_bucket("m", &[&first], ""), open_bucket("a", &[&second], ""));
    let gateway = Gateway::builder().set("server.workers", "1").config(&old).start().await;
    assert_eq!((status_of(&gateway, "/m/k").await, status_of(&gateway, "/a/k").await), (200, 404));
    let generation = gateway.generation("pool:m").await;
    apply(&gateway, &(added + &old)).await;
    assert_eq!(gateway.get("/a/k").await.text(), "second");
    assert_eq!(gateway.get("/m/k").await.text(), "first");
    assert_eq!(first.connections(), 1, "an unchanged bucket keeps its idle connection");
    for actor in ["pool:a", "breaker:a"] {
        assert!(has_actor(&gateway, actor).await, "{actor}");
    }
    assert_eq!(gateway.generation("pool:m").await, generation);
    assert_eq!(gateway.metric("circuit_breaker_state{bucket=\"a\",class=\"read\"}").await, 0.0);
    assert_eq!(gateway.metric("degradation_causes{code=\"circuit_open\",scope=\"a\"}").await, 0.0);
    let status = gateway.status().await;
    assert_eq!(
        (&status["buckets"]["a"]["pool"]["in_flight"], status["buckets"]["m"].is_object()),
        (&0.into(), true)
    );
}

/// G3: a removed bucket is 404 at once; its request under way ends; then its actors and its series are gone. It returns anew
#[tokio::test]
async fn a_bucket_is_removed_and_returns() {
    let ((upstream, latch), other) = (streaming(), Upstream::ok("x"));
    let (gone, kept) = (open_bucket("gone", &[&upstream], ""), open_bucket("kept", &[&other], ""));
    let both = format!("{gone}{kept}");
    let gateway = Gateway::builder().config(&both).start().await;
    let mut client = Client::connect(gateway.address()).await;
    client.send(client::message("GET", "/gone/k", &[], None)).await;
    let mut answer = client.head().await;
    assert_eq!(answer.status, 200);
    apply(&gateway, &kept).await;
    let refused = gateway.get("/gone/k").await;
    assert_eq!((refused.complete_status(), refused.reason()), (404, "no_such_bucket"));
    assert_eq!(status_of(&gateway, "/kept/k").await, 200);
    latch.open_for_all();
    client.body(&mut answer, "GET").await;
    assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "beginend"));
    wait_until_retired(&gateway, 1).await;
    for label in ["\"gone\"", ":gone\""] {
        assert_eq!(series(&gateway, label).await, [""; 0]);
    }
    for actor in ["pool:gone", "breaker:gone"] {
        assert!(!has_actor(&gateway, actor).await, "{actor}");
    }
    assert!(gateway.status().await["buckets"].get("gone").is_none());
    assert!(has_actor(&gateway, "pool:kept").await);

    apply(&gateway, &both).await;
    assert_eq!(gateway.get("/gone/k").await.text(), "beginend");
    assert!(has_actor(&gateway, "pool:gone").await);
    assert!(!series(&gateway, "\"gone\"").await.is_empty());
    assert_eq!(status_of(&gateway, "/kept/k").await, 200);
}

/// G3: requests go to the new endpoints at once, and the request under way ends at the old one. Then the series of the old one go
#[tokio::test]
async fn endpoints_change() {
    let ((old, latch), new) = (streaming(), Upstream::ok("new"));
    let gateway = Gateway::builder().config(&open_bucket("b", &[&old], "")).start().await;
    let mut client = Client::connect(gateway.address()).await;
    client.send(client::message("GET", "/b/k", &[], None)).await;
    let mut answer = client.head().await;
    apply(&gateway, &open_bucket("b", &[&new], "")).await;
    for _ in 0..4 {
        assert_eq!(gateway.get("/b/k").await.text(), "new");
    }
    assert_eq!((old.count(), new.count()), (1, 4));
    latch.open_for_all();
    client.body(&mut answer, "GET").await;
    assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "beginend"));
    wait_until_retired(&gateway, 1).await;
    let endpoint = old.address().to_string();
    wait_for("the series of the old endpoint are gone", || async {
        series(&gateway, &endpoint).await.is_empty().then_some(())
    })
    .await;
    assert!(!series(&gateway, &new.address().to_string()).await.is_empty());
    let endpoints = gateway.status().await["buckets"]["b"]["pool"]["endpoints"].to_string();
    assert!(!endpoints.contains(&endpoint), "{endpoints}");
    wait_for("no connection to the old endpoint is left", || async {
        (old.open_connections() == 0).then_some(())
    })
    .await;
}

/// G3: an endpoint that is added to a bucket gets its share, and the endpoint that stays keeps its state
#[tokio::test]
async fn an_endpoint_is_added() {
    let (first, second) = (Upstream::ok("first"), Upstream::ok("second"));
    let gateway = Gateway::builder().config(&open_bucket("b", &[&first], "")).start().await;
    assert_eq!(status_of(&gateway, "/b/k").await, 200);
    apply(&gateway, &open_bucket("b", &[&second, &first], "")).await;
    for _ in 0..20 {
        assert_eq!(status_of(&gateway, "/b/k").await, 200);
    }
    assert!(second.count() > 0 && first.count() > 1, "{} {}", first.count(), second.count());
    gateway.wait_until_idle().await;
}

/// G3, B2: an open circuit stays open over a reload that changes its bucket, with changed thresholds too
#[tokio::test]
async fn an_open_circuit_stays_open() {
    let upstream = Upstream::start(|_| UpstreamReply::status(500));
    let with = |more: &str| open_bucket("b", &[&upstream], &format!("retry.max_attempts = 1\n{more}"));
    let gateway = Gateway::builder().config(&with("")).start().await;
    for _ in 0..5 {
        assert_eq!(status_of(&gateway, "/b/k").await, 500);
    }
    wait_for("the circuit opens", || async {
        (gateway.status().await["buckets"]["b"]["breaker"]["read"]["state"] == "open").then_some(())
    })
    .await;
    for more in ["connect_timeout = 7", "circuit_breaker.failure_threshold = 50"] {
        apply(&gateway, &with(more)).await;
        let refused = gateway.get("/b/k").await;
        assert_eq!((refused.complete_status(), refused.reason()), (503, "breaker_open"), "{more}");
        let circuit = gateway.status().await["buckets"]["b"]["breaker"]["read"].clone();
        assert_eq!((&circuit["state"], &circuit["opened_total"]), (&"open".into(), &1.into()), "{more}");
        assert!(circuit["open_for_ms"].as_u64().unwrap() <= 60_000, "{circuit}");
    }
    assert_eq!(upstream.count(), 5);
}
