//! The tightest limits that would have refused at most 0.1 % of the requests of a log (`--suggest`).
//!
//! Each limit is found by itself: several together refuse at most the sum. Rates come from a ladder of rates that are all replayed
//! (`RateLadder`); bounds on requests in flight come from what each request found at its arrival, and those on queues from a replay
//! without such a bound (`QueueDepths`). A bound refuses fewer requests than counted here, because a refused request occupies nothing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use ahash::RandomState;
use serde::Serialize;
use tidegate_actors::{IpKey, LadderKey, RateLadder};

use crate::replay::names::{LogNames, LoggedClient, OTHERS};
use crate::replay::request::RecordedRequest;

/// Requests that a suggested limit may refuse: one in this many.
const REFUSED_ONE_IN: u64 = 1_000;
/// Clients of one limit that are followed. Each needs about 1.3 KiB.
const KEYS_MAX: usize = 20_000;
/// The largest bound that is distinguished.
pub(crate) const OCCUPANCY_MAX: usize = 100_000;

/// A suggested value of a configuration key.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Suggestion {
    /// The configuration key.
    pub key: String,
    /// The value.
    pub value: f64,
    /// The burst that belongs to a rate.
    pub burst: Option<u32>,
    /// Requests of the log that the value would have refused.
    pub refused: u64,
}

/// The arrivals of one limit with keys.
struct KeyedLadder<K> {
    ladder: RateLadder,
    keys: HashMap<K, LadderKey, RandomState>,
    charged: u64,
}

impl<K> Default for KeyedLadder<K> {
    fn default() -> Self {
        Self { ladder: RateLadder::default(), keys: HashMap::default(), charged: 0 }
    }
}

impl<K: std::hash::Hash + Eq> KeyedLadder<K> {
    /// Charges a request to its key. Clients beyond the maximum are left out.
    fn charge(&mut self, key: K, cost: u32, now: u64) {
        if self.keys.len() >= KEYS_MAX && !self.keys.contains_key(&key) {
            return;
        }
        self.charged += 1;
        self.ladder.charge(self.keys.entry(key).or_default(), cost, now);
    }
}

/// How many requests found how many others.
#[derive(Default)]
struct Occupancies(Vec<u64>);

impl Occupancies {
    fn observe(&mut self, others: usize) {
        let others = others.min(OCCUPANCY_MAX);
        if self.0.len() <= others {
            self.0.resize(others + 1, 0);
        }
        self.0[others] += 1;
    }

    /// The smallest bound that at most `refused_max` requests found reached, and their number.
    fn lowest(&self, refused_max: u64) -> (usize, u64) {
        let mut refused = 0;
        for (others, count) in self.0.iter().enumerate().rev() {
            if refused + count > refused_max {
                return (others + 1, refused);
            }
            refused += count;
        }
        (0, refused)
    }
}

/// Finds suggestions in one pass.
#[derive(Default)]
pub(crate) struct Suggester {
    requests: u64,
    global: KeyedLadder<()>,
    per_ip: KeyedLadder<IpKey>,
    per_key: KeyedLadder<u32>,
    per_subject: KeyedLadder<u32>,
    buckets: BTreeMap<u32, KeyedLadder<()>>,
    /// The ends of requests in flight, with bucket and client.
    ends: BinaryHeap<Reverse<(u64, Option<u32>, u32)>>,
    in_flight: HashMap<(bool, u32), usize, RandomState>,
    all: Occupancies,
    of_clients: Occupancies,
    of_buckets: BTreeMap<u32, Occupancies>,
    queues: BTreeMap<u32, Occupancies>,
}

/// What the engine found out about a request.
pub(crate) struct ObservedRequest<'a> {
    pub(crate) request: &'a RecordedRequest,
    /// Its start, from the beginning of the replay.
    pub(crate) at_us: u64,
    pub(crate) client: u32,
    pub(crate) cost: u32,
    /// The time for which it holds a permit; none if it needs none.
    pub(crate) service_us: Option<u64>,
    /// The length of its bucket's queue with it, in a queue without a bound; 0 if it did not wait. None without a bucket.
    pub(crate) depth: Option<usize>,
}

impl Suggester {
    pub(crate) fn observe(&mut self, observed: &ObservedRequest<'_>) {
        let ObservedRequest { request, at_us, client, cost, service_us, depth } = *observed;
        let now = at_us.saturating_mul(1_000);
        self.requests += 1;
        self.global.charge((), cost, now);
        if let Some(address) = request.address {
            self.per_ip.charge(IpKey::from(address), cost, now);
        }
        match request.client {
            client if client.is_untracked() => {}
            LoggedClient::Key(key) => self.per_key.charge(key, cost, now),
            LoggedClient::Subject(subject) => self.per_subject.charge(subject, cost, now),
            LoggedClient::Address(_) | LoggedClient::Unknown => {}
        }
        if let Some(bucket) = request.bucket.filter(|bucket| *bucket != OTHERS) {
            self.buckets.entry(bucket).or_default().charge((), cost, now);
            if let Some(depth) = depth {
                self.queues.entry(bucket).or_default().observe(depth);
            }
        }
        self.observe_occupancy(request, client, service_us);
    }

    fn observe_occupancy(&mut self, request: &RecordedRequest, client: u32, service_us: Option<u64>) {
        while let Some(Reverse((end, bucket, client))) = self.ends.peek().copied() {
            if end > request.start_us {
                break;
            }
            self.ends.pop();
            for key in keys(bucket, client) {
                if let Some(count) = self.in_flight.get_mut(&key) {
                    *count -= 1;
                    if *count == 0 {
                        self.in_flight.remove(&key);
                    }
                }
            }
        }
        self.all.observe(self.ends.len());
        let bucket = request.bucket.filter(|bucket| service_us.is_some() && *bucket != OTHERS);
        let held = |key| self.in_flight.get(&key).copied().unwrap_or_default();
        if client != OTHERS {
            self.of_clients.observe(held((false, client)));
        }
        if let Some(bucket) = bucket {
            self.of_buckets.entry(bucket).or_default().observe(held((true, bucket)));
        }
        let end = request.start_us.saturating_add(service_us.unwrap_or(request.total_us));
        self.ends.push(Reverse((end, bucket, client)));
        for key in keys(bucket, client) {
            *self.in_flight.entry(key).or_default() += 1;
        }
    }

    /// The suggestions, by configuration key. `kind` gives the kind of a bucket, if it is known.
    pub(crate) fn finish(
        &self,
        names: &LogNames,
        kind: impl Fn(&str) -> Option<&'static str>,
    ) -> Vec<Suggestion> {
        let refused_max = self.requests / REFUSED_ONE_IN;
        let mut suggestions = Vec::new();
        let rate = |key: String, ladder: &RateLadder, charged: u64| {
            let (value, burst, refused) = ladder.lowest(refused_max).filter(|_| charged > 0)?;
            Some(Suggestion { key, value, burst: Some(burst), refused })
        };
        let general = [
            ("global", &self.global.ladder, self.global.charged),
            ("per_ip", &self.per_ip.ladder, self.per_ip.charged),
            ("per_key", &self.per_key.ladder, self.per_key.charged),
            ("per_subject", &self.per_subject.ladder, self.per_subject.charged),
        ];
        suggestions.extend(general.into_iter().filter_map(|(name, ladder, charged)| {
            rate(format!("rate_limit.{name}.requests_per_second"), ladder, charged)
        }));
        for (bucket, of_bucket) in &self.buckets {
            let key = format!("buckets.{}.rate_limit.requests_per_second", names.buckets.name(*bucket));
            suggestions.extend(rate(key, &of_bucket.ladder, of_bucket.charged));
        }
        let bound = |key: String, occupancies: &Occupancies| {
            let (value, refused) = occupancies.lowest(refused_max);
            #[expect(clippy::cast_precision_loss, reason = "at most OCCUPANCY_MAX")]
            Suggestion { key, value: value as f64, burst: None, refused }
        };
        suggestions.push(bound("server.max_concurrent_requests".to_owned(), &self.all));
        suggestions.push(bound("concurrency.max_per_client".to_owned(), &self.of_clients));
        let of_bucket = |bucket: u32, name: &str| {
            let bucket = names.buckets.name(bucket);
            format!("buckets.{bucket}.{}.concurrency.{name}", kind(bucket).unwrap_or("KIND"))
        };
        for (bucket, occupancies) in &self.of_buckets {
            suggestions.push(bound(of_bucket(*bucket, "max_concurrent"), occupancies));
        }
        for (bucket, occupancies) in &self.queues {
            // The requests of one length or more are refused by a bound below it.
            let Suggestion { key, value, burst, refused } =
                bound(of_bucket(*bucket, "max_queued"), occupancies);
            suggestions.push(Suggestion { key, value: (value - 1.0).max(0.0), burst, refused });
        }
        suggestions
    }
}

/// The counters of a request in flight.
fn keys(bucket: Option<u32>, client: u32) -> impl Iterator<Item = (bool, u32)> {
    bucket.map(|bucket| (true, bucket)).into_iter().chain([(false, client)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::log::line::RequestFields;

    /// Subjects that share a number are no client with many requests.
    #[test]
    fn untracked_subjects_are_left_out() {
        let mut suggester = Suggester::default();
        let fields =
            RequestFields { total_us: Some(1_000_000), attempts: Some(1), ..RequestFields::default() };
        for at in 0..2_000_u64 {
            let recorded = RecordedRequest::new(&fields, 2_000_000 + at, &mut LogNames::default());
            let client = if at % 2 == 0 { LoggedClient::Subject(OTHERS) } else { LoggedClient::Subject(0) };
            let request = &RecordedRequest { client, ..recorded };
            let (id, service_us) =
                (if at % 2 == 0 { OTHERS } else { 0 }, Some(u64::from(at % 2 == 0) * 1_000_000));
            suggester.observe(&ObservedRequest {
                request,
                at_us: at,
                client: id,
                cost: 1,
                service_us,
                depth: None,
            });
        }
        assert_eq!((suggester.per_subject.keys.len(), suggester.per_subject.charged), (1, 1_000));
        assert_eq!(suggester.of_clients.0, [1_000]);
    }

    /// A steady load gives a rate just above it and the number of requests that it has in flight.
    #[test]
    fn limits_fit_the_load() {
        let mut names = LogNames::default();
        let mut suggester = Suggester::default();
        for at in 0..20_000_u64 {
            let fields = RequestFields {
                bucket: Some("b".into()),
                client: Some([10, 0, 0, u8::try_from(at % 4).unwrap()].into()),
                total_us: Some(95_000),
                attempts: Some(1),
                ..RequestFields::default()
            };
            let request = RecordedRequest::new(&fields, 1_000_000_000 + at * 10_000 + 95_000, &mut names);
            let client = u32::try_from(at % 4).unwrap();
            suggester.observe(&ObservedRequest {
                request: &request,
                at_us: at * 10_000,
                client,
                cost: 1,
                service_us: Some(95_000),
                depth: Some(usize::from(at % 2_000 == 0)),
            });
        }
        let suggestions = suggester.finish(&names, |bucket| (bucket == "b").then_some("s3"));
        let value = |key: &str| {
            let found = suggestions.iter().find(|suggestion| suggestion.key == key);
            found.unwrap_or_else(|| panic!("{key}: {suggestions:?}")).value
        };
        assert!((99.0..=110.0).contains(&value("rate_limit.global.requests_per_second")));
        assert!((24.0..=27.0).contains(&value("rate_limit.per_ip.requests_per_second")));
        assert_eq!(value("buckets.b.s3.concurrency.max_concurrent"), 10.0);
        assert_eq!(value("server.max_concurrent_requests"), 10.0);
        assert_eq!(value("concurrency.max_per_client"), 3.0);
        // 10 of 20,000 requests waited.
        assert_eq!(value("buckets.b.s3.concurrency.max_queued"), 0.0);
        assert!(!suggestions.iter().any(|suggestion| suggestion.key.contains("per_key")));
    }
}
