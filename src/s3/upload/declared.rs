//! What the head of a request says of its body.

use actix_web::http::Method;
use actix_web::http::header::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};

use crate::s3::checksum::Algorithm;
use crate::s3::checksum::claim::Claims;
use crate::s3::chunked::Form;
use crate::s3::copy_source::COPY_SOURCE;
use crate::s3::sigv4::{PayloadHash, SignatureRejection};
use crate::s3::upload::UploadFault;

pub(super) const DECODED_LENGTH: HeaderName = HeaderName::from_static("x-amz-decoded-content-length");
pub(super) const TRAILER: HeaderName = HeaderName::from_static("x-amz-trailer");

/// The `aws-chunked` framing of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunks {
    pub(crate) form: Form,
    /// Of the data.
    pub(crate) length: u64,
    pub(crate) trailer: Option<Algorithm>,
}

/// What is known of a body before its first byte.
pub(crate) struct Declared {
    /// None where the body is the data as it is.
    pub(crate) chunks: Option<Chunks>,
    pub(crate) claims: Claims,
}

impl Declared {
    /// Reads a request's head. `payload` is what its signature says of the body.
    pub(crate) fn of(
        method: &Method,
        query: &str,
        headers: &HeaderMap,
        payload: Option<PayloadHash>,
    ) -> Result<Self, UploadFault> {
        let payload = payload.map_or_else(|| unverified(headers), Ok)?;
        let chunks = Form::of(payload).map(|form| chunks(form, headers)).transpose()?;
        let hash = match payload {
            PayloadHash::Sha256(hash) => Some(hash),
            PayloadHash::Empty => Some(Sha256::digest([]).into()),
            PayloadHash::Unsigned | PayloadHash::SignedChunks { .. } | PayloadHash::UnsignedTrailer => None,
        };
        let trailer = chunks.and_then(|chunks| chunks.trailer);
        // These name the checksum of an object that is put together from others.
        let ends_multipart =
            *method == Method::POST && query.split('&').any(|pair| pair.starts_with("uploadId="));
        let is_of_body = !ends_multipart && !headers.contains_key(COPY_SOURCE);
        Ok(Self { chunks, claims: Claims::of(headers, hash, trailer, is_of_body)? })
    }
}

/// What the request says of its payload, where no signature has said it.
fn unverified(headers: &HeaderMap) -> Result<PayloadHash, UploadFault> {
    let parsed = PayloadHash::header(headers).and_then(|text| text.map(PayloadHash::parse).transpose());
    match parsed {
        Ok(payload) => Ok(payload.unwrap_or(PayloadHash::Unsigned)),
        Err(SignatureRejection::NotImplemented(_)) => Err(UploadFault::Asymmetric),
        Err(_) => Err(UploadFault::PayloadHash),
    }
}

fn chunks(form: Form, headers: &HeaderMap) -> Result<Chunks, UploadFault> {
    let length = headers.get(DECODED_LENGTH).ok_or(UploadFault::LengthMissing)?;
    let digits = length.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let length = digits.and_then(|text| text.parse().ok()).ok_or(UploadFault::LengthMalformed)?;
    let mut announced = headers.get_all(TRAILER);
    let trailer = match (announced.next(), form.has_trailer()) {
        (None, false) => None,
        (None, true) => return Err(UploadFault::TrailerMissing),
        (Some(_), false) => return Err(UploadFault::TrailerUnsupported),
        (Some(name), true) => {
            let name = name.to_str().unwrap_or_default().trim();
            let known =
                Algorithm::ALL.into_iter().find(|algorithm| algorithm.header().eq_ignore_ascii_case(name));
            let only = known.filter(|_| announced.next().is_none());
            Some(only.ok_or(UploadFault::TrailerUnsupported)?)
        }
    };
    Ok(Chunks { form, length, trailer })
}
