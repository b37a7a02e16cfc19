//! What the gateway answers by itself on the data listener: refusals and the list of buckets.
//!
//! An answer carries the request's record as its body's companion, so that the access log is written when the last byte
//! has left, as with an answer from upstream. Deliberately absent: which status a refusal has (`error/`).

use actix_web::HttpResponse;
use tidegate_actors::Allowed;
use tidegate_config::Kind;

use crate::auth::{self, Caller};
use crate::http::answer::Addressee;
use crate::http::cors::Sharing;
use crate::http::error::{GatewayError, xml_answer};
use crate::http::limits;
use crate::s3::document;
use crate::telemetry::record::Record;
use crate::upstream::{ProxyBody, RegionHeader};
use crate::worker::Worker;

pub(super) fn refuse(
    worker: &Worker,
    error: &GatewayError,
    mut record: Box<Record>,
) -> HttpResponse<ProxyBody> {
    let mut answer = error.answer();
    record.status = answer.status.as_u16();
    record.detail = answer.log_detail.take();
    record.reason = Some(answer.reason);
    let bucket = record.bucket.map(|id| &worker.shared.router.bucket(id).config);
    let kind = bucket.map_or(Kind::S3, |bucket| bucket.kind);
    let region = worker.shared.regions.advertised(bucket);
    let to = Addressee { kind, resource: record.request.uri.path(), request_id: &record.id, region };
    let response = answer.respond(&to);
    if answer.has_region {
        record.region = record.region.on_errors();
    }
    own(worker, response, record)
}

/// An answer of the gateway's own, with the record that ends with it.
pub(super) fn own(
    worker: &Worker,
    response: HttpResponse,
    mut record: Box<Record>,
) -> HttpResponse<ProxyBody> {
    // Slot and permit are given back by now.
    record.release();
    let besides = Besides::of(worker, &mut record);
    besides.say(response.map_body(|_, body| ProxyBody::Own(body, Some(record))))
}

/// What stands on an answer beside what it says, whoever gives it.
pub(super) struct Besides<'w> {
    sharing: Option<Sharing>,
    allowed: Allowed,
    region_header: RegionHeader,
    /// The region of the bucket, as answers name it.
    region: &'w str,
}

impl<'w> Besides<'w> {
    pub(super) fn of(worker: &'w Worker, record: &mut Record) -> Self {
        let bucket = record.bucket.map(|id| &worker.shared.router.bucket(id).config);
        let region = worker.shared.regions.advertised(bucket);
        Self { sharing: record.sharing.take(), allowed: record.allowed, region_header: record.region, region }
    }

    pub(super) fn say(self, mut response: HttpResponse<ProxyBody>) -> HttpResponse<ProxyBody> {
        if let Some(sharing) = self.sharing {
            sharing.say(response.headers_mut());
        }
        limits::say(self.allowed, response.headers_mut());
        self.region_header.write(self.region, &mut response);
        response
    }
}

/// `GET /`: the buckets that a client may see by name; a glob has no names to list.
pub(super) fn list_buckets(worker: &Worker, caller: &Caller) -> HttpResponse {
    let open = worker.shared.router.buckets().iter().filter(|bucket| {
        let config = &bucket.config;
        config.kind == Kind::S3
            && config.pattern.is_exact()
            && auth::sees(caller, bucket, &worker.shared.keyring)
    });
    let document = document::list_buckets(open.map(|bucket| bucket.config.pattern.as_str()));
    xml_answer(document)
}
