//! Cost of a request, in tokens of each rate limit that applies, by operation.
//!
//! A listing may cost a store as much as a hundred reads. The cost is a property of the request, not of the limit: it is charged to
//! every limit that applies in one message, and a client can compute what it may send. A bucket may have its own costs. A cost above
//! the burst of a limit would refuse every such request, so it is rejected at the start with both keys. There is no cost by size:
//! the size is unknown when the head of the request arrives.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use crate::api_key::ApiKey;
use crate::bucket::BucketConfig;
use crate::client_key::ClientKey;
use crate::rate_limit::{RateLimit, RateLimitConfig};
use crate::schema::{Docs, Read as _, Section, Spec, key, unset};
use crate::section::section;
use crate::value_type::whole;

const COST_MAX: u64 = 1000;

section! {
    /// Cost of a request, in tokens of each rate limit that applies.
    #[derive(Copy, Eq)]
    pub struct Costs {
        /// tokens for a read of an object or its metadata
        pub read: NonZeroU32 = key("read", whole(1..=COST_MAX), NonZeroU32::MIN);
        /// tokens for a change: an upload, a copy, a deletion
        pub write: NonZeroU32 = key("write", whole(1..=COST_MAX), NonZeroU32::MIN);
        /// tokens for a listing
        pub list: NonZeroU32 = key("list", whole(1..=COST_MAX), NonZeroU32::MIN);
    }
}

section! {
    /// The keys of a bucket's own costs.
    pub(crate) struct OwnCosts {
        /// tokens for a read of an object or its metadata
        read: Option<NonZeroU32> = unset("read", whole(1..=COST_MAX), "rate_limit.cost.read");
        /// tokens for a change: an upload, a copy, a deletion
        write: Option<NonZeroU32> = unset("write", whole(1..=COST_MAX), "rate_limit.cost.write");
        /// tokens for a listing
        list: Option<NonZeroU32> = unset("list", whole(1..=COST_MAX), "rate_limit.cost.list");
    }
}

impl OwnCosts {
    /// The costs of the bucket; the general costs fill in those that are not set.
    pub(crate) fn with_defaults(&self, general: Costs) -> Costs {
        Costs {
            read: self.read.unwrap_or(general.read),
            write: self.write.unwrap_or(general.write),
            list: self.list.unwrap_or(general.list),
        }
    }
}

impl From<Costs> for OwnCosts {
    fn from(Costs { read, write, list }: Costs) -> Self {
        Self { read: Some(read), write: Some(write), list: Some(list) }
    }
}

/// The section `cost` in a bucket's `rate_limit`.
pub(crate) struct OwnCostKeys;

impl Spec for OwnCostKeys {
    type Value = OwnCosts;

    fn read(self, docs: Docs, section: &mut Section<'_>) -> OwnCosts {
        let mut limit = section.child("rate_limit");
        let mut child = limit.child("cost");
        child.document(docs);
        OwnCosts::read(&mut child)
    }

    fn write(self, value: &OwnCosts, section: &mut Section<'_>) {
        value.write(&mut section.within(&["rate_limit", "cost"]));
    }
}

/// A limit and the section that sets it.
type LimitInSection<'a> = (Vec<&'a str>, RateLimit);

fn in_section((path, limit): (Vec<&str>, Option<RateLimit>)) -> Option<LimitInSection<'_>> {
    limit.map(|limit| (path, limit))
}

/// The section of the general costs.
const GENERAL: [&str; 2] = ["rate_limit", "cost"];

/// Rejects costs above the burst of a limit that applies.
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
    let everywhere: Vec<LimitInSection<'_>> = general
        .filter_map(in_section)
        .chain(keys.filter_map(in_section))
        .chain(api_keys.filter_map(in_section))
        .collect();
    check_written(root, &GENERAL, limits.cost, &everywhere, |_, _| true);
    for (name, bucket) in buckets {
        let here = ["buckets", name, "rate_limit", "cost"];
        let own: Vec<LimitInSection<'_>> =
            in_section((here[..3].to_vec(), bucket.rate_limit)).into_iter().collect();
        check_written(root, &here, bucket.costs, &everywhere, |_, _| true);
        check_written(root, &here, bucket.costs, &own, |_, _| true);
        let inherits =
            |root: &mut Section<'_>, word: &str| !with_section(root, &here, |section| section.is_set(word));
        check_written(root, &GENERAL, bucket.costs, &own, inherits);
    }
}

/// Rejects the costs that are set in this section and are in effect.
fn check_written(
    root: &mut Section<'_>,
    path: &[&str],
    costs: Costs,
    limits: &[LimitInSection<'_>],
    is_in_effect: impl Fn(&mut Section<'_>, &str) -> bool,
) {
    for (word, cost) in [("read", costs.read), ("write", costs.write), ("list", costs.list)] {
        if !with_section(root, path, |section| section.is_set(word)) || !is_in_effect(root, word) {
            continue;
        }
        for (limited, limit) in limits.iter().filter(|(_, limit)| limit.burst < cost) {
            let burst = with_section(root, limited, |limit| limit.full_key("burst"));
            let message =
                format!("{cost} is above {burst} ({}): every such request would be refused", limit.burst);
            with_section(root, path, |section| {
                section.refuse(word, message, Some(format!("raise {burst}, or lower this key")))
            });
        }
    }
}

/// Calls a function with the section at a path.
fn with_section<R>(root: &mut Section<'_>, path: &[&str], then: impl FnOnce(&mut Section<'_>) -> R) -> R {
    match path {
        [] => then(root),
        [name, rest @ ..] => with_section(&mut root.child(name), rest, then),
    }
}
