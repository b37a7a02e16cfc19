//! Replaces the store's name of the bucket in a response: the documents and headers of an operation that contain it.
//!
//! The operation decides, so that no object is taken for an S3 document. A success has the document of its operation
//! (`documents`), any other status an error document. Of the headers, only `Location` of CreateBucket has the
//! bucket's name. Metadata belongs to the client and is not changed, whatever it contains. `x-amz-bucket-arn` stays
//! the store's, like every ARN.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use actix_web::http::{Method, StatusCode};
use bytes::Bytes;
use tidegate_config::{Addressing, Kind, ServerConfig};
use tidegate_s3::addressing::{self, NamedResource};
use tidegate_s3::bucket_elements::ResponseDocument;
use tidegate_s3::bucket_renamer::{BucketNames, BucketRenamer};
use tidegate_s3::late_error;
use tidegate_s3::percent::percent_decode;
use tidegate_s3::sigv4::query::{decoded_name, pairs};

use crate::request_head::Head;
use crate::upstream::bucket::Bucket;
use crate::upstream::connect::destination::Destination;
use crate::upstream::headers::forwarded::client_scheme;
use crate::upstream::response::body::ResponseBody;
use crate::upstream::response::transfer_error::TransferError;

/// The replacements in the response to a request.
pub(crate) struct RenamePlan {
    names: BucketNames,
    /// The documents that a success may have.
    documents: &'static [ResponseDocument],
    /// Whether the request creates the bucket.
    creates_bucket: bool,
}

const LIST_DOCUMENTS: &[ResponseDocument] =
    &[ResponseDocument::ListObjects, ResponseDocument::ListVersions, ResponseDocument::ListUploads];
const ERROR_DOCUMENT: &[ResponseDocument] = &[ResponseDocument::Error];

/// The documents of a success that contain the bucket's name.
fn success_documents(head: Head<'_>, named: &NamedResource<'_>) -> &'static [ResponseDocument] {
    let has = |name: &str| pairs(head.uri.query().unwrap_or_default()).any(|pair| decoded_name(pair) == name);
    match (head.method, named.is_bucket()) {
        (&Method::GET, true) => LIST_DOCUMENTS,
        (&Method::GET, false) if has("uploadId") => &[ResponseDocument::ListParts],
        (&Method::POST, false) if has("uploads") => &[ResponseDocument::CreateUpload],
        (&Method::POST, false) if has("uploadId") => {
            &[ResponseDocument::CompleteUpload, ResponseDocument::Error]
        }
        // A 200 may contain an error document.
        _ if late_error::is_possible(head) => ERROR_DOCUMENT,
        _ => &[],
    }
}

/// The replacements in the response, if the names differ or the store has a path prefix that clients do not see.
pub(crate) fn rename_plan(head: Head<'_>, bucket: &Bucket, server: &ServerConfig) -> Option<RenamePlan> {
    let upstream = &bucket.config.upstream;
    let is_below_path = bucket.destinations.iter().any(|destination| !destination.path().is_empty());
    let may_differ = upstream.bucket.is_some() || is_below_path;
    if !may_differ || bucket.config.kind != Kind::S3 || head.method == Method::HEAD {
        return None;
    }
    let named = addressing::resolve(head, &server.base_domains);
    let store_name = upstream.bucket.as_deref().unwrap_or(&named.bucket).to_owned();
    if store_name == named.bucket && !is_below_path {
        return None;
    }
    let location =
        format!("{}://{}{}", client_scheme(server), addressing::request_host(head), head.uri.path());
    let key_path = (upstream.addressing == Addressing::Virtual).then(|| percent_decode(named.key.as_bytes()));
    let (documents, creates_bucket) =
        (success_documents(head, &named), head.method == Method::PUT && named.is_bucket());
    let names = BucketNames {
        store_name,
        client_name: named.bucket.into_owned(),
        location,
        key_path,
        endpoint_path: String::new(),
    };
    Some(RenamePlan { names, documents, creates_bucket })
}

impl RenamePlan {
    /// Replaces names in the headers, and returns the renamer of the body if there is a document to rename in. The
    /// response comes from `destination`.
    pub(crate) fn apply(
        mut self,
        destination: &Destination,
        status: StatusCode,
        headers: &mut HeaderMap,
    ) -> Option<BucketRenamer> {
        self.names.endpoint_path = destination.path().to_owned();
        if self.creates_bucket
            && let Some(location) = headers.get(LOCATION).and_then(|value| value.to_str().ok())
            && let Some(Ok(location)) = self.bucket_location(location).map(HeaderValue::try_from)
        {
            headers.insert(LOCATION, location);
        }
        let is_error = status.is_client_error() || status.is_server_error();
        let documents = if is_error { ERROR_DOCUMENT } else { self.documents };
        let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let fits =
            !documents.is_empty() && media_type.contains("xml") && !headers.contains_key(CONTENT_ENCODING);
        fits.then(|| BucketRenamer::new(self.names, documents))
    }

    /// The location of the created bucket for the client. Stores send a path or a URL.
    fn bucket_location(&self, store_location: &str) -> Option<String> {
        let is_url = store_location.starts_with("http://") || store_location.starts_with("https://");
        if is_url { Some(self.names.location.clone()) } else { self.names.rename_path(store_location) }
    }
}

/// A body in which names are replaced.
pub(crate) struct RenamedBody {
    body: Box<ResponseBody>,
    renamer: BucketRenamer,
}

impl RenamedBody {
    pub(crate) fn new(body: Box<ResponseBody>, renamer: BucketRenamer) -> Self {
        Self { body, renamer }
    }
}

impl MessageBody for RenamedBody {
    type Error = TransferError;

    fn size(&self) -> BodySize {
        match self.body.size() {
            BodySize::Sized(0) => BodySize::Sized(0),
            BodySize::None => BodySize::None,
            BodySize::Sized(_) | BodySize::Stream => BodySize::Stream,
        }
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, TransferError>>> {
        let this = self.get_mut();
        loop {
            let bytes = match ready!(Pin::new(&mut *this.body).poll_next(cx)) {
                Some(Ok(chunk)) => this.renamer.push(chunk),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    let rest = this.renamer.finish();
                    return Poll::Ready((!rest.is_empty()).then_some(Ok(rest)));
                }
            };
            if !bytes.is_empty() {
                return Poll::Ready(Some(Ok(bytes)));
            }
        }
    }
}
