//! Requests that the admin listener refuses, and the reply to each.

use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::error::InternalError;
use actix_web::http::ConnectionType;
use actix_web::http::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{Error, HttpResponse};

use crate::http::error::{AdminStatus, admin_error_reply};

/// The challenge of every 401 (RFC 6750, 3).
const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"tidegate\"");

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AdminRejection {
    /// Its `Host` is not a name or an address of the listener.
    Host,
    /// A page of another origin sent it.
    CrossSite,
    /// It changes something with a cookie, and has no `Origin`.
    NoOrigin,
    /// It has neither a token nor a cookie.
    NoToken,
    /// Its `Authorization` is not one bearer token.
    MalformedToken,
    /// Its token is not configured.
    WrongToken,
    /// Its cookie is unknown, or its session has ended.
    SessionEnded,
    /// Its address sent too many wrong tokens. The time is that until the next attempt counts.
    TooManyAttempts(Duration),
    /// Its token may only read.
    ReadOnly,
    /// Its body is longer than allowed.
    BodyTooLarge(usize),
    /// It is neither a probe nor `/status`, and its connection is one of the reserve.
    TooManyConnections,
    /// As many event streams as may be open are open.
    TooManyWatchers(usize),
    /// As many logins as may wait for their forms do so.
    TooManyLogins,
    /// The listener has no token that a session could stand for.
    NoSessions,
    /// The body of a login is not a form with one token.
    BadForm,
    /// The body of a login was not complete in time.
    Timeout,
}

impl AdminRejection {
    /// The status and the code.
    fn status_and_code(self) -> (AdminStatus, &'static str) {
        match self {
            Self::Host => (AdminStatus::Forbidden, "host_not_allowed"),
            Self::CrossSite | Self::NoOrigin => (AdminStatus::Forbidden, "cross_site"),
            Self::NoToken => (AdminStatus::Unauthorized, "token_required"),
            Self::MalformedToken => (AdminStatus::Unauthorized, "token_malformed"),
            Self::WrongToken => (AdminStatus::Unauthorized, "token_wrong"),
            Self::SessionEnded => (AdminStatus::Unauthorized, "session_ended"),
            Self::TooManyAttempts(_) => (AdminStatus::TooManyRequests, "too_many_wrong_tokens"),
            Self::ReadOnly => (AdminStatus::Forbidden, "read_only"),
            Self::BodyTooLarge(_) => (AdminStatus::TooLarge, "body_too_large"),
            Self::TooManyConnections | Self::TooManyLogins => {
                (AdminStatus::Unavailable, "too_many_connections")
            }
            Self::TooManyWatchers(_) => (AdminStatus::Unavailable, "too_many_watchers"),
            Self::NoSessions => (AdminStatus::BadRequest, "no_sessions"),
            Self::BadForm => (AdminStatus::BadRequest, "bad_form"),
            Self::Timeout => (AdminStatus::Timeout, "timeout"),
        }
    }

    /// What is wrong, and what the client can do.
    fn message(self) -> String {
        let message = match self {
            Self::Host => "the host header must be an address, localhost, or a name that admin.hosts lists",
            Self::CrossSite => "requests from pages of another origin are refused",
            Self::NoOrigin => {
                "a request with a session cookie that changes something needs the listener's own Origin header"
            }
            Self::NoToken => {
                "send the header `Authorization: Bearer TOKEN` with the value of admin.token or admin.read_token"
            }
            Self::MalformedToken => {
                "the request needs exactly one Authorization header, of the form `Bearer TOKEN`"
            }
            Self::WrongToken => "the token is neither that of admin.token nor that of admin.read_token",
            Self::SessionEnded => {
                "the session has ended or is unknown to this process; log in again with POST /session"
            }
            Self::TooManyAttempts(_) => {
                "this address sent too many wrong tokens; a correct token is accepted at any time"
            }
            Self::ReadOnly => "the token may only read; changes need the token of admin.token",
            Self::BodyTooLarge(bytes_max) => {
                return format!("the body is longer than the {bytes_max} bytes that are allowed here");
            }
            Self::TooManyConnections => {
                "admin.max_connections connections are open; until one closes, only probes, /status and event streams are answered"
            }
            Self::TooManyWatchers(max) => {
                return format!(
                    "{max} event streams are open, which is the maximum of admin.max_stream_clients and of 1/16 of the \
                     descriptors; poll /status, or close one"
                );
            }
            Self::TooManyLogins => {
                "other logins still wait for their forms; try again, or send the token in `Authorization: Bearer TOKEN`"
            }
            Self::NoSessions => {
                "no token is configured, so there are no sessions; set admin.token or admin.read_token"
            }
            Self::BadForm => {
                "send the token in `Authorization: Bearer TOKEN`, or as the only field `token` of an \
                 application/x-www-form-urlencoded form"
            }
            Self::Timeout => {
                "the body of the login was not complete within 1 s, or within server.header_timeout if that is shorter"
            }
        };
        message.to_owned()
    }

    /// The reply. It closes the connection, so that a client without a token cannot occupy one with replies that it does
    /// not read, and each attempt at a token needs a new one.
    pub(crate) fn reply(self, request_id: &HeaderValue) -> HttpResponse<BoxBody> {
        let (status, code) = self.status_and_code();
        let mut response = admin_error_reply(status, code, &self.message(), request_id);
        if status == AdminStatus::Unauthorized {
            response.headers_mut().insert(WWW_AUTHENTICATE, CHALLENGE);
        }
        let retry_after = match self {
            Self::TooManyAttempts(left) => Some((left.as_secs() + u64::from(left.subsec_nanos() > 0)).max(1)),
            Self::TooManyConnections | Self::TooManyLogins => Some(1),
            Self::TooManyWatchers(_) => Some(5),
            _ => None,
        };
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        close_after(&mut response);
        response
    }
}

/// Makes the connection close after this response.
pub(crate) fn close_after(response: &mut HttpResponse<BoxBody>) {
    response.head_mut().set_connection_type(ConnectionType::Close);
}

/// The reply to a request with no response in time.
pub(crate) fn timeout() -> Error {
    let message = "the request was not complete, or had no response, within 30 s";
    let mut response =
        admin_error_reply(AdminStatus::Timeout, "timeout", message, &HeaderValue::from_static("-"));
    close_after(&mut response);
    InternalError::from_response("timeout of the admin listener", response).into()
}
