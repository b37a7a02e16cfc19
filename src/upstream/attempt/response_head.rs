//! The result of a call: the head of a response, or the reason why there is none.
//!
//! The first part of an error document is read here, because its error code decides the classification
//! (`rules/outcome.rs`).

use std::time::Instant;

use actix_web::http::Method;
use tidegate_actors::clock;
use tidegate_config::Kind;

use crate::upstream::UpstreamRejection;
use crate::upstream::attempt::clock_measurement::DatedResponse;
use crate::upstream::attempt::credential_feedback;
use crate::upstream::body::upload_progress::UploadProgress;
use crate::upstream::bucket::region_mismatch::SigningRegion;
use crate::upstream::connect::dns_cache::NoAddress;
use crate::upstream::connect::tls::is_host_mismatch;
use crate::upstream::connect::tls_failure::TlsFailure;
use crate::upstream::exchange::send_error::SendError;
use crate::upstream::exchange::sent_request::{ReceivedResponse, ResponseParts};
use crate::upstream::headers::names::BUCKET_REGION;
use crate::upstream::response::error_document::ErrorDocumentPrefix;
use crate::upstream::rules::rejection::{ExpiredTimeout, TimeoutKind};
use crate::upstream::rules::store_clock::{ClockOffset, ClockSkew, StoreClock};

/// The error code for a signature with the wrong region (S3 API reference, "Error responses").
const WRONG_REGION: &str = "AuthorizationHeaderMalformed";
/// The error code of an endpoint that does not serve the bucket's region.
const WRONG_LOCATION: &str = "IllegalLocationConstraintException";
/// Longest region in an error message, in characters.
const REGION_CHARS_MAX: usize = 64;

/// What is known about a call before its response arrives.
#[derive(Clone, Copy)]
pub(crate) struct CallInfo<'a> {
    pub(crate) kind: Kind,
    pub(crate) method: &'a Method,
    /// The clock offset of the gateway's signature. None if the request was not signed.
    pub(crate) signed_offset: Option<ClockOffset>,
    /// The region in the gateway's signature.
    pub(crate) region: &'a SigningRegion,
    /// The end of the total timeout.
    pub(crate) deadline: Instant,
}

impl CallInfo<'_> {
    /// Whether the error code in the document decides the classification.
    fn needs_error_code(&self, response: &impl ResponseParts) -> bool {
        let status = response.status().as_u16();
        let depends_on_code = matches!(status, 400 | 503)
            || (self.signed_offset.is_some() && credential_feedback::depends_on_code(status));
        // Checked for any media type: proxies and some stores send the document as text or without a type.
        self.kind == Kind::S3 && self.method != Method::HEAD && depends_on_code
    }
}

/// A response up to its head.
pub(crate) struct InspectedResponse<R = ReceivedResponse> {
    pub(crate) response: R,
    /// The part of its error document that was read for the code.
    pub(crate) document: Option<ErrorDocumentPrefix>,
    pub(crate) code: Option<String>,
    is_head: bool,
    signed_offset: Option<ClockOffset>,
    /// The region in the head of a 400 or a redirect, if it is not that of the signature.
    head_region: Option<String>,
}

impl<R: ResponseParts> InspectedResponse<R> {
    /// The status, and the error code if it was read.
    pub(crate) fn status_and_code(&self) -> (u16, Option<&str>) {
        (self.response.status().as_u16(), self.code.as_deref())
    }

    /// Whether the error document broke off before its code.
    pub(crate) fn is_truncated(&self) -> bool {
        self.code.is_none() && self.document.as_ref().is_some_and(ErrorDocumentPrefix::is_broken)
    }

    /// The region that the store requires in the gateway's signature. The error concerns `buckets.NAME.s3.region` and
    /// is not forwarded: a client that followed it would sign for that region towards the gateway.
    fn expected_region(&self) -> Option<String> {
        self.signed_offset?;
        let region = match &self.document {
            Some(document) if self.code.as_deref() == Some(WRONG_REGION) => document.element("Region")?,
            Some(_) => return None,
            // The response to HEAD has no document.
            None => self.head_region.clone().filter(|_| self.is_head)?,
        };
        Some(shortened(&region))
    }

    /// Logs that the store requires another region, if this response to a signed request shows it.
    fn log_region(&self, signed: &SigningRegion) {
        if self.signed_offset.is_none() {
            return;
        }
        let is_region_error = is_redirect(&self.response) || self.code.as_deref() == Some(WRONG_LOCATION);
        let in_head = self.head_region.as_deref().filter(|_| is_region_error).map(shortened);
        if let Some(region) = self.expected_region().or(in_head) {
            signed.log_mismatch(&region, clock::now());
        }
    }

    /// Reports to the clock of the endpoint whether the store accepted the time of the signature.
    pub(crate) fn report_clock(&self, store_clock: &StoreClock) -> Option<ClockSkew> {
        let dated = DatedResponse {
            status: self.response.status().as_u16(),
            headers: self.response.headers(),
            is_head: self.is_head,
            code: self.code.as_deref(),
            document: self.document.as_ref(),
        };
        dated.report(self.signed_offset?, store_clock)
    }
}

/// Maps the result of a send to a response or a rejection. A failure of the upload takes precedence.
pub(crate) fn map_send_error(
    sent: Result<Result<ReceivedResponse, SendError>, ExpiredTimeout>,
    began: Instant,
    upload_progress: &UploadProgress,
) -> Result<ReceivedResponse, UpstreamRejection> {
    let sent = sent.map_err(UpstreamRejection::Timeout)?;
    sent.map_err(|error| {
        upload_progress
            .take_failure()
            .unwrap_or_else(|| attribute_reset(classify_send_error(&error, began), upload_progress))
    })
}

/// An upstream that closes in mid-upload while the gateway waits for the client has timed out because of the client.
fn attribute_reset(fault: UpstreamRejection, upload_progress: &UploadProgress) -> UpstreamRejection {
    match fault {
        UpstreamRejection::Reset(_) | UpstreamRejection::ReusedClosed(_)
            if upload_progress.is_stalled_by_client(clock::now()) =>
        {
            let now = clock::now();
            let moved = upload_progress.uploading_since(now);
            let took = moved.map(|moved| now.saturating_duration_since(moved));
            UpstreamRejection::Timeout(ExpiredTimeout::of(TimeoutKind::Upload, took))
        }
        fault => fault,
    }
}

/// Checks the head of a response, and reads its error document if the code matters.
pub(crate) async fn check_head(
    response: ReceivedResponse,
    call_info: CallInfo<'_>,
) -> Result<InspectedResponse, UpstreamRejection> {
    // S3 redirects to another of its endpoints or regions. A client that followed would bypass the gateway. A gateway
    // that followed would let the upstream choose the target of its requests (H4). Redirects of an API are forwarded.
    let inspected = inspect_head(response, call_info).await;
    if call_info.kind == Kind::S3 && is_redirect(&inspected.response) {
        return Err(UpstreamRejection::Redirect(inspected.response.status()));
    }
    match inspected.expected_region() {
        Some(region) => Err(UpstreamRejection::WrongRegion(region)),
        None => Ok(inspected),
    }
}

/// The same for a response that is not forwarded to a client.
pub(crate) async fn inspect_head<R: ResponseParts>(
    mut response: R,
    call_info: CallInfo<'_>,
) -> InspectedResponse<R> {
    let document = match call_info.needs_error_code(&response) {
        true => Some(ErrorDocumentPrefix::read(&mut response, call_info.deadline).await),
        false => None,
    };
    let code = document.as_ref().and_then(ErrorDocumentPrefix::code);
    let (is_head, signed_offset) = (call_info.method == Method::HEAD, call_info.signed_offset);
    let head_region = region_of_refusal(&response, call_info.region.as_str());
    let inspected = InspectedResponse { response, document, code, is_head, signed_offset, head_region };
    if call_info.kind == Kind::S3 {
        inspected.log_region(call_info.region);
    }
    inspected
}

fn is_redirect(response: &impl ResponseParts) -> bool {
    matches!(response.status().as_u16(), 300..=303 | 305..=399)
}

/// The region in the head of a 400 or a redirect, if it is not `signed`.
fn region_of_refusal(response: &impl ResponseParts, signed: &str) -> Option<String> {
    if response.status().as_u16() != 400 && !is_redirect(response) {
        return None;
    }
    let named = response.headers().get(BUCKET_REGION)?;
    named.to_str().ok().filter(|named| *named != signed).map(str::to_owned)
}

fn shortened(region: &str) -> String {
    region.chars().take(REGION_CHARS_MAX).collect()
}

/// `began`: the start of the attempt.
fn classify_send_error(error: &SendError, began: Instant) -> UpstreamRejection {
    if let Some(shortage) = error.shortage() {
        return UpstreamRejection::Shortage(shortage);
    }
    match error {
        SendError::ConnectTimeout => {
            let took = clock::now().saturating_duration_since(began);
            UpstreamRejection::Timeout(ExpiredTimeout::of(TimeoutKind::Connect, Some(took)))
        }
        SendError::Connect(error) if is_host_mismatch(error) => {
            UpstreamRejection::HostNotInCertificate(error.to_string())
        }
        SendError::Connect(error) => match (TlsFailure::of(error), NoAddress::of(error)) {
            (Some(failure), _) => UpstreamRejection::TlsRejected(failure.clone()),
            (None, Some(unresolved)) => UpstreamRejection::NoAddress(unresolved.clone()),
            (None, None) => UpstreamRejection::Connect(error.to_string()),
        },
        SendError::ReusedClosed(error) => UpstreamRejection::ReusedClosed(error.to_string()),
        SendError::Io(error) => match TlsFailure::of(error).filter(|failure| failure.is_before_request()) {
            Some(failure) => UpstreamRejection::TlsRejected(failure.clone()),
            None => UpstreamRejection::Reset(error.to_string()),
        },
        SendError::Head(error) => UpstreamRejection::Decode(error.to_string()),
    }
}
