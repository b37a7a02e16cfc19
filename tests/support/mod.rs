//! The test fixtures: a gateway (the real binary), a scripted upstream, and a client that sees every byte.
//!
//! They do not depend on the gateway's internals.

pub(crate) mod client;
pub(crate) mod gateway;
pub(crate) mod idle_memory;
mod launch;
pub(crate) mod link;
mod log_pipe;
mod process;
mod replaceable_upstream;
pub(crate) mod scratch;
mod shedding;
pub(crate) mod unreachable;
pub(crate) mod upstream;

use std::future::Future;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngCore as _, SeedableRng as _};

pub(crate) use client::{Client, Response, get, head, put, request};
pub(crate) use gateway::Gateway;
pub(crate) use replaceable_upstream::ReplaceableUpstream;
pub(crate) use scratch::Scratch;
pub(crate) use upstream::{Latch, SeenRequest, Upstream, UpstreamReply};

/// A body without a pattern, so that a lost or repeated chunk is detected.
pub(crate) fn random_bytes(bytes: usize) -> Vec<u8> {
    let mut random = vec![0; bytes];
    SmallRng::seed_from_u64(1).fill_bytes(&mut random);
    random
}

/// The timeout of any wait. Many tests share two cores.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(10);

/// Waits until `look` returns a value; fails with `what` at the timeout.
pub(crate) async fn wait_for<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(began.elapsed() < WAIT_MAX, "timeout: {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until `holds` is true; fails with `what` at the timeout.
pub(crate) async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    wait_for(what, || {
        let held = holds();
        async move { held.then_some(()) }
    })
    .await;
}
