//! What the gateway answers by itself on the data listener.
//!
//! An answer carries the request's record as its body's companion, so that the access log is written when the last byte
//! has left, as with an answer from upstream. Deliberately absent: which status a refusal has (`error/`).

use actix_web::HttpResponse;
use tidegate_actors::Allowed;
use tidegate_config::Kind;

use crate::http::answer::Addressee;
use crate::http::cors::Sharing;
use crate::http::error::GatewayError;
use crate::http::limits;
use crate::telemetry::record::Record;
use crate::upstream::ProxyBody;
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
    let kind = record.bucket.map_or(Kind::S3, |id| worker.shared.router.bucket(id).config.kind);
    let to = Addressee { kind, resource: record.request.uri.path(), request_id: &record.id };
    let response = answer.respond(&to);
    own(response, record)
}

/// An answer of the gateway's own, with the record that ends with it.
pub(super) fn own(response: HttpResponse, mut record: Box<Record>) -> HttpResponse<ProxyBody> {
    // Slot and permit are given back by now.
    record.release();
    let besides = Besides::of(&mut record);
    besides.say(response.map_body(|_, body| ProxyBody::Own(body, Some(record))))
}

/// What stands on an answer beside what it says, whoever gives it.
pub(super) struct Besides {
    sharing: Option<Sharing>,
    allowed: Allowed,
}

impl Besides {
    pub(super) fn of(record: &mut Record) -> Self {
        Self { sharing: record.sharing.take(), allowed: record.allowed }
    }

    pub(super) fn say(self, mut response: HttpResponse<ProxyBody>) -> HttpResponse<ProxyBody> {
        if let Some(sharing) = self.sharing {
            sharing.say(response.headers_mut());
        }
        limits::say(self.allowed, response.headers_mut());
        response
    }
}
