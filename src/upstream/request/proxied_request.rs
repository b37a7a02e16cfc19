//! A request to an upstream: the client's own, or one that the gateway makes for the client from a form or to list
//! buckets.

use actix_http::{Message, RequestHead};
use actix_web::http::header::{HOST, HeaderMap, HeaderName, USER_AGENT};
use actix_web::http::{Method, Uri, Version};
use tidegate_config::Addressing;
use tidegate_s3::addressing::{self, NamedResource};
use tidegate_s3::form::fields::FieldHeader;
use tidegate_s3::percent::percent_encode;
use tidegate_s3::target;

use crate::request_head::Head;
use crate::upstream::headers::forwarded;

/// The maximum number of buckets on a page; S3's own limit.
const BUCKETS_MAX: &str = "max-buckets=10000";
/// The header in which AWS SDKs number their attempts.
const SDK_REQUEST: HeaderName = HeaderName::from_static("amz-sdk-request");

/// Headers of a form's request that are kept because they describe the request and not the form, besides those that
/// `forwarded` reads.
const KEPT_HEADERS: [HeaderName; 3] =
    [USER_AGENT, HeaderName::from_static("traceparent"), HeaderName::from_static("tracestate")];

/// What to do with the parameters of a presigned URL in a preflight.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum PresignedQuery {
    /// Remove them.
    Removed,
    /// Send them with zeros for the signature and without a session token. The Ceph Object Gateway reads the tenant
    /// of the bucket from the access key in the URL, and does not verify the signature of a preflight.
    WithoutProof,
}

/// A request to an upstream.
pub(crate) enum ProxiedRequest {
    /// As the client sent it.
    Client(Message<RequestHead>),
    /// A CORS preflight for the store. It is sent without authentication.
    Preflight(Message<RequestHead>, PresignedQuery),
    /// The upload of a form.
    Form(Box<FormUpload>),
    /// One page of the store's list of buckets.
    BucketList(Box<BucketListPage>),
}

impl ProxiedRequest {
    /// The request head, as if a client had sent it.
    pub(crate) fn head(&self) -> Head<'_> {
        match self {
            Self::Client(head) | Self::Preflight(head, _) => Head::from(&**head),
            Self::Form(put) => put.head(),
            Self::BucketList(page) => page.head(),
        }
    }

    /// Whether the outcome counts for the circuit. A preflight is not authenticated, and the store may apply other
    /// rules to it.
    pub(crate) fn counts_for_circuit(&self) -> bool {
        !self.is_preflight()
    }

    /// Whether the parameters of its presigned URL are sent, without the signature.
    pub(crate) fn names_presigned_key(&self) -> bool {
        matches!(self, Self::Preflight(_, PresignedQuery::WithoutProof))
    }

    /// Whether it is a CORS preflight for the store.
    pub(crate) fn is_preflight(&self) -> bool {
        matches!(self, Self::Preflight(..))
    }
}

/// The PUT that a form is translated to.
pub(crate) struct FormUpload {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl FormUpload {
    /// An upload to the bucket that the form was sent to. None if the key is not valid in a target.
    pub(crate) fn new(
        form: Head<'_>,
        named: &NamedResource<'_>,
        key: &str,
        fields: Vec<FieldHeader<'_>>,
    ) -> Option<Self> {
        let key = percent_encode(key.as_bytes(), true);
        let target = match named.addressing {
            // The bucket is copied byte for byte from the form's target.
            Addressing::Path => format!("/{}/{key}", target::split_bucket(form.uri.path()).0),
            Addressing::Virtual => format!("/{key}"),
        };
        let mut headers = common_headers(form)?;
        for (name, value) in fields {
            headers.append(name.parse().ok()?, value.into_owned().try_into().ok()?);
        }
        Some(Self { method: Method::PUT, uri: target.parse().ok()?, headers })
    }

    pub(crate) fn head(&self) -> Head<'_> {
        Head { method: &self.method, uri: &self.uri, version: Version::HTTP_11, headers: &self.headers }
    }
}

/// The headers that a request made for a client copies from the client's request.
fn common_headers(client: Head<'_>) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(HOST, addressing::request_host(client).parse().ok()?);
    for name in KEPT_HEADERS.into_iter().chain(forwarded::READ_HEADERS) {
        for value in client.headers.get_all(&name) {
            headers.append(name.clone(), value.clone());
        }
    }
    Some(headers)
}

/// A request for a page of the list of buckets.
pub(crate) struct BucketListPage {
    uri: Uri,
    headers: HeaderMap,
}

impl BucketListPage {
    /// The first page, or the one with this continuation token of the store.
    pub(crate) fn new(client: Head<'_>, token: Option<&str>) -> Option<Self> {
        let next = token.map_or_else(String::new, |token| {
            format!("&continuation-token={}", percent_encode(token.as_bytes(), false))
        });
        let mut headers = common_headers(client)?;
        // Kept so that the attempts of a retrying client are not multiplied (R7).
        if let Some(attempt) = client.headers.get(SDK_REQUEST) {
            headers.insert(SDK_REQUEST, attempt.clone());
        }
        Some(Self { uri: format!("/?{BUCKETS_MAX}{next}").parse().ok()?, headers })
    }

    fn head(&self) -> Head<'_> {
        Head { method: &Method::GET, uri: &self.uri, version: Version::HTTP_11, headers: &self.headers }
    }
}
