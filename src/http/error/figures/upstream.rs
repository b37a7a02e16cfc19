//! The figures of failures of an upstream, and of the client's body on its way there.

use tidegate_s3::chunked::ChunkFault;
use tidegate_s3::upload::UploadFault;

use crate::auth::AuthRejection;
use crate::decisions::decision::KeyName::{Bucket, Process, Upstream};
use crate::decisions::decision::{DecisionScope, Figures, ThresholdKeys, Unit, ms, number};
use crate::http::error::figure_context::FigureContext;
use crate::http::error::figures::{auth, breaker, deadline, pool, request};
use crate::http::request_validation::RequestRejection;
use crate::shortage::Shortage;
use crate::upstream::rules::deadline::DeadlineSource;
use crate::upstream::{ExpiredTimeout, TimeoutKind, UpstreamRejection};

pub(super) fn of(rejection: &UpstreamRejection, context: FigureContext<'_>) -> Figures {
    let endpoint = Figures::of(DecisionScope::Endpoint);
    let of_request = Figures::of(DecisionScope::Request);
    let process = Figures::of(DecisionScope::Process);
    match rejection {
        UpstreamRejection::Shortage(Shortage::Descriptors) => {
            process.set_by(&[Process("monitor.descriptor_limit")])
        }
        UpstreamRejection::Shortage(Shortage::Ports | Shortage::Memory) => process,
        UpstreamRejection::NoAddress(_)
        | UpstreamRejection::Connect(_)
        | UpstreamRejection::TlsRejected(_)
        | UpstreamRejection::HostNotInCertificate(_)
        | UpstreamRejection::ClockSkew(_)
        | UpstreamRejection::Reset(_)
        | UpstreamRejection::ReusedClosed(_)
        | UpstreamRejection::Decode(_)
        | UpstreamRejection::NoDeleteResult
        | UpstreamRejection::Redirect(_) => endpoint,
        UpstreamRejection::NoCredentials(_) => Figures::of(DecisionScope::Credential),
        UpstreamRejection::WrongRegion(_) => Figures::of(DecisionScope::Bucket).set_by(&[Upstream("region")]),
        UpstreamRejection::Timeout(expired) => timeout(*expired, context),
        UpstreamRejection::BodyTooLarge { limit } => {
            request(&RequestRejection::BodyTooLarge { bytes: None, limit: *limit })
        }
        UpstreamRejection::InvalidUpload(fault) => upload(fault),
        UpstreamRejection::ClientGone
        | UpstreamRejection::BodyMalformed(_)
        | UpstreamRejection::InvalidTarget => of_request,
        UpstreamRejection::UploadCut(cut) => cut.figures(),
        UpstreamRejection::BodyMemory(full) => process
            .measured(number(full.needed_bytes), Unit::Bytes)
            .threshold(number(full.free_bytes), Unit::Bytes)
            .set_by(&[Process("monitor.memory_limit_bytes")]),
        UpstreamRejection::CopySourceDenied => auth(&AuthRejection::CopySourceDenied),
        UpstreamRejection::Breaker(rejection) => breaker(rejection, context),
        UpstreamRejection::Pool(rejection) => pool::of(rejection, context),
    }
}

/// The time of the phase, against the limit that it reached.
fn timeout(expired: ExpiredTimeout, context: FigureContext<'_>) -> Figures {
    let ExpiredTimeout { kind, took, limit, crowding } = expired;
    if let Some(crowding) = crowding {
        return crowding.figures();
    }
    let (scope, keys): (_, ThresholdKeys) = match kind {
        TimeoutKind::Connect => (DecisionScope::Endpoint, &[Upstream("connect_timeout")]),
        // Without a limit the upstream closed the connection first.
        TimeoutKind::Upload if limit.is_none() => (DecisionScope::Request, &[]),
        TimeoutKind::Upload => (DecisionScope::Request, &[Upstream("idle_timeout")]),
        TimeoutKind::FirstByte => (DecisionScope::Endpoint, &[Upstream("timeout")]),
        TimeoutKind::LongOperation => {
            (DecisionScope::Endpoint, deadline::keys(DeadlineSource::LongOperation))
        }
        TimeoutKind::Total => (DecisionScope::Bucket, deadline::keys(DeadlineSource::Total)),
        TimeoutKind::BodyRate => (DecisionScope::Request, &[Process("server.min_body_rate")]),
        TimeoutKind::Crowding => (DecisionScope::Client, &[]),
        TimeoutKind::Deadline => (DecisionScope::Request, deadline::keys(DeadlineSource::Client)),
    };
    let upstream = context.bucket.map(|bucket| &bucket.upstream);
    let limit = match kind {
        TimeoutKind::Connect => upstream.map(|one| one.connect_timeout),
        _ => limit,
    };
    let figures = Figures::of(scope).set_by(keys);
    let figures = took.map_or(figures, |took| figures.measured(ms(took), Unit::Milliseconds));
    limit.map_or(figures, |limit| figures.threshold(ms(limit), Unit::Milliseconds))
}

fn upload(fault: &UploadFault) -> Figures {
    let figures = Figures::of(DecisionScope::Request);
    match fault {
        UploadFault::Chunk(ChunkFault::TooLarge { bytes, limit }) => figures
            .measured(number(*bytes), Unit::Bytes)
            .threshold(number(*limit), Unit::Bytes)
            .set_by(&[Bucket("max_chunk_size")]),
        UploadFault::Chunk(ChunkFault::Overhead { limit }) => figures.threshold(number(*limit), Unit::Bytes),
        _ => figures,
    }
}
