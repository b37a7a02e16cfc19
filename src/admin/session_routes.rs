//! `POST /session` trades a token for the session's cookie, and `DELETE /session` ends the session.
//!
//! The token is in `Authorization`, or in the field `token` of a form. `access.rs` has checked `Host` and `Origin`.

use std::rc::Rc;
use std::time::Duration;

use actix_web::http::header::{AUTHORIZATION, CONTENT_TYPE};
use actix_web::web::{Data, Payload, Query};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::StreamExt as _;
use serde::Deserialize;
use tidegate_actors::clock;
use tidegate_config::Secret;

use super::access::AdminAccess;
use super::decisions::unexpected_query;
use super::rejection::AdminRejection;
use super::role::AdminRole;
use super::session;
use super::status::stream::StatusFeed;
use crate::http::error::{AdminStatus, session_reply};
use crate::http::request_id;
use crate::request_head::HeaderView;
use crate::worker::Worker;
use crate::worker::slot::CurrentWorker;

/// The longest form.
const FORM_BYTES_MAX: usize = 4 << 10;
/// The longest time from the head of a login to the end of its form. A browser sends both together.
const FORM_TIME: Duration = Duration::from_secs(1);
const FORM: &str = "application/x-www-form-urlencoded";

/// The form of a login.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LoginForm {
    token: String,
}

/// `POST /session`.
pub(super) async fn login(
    request: HttpRequest,
    body: Payload,
    access: Data<Rc<AdminAccess>>,
    CurrentWorker(worker): CurrentWorker,
) -> HttpResponse {
    if let Some(refused) = unexpected_query(&request) {
        return refused;
    }
    match authenticated(&request, body, &access, &worker).await {
        Ok((role, status)) => {
            session_reply(status, access.authenticator.sessions.issue(role, clock::now(), access.is_tls))
        }
        Err(rejection) => rejection.reply(&request_id::of(HeaderView::of(request.headers()))),
    }
}

/// `DELETE /session`: ends the session and its event streams. A client without a cookie has nothing to end.
pub(super) async fn logout(
    request: HttpRequest,
    access: Data<Rc<AdminAccess>>,
    feed: Data<Rc<StatusFeed>>,
) -> HttpResponse {
    if let Some(refused) = unexpected_query(&request) {
        return refused;
    }
    let (sessions, now) = (&access.authenticator.sessions, clock::now());
    if let Ok(Some(session)) = sessions.of_request(request.headers(), now) {
        sessions.end(session, now);
        // If the list of ended sessions was full, other sessions have ended too.
        feed.end_streams(|session| !sessions.is_valid(session, now));
    }
    session_reply(AdminStatus::NoContent, session::removal(access.is_tls))
}

/// The role of the token, and the status of the reply: a form is followed by a redirect to the page.
async fn authenticated(
    request: &HttpRequest,
    body: Payload,
    access: &AdminAccess,
    worker: &Worker,
) -> Result<(AdminRole, AdminStatus), AdminRejection> {
    if !access.authenticator.has_tokens() {
        return Err(AdminRejection::NoSessions);
    }
    let client = request.peer_addr().map(|address| address.ip());
    let verified = if request.headers().contains_key(AUTHORIZATION) {
        let role = access.authenticator.verify_header(request.headers(), (client, clock::now()));
        role.map(|role| (role, AdminStatus::NoContent))
    } else {
        let _pending = access.pending_logins.acquire().ok_or(AdminRejection::TooManyLogins)?;
        let limit = worker.shared.config.server.header_timeout.min(FORM_TIME);
        let token = tokio::time::timeout(limit, form_token(request, body)).await;
        let token = token.map_err(|_| AdminRejection::Timeout)??;
        let role = access.authenticator.verify_token(token.expose().as_bytes(), (client, clock::now()));
        role.map(|role| (role, AdminStatus::SeeOther))
    };
    verified.map_err(|rejected| access.log_rejected(worker, client, rejected))
}

async fn form_token(request: &HttpRequest, mut body: Payload) -> Result<Secret, AdminRejection> {
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.and_then(|value| value.split(';').next()).unwrap_or_default();
    if !media_type.trim().eq_ignore_ascii_case(FORM) {
        let has_body = request.headers().contains_key(CONTENT_TYPE);
        return Err(if has_body { AdminRejection::BadForm } else { AdminRejection::NoToken });
    }
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|_| AdminRejection::BadForm)?;
        if bytes.len() + piece.len() > FORM_BYTES_MAX {
            return Err(AdminRejection::BodyTooLarge(FORM_BYTES_MAX));
        }
        bytes.extend_from_slice(&piece);
    }
    let text = String::from_utf8(bytes).map_err(|_| AdminRejection::BadForm)?;
    let form = Query::<LoginForm>::from_query(&text).map_err(|_| AdminRejection::BadForm)?;
    Ok(Secret::new(form.into_inner().token))
}
