//! The figures of failures of an upstream, and of the client's body on its way there.

use std::time::Duration;

use tidegate_s3::chunked::ChunkFault;
use tidegate_s3::upload::UploadFault;

use crate::auth::AuthRejection;
use crate::decisions::decision::KeyName::{Bucket, Process, Upstream};
use crate::decisions::decision::{DecisionScope, Figures, ThresholdKeys, Unit, ms, number};
use crate::http::error::figure_context::FigureContext;
use crate::http::error::figures::{auth, breaker, pool, request};
use crate::http::request_validation::RequestRejection;
use crate::shortage::Shortage;
use crate::upstream::{TimeoutKind, UpstreamRejection};

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
        | UpstreamRejection::Decode(_)
        | UpstreamRejection::NoDeleteResult
        | UpstreamRejection::Redirect(_) => endpoint,
        UpstreamRejection::NoCredentials(_) => Figures::of(DecisionScope::Credential),
        UpstreamRejection::WrongRegion(_) => Figures::of(DecisionScope::Bucket).set_by(&[Upstream("region")]),
        UpstreamRejection::Timeout(kind) => timeout(*kind, context),
        UpstreamRejection::BodyTooLarge { limit } => {
            request(&RequestRejection::BodyTooLarge { bytes: None, limit: *limit })
        }
        UpstreamRejection::InvalidUpload(fault) => upload(fault),
        UpstreamRejection::ClientGone
        | UpstreamRejection::BodyMalformed(_)
        | UpstreamRejection::InvalidTarget => of_request,
        UpstreamRejection::MemoryPressure => process.set_by(&[Process("monitor.memory_limit_bytes")]),
        UpstreamRejection::CopySourceDenied => auth(&AuthRejection::CopySourceDenied),
        UpstreamRejection::Breaker(rejection) => breaker(rejection, context),
        UpstreamRejection::Pool(rejection) => pool::of(rejection, context),
    }
}

/// The threshold of a timeout is its length. How long the phase took is not known: the timer fired.
fn timeout(kind: TimeoutKind, context: FigureContext<'_>) -> Figures {
    let upstream = context.bucket.map(|bucket| &bucket.upstream);
    let (scope, length, keys): (_, Option<Duration>, ThresholdKeys) = match kind {
        TimeoutKind::Connect => {
            (DecisionScope::Endpoint, upstream.map(|one| one.connect_timeout), &[Upstream("connect_timeout")])
        }
        TimeoutKind::Upload => {
            (DecisionScope::Request, upstream.map(|one| one.idle_timeout), &[Upstream("idle_timeout")])
        }
        TimeoutKind::FirstByte => {
            (DecisionScope::Endpoint, upstream.map(|one| one.timeout), &[Upstream("timeout")])
        }
        TimeoutKind::LongOperation => (
            DecisionScope::Endpoint,
            upstream.and_then(|one| one.long_operation_timeout),
            &[Upstream("long_operation_timeout")],
        ),
        TimeoutKind::Total => (
            DecisionScope::Bucket,
            upstream.map(|one| one.request_timeout),
            &[Process("server.request_timeout")],
        ),
        TimeoutKind::BodyRate => (DecisionScope::Request, None, &[Process("server.min_body_rate")]),
        TimeoutKind::Crowding => (DecisionScope::Client, None, &[]),
        TimeoutKind::Deadline => (DecisionScope::Request, None, &[]),
    };
    let figures = Figures::of(scope).set_by(keys);
    length.map_or(figures, |length| figures.threshold(ms(length), Unit::Milliseconds))
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
