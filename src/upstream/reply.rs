//! What came of a call: the head of an answer, or why there is none.
//!
//! A small error document is read here, because the code in it decides what the answer means (`verdict.rs`).

use std::rc::Rc;
use std::time::Duration;

use actix_web::error::ParseError;
use actix_web::http::Method;
use actix_web::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use awc::ClientResponse;
use awc::error::{ConnectError, SendRequestError};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tidegate_actors::clock;
use tidegate_config::Kind;

use crate::buffers::SocketBuffers;
use crate::shortage::{Shortage, note};
use crate::upstream::UpstreamRejection;
use crate::upstream::flow::Flow;
use crate::upstream::identity;
use crate::upstream::tls_failure::TlsFailure;
use crate::upstream::verdict;
use crate::upstream::watch::Phase;

/// Error documents up to this size are read for their code.
const DOCUMENT_BYTES_MAX: u64 = 8 << 10;
/// How long such a document may take.
const DOCUMENT_TIME_MAX: Duration = Duration::from_secs(1);

/// An answer up to its head.
pub(super) struct Answered {
    pub(super) response: ClientResponse,
    pub(super) document: Option<Bytes>,
    pub(super) code: Option<String>,
    /// Of the connection that it comes from.
    pub(super) socket: Option<Rc<SocketBuffers>>,
}

impl Answered {
    /// Its status, and the error code if it was looked at.
    pub(super) fn said(&self) -> (u16, Option<&str>) {
        (self.response.status().as_u16(), self.code.as_deref())
    }
}

/// What came of a call.
pub(super) fn heard(
    sent: Result<Result<ClientResponse, SendRequestError>, Phase>,
    flow: &Flow,
) -> Result<ClientResponse, UpstreamRejection> {
    let sent = sent.map_err(UpstreamRejection::Timeout)?;
    sent.map_err(|error| flow.take_fault().unwrap_or_else(|| attribute(fault(&error), flow)))
}

/// An upstream that closes in mid-upload, while the gateway has waited for the client, has lost patience with the client.
fn attribute(fault: UpstreamRejection, flow: &Flow) -> UpstreamRejection {
    match fault {
        UpstreamRejection::Reset(_) if flow.is_stalled_by_client(clock::now()) => {
            UpstreamRejection::Timeout(Phase::Upload)
        }
        fault => fault,
    }
}

/// Looks at the head of an answer, and at its body where the error code in it matters.
pub(super) async fn head(
    mut response: ClientResponse,
    (kind, is_pooled): (Kind, bool),
    method: &Method,
    socket: Option<Rc<SocketBuffers>>,
) -> Result<Answered, UpstreamRejection> {
    // S3 redirects to another of its own endpoints or regions. Followed by the client, it would lead past the gateway;
    // followed by the gateway, it would let the upstream choose who gets its requests (H4). An API's redirects are its own.
    if kind == Kind::S3 && matches!(response.status().as_u16(), 300..=303 | 305..=399) {
        return Err(UpstreamRejection::Redirect(response.status()));
    }
    let status = response.status().as_u16();
    let is_told_by_code = matches!(status, 400 | 503) || (is_pooled && identity::is_told_by_code(status));
    let worth_a_look = kind == Kind::S3 && method != Method::HEAD && is_told_by_code;
    if !worth_a_look || !is_small_xml(response.headers()) {
        return Ok(Answered { response, document: None, code: None, socket });
    }
    let document = read_document(&mut response).await?;
    let code = verdict::error_code(&document);
    Ok(Answered { response, document: Some(document), code, socket })
}

fn is_small_xml(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    text(CONTENT_TYPE).is_some_and(|kind| kind.contains("xml"))
        && text(CONTENT_LENGTH)
            .is_none_or(|length| length.parse().is_ok_and(|bytes: u64| bytes <= DOCUMENT_BYTES_MAX))
}

async fn read_document(body: &mut ClientResponse) -> Result<Bytes, UpstreamRejection> {
    let read = async {
        let mut document = BytesMut::new();
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| UpstreamRejection::Reset(error.to_string()))?;
            document.extend_from_slice(&chunk);
            if document.len() as u64 > DOCUMENT_BYTES_MAX {
                return Err(UpstreamRejection::Decode("an error document larger than 8 KiB".to_owned()));
            }
        }
        Ok(document.freeze())
    };
    tokio::time::timeout(DOCUMENT_TIME_MAX, read)
        .await
        .map_err(|_| UpstreamRejection::Timeout(Phase::Idle))?
}

/// The gateway's own shortage that kept a request from being sent.
pub(crate) fn shortage_of(error: &SendRequestError) -> Option<Shortage> {
    match error {
        SendRequestError::Connect(ConnectError::Io(error)) => Shortage::of(error),
        SendRequestError::Send(error) | SendRequestError::Response(ParseError::Io(error)) => {
            Shortage::of_system(error).inspect(|shortage| note(*shortage))
        }
        _ => None,
    }
}

fn fault(error: &SendRequestError) -> UpstreamRejection {
    if let Some(shortage) = shortage_of(error) {
        return UpstreamRejection::Shortage(shortage);
    }
    match error {
        SendRequestError::Connect(ConnectError::Timeout) => UpstreamRejection::Timeout(Phase::Connect),
        SendRequestError::Connect(ConnectError::Disconnected) => {
            UpstreamRejection::Reset("disconnected".to_owned())
        }
        SendRequestError::Connect(ConnectError::Io(error)) => match TlsFailure::of(error) {
            Some(failure) => UpstreamRejection::Distrust(failure.clone()),
            None => UpstreamRejection::Connect(error.to_string()),
        },
        SendRequestError::Connect(error) => UpstreamRejection::Connect(error.to_string()),
        SendRequestError::Send(error) | SendRequestError::Response(ParseError::Io(error)) => {
            match TlsFailure::of(error).filter(|failure| failure.is_before_request()) {
                Some(failure) => UpstreamRejection::Distrust(failure.clone()),
                None => UpstreamRejection::Reset(error.to_string()),
            }
        }
        SendRequestError::Response(error) => UpstreamRejection::Decode(error.to_string()),
        SendRequestError::Timeout => UpstreamRejection::Timeout(Phase::FirstByte),
        other => UpstreamRejection::Reset(other.to_string()),
    }
}
