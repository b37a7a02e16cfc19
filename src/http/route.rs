//! Steps 1 and 2 of a request (`proxy.rs`): validates the head, finds the bucket and the kind of the request.
//!
//! Nothing is refused here. A request that is invalid or names no configured bucket passes steps 3 and 4 like any
//! other and is refused after them, so that it counts for the level and the limits.

use std::borrow::Cow;

use actix_web::http::Method;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use tidegate_actors::{BucketId, OperationClass};
use tidegate_config::Kind;
use tidegate_s3::addressing::{self, NamedResource};
use tidegate_s3::request::BodyLength;
use tidegate_s3::upload::declared_body::object_bytes;

use crate::auth::Operation;
use crate::http::error::GatewayError;
use crate::http::{cors, request_validation};
use crate::request_head::Head;
use crate::router::RouteRejection;
use crate::upstream::RegionHeader;
use crate::upstream::bucket::Bucket;
use crate::upstream::record::Record;
use crate::worker::Worker;

/// The result of steps 1 and 2.
pub(super) enum Route<'a> {
    /// A request to a bucket.
    Bucket(BucketRequest<'a>),
    /// `GET /`: the list of buckets.
    BucketList,
    /// The request is invalid or names no configured bucket. It is refused after step 4.
    Refused(GatewayError),
}

/// The kinds of requests to a bucket. All pass the same steps; the kind decides what step 5 reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestKind {
    /// The head has the client's authentication, or the client is anonymous.
    Ordinary,
    /// An upload by POST form: the body has the client's authentication and the upload's headers.
    Form,
    /// OPTIONS: a preflight has no authentication, any other is refused.
    Options,
}

/// A request to a bucket. The upload of a form is one too.
pub(super) struct BucketRequest<'a> {
    pub(super) kind: RequestKind,
    pub(super) bucket: &'a Bucket,
    /// The client's name of the bucket, decoded.
    pub(super) name: Cow<'a, str>,
    pub(super) head: Head<'a>,
    pub(super) length: BodyLength,
    /// The size of the object or body, as far as the head declares it.
    pub(super) bytes: Option<u64>,
    /// The query without authentication parameters.
    pub(super) query: Cow<'a, str>,
    pub(super) operation: Operation<'a>,
}

/// Validates the head of a request, and finds its bucket. From here on the record has the bucket and the headers that
/// the bucket sets in every response.
pub(super) fn route<'a>(worker: &'a Worker, head: Head<'a>, record: &mut Record) -> Route<'a> {
    let (server, router) = (&worker.shared.config.server, &worker.shared.router);
    let length = match request_validation::validate(head, &server.limits) {
        Ok(length) => length,
        Err(rejection) => {
            // The error has the format of the bucket that the request names.
            let named = addressing::resolve(head, &server.base_domains);
            record.unrouted_kind = router.route(&named.bucket).map_or(Kind::S3, |bucket| bucket.config.kind);
            return Route::Refused(rejection.into());
        }
    };
    let named = addressing::resolve(head, &server.base_domains);
    let bucket = match router.route(&named.bucket) {
        Ok(bucket) => bucket,
        Err(RouteRejection::NoBucket) if *head.method == Method::GET => return Route::BucketList,
        Err(rejection) => return Route::Refused(rejection.into()),
    };
    record.region = RegionHeader::for_request(head, bucket, &named);
    record.set_bucket(bucket, &named);
    record.cors =
        bucket.config.cors.as_ref().map(|rules| cors::headers_for(rules, head.method, head.headers));
    Route::Bucket(BucketRequest::new(bucket, named, head, length))
}

impl<'a> BucketRequest<'a> {
    fn new(bucket: &'a Bucket, named: NamedResource<'a>, head: Head<'a>, length: BodyLength) -> Self {
        let NamedResource { bucket: name, key: rest, .. } = named;
        let kind = if *head.method == Method::OPTIONS {
            RequestKind::Options
        } else if is_form(head, bucket, rest) {
            RequestKind::Form
        } else {
            RequestKind::Ordinary
        };
        let query = bucket.accepted_auth.strip_query(head.uri.query().unwrap_or_default());
        let operation = Operation::from_request(head, &query, bucket.config.kind, rest);
        let bytes = match bucket.config.kind {
            Kind::S3 => object_bytes(head, length),
            Kind::Http => length.bytes(),
        };
        Self { kind, bucket, name, head, length, bytes, query, operation }
    }

    /// The class of the operation for limits, circuits and priorities.
    pub(super) fn class(&self) -> OperationClass {
        match self.kind {
            RequestKind::Options => OperationClass::Read,
            RequestKind::Ordinary | RequestKind::Form => self.operation.class(),
        }
    }
}

impl Route<'_> {
    pub(super) fn bucket(&self) -> Option<BucketId> {
        match self {
            Self::Bucket(request) => Some(request.bucket.id),
            Self::BucketList | Self::Refused(_) => None,
        }
    }

    /// The class of the operation. Without a bucket it depends on the method alone.
    pub(super) fn class(&self, method: &Method) -> OperationClass {
        match (self, method) {
            (Self::Bucket(request), _) => request.class(),
            (Self::BucketList, _) => OperationClass::List,
            (Self::Refused(_), &Method::GET | &Method::HEAD | &Method::OPTIONS) => OperationClass::Read,
            (Self::Refused(_), _) => OperationClass::Write,
        }
    }

    pub(super) fn is_form(&self) -> bool {
        matches!(self, Self::Bucket(request) if request.kind == RequestKind::Form)
    }
}

/// Whether a request without authentication in its head is a form. `rest` is the path after the bucket's name.
fn is_form(head: Head<'_>, bucket: &Bucket, rest: &str) -> bool {
    let is_multipart = |value: &HeaderValue| {
        let value = value.as_bytes();
        value.get(..19).is_some_and(|start| start.eq_ignore_ascii_case(b"multipart/form-data"))
    };
    bucket.config.kind == Kind::S3
        && *head.method == Method::POST
        && matches!(rest, "" | "/")
        && head.uri.query().unwrap_or_default().is_empty()
        && head.headers.get(CONTENT_TYPE).is_some_and(is_multipart)
        && !bucket.accepted_auth.has_presented_auth(head)
}
