//! Answers to what fails on the way to the upstream: the upstream itself, and the client's body as it passes.

use std::time::Duration;

use actix_web::http::StatusCode;

use crate::http::error::{edge, slow_down};
use crate::http::error_reply::ErrorReply;
use crate::http::request_validation::RequestRejection;
use crate::s3::chunked::ChunkFault;
use crate::s3::upload::{RefusalKind, UploadFault};
use crate::upstream::store_clock::ClockSkew;
use crate::upstream::tls_failure::TlsFailure;
use crate::upstream::{TimeoutKind, UpstreamRejection};

/// When to try again where the gateway cannot sign with the store's time.
const CLOCK_RETRY_AFTER: Duration = Duration::from_secs(30);

/// What the client is told of an upstream that failed, or of a request that failed on its way there.
pub(super) fn error_reply(rejection: &UpstreamRejection) -> ErrorReply {
    let bad =
        |reason, message: String| ErrorReply::new(StatusCode::BAD_GATEWAY, "BadGateway", reason, message);
    match rejection {
        // Without the figures, which are the operator's.
        UpstreamRejection::Shortage(shortage) => slow_down(
            shortage.as_str(),
            "the gateway cannot call the upstream now: it has too little of a resource of its own",
        ),
        UpstreamRejection::Connect(why) => {
            bad("upstream_connect", format!("cannot connect to the upstream: {why}"))
        }
        UpstreamRejection::TlsRejected(failure) => tls_rejected(failure),
        UpstreamRejection::ClockSkew(skew) => clock_skew(skew),
        UpstreamRejection::HostNotInCertificate(why) => bad(
            "upstream_tls_host",
            format!("the upstream cannot be asked for this bucket under its own name: {why}"),
        ),
        UpstreamRejection::WrongRegion(region) => wrong_region(region),
        UpstreamRejection::NoCredentials(why) => ErrorReply::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "ServiceUnavailable",
            "upstream_credentials",
            format!("the gateway has no credentials for the upstream: {why}"),
        )
        .with_retry_after(Duration::from_secs(1)),
        UpstreamRejection::Reset(why) => {
            bad("upstream_reset", format!("the upstream closed the connection before it answered: {why}"))
        }
        UpstreamRejection::Decode(why) => {
            bad("decode_failed", format!("the upstream's answer is no HTTP: {why}"))
        }
        UpstreamRejection::NoDeleteResult => bad(
            "decode_failed",
            "the store's answer to a multi-delete is no plain DeleteResult document; the store may have deleted the allowed \
             objects; repeat the request"
                .to_owned(),
        ),
        UpstreamRejection::Timeout(phase) => timeout(*phase),
        // Nothing of where it points to: that is the upstream's name and not the client's business.
        UpstreamRejection::Redirect(status) => ErrorReply::new(
            *status,
            if matches!(status.as_u16(), 301 | 308) { "PermanentRedirect" } else { "TemporaryRedirect" },
            "upstream_redirect",
            "the store wants this bucket to be addressed elsewhere, which the gateway's endpoint or region for it does not say",
        )
        .with_region(),
        UpstreamRejection::BodyTooLarge { limit } => {
            edge(&RequestRejection::BodyTooLarge { bytes: None, limit: *limit })
        }
        UpstreamRejection::ClientGone => ErrorReply::new(
            StatusCode::BAD_REQUEST,
            "IncompleteBody",
            "client_gone",
            "the request's body ended before its announced length",
        )
        .with_close(),
        UpstreamRejection::BodyMalformed(why) => body_malformed(why),
        UpstreamRejection::InvalidUpload(fault) => upload(*fault),
        UpstreamRejection::MemoryPressure => ErrorReply::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "ServiceUnavailable",
            "memory_pressure",
            "the gateway is short of memory and has ended this upload",
        )
        .with_retry_after(Duration::from_secs(1))
        .with_close(),
        UpstreamRejection::InvalidTarget => ErrorReply::new(
            StatusCode::BAD_REQUEST,
            "InvalidURI",
            "target",
            "the upstream target cannot be built from this path",
        ),
    }
}

fn body_malformed(why: &str) -> ErrorReply {
    let message = format!("the body is malformed: {why}");
    ErrorReply::new(StatusCode::BAD_REQUEST, "InvalidRequest", "body_malformed", message).with_close()
}

/// The names in the certificate and the keys of the configuration are the operator's.
fn tls_rejected(failure: &TlsFailure) -> ErrorReply {
    let message = format!("no TLS connection to the upstream: {}", failure.reason());
    ErrorReply::new(StatusCode::BAD_GATEWAY, "BadGateway", "upstream_tls", message)
        .with_log_detail(failure.to_string())
}

fn wrong_region(region: &str) -> ErrorReply {
    let message = "the store requires signatures for another region than the gateway's configuration names";
    ErrorReply::new(StatusCode::BAD_GATEWAY, "BadGateway", "upstream_region", message).with_log_detail(
        format!("the store requires signatures for region {region:?}: set it in buckets.NAME.s3.region"),
    )
}

fn clock_skew(skew: &ClockSkew) -> ErrorReply {
    let after = if skew.retry_offset.is_some() { Duration::from_secs(1) } else { CLOCK_RETRY_AFTER };
    ErrorReply::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "ServiceUnavailable",
        "upstream_clock_skew",
        "the store refuses the time of the gateway's signature",
    )
    .with_retry_after(after)
    .with_log_detail(skew.detail.clone())
}

/// A timeout that the client causes is 408, any other 504.
fn timeout(phase: TimeoutKind) -> ErrorReply {
    let clients = |message| {
        ErrorReply::new(StatusCode::REQUEST_TIMEOUT, "RequestTimeout", phase.reason(), message).with_close()
    };
    match phase {
        TimeoutKind::BodyRate => clients("the request's body comes more slowly than the gateway waits for"),
        TimeoutKind::Crowding => clients(
            "this client has too many requests whose bodies it does not send or whose answers it does not read",
        ),
        _ => ErrorReply::new(
            StatusCode::GATEWAY_TIMEOUT,
            "GatewayTimeout",
            phase.reason(),
            format!("the upstream did not answer in time: {}", phase.as_str()),
        ),
    }
}

fn upload(fault: UploadFault) -> ErrorReply {
    let (refusal, code, reason) = fault.refusal();
    let status = match refusal {
        RefusalKind::Bad => StatusCode::BAD_REQUEST,
        RefusalKind::Denied => StatusCode::FORBIDDEN,
        RefusalKind::LengthRequired => StatusCode::LENGTH_REQUIRED,
        RefusalKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        RefusalKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
    };
    let answer = ErrorReply::new(status, code, reason, fault.to_string());
    let answer = match fault {
        UploadFault::Chunk(ChunkFault::TooLarge { bytes, limit }) => answer.with_size(Some(bytes), limit),
        _ => answer,
    };
    answer.with_close()
}
