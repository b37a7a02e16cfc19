//! Local replies that are not errors, and all replies of the admin listener and the probes.

use actix_web::HttpResponse;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue, LOCATION, SET_COOKIE};
use bytes::Bytes;
use serde::Serialize;
use serde_json::json;
use tidegate_s3::form::success_action::{StoredObject, SuccessAction};
use tidegate_s3::location;

use crate::http::error_reply::AMAZON_REQUEST_ID;
use crate::telemetry::{escape_controls, escape_json_document};
use crate::upstream::headers::names::REQUEST_ID;

/// A JSON reply of the admin listener or of a probe. It has no character that controls a terminal (O2); escapes keep its values.
pub(crate) fn json_reply(status: AdminStatus, body: &impl Serialize) -> HttpResponse<BoxBody> {
    match serde_json::to_string(body) {
        Ok(text) => HttpResponse::build(status.code())
            .insert_header((CONTENT_TYPE, "application/json"))
            .body(escape_json_document(&text).into_owned() + "\n"),
        Err(error) => HttpResponse::InternalServerError().body(error.to_string()),
    }
}

/// A JSON document that never changes.
pub(crate) fn static_json_reply(content_type: &'static str, document: &'static str) -> HttpResponse<BoxBody> {
    HttpResponse::Ok().insert_header((CONTENT_TYPE, content_type)).body(document)
}

/// A text of the admin listener that is no JSON.
pub(crate) fn text_reply(content_type: &'static str, text: Bytes) -> HttpResponse<BoxBody> {
    HttpResponse::Ok().insert_header((CONTENT_TYPE, content_type)).body(text)
}

/// The reply to a client that has the current text.
pub(crate) fn not_modified_reply() -> HttpResponse<BoxBody> {
    HttpResponse::NotModified().finish()
}

/// A JSON document that is encoded already.
pub(crate) fn encoded_json_reply(document: Bytes) -> HttpResponse<BoxBody> {
    HttpResponse::Ok().insert_header((CONTENT_TYPE, "application/json")).body(document)
}

/// A stream of server-sent events (HTML Living Standard, 9.2).
pub(crate) fn event_stream_reply(events: impl MessageBody + 'static) -> HttpResponse<BoxBody> {
    HttpResponse::Ok().insert_header((CONTENT_TYPE, "text/event-stream")).body(events)
}

/// An error reply of the admin listener, in the JSON format of E1. Its message may have text of the request, so it is escaped.
pub(crate) fn admin_error_reply(
    status: AdminStatus,
    code: &str,
    message: &str,
    request_id: &HeaderValue,
) -> HttpResponse<BoxBody> {
    let id = request_id.to_str().unwrap_or_default();
    let message = escape_controls(message);
    let mut response =
        json_reply(status, &json!({ "error": { "code": code, "message": message, "request_id": id } }));
    response.headers_mut().insert(REQUEST_ID, request_id.clone());
    response
}

/// The reply to a login or a logout at the admin listener. A redirect leads to the listener's page.
pub(crate) fn session_reply(status: AdminStatus, set_cookie: String) -> HttpResponse<BoxBody> {
    let mut reply = HttpResponse::build(status.code());
    reply.insert_header((SET_COOKIE, set_cookie));
    if status == AdminStatus::SeeOther {
        reply.insert_header((LOCATION, "/"));
    }
    reply.finish()
}

/// The reply to an allowed preflight; `http/cors.rs` adds the headers.
pub(crate) fn preflight_reply() -> HttpResponse<BoxBody> {
    HttpResponse::Ok().finish()
}

/// An XML document of the gateway, with the request's ID in both headers.
pub(crate) fn xml_reply(document: String, request_id: &HeaderValue) -> HttpResponse<BoxBody> {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "application/xml"))
        .insert_header((REQUEST_ID, request_id.clone()))
        .insert_header((AMAZON_REQUEST_ID, request_id.clone()))
        .body(document)
}

/// The reply to GetBucketLocation: the region of a bucket.
pub(crate) fn location_reply(region: &str, request_id: &HeaderValue) -> HttpResponse<BoxBody> {
    xml_reply(location::document(region), request_id)
}

/// The reply to a form after the store has accepted its upload.
pub(crate) fn form_reply(done: &SuccessAction, stored: &StoredObject<'_>) -> HttpResponse<BoxBody> {
    match done {
        SuccessAction::EmptyOk => HttpResponse::Ok().insert_header((LOCATION, stored.location)).finish(),
        SuccessAction::Created => HttpResponse::Created()
            .insert_header((LOCATION, stored.location))
            .insert_header((CONTENT_TYPE, "application/xml"))
            .body(stored.to_xml()),
        SuccessAction::NoContent => {
            HttpResponse::NoContent().insert_header((LOCATION, stored.location)).finish()
        }
        SuccessAction::Redirect(page) => {
            HttpResponse::SeeOther().insert_header((LOCATION, stored.redirect_url(page))).finish()
        }
    }
}

/// The metrics, or the error of their encoding.
pub(crate) fn metrics_reply(
    content_type: &str,
    text: Result<Vec<u8>, prometheus::Error>,
) -> HttpResponse<BoxBody> {
    match text {
        Ok(text) => HttpResponse::Ok().insert_header((CONTENT_TYPE, content_type.to_owned())).body(text),
        Err(error) => HttpResponse::InternalServerError().body(error.to_string()),
    }
}

/// The statuses that the admin listener and the probes use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AdminStatus {
    Ok,
    Accepted,
    NoContent,
    SeeOther,
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    Conflict,
    Timeout,
    TooLarge,
    Unprocessable,
    TooManyRequests,
    Unavailable,
}

impl AdminStatus {
    fn code(self) -> StatusCode {
        match self {
            Self::Ok => StatusCode::OK,
            Self::Accepted => StatusCode::ACCEPTED,
            Self::NoContent => StatusCode::NO_CONTENT,
            Self::SeeOther => StatusCode::SEE_OTHER,
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict => StatusCode::CONFLICT,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}
