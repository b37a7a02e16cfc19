//! Replaces the store's name of the bucket in an answer: which documents and headers of an operation contain it.
//!
//! The operation decides, so that no object passes for one of S3's documents. A success has the document of its operation
//! (`documents`), any other status an error document. Of the headers only `Location` of CreateBucket has the bucket's name. Metadata is the
//! client's, whatever it looks like; `x-amz-bucket-arn` is the store's, like every ARN.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use actix_web::http::{Method, StatusCode};
use bytes::Bytes;
use tidegate_config::{Addressing, Kind, ServerConfig};

use crate::http::edge::{Head, decode};
use crate::router::Bucket;
use crate::s3::bucket_elements::Document;
use crate::s3::late_error;
use crate::s3::naming::{self, Named};
use crate::s3::rename::{Names, Renamer};
use crate::s3::sigv4::query::{name_of, pairs};
use crate::upstream::answer::{AnswerBody, TransferError};
use crate::upstream::destination::Destination;

/// What is to be renamed in the answer to a request.
pub(crate) struct Renaming {
    names: Names,
    /// The documents that a success may have.
    documents: &'static [Document],
    /// Whether the request creates the bucket.
    creates_bucket: bool,
}

const LISTINGS: &[Document] = &[Document::ListObjects, Document::ListVersions, Document::ListUploads];
const ERROR: &[Document] = &[Document::Error];

/// The documents of a success that name the bucket.
fn documents(head: Head<'_>, named: &Named<'_>) -> &'static [Document] {
    let has = |name: &str| pairs(head.uri.query().unwrap_or_default()).any(|pair| name_of(pair) == name);
    match (head.method, named.is_bucket()) {
        (&Method::GET, true) => LISTINGS,
        (&Method::GET, false) if has("uploadId") => &[Document::ListParts],
        (&Method::POST, false) if has("uploads") => &[Document::CreateUpload],
        (&Method::POST, false) if has("uploadId") => &[Document::CompleteUpload, Document::Error],
        // A 200 may turn out to be one.
        _ if late_error::may_come(head) => ERROR,
        _ => &[],
    }
}

/// What is to be renamed in the answer, if the names differ or a store lies below a path that clients do not see.
pub(crate) fn names_of(head: Head<'_>, bucket: &Bucket, server: &ServerConfig) -> Option<Renaming> {
    let upstream = &bucket.config.upstream;
    let is_below_path = bucket.destinations.iter().any(|destination| !destination.path().is_empty());
    let may_differ = upstream.bucket.is_some() || is_below_path;
    if !may_differ || bucket.config.kind != Kind::S3 || head.method == Method::HEAD {
        return None;
    }
    let named = naming::of(head.uri, head.headers, &server.base_domains);
    let theirs = upstream.bucket.as_deref().unwrap_or(&named.bucket).to_owned();
    if theirs == named.bucket && !is_below_path {
        return None;
    }
    let location =
        format!("{}://{}{}", scheme(server), naming::host(head.uri, head.headers), head.uri.path());
    let key_path = (upstream.addressing == Addressing::Virtual).then(|| decode(named.key.as_bytes()));
    let (documents, creates_bucket) =
        (documents(head, &named), head.method == Method::PUT && named.is_bucket());
    let names = Names { theirs, ours: named.bucket.into_owned(), location, key_path, below: String::new() };
    Some(Renaming { names, documents, creates_bucket })
}

/// What the client itself speaks, whatever a header claims.
pub(crate) fn scheme(server: &ServerConfig) -> &'static str {
    if server.tls.files().is_some() { "https" } else { "http" }
}

impl Renaming {
    /// Renames in the headers, and gives what renames in the body if there is one to look at. The answer comes from `destination`.
    pub(crate) fn apply(
        mut self,
        destination: &Destination,
        status: StatusCode,
        headers: &mut HeaderMap,
    ) -> Option<Renamer> {
        self.names.below = destination.path().to_owned();
        if self.creates_bucket
            && let Some(location) = headers.get(LOCATION).and_then(|value| value.to_str().ok())
            && let Some(Ok(location)) = self.bucket_location(location).map(HeaderValue::try_from)
        {
            headers.insert(LOCATION, location);
        }
        let is_error = status.is_client_error() || status.is_server_error();
        let documents = if is_error { ERROR } else { self.documents };
        let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let fits =
            !documents.is_empty() && media_type.contains("xml") && !headers.contains_key(CONTENT_ENCODING);
        fits.then(|| Renamer::new(self.names, documents))
    }

    /// Where the client finds the bucket that it created. Stores answer with a path or with a URL.
    fn bucket_location(&self, theirs: &str) -> Option<String> {
        let is_url = theirs.starts_with("http://") || theirs.starts_with("https://");
        if is_url { Some(self.names.location.clone()) } else { self.names.path(theirs) }
    }
}

/// A body that is renamed in.
pub(crate) struct RenamedBody {
    body: Box<AnswerBody>,
    renamer: Renamer,
}

impl RenamedBody {
    pub(crate) fn new(body: Box<AnswerBody>, renamer: Renamer) -> Self {
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
