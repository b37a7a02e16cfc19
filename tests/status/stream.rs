//! `/status/stream`: snapshot, changes, samples, resume, authentication, malformed queries.

use std::time::Duration;

use serde_json::json;

use super::event_stream::EventStream;
use crate::support::{Client, Gateway, Upstream, WAIT_MAX, client, request, wait_for};

const STREAM: &str = "/status/stream";
const CHANGES: &str = "/status/stream?samples=false";

/// X7: the first event is the whole status; a real change of state is the second, with the events and the new causes
#[tokio::test]
async fn a_change_follows_the_snapshot() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.retry.max_attempts", "1")
        .set("buckets.b.s3.circuit_breaker.failure_threshold", "3")
        .start()
        .await;
    let mut stream = EventStream::open(&gateway, CHANGES, &[]).await;
    assert_eq!(
        (stream.header("cache-control"), stream.header("connection")),
        (Some("no-store"), Some("close"))
    );
    let snapshot = stream.next().await;
    assert_eq!((snapshot.kind.as_str(), &snapshot.data["status"]), ("snapshot", &json!("ok")));
    let status = gateway.status().await;
    let names = |of: &serde_json::Value| of.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&snapshot.data), names(&status), "the snapshot is the status document");

    upstream.stop().await;
    for _ in 0..3 {
        assert_eq!(gateway.get("/b/k").await.reason(), "upstream_connect");
    }
    let change = stream.next().await;
    assert_eq!(change.kind, "change", "{change:?}");
    assert_eq!(names(&change.data), ["causes", "events", "level", "sequence", "status", "summary"]);
    assert_eq!((&change.data["status"], &change.data["level"]), (&json!("critical"), &json!("normal")));
    assert_eq!(change.data["causes"][0]["code"], "circuit_open", "{}", change.data);
    let event = &change.data["events"][0];
    assert_eq!((&event["change"], &event["cause"]["code"]), (&json!("began"), &json!("circuit_open")));
    assert!(change.data["summary"].as_str().unwrap().contains("circuit_open"), "{}", change.data);
    assert!(snapshot.id.unwrap() < change.id.unwrap());
}

/// X7: a sample has the value of every series of the history, and the state of each bucket
#[tokio::test]
async fn samples_have_every_series() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).http_bucket("api", &upstream).start().await;
    let mut stream = EventStream::open(&gateway, STREAM, &[]).await;
    assert_eq!(stream.next().await.kind, "snapshot");
    // Sensors have no reading before the first sample of the monitor.
    let mut sample = stream.next_of("sample").await;
    while sample.data["values"]["sensor.memory"].is_null() {
        sample = stream.next_of("sample").await;
    }
    let document = gateway.admin("/status/history").await;
    let document: serde_json::Value = serde_json::from_slice(&document.body).unwrap();
    let series = document["series"].as_array().unwrap().iter().map(|series| series["name"].as_str().unwrap());
    let mut series: Vec<&str> = series.collect();
    series.sort_unstable();
    let values: Vec<&str> = sample.data["values"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(values, series);
    assert!(sample.data["at"].as_str().unwrap().ends_with('Z'), "{}", sample.data);
    let idle = json!({ "in_flight": 0, "queued": 0, "circuit": "closed" });
    assert_eq!(sample.data["buckets"], json!({ "api": idle, "b": idle }));
}

/// X7: a client that comes back gets what it missed and no snapshot; an ID of another process gets a snapshot
#[tokio::test]
async fn a_stream_resumes() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).chaos().start().await;
    let mut stream = EventStream::open(&gateway, CHANGES, &[]).await;
    let snapshot = stream.next().await;
    assert_eq!(snapshot.kind, "snapshot");
    gateway.crash("pool:b", "decide").await;
    let began = stream.next_of("change").await;
    assert_eq!(began.data["events"][0]["cause"]["code"], "actor_restarting", "{}", began.data);
    drop(stream);
    wait_for("the cause ends", || async {
        let status = gateway.status().await;
        (!status["causes"].to_string().contains("actor_restarting")).then_some(())
    })
    .await;

    let resumed_from = |id: Option<u64>| {
        let gateway = &gateway;
        async move {
            let id = id.unwrap().to_string();
            EventStream::open(gateway, CHANGES, &[("last-event-id", &id)]).await
        }
    };
    let mut first = resumed_from(snapshot.id).await;
    let again = first.next().await;
    assert_eq!((again.kind.as_str(), again.id, &again.data), ("change", began.id, &began.data));
    let ended = first.next().await;
    assert_eq!((ended.kind.as_str(), &ended.data["events"][0]["change"]), ("change", &json!("ended")));
    assert_eq!(resumed_from(began.id).await.next().await.id, ended.id);
    let mut current = resumed_from(ended.id).await;
    assert!(current.is_quiet_for(Duration::from_millis(500)).await, "nothing was missed");

    for id in ["1", "99999999999999999", "x", ""] {
        let mut stream = EventStream::open(&gateway, CHANGES, &[("last-event-id", id)]).await;
        assert_eq!(stream.next().await.kind, "snapshot", "{id}");
    }
}

/// X7, C4: the stream and the history need a token or a session, and the reading token is enough
#[tokio::test]
async fn a_stream_needs_a_token() {
    const READER: &str = "reader-0123456789abcdef0123456789ab";
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).set("admin.read_token", READER).start().await;
    for target in [STREAM, "/status/history"] {
        let answer = gateway.admin(target).await;
        assert_eq!(answer.complete_status(), 401, "{target}");
        assert!(answer.text().contains("token_required"), "{}", answer.text());
    }
    let bearer = format!("Bearer {READER}");
    let mut stream = EventStream::open(&gateway, STREAM, &[("authorization", &bearer)]).await;
    assert_eq!(stream.next().await.kind, "snapshot");
    let login =
        request(gateway.admin_address(), "POST", "/session", &[("authorization", &bearer)], None).await;
    let cookie = login.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let mut stream = EventStream::open(&gateway, STREAM, &[("cookie", &cookie)]).await;
    assert_eq!(stream.next().await.kind, "snapshot");
}

/// O5, C4: a logout ends the event streams of its session at once, and no other stream
#[tokio::test]
async fn a_logout_ends_the_streams_of_its_session() {
    const READER: &str = "reader-0123456789abcdef0123456789ab";
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).set("admin.read_token", READER).start().await;
    let (admin, bearer) = (gateway.admin_address(), format!("Bearer {READER}"));
    let mut cookies = Vec::new();
    for _ in 0..2 {
        let login = request(admin, "POST", "/session", &[("authorization", &bearer)], None).await;
        cookies.push(login.header("set-cookie").unwrap().split(';').next().unwrap().to_owned());
    }
    let mut by_token = EventStream::open(&gateway, STREAM, &[("authorization", &bearer)]).await;
    let mut other = EventStream::open(&gateway, STREAM, &[("cookie", &cookies[1])]).await;
    let mut ended = Vec::new();
    for target in [STREAM, CHANGES] {
        ended.push(EventStream::open(&gateway, target, &[("cookie", &cookies[0])]).await);
    }
    for stream in ended.iter_mut().chain([&mut by_token, &mut other]) {
        assert_eq!(stream.next().await.kind, "snapshot");
    }
    // The origin is that of `Host`, which `admin.hosts` has.
    let headers = [("cookie", cookies[0].as_str()), ("origin", "http://gateway.test")];
    let logout = request(admin, "DELETE", "/session", &headers, None).await;
    assert_eq!(logout.complete_status(), 204, "{}", logout.text());
    for mut stream in ended {
        // A sample may have been sent before the logout.
        let rest = async { while stream.try_next().await.is_some() {} };
        tokio::time::timeout(WAIT_MAX, rest).await.expect("the stream ends");
    }
    for stream in [&mut by_token, &mut other] {
        assert_eq!(stream.next_of("sample").await.kind, "sample");
    }
    let client = Client::connect(admin).await;
    let again = EventStream::try_open(client, STREAM, &[("cookie", &cookies[0])]).await;
    assert_eq!(again.err().map(|refused| refused.complete_status()), Some(401));
}

/// X7: a malformed query is refused and names the parameter; other methods are not accepted
#[tokio::test]
async fn malformed_queries_are_refused() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    for (target, part) in [
        ("/status/stream?samples=perhaps", "`samples` is neither true nor false"),
        ("/status/stream?sample=false", "no parameter `sample`"),
        ("/status/stream?samples=true&samples=true", "occurs twice"),
        ("/status/history?series=nothing", "none named `nothing`"),
        ("/status/history?series=", "`series` is empty"),
        ("/status/history?serie=x", "no parameter `serie`"),
        ("/status?x=1", "no parameter `x`; the path accepts none"),
        ("/config?x=1", "no parameter `x`; the path accepts none"),
    ] {
        let answer = gateway.admin(target).await;
        assert_eq!(answer.complete_status(), 400, "{target}");
        let text = answer.text();
        assert!(text.contains("invalid_parameter") && text.contains(part), "{target}: {text}");
    }
    let mut client = Client::connect(gateway.admin_address()).await;
    client.send(client::message("POST", STREAM, &[], Some(b""))).await;
    assert_eq!(client.response("POST").await.complete_status(), 405);
}
