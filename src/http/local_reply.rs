//! What the gateway answers by itself on the data listener.
//!
//! An answer carries the request's record as its body's companion, so that the access log is written when the last byte
//! has left, as with an answer from upstream. Deliberately absent: which status a refusal has (`error/`).

use actix_web::HttpResponse;
use tidegate_actors::Allowed;
use tidegate_config::Kind;

use crate::http::cors::CorsHeaders;
use crate::http::error::GatewayError;
use crate::http::error_reply::ReplyContext;
use crate::http::rate_limit_headers;
use crate::telemetry::record::Record;
use crate::upstream::{ProxyBody, RegionHeader};
use crate::worker::Worker;

pub(super) fn reject(
    worker: &Worker,
    error: &GatewayError,
    mut record: Box<Record>,
) -> HttpResponse<ProxyBody> {
    let mut answer = error.to_reply();
    record.status = answer.status.as_u16();
    record.detail = answer.log_detail.take();
    record.reason = Some(answer.reason);
    let bucket = record.bucket.map(|id| &worker.shared.router.bucket(id).config);
    let kind = bucket.map_or(Kind::S3, |bucket| bucket.kind);
    let region = worker.shared.regions.advertised(bucket);
    let to = ReplyContext { kind, resource: record.request.uri.path(), request_id: &record.id, region };
    let response = answer.to_response(&to);
    if answer.has_region {
        record.region = record.region.with_errors();
    }
    local_reply(worker, response, record)
}

/// An answer of the gateway's own, with the record that ends with it.
pub(super) fn local_reply(
    worker: &Worker,
    response: HttpResponse,
    mut record: Box<Record>,
) -> HttpResponse<ProxyBody> {
    // Slot and permit are given back by now.
    record.clear_occupancy();
    let common_headers = CommonHeaders::of(worker, &mut record);
    common_headers.apply(response.map_body(|_, body| ProxyBody::Local(body, Some(record))))
}

/// What stands on an answer beside what it says, whoever gives it.
pub(super) struct CommonHeaders<'w> {
    cors: Option<CorsHeaders>,
    allowed: Allowed,
    region_header: RegionHeader,
    /// The region of the bucket, as answers name it.
    region: &'w str,
}

impl<'w> CommonHeaders<'w> {
    pub(super) fn of(worker: &'w Worker, record: &mut Record) -> Self {
        let bucket = record.bucket.map(|id| &worker.shared.router.bucket(id).config);
        let region = worker.shared.regions.advertised(bucket);
        Self { cors: record.cors.take(), allowed: record.allowed, region_header: record.region, region }
    }

    pub(super) fn apply(self, mut response: HttpResponse<ProxyBody>) -> HttpResponse<ProxyBody> {
        if let Some(sharing) = self.cors {
            sharing.apply(response.headers_mut());
        }
        rate_limit_headers::write_headers(self.allowed, response.headers_mut());
        self.region_header.write(self.region, &mut response);
        response
    }
}
