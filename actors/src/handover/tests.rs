//! A hand-over between two sets of running actors (G8, L2, L8, P3, P5, C3, B1).

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use prometheus::Registry;
use slog::{Discard, Logger, o};
use tidegate_config::{Config, Priority, Sources};

use super::*;
use crate::breaker::{BreakerRejection, CircuitState, FailureCause, Outcome};
use crate::events::ActorEvents;
use crate::launches::Launches;
use crate::limiter::LimiterRejection;
use crate::pool::{
    CredentialCheckResult, CredentialError, CredentialId, CredentialState, EndpointId, EndpointState,
    FailureKind, Permit, PoolHandle,
};
use crate::seeded_rng::SeededRng;
use crate::system::{ActorSystem, prepare_with_seed};
use crate::types::{BucketId, IpKey, KeyId, OperationClass};

pub(super) const CONFIG: &str = r#"
[server]
max_concurrent_requests = 20

[rate_limit]
global = { requests_per_second = 0.01, burst = 40 }
per_ip = { requests_per_second = 0.01, burst = 20 }
per_subject = { requests_per_second = 0.01, burst = 10 }
failed_auth = { requests_per_second = 0.01, burst = 4 }

[policies.all]
buckets = ["*"]
methods = ["read"]

[keys.ann]
policy = "all"
secret = "0123456789abcdef0123456789abcdef"
rate_limit = { requests_per_second = 0.01, burst = 10 }

[buckets.a]
auth = ["anonymous"]
s3.endpoints = ["http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3"]
s3.concurrency.max_concurrent = 8
s3.concurrency.max_queued = 0
s3.circuit_breaker.failure_threshold = 3
s3.credentials.one = { access_key_id = "AK1", secret_access_key = "s1", max_concurrent = 4 }
s3.credentials.two = { access_key_id = "AK2", secret_access_key = "s2", max_concurrent = 4 }

[buckets.b]
auth = ["anonymous"]
s3.endpoints = ["http://127.0.0.1:1"]
"#;

pub(super) fn load(text: &str) -> Config {
    tidegate_config::load(Sources::default().text("test.toml", text)).unwrap()
}

/// One process.
pub(super) struct Process {
    pub(super) actors: Actors,
    config: Config,
    ids: Ids,
}

/// A process with actors that do not run yet.
pub(super) fn prepared(text: &str) -> (Process, Launches) {
    let (config, log) = (load(text), Logger::root(Discard, o!()));
    let ActorSystem { actors, launches, .. } =
        prepare_with_seed(&config, &Registry::new(), &log, (7, ActorEvents::default())).unwrap();
    let ids = Ids::new(&config);
    (Process { actors, config, ids }, launches)
}

pub(super) fn start(launches: Launches) {
    let Launches { own_thread, on_workers } = launches;
    own_thread.into_iter().chain(on_workers).for_each(|launch| launch.start());
}

impl Process {
    pub(super) fn started(text: &str) -> Self {
        let (process, launches) = prepared(text);
        start(launches);
        process
    }

    pub(super) async fn export(&self, connections: usize) -> ActorsState {
        self.actors.export_state(&self.config, &self.ids, connections).await
    }

    /// A successor with another configuration. The state crosses as JSON, before the actors start.
    pub(super) async fn successor(&self, connections: usize, text: &str) -> Self {
        let document = serde_json::to_string(&self.export(connections).await).unwrap();
        let (next, launches) = prepared(text);
        next.import(serde_json::from_str(&document).unwrap()).await;
        start(launches);
        run_actors().await;
        next
    }

    pub(super) async fn import(&self, state: ActorsState) {
        self.actors.import_state(&self.config, &self.ids, state).await;
    }

    pub(super) fn bucket(&self, name: &str) -> BucketId {
        self.ids.bucket(name).unwrap()
    }

    pub(super) fn pool(&self) -> &PoolHandle {
        self.actors.pool(self.bucket("a"))
    }

    async fn acquire(&self) -> Option<Permit> {
        self.pool().acquire(Priority::Normal, clock::now() + Duration::from_secs(5)).await.ok()
    }

    pub(super) async fn acquire_all(&self) -> Vec<Permit> {
        let mut permits = Vec::new();
        while let Some(permit) = self.acquire().await {
            permits.push(permit);
        }
        permits
    }

    pub(super) async fn fail_calls(&self, times: usize) {
        let breaker = self.actors.breaker(self.bucket("a"));
        let circuit = breaker.circuit(OperationClass::Read);
        for _ in 0..times {
            let ticket =
                breaker.acquire(circuit, breaker.check(circuit, clock::now()).unwrap()).await.unwrap();
            ticket.report(Outcome::Failure { cause: FailureCause::Status(503), retry_after: None });
        }
        run_actors().await;
    }

    pub(super) async fn admitted(&self, client: IpKey) -> usize {
        let (mut count, bucket) = (0, self.bucket("b"));
        while self.actors.limiter.admit(bucket, OperationClass::Read, client, clock::now()).await.is_ok() {
            count += 1;
        }
        count
    }

    pub(super) fn restarts(&self) -> u64 {
        self.actors.actor_stats().map(|stats| stats.restarts()).sum()
    }
}

/// Lets the actors handle their messages.
pub(super) async fn run_actors() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

pub(super) fn client(number: u8) -> IpKey {
    IpKey::from(IpAddr::from(Ipv4Addr::new(10, 0, 0, number)))
}

fn states(pool: &PoolHandle, now: Instant) -> Vec<EndpointState> {
    pool.view(now).endpoints.iter().map(|endpoint| endpoint.state).collect()
}

/// G8, B1, B2: an open circuit is open at once, before an actor of the successor runs, and until the same time
#[actix_rt::test]
async fn open_circuits_stay_open() {
    /// A circuit that opened anew at the successor would be open for longer by this time.
    const OPEN_BEFORE: Duration = Duration::from_millis(50);
    let before = Process::started(CONFIG);
    before.fail_calls(3).await;
    let opened = clock::now();
    while clock::now() < opened + OPEN_BEFORE {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let state = before.export(10).await;
    let open_for = |process: &Process, now: Instant| {
        let views = process.actors.breaker(process.bucket("a")).views(now);
        views.filter(|view| view.state == CircuitState::Open).find_map(|view| view.open_for)
    };
    let (after, launches) = prepared(CONFIG);
    after.import(state).await;
    let breaker = after.actors.breaker(after.bucket("a"));
    let circuit = breaker.circuit(OperationClass::Read);
    let refused = breaker.check(circuit, clock::now());
    assert!(
        matches!(refused, Err(BreakerRejection::Open { cause: FailureCause::Status(503), .. })),
        "{refused:?}"
    );
    start(launches);
    run_actors().await;
    let now = clock::now();
    let (old, new) = (open_for(&before, now).unwrap(), open_for(&after, now).unwrap());
    assert!(new >= old && new < old + OPEN_BEFORE, "{old:?} {new:?}");
    let layout = "per_operation = false\ns3.circuit_breaker.failure_threshold";
    let single = after.successor(0, &CONFIG.replace("failure_threshold", layout)).await;
    assert!(open_for(&single, clock::now()).is_some(), "another layout of the circuits");
}

/// G8, P5, C3: ejections cross by authority and cool-downs by name, wherever the new configuration lists them
#[actix_rt::test]
async fn ejections_and_cool_downs_cross_by_name() {
    let before = Process::started(CONFIG);
    let (pool, now) = (before.pool(), clock::now());
    (0..5).for_each(|_| {
        pool.report_failure(EndpointId(1), FailureKind::Status, now, now);
    });
    let pause = CredentialError::Throttled(Some(Duration::from_secs(20)));
    pool.report_credential_error(CredentialId(0), pause);
    pool.report_credential_check(CredentialId(1), CredentialCheckResult::Refused, now);
    run_actors().await;
    let old = states(pool, now)[1];
    let order = CONFIG.replace("\"http://127.0.0.1:1\", \"http://127.0.0.1:2\"", "\"http://127.0.0.1:2\"");
    let after =
        before.successor(10, &order.replace("secret_access_key = \"s1\"", "secret_access_key = \"x\"")).await;
    let (EndpointState::Ejected(one, _), EndpointState::Ejected(other, kind)) =
        (old, states(after.pool(), now)[0])
    else {
        panic!("{old:?}, {:?}", states(after.pool(), now));
    };
    assert!(other >= one && other < one + Duration::from_millis(1) && kind == FailureKind::Status);
    let state = |process: &Process, at: usize| process.pool().view(clock::now()).credentials[at].state;
    assert!(
        matches!(state(&after, 0), CredentialState::CoolingDown(_)),
        "of the account, with another secret too"
    );
    let refused = state(&after, 1);
    assert!(matches!(refused, CredentialState::Refused(_)), "{refused:?}");
    let replaced = CONFIG.replace("secret_access_key = \"s2\"", "secret_access_key = \"x\"");
    assert_eq!(state(&before.successor(10, &replaced).await, 1), CredentialState::InUse, "another secret");
}

/// G8, L2, L8: tokens are not doubled, of known and of unknown clients, keys and subjects; lockouts stay
#[actix_rt::test]
async fn limits_are_not_doubled() {
    let before = Process::started(CONFIG);
    for _ in 0..6 {
        let now = clock::now();
        before.actors.limiter.admit(before.bucket("b"), OperationClass::Read, client(1), now).await.unwrap();
    }
    for _ in 0..4 {
        before.actors.limiter.charge_auth_failure(client(7), None).await.unwrap();
    }
    let (key, class) = (KeyId::new(0), OperationClass::Read);
    for _ in 0..4 {
        before.actors.limiter.admit_key(key, None, class).await.unwrap();
        before.actors.limiter.admit_subject(Some("ann"), None, class).await.unwrap();
    }
    let after = before.successor(3, CONFIG).await;
    assert!(after.actors.limiter.peek_auth_lockout(client(7), clock::now()).is_some());
    assert_eq!((before.admitted(client(1)).await, after.admitted(client(1)).await), (3, 20 - 6 - 3));
    let limited = async |process: &Process| {
        let (mut keys, mut subjects) = (0, 0);
        let limiter = &process.actors.limiter;
        while limiter.admit_key(key, None, class).await.is_ok() {
            keys += 1;
        }
        loop {
            match limiter.admit_subject(Some("ann"), None, class).await {
                Ok(_) => subjects += 1,
                Err(LimiterRejection::Limited(_)) => return (keys, subjects),
                Err(other) => panic!("{other:?}"),
            }
        }
    };
    assert_eq!((limited(&before).await, limited(&after).await), ((3, 3), (3, 3)));
    let (old, new) = (before.admitted(client(2)).await, after.admitted(client(2)).await);
    assert_eq!((old, new), (0, 20 - 3), "a client that was not known may be one of the predecessor");
    assert_eq!(after.admitted(client(3)).await, 40 - 6 - 3 - 11 - 17, "the rest of the global limit");
}

/// G8, P2, P3: gate, credentials and slots are divided, the successor gets the rest as the predecessor ends, and a failed upgrade
/// gives all back
#[actix_rt::test]
async fn gates_and_slots_are_divided() {
    let before = Process::started(CONFIG);
    let mut held = vec![before.acquire().await.unwrap(), before.acquire().await.unwrap()];
    let mut slots = vec![before.actors.monitor.acquire_slot().unwrap()];
    let after = before.successor(2, CONFIG).await;
    let theirs = after.acquire_all().await;
    held.extend(before.acquire_all().await);
    assert_eq!((held.len(), theirs.len()), (4, 4), "two in use and two of six free ones");
    slots.extend(std::iter::from_fn(|| before.actors.monitor.acquire_slot().ok()));
    let their_slots: Vec<_> = std::iter::from_fn(|| after.actors.monitor.acquire_slot().ok()).collect();
    assert_eq!((slots.len(), their_slots.len()), (3, 17));
    held.truncate(1);
    slots.clear();
    let used = before.actors.remaining_use(0);
    assert_eq!((used.in_flight, used.permits["a"]), (0, 1));
    assert_eq!(used.credentials["a"].values().sum::<usize>(), 1);
    after
        .actors
        .reserve_for_predecessor(&serde_json::from_value(serde_json::to_value(&used).unwrap()).unwrap());
    assert_eq!((after.acquire_all().await.len(), before.acquire_all().await.len()), (3, 0));
    assert_eq!(after.pool().limit(), 7);
    after.actors.reserve_for_predecessor(&PredecessorUse::default());
    assert_eq!((after.pool().limit(), after.actors.monitor.peek_slot()), (8, Ok((17, 20))));
    drop(held);
    before.actors.resume_limits();
    run_actors().await;
    assert_eq!((before.pool().limit(), before.acquire_all().await.len()), (8, 8));
    assert_eq!(before.actors.monitor.peek_slot(), Ok((0, 20)));
}

/// G8: a failed upgrade leaves the circuits and the limits as they were
#[actix_rt::test]
async fn a_failed_upgrade_changes_nothing() {
    let before = Process::started(CONFIG);
    for _ in 0..6 {
        let now = clock::now();
        before.actors.limiter.admit(before.bucket("b"), OperationClass::Read, client(1), now).await.unwrap();
    }
    before.export(5).await;
    before.actors.resume_limits();
    run_actors().await;
    assert_eq!(before.admitted(client(1)).await, 14);
    before.fail_calls(3).await;
    let after = before.successor(0, CONFIG).await;
    assert!(
        after
            .actors
            .breaker(after.bucket("a"))
            .views(clock::now())
            .any(|view| view.state == CircuitState::Open)
    );
}

/// G8, P3: however both processes acquire and release, and whenever reports arrive, the gate and the slots hold for both together
#[actix_rt::test]
async fn both_processes_never_exceed_a_gate() {
    let mut most_slots = 0;
    for seed in 0..20 {
        let mut rng = SeededRng::new(seed);
        let before = Process::started(CONFIG);
        let mut held: [Vec<Permit>; 2] = Default::default();
        let slot = |process: &Process| process.actors.monitor.acquire_slot().ok();
        let mut slots = [Vec::new(), Vec::new()];
        for _ in 0..rng.below(9) {
            held[0].extend(before.acquire().await);
        }
        for _ in 0..rng.below(21) {
            slots[0].extend(slot(&before));
        }
        let mut connections = rng.below(12);
        let after = before.successor(connections, CONFIG).await;
        let mut report = None;
        for _ in 0..80 {
            let at = rng.below(2);
            match rng.below(8) {
                0 | 1 => held[at].extend([&before, &after][at].acquire().await),
                2 if !held[at].is_empty() => {
                    let released = rng.below(held[at].len());
                    held[at].swap_remove(released);
                }
                3 | 4 => slots[at].extend(slot([&before, &after][at])),
                5 if !slots[at].is_empty() => {
                    let released = rng.below(slots[at].len());
                    drop(slots[at].swap_remove(released));
                }
                6 => {
                    connections = connections.saturating_sub(rng.below(3));
                    report = Some(before.actors.remaining_use(connections));
                }
                _ => report.iter().for_each(|used| after.actors.reserve_for_predecessor(used)),
            }
            let of_credential = |at: usize| {
                held.iter().flatten().filter(|permit| permit.credential() == Some(CredentialId(at))).count()
            };
            assert!(held[0].len() + held[1].len() <= 8, "seed {seed}");
            assert!(slots[0].len() + slots[1].len() <= 20, "seed {seed}");
            most_slots = most_slots.max(slots[0].len() + slots[1].len());
            assert!((0..2).all(|at| of_credential(at) <= 4), "seed {seed}");
        }
    }
    assert!(most_slots > 15, "{most_slots} of 20 slots were in use");
}
