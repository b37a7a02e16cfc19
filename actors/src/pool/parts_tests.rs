//! Pools of running actors that follow one another (G3, P3, P5, C3, O3).

use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use slog::{Discard, Logger, o};
use tidegate_config::{Config, Priority, Sources};

use super::*;
use crate::actor_stats::ActorStatus;
use crate::chaos::{Crash, CrashPoint};
use crate::clock;
use crate::events::ActorEvents;
use crate::mailbox::AskError;
use crate::pool::credentials::credential::{CredentialError, CredentialId, CredentialState};
use crate::pool::credentials::refusal_evidence::CredentialCheckResult;
use crate::pool::gate::ticket::{EndpointId, Permit};
use crate::pool::load_balancer::endpoint::{EndpointState, FailureKind};
use crate::pool::rejection::PoolRejection;
use crate::system::{ActorSystem, Actors, prepare_with_seed};
use crate::types::BucketId;

/// A bucket with these endpoints by port, and these keys.
fn config(ports: &[u16], keys: &str) -> Config {
    let endpoints: Vec<String> = ports.iter().map(|port| format!("\"http://127.0.0.1:{port}\"")).collect();
    let endpoints = endpoints.join(", ");
    let text = format!("[buckets.b]\nauth = [\"anonymous\"]\ns3.endpoints = [{endpoints}]\n{keys}");
    tidegate_config::load(Sources::default().text("test.toml", text)).unwrap()
}

fn credentials(of: &[(&str, &str, usize)]) -> String {
    let one = |(name, secret, max): &(&str, &str, usize)| {
        format!(
            "s3.credentials.{name} = {{ access_key_id = \"AK{name}\", secret_access_key = \"{secret}\", \
             max_concurrent = {max} }}\n"
        )
    };
    of.iter().map(one).collect()
}

/// A bucket's current pool and the ones before it, all running on the test's thread.
struct Bucket {
    actors: Actors,
    registry: Registry,
    config: Config,
    pool: PoolHandle,
}

impl Bucket {
    fn start(config: Config) -> Self {
        let (registry, log) = (Registry::new(), Logger::root(Discard, o!()));
        let events = (7, ActorEvents::default());
        let ActorSystem { actors, pools, launches, .. } =
            prepare_with_seed(&config, &registry, &log, events).unwrap();
        launches.distribute(1).remove(0).into_iter().for_each(|launch| launch.start());
        let pool = pools[0].clone();
        Self { actors, registry, config, pool }
    }

    fn upstream(config: &Config) -> &UpstreamConfig {
        &config.buckets["b"].upstream
    }

    /// Replaces the pool; returns the old one.
    async fn reload(&mut self, config: Config) -> PoolHandle {
        let change = (Self::upstream(&self.config), Self::upstream(&config));
        let seed = self.pool.hand_over().await;
        let (next, launch) = {
            let spawner = self.actors.spawner(&config, &ActorEvents::default());
            self.actors.pool_successor(&spawner, ("b", BucketId::new(0)), (&self.pool, seed), change)
        };
        launch.start();
        self.config = config;
        let old = std::mem::replace(&mut self.pool, next);
        settle().await;
        old
    }

    /// The label values of a family's series.
    fn series(&self, family: &str) -> Vec<String> {
        let families = self.registry.gather();
        let of = families.iter().find(|one| one.name() == family);
        let labels = |one: &prometheus::proto::Metric| {
            one.get_label().iter().map(|label| label.value().to_owned()).collect::<Vec<_>>().join(" ")
        };
        of.map(|of| of.get_metric().iter().map(labels).collect()).unwrap_or_default()
    }
}

/// Lets the actors handle their messages.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

async fn acquire(pool: &PoolHandle) -> Result<Permit, PoolRejection> {
    pool.acquire(Priority::Normal, clock::now() + Duration::from_secs(5)).await
}

fn eject(pool: &PoolHandle, endpoint: usize) {
    let now = clock::now();
    (0..5).for_each(|_| {
        pool.report_failure(EndpointId(endpoint), FailureKind::Status, now, now);
    });
}

fn states(pool: &PoolHandle) -> Vec<EndpointState> {
    pool.view(clock::now()).endpoints.iter().map(|endpoint| endpoint.state).collect()
}

/// G3, P5: an ejected endpoint stays ejected by its name, wherever the new configuration lists it; a new one is in rotation
#[actix_rt::test]
async fn endpoints_keep_their_state_by_name() {
    let mut bucket = Bucket::start(config(&[1, 2, 3, 4], ""));
    eject(&bucket.pool, 1);
    settle().await;
    let before = states(&bucket.pool);
    assert!(matches!(before[1], EndpointState::Ejected(..)), "{before:?}");
    let old = bucket.reload(config(&[9, 3, 2, 1], "")).await;
    let in_rotation = EndpointState::InRotation;
    assert_eq!(states(&bucket.pool), [in_rotation, in_rotation, before[1], in_rotation]);
    for _ in 0..20 {
        let permit = acquire(&bucket.pool).await.unwrap();
        assert_ne!(permit.endpoint(), EndpointId(2));
        assert_eq!(bucket.pool.view(clock::now()).endpoints[permit.endpoint().0].in_flight, 1);
    }
    assert_ne!(acquire(&old).await.unwrap().endpoint(), EndpointId(1), "by its own indices");
    bucket.reload(config(&[2], "")).await;
    assert_eq!(states(&bucket.pool), [in_rotation], "the only endpoint is always called");
}

/// G3, P5: requests of the replaced pool count for the load of the endpoint in the new one
#[actix_rt::test]
async fn the_load_of_an_endpoint_is_that_of_both_pools() {
    let mut bucket = Bucket::start(config(&[1], ""));
    let held = [acquire(&bucket.pool).await.unwrap(), acquire(&bucket.pool).await.unwrap()];
    let old = bucket.reload(config(&[2, 1], "")).await;
    let loads = |pool: &PoolHandle| -> Vec<usize> {
        pool.view(clock::now()).endpoints.iter().map(|endpoint| endpoint.in_flight).collect()
    };
    assert_eq!((loads(&old), loads(&bucket.pool)), (vec![2], vec![0, 2]));
    assert_eq!((bucket.pool.in_flight(), old.in_flight()), (2, 2));
    drop(held);
    assert_eq!(loads(&bucket.pool), [0, 0]);
}

/// G3, P3: the gate is one for both pools: a lower limit holds at once, and a crash of either pool changes nothing
#[actix_rt::test]
async fn both_pools_share_the_gate() {
    let limit = |limit: usize| config(&[1], &format!("s3.concurrency.max_concurrent = {limit}\n"));
    let mut bucket = Bucket::start(limit(3));
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(acquire(&bucket.pool).await.unwrap());
    }
    let old = bucket.reload(limit(2)).await;
    let pools = [&old, &bucket.pool];
    for point in [CrashPoint::Decide, CrashPoint::Apply, CrashPoint::Applied] {
        for pool in pools {
            pool.actor().crash(Crash { point, next_message: false });
            settle().await;
            assert_eq!((pool.limit(), pool.in_flight(), pool.has_free_permit()), (2, 3, false), "{point:?}");
        }
    }
    held.pop();
    for pool in pools {
        let deadline = clock::now() + Duration::from_millis(20);
        let refused = pool.acquire(Priority::Normal, deadline).await.unwrap_err();
        assert!(matches!(refused, PoolRejection::QueueTimeout { .. }), "{refused:?}");
    }
    held.pop();
    let last = acquire(&bucket.pool).await.unwrap();
    assert_eq!(old.in_flight(), 2);
    drop((held, last));
    let waiters = (acquire(&old).await.unwrap(), acquire(&bucket.pool).await.unwrap());
    assert_eq!(old.in_flight(), 2);
    drop(waiters);
}

fn credential_states(pool: &PoolHandle) -> Vec<CredentialState> {
    pool.view(clock::now()).credentials.iter().map(|credential| credential.state).collect()
}

/// G3, C3: a credential that cools down or is refused stays so by its name; one that was replaced is tried at once
#[actix_rt::test]
async fn credentials_keep_their_state_by_name() {
    let keys = [("a", "1", 4), ("b", "1", 4), ("c", "1", 4)];
    let mut bucket = Bucket::start(config(&[1], &credentials(&keys)));
    let asked = CredentialError::Throttled(Some(Duration::from_secs(60)));
    bucket.pool.report_credential_error(CredentialId(0), asked);
    bucket.pool.report_credential_check(CredentialId(1), CredentialCheckResult::Refused, clock::now());
    settle().await;
    let before = credential_states(&bucket.pool);
    assert!(matches!(
        before[..],
        [CredentialState::CoolingDown(_), CredentialState::Refused(_), CredentialState::InUse]
    ));
    let next = [("0", "1", 4), ("a", "other", 4), ("b", "1", 4), ("c", "1", 4)];
    bucket.reload(config(&[1], &credentials(&next))).await;
    let in_use = CredentialState::InUse;
    assert_eq!(credential_states(&bucket.pool), [in_use, before[0], before[1], in_use]);
    let next = [("a", "other", 4), ("b", "replaced", 4)];
    bucket.reload(config(&[1], &credentials(&next))).await;
    assert_eq!(credential_states(&bucket.pool), [before[0], in_use]);
}

/// G3, C3, P3: the requests of both pools together keep a credential's limit, and a lower one holds at once
#[actix_rt::test]
async fn both_pools_share_a_credentials_limit() {
    let mut bucket = Bucket::start(config(&[1], &credentials(&[("a", "1", 3)])));
    let held = [acquire(&bucket.pool).await.unwrap(), acquire(&bucket.pool).await.unwrap()];
    let old = bucket.reload(config(&[1], &credentials(&[("a", "1", 2)]))).await;
    for pool in [&old, &bucket.pool] {
        let deadline = clock::now() + Duration::from_millis(20);
        assert!(pool.acquire(Priority::Normal, deadline).await.is_err());
        assert_eq!(pool.view(clock::now()).credentials[0].in_flight, 2);
    }
    let waiting = acquire(&bucket.pool);
    let (_, got) = tokio::join!(async { drop(held) }, waiting);
    assert!(got.is_ok(), "{got:?}");
}

/// G3, P7: the learnt limit stays within the new bounds, and its reductions are counted on
#[actix_rt::test]
async fn a_learnt_limit_stays() {
    let adaptive = |min: usize, max: usize| {
        let keys = format!(
            "s3.concurrency.adaptive.enabled = true\ns3.concurrency.adaptive.min = {min}\n\
             s3.concurrency.max_concurrent = {max}\n"
        );
        config(&[1], &keys)
    };
    let mut bucket = Bucket::start(adaptive(5, 50));
    assert_eq!(bucket.pool.limit(), 5);
    bucket.reload(adaptive(10, 50)).await;
    assert_eq!(bucket.pool.limit(), 10, "the new floor");
    let old = bucket.reload(adaptive(2, 50)).await;
    assert_eq!((bucket.pool.limit(), old.limit()), (10, 10), "learnt");
    hold_down(&bucket.pool).await;
    bucket.reload(adaptive(3, 50)).await;
    assert_eq!(bucket.pool.limit(), 10, "as published by a pool that does not answer");
    bucket.reload(adaptive(2, 4)).await;
    assert_eq!((bucket.pool.limit(), bucket.pool.view(clock::now()).limit.unwrap().limit), (4, 4));
    bucket.reload(config(&[1], "s3.concurrency.max_concurrent = 30\n")).await;
    assert_eq!((bucket.pool.limit(), bucket.pool.view(clock::now()).limit), (30, None));
}

/// Crashes a pool until its supervisor holds it down.
async fn hold_down(pool: &PoolHandle) {
    while pool.actor().actor_stats().status(clock::now()) == ActorStatus::Running {
        pool.actor().crash(Crash { point: CrashPoint::Decide, next_message: false });
        settle().await;
    }
}

/// G3, S3: a pool that is held down is replaced by what it has published
#[actix_rt::test]
async fn a_failed_pool_is_replaced() {
    let mut bucket = Bucket::start(config(&[1, 2, 3], &credentials(&[("a", "1", 4), ("b", "1", 4)])));
    eject(&bucket.pool, 2);
    let asked = CredentialError::Throttled(Some(Duration::from_secs(60)));
    bucket.pool.report_credential_error(CredentialId(1), asked);
    settle().await;
    let (endpoints, keys) = (states(&bucket.pool), credential_states(&bucket.pool));
    let stats = Arc::clone(bucket.pool.actor().actor_stats());
    hold_down(&bucket.pool).await;
    let old = bucket.reload(config(&[3, 1], &credentials(&[("b", "1", 4)]))).await;
    assert_eq!(states(&bucket.pool), [endpoints[2], endpoints[0]]);
    assert_eq!(credential_states(&bucket.pool), [keys[1]]);
    assert!(matches!(acquire(&old).await, Err(PoolRejection::Unavailable(AskError::Failed { .. }))));
    let restarts = bucket.pool.actor().actor_stats().restarts();
    assert_eq!(restarts, stats.restarts(), "restarts are counted on");
}

/// G3, O3: the series of what is gone go with the replaced pool; those that the current pool has stay
#[actix_rt::test]
async fn series_go_with_their_names() {
    let keys = [("a", "1", 4), ("b", "1", 4)];
    let hedged = format!("s3.hedging.enabled = true\n{}", credentials(&keys));
    let mut bucket = Bucket::start(config(&[1, 2], &hedged));
    let old = bucket.reload(config(&[2, 3], &credentials(&[("b", "1", 4)]))).await;
    let healthy = "upstream_endpoint_healthy";
    assert_eq!(bucket.series(healthy).len(), 3, "both pools serve");
    assert_eq!(bucket.series("hedge_first_byte_p95_seconds").len(), 2);
    bucket.actors.end_pool(&old, Some(&bucket.pool));
    let of_bucket = |value: &str| format!("b {value}");
    assert_eq!(bucket.series(healthy), ["127.0.0.1:2", "127.0.0.1:3"].map(of_bucket));
    assert_eq!(bucket.series("upstream_endpoint_ejections_total").len(), 2);
    assert_eq!(bucket.series("upstream_credential_in_flight"), ["b b"]);
    assert_eq!(bucket.series("upstream_credential_setbacks_total").len(), 2);
    assert_eq!(bucket.series("hedge_first_byte_p95_seconds").len(), 0);
    assert!(bucket.series("actor_mailbox_wait_seconds").contains(&"pool:b".to_owned()));
    settle().await;
    assert!(old.actor().actor_stats().has_ended());
    assert!(acquire(&bucket.pool).await.is_ok());
    bucket.actors.end_pool(&bucket.pool, None);
    let of_pools =
        ["actor_", "bucket_", "connection_pool_", "hedge_", "request_queue_", "retry_", "upstream_"];
    let left = bucket.registry.gather();
    let families = left.iter().filter(|family| of_pools.iter().any(|begin| family.name().starts_with(begin)));
    let with_bucket = families.filter(|family| {
        let is_gone = |value: &str| value == "b" || value == "pool:b";
        let mut labels = family.get_metric().iter().flat_map(prometheus::proto::Metric::get_label);
        labels.any(|label| is_gone(label.value()))
    });
    let names: Vec<&str> = with_bucket.map(prometheus::proto::MetricFamily::name).collect();
    assert!(names.is_empty(), "{names:?}");
}

/// G3: the waiters of a stopped pool are refused, and its state is freed although handles exist
#[actix_rt::test]
async fn a_stopped_pool_frees_its_state() {
    let limit = config(&[1], "s3.concurrency.max_concurrent = 1\n");
    let mut bucket = Bucket::start(limit.clone());
    let held = acquire(&bucket.pool).await.unwrap();
    let old = bucket.reload(limit).await;
    let waiting = {
        let old = old.clone();
        actix_rt::spawn(async move { acquire(&old).await.map(drop) })
    };
    settle().await;
    assert_eq!(bucket.pool.waiting(), 1);
    let state = Arc::downgrade(&old.names);
    let strong = state.strong_count();
    bucket.actors.end_pool(&old, Some(&bucket.pool));
    let refused = waiting.await.unwrap().unwrap_err();
    assert!(matches!(refused, PoolRejection::Unavailable(AskError::Failed { .. })), "{refused:?}");
    settle().await;
    assert!(state.strong_count() < strong, "the actor holds the names as long as it lives");
    assert_eq!((bucket.pool.waiting(), old.actor().actor_stats().restarts()), (0, 0));
    drop(held);
    assert!(acquire(&bucket.pool).await.is_ok());
}

/// G3: a name is found wherever it stands, and twice if it occurs twice
#[test]
fn names_have_sources() {
    let old = ["a", "b", "b", "c"].map(str::to_owned);
    let found = sources(["c", "b", "x", "b", "b"].into_iter(), &old);
    assert_eq!(found, [Some(3), Some(1), None, Some(2), None]);
}
