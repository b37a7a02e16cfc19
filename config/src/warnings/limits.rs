//! Warnings about rate limits without effect, because the limit of all requests refuses earlier.

use super::setting_text::{described, warn};
use crate::Config;
use crate::rate_limit::{LimitMode, RateLimit};
use crate::schema::Section;

pub(super) fn find(root: &mut Section<'_>, config: &Config) {
    let Some(global) = config.rate_limit.global.filter(|global| global.mode == LimitMode::Enforce) else {
        return;
    };
    let limits = &config.rate_limit;
    let scopes =
        [("per_ip", limits.per_ip), ("per_key", limits.per_key), ("per_subject", limits.per_subject)];
    for (scope, limit) in scopes {
        check(root, &["rate_limit", scope], limit, &global);
    }
    for (name, bucket) in &config.buckets {
        check(root, &["buckets", name, "rate_limit"], bucket.rate_limit, &global);
    }
    for (name, key) in &config.keys {
        check(root, &["keys", name, "rate_limit"], key.rate_limit, &global);
    }
    for (name, key) in &config.api_keys {
        check(root, &["api_keys", name, "rate_limit"], key.rate_limit, &global);
    }
}

fn check(root: &mut Section<'_>, path: &[&str], limit: Option<RateLimit>, global: &RateLimit) {
    let is_hidden = |limit: &RateLimit| {
        limit.requests_per_second >= global.requests_per_second && limit.burst >= global.burst
    };
    if limit.is_some_and(|limit| is_hidden(&limit)) {
        let other = root.within(&["rate_limit", "global"]);
        let [rate, burst] = ["requests_per_second", "burst"].map(|name| described(&other, name));
        let message = format!("has no effect: {rate} and {burst} refuse first");
        warn(&mut root.within(path), "requests_per_second", &message, "lower it, or raise the global limit");
    }
}
