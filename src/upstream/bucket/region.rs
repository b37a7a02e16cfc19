//! `x-amz-bucket-region` in responses to `s3` requests (A9).
//!
//! S3 clients sign for the region in this header. They sign for the gateway, so the gateway's region replaces the
//! region of the store.

use actix_web::HttpResponse;
use actix_web::http::header::HeaderValue;
use actix_web::http::{Method, StatusCode};
use tidegate_config::Kind;
use tidegate_s3::addressing::NamedResource;
use tidegate_s3::location;

use crate::request_head::Head;
use crate::upstream::bucket::Bucket;
use crate::upstream::headers::names::BUCKET_REGION;

/// Which responses to a request have the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RegionHeader {
    /// None: the bucket has kind `http`.
    Never,
    /// Responses in which the store has set it.
    Replace,
    /// Responses in which the store has set it, and errors.
    OnError,
    /// Every response (HeadBucket).
    Always,
    /// The body of a success (GetBucketLocation).
    Document,
}

impl RegionHeader {
    /// For a request to no bucket, or to a bucket that is not known yet.
    pub(crate) fn unrouted(method: &Method) -> Self {
        // The response to HEAD has no body, so only the header can name the region.
        if *method == Method::HEAD { Self::OnError } else { Self::Replace }
    }

    /// For the response to this request.
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

    /// The same, with errors: for a bucket of the store behind a glob.
    pub(crate) fn with_errors(self) -> Self {
        match self {
            Self::Replace | Self::Document => Self::OnError,
            other => other,
        }
    }

    /// Whether the gateway replaces the body of a success.
    pub(crate) fn replaces_body(self, status: StatusCode) -> bool {
        self == Self::Document && status.is_success()
    }

    /// Sets the region header if this response has one.
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
