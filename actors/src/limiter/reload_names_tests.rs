//! Names that come and go change no other name's limits (G3).

use std::collections::BTreeMap;
use std::time::Instant;

use proptest::prelude::*;
use tidegate_config::{Config, RateLimit, Sources};

use crate::ids::Ids;
use crate::limiter::per_key::PerKeyState;
use crate::limiter::reload_tests::{BUCKET, CLIENT, of_bucket, pauses, rate_limit};
use crate::limiter::settings::LimiterSettings;
use crate::limiter::state::LimiterState;
use crate::types::{BucketId, KeyId};

/// A configuration with these buckets and API keys, by name.
fn config(base: &Config, limits: &Names) -> Config {
    let mut config = base.clone();
    config.buckets.retain(|name, _| limits.contains_key(name.as_str()));
    config.api_keys.retain(|name, _| limits.contains_key(name.as_str()));
    for (name, limit) in limits {
        config.buckets.get_mut(*name).unwrap().rate_limit = *limit;
        config.api_keys.get_mut(*name).unwrap().rate_limit = *limit;
    }
    config
}

const NAMES: [&str; 5] = ["aaa", "bbb", "ccc", "ddd", "eee"];

fn base() -> Config {
    let of_name = |name: &str| {
        format!(
            "[buckets.{name}]\nauth = [\"anonymous\"]\ns3.endpoints = [\"http://127.0.0.1:9\"]\n\
             [api_keys.{name}]\nsecret = \"{name}-0123456789abcdef0123456789\"\npolicy = \"p\"\n"
        )
    };
    let policy = "[policies.p]\nbuckets = [\"*\"]\nmethods = [\"read\"]\n";
    let text = NAMES.map(of_name).concat() + policy;
    tidegate_config::load(Sources::default().text("test.toml", text)).unwrap()
}

/// A bucket and a key of one name, alone in their states.
struct Alone {
    bucket: BucketId,
    key: KeyId,
    limit: Option<RateLimit>,
    head: LimiterState,
    per_key: PerKeyState,
}

impl Alone {
    fn new(bucket: BucketId, key: KeyId, limit: Option<RateLimit>, now: Instant) -> Self {
        let head = LimiterState::new(&of_bucket(limit), now);
        let per_key = PerKeyState::new(&LimiterSettings::of_keys(&[limit]), now);
        Self { bucket, key, limit, head, per_key }
    }

    fn reconfigure(&mut self, limit: Option<RateLimit>, now: Instant) {
        if self.limit != limit {
            self.limit = limit;
            self.head.reconfigure(&of_bucket(limit), now);
            self.per_key.reconfigure(&LimiterSettings::of_keys(&[limit]), now);
        }
    }
}

/// The limits of a configuration, by name.
type Names = BTreeMap<&'static str, Option<RateLimit>>;

#[derive(Debug, Clone)]
enum Step {
    /// The choice of a name among those in use, and the cost.
    Charge(usize, u32),
    Reload(Names),
    /// Forgets the names that the current configuration lacks.
    Forget,
}

fn names() -> impl Strategy<Value = Names> {
    let limit = prop::option::weighted(0.8, rate_limit(1..4, 9..12));
    prop::collection::vec((prop::sample::select(&NAMES[..]), limit), 1..5)
        .prop_map(|names| names.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    /// G3: names that are added, removed and changed change no other's budget, and a name that stays as it is keeps its
    /// times exactly: each bucket and key is limited as if it were alone. IDs of replaced configurations keep theirs.
    #[test]
    fn a_change_of_a_name_changes_no_other(
        first in names(),
        steps in prop::collection::vec((pauses(), prop_oneof![
            8 => (0usize..99, 1u32..6).prop_map(|(at, cost)| Step::Charge(at, cost)),
            2 => names().prop_map(Step::Reload),
            1 => Just(Step::Forget),
        ]), 1..120),
    ) {
        let (base, origin) = (base(), crate::clock::now());
        let mut now = origin;
        let mut current = config(&base, &first);
        let mut ids = Ids::new(&current);
        let mut settings = LimiterSettings::new(&current, &ids);
        let mut head = LimiterState::new(&settings, now);
        let mut per_key = PerKeyState::new(&settings, now);
        let keys = |ids: &Ids| ids.api_keys().map(|(name, id)| (name.to_owned(), id)).collect::<BTreeMap<_, _>>();
        let of_names = |ids: &Ids, names: &Names| -> Vec<Alone> {
            let all = names.iter().map(|(name, limit)| (ids.bucket(name).unwrap(), keys(ids)[*name], limit));
            all.map(|(bucket, key, limit)| Alone::new(bucket, key, *limit, origin)).collect()
        };
        let mut alone = of_names(&ids, &first);
        for (pause, step) in steps {
            now += pause;
            match step {
                Step::Charge(at, cost) => {
                    let at = at % alone.len();
                    let one = &mut alone[at];
                    let expected = one.head.decide(BUCKET, CLIENT, cost, 0, now);
                    let decided = head.decide(one.bucket, CLIENT, cost, 0, now);
                    let statuses = (expected.as_ref().err(), decided.as_ref().err());
                    prop_assert_eq!(statuses.0, statuses.1);
                    if let (Ok(expected), Ok(decided)) = (expected, decided) {
                        one.head.apply(&expected, now);
                        head.apply(&decided, now);
                    }
                    let expected = one.per_key.decide(KeyId::new(0), cost, now);
                    let decided = per_key.decide(one.key, cost, now);
                    prop_assert_eq!(&expected, &decided);
                    if let (Ok(expected), Ok(decided)) = (expected, decided) {
                        one.per_key.apply(KeyId::new(0), &expected);
                        per_key.apply(one.key, &decided);
                    }
                }
                Step::Reload(names) => {
                    current = config(&base, &names);
                    ids = ids.reloaded(&current);
                    settings = settings.reconfigured(&current, &ids);
                    head.reconfigure(&settings, now);
                    per_key.reconfigure(&settings, now);
                    for new in of_names(&ids, &names) {
                        match alone.iter_mut().find(|one| one.bucket == new.bucket) {
                            Some(one) => one.reconfigure(new.limit, now),
                            None => alone.push(new),
                        }
                    }
                }
                Step::Forget => {
                    let is_current = |one: &Alone| ids.buckets().any(|(_, id)| id == one.bucket);
                    for one in alone.iter().filter(|one| !is_current(one)) {
                        head.forget(|bucket| bucket == one.bucket);
                        per_key.forget(|key| key == one.key);
                        prop_assert!(head.peek(Some(one.bucket), CLIENT, 1, now).is_empty());
                        prop_assert!(per_key.peek(one.key, 1, now).is_none());
                    }
                    alone.retain(is_current);
                }
            }
        }
    }
}
