//! Local replies on the data listener.
//!
//! A reply's body holds the request's record, so the access log is written when the last byte was sent, as for a
//! response of an upstream. The status of a rejection comes from `error/`.

use actix_web::HttpResponse;
use actix_web::http::header::{HeaderName, HeaderValue};
use tidegate_actors::Allowed;

use crate::decisions::decision::DecisionKind;
use crate::http::cors;
use crate::http::error::GatewayError;
use crate::http::error::figure_context::FigureContext;
use crate::http::error_reply::ReplyContext;
use crate::http::proxy_status;
use crate::http::rate_limit_headers;
use crate::upstream::record::Record;
use crate::upstream::{ProxyBody, RegionHeader};
use crate::worker::Worker;

pub(super) fn reject(
    worker: &Worker,
    error: &GatewayError,
    mut record: Box<Record>,
) -> HttpResponse<ProxyBody> {
    let mut reply = error.to_reply();
    record.status = reply.status.as_u16();
    record.detail = reply.log_detail.take();
    record.reason = Some(reply.reason);
    let figures = error.figures(FigureContext {
        config: &worker.shared.config,
        bucket: record.bucket.map(|id| &worker.shared.router.bucket(id).config),
        deadline: record.deadline_source,
    });
    record.record_decision(DecisionKind::Refusal, reply.reason, figures, Some(record.status));
    let bucket = record.bucket.map(|id| &worker.shared.router.bucket(id).config);
    let kind = bucket.map_or(record.unrouted_kind, |bucket| bucket.kind);
    let region = worker.shared.regions.advertised(bucket);
    let context = ReplyContext { kind, resource: record.request.uri.path(), request_id: &record.id, region };
    let mut response = reply.to_response(&context);
    if worker.shared.config.server.proxy_status {
        proxy_status::write_refusal(reply.reason, response.headers_mut());
    }
    if reply.has_region {
        record.region = record.region.with_errors();
    }
    local_reply(worker, response, record)
}

/// A local reply, with the record that ends with it.
pub(super) fn local_reply(
    worker: &Worker,
    response: HttpResponse,
    mut record: Box<Record>,
) -> HttpResponse<ProxyBody> {
    // Slot and permit are released already.
    record.clear_occupancy();
    let common_headers = CommonHeaders::of(worker, &mut record);
    common_headers.apply(response.map_body(|_, body| ProxyBody::Local(body, Some(record))))
}

/// The headers that local replies and upstream responses have in common.
pub(super) struct CommonHeaders<'w> {
    cors: Option<Vec<(HeaderName, HeaderValue)>>,
    allowed: Allowed,
    /// Reasons of refusals that shadow mode suppressed, besides those of rate limits.
    shadowed: Vec<&'static str>,
    region_header: RegionHeader,
    /// The region of the bucket, as all responses name it.
    region: &'w str,
}

impl<'w> CommonHeaders<'w> {
    pub(super) fn of(worker: &'w Worker, record: &mut Record) -> Self {
        let bucket = record.bucket.map(|id| &worker.shared.router.bucket(id).config);
        let region = worker.shared.regions.advertised(bucket);
        Self {
            cors: record.cors.take(),
            allowed: std::mem::take(&mut record.allowed),
            shadowed: std::mem::take(&mut record.shadowed),
            region_header: record.region,
            region,
        }
    }

    pub(super) fn apply(self, mut response: HttpResponse<ProxyBody>) -> HttpResponse<ProxyBody> {
        if let Some(cors) = self.cors {
            cors::apply(cors, response.headers_mut());
        }
        rate_limit_headers::write_headers(&self.allowed, self.shadowed, response.headers_mut());
        self.region_header.write(self.region, &mut response);
        response
    }
}
