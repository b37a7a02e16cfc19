//! Adaptive concurrency against a real upstream: the limit falls while the upstream is overloaded, and rises again
//! afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::support::gateway::Builder;
use crate::support::{Client, Gateway, SeenRequest, Upstream, UpstreamReply, client, wait_for};

pub(crate) const MAX: usize = 24;
const ANYTHING: usize = usize::MAX;

/// An upstream with an adjustable fault: its behaviour depends on a level and on its number of concurrent requests.
struct FaultyUpstream {
    upstream: Upstream,
    level: Arc<AtomicUsize>,
    peak: Arc<AtomicUsize>,
}

impl FaultyUpstream {
    fn start(reply: impl Fn(&SeenRequest, usize) -> UpstreamReply + Send + Sync + 'static) -> Self {
        let (level, peak) = (Arc::new(AtomicUsize::new(ANYTHING)), Arc::new(AtomicUsize::new(0)));
        let (of_level, of_peak) = (Arc::clone(&level), Arc::clone(&peak));
        let upstream = Upstream::start(move |seen| {
            of_peak.fetch_max(seen.in_flight, Ordering::SeqCst);
            reply(seen, of_level.load(Ordering::SeqCst))
        });
        Self { upstream, level, peak }
    }

    fn set(&self, level: usize) {
        self.level.store(level, Ordering::SeqCst);
    }

    /// Waits for 100 requests in which the concurrency stayed at or below `most` and reached `least` at least once.
    async fn reaches_concurrency(&self, least: usize, most: usize) {
        let mut began = self.upstream.count();
        self.peak.store(0, Ordering::SeqCst);
        wait_for(&format!("its concurrency is {least} to {most}"), || {
            let (count, peak) = (self.upstream.count(), self.peak.load(Ordering::SeqCst));
            let is_over = count >= began + 100;
            if is_over {
                began = count;
                self.peak.store(0, Ordering::SeqCst);
            }
            async move { (is_over && (least..=most).contains(&peak)).then_some(()) }
        })
        .await;
    }
}

pub(crate) fn adaptive(upstream: &Upstream, latency_tolerance: &str) -> Builder {
    let key = |name: &str| format!("buckets.b.s3.{name}");
    Gateway::builder()
        .bucket("b", upstream)
        .set(&key("retry.max_attempts"), "1")
        .set(&key("concurrency.max_concurrent"), &MAX.to_string())
        .set(&key("concurrency.max_queued"), "1000")
        .set(&key("concurrency.queue_timeout_ms"), "30000")
        .set(&key("concurrency.adaptive.enabled"), "true")
        .set(&key("concurrency.adaptive.min"), "2")
        .set(&key("concurrency.adaptive.interval_ms"), "20")
        .set(&key("concurrency.adaptive.latency_tolerance"), latency_tolerance)
}

/// Clients that send requests without a pause, until they are dropped.
pub(crate) struct Demand {
    over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Demand {
    pub(crate) fn on(gateway: &Gateway) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let clients = (0..MAX).map(|_| {
            let (address, over) = (gateway.address(), Arc::clone(&over));
            tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                while !over.load(Ordering::SeqCst) {
                    client.send(client::message("GET", "/b/k", &[], None)).await;
                    client.response("GET").await;
                }
            })
        });
        Self { clients: clients.collect(), over }
    }

    pub(crate) async fn end(self) {
        self.over.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.await.unwrap();
        }
    }
}

pub(crate) async fn limit(gateway: &Gateway) -> usize {
    let status = gateway.status().await;
    let limit = &status["buckets"]["b"]["pool"]["adaptive"]["limit"];
    usize::try_from(limit.as_u64().unwrap_or_else(|| panic!("no limit in {status}"))).unwrap()
}

async fn limit_is_within(gateway: &Gateway, least: usize, most: usize) {
    wait_for(&format!("the limit is {least} to {most}"), || async {
        (least..=most).contains(&limit(gateway).await).then_some(())
    })
    .await;
}

async fn reductions(gateway: &Gateway, cause: &str) -> f64 {
    let labels = format!("{{bucket=\"b\",cause=\"{cause}\"}}");
    gateway.metric(&format!("bucket_concurrency_limit_reductions_total{labels}")).await
}

/// P7, B3: throttling lowers the concurrency at the upstream and opens no circuit; when the upstream accepts more, the
/// concurrency rises
#[tokio::test]
async fn throttling_lowers_concurrency_and_opens_no_circuit() {
    let faulty = FaultyUpstream::start(|seen, most| {
        if seen.in_flight > most {
            return UpstreamReply::s3_error(503, "SlowDown");
        }
        UpstreamReply::ok("x").delayed(Duration::from_millis(30))
    });
    let gateway = adaptive(&faulty.upstream, "100").start().await;
    assert_eq!(limit(&gateway).await, 2, "the limit starts at the floor");
    let demand = Demand::on(&gateway);
    limit_is_within(&gateway, MAX, MAX).await;
    faulty.reaches_concurrency(MAX - 4, MAX).await;
    faulty.set(6);
    limit_is_within(&gateway, 2, 7).await;
    faulty.reaches_concurrency(3, 8).await;
    assert!(reductions(&gateway, "throttling").await >= 1.0);
    assert_eq!(reductions(&gateway, "timeouts").await, 0.0);
    let status = gateway.status().await;
    let bucket = &status["buckets"]["b"];
    assert_eq!(bucket["breaker"]["read"]["opened_total"], 0, "{bucket}");
    assert_eq!(bucket["pool"]["max_concurrent"], MAX);
    faulty.set(ANYTHING);
    limit_is_within(&gateway, MAX, MAX).await;
    faulty.reaches_concurrency(MAX - 4, MAX).await;
    assert_eq!(gateway.metric("bucket_concurrency_limit{bucket=\"b\"}").await, MAX as f64);
    assert_eq!(gateway.status().await["buckets"]["b"]["pool"]["adaptive"]["cause"], "use");
    demand.end().await;
    gateway.wait_until_idle().await;
}

/// P7: timeouts lower the concurrency to the configured floor, and it recovers afterwards
#[tokio::test]
async fn timeouts_lower_concurrency_to_the_floor() {
    let faulty = FaultyUpstream::start(|_, level| match level {
        ANYTHING => UpstreamReply::ok("x").delayed(Duration::from_millis(30)),
        _ => UpstreamReply::hang(),
    });
    let gateway = adaptive(&faulty.upstream, "100")
        .set("buckets.b.s3.timeout", "0.3")
        .set("buckets.b.s3.circuit_breaker.mode", "off")
        .start()
        .await;
    let demand = Demand::on(&gateway);
    limit_is_within(&gateway, MAX, MAX).await;
    faulty.set(0);
    limit_is_within(&gateway, 2, 2).await;
    assert!(reductions(&gateway, "timeouts").await >= 3.0);
    assert_eq!(gateway.status().await["buckets"]["b"]["pool"]["adaptive"]["cause"], "timeouts");
    faulty.set(ANYTHING);
    limit_is_within(&gateway, MAX, MAX).await;
    demand.end().await;
    gateway.wait_until_idle().await;
}

/// P7: latency that grows with concurrency lowers the limit to about the upstream's capacity, and the limit rises with
/// the capacity
#[tokio::test]
async fn latency_lowers_concurrency_to_the_capacity() {
    /// So long that the delays of a busy machine are small beside it.
    const CONSTANT: Duration = Duration::from_millis(150);
    // Up to the capacity the latency is constant; beyond it the requests share the capacity.
    let faulty = FaultyUpstream::start(|seen, capacity| {
        let crowd = seen.in_flight.div_ceil(capacity.min(MAX));
        UpstreamReply::ok("x").delayed(CONSTANT * u32::try_from(crowd).unwrap())
    });
    let gateway = adaptive(&faulty.upstream, "1.9").start().await;
    let demand = Demand::on(&gateway);
    limit_is_within(&gateway, MAX, MAX).await;
    faulty.set(4);
    limit_is_within(&gateway, 2, 9).await;
    faulty.reaches_concurrency(2, 9).await;
    assert!(reductions(&gateway, "latency").await >= 1.0);
    faulty.set(ANYTHING);
    limit_is_within(&gateway, MAX, MAX).await;
    demand.end().await;
    gateway.wait_until_idle().await;
}

/// P7, B3: adaptive concurrency is off by default; throttling then changes no limit and opens no circuit
#[tokio::test]
async fn the_limit_is_constant_unless_adaptive_is_enabled() {
    let upstream = Upstream::start(|_| UpstreamReply::s3_error(503, "SlowDown"));
    let gateway =
        adaptive(&upstream, "2").set("buckets.b.s3.concurrency.adaptive.enabled", "false").start().await;
    for _ in 0..50 {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 503);
    }
    assert_eq!(upstream.count(), 50);
    let status = gateway.status().await;
    assert_eq!(status["buckets"]["b"]["pool"]["adaptive"], serde_json::Value::Null);
    assert_eq!(status["buckets"]["b"]["breaker"]["read"]["opened_total"], 0);
    assert_eq!(gateway.metric("bucket_concurrency_limit{bucket=\"b\"}").await, MAX as f64);
    assert!(!gateway.metrics().await.contains("limit_reductions_total"), "it cannot be lowered");
}
