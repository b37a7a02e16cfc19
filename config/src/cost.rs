//! What a request costs of the limits it counts against, by what it does.
//!
//! A listing may cost a store as much as a hundred reads. The cost is the request's, not the limit's: it takes as many
//! tokens of every limit that applies, so that one message settles all of them, and a client can work out what it may do. A
//! bucket may have costs of its own. A cost above a limit's burst would refuse every such request for ever: that is
//! found at the start, and both keys are named. Deliberately absent: costs by size, which nobody knows at the head.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use crate::api_key::ApiKey;
use crate::bucket::BucketConfig;
use crate::client_key::ClientKey;
use crate::form::whole;
use crate::rate_limit::{RateLimit, RateLimitConfig};
use crate::section::section;
use crate::walk::{Docs, Read as _, Section, Spec, key, unset};

const COST_MAX: u64 = 1000;

section! {
    /// What a request costs, in tokens of each limit that applies to it.
    #[derive(Copy, Eq)]
    pub struct Costs {
        /// tokens that reading an object or its metadata takes
        pub read: NonZeroU32 = key("read", whole(1..=COST_MAX), NonZeroU32::MIN);
        /// tokens that any change takes: an upload, a copy, a deletion
        pub write: NonZeroU32 = key("write", whole(1..=COST_MAX), NonZeroU32::MIN);
        /// tokens that a listing takes
        pub list: NonZeroU32 = key("list", whole(1..=COST_MAX), NonZeroU32::MIN);
    }
}

section! {
    /// A bucket's own costs as they are written.
    pub(crate) struct OwnCosts {
        /// tokens that reading an object or its metadata takes
        read: Option<NonZeroU32> = unset("read", whole(1..=COST_MAX), "rate_limit.cost.read");
        /// tokens that any change takes
        write: Option<NonZeroU32> = unset("write", whole(1..=COST_MAX), "rate_limit.cost.write");
        /// tokens that a listing takes
        list: Option<NonZeroU32> = unset("list", whole(1..=COST_MAX), "rate_limit.cost.list");
    }
}

impl OwnCosts {
    /// With those of the whole gateway where the bucket has none of its own.
    pub(crate) fn over(&self, general: Costs) -> Costs {
        Costs {
            read: self.read.unwrap_or(general.read),
            write: self.write.unwrap_or(general.write),
            list: self.list.unwrap_or(general.list),
        }
    }
}

/// The section `cost` in a bucket's `rate_limit`.
pub(crate) struct OwnCostKeys;

impl Spec for OwnCostKeys {
    type Value = OwnCosts;

    fn take(self, docs: Docs, section: &mut Section<'_>) -> OwnCosts {
        let mut limit = section.child("rate_limit");
        let mut child = limit.child("cost");
        child.introduce(docs);
        OwnCosts::read(&mut child)
    }
}

/// A limit and the section that sets it.
type Placed<'a> = (Vec<&'a str>, RateLimit);

fn placed((path, limit): (Vec<&str>, Option<RateLimit>)) -> Option<Placed<'_>> {
    limit.map(|limit| (path, limit))
}

/// Where the costs of the whole gateway stand.
const GENERAL: [&str; 2] = ["rate_limit", "cost"];

/// Refuses costs that no burst of a limit could ever pay.
pub(crate) fn check(
    root: &mut Section<'_>,
    limits: &RateLimitConfig,
    buckets: &BTreeMap<String, BucketConfig>,
    keys: &BTreeMap<String, ClientKey>,
    api_keys: &BTreeMap<String, ApiKey>,
) {
    let general = [
        ("global", limits.global),
        ("per_ip", limits.per_ip),
        ("per_key", limits.per_key),
        ("per_subject", limits.per_subject),
    ];
    let general = general.into_iter().map(|(name, limit)| (vec!["rate_limit", name], limit));
    let keys = keys.iter().map(|(name, key)| (vec!["keys", name, "rate_limit"], key.rate_limit));
    let api_keys = api_keys.iter().map(|(name, key)| (vec!["api_keys", name, "rate_limit"], key.rate_limit));
    let everywhere: Vec<Placed<'_>> = general
        .filter_map(placed)
        .chain(keys.filter_map(placed))
        .chain(api_keys.filter_map(placed))
        .collect();
    check_written(root, &GENERAL, limits.cost, &everywhere, |_, _| true);
    for (name, bucket) in buckets {
        let here = ["buckets", name, "rate_limit", "cost"];
        let own: Vec<Placed<'_>> = placed((here[..3].to_vec(), bucket.rate_limit)).into_iter().collect();
        check_written(root, &here, bucket.costs, &everywhere, |_, _| true);
        check_written(root, &here, bucket.costs, &own, |_, _| true);
        let inherits = |root: &mut Section<'_>, word: &str| !at(root, &here, |section| section.is_set(word));
        check_written(root, &GENERAL, bucket.costs, &own, inherits);
    }
}

/// Complains of costs that are written here and stand.
fn check_written(
    root: &mut Section<'_>,
    path: &[&str],
    costs: Costs,
    limits: &[Placed<'_>],
    stands: impl Fn(&mut Section<'_>, &str) -> bool,
) {
    for (word, cost) in [("read", costs.read), ("write", costs.write), ("list", costs.list)] {
        if !at(root, path, |section| section.is_set(word)) || !stands(root, word) {
            continue;
        }
        for (limited, limit) in limits.iter().filter(|(_, limit)| limit.burst < cost) {
            let burst = at(root, limited, |limit| limit.spell("burst"));
            let message = format!("{cost} is above {burst} ({}): none would ever pass", limit.burst);
            at(root, path, |section| {
                section.refuse(word, message, Some(format!("raise {burst}, or lower this")))
            });
        }
    }
}

/// Does something with the section at a path.
fn at<R>(root: &mut Section<'_>, path: &[&str], then: impl FnOnce(&mut Section<'_>) -> R) -> R {
    match path {
        [] => then(root),
        [name, rest @ ..] => at(&mut root.child(name), rest, then),
    }
}
