//! A multi-delete between the policy check of its list and the store (E5).
//!
//! The list was verified against the client's digests before it is checked (`auth/multi_delete.rs`). A reduced list
//! is sent to the store with new digests, and the denied objects are merged into the response
//! (`s3/src/delete_result.rs`). If the policy allows no object of the list, the store is not called.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_ENCODING, HeaderMap, HeaderValue};
use tidegate_s3::delete_result::{ErrorAppender, document};

use crate::auth::{Caller, CheckedDeleteList, check_delete_keys};
use crate::decisions::decision::{DecisionKind, DecisionScope, Figures, KeyName};
use crate::http::error::{GatewayError, xml_reply};
use crate::http::error_reply::REASON;
use crate::http::proxy_status;
use crate::upstream::record::Record;
use crate::upstream::{DeniedErrors, UpstreamRejection, UpstreamRequest};
use crate::worker::Worker;

/// The result of the check of a list of objects.
pub(super) enum DeleteCheck {
    /// The list is sent to the store. If it was reduced, errors are appended to the response.
    Forward(Option<Box<DeniedErrors>>),
    /// The policy allows no object of it.
    Reply(HttpResponse),
}

/// Checks the list in a request's body against the caller's policy, and removes the denied objects.
pub(super) fn check(
    worker: &Worker,
    caller: &Caller,
    request: &mut UpstreamRequest,
    record: &mut Record,
) -> Result<DeleteCheck, GatewayError> {
    let (keyring, log) = (&worker.shared.keyring, &worker.process.log);
    match check_delete_keys(caller, request.head(), request.body.buffered(), keyring)? {
        CheckedDeleteList::Allowed => Ok(DeleteCheck::Forward(None)),
        CheckedDeleteList::Reduced { document, errors, counts: (denied, listed) } => {
            record.detail = Some(format!("the policy denies {denied} of {listed} objects to delete"));
            request.replace_body(document);
            let appender = ErrorAppender::new(errors);
            let denied = DeniedErrors { appender, log: log.clone(), id: record.id.clone() };
            Ok(DeleteCheck::Forward(Some(Box::new(denied))))
        }
        CheckedDeleteList::Denied(errors) => {
            let reason = "policy_denied";
            record.reason = Some(reason);
            let figures = Figures::of(DecisionScope::Client).set_by(&[KeyName::ClientKey("policy")]);
            record.record_decision(DecisionKind::Refusal, reason, figures, Some(200));
            let mut reply = xml_reply(document(&errors), &record.id);
            reply.headers_mut().insert(REASON, HeaderValue::from_static(reason));
            if worker.shared.config.server.proxy_status {
                proxy_status::write_refusal(reason, reply.headers_mut());
            }
            Ok(DeleteCheck::Reply(reply))
        }
    }
}

/// Refuses a success response to which errors cannot be appended: the client would consider the denied objects
/// deleted.
pub(super) fn check_response(status: StatusCode, headers: &HeaderMap) -> Result<(), UpstreamRejection> {
    let is_document = status.as_u16() == 200 && !headers.contains_key(CONTENT_ENCODING);
    if is_document || !status.is_success() { Ok(()) } else { Err(UpstreamRejection::NoDeleteResult) }
}
