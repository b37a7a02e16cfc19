//! A multi-delete between the policy check of its list and the store (E5).
//!
//! The list has been verified against the client's own digests when it is checked (`auth/multi_delete.rs`). A reduced list goes to
//! the store with digests of its own, and the answer is merged (`s3/delete_result.rs`). If the policy allows nothing of it, the
//! store is not asked.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_ENCODING, HeaderMap, HeaderValue};

use crate::auth::{Caller, CheckedDeleteList, check_delete_keys};
use crate::http::error::{GatewayError, xml_reply};
use crate::http::error_reply::{AMAZON_REQUEST_ID, REASON, REQUEST_ID};
use crate::s3::delete_result::{ErrorAppender, document};
use crate::telemetry::record::Record;
use crate::upstream::{DeniedErrors, UpstreamRejection, UpstreamRequest};
use crate::worker::{Shared, Worker};

/// What happens to a list of objects after its check.
pub(super) enum DeleteCheck {
    /// It goes to the store. Errors are appended to the answer if it was reduced.
    Forward(Option<DeniedErrors>),
    /// The policy allows nothing of it.
    Reply(HttpResponse),
}

/// Checks the list in a request's body against the caller's policy, and reduces it to what that allows.
pub(super) fn check(
    worker: &Worker,
    caller: &Caller,
    outbound: &mut UpstreamRequest,
    record: &mut Record,
) -> Result<DeleteCheck, GatewayError> {
    let Shared { keyring, log, .. } = &*worker.shared;
    match check_delete_keys(caller, outbound.request.head(), outbound.body.buffered(), keyring)? {
        CheckedDeleteList::Allowed => Ok(DeleteCheck::Forward(None)),
        CheckedDeleteList::Reduced { document, errors, counts: (denied, listed) } => {
            record.detail = Some(format!("the policy denies {denied} of {listed} objects to delete"));
            outbound.replace_body(document);
            let appender = ErrorAppender::new(errors);
            Ok(DeleteCheck::Forward(Some(DeniedErrors { appender, log: log.clone(), id: record.id.clone() })))
        }
        CheckedDeleteList::Denied(errors) => {
            let reason = "policy_denied";
            record.reason = Some(reason);
            let mut reply = xml_reply(document(&errors));
            let headers = reply.headers_mut();
            headers.insert(REASON, HeaderValue::from_static(reason));
            headers.insert(REQUEST_ID, record.id.clone());
            headers.insert(AMAZON_REQUEST_ID, record.id.clone());
            Ok(DeleteCheck::Reply(reply))
        }
    }
}

/// Refuses a store's success that errors cannot be appended to: the client would take the denied objects for deleted.
pub(super) fn check_response(status: StatusCode, headers: &HeaderMap) -> Result<(), UpstreamRejection> {
    let is_document = status.as_u16() == 200 && !headers.contains_key(CONTENT_ENCODING);
    if is_document || !status.is_success() { Ok(()) } else { Err(UpstreamRejection::NoDeleteResult) }
}
