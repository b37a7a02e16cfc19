//! Answers to what fails on the way to the upstream: the upstream itself, and the client's body as it passes.

use std::time::Duration;

use actix_web::http::StatusCode;

use crate::http::answer::Answer;
use crate::http::edge::EdgeRejection;
use crate::http::error::{edge, slow_down};
use crate::s3::chunked::ChunkFault;
use crate::s3::upload::{Refusal, UploadFault};
use crate::upstream::store_clock::Skew;
use crate::upstream::tls_failure::TlsFailure;
use crate::upstream::{Phase, UpstreamRejection};

/// When to try again where the gateway cannot sign with the store's time.
const CLOCK_RETRY_AFTER: Duration = Duration::from_secs(30);

/// What the client is told of an upstream that failed, or of a request that failed on its way there.
pub(super) fn answer(rejection: &UpstreamRejection) -> Answer {
    let bad = |reason, message: String| Answer::new(StatusCode::BAD_GATEWAY, "BadGateway", reason, message);
    match rejection {
        // Without the figures, which are the operator's.
        UpstreamRejection::Shortage(shortage) => slow_down(
            shortage.as_str(),
            "the gateway cannot call the upstream now: it has too little of a resource of its own",
        ),
        UpstreamRejection::Connect(why) => {
            bad("upstream_connect", format!("cannot connect to the upstream: {why}"))
        }
        UpstreamRejection::Distrust(failure) => distrust(failure),
        UpstreamRejection::ClockSkew(skew) => clock_skew(skew),
        UpstreamRejection::HostNotInCertificate(why) => bad(
            "upstream_tls_host",
            format!("the upstream cannot be asked for this bucket under its own name: {why}"),
        ),
        UpstreamRejection::Region(region) => wrong_region(region),
        UpstreamRejection::Credentials(why) => Answer::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "ServiceUnavailable",
            "upstream_credentials",
            format!("the gateway has no credentials for the upstream: {why}"),
        )
        .retry(Duration::from_secs(1)),
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
        UpstreamRejection::Redirect(status) => Answer::new(
            *status,
            if matches!(status.as_u16(), 301 | 308) { "PermanentRedirect" } else { "TemporaryRedirect" },
            "upstream_redirect",
            "the store wants this bucket to be addressed elsewhere, which the gateway's endpoint or region for it does not say",
        )
        .with_region(),
        UpstreamRejection::BodyTooLarge { limit } => {
            edge(&EdgeRejection::BodyTooLarge { bytes: None, limit: *limit })
        }
        UpstreamRejection::ClientGone => Answer::new(
            StatusCode::BAD_REQUEST,
            "IncompleteBody",
            "client_gone",
            "the request's body ended before its announced length",
        )
        .closing(),
        UpstreamRejection::BodyMalformed(why) => body_malformed(why),
        UpstreamRejection::Upload(fault) => upload(*fault),
        UpstreamRejection::MemoryPressure => Answer::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "ServiceUnavailable",
            "memory_pressure",
            "the gateway is short of memory and has ended this upload",
        )
        .retry(Duration::from_secs(1))
        .closing(),
        UpstreamRejection::Target => Answer::new(
            StatusCode::BAD_REQUEST,
            "InvalidURI",
            "target",
            "the upstream target cannot be built from this path",
        ),
    }
}

fn body_malformed(why: &str) -> Answer {
    let message = format!("the body is malformed: {why}");
    Answer::new(StatusCode::BAD_REQUEST, "InvalidRequest", "body_malformed", message).closing()
}

/// The names in the certificate and the keys of the configuration are the operator's.
fn distrust(failure: &TlsFailure) -> Answer {
    let message = format!("no TLS connection to the upstream: {}", failure.what());
    Answer::new(StatusCode::BAD_GATEWAY, "BadGateway", "upstream_tls", message).logged(failure.to_string())
}

fn wrong_region(region: &str) -> Answer {
    let message = "the store requires signatures for another region than the gateway's configuration names";
    Answer::new(StatusCode::BAD_GATEWAY, "BadGateway", "upstream_region", message).logged(format!(
        "the store requires signatures for region {region:?}: set it in buckets.NAME.s3.region"
    ))
}

fn clock_skew(skew: &Skew) -> Answer {
    let after = if skew.resign.is_some() { Duration::from_secs(1) } else { CLOCK_RETRY_AFTER };
    Answer::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "ServiceUnavailable",
        "upstream_clock_skew",
        "the store refuses the time of the gateway's signature",
    )
    .retry(after)
    .logged(skew.detail.clone())
}

/// A timeout that the client causes is 408, any other 504.
fn timeout(phase: Phase) -> Answer {
    let clients = |message| {
        Answer::new(StatusCode::REQUEST_TIMEOUT, "RequestTimeout", phase.reason(), message).closing()
    };
    match phase {
        Phase::Pace => clients("the request's body comes more slowly than the gateway waits for"),
        Phase::Crowding => clients(
            "this client has too many requests whose bodies it does not send or whose answers it does not read",
        ),
        _ => Answer::new(
            StatusCode::GATEWAY_TIMEOUT,
            "GatewayTimeout",
            phase.reason(),
            format!("the upstream did not answer in time: {}", phase.as_str()),
        ),
    }
}

fn upload(fault: UploadFault) -> Answer {
    let (refusal, code, reason) = fault.refusal();
    let status = match refusal {
        Refusal::Bad => StatusCode::BAD_REQUEST,
        Refusal::Denied => StatusCode::FORBIDDEN,
        Refusal::LengthRequired => StatusCode::LENGTH_REQUIRED,
        Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::Unsupported => StatusCode::NOT_IMPLEMENTED,
    };
    let answer = Answer::new(status, code, reason, fault.to_string());
    let answer = match fault {
        UploadFault::Chunk(ChunkFault::TooLarge { bytes, limit }) => answer.sized(Some(bytes), limit),
        _ => answer,
    };
    answer.closing()
}
