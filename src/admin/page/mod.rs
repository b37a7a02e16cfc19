//! The page for people: `GET /`, its style sheet, its script and the page of the causes (X7).
//!
//! These documents hold no data and no secret, so they need no token. The script reads the API with the session's cookie. Without a valid
//! session on a listener with tokens, `GET /` is the login form. Everything is embedded, so the page works without internet, and the content
//! security policy lets the page load nothing else. A document is revalidated by its strong `ETag` (RFC 9110, 8.8.3): after an update of
//! the gateway no browser shows the old script.

mod causes;

use std::rc::Rc;
use std::sync::LazyLock;

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, EntityTag, HeaderName, HeaderValue, IfNoneMatch,
    REFERRER_POLICY, VARY,
};
use actix_web::web::{Data, ServiceConfig};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::admin::access::{AdminAccess, PageVisitor};
use crate::admin::get_or_head;
use crate::http::error::{not_modified_reply, text_reply};

/// What the page may load: files of this listener, and its own icon.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; \
     base-uri 'none'; frame-ancestors 'none'",
);
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
/// The place of the button in the page. Only a session can be ended.
const LOGOUT_MARK: &str = "<!-- logout -->";
const LOGOUT: &str = "<button id=\"logout\" type=\"button\">Log out</button>";

/// An embedded document.
struct Document {
    content_type: &'static str,
    text: Bytes,
    tag: EntityTag,
}

impl Document {
    fn new(content_type: &'static str, text: impl Into<Bytes>) -> Self {
        let text = text.into();
        let tag = EntityTag::new_strong(hex::encode(&Sha256::digest(&text)[..16]));
        Self { content_type, text, tag }
    }

    fn html(text: String) -> Self {
        Self::new("text/html; charset=utf-8", text)
    }

    /// The document, or 304 if the client has it.
    fn reply(&self, request: &HttpRequest) -> HttpResponse {
        let is_known = match request.get_header::<IfNoneMatch>() {
            Some(IfNoneMatch::Any) => true,
            Some(IfNoneMatch::Items(tags)) => tags.iter().any(|tag| tag.weak_eq(&self.tag)),
            None => false,
        };
        let mut reply =
            if is_known { not_modified_reply() } else { text_reply(self.content_type, self.text.clone()) };
        let headers = reply.headers_mut();
        if let Ok(tag) = HeaderValue::from_str(&self.tag.to_string()) {
            headers.insert(ETAG, tag);
        }
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        protect(&mut reply);
        reply
    }
}

/// Adds the headers that keep other sites and injected code out.
fn protect(reply: &mut HttpResponse) {
    let headers = reply.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
}

/// All documents.
struct Documents {
    login: Document,
    page: Document,
    /// The page with a button that ends the session.
    page_of_session: Document,
    style: Document,
    script: Document,
    causes: Document,
}

static DOCUMENTS: LazyLock<Documents> = LazyLock::new(|| {
    let page = include_str!("page.html");
    Documents {
        login: Document::html(include_str!("login.html").to_owned()),
        page: Document::html(page.replace(LOGOUT_MARK, "")),
        page_of_session: Document::html(page.replace(LOGOUT_MARK, LOGOUT)),
        style: Document::new("text/css; charset=utf-8", include_str!("page.css")),
        script: Document::new("text/javascript; charset=utf-8", include_str!("page.js")),
        causes: Document::html(causes::page()),
    }
});

/// Registers the routes.
pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .route("/", get_or_head().to(page))
        .route("/page.css", get_or_head().to(style))
        .route("/page.js", get_or_head().to(script))
        .route("/docs/causes.md", get_or_head().to(causes));
}

/// `GET /`: the page, or the login form.
async fn page(request: HttpRequest, access: Data<Rc<AdminAccess>>) -> HttpResponse {
    let document = match access.page_visitor(&request) {
        PageVisitor::Stranger => &DOCUMENTS.login,
        PageVisitor::Session => &DOCUMENTS.page_of_session,
        PageVisitor::Other => &DOCUMENTS.page,
    };
    let mut reply = document.reply(&request);
    let headers = reply.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("cookie, authorization"));
    // With `no-referrer` a browser sends the form with `Origin: null` (Fetch, 3.2), and the login would be refused.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    reply
}

async fn style(request: HttpRequest) -> HttpResponse {
    DOCUMENTS.style.reply(&request)
}

async fn script(request: HttpRequest) -> HttpResponse {
    DOCUMENTS.script.reply(&request)
}

/// `GET /docs/causes.md`: the target of the links of causes.
async fn causes(request: HttpRequest) -> HttpResponse {
    DOCUMENTS.causes.reply(&request)
}
