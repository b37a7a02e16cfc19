//! Error replies for failures of an upstream, and of the client's body on its way there.

use std::time::Duration;

use actix_web::http::StatusCode;
use tidegate_s3::chunked::ChunkFault;
use tidegate_s3::upload::{RefusalKind, UploadFault};

use crate::auth::AuthRejection;
use crate::buffers::body_memory::BodyMemoryFull;
use crate::buffers::cut::TransferCut;
use crate::http::error::{auth, breaker, pool, request, slow_down};
use crate::http::error_reply::ErrorReply;
use crate::http::request_validation::RequestRejection;
use crate::upstream::connect::tls_failure::TlsFailure;
use crate::upstream::rules::store_clock::ClockSkew;
use crate::upstream::{TimeoutKind, UpstreamRejection};

/// The retry time if the gateway cannot sign with the store's time.
const CLOCK_RETRY_AFTER: Duration = Duration::from_secs(30);

fn reused_closed(why: &str) -> String {
    format!(
        "the upstream closed a kept connection as the request was sent, and the request must not be sent twice: {why}"
    )
}

pub(super) fn error_reply(rejection: &UpstreamRejection) -> ErrorReply {
    let bad =
        |reason, message: String| ErrorReply::new(StatusCode::BAD_GATEWAY, "BadGateway", reason, message);
    match rejection {
        // The figures are for the operator only.
        UpstreamRejection::Shortage(shortage) => slow_down(
            shortage.as_str(),
            "the gateway cannot call the upstream now: it lacks a resource of its own",
        ),
        // Names and addresses of the upstream are for the operator only.
        UpstreamRejection::NoAddress(unresolved) => {
            bad("upstream_dns", "the name of the upstream has no address".to_owned())
                .with_log_detail(unresolved.to_string())
        }
        UpstreamRejection::Connect(why) => {
            bad("upstream_connect", "cannot connect to the upstream".to_owned()).with_log_detail(why.clone())
        }
        UpstreamRejection::TlsRejected(failure) => tls_rejected(failure),
        UpstreamRejection::ClockSkew(skew) => clock_skew(skew),
        UpstreamRejection::HostNotInCertificate(why) => bad(
            "upstream_tls_host",
            format!("the upstream cannot be called with the bucket's name as host: {why}"),
        ),
        UpstreamRejection::WrongRegion(region) => wrong_region(region),
        UpstreamRejection::NoCredentials(why) => no_credentials(why),
        UpstreamRejection::Reset(why) => {
            bad("upstream_reset", format!("the upstream closed the connection before its response: {why}"))
        }
        UpstreamRejection::ReusedClosed(why) => bad("upstream_connection_reused_closed", reused_closed(why)),
        UpstreamRejection::Decode(why) => {
            bad("decode_failed", format!("the upstream's response is not valid HTTP: {why}"))
        }
        UpstreamRejection::NoDeleteResult => bad(
            "decode_failed",
            "the store's response to a multi-delete is not a plain DeleteResult document; the store may have deleted the allowed \
             objects; repeat the request"
                .to_owned(),
        ),
        UpstreamRejection::Timeout(expired) => timeout(expired.kind),
        // The target of the redirect is omitted: it is the upstream's internal name.
        UpstreamRejection::Redirect(status) => ErrorReply::new(
            *status,
            if matches!(status.as_u16(), 301 | 308) { "PermanentRedirect" } else { "TemporaryRedirect" },
            "upstream_redirect",
            "the store redirects to another address of this bucket: the gateway's endpoint or region for the bucket is wrong",
        )
        .with_region(),
        UpstreamRejection::BodyTooLarge { limit } => {
            request(&RequestRejection::BodyTooLarge { bytes: None, limit: *limit })
        }
        UpstreamRejection::ClientGone => ErrorReply::new(
            StatusCode::BAD_REQUEST,
            "IncompleteBody",
            "client_gone",
            "the request's body ended before its declared length",
        )
        .with_close(),
        UpstreamRejection::BodyMalformed(why) => body_malformed(why),
        UpstreamRejection::InvalidUpload(fault) => upload(*fault),
        UpstreamRejection::UploadCut(TransferCut::Memory(_)) => memory_pressure(),
        UpstreamRejection::UploadCut(TransferCut::Withdrawn(_)) => key_withdrawn(),
        UpstreamRejection::BodyMemory(full) => body_memory(full),
        UpstreamRejection::CopySourceDenied => auth::error_reply(&AuthRejection::CopySourceDenied),
        UpstreamRejection::Breaker(rejection) => breaker(rejection),
        UpstreamRejection::Pool(rejection) => pool::error_reply(rejection),
        UpstreamRejection::InvalidTarget => ErrorReply::new(
            StatusCode::BAD_REQUEST,
            "InvalidURI",
            "target",
            "the upstream target cannot be built from this path",
        ),
    }
}

fn no_credentials(why: &str) -> ErrorReply {
    let message = format!("the gateway has no credentials for the upstream: {why}");
    ErrorReply::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", "upstream_credentials", message)
        .with_retry_after(Duration::from_secs(1))
}

fn memory_pressure() -> ErrorReply {
    let message = "the gateway is short of memory and has ended this upload";
    ErrorReply::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", "memory_pressure", message)
        .with_retry_after(Duration::from_secs(1))
        .with_close()
}

fn key_withdrawn() -> ErrorReply {
    let message = "the key of this request is no longer valid, and the gateway has ended this upload";
    ErrorReply::new(StatusCode::FORBIDDEN, "InvalidAccessKeyId", "key_withdrawn", message).with_close()
}

/// The figures are for the operator only.
fn body_memory(BodyMemoryFull { needed_bytes, free_bytes }: &BodyMemoryFull) -> ErrorReply {
    let message = "the gateway must hold this body, or a signed chunk of it, and has no memory for it now; repeat the request later";
    let detail =
        format!("bodies and chunks that are held need {needed_bytes} bytes, and {free_bytes} are free");
    slow_down("body_memory", message).with_log_detail(detail).with_close()
}

fn body_malformed(why: &str) -> ErrorReply {
    let message = format!("the body is malformed: {why}");
    ErrorReply::new(StatusCode::BAD_REQUEST, "InvalidRequest", "body_malformed", message).with_close()
}

/// The names in the certificate and the configuration keys are for the operator only.
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
    let client_timeout = |message| {
        ErrorReply::new(StatusCode::REQUEST_TIMEOUT, "RequestTimeout", phase.reason(), message).with_close()
    };
    match phase {
        TimeoutKind::BodyRate => {
            client_timeout("the request's body arrives more slowly than the gateway allows")
        }
        TimeoutKind::Crowding => client_timeout(
            "this client has too many requests with bodies that it does not send or responses that it does not read",
        ),
        _ => ErrorReply::new(
            StatusCode::GATEWAY_TIMEOUT,
            "GatewayTimeout",
            phase.reason(),
            format!("the upstream did not respond in time: {}", phase.as_str()),
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
    let reply = ErrorReply::new(status, code, reason, fault.to_string());
    let reply = match fault {
        UploadFault::Chunk(ChunkFault::TooLarge { bytes, limit }) => reply.with_size(Some(bytes), limit),
        _ => reply,
    };
    reply.with_close()
}
