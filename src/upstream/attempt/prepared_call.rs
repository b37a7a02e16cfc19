//! Builds and signs the request of one attempt. Nothing is sent before the call is polled.

use std::rc::Rc;

use tidegate_actors::{Permit, clock};

use crate::upstream::UpstreamRejection;
use crate::upstream::attempt::timeouts::AttemptLimits;
use crate::upstream::body::RequestBody;
use crate::upstream::bucket::Bucket;
use crate::upstream::bucket::call_resources::CallResources;
use crate::upstream::exchange::request_writer::OutboundBody;
use crate::upstream::exchange::sent_request::{ExchangeObservers, SentRequest};
use crate::upstream::record::Record;
use crate::upstream::request::UpstreamRequest;
use crate::upstream::rules::store_clock::ClockOffset;

/// A call that starts when it is first polled.
pub(crate) struct PendingCall {
    pub(crate) call: SentRequest,
    /// The clock offset of the signature. None if the request is not signed.
    pub(crate) signed_offset: Option<ClockOffset>,
}

/// Builds and signs a request. The returned call is sent when it is polled.
pub(crate) fn prepare_call(
    resources: CallResources<'_>,
    bucket: &Bucket,
    outbound: &mut UpstreamRequest,
    permit: &Permit,
    limits: AttemptLimits,
    observers: ExchangeObservers,
) -> Result<PendingCall, UpstreamRejection> {
    let client = resources.client(bucket);
    let destination = &bucket.destinations[permit.endpoint().0];
    let signer = match outbound.request.is_preflight() {
        true => None,
        false => client.signer(outbound.key, &bucket.credentials, permit.credential())?,
    };
    let clock = bucket.clock(permit.endpoint());
    let signed_offset = signer
        .as_ref()
        .map(|_| outbound.signature_retry.take_offset().unwrap_or_else(|| clock.offset(limits.began)));
    let signer = signer.as_deref().zip(signed_offset);
    let request = outbound
        .build((signer, permit.credential()), destination, (limits.deadline, limits.began))
        .ok_or(UpstreamRejection::InvalidTarget)?;
    let body = match &mut outbound.body {
        RequestBody::None => OutboundBody::None,
        RequestBody::Buffered(bytes) => OutboundBody::Buffered(bytes.clone()),
        RequestBody::Stream(upload) => {
            let upload = upload.take().ok_or(UpstreamRejection::ClientGone)?;
            let now = clock::now();
            observers.upload.begin(now);
            observers.upload.begin_transfer(resources.transfers, now);
            OutboundBody::Streamed(upload)
        }
    };
    let call = client.send(permit.endpoint(), request, body, observers);
    Ok(PendingCall { call, signed_offset })
}

/// Who is concerned with the calls of a request.
pub(crate) fn observers(record: &Record) -> ExchangeObservers {
    ExchangeObservers { upload: Rc::clone(&record.upload_progress), client: record.send_progress.clone() }
}
