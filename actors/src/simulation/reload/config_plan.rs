//! Configurations of one scenario: a first one, and random changes of it.
//!
//! Names come and go and come back. A bucket that goes while one with its settings comes is a renamed one. Names are
//! sorted in a configuration, so a name that comes first moves all others. Settings of the process stay.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::OnceLock;
use std::time::Duration;

use tidegate_config::{BucketConfig, Config, LimitMode, RateLimit, Sources, load};

use crate::seeded_rng::SeededRng;

/// The names of buckets and keys.
const BUCKETS: [&str; 4] = ["ash", "birch", "cedar", "elm"];
/// The names of keys.
const KEYS: [&str; 4] = ["anna", "boris", "clara", "doris"];

const ONE: NonZeroUsize = NonZeroUsize::MIN;
const TWO: NonZeroUsize = ONE.saturating_add(1);
const FOUR: NonZeroUsize = ONE.saturating_add(3);
const TEN: NonZeroUsize = ONE.saturating_add(9);
/// Enough for cached permits.
const MANY: NonZeroUsize = ONE.saturating_add(79);

/// Settings that a reload does not change.
#[derive(Debug, Clone, Copy)]
struct PlannedSupervision {
    restarts_max: u32,
    mailbox_capacity: NonZeroUsize,
    ask_timeout: Duration,
}

/// Rate and burst.
type PlannedLimit = Option<(u32, u32)>;

#[derive(Debug, Clone, Copy)]
struct PlannedBucket {
    limit: PlannedLimit,
    /// One bit for each endpoint.
    endpoints: usize,
    /// One bit for each credential.
    credentials: usize,
    concurrent_max: NonZeroUsize,
    queued_max: usize,
    is_adaptive: bool,
    failure_threshold: NonZeroU32,
}

#[derive(Debug, Clone, Copy)]
struct PlannedKey {
    limit: PlannedLimit,
    /// The position of its secret.
    secret: usize,
}

/// The configuration to be written.
#[derive(Debug)]
pub(in crate::simulation) struct ConfigPlan {
    supervision: PlannedSupervision,
    global: PlannedLimit,
    per_ip: PlannedLimit,
    per_key: PlannedLimit,
    sessions_max: NonZeroUsize,
    buckets: BTreeMap<&'static str, PlannedBucket>,
    keys: BTreeMap<&'static str, PlannedKey>,
}

fn draw_limit(rng: &mut SeededRng) -> PlannedLimit {
    (!rng.one_in(3)).then(|| (rng.choose([1, 50, 500, 20_000]), rng.choose([1, 3, 10, 100, 4_000])))
}

impl PlannedBucket {
    fn draw(rng: &mut SeededRng) -> Self {
        Self {
            limit: draw_limit(rng),
            endpoints: rng.choose([1, 2, 3, 5, 7]),
            credentials: rng.choose([0, 0, 1, 3, 6]),
            concurrent_max: rng.choose([ONE, TWO, FOUR, MANY]),
            queued_max: rng.choose([0, 3, 20]),
            is_adaptive: rng.one_in(3),
            failure_threshold: rng.choose([NonZeroU32::MIN, NonZeroU32::MIN.saturating_add(4)]),
        }
    }

    /// Changes one setting.
    fn change(&mut self, rng: &mut SeededRng) {
        let other = Self::draw(rng);
        match rng.below(6) {
            0 => self.limit = other.limit,
            1 => self.endpoints = other.endpoints,
            2 => self.credentials = other.credentials,
            3 => self.concurrent_max = other.concurrent_max,
            4 => self.failure_threshold = other.failure_threshold,
            _ => *self = other,
        }
    }

    fn config(&self, name: &str, template: &BucketConfig) -> BucketConfig {
        let mut bucket = template.clone();
        bucket.rate_limit = rate_limit(self.limit);
        let upstream = &mut bucket.upstream;
        retain_bits(&mut upstream.endpoints, self.endpoints);
        retain_bits(&mut upstream.credentials_by_name, self.credentials);
        upstream.concurrency.max_concurrent = self.concurrent_max;
        upstream.concurrency.max_queued = self.queued_max;
        upstream.concurrency.adaptive.enabled = self.is_adaptive;
        upstream.circuit_breaker.failure_threshold = self.failure_threshold;
        upstream.circuit_breaker.per_operation = name < BUCKETS[2];
        bucket
    }
}

/// Keeps the values at the positions of the bits that are set.
fn retain_bits<T>(values: &mut Vec<T>, bits: usize) {
    let mut at = 0;
    values.retain(|_| {
        at += 1;
        bits & (1 << (at - 1)) != 0
    });
}

fn rate_limit(limit: PlannedLimit) -> Option<RateLimit> {
    let (rate, burst) = limit?;
    let burst = NonZeroU32::new(burst)?;
    Some(RateLimit { requests_per_second: f64::from(rate), burst, mode: LimitMode::Enforce })
}

/// A configuration with one bucket and two keys, from which all others are made. To load each from its text takes most of the
/// time of a scenario.
fn template() -> Result<&'static Config, String> {
    static TEMPLATE: OnceLock<Result<Config, String>> = OnceLock::new();
    let load_it = || {
        load(Sources::default().text("simulated.toml", TEMPLATE_TEXT))
            .map_err(|problems| problems.to_string())
    };
    TEMPLATE.get_or_init(load_it).as_ref().map_err(Clone::clone)
}

const TEMPLATE_TEXT: &str = r#"
server.max_concurrent_requests = 100
supervision.window_seconds = 1
monitor = { memory_limit_bytes = 1073741824, descriptor_limit = 1048576 }
sessions.ttl_seconds = 60
policies.all = { buckets = ["*"], methods = ["read"] }
keys.0 = { secret = "of-no-use-0", policy = "all" }
keys.1 = { secret = "of-no-use-1", policy = "all" }
[buckets.template.s3]
endpoints = ["http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3"]
connection_pool.size = 1000
concurrency.queue_timeout_ms = 1000
concurrency.adaptive = { min = 1, interval_ms = 100 }
hedging.enabled = false
circuit_breaker = { timeout_seconds = 1, max_timeout_seconds = 5 }
credentials.a = { access_key_id = "a", secret_access_key = "of-no-use" }
credentials.b = { access_key_id = "b", secret_access_key = "of-no-use" }
credentials.c = { access_key_id = "c", secret_access_key = "of-no-use" }
"#;

impl ConfigPlan {
    pub(in crate::simulation) fn draw(rng: &mut SeededRng) -> Self {
        let supervision = PlannedSupervision {
            restarts_max: rng.choose([0, 2, 100_000]),
            mailbox_capacity: rng.choose([ONE, FOUR, MANY]),
            ask_timeout: Duration::from_millis(rng.choose([5, 1_000])),
        };
        let mut plan = Self {
            supervision,
            global: draw_limit(rng),
            per_ip: draw_limit(rng),
            per_key: draw_limit(rng),
            sessions_max: TEN,
            buckets: BTreeMap::from([(BUCKETS[1], PlannedBucket::draw(rng))]),
            keys: BTreeMap::new(),
        };
        (0..4).for_each(|_| plan.change_names(rng));
        plan
    }

    /// Whether this is the name of a bucket of some configuration.
    pub(super) fn is_bucket_name(name: &str) -> bool {
        BUCKETS.contains(&name)
    }

    /// Changes a few things for the next configuration.
    pub(super) fn change(&mut self, rng: &mut SeededRng) {
        for _ in 0..rng.between(1, 4) {
            match rng.below(8) {
                0 => self.global = draw_limit(rng),
                1 => self.per_ip = draw_limit(rng),
                2 => self.per_key = draw_limit(rng),
                3 => self.sessions_max = rng.choose([ONE, FOUR, TEN]),
                4..6 => self.change_names(rng),
                _ => self.change_settings(rng),
            }
        }
    }

    /// Adds, removes or renames a bucket or a key.
    fn change_names(&mut self, rng: &mut SeededRng) {
        let name = rng.choose(KEYS);
        if self.keys.remove(name).is_none() {
            self.keys.insert(name, PlannedKey { limit: draw_limit(rng), secret: 0 });
        }
        let (name, drawn) = (rng.choose(BUCKETS), PlannedBucket::draw(rng));
        let Some(removed) = self.buckets.remove(name) else {
            self.buckets.insert(name, drawn);
            return;
        };
        let other = rng.choose(BUCKETS);
        if self.buckets.is_empty() || rng.one_in(3) {
            self.buckets.entry(other).or_insert(removed);
        }
    }

    fn change_settings(&mut self, rng: &mut SeededRng) {
        let name = rng.choose(BUCKETS);
        if let Some(bucket) = self.buckets.get_mut(name) {
            bucket.change(rng);
        }
        let name = rng.choose(KEYS);
        if let Some(key) = self.keys.get_mut(name) {
            key.secret = 1 - key.secret;
            key.limit = draw_limit(rng);
        }
    }

    /// The configuration.
    pub(in crate::simulation) fn config(&self) -> Result<Config, String> {
        let template = template()?;
        let mut config = template.clone();
        let PlannedSupervision { restarts_max, mailbox_capacity, ask_timeout } = self.supervision;
        config.supervision.max_restarts = restarts_max;
        config.supervision.mailbox_capacity = mailbox_capacity;
        config.supervision.ask_timeout = ask_timeout;
        config.sessions.capacity = self.sessions_max;
        config.rate_limit.global = rate_limit(self.global);
        config.rate_limit.per_ip = rate_limit(self.per_ip);
        config.rate_limit.per_key = rate_limit(self.per_key);
        (config.buckets, config.keys) = Default::default();
        for bucket in template.buckets.values() {
            let named =
                self.buckets.iter().map(|(name, planned)| ((*name).to_owned(), planned.config(name, bucket)));
            config.buckets.extend(named);
        }
        for (name, PlannedKey { limit, secret }) in &self.keys {
            if let Some(key) = template.keys.values().nth(*secret) {
                let mut key = key.clone();
                key.rate_limit = rate_limit(*limit);
                config.keys.insert((*name).to_owned(), key);
            }
        }
        Ok(config)
    }
}
