//! Maps every rejection to the figures of its decision (O4), beside the mapping to the reply.
//!
//! The match is exhaustive, so a new rejection cannot be forgotten. Measured values come from the rejection, thresholds from it or
//! from the configuration, which does not change while the gateway runs. `pool.rs` has the bucket's queue, `upstream.rs` failures
//! of the upstream and of the body.

mod deadline;
mod pool;
mod upstream;

use std::time::Duration;

use tidegate_actors::{
    AskError, BreakerRejection, LevelReason, LimitScope, LimitStatus, LimiterRejection, MonitorRejection,
};
use tidegate_config::ActionLevel;
use tidegate_s3::form::FormRejection;

use crate::auth::{AuthRejection, DeleteListRejection};
use crate::decisions::actor_figures;
use crate::decisions::decision::KeyName::{Bucket, ClientKey, Process, Upstream};
use crate::decisions::decision::{DecidingActor, DecisionScope, Figures, ThresholdKeys, Unit, number};
use crate::http::bucket_list::{BucketListRejection, FetchError};
use crate::http::cors::CorsRejection;
use crate::http::error::GatewayError;
use crate::http::error::figure_context::FigureContext;
use crate::http::request_validation::RequestRejection;
use crate::router::RouteRejection;

const REQUEST: Figures = Figures::of(DecisionScope::Request);
const CLIENT: Figures = Figures::of(DecisionScope::Client);
const PROCESS: Figures = Figures::of(DecisionScope::Process);
const BUCKET: Figures = Figures::of(DecisionScope::Bucket);

const REQUEST_SIZE: ThresholdKeys = &[Bucket("max_request_size"), Process("server.limits.max_request_size")];

impl GatewayError {
    /// What was measured, the threshold, and who decided.
    pub(crate) fn figures(&self, context: FigureContext<'_>) -> Figures {
        match self {
            Self::Request(rejection) => request(rejection),
            Self::Route(RouteRejection::NoSuchBucket(_) | RouteRejection::NoBucket) => REQUEST,
            Self::Cors(rejection) => cors(rejection),
            Self::Monitor(rejection) => monitor(rejection, context),
            Self::Shedding(rejection) => rejection.figures(),
            Self::Limiter(rejection) => limiter(rejection, context),
            Self::Auth(rejection) => auth(rejection),
            Self::Form(rejection) => form(rejection),
            Self::BucketList(rejection) => bucket_list(rejection, context),
            Self::Pool(rejection) => pool::of(rejection, context),
            Self::Breaker(rejection) => breaker(rejection, context),
            Self::Upstream(rejection) => upstream::of(rejection, context),
            Self::Panicked => PROCESS,
        }
    }
}

pub(super) fn request(rejection: &RequestRejection) -> Figures {
    let size = |bytes: u64, limit: u64, keys| {
        REQUEST.measured(number(bytes), Unit::Bytes).threshold(number(limit), Unit::Bytes).set_by(keys)
    };
    match rejection {
        RequestRejection::Host
        | RequestRejection::Framing(_)
        | RequestRejection::Target
        | RequestRejection::LengthRequired
        | RequestRejection::Method
        | RequestRejection::Deadline => REQUEST,
        RequestRejection::Suspicious(_) => REQUEST.set_by(&[Bucket("injection_patterns")]),
        RequestRejection::ProxyHeader => REQUEST.set_by(&[Process("server.proxy_protocol")]),
        RequestRejection::UriTooLong { bytes, limit } => {
            size(*bytes, *limit, &[Process("server.limits.max_uri_length")])
        }
        RequestRejection::HeadersTooLarge { bytes, limit } => {
            size(*bytes, *limit, &[Process("server.limits.max_header_size")])
        }
        RequestRejection::TooManyHeaders { count, limit } => REQUEST
            .measured(number(*count as u64), Unit::Headers)
            .threshold(number(*limit as u64), Unit::Headers)
            .set_by(&[Process("server.limits.max_headers")]),
        RequestRejection::BodyTooLarge { bytes: Some(bytes), limit } => size(*bytes, *limit, REQUEST_SIZE),
        RequestRejection::BodyTooLarge { bytes: None, limit } => {
            REQUEST.threshold(number(*limit), Unit::Bytes).set_by(REQUEST_SIZE)
        }
    }
}

fn cors(rejection: &CorsRejection) -> Figures {
    match rejection {
        CorsRejection::Missing(_) | CorsRejection::Body => REQUEST,
        // All permits are in use.
        CorsRejection::Full { limit } => BUCKET
            .measured(number(*limit as u64), Unit::Requests)
            .threshold(number(*limit as u64), Unit::Requests)
            .set_by(&[Upstream("concurrency.max_concurrent")]),
        CorsRejection::NotAllowed(_) => REQUEST.set_by(&[Bucket("cors.allowed_origins")]),
    }
}

fn monitor(rejection: &MonitorRejection, context: FigureContext<'_>) -> Figures {
    let count = |scope: Figures, measured: usize, limit: usize, unit, keys| {
        let figures = scope.measured(number(measured as u64), unit).threshold(number(limit as u64), unit);
        figures.set_by(keys).decided_by(DecidingActor::Monitor)
    };
    match rejection {
        MonitorRejection::Exhausted { reason, retry_after } => {
            shed(*reason, *retry_after, context.config.actions.shed_requests.on_level, context)
        }
        MonitorRejection::ShedUpload { reason, retry_after } => {
            shed(*reason, *retry_after, context.config.actions.shed_uploads.on_level, context)
        }
        MonitorRejection::Full { in_flight, limit } => {
            // A lower limit is what fits the free memory.
            let is_memory = *limit < context.config.server.max_concurrent_requests.get();
            let keys: ThresholdKeys = match is_memory {
                true => &[Process("monitor.memory_limit_bytes")],
                false => &[Process("server.max_concurrent_requests")],
            };
            count(PROCESS, *in_flight, *limit, Unit::Requests, keys)
        }
        MonitorRejection::ClientFull { in_flight, limit } => {
            count(CLIENT, *in_flight, *limit, Unit::Requests, &[Process("concurrency.max_per_client")])
        }
        MonitorRejection::FormsFull { pending, limit, is_clients } => {
            let scope = if *is_clients { CLIENT } else { PROCESS };
            count(scope, *pending, *limit, Unit::Forms, &[Process("concurrency.max_pending_forms")])
        }
        MonitorRejection::Unavailable(error) => unavailable(PROCESS, DecidingActor::Monitor, *error, context),
    }
}

/// A request that an action refuses from this level on.
fn shed(
    reason: Option<LevelReason>,
    retry_after: Duration,
    on_level: ActionLevel,
    context: FigureContext<'_>,
) -> Figures {
    let monitor = &context.config.monitor;
    let (threshold, keys): (_, ThresholdKeys) = match on_level {
        ActionLevel::Warning => (monitor.warning, &[Process("monitor.warning")]),
        ActionLevel::Critical => (monitor.critical, &[Process("monitor.critical")]),
        ActionLevel::Exhausted => (monitor.exhausted, &[Process("monitor.exhausted")]),
    };
    let figures = PROCESS.until(retry_after).decided_by(DecidingActor::Monitor).set_by(keys);
    let figures = figures.threshold(f64::from(threshold), Unit::Percent);
    let percent = reason.and_then(|reason| reason.percent);
    percent.map_or(figures, |percent| figures.measured(percent, Unit::Percent))
}

fn limiter(rejection: &LimiterRejection, context: FigureContext<'_>) -> Figures {
    let LimitStatus { scope, burst, remaining, retry_after, .. } = match rejection {
        LimiterRejection::Limited(status) => status,
        LimiterRejection::Unavailable(error) => {
            return unavailable(PROCESS, DecidingActor::Limiter, *error, context);
        }
    };
    let (decision_scope, keys) = limit(*scope);
    Figures::of(decision_scope)
        .measured(f64::from(*remaining), Unit::Tokens)
        .threshold(f64::from(*burst), Unit::Tokens)
        .until(*retry_after)
        .decided_by(DecidingActor::Limiter)
        .set_by(keys)
}

/// What a limit is for, and the keys that can hold it. Without a burst, the rate is the burst.
pub(crate) fn limit(scope: LimitScope) -> (DecisionScope, ThresholdKeys) {
    match scope {
        LimitScope::Global => (
            DecisionScope::Process,
            &[Process("rate_limit.global.burst"), Process("rate_limit.global.requests_per_second")],
        ),
        LimitScope::Ip => (
            DecisionScope::ClientAddress,
            &[Process("rate_limit.per_ip.burst"), Process("rate_limit.per_ip.requests_per_second")],
        ),
        LimitScope::Bucket => {
            (DecisionScope::Bucket, &[Bucket("rate_limit.burst"), Bucket("rate_limit.requests_per_second")])
        }
        LimitScope::Key => (
            DecisionScope::ClientKey,
            &[
                ClientKey("rate_limit.burst"),
                ClientKey("rate_limit.requests_per_second"),
                Process("rate_limit.per_key.burst"),
                Process("rate_limit.per_key.requests_per_second"),
            ],
        ),
        LimitScope::Subject => (
            DecisionScope::ClientSubject,
            &[Process("rate_limit.per_subject.burst"), Process("rate_limit.per_subject.requests_per_second")],
        ),
        LimitScope::FailedAuth => (
            DecisionScope::ClientAddress,
            &[Process("rate_limit.failed_auth.burst"), Process("rate_limit.failed_auth.requests_per_second")],
        ),
    }
}

pub(super) fn breaker(rejection: &BreakerRejection, context: FigureContext<'_>) -> Figures {
    let config = context.bucket.map(|bucket| &bucket.upstream.circuit_breaker);
    actor_figures::breaker(rejection, config, &context.config.supervision)
}

fn unavailable(scope: Figures, actor: DecidingActor, error: AskError, context: FigureContext<'_>) -> Figures {
    actor_figures::unavailable(scope, actor, error, &context.config.supervision)
}

pub(super) fn auth(rejection: &AuthRejection) -> Figures {
    match rejection {
        AuthRejection::BucketClosed | AuthRejection::Unsigned | AuthRejection::MissingAuth(_) => {
            BUCKET.set_by(&[Bucket("auth")])
        }
        AuthRejection::AnonymousDenied(_) | AuthRejection::NeedsConfigure { is_anonymous: true, .. } => {
            BUCKET.set_by(&[Bucket("anonymous")])
        }
        AuthRejection::PolicyDenied(_)
        | AuthRejection::NeedsConfigure { is_anonymous: false, .. }
        | AuthRejection::CopySourceDenied
        | AuthRejection::DotSegment
        | AuthRejection::InvalidDeleteList(DeleteListRejection::Checksum) => {
            CLIENT.set_by(&[ClientKey("policy")])
        }
        AuthRejection::MalformedSession
        | AuthRejection::UnknownApiKey
        | AuthRejection::Token(_)
        | AuthRejection::Signature(_)
        | AuthRejection::SignatureMismatch(_)
        | AuthRejection::AnonymousOverride
        | AuthRejection::InvalidDeleteList(DeleteListRejection::Malformed(_) | DeleteListRejection::Length)
        | AuthRejection::ConflictingParameters(_) => REQUEST,
    }
}

fn form(rejection: &FormRejection) -> Figures {
    let size = |measured: u64, limit: u64, unit| {
        REQUEST.measured(number(measured), unit).threshold(number(limit), unit)
    };
    match rejection {
        FormRejection::HeadersTooLarge { bytes, limit } => {
            size(*bytes, *limit, Unit::Bytes).set_by(&[Process("server.limits.max_header_size")])
        }
        FormRejection::TooManyHeaders { count, limit } => {
            size(*count as u64, *limit as u64, Unit::Headers).set_by(&[Process("server.limits.max_headers")])
        }
        FormRejection::TooSmall { bytes, least } => size(*bytes, *least, Unit::Bytes),
        FormRejection::TooLarge { bytes, most } => size(*bytes, *most, Unit::Bytes),
        FormRejection::Timeout => REQUEST.set_by(&[Process("server.header_timeout")]),
        FormRejection::Malformed(_)
        | FormRejection::FieldsTooLarge
        | FormRejection::MissingLength
        | FormRejection::NoFile
        | FormRejection::MissingField(_)
        | FormRejection::InvalidField { .. }
        | FormRejection::InvalidTagging(_)
        | FormRejection::UnsupportedField(_)
        | FormRejection::InvalidPolicy(_)
        | FormRejection::PolicyDenied(_) => REQUEST,
    }
}

fn bucket_list(rejection: &BucketListRejection, context: FigureContext<'_>) -> Figures {
    match rejection {
        BucketListRejection::Parameter(_) => REQUEST,
        BucketListRejection::Store { section: _, error } => match error {
            FetchError::Gateway(error) => error.figures(context),
            FetchError::Status(..)
            | FetchError::Body(_)
            | FetchError::TooManyBytes
            | FetchError::Document(_)
            | FetchError::TooMany => BUCKET,
        },
    }
}
