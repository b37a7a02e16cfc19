//! Access to the admin listener: every request passes [`guard`] before its handler.
//!
//! The order: `Host`, `Origin`, the reserve, the length of the body, then who the client is (`authentication.rs`).
//! DNS rebinding: a page resolves its own name to the listener's address and sends requests with that name. So `Host`
//! must be an address, `localhost` or one of `admin.hosts`. A page can also send a POST to any address without
//! reading the response. So a change with a foreign `Origin` or with `Sec-Fetch-Site: cross-site` (W3C Fetch Metadata)
//! is refused, and one with a cookie needs the listener's own `Origin`. Probes accept any `Host` and need no token: load
//! balancers send their own, and the responses hold no secret. The documents of the page hold none either.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;
use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{RequestHead, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, ORIGIN,
    X_CONTENT_TYPE_OPTIONS,
};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpMessage as _, HttpRequest};
use slog::warn;
use tidegate_actors::{ConfigNumber, clock};
use tidegate_config::AdminConfig;

use super::authentication::{Authenticator, TokenRejection};
use super::pending_logins::PendingLogins;
use super::rejection::{AdminRejection, close_after};
use super::role::AdminRole;
use super::session::{Session, StreamSession};
use crate::http::probes::{LIVE, READY, is_plain_check};
use crate::http::request_id;
use crate::process::Shared;
use crate::request_head::HeaderView;
use crate::worker::Worker;
use crate::worker::slot::CurrentWorker;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const PROBES: [&str; 4] = ["/livez", "/readyz", LIVE, READY];
const STATUS: &str = "/status";
/// The path of the event stream. Its connection leaves the reserve.
pub(super) const STREAM: &str = "/status/stream";
/// The path of logins and logouts.
pub(super) const SESSION: &str = "/session";
pub(super) const EXPLAIN: &str = "/explain";
/// The documents of the page.
const PAGE: [&str; 4] = ["/", "/page.css", "/page.js", "/docs/causes.md"];
/// The longest body of a request.
const BODY_BYTES_MAX: usize = 64 << 10;

/// The properties of a connection that decide about its requests.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AdminConnection {
    /// Whether it is one of the reserve, which serves probes and the status.
    pub(crate) is_reserve: bool,
    /// Whether the client has shown a certificate of a known authority.
    pub(crate) has_certificate: bool,
}

/// A request that may reach its handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Admitted {
    /// It needed no proof of its client, and may have none: a probe, or a document of the page.
    Public,
    /// A cookie is the proof of its client if it has a session.
    Request { session: Option<Session> },
}

/// Who asks for the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PageVisitor {
    /// It has to log in first.
    Stranger,
    /// It has a session.
    Session,
    /// It has a token or a certificate, or needs none.
    Other,
}

/// Who may use the admin listener.
pub(crate) struct AdminAccess {
    pub(super) authenticator: Authenticator,
    pub(super) pending_logins: PendingLogins,
    hosts: RefCell<Vec<String>>,
    pub(super) is_tls: bool,
    /// The configuration of the tokens and hosts.
    configuration: Cell<ConfigNumber>,
    /// How often a reload has changed a token.
    token_changes: Cell<u64>,
}

impl AdminAccess {
    /// # Errors The system has no random bytes.
    pub(crate) fn new(config: &AdminConfig, now: Instant) -> io::Result<Self> {
        let authenticator = Authenticator::new(config, now)?;
        let pending_logins = PendingLogins::new(config.max_connections.get());
        let is_tls = config.tls.files().is_some();
        let hosts = RefCell::new(config.hosts.clone());
        let (configuration, token_changes) = (Cell::new(ConfigNumber::FIRST), Cell::new(0));
        Ok(Self { authenticator, pending_logins, hosts, is_tls, configuration, token_changes })
    }

    /// Continues with the tokens and hosts of another configuration.
    pub(super) fn follow(&self, shared: &Shared) {
        if self.configuration.replace(shared.number()) == shared.number() {
            return;
        }
        self.hosts.replace(shared.config.admin.hosts.clone());
        if self.authenticator.set_tokens(&shared.config.admin) {
            self.token_changes.set(self.token_changes.get() + 1);
        }
    }

    /// How often a reload has changed a token.
    pub(super) fn token_changes(&self) -> u64 {
        self.token_changes.get()
    }

    /// Logs a refused token if its address has just reached the limit.
    pub(super) fn log_rejected(
        &self,
        worker: &Worker,
        client: Option<IpAddr>,
        rejected: TokenRejection,
    ) -> AdminRejection {
        if rejected.is_logged {
            warn!(worker.process.log, "many wrong tokens at the admin listener from one address, further ones get 429";
                "client" => client.map(|client| client.to_canonical().to_string()),
                "hint" => "correct the token of that client, or keep the address away from the admin listener");
        }
        rejected.rejection
    }

    /// Whether a request may reach its handler, and as what.
    fn check(
        &self,
        head: &RequestHead,
        connection: AdminConnection,
        now: Instant,
    ) -> Result<Admitted, TokenRejection> {
        let path = head.uri.path();
        let is_read = matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS);
        let is_probe = PROBES.contains(&path) && head.method != Method::OPTIONS && is_read
            || is_plain_check(&head.method, path, &head.headers);
        self.check_origin(head, is_probe, is_read)?;
        if is_probe {
            return Ok(Admitted::Public);
        }
        if connection.is_reserve && path != STATUS && path != STREAM {
            return Err(AdminRejection::TooManyConnections.into());
        }
        let length =
            head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > BODY_BYTES_MAX as u64) {
            return Err(AdminRejection::BodyTooLarge(BODY_BYTES_MAX).into());
        }
        if path == SESSION && head.method == Method::POST {
            // Its handler reads the token, which may be in the body.
            return Ok(Admitted::Request { session: None });
        }
        let client = head.peer_addr.map(|address| address.ip());
        let identity = self.authenticator.identify(&head.headers, connection.has_certificate, (client, now));
        let is_page = PAGE.contains(&path) && matches!(head.method, Method::GET | Method::HEAD);
        if is_page && identity.is_err() && !head.headers.contains_key(AUTHORIZATION) {
            return Ok(Admitted::Public);
        }
        let identity = identity?;
        let session = identity.session;
        if is_read {
            return Ok(Admitted::Request { session });
        }
        if session.is_some() && !head.headers.contains_key(ORIGIN) {
            return Err(AdminRejection::NoOrigin.into());
        }
        let is_logout = path == SESSION && head.method == Method::DELETE;
        // An explanation is a POST for its body and changes nothing.
        if identity.role == AdminRole::Reader && !is_logout && path != EXPLAIN {
            return Err(AdminRejection::ReadOnly.into());
        }
        Ok(Admitted::Request { session })
    }

    /// Who asks for the page, in a request that may reach its handler.
    pub(super) fn page_visitor(&self, request: &HttpRequest) -> PageVisitor {
        let connection = request.extensions().get::<AdminConnection>().copied().unwrap_or_default();
        let client = request.peer_addr().map(|address| address.ip());
        match self.authenticator.identify(
            request.headers(),
            connection.has_certificate,
            (client, clock::now()),
        ) {
            Ok(identity) if identity.session.is_some() => PageVisitor::Session,
            Ok(_) => PageVisitor::Other,
            Err(_) => PageVisitor::Stranger,
        }
    }

    /// Refuses requests that a web page may have sent.
    fn check_origin(&self, head: &RequestHead, is_probe: bool, is_read: bool) -> Result<(), AdminRejection> {
        let hosts = self.hosts.borrow();
        let mut host_values = head.headers.get_all(HOST);
        let host =
            host_values.next().and_then(|host| host.to_str().ok()).filter(|_| host_values.next().is_none());
        let is_own = |host: &str| is_listener_host(host, &hosts);
        let target = head.uri.authority().map(|authority| authority.as_str());
        let names_listener = host.is_some_and(is_own) && target.is_none_or(is_own);
        if !is_probe && !names_listener {
            return Err(AdminRejection::Host);
        }
        if is_read {
            return Ok(());
        }
        let is_same = |origin: &HeaderValue| {
            let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
            origin.zip(host).is_some_and(|((scheme, authority), host)| {
                // Without TLS here, a proxy in front may offer https.
                authority.eq_ignore_ascii_case(host) && (!self.is_tls || scheme == "https")
            })
        };
        let is_cross = |site: &HeaderValue| site.as_bytes().trim_ascii().eq_ignore_ascii_case(b"cross-site");
        let is_foreign =
            !head.headers.get_all(ORIGIN).all(is_same) || head.headers.get_all(SEC_FETCH_SITE).any(is_cross);
        if is_foreign { Err(AdminRejection::CrossSite) } else { Ok(()) }
    }
}

/// Calls the handler of a request that may reach it, and refuses the others.
pub(crate) async fn guard(
    CurrentWorker(worker): CurrentWorker,
    access: Data<Rc<AdminAccess>>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let connection = request.extensions().get::<AdminConnection>().copied().unwrap_or_default();
    access.follow(&worker.shared);
    let admitted = access.check(request.head(), connection, clock::now());
    // A stranger could occupy a connection with replies that it does not read.
    let is_stranger = matches!(admitted, Ok(Admitted::Public))
        && access.authenticator.has_tokens()
        && !connection.has_certificate;
    if let Ok(Admitted::Request { session: Some(session) }) = admitted {
        let expires = access.authenticator.sessions.expiry(&session);
        request.extensions_mut().insert(StreamSession { session, expires });
    }
    let mut response = match admitted {
        Ok(_) => next.call(request).await?.map_into_boxed_body(),
        Err(rejected) => {
            let client = request.peer_addr().map(|address| address.ip());
            let rejection = access.log_rejected(&worker, client, rejected);
            let reply = rejection.reply(&request_id::of(HeaderView::of(request.headers())));
            request.into_response(reply)
        }
    };
    let headers = response.headers_mut();
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if connection.is_reserve || is_stranger {
        close_after(response.response_mut());
    }
    Ok(response)
}

/// Whether a `Host` (RFC 9110, 7.2) is an address, `localhost`, or one of these names. The port is ignored.
fn is_listener_host(host: &str, hosts: &[String]) -> bool {
    let is_port = |rest: &str| {
        rest.is_empty()
            || rest.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
    };
    if let Some(rest) = host.strip_prefix('[') {
        let parts = rest.split_once(']');
        return parts.is_some_and(|(address, rest)| address.parse::<Ipv6Addr>().is_ok() && is_port(rest));
    }
    let (name, port) = host.split_at(host.find(':').unwrap_or(host.len()));
    let name = name.strip_suffix('.').unwrap_or(name);
    is_port(port)
        && (name.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || hosts.iter().any(|own| own.eq_ignore_ascii_case(name)))
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
