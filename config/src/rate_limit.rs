//! Rate limits: for all requests, per client address, per client key, per token subject, for failed authentications, and per bucket.
//!
//! A limit is off until its rate is set, so a limit with a burst and no rate is rejected. A limit counts tokens; the cost of a
//! request depends on its operation (`cost.rs`). Shadow mode tests a limit: it counts and reports the requests that it would
//! refuse, and refuses none.

use std::num::{NonZeroU32, NonZeroUsize};

use crate::cost::Costs;
use crate::schema::{Docs, Read as _, Section, Spec, key, nested, unset};
use crate::section::section;
use crate::value_type::{Choice, decimal, nonzero_size, whole};

const BURST_MAX: u64 = 10_000_000;

/// One limit: a steady rate and a burst.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit {
    /// steady rate, greater than zero
    pub requests_per_second: f64,
    /// requests that may arrive at once after an idle time
    pub burst: NonZeroU32,
    /// whether the limit is enforced
    pub mode: LimitMode,
}

/// What a limit does with requests beyond it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitMode {
    /// refuses them
    Enforce,
    /// counts them, and names the limit in the response
    Shadow,
}

const MODE: Choice<LimitMode> = Choice(&[("enforce", LimitMode::Enforce), ("shadow", LimitMode::Shadow)]);

/// Responses with the headers `RateLimit` and `RateLimit-Policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitHeaders {
    /// those that refuse a request because of a limit
    Refused,
    /// all responses to requests to which a limit applies
    Always,
}

const HEADERS: Choice<LimitHeaders> =
    Choice(&[("refused", LimitHeaders::Refused), ("always", LimitHeaders::Always)]);

/// The response to rate-limited requests while the limiter is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// 503: a crash must not bypass a limit
    Refuse,
    /// they pass: availability has precedence over the limit
    Pass,
}

const ON_FAILURE: Choice<OnFailure> = Choice(&[("refuse", OnFailure::Refuse), ("pass", OnFailure::Pass)]);

section! {
    /// Rate limits of the whole gateway.
    pub struct RateLimitConfig {
        /// rate limit of all requests together
        pub global: Option<RateLimit> = RateLimitKeys("global");
        /// rate limit of each client address (IPv6: each /64)
        pub per_ip: Option<RateLimit> = RateLimitKeys("per_ip");
        /// rate limit of each client key without its own limit; charged after its signature is verified
        pub per_key: Option<RateLimit> = RateLimitKeys("per_key");
        /// rate limit of each token subject (`sub`); charged after the token is verified; tokens without `sub` share one
        pub per_subject: Option<RateLimit> = RateLimitKeys("per_subject");
        /// rate limit of failed authentications of each client address; beyond it no authentication is attempted
        pub failed_auth: Option<RateLimit> = RateLimitKeys("failed_auth");
        /// cost of requests, in tokens of each rate limit
        pub cost: Costs = nested("cost");
        /// client addresses, and token subjects, with a limit of their own; further ones share one limit
        ///
        /// Raise it if more clients are active at a time. Each entry needs memory.
        pub table_capacity: NonZeroUsize =
            key("table_capacity", whole(1..=10_000_000), nonzero_size(100_000));
        /// answer to rate-limited requests while the limiter is down: `refuse` is 503, `pass` forwards them
        pub on_failure: OnFailure = key("on_failure", ON_FAILURE, OnFailure::Refuse);
        /// responses with the headers `RateLimit` and `RateLimit-Policy`: those of refused requests, or all
        ///
        /// With `always` each request asks the limiter, which lowers the throughput of a busy gateway.
        pub headers: LimitHeaders = key("headers", HEADERS, LimitHeaders::Refused);
    }
}

section! {
    /// The keys of one limit.
    struct Keys {
        /// steady rate; the limit is off until it is set
        ///
        /// Watch `tidegate_rate_limit_exceeded_total` and `tidegate_rate_limit_current_rate`.
        requests_per_second: Option<f64> =
            unset("requests_per_second", decimal(0.001..=10_000_000.0), "off");
        /// requests that may arrive at once after an idle time
        burst: Option<NonZeroU32> =
            unset("burst", whole(1..=BURST_MAX), "the rate, at least 1");
        /// `enforce` refuses requests beyond the limit; `shadow` only counts them
        ///
        /// In shadow mode the response header `x-tidegate-shadow` names the limit.
        /// Watch `tidegate_rate_limit_shadowed_total`.
        mode: LimitMode = key("mode", MODE, LimitMode::Enforce);
    }
}

/// A section with one limit. The limit is off until its rate is set.
pub(crate) struct RateLimitKeys(pub(crate) &'static str);

impl Spec for RateLimitKeys {
    type Value = Option<RateLimit>;

    fn read(self, docs: Docs, section: &mut Section<'_>) -> Option<RateLimit> {
        let mut child = section.child(self.0);
        child.document(docs);
        let Keys { requests_per_second, burst, mode } = Keys::read(&mut child);
        let is_written = [("burst", child.is_set("burst")), ("mode", mode == LimitMode::Shadow)];
        for (word, is_written) in is_written {
            if is_written && !child.is_set("requests_per_second") {
                let rate = child.full_key("requests_per_second");
                child.refuse(word, format!("has no effect without {rate}"), Some(format!("set {rate} too")));
            }
        }
        let requests_per_second = requests_per_second?;
        let burst = burst.unwrap_or_else(|| burst_of(requests_per_second));
        let in_effect = Keys { requests_per_second: Some(requests_per_second), burst: Some(burst), mode };
        in_effect.write(&mut child);
        Some(RateLimit { requests_per_second, burst, mode })
    }
}

/// The requests of one second. The range of the key keeps the value far below the limit of the type.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts from f64 saturate")]
fn burst_of(requests_per_second: f64) -> NonZeroU32 {
    NonZeroU32::new(requests_per_second as u32).unwrap_or(NonZeroU32::MIN)
}
