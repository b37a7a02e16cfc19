//! The reasons that each bucket can give in `errors_total`, and those of `unrouted_total` (O3, O4).
//!
//! Each reason has a series at 0 from the start, so that a rate contains its first count. A bucket has no series for a
//! reason that its configuration excludes. `docs/errors.md` documents the reasons. `tests/tidy/documented_words.rs`
//! compares its tables with these, and the log of every gateway under test shows a reason that is missing here.

mod buckets;

use std::collections::BTreeSet;

use tidegate_config::{ActionMode, AuthMethod, BucketConfig, Config, LimitMode, Priority, RateLimit};

/// Reasons with one condition on the configuration.
struct Group {
    applies: fn(&Config) -> bool,
    reasons: &'static [&'static str],
}

const fn group(applies: fn(&Config) -> bool, reasons: &'static [&'static str]) -> Group {
    Group { applies, reasons }
}

/// The reasons of connections and requests without a bucket, and of requests for the list of buckets.
const UNROUTED: [Group; 15] = [
    group(
        |_| true,
        &[
            "bucket_list_parameter",
            "client_gone",
            "deadline",
            "drain_timeout",
            "exhausted",
            "frame_flood",
            "framing",
            "head_too_large",
            "header_timeout",
            "headers_too_large",
            "host",
            "length_required",
            "malformed",
            "memory_pressure",
            "method",
            "no_bucket",
            "no_such_bucket",
            "panic",
            "path",
            "response_parameter",
            "slow_client",
            "slow_client_rate",
            "target",
            "too_many_headers",
            "too_many_requests_in_flight",
            "write_stall",
        ],
    ),
    group(|config| config.shedding.mode == ActionMode::Enforce, &["shed"]),
    group(|config| config.server.proxy_protocol, &["proxy_header", "proxy_header_timeout"]),
    group(
        |config| config.server.tls.files().is_some() || config.admin.tls.files().is_some(),
        &["tls_handshake", "tls_handshake_timeout"],
    ),
    group(|config| refuses(config.rate_limit.global), &["rate_limit_global"]),
    group(|config| refuses(config.rate_limit.per_ip), &["rate_limit_ip"]),
    group(limits_keys, &["rate_limit_key"]),
    group(|config| refuses(config.rate_limit.per_subject), &["rate_limit_subject"]),
    group(|config| refuses(config.rate_limit.failed_auth), &["rate_limit_failed_auth"]),
    group(is_limited, &["limiter_unavailable"]),
    group(|config| config.concurrency.refuses_clients(), &["client_concurrency", "monitor_unavailable"]),
    group(|config| is_accepted(config, AuthMethod::Sigv4), SIGNATURES),
    group(|config| is_accepted(config, AuthMethod::Sigv2), SIGV2),
    group(|config| is_accepted(config, AuthMethod::Jwt), TOKENS),
    group(|config| is_accepted(config, AuthMethod::ApiKey), &["api_key_unknown"]),
];

/// The reasons of presented signatures.
const SIGNATURES: &[&str] = &[
    "authorization_malformed",
    "authorization_scheme",
    "chunk_signature",
    "clock_skewed",
    "content_sha256_malformed",
    "content_sha256_missing",
    "date_missing",
    "header_not_signed",
    "key_expired",
    "not_signed",
    "presigned_early",
    "presigned_expired",
    "presigned_malformed",
    "security_token",
    "signature_ambiguous",
    "signature_mismatch",
    "signature_not_implemented",
    "unknown_key",
];

const SIGV2: &[&str] = &["sigv2_chunks", "sigv2_lifetime", "sigv2_malformed", "sigv2_uncovered"];

const TOKENS: &[&str] = &[
    "token_algorithm",
    "token_audience",
    "token_claim",
    "token_early",
    "token_expired",
    "token_grants",
    "token_issuer",
    "token_key",
    "token_keys",
    "token_malformed",
    "token_repeated",
    "token_signature",
];

/// What the reasons of all buckets depend on. It is found once for a configuration, because there may be thousands of keys.
#[derive(Clone, Copy)]
pub(crate) struct ReasonScope<'a> {
    config: &'a Config,
    limits_keys: bool,
    is_limited: bool,
    has_low_keys: bool,
}

impl<'a> ReasonScope<'a> {
    pub(crate) fn of(config: &'a Config) -> Self {
        let priorities = config.keys.values().map(|key| key.priority);
        let mut priorities = priorities.chain(config.api_keys.values().map(|key| key.priority));
        Self {
            config,
            limits_keys: limits_keys(config),
            is_limited: is_limited(config),
            has_low_keys: priorities.any(|priority| priority == Some(Priority::Low)),
        }
    }
}

/// The reasons that the bucket `bucket` of this configuration can give.
pub(crate) fn of_bucket(all: ReasonScope<'_>, bucket: &BucketConfig) -> BTreeSet<&'static str> {
    let scope = buckets::Scope { config: all.config, all, bucket };
    let groups = buckets::REASONS.iter().filter(|group| (group.applies)(scope));
    groups.flat_map(|group| group.reasons).copied().collect()
}

/// The reasons of connections and requests that reach no bucket.
pub(crate) fn unrouted(config: &Config) -> BTreeSet<&'static str> {
    let groups = UNROUTED.iter().filter(|group| (group.applies)(config));
    groups.flat_map(|group| group.reasons).copied().collect()
}

fn refuses(limit: Option<RateLimit>) -> bool {
    limit.is_some_and(|limit| limit.mode == LimitMode::Enforce)
}

/// Whether a client key or an API key has a limit that refuses.
fn limits_keys(config: &Config) -> bool {
    let own = config.keys.values().map(|key| key.rate_limit);
    let mut limits = own.chain(config.api_keys.values().map(|key| key.rate_limit));
    limits.any(|limit| refuses(limit.or(config.rate_limit.per_key)))
}

/// Whether the limiter is asked about requests without a bucket.
fn is_limited(config: &Config) -> bool {
    let limits = &config.rate_limit;
    let any = [limits.global, limits.per_ip, limits.per_key, limits.per_subject, limits.failed_auth];
    any.iter().any(Option::is_some)
        || config.keys.values().any(|key| key.rate_limit.is_some())
        || config.api_keys.values().any(|key| key.rate_limit.is_some())
}

fn is_accepted(config: &Config, method: AuthMethod) -> bool {
    config.buckets.values().any(|bucket| bucket.auth.contains(&method))
}
