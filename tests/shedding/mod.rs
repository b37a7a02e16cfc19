//! Shedding by cursors: of a bucket's queue, and of the process.

mod bucket;
mod clients;
mod process;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;

use crate::support::gateway::Builder;
use crate::support::{Gateway, Upstream, request, wait_for};

/// The pause of a client after a refusal.
const PAUSE: Duration = Duration::from_millis(10);

/// API keys by name; the name is the priority or the weight of the client.
const KEYS: [(&str, &str); 5] = [
    ("urgent", "urgent-0123456789abcdef"),
    ("nightly", "nightly-0123456789abcdef"),
    ("light1", "light1-0123456789abcdef"),
    ("light2", "light2-0123456789abcdef"),
    ("heavy", "heavy-0123456789abcdef"),
];

fn secret(name: &str) -> &'static str {
    KEYS.iter().find(|(known, _)| *known == name).unwrap().1
}

/// A gateway with a bucket `b` with a gate of one, a long queue, a target of 20 ms, and the API keys.
fn shedding(upstream: &Upstream) -> Builder {
    let gateway = Gateway::builder()
        .bucket("b", upstream)
        .set("buckets.b.auth", "api_key,anonymous")
        // A slow machine must not refuse what the bucket's cursor admits.
        .set("shedding.target_wait_ms", "60000")
        .set("buckets.b.s3.concurrency.max_concurrent", "1")
        .set("buckets.b.s3.concurrency.max_queued", "1000")
        .set("server.request_timeout", "60")
        .set("buckets.b.s3.concurrency.queue_timeout_ms", "50000")
        .set("buckets.b.s3.concurrency.shedding.target_wait_ms", "20")
        .set("policies.all.buckets", "*")
        .set("policies.all.methods", "read,write,list");
    let gateway = KEYS.iter().fold(gateway, |gateway, (name, secret)| {
        gateway.set(&format!("api_keys.{name}.secret"), secret).set(&format!("api_keys.{name}.policy"), "all")
    });
    gateway.set("api_keys.urgent.priority", "high").set("api_keys.nightly.priority", "low")
}

/// Clients of one key that send one request after another, with a short pause after a refusal.
struct Flood {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    shed: Arc<AtomicU64>,
    other: Arc<AtomicU64>,
    clients: Vec<JoinHandle<()>>,
}

impl Flood {
    fn start(gateway: &Gateway, key: &str, target: &'static str, clients: usize) -> Self {
        let secret = secret(key);
        let mut flood = Self {
            stop: Arc::default(),
            served: Arc::default(),
            shed: Arc::default(),
            other: Arc::default(),
            clients: Vec::new(),
        };
        for _ in 0..clients {
            let (stop, address) = (Arc::clone(&flood.stop), gateway.address());
            let (served, shed, other) =
                (Arc::clone(&flood.served), Arc::clone(&flood.shed), Arc::clone(&flood.other));
            flood.clients.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let answer = request(address, "GET", target, &[("x-api-key", secret)], None).await;
                    let count = match (answer.status, answer.reason()) {
                        (200, _) => &served,
                        (503, "shed_bucket") => {
                            assert!(matches!(answer.retry_after(), Some(1..=10)), "{answer:?}");
                            tokio::time::sleep(PAUSE).await;
                            &shed
                        }
                        _ => &other,
                    };
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        flood
    }

    fn shed(&self) -> u64 {
        self.shed.load(Ordering::Relaxed)
    }

    async fn until_shed(&self, requests: u64) {
        wait_for(&format!("{requests} requests are shed"), || async {
            (self.shed() >= requests).then_some(())
        })
        .await;
    }

    /// Ends the flood. Returns the requests that were served, shed, and answered otherwise.
    async fn end(self) -> (u64, u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.unwrap();
        }
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.served), read(&self.shed), read(&self.other))
    }
}

async fn cursor(gateway: &Gateway, bucket: &str) -> Value {
    gateway.status().await["shedding"]["buckets"][bucket].clone()
}

/// Waits until the cursor of a bucket is 0 again.
async fn until_calm(gateway: &Gateway, bucket: &str) {
    wait_for("the cursor is 0 again", || async {
        (cursor(gateway, bucket).await["cursor"] == 0.0).then_some(())
    })
    .await;
}
