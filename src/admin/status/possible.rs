//! Which causes can occur with a configuration: the gauges that exist at 0 from the start.

use tidegate_actors::Action;
use tidegate_config::{ActionMode, BreakerMode, BucketConfig, Config, LimitMode, OnFailure, RateLimit};

use crate::degradation::codes::{CauseCode, ScopeKind};
use crate::degradation::finding::Scope;

/// Each cause that can occur, with the process or a bucket as its scope.
pub(crate) fn possible(config: &Config) -> Vec<(CauseCode, Scope)> {
    let mut causes: Vec<_> = CauseCode::ALL
        .iter()
        .filter(|code| is_of_process(**code) && is_possible(**code, config))
        .map(|code| (*code, Scope::process()))
        .collect();
    // there may be thousands of keys
    let has_shared_shadow_limit = has_shared_shadow_limit(config);
    for (name, bucket) in &config.buckets {
        let possible = CauseCode::ALL
            .iter()
            .filter(|code| is_of_bucket(**code) && is_possible_in(**code, bucket, has_shared_shadow_limit));
        causes.extend(possible.map(|code| (*code, Scope::bucket(name))));
    }
    causes
}

/// Whether an actor of any kind can have it.
fn is_of_any_actor(code: CauseCode) -> bool {
    matches!(
        code,
        CauseCode::ActorFailed
            | CauseCode::ActorStalled
            | CauseCode::ActorRestarting
            | CauseCode::MailboxFull
    )
}

/// Whether the gauge has the scope of the process.
fn is_of_process(code: CauseCode) -> bool {
    is_of_any_actor(code) || code == CauseCode::Shedding || !is_of_bucket(code)
}

/// Whether the gauge has the scope of a bucket.
fn is_of_bucket(code: CauseCode) -> bool {
    let kind = code.entry().scope;
    is_of_any_actor(code)
        || matches!(kind, ScopeKind::Bucket | ScopeKind::Endpoint | ScopeKind::Credential)
        || code == CauseCode::PoolFailed
}

fn is_possible(code: CauseCode, config: &Config) -> bool {
    let refuses = config.rate_limit.on_failure == OnFailure::Refuse;
    match code {
        CauseCode::LimiterFailed => refuses,
        CauseCode::LimiterBypassed => !refuses,
        CauseCode::TokenKeysMissing | CauseCode::TokenKeysRefresh => {
            config.jwt.as_ref().is_some_and(|jwt| jwt.jwks.is_some())
        }
        CauseCode::CertificateExpired
        | CauseCode::CertificateNotYetValid
        | CauseCode::CertificateExpires
        | CauseCode::CertificateRefused => {
            config.server.tls.files().is_some() || config.admin.tls.files().is_some()
        }
        CauseCode::Chaos => config.admin.chaos,
        CauseCode::ClientLimitShadow => {
            let limit = &config.concurrency;
            limit.max_per_client > 0 && limit.max_per_client_mode == ActionMode::Shadow
        }
        CauseCode::ActionShadow => has_shadow_action(config),
        CauseCode::Shedding => config.shedding.mode != ActionMode::Off,
        _ => true,
    }
}

fn is_possible_in(code: CauseCode, bucket: &BucketConfig, has_shared_shadow_limit: bool) -> bool {
    let upstream = &bucket.upstream;
    let (mode, named) = (upstream.circuit_breaker.mode, &upstream.credentials_by_name);
    match code {
        CauseCode::CircuitForcedOpen => mode == BreakerMode::ForcedOpen,
        CauseCode::CircuitOpen | CauseCode::CircuitHalfOpen => mode == BreakerMode::On,
        CauseCode::CircuitShadow => mode == BreakerMode::Shadow,
        CauseCode::StandbyInUse => upstream.load_balancing.standby > 0,
        CauseCode::EndpointOut | CauseCode::EndpointDraining => upstream.endpoints.len() > 1,
        CauseCode::UpstreamTls => upstream.endpoints.iter().any(tidegate_config::Endpoint::is_tls),
        CauseCode::ResolverStale | CauseCode::UpstreamUnresolved => {
            !upstream.endpoints.iter().all(tidegate_config::Endpoint::is_address)
        }
        CauseCode::UpstreamClockSkew => is_signing(bucket),
        CauseCode::CredentialsOut | CauseCode::CredentialRefused | CauseCode::CredentialCooling => {
            !named.is_empty()
        }
        CauseCode::CredentialsMissing => upstream.container_credentials.is_some(),
        CauseCode::CredentialRenewal => is_renewing(bucket),
        CauseCode::Shedding => {
            let concurrency = &upstream.concurrency;
            concurrency.max_queued > 0 && concurrency.shedding.mode != ActionMode::Off
        }
        CauseCode::LimitShadow => has_shared_shadow_limit || is_shadow(bucket.rate_limit),
        _ => true,
    }
}

fn has_shadow_action(config: &Config) -> bool {
    let is_shadow = |action: Action| action.config(&config.actions).mode == ActionMode::Shadow;
    Action::ALL.into_iter().any(is_shadow)
}

fn is_signing(bucket: &BucketConfig) -> bool {
    let upstream = &bucket.upstream;
    bucket.kind == tidegate_config::Kind::S3
        && (upstream.credentials.is_some()
            || upstream.container_credentials.is_some()
            || !upstream.credentials_by_name.is_empty())
}

fn is_renewing(bucket: &BucketConfig) -> bool {
    let is_container = |identity: &_| matches!(identity, tidegate_config::Identity::Container(_));
    let upstream = &bucket.upstream;
    upstream.container_credentials.is_some()
        || upstream.credentials_by_name.iter().any(|each| is_container(&each.identity))
}

fn is_shadow(limit: Option<RateLimit>) -> bool {
    limit.is_some_and(|limit| limit.mode == LimitMode::Shadow)
}

/// Whether a limit that applies to several buckets is in shadow mode.
fn has_shared_shadow_limit(config: &Config) -> bool {
    let limits = &config.rate_limit;
    let of_keys = config.keys.values().map(|key| key.rate_limit);
    let of_api_keys = config.api_keys.values().map(|key| key.rate_limit);
    let shared = [limits.global, limits.per_ip, limits.per_key, limits.per_subject, limits.failed_auth];
    shared.into_iter().chain(of_keys).chain(of_api_keys).any(is_shadow)
}
