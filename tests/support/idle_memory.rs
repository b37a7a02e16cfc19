//! The memory of an idle gateway, from which tests set limits of memory.

use std::cell::Cell;

use super::{Gateway, Upstream, wait_for};

/// Memory that has not grown for so many readings is settled.
const SETTLED_READINGS: u32 = 20;
const GROWTH_MIN: u64 = 1 << 17;

/// The memory of an idle gateway with one worker thread. It is the own memory of one with a configured limit.
pub(crate) async fn idle_memory(upstream: &Upstream) -> u64 {
    let idle = Gateway::builder().bucket("b", upstream).set("monitor.interval_ms", "20");
    settled_memory(&idle.set("server.workers", "1").start().await).await
}

/// The memory of a started gateway, when it no longer grows: on a busy machine the first readings are of an unfinished start.
pub(crate) async fn settled_memory(gateway: &Gateway) -> u64 {
    let highest = Cell::new((0, 0));
    wait_for("the memory no longer grows", || async {
        let bytes = gateway.status().await["memory"]["rss_bytes"].as_u64().unwrap_or_default();
        let (most, readings) = highest.get();
        highest.set(if bytes > most + GROWTH_MIN { (bytes, 0) } else { (most, readings + 1) });
        (most > 0 && readings >= SETTLED_READINGS).then_some(most)
    })
    .await
}
