//! An answer whose document names the bucket, on its way through `s3/rename.rs`.
//!
//! Which answers those are is told from the request, so that no object is taken for one of S3's documents: whatever is about a
//! bucket or about a multipart upload, and errors.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use actix_web::http::{Method, StatusCode};
use bytes::Bytes;
use tidegate_config::{Kind, ServerConfig};

use crate::http::edge::Head;
use crate::router::Bucket;
use crate::s3::naming;
use crate::s3::rename::{Names, Renamer};
use crate::upstream::answer::{AnswerBody, TransferError};
use crate::upstream::destination::Destination;

/// What is to be renamed in the answer to a request, and in which answers.
pub(crate) struct Renaming {
    names: Names,
    /// Whether a success is a document of S3's own.
    is_document: bool,
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
    let is_upload =
        |pair: &str| pair == "uploads" || pair.starts_with("uploads=") || pair.starts_with("uploadId=");
    let is_document = named.is_bucket() || head.uri.query().unwrap_or_default().split('&').any(is_upload);
    let location =
        format!("{}://{}{}", scheme(server), naming::host(head.uri, head.headers), head.uri.path());
    let ours = named.bucket.into_owned();
    Some(Renaming { names: Names { theirs, ours, location, below: String::new() }, is_document })
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
        let location = headers.get(LOCATION).and_then(|value| self.names.path(value.to_str().ok()?));
        if let Some(Ok(location)) = location.map(HeaderValue::try_from) {
            headers.insert(LOCATION, location);
        }
        let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let is_error = status.is_client_error() || status.is_server_error();
        let fits =
            (self.is_document || is_error) && kind.contains("xml") && !headers.contains_key(CONTENT_ENCODING);
        fits.then(|| Renamer::new(self.names))
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
