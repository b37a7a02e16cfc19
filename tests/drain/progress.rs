//! The progress of a drain in the log, the status, its stream and `tidegate status`.

use serde_json::{Value, json};

use super::{begun, holding, streaming};
use crate::support::client::message;
use crate::support::{Client, Gateway, wait_for};

/// Waits until the drain of the status fits.
async fn drain_when(gateway: &Gateway, what: &str, fits: impl Fn(&Value) -> bool + Copy) -> Value {
    wait_for(what, || async move {
        let drain = gateway.status().await["drain"].clone();
        fits(&drain).then_some(drain)
    })
    .await
}

/// G4: log, status, event stream and `tidegate status` have the requests left by bucket, the oldest, the streams and the time left,
/// until the last request has ended
#[tokio::test]
async fn the_progress_is_told_everywhere() {
    let ((photos, photos_latch), (feeds, feeds_latch)) =
        (holding(), streaming("application/x-ndjson", "1\n"));
    let builder = Gateway::builder().bucket("photos", &photos).http_bucket("feeds", &feeds);
    let mut gateway = builder.set("server.drain_timeout", "600").start().await;
    assert_eq!(gateway.status().await["drain"], Value::Null, "nothing drains");
    let mut held = vec![begun(&gateway, "/photos/a").await];
    held.push(begun(&gateway, "/photos/b").await);
    held.push(begun(&gateway, "/feeds/c").await);
    let mut watcher = Client::connect(gateway.admin_address()).await;
    watcher.send(message("GET", "/status/stream?samples=false", &[], None)).await;
    let mut watched = watcher.head().await;
    let mut second = Client::connect(gateway.admin_address()).await;
    second.send(message("GET", "/status/stream?samples=false", &[], None)).await;
    second.head().await;
    gateway.send_sigterm();

    let drain = drain_when(&gateway, "three requests are left", |drain| {
        drain["phase"] == "closing" && drain["connections"] == 3
    })
    .await;
    let of_buckets = json!({ "feeds": 1, "photos": 2 });
    assert_eq!(
        (&drain["requests"], &drain["streams"], &drain["buckets"]),
        (&json!(3), &json!(1), &of_buckets)
    );
    assert_eq!(
        (&drain["cause"], &drain["oldest_bucket"], &drain["cut_off"]),
        (&json!("signal"), &json!("photos"), &Value::Null)
    );
    let remaining = drain["remaining_ms"].as_u64().unwrap();
    assert!((1..=600_000).contains(&remaining), "{drain}");
    assert!(drain["oldest_ms"].is_u64() && drain["since"].as_str() < drain["until"].as_str(), "{drain}");
    let line = gateway.wait_for_log_line("drain progress", |line| line["connections"] == 3).await;
    assert_eq!(
        (&line["requests"], &line["streams"], &line["by_bucket"]),
        (&json!(3), &json!(1), &json!("photos 2, feeds 1"))
    );
    assert!(line["oldest_ms"].is_u64() && line["remaining_ms"].is_u64(), "{line}");

    let url = format!("http://{}", gateway.admin_address());
    let builder = Gateway::builder().argument("status").argument(&url);
    let shown = tokio::task::spawn_blocking(move || builder.run()).await.unwrap();
    let expected =
        "draining (closing): 3 requests (photos 2, feeds 1), 1 stream, 3 connections, the oldest for ";
    assert!(shown.stdout.contains(expected), "{}", shown.stdout);

    photos_latch.open_for_all();
    drain_when(&gateway, "the photos have ended", |drain| drain["buckets"] == json!({ "feeds": 1 })).await;
    // The second line comes after a second, the third after five.
    wait_for("the progress is logged again", || async {
        let count = gateway.log_lines().iter().filter(|line| line["msg"] == "drain progress").count();
        (count >= 2).then_some(())
    })
    .await;
    // All watchers get the same events.
    let mut seen = String::new();
    while !seen.contains("data: {\"buckets\":{\"feeds\":1}") {
        seen += &String::from_utf8(second.read_some().await.unwrap()).unwrap();
    }
    feeds_latch.open_for_all();
    for (client, answer) in &mut held {
        client.body(answer, "GET").await;
        assert_eq!(answer.complete_status(), 200);
    }
    watcher.body(&mut watched, "GET").await;
    assert_eq!(watched.broken, None, "the stream ends with its last chunk");
    let events = watched.text();
    let last = events.trim_end().rsplit("event: drain\ndata: ").next().unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!((&last["phase"], &last["cut_off"]), (&json!("cutting_off"), &json!(0)), "{events}");
    assert!(events.matches("event: drain\n").count() >= 3, "{events}");
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
    let last = gateway.wait_for_log_line("drain progress", |line| line["requests"] == 0).await;
    assert_eq!(last["by_bucket"], "");
}

/// G4: the line of the timeout has what is cut off, by bucket
#[tokio::test]
async fn the_timeout_tells_what_is_cut_off() {
    let ((photos, _photos_latch), (feeds, _feeds_latch)) = (holding(), streaming("application/json", "[1,"));
    let builder = Gateway::builder().bucket("photos", &photos).http_bucket("feeds", &feeds);
    let mut gateway = builder.set("server.drain_timeout", "0.3").start().await;
    let mut held = Vec::new();
    for target in ["/photos/a", "/photos/b", "/feeds/c"] {
        held.push(begun(&gateway, target).await);
    }
    gateway.send_sigterm();
    assert_eq!(gateway.wait_exit().await.code(), Some(1));
    let message = "drain timeout reached: unfinished requests and connections are cut off";
    let line = gateway.wait_for_log_line(message, |_| true).await;
    assert_eq!((&line["cut_off"], &line["by_bucket"]), (&json!(3), &json!("photos 2, feeds 1")));
    assert_eq!((&line["connections"], &line["streams"]), (&json!(3), &json!(1)));
    for (client, answer) in &mut held {
        client.body(answer, "GET").await;
        assert!(answer.broken.is_some(), "it looks complete: {answer:?}");
    }
}

/// G3, G4: a bucket that a reload has removed keeps its name in the progress
#[tokio::test]
async fn a_removed_bucket_keeps_its_name() {
    let (photos, latch) = holding();
    let section = |name: &str| {
        format!(
            "[buckets.{name}]\nauth = [\"anonymous\"]\ns3.endpoints = [\"http://{}\"]\n",
            photos.address()
        )
    };
    let mut gateway = Gateway::builder().config(&(section("kept") + &section("gone"))).start().await;
    let (mut client, mut answer) = begun(&gateway, "/gone/a").await;
    std::fs::write(gateway.directory().join("tidegate.toml"), section("kept")).unwrap();
    assert_eq!(gateway.post("/reload").await.complete_status(), 200);
    gateway.send_sigterm();
    drain_when(&gateway, "the bucket is named", |drain| drain["buckets"] == json!({ "gone": 1 })).await;
    latch.open_for_all();
    client.body(&mut answer, "GET").await;
    assert_eq!(answer.complete_status(), 200);
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
}
