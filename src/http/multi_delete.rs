//! A multi-delete between the policy check of its list and the store (E5).
//!
//! The list has been verified against the client's own digests when it is checked (`auth/multi_delete.rs`). A reduced list goes to
//! the store with digests of its own, and the answer is merged (`s3/delete_result.rs`). If the policy allows nothing of it, the
//! store is not asked.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_ENCODING, HeaderMap, HeaderValue};

use crate::auth::{Caller, Screened, screen};
use crate::http::answer::{AMAZON_REQUEST_ID, REASON, REQUEST_ID};
use crate::http::error::{GatewayError, xml_answer};
use crate::s3::delete_result::{Appender, document};
use crate::telemetry::record::Record;
use crate::upstream::{Errors, Outbound, UpstreamRejection};
use crate::worker::{Shared, Worker};

/// What happens to a list of objects after its check.
pub(super) enum Checked {
    /// It goes to the store. Errors are appended to the answer if it was reduced.
    Forward(Option<Errors>),
    /// The policy allows nothing of it.
    Reply(HttpResponse),
}

/// Checks the list in a request's body against the caller's policy, and reduces it to what that allows.
pub(super) fn check(
    worker: &Worker,
    caller: &Caller,
    outbound: &mut Outbound,
    record: &mut Record,
) -> Result<Checked, GatewayError> {
    let Shared { keyring, log, .. } = &*worker.shared;
    match screen(caller, outbound.request.head(), outbound.body.whole(), keyring)? {
        Screened::Allowed => Ok(Checked::Forward(None)),
        Screened::Reduced { document, errors, counts: (denied, listed) } => {
            record.detail = Some(format!("the policy denies {denied} of {listed} objects to delete"));
            outbound.replace_body(document);
            let appender = Appender::new(errors);
            Ok(Checked::Forward(Some(Errors { appender, log: log.clone(), id: record.id.clone() })))
        }
        Screened::Denied(errors) => {
            let reason = "policy_denied";
            record.reason = Some(reason);
            let mut reply = xml_answer(document(&errors));
            let headers = reply.headers_mut();
            headers.insert(REASON, HeaderValue::from_static(reason));
            headers.insert(REQUEST_ID, record.id.clone());
            headers.insert(AMAZON_REQUEST_ID, record.id.clone());
            Ok(Checked::Reply(reply))
        }
    }
}

/// Refuses a store's success that errors cannot be appended to: the client would take the denied objects for deleted.
pub(super) fn check_answer(status: StatusCode, headers: &HeaderMap) -> Result<(), UpstreamRejection> {
    let is_document = status.as_u16() == 200 && !headers.contains_key(CONTENT_ENCODING);
    if is_document || !status.is_success() { Ok(()) } else { Err(UpstreamRejection::NoDeleteResult) }
}
