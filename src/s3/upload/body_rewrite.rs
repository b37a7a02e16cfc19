//! Changes to the body of a request for stores with special needs (`content_md5`, `checksums`).
//!
//! Only documents that are read whole are changed; an object never is.

use bytes::Bytes;
use tidegate_config::{Checksums, ContentMd5, IntegrityConfig};

use crate::http::request_validation::Head;
use crate::s3::delete_list;
use crate::s3::upload::content_md5::Md5Header;
use crate::s3::upload::{UploadFault, completion, content_md5};

/// What is done to a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyRewrite {
    /// Nothing.
    Unchanged,
    /// A `Content-MD5` is computed for it, where it is no longer than the longest list of objects to delete.
    AddMd5,
    /// It is a CompleteMultipartUpload and loses the checksums of its parts.
    StripChecksums,
}

impl BodyRewrite {
    /// Reads a request's head.
    pub(crate) fn for_request(head: Head<'_>, store: &IntegrityConfig) -> Self {
        let query = || head.uri.query().unwrap_or_default();
        if store.checksums == Checksums::Strip && completion::is_completion(head.method, query()) {
            return Self::StripChecksums;
        }
        if store.content_md5 == ContentMd5::Add && content_md5::is_required(head.method, query()) {
            return Self::AddMd5;
        }
        Self::Unchanged
    }

    /// Up to how many bytes the body is held whole for it. `length` is that of the data, where it is known ahead.
    pub(crate) fn buffered_bytes_max(self, length: Option<u64>) -> Result<u64, UploadFault> {
        match (self, length) {
            (Self::Unchanged, _) => Ok(0),
            (Self::AddMd5, _) => Ok(delete_list::BYTES_MAX),
            (Self::StripChecksums, None) => Err(UploadFault::DocumentLengthMissing),
            (Self::StripChecksums, Some(bytes)) if bytes > completion::BYTES_MAX => {
                Err(UploadFault::DocumentTooLong { limit: completion::BYTES_MAX })
            }
            (Self::StripChecksums, Some(_)) => Ok(completion::BYTES_MAX),
        }
    }

    /// The body that goes on in place of a verified one; none where it stays as it is.
    pub(crate) fn rewrite(self, body: &Bytes) -> Option<Bytes> {
        match self {
            Self::Unchanged | Self::AddMd5 => None,
            Self::StripChecksums => completion::without_checksums(body).map(Bytes::from),
        }
    }

    /// The `Content-MD5` that it goes on with.
    pub(crate) fn md5_header(self, is_changed: bool) -> Md5Header {
        Md5Header { is_added: self == Self::AddMd5, is_replaced: is_changed }
    }
}
