//! A request that goes on to an upstream: the client's own, or the one that its form stands for.

use actix_web::HttpRequest;
use actix_web::http::header::{HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use actix_web::http::{Method, Uri, Version};
use tidegate_config::Addressing;

use crate::http::edge::Head;
use crate::s3::naming::{self, Named};
use crate::s3::sigv4::canonical::encode;
use crate::s3::target;
use crate::upstream::forwarded;

/// Headers of a form's request that are about the request and not about the form, besides those that `forwarded` reads.
const KEPT: [HeaderName; 3] =
    [USER_AGENT, HeaderName::from_static("traceparent"), HeaderName::from_static("tracestate")];

/// A request that goes on.
pub(crate) enum Incoming {
    /// As the client sent it.
    Client(HttpRequest),
    /// A CORS preflight for the store, which goes on without any proof of identity.
    Preflight(HttpRequest),
    /// The upload that a form asks for.
    Form(Box<Put>),
}

impl Incoming {
    /// Its head, as if it had come like this.
    pub(crate) fn head(&self) -> Head<'_> {
        match self {
            Self::Client(request) | Self::Preflight(request) => Head::from(request.head()),
            Self::Form(put) => put.head(),
        }
    }

    /// Whether it is a CORS preflight for the store.
    pub(crate) fn is_preflight(&self) -> bool {
        matches!(self, Self::Preflight(_))
    }
}

/// The upload that a form asks for, as its client would have asked without one.
pub(crate) struct Put {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Put {
    /// An upload to the bucket that the form was sent to; none where the key makes no target.
    pub(crate) fn new(
        form: Head<'_>,
        named: &Named<'_>,
        key: &str,
        fields: Vec<(HeaderName, HeaderValue)>,
    ) -> Option<Self> {
        let key = encode(key.as_bytes(), true);
        let target = match named.addressing {
            // The bucket's bytes are those that the form was sent to.
            Addressing::Path => format!("/{}/{key}", target::split(form.uri.path()).0),
            Addressing::Virtual => format!("/{key}"),
        };
        let mut headers = HeaderMap::new();
        headers.insert(HOST, naming::host(form.uri, form.headers).parse().ok()?);
        for name in KEPT.into_iter().chain(forwarded::READ) {
            for value in form.headers.get_all(&name) {
                headers.append(name.clone(), value.clone());
            }
        }
        for (name, value) in fields {
            headers.append(name, value);
        }
        Some(Self { method: Method::PUT, uri: target.parse().ok()?, headers })
    }

    pub(crate) fn head(&self) -> Head<'_> {
        Head { method: &self.method, uri: &self.uri, version: Version::HTTP_11, headers: &self.headers }
    }
}
