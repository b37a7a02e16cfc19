//! `x-amz-bucket-region` in answers to `s3` requests (A9).
//!
//! Clients of S3 sign for the region that this header names. They sign for the gateway, so the gateway's region replaces a region
//! of the store.

use actix_web::HttpResponse;
use actix_web::http::header::HeaderValue;
use actix_web::http::{Method, StatusCode};
use tidegate_config::Kind;

use crate::http::error_reply::BUCKET_REGION;
use crate::http::request_validation::Head;
use crate::router::Bucket;
use crate::s3::addressing::NamedResource;
use crate::s3::location;

/// Which answers to a request have the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RegionHeader {
    /// None: the bucket is of kind `http`.
    Never,
    /// Answers to which the store has added one.
    Replace,
    /// The same, and errors.
    OnError,
    /// Every answer (HeadBucket).
    Always,
    /// The document of a success (GetBucketLocation).
    Document,
}

impl RegionHeader {
    /// Of the answer to a request of this method that is for no bucket, or for one that is not known yet.
    pub(crate) fn unrouted(method: &Method) -> Self {
        // The answer to HEAD has no body that could tell it.
        if *method == Method::HEAD { Self::OnError } else { Self::Replace }
    }

    /// Of the answer to this request.
    pub(crate) fn for_request(head: Head<'_>, bucket: &Bucket, named: &NamedResource<'_>) -> Self {
        if bucket.config.kind != Kind::S3 {
            return Self::Never;
        }
        match *head.method {
            Method::HEAD if named.is_bucket() => Self::Always,
            Method::GET if head.uri.query().is_some() && location::is_location_request(head, named) => {
                Self::Document
            }
            _ => Self::unrouted(head.method),
        }
    }

    /// Errors besides, where a bucket is a store's.
    pub(crate) fn with_errors(self) -> Self {
        match self {
            Self::Replace | Self::Document => Self::OnError,
            other => other,
        }
    }

    /// Whether a success is answered with the gateway's own document.
    pub(crate) fn replaces_body(self, status: StatusCode) -> bool {
        self == Self::Document && status.is_success()
    }

    /// Writes the region into an answer's headers, if it belongs there.
    pub(crate) fn write<B>(self, region: &str, response: &mut HttpResponse<B>) {
        let has_one = || response.headers().contains_key(&BUCKET_REGION);
        let is_added = match self {
            Self::Never => false,
            Self::Replace | Self::Document => has_one(),
            Self::OnError => is_error_or_redirect(response.status()) || has_one(),
            Self::Always => true,
        };
        if let Some(Ok(region)) = is_added.then(|| HeaderValue::from_str(region)) {
            response.headers_mut().insert(BUCKET_REGION, region);
        }
    }
}

/// Whether an answer is an error or a redirect.
fn is_error_or_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 300..=303 | 305..)
}
