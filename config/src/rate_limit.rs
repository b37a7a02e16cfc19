//! Rate limits: for all requests, per client address, per client key, per subject of a token, for failed authentications, and (in each bucket)
//! per bucket.
//!
//! A limit is off until its rate is set, so a limit with a burst and no rate is a mistake and is refused. Limits count
//! tokens; what a request takes of them is its cost, by what it does (`cost.rs`). A limit may be tried out first: in
//! shadow mode it counts and says whom it would refuse, and refuses nobody.

use std::num::{NonZeroU32, NonZeroUsize};

use crate::cost::Costs;
use crate::form::{Choice, decimal, nonzero_size, whole};
use crate::section::section;
use crate::walk::{Docs, Read as _, Section, Spec, key, nested, unset};

const BURST_MAX: u64 = 10_000_000;

/// One limit: a steady rate, and what may come at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit {
    /// steady rate, greater than zero
    pub requests_per_second: f64,
    /// requests that may come at once after a quiet time
    pub burst: NonZeroU32,
    /// whether it refuses anything
    pub mode: LimitMode,
}

/// What a limit does about requests that are beyond it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitMode {
    /// refuse them
    Enforce,
    /// let them pass, count them and say so in their answer
    Shadow,
}

const MODE: Choice<LimitMode> = Choice(&[("enforce", LimitMode::Enforce), ("shadow", LimitMode::Shadow)]);

/// Which answers say what is left of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitHeaders {
    /// those that refuse a request for a limit
    Refused,
    /// all answers to requests that have a limit
    Always,
}

const HEADERS: Choice<LimitHeaders> =
    Choice(&[("refused", LimitHeaders::Refused), ("always", LimitHeaders::Always)]);

/// What requests that have a limit get while the limiter has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// 503: a crash must not be a way past a limit
    Refuse,
    /// pass, for those to whom being served matters more than the limit
    Pass,
}

const ON_FAILURE: Choice<OnFailure> = Choice(&[("refuse", OnFailure::Refuse), ("pass", OnFailure::Pass)]);

section! {
    /// Rate limits of the whole gateway.
    pub struct RateLimitConfig {
        /// limit for all requests together
        pub global: Option<RateLimit> = RateLimitKeys("global");
        /// limit for each client address (IPv6: each /64)
        pub per_ip: Option<RateLimit> = RateLimitKeys("per_ip");
        /// limit for each client key that has none of its own, counted once its signature is verified
        pub per_key: Option<RateLimit> = RateLimitKeys("per_key");
        /// limit for each subject (`sub`) of tokens, counted once they are verified; those without one share it
        pub per_subject: Option<RateLimit> = RateLimitKeys("per_subject");
        /// limit for each client address of authentications that fail; beyond it none is tried
        pub failed_auth: Option<RateLimit> = RateLimitKeys("failed_auth");
        /// what requests cost of the limits
        pub cost: Costs = nested("cost");
        /// client addresses, and subjects of tokens, that are told apart; those beyond share one limit
        ///
        /// Raise it for more clients than that at a time; each costs memory.
        pub table_capacity: NonZeroUsize =
            key("table_capacity", whole(1..=10_000_000), nonzero_size(100_000));
        /// what requests that have a limit get while the limiter has failed
        pub on_failure: OnFailure = key("on_failure", ON_FAILURE, OnFailure::Refuse);
        /// which answers say in `RateLimit` and `RateLimit-Policy` what is left
        ///
        /// With `always` every request asks the limiter, which costs a busy gateway some speed.
        pub headers: LimitHeaders = key("headers", HEADERS, LimitHeaders::Refused);
    }
}

section! {
    /// The keys of a limit as they are written.
    struct Written {
        /// steady rate; the limit is off until this is set
        ///
        /// Watch `rate_limit_exceeded_total` and `rate_limit_current_rate`.
        requests_per_second: Option<f64> =
            unset("requests_per_second", decimal(0.001..=10_000_000.0), "off");
        /// requests that may come at once after a quiet time
        burst: Option<NonZeroU32> =
            unset("burst", whole(1..=BURST_MAX), "the rate, at least 1");
        /// whether it refuses; `shadow` only counts, and names it in the answer's `x-tidegate-shadow`
        ///
        /// Watch `rate_limit_shadowed_total`.
        mode: LimitMode = key("mode", MODE, LimitMode::Enforce);
    }
}

/// A section that holds one limit, off until its rate is set.
pub(crate) struct RateLimitKeys(pub(crate) &'static str);

impl Spec for RateLimitKeys {
    type Value = Option<RateLimit>;

    fn take(self, docs: Docs, section: &mut Section<'_>) -> Option<RateLimit> {
        let mut child = section.child(self.0);
        child.introduce(docs);
        let Written { requests_per_second, burst, mode } = Written::read(&mut child);
        let is_written = [("burst", child.is_set("burst")), ("mode", mode == LimitMode::Shadow)];
        for (word, is_written) in is_written {
            if is_written && !child.is_set("requests_per_second") {
                let rate = child.spell("requests_per_second");
                child.refuse(word, "limits nothing without a rate", Some(format!("set {rate} too")));
            }
        }
        let requests_per_second = requests_per_second?;
        let burst = burst.unwrap_or_else(|| burst_of(requests_per_second));
        Some(RateLimit { requests_per_second, burst, mode })
    }
}

/// A second's worth, which the form's range keeps far inside the type.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts from f64 saturate")]
fn burst_of(requests_per_second: f64) -> NonZeroU32 {
    NonZeroU32::new(requests_per_second as u32).unwrap_or(NonZeroU32::MIN)
}
