//! A response of the upstream before its body is forwarded, with the permits that it holds.

pub(crate) mod appended_errors;
pub(crate) mod body;
pub(crate) mod collect;
pub(crate) mod discard_body;
pub(crate) mod error_document;
pub(crate) mod event_stream;
pub(crate) mod idle_time;
pub(crate) mod proxy_body;
pub(crate) mod rename_plan;
pub(crate) mod source;
pub(crate) mod transfer;
pub(crate) mod transfer_error;

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderMap;
use tidegate_actors::{BreakerTicket, Permit};

use crate::upstream::exchange::sent_request::ReceivedResponse;
use crate::upstream::response::error_document::ErrorDocumentPrefix;

/// A response with a body that has not been read, and the permits that it holds.
pub(crate) struct UpstreamResponse {
    pub(crate) response: ReceivedResponse,
    /// The part of the body that was read to find the error code.
    pub(crate) error_document: Option<ErrorDocumentPrefix>,
    pub(crate) permit: Permit,
    /// Set if the outcome is known only at the last byte.
    pub(crate) ticket: Option<BreakerTicket>,
}

impl UpstreamResponse {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The error code of an error document, if it was read.
    pub(crate) fn error_code(&self) -> Option<String> {
        self.error_document.as_ref().and_then(ErrorDocumentPrefix::code)
    }
}
