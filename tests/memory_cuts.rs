//! Transfers that are cut because memory stays exhausted (X1), from their clients' view.
//!
//! An idle gateway exhausts the limit already, and only transfers have memory to free. The choice of the transfers to cut, and
//! that none is cut while memory is free, is tested in `tests/cgroups/test_buffers.py`.

use h2::Reason;

use crate::https::{self, Identity};
use crate::support::gateway::Builder;
use crate::support::idle_memory::idle_memory;
use crate::support::{Client, Gateway, Upstream, UpstreamReply, client, wait_for, wait_until};

const OBJECT_BYTES: usize = 8 << 20;
/// Transfers beside the observed one. Each request in flight counts with 1 MiB of memory that refusals would free.
const OTHERS: usize = 8;
/// The memory of an idle gateway beyond the limit.
const LACKING_BYTES: u64 = 2 << 20;

fn store() -> Upstream {
    Upstream::start(|_| UpstreamReply::ok(vec![b'x'; OBJECT_BYTES]))
}

/// Limits the memory so that an idle gateway exhausts it. Without the requests in flight there would be memory, so the actions are in
/// force until the end of the test; refusals are off, so that all transfers begin.
async fn limited(builder: Builder, upstream: &Upstream) -> Gateway {
    let limit = idle_memory(upstream).await - LACKING_BYTES;
    builder
        .set("monitor.memory_limit_bytes", &limit.to_string())
        .set("monitor.interval_ms", "50")
        .set("monitor.dwell_ms", "60000")
        .set("actions.shed_requests.mode", "off")
        .set("server.min_send_rate", "0")
        .set("server.min_body_rate", "0")
        // As many as the idle gateway has.
        .set("server.workers", "1")
        .start()
        .await
}

/// Unread downloads, until transfers are paused.
async fn exhaust(gateway: &Gateway) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..OTHERS {
        let mut client = Client::connect_from([127, 0, 0, 1], gateway.address(), Some(1)).await;
        client.send(client::message("GET", "/b/other", &[], None)).await;
        clients.push(client);
    }
    wait_for("transfers are paused", || async {
        (gateway.metric("transfers_paused_total").await > 0.0).then_some(())
    })
    .await;
    clients
}

async fn are_cut(gateway: &Gateway) {
    wait_for("transfers are cut", || async {
        (gateway.metric("transfers_cut_total").await > 0.0).then_some(())
    })
    .await;
    for (action, counter) in
        [("pause_transfers", "transfers_paused_total"), ("cut_transfers", "transfers_cut_total")]
    {
        wait_for("the status counts what the action has touched", || async {
            let touched = crate::ladder::action(gateway, action).await["touched"].as_f64();
            let counted = gateway.metric(counter).await;
            (touched == Some(counted) && counted > 0.0).then_some(())
        })
        .await;
    }
    let query = "/decisions?reason=memory_pressure";
    let record = wait_for("a cut has a record", || async {
        let answer = gateway.admin(query).await;
        let found: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        found["decisions"].get(0).cloned()
    })
    .await;
    let (measured, threshold) = (record["measured"].as_f64().unwrap(), record["threshold"].as_f64().unwrap());
    assert!(measured >= threshold, "{record}");
    // A cut follows a pause of ten seconds, so an earlier sample found the level: it ends below `monitor.critical`.
    assert_eq!((threshold, &record["unit"]), (90.0, &"%".into()), "{record}");
    assert_eq!(record["config"]["key"], "monitor.critical", "{record}");
    assert_eq!(record["actor"]["name"], "monitor", "{record}");
    let id = record["request_id"].as_str().unwrap();
    let answer = gateway.admin(&format!("/decisions?reason=transfer_pause&request_id={id}")).await;
    let found: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let pause = &found["decisions"][0];
    assert_eq!((&pause["kind"], &pause["unit"]), (&"queued".into(), &"%".into()), "{found}");
}

/// X1, X2, O4, T6: a cut HTTP/1.1 download does not look complete: the connection is reset
#[tokio::test]
async fn a_cut_download_of_http1_is_reset() {
    let upstream = store();
    let gateway = limited(Gateway::builder().bucket("b", &upstream), &upstream).await;
    let mut watched = Client::connect_from([127, 0, 0, 1], gateway.address(), Some(1)).await;
    watched.send(client::message("GET", "/b/k", &[], None)).await;
    assert_eq!(watched.head().await.status, 200);
    let _others = exhaust(&gateway).await;
    are_cut(&gateway).await;
    gateway
        .wait_for_log_line("request", |line| line["reason"] == "memory_pressure" && line["path"] == "/b/k")
        .await;
    let mut taken = 0;
    let end = loop {
        match watched.read_some().await {
            Ok(bytes) => taken += bytes.len(),
            Err(end) => break end,
        }
    };
    assert!(end.contains("reset"), "{end}");
    assert!(taken < OBJECT_BYTES, "{taken}");
}

/// X1, T6: the stream of a cut HTTP/2 download is reset, and its connection stays open
#[tokio::test]
async fn a_cut_download_of_http2_resets_its_stream() {
    let (identity, upstream) = (Identity::new(), store());
    let gateway = limited(identity.named(Gateway::builder().bucket("b", &upstream)), &upstream).await;
    let (watched, others) = (identity.http2(&gateway).await, identity.http2(&gateway).await);
    let (answer, _sending) = watched.begin("GET", "/b/k", &[], true).await;
    let (answer, mut body) = https::head(answer).await.unwrap();
    assert_eq!(answer.status, 200);
    let mut unread = Vec::new();
    for _ in 0..OTHERS {
        unread.push(others.begin("GET", "/b/other", &[], true).await);
    }
    are_cut(&gateway).await;
    gateway
        .wait_for_log_line("request", |line| line["reason"] == "memory_pressure" && line["path"] == "/b/k")
        .await;
    let end = loop {
        match body.data().await.expect("the body is incomplete") {
            Ok(_) => {}
            Err(end) => break end,
        }
    };
    assert!(end.is_remote() && end.is_reset(), "{end}");
    assert_eq!(end.reason(), Some(Reason::CANCEL), "{end}");
    let (next, _sending) = watched.begin("GET", "/-/livez", &[], true).await;
    assert_eq!(https::head(next).await.unwrap().0.status, 200, "the connection stays open");
}

/// X1: a cut upload gets 503 with its reason, and no failure of its upstream is counted
#[tokio::test]
async fn a_cut_upload_is_refused() {
    let upstream = store();
    let gateway = limited(Gateway::builder().bucket("b", &upstream), &upstream).await;
    let mut watched = Client::connect(gateway.address()).await;
    watched.send(format!("PUT /b/k HTTP/1.1\r\nhost: a\r\ncontent-length: {OBJECT_BYTES}\r\n\r\n")).await;
    watched.send(vec![b'x'; 1 << 20]).await;
    wait_until("the upload is in flight", || upstream.connections() == 1).await;
    let _others = exhaust(&gateway).await;
    are_cut(&gateway).await;
    let answer = watched.response("PUT").await;
    assert_eq!((answer.complete_status(), answer.reason()), (503, "memory_pressure"), "{answer:?}");
    assert!(watched.is_closed().await);
    assert_eq!(gateway.status().await["buckets"]["b"]["breaker"]["write"]["consecutive_failures"], 0);
}
