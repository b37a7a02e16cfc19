//! The reasons that requests with a known bucket can give.

use tidegate_config::{
    Access, ActionMode, AuthMethod, BreakerMode, BucketConfig, Checksums, ClientDeadline, Config, ContentMd5,
    Endpoint, InjectionPatterns, Kind, Overload, Priority, Sni,
};

use super::{ReasonScope, SIGNATURES, SIGV2, TOKENS, refuses};

/// Reasons with one condition on the bucket.
pub(super) struct Group {
    pub(super) applies: fn(Scope<'_>) -> bool,
    pub(super) reasons: &'static [&'static str],
}

const fn group(applies: fn(Scope<'_>) -> bool, reasons: &'static [&'static str]) -> Group {
    Group { applies, reasons }
}

/// A bucket and the configuration of the gateway.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) config: &'a Config,
    pub(super) all: ReasonScope<'a>,
    pub(super) bucket: &'a BucketConfig,
}

impl Scope<'_> {
    fn is_s3(self) -> bool {
        self.bucket.kind == Kind::S3
    }

    fn accepts(self, method: AuthMethod) -> bool {
        self.bucket.auth.contains(&method)
    }

    /// Whether any client is accepted.
    fn is_open(self) -> bool {
        !self.bucket.auth.is_empty()
    }

    fn is_open_s3(self) -> bool {
        self.is_open() && self.is_s3()
    }

    /// Whether documents are read whole: lists of objects to delete that are checked by key, and documents that a store needs changed.
    fn reads_documents(self) -> bool {
        let integrity = &self.bucket.upstream.integrity;
        let is_changed = integrity.content_md5 == ContentMd5::Add || integrity.checksums == Checksums::Strip;
        self.is_open_s3() && (self.has_identities() || is_changed)
    }

    /// Whether clients have keys or tokens with policies.
    fn has_identities(self) -> bool {
        [AuthMethod::Sigv4, AuthMethod::ApiKey, AuthMethod::Jwt].iter().any(|method| self.accepts(*method))
    }

    fn accepts_bearer(self) -> bool {
        self.accepts(AuthMethod::ApiKey) || self.accepts(AuthMethod::Jwt)
    }

    fn accepts_forms(self) -> bool {
        self.is_s3() && (self.accepts(AuthMethod::Sigv4) || self.bucket.anonymous.contains(&Access::Write))
    }

    fn calls_with_tls(self) -> bool {
        self.is_open() && self.bucket.upstream.endpoints.iter().any(Endpoint::is_tls)
    }

    fn has_mode(self, modes: &[BreakerMode]) -> bool {
        self.is_open() && modes.contains(&self.bucket.upstream.circuit_breaker.mode)
    }

    /// Whether the action `shed_uploads` can refuse a write.
    fn has_low_writes(self) -> bool {
        self.is_open()
            && self.config.actions.shed_uploads.mode == ActionMode::Enforce
            && (self.bucket.upstream.concurrency.priority.write == Priority::Low || self.all.has_low_keys)
    }

    /// Whether the cursor of its queue refuses requests.
    fn sheds(self) -> bool {
        let concurrency = &self.bucket.upstream.concurrency;
        concurrency.max_queued > 0 && concurrency.shedding.mode == ActionMode::Enforce
    }

    fn limits_keys(self) -> bool {
        (self.accepts(AuthMethod::Sigv4) || self.accepts(AuthMethod::ApiKey)) && self.all.limits_keys
    }
}

/// The reasons of requests with a known bucket. A reason in several groups needs one of their conditions.
pub(super) const REASONS: [Group; 46] = [
    group(
        |_| true,
        &[
            "body_too_large",
            "bucket_draining",
            "client_gone",
            "drain_timeout",
            "exhausted",
            "memory_pressure",
            "panic",
            "session_malformed",
            "slow_client",
            "slow_client_rate",
            "too_many_requests_in_flight",
            "uri_too_long",
            "write_stall",
        ],
    ),
    group(
        |scope| scope.is_open(),
        &[
            "body_malformed",
            "broken_answer",
            "decode_failed",
            "endpoints_draining",
            "out_of_descriptors",
            "out_of_memory",
            "out_of_ports",
            "pool_unavailable",
            "queue_full",
            "short_answer",
            "target",
            "timeout_body_rate",
            "timeout_connect",
            "timeout_first_byte",
            "timeout_idle",
            "timeout_total",
            "timeout_upload",
            "upstream_connect",
            "upstream_connect_attempt",
            "upstream_connection_reused_closed",
            "upstream_dns",
            "upstream_reset",
        ],
    ),
    group(
        |scope| scope.is_open() && scope.bucket.upstream.concurrency.max_queued > 0,
        &["queue_displaced", "queue_timeout", "queue_too_long"],
    ),
    group(|scope| scope.config.shedding.mode == ActionMode::Enforce, &["shed"]),
    group(|scope| scope.is_open() && scope.sheds(), &["shed_bucket"]),
    group(
        |scope| scope.is_open() && scope.bucket.upstream.concurrency.overload == Overload::Codel,
        &["queue_overload"],
    ),
    group(
        |scope| scope.is_open_s3(),
        &[
            "answer_checksum",
            "checksum_algorithm",
            "checksum_malformed",
            "checksum_mismatch",
            "chunk_framing",
            "chunk_overhead",
            "chunk_too_large",
            "conflicting_parameters",
            "copy_source",
            "decoded_length",
            "late_error",
            "md5_malformed",
            "md5_mismatch",
            "payload_hash",
            "sha256_mismatch",
            "sigv4a",
            "timeout_long_operation",
            "trailer_malformed",
            "trailer_unsupported",
            "upstream_clock_skew",
            "upstream_redirect",
            "upstream_region",
        ],
    ),
    group(
        |scope| scope.is_open_s3() && scope.bucket.upstream.integrity.checksums == Checksums::Strip,
        &["document_length"],
    ),
    group(|scope| scope.is_open_s3() && !scope.bucket.pattern.is_exact(), &["bucket_list_incomplete"]),
    group(|scope| scope.is_s3() || scope.bucket.cors.is_some(), &["preflight"]),
    group(|scope| scope.bucket.cors.is_some(), &["cors"]),
    group(|scope| scope.is_open_s3() && scope.bucket.cors.is_none(), &["too_many_preflights"]),
    group(|scope| !scope.is_s3() && scope.bucket.cors.is_none(), &["method"]),
    group(|scope| !scope.is_open(), &["bucket_closed"]),
    group(|scope| scope.accepts(AuthMethod::Sigv4), SIGNATURES),
    group(|scope| scope.accepts(AuthMethod::Sigv2), SIGV2),
    group(|scope| scope.accepts(AuthMethod::ApiKey), &["api_key_unknown"]),
    group(|scope| scope.accepts(AuthMethod::Jwt), TOKENS),
    group(|scope| scope.accepts_bearer() && !scope.accepts(AuthMethod::Anonymous), &["unproven"]),
    group(|scope| scope.has_identities(), &["dot_segment", "policy_denied"]),
    group(|scope| scope.accepts(AuthMethod::Sigv4) || scope.accepts(AuthMethod::ApiKey), &["key_withdrawn"]),
    group(|scope| scope.is_s3() && scope.has_identities(), &["delete_list"]),
    group(|scope| scope.accepts(AuthMethod::Anonymous), &["anonymous_denied"]),
    group(|scope| scope.is_s3() && scope.accepts(AuthMethod::Anonymous), &["anonymous_override"]),
    group(
        |scope| scope.accepts_forms(),
        &[
            "form_denied",
            "form_field",
            "form_field_not_implemented",
            "form_fields_too_large",
            "form_file_size",
            "form_malformed",
            "form_policy",
            "form_tagging",
            "form_timeout",
            "length_required",
            "path",
            "too_many_pending_forms",
        ],
    ),
    group(|scope| scope.reads_documents(), &["body_memory"]),
    group(|scope| scope.accepts_forms() && scope.accepts(AuthMethod::Sigv4), &["form_signature_malformed"]),
    group(|scope| scope.bucket.injection_patterns == InjectionPatterns::Block, &["injection", "path"]),
    group(
        |scope| scope.bucket.upstream.client_deadline != ClientDeadline::Ignore,
        &["deadline", "timeout_deadline"],
    ),
    group(|scope| refuses(scope.config.rate_limit.global), &["rate_limit_global"]),
    group(|scope| refuses(scope.config.rate_limit.per_ip), &["rate_limit_ip"]),
    group(|scope| refuses(scope.bucket.rate_limit), &["rate_limit_bucket"]),
    group(|scope| scope.limits_keys(), &["rate_limit_key"]),
    group(
        |scope| refuses(scope.config.rate_limit.per_subject) && scope.accepts(AuthMethod::Jwt),
        &["rate_limit_subject"],
    ),
    group(|scope| refuses(scope.config.rate_limit.failed_auth), &["rate_limit_failed_auth"]),
    group(|scope| scope.bucket.rate_limit.is_some() || scope.all.is_limited, &["limiter_unavailable"]),
    group(|scope| scope.config.concurrency.refuses_clients(), &["client_concurrency"]),
    group(|scope| scope.has_low_writes(), &["shed_upload"]),
    group(
        |scope| scope.config.concurrency.refuses_clients() || scope.accepts_forms(),
        &["monitor_unavailable"],
    ),
    group(|scope| scope.has_mode(&[BreakerMode::On]), &["breaker_half_open", "breaker_open"]),
    group(|scope| scope.has_mode(&[BreakerMode::On, BreakerMode::Shadow]), &["breaker_unavailable"]),
    group(|scope| scope.has_mode(&[BreakerMode::ForcedOpen]), &["breaker_forced_open"]),
    group(
        |scope| scope.is_open() && scope.bucket.upstream.container_credentials.is_some(),
        &["upstream_credentials"],
    ),
    group(
        |scope| scope.is_open() && !scope.bucket.upstream.credentials_by_name.is_empty(),
        &["credentials_refused", "credentials_throttled", "upstream_credentials"],
    ),
    group(|scope| scope.calls_with_tls(), &["upstream_tls"]),
    group(|scope| scope.calls_with_tls() && scope.bucket.upstream.sni == Sni::Host, &["upstream_tls_host"]),
];
