//! Hostile HTTP/2 clients: floods, slow readers, stuck uploads, malformed requests.
//!
//! The attacker writes raw frames. Other clients use connections of their own, and all their requests must succeed.

mod draining;
mod floods;
mod malformed;
mod raw;
mod shared_records;
mod slow_reads;
mod stalled_uploads;
mod window_waits;
mod windows;

use std::time::Duration;

use crate::https::{Http2, Identity};
use crate::support::{Gateway, wait_for};

/// Memory that the process may use above its idle memory during an attack.
const EXTRA_BYTES_MAX: u64 = 64 << 20;

/// The resident memory of the gateway's process.
fn resident_bytes(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Memory of the gateway after its first requests.
async fn idle_bytes(neighbour: &Http2, gateway: &Gateway) -> u64 {
    for _ in 0..20 {
        assert_eq!(neighbour.get("/b/k").await.complete_status(), 200);
    }
    gateway.wait_until_idle().await;
    resident_bytes(gateway)
}

/// Runs `hostile` beside a normal client: the client's requests succeed, and the memory stays flat.
async fn beside<T>(identity: &Identity, gateway: &Gateway, hostile: impl AsyncFnOnce() -> T) -> T {
    let neighbour = identity.http2(gateway).await;
    let idle = idle_bytes(&neighbour, gateway).await;
    let requests = async {
        for _ in 0..20 {
            assert_eq!(neighbour.get("/b/k").await.complete_status(), 200);
            tokio::time::sleep(Duration::from_millis(5)).await;
            let extra = resident_bytes(gateway).saturating_sub(idle);
            assert!(extra < EXTRA_BYTES_MAX, "the gateway used {extra} bytes more than idle");
        }
    };
    let (result, ()) = tokio::join!(hostile(), requests);
    let extra = resident_bytes(gateway).saturating_sub(idle);
    assert!(extra < EXTRA_BYTES_MAX, "the gateway used {extra} bytes more than idle");
    assert_eq!(neighbour.get("/b/k").await.complete_status(), 200);
    result
}

/// Waits until a flood is logged and counted.
async fn is_counted_as_flood(gateway: &Gateway) {
    gateway.wait_for_log_line("request", |line| line["reason"] == "frame_flood").await;
    wait_for("it is counted", || async {
        (gateway.metric("unrouted_total{reason=\"frame_flood\"}").await >= 1.0).then_some(())
    })
    .await;
}
