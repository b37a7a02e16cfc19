//! An error reply, and its two formats: S3 XML or JSON (E1).

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde_json::json;
use tidegate_actors::LimitStatus;
use tidegate_config::Kind;
use tidegate_s3::error_document::ErrorDocument;

use crate::http::error::RetryAfter;
use crate::http::rate_limit_headers;
use crate::upstream::headers::names::REQUEST_ID;

/// The header that names the reason of every refusal.
pub(crate) const REASON: HeaderName = HeaderName::from_static("x-tidegate-reason");
/// The header with the same ID that S3 clients read.
pub(crate) const AMAZON_REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");

/// The most characters of a message.
const MESSAGE_CHARS_MAX: usize = 500;

/// An error reply of the gateway.
pub(crate) struct ErrorReply {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) retry_after: Option<RetryAfter>,
    /// Whether the connection is closed, because its framing is ambiguous or the body is not read.
    pub(crate) close: bool,
    /// Elements of the S3 document beyond the common ones.
    pub(crate) details: Vec<(&'static str, String)>,
    /// Whether header and document name the region of an S3 bucket.
    pub(crate) has_region: bool,
    /// How a client can authenticate (`WWW-Authenticate`).
    pub(crate) challenge: Option<&'static str>,
    /// The exhausted limit.
    pub(crate) limit: Option<LimitStatus>,
    /// Figures for the operator: in the access log, never in the reply.
    pub(crate) log_detail: Option<String>,
}

impl ErrorReply {
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            status,
            code,
            reason,
            message: sanitize(message.into()),
            retry_after: None,
            close: false,
            details: Vec::new(),
            has_region: false,
            challenge: None,
            limit: None,
            log_detail: None,
        }
    }

    /// For a cause that may affect many clients: each gets a different time from then on.
    pub(crate) fn with_retry_after(self, after: Duration) -> Self {
        Self { retry_after: Some(RetryAfter::spread(after)), ..self }
    }

    /// For a cause that affects this request alone.
    pub(crate) fn with_exact_retry_after(self, after: Duration) -> Self {
        Self { retry_after: Some(RetryAfter::exact(after)), ..self }
    }

    pub(crate) fn with_detail(mut self, element: &'static str, text: impl Into<String>) -> Self {
        self.details.push((element, text.into()));
        self
    }

    /// Adds S3's elements about a size: the size that the client sends, if it is known, and the largest allowed size.
    pub(crate) fn with_size(self, proposed_bytes: Option<u64>, bytes_max: u64) -> Self {
        let sized = match proposed_bytes {
            Some(bytes) => self.with_detail("ProposedSize", bytes.to_string()),
            None => self,
        };
        sized.with_detail("MaxSizeAllowed", bytes_max.to_string())
    }

    /// Names the region of the bucket in the header and in the document.
    pub(crate) fn with_region(self) -> Self {
        Self { has_region: true, ..self }
    }

    pub(crate) fn with_challenge(self, challenge: &'static str) -> Self {
        Self { challenge: Some(challenge), ..self }
    }

    /// Adds the state of the limit, and the time at which such a request fits.
    pub(crate) fn with_limit(self, limit: &LimitStatus) -> Self {
        Self { limit: Some(*limit), ..self.with_retry_after(limit.retry_after) }
    }

    /// Adds figures for the operator, which appear only in the access log.
    pub(crate) fn with_log_detail(self, detail: String) -> Self {
        Self { log_detail: Some(detail), ..self }
    }

    pub(crate) fn with_close(self) -> Self {
        Self { close: true, ..self }
    }
}

/// Sanitizes text for a reply (E4): it may include foreign text, so it is truncated and control characters are
/// removed.
fn sanitize(message: String) -> String {
    if message.len() <= MESSAGE_CHARS_MAX && !message.contains(char::is_control) {
        return message;
    }
    message.chars().filter(|c| !c.is_control()).take(MESSAGE_CHARS_MAX).collect()
}

/// The request that an error reply is formatted for.
pub(crate) struct ReplyContext<'a> {
    pub(crate) kind: Kind,
    pub(crate) resource: &'a str,
    pub(crate) request_id: &'a HeaderValue,
    /// The region of the bucket, as all responses name it.
    pub(crate) region: &'a str,
}

impl ErrorReply {
    /// Formats the reply as S3 XML or as JSON (E1).
    pub(crate) fn to_response(&self, context: &ReplyContext<'_>) -> HttpResponse {
        let request_id = context.request_id.to_str().unwrap_or_default();
        let region = self.has_region.then_some(context.region);
        let (content_type, body) = match context.kind {
            Kind::S3 => {
                let document = ErrorDocument {
                    code: self.code,
                    message: &self.message,
                    resource: context.resource,
                    request_id,
                    details: &self.details,
                    region,
                };
                ("application/xml", document.to_xml())
            }
            Kind::Http => ("application/json", self.to_json(request_id)),
        };
        let mut response = HttpResponse::build(self.status);
        response.insert_header((CONTENT_TYPE, content_type));
        response.insert_header((REASON, self.reason));
        response.insert_header((REQUEST_ID, context.request_id.clone()));
        if context.kind == Kind::S3 {
            response.insert_header((AMAZON_REQUEST_ID, context.request_id.clone()));
        }
        if let Some(challenge) = self.challenge {
            response.insert_header((WWW_AUTHENTICATE, challenge));
        }
        if let Some(after) = self.retry_after {
            response.insert_header((RETRY_AFTER, after.seconds()));
        }
        if self.close {
            response.force_close();
        }
        // The HTTP layer omits the body of a response to HEAD but keeps its length.
        let mut response = response.body(body);
        if let Some(limit) = &self.limit {
            rate_limit_headers::write_allowance(limit, response.headers_mut());
        }
        response
    }

    fn to_json(&self, request_id: &str) -> String {
        let mut error = json!({
            "code": self.reason,
            "message": self.message,
            "request_id": request_id,
        });
        if let Some(after) = self.retry_after {
            error["retry_after"] = after.seconds().into();
        }
        json!({ "error": error }).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E4
    #[test]
    fn a_message_is_truncated_and_has_no_control_characters() {
        assert_eq!(sanitize("as it is: é".to_owned()), "as it is: é");
        assert_eq!(sanitize("a\r\nb\0\u{85}c\u{1b}[31m".to_owned()), "abc[31m");
        assert_eq!(sanitize("é".repeat(600)), "é".repeat(500));
        assert_eq!(sanitize(format!("{}\n", "x".repeat(500))), "x".repeat(500));
    }
}
