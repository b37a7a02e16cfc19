//! Actions that end what is in progress: pauses and cuts of transfers in shadow mode. `tests/memory_cuts.rs` has them enforced.

use std::time::Duration;

use serde_json::Value;

use super::{action, assert_touched};
use crate::support::idle_memory::idle_memory;
use crate::support::{Client, Gateway, Upstream, UpstreamReply, client, wait_for};

const OBJECT_BYTES: usize = 8 << 20;
const DOWNLOADS: usize = 9;

/// A gateway without memory that pauses transfers in shadow mode, and downloads of it that are not read.
async fn with_downloads(upstream: &Upstream, cut_mode: &str) -> (Gateway, Vec<Client>) {
    // An idle gateway exhausts the limit, and without the requests in flight there would be memory.
    let limit = idle_memory(upstream).await - (2 << 20);
    let gateway = Gateway::builder()
        .bucket("b", upstream)
        .set("monitor.memory_limit_bytes", &limit.to_string())
        .set("monitor.interval_ms", "50")
        .set("monitor.dwell_ms", "60000")
        .set("server.workers", "1")
        .set("server.min_send_rate", "0")
        .set("actions.shed_requests.mode", "off")
        .set("actions.pause_transfers.mode", "shadow")
        .set("actions.cut_transfers.mode", cut_mode)
        .start()
        .await;
    let mut downloads = Vec::new();
    for _ in 0..DOWNLOADS {
        let mut download = Client::connect_from([127, 0, 0, 1], gateway.address(), Some(1)).await;
        download.send(client::message("GET", "/b/k", &[], None)).await;
        assert_eq!(download.head().await.status, 200);
        downloads.push(download);
    }
    (gateway, downloads)
}

async fn none_is_cut(gateway: &Gateway, downloads: &mut [Client]) {
    for counter in ["transfers_paused_total", "transfers_cut_total"] {
        assert_eq!(gateway.metric(counter).await, 0.0, "{counter}");
    }
    for download in downloads {
        let mut taken = 0;
        while taken < OBJECT_BYTES {
            taken += download.read_some().await.expect("no download is cut").len();
        }
        assert_eq!(taken, OBJECT_BYTES);
    }
}

/// X2, X11: in shadow mode the largest transfers are counted, each once, and none is paused or cut
#[tokio::test]
async fn shadow_mode_pauses_and_cuts_nothing() {
    let upstream = Upstream::start(|_| UpstreamReply::ok(vec![b'x'; OBJECT_BYTES]));
    let (gateway, mut downloads) = with_downloads(&upstream, "shadow").await;
    wait_for("transfers would have been cut", || async {
        (action(&gateway, "cut_transfers").await["touched"].as_u64() > Some(0)).then_some(())
    })
    .await;
    let touched = async |name| action(&gateway, name).await["touched"].as_u64().unwrap();
    let (cut, paused) = (touched("cut_transfers").await, touched("pause_transfers").await);
    assert!((1..=DOWNLOADS as u64).contains(&cut) && cut <= paused && paused <= DOWNLOADS as u64);
    assert_eq!(action(&gateway, "pause_transfers").await["mode"], "shadow");
    none_is_cut(&gateway, &mut downloads).await;
    for (reason, name, end) in
        [("transfer_pause", "pause_transfers", "paused"), ("memory_pressure", "cut_transfers", "ended")]
    {
        let records = records(&gateway, reason, name).await;
        for record in &records {
            assert_eq!((&record["kind"], &record["shadow"]), (&"shadow".into(), &true.into()), "{record}");
            assert_eq!((&record["bucket"], &record["unit"]), (&"b".into(), &"%".into()), "{record}");
            assert!(record["measured"].as_f64() >= record["threshold"].as_f64(), "{record}");
            assert_eq!(record["actor"]["name"], "monitor", "{record}");
        }
        let id = records[0]["request_id"].as_str().unwrap();
        let story = gateway.admin(&format!("/explain?request_id={id}")).await.text();
        assert!(story.contains(&format!("was not {end} for the reason `{reason}`")), "{story}");
    }
}

/// The records with this reason, once there are as many as the action has touched transfers. More can follow at any time.
async fn records(gateway: &Gateway, reason: &str, name: &str) -> Vec<Value> {
    wait_for(&format!("each effect of {name} has a record"), || async {
        let touched = action(gateway, name).await["touched"].as_u64().unwrap();
        let found = gateway.admin(&format!("/decisions?reason={reason}")).await;
        let found: Value = serde_json::from_slice(&found.body).unwrap();
        let found = found["decisions"].as_array().unwrap().clone();
        (found.len() as u64 == touched).then_some(found)
    })
    .await
}

/// X2, X11: a cut needs a pause. With pauses in shadow mode no transfer has one, so none is cut and none is counted as cut
#[tokio::test]
async fn pauses_in_shadow_mode_lead_to_no_cut() {
    let upstream = Upstream::start(|_| UpstreamReply::ok(vec![b'x'; OBJECT_BYTES]));
    let (gateway, mut downloads) = with_downloads(&upstream, "enforce").await;
    wait_for("transfers would have been paused", || async {
        (action(&gateway, "pause_transfers").await["touched"].as_u64() > Some(0)).then_some(())
    })
    .await;
    // A pause lasts ten seconds, and the next sample would cut.
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(action(&gateway, "cut_transfers").await["in_force"], true);
    assert_touched(&gateway, "cut_transfers", "enforce", 0).await;
    none_is_cut(&gateway, &mut downloads).await;
    let pauses = records(&gateway, "transfer_pause", "pause_transfers").await;
    assert!(pauses.iter().all(|record| record["shadow"] == true), "{pauses:?}");
    assert_eq!(records(&gateway, "memory_pressure", "cut_transfers").await, Vec::<Value>::new());
}
