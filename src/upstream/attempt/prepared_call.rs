//! Builds and signs the request of one attempt. Nothing is sent before the call is polled.

use std::rc::Rc;

use actix_http::body::{BoxBody, None as NoBody};
use tidegate_actors::{Permit, clock};

use crate::upstream::UpstreamRejection;
use crate::upstream::attempt::timeouts::AttemptLimits;
use crate::upstream::body::RequestBody;
use crate::upstream::body::upload_progress::UploadProgress;
use crate::upstream::bucket::Bucket;
use crate::upstream::bucket::call_resources::CallResources;
use crate::upstream::exchange::call_context::CallContext;
use crate::upstream::exchange::sent_request::SentRequest;
use crate::upstream::request::UpstreamRequest;
use crate::upstream::rules::store_clock::ClockOffset;

/// A call that starts when it is first polled.
pub(crate) struct PendingCall {
    pub(crate) call: SentRequest,
    pub(crate) context: Rc<CallContext>,
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
    upload_progress: &Rc<UploadProgress>,
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
        .build(client, (signer, permit.credential()), destination, (limits.deadline, limits.began))
        .ok_or(UpstreamRejection::InvalidTarget)?;
    let (body, upload) = match &mut outbound.body {
        RequestBody::None => (BoxBody::new(NoBody::new()), None),
        RequestBody::Buffered(bytes) => (BoxBody::new(bytes.clone()), None),
        RequestBody::Stream(upload) => {
            let upload = upload.take().ok_or(UpstreamRejection::ClientGone)?;
            let now = clock::now();
            upload_progress.begin(now);
            upload_progress.begin_transfer(resources.transfers, now);
            // The connection sends the body, see `exchange/body_writer.rs`.
            (BoxBody::new(NoBody::new()), Some(upload))
        }
    };
    let call = client.send(permit.endpoint(), request, body);
    Ok(PendingCall { call, context: CallContext::new(Rc::clone(upload_progress), upload), signed_offset })
}
