//! Changes to the body of a request for stores that need them (`content_md5`, `checksums`).
//!
//! Only XML documents that are buffered whole are changed, never an object.

use bytes::Bytes;

use crate::delete_list;
use crate::request::RequestHead;
use crate::upload::content_md5::Md5Header;
use crate::upload::{UploadFault, completion, content_md5};

/// What a store needs that S3 does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreNeeds {
    /// A `Content-MD5` of the documents for which S3 requires a digest.
    pub content_md5: bool,
    /// No checksums of the parts in a CompleteMultipartUpload.
    pub no_checksums: bool,
}

/// The change to a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyRewrite {
    /// No change.
    Unchanged,
    /// Add a `Content-MD5`, if the body is not longer than the longest list of objects to delete.
    AddMd5,
    /// Remove the checksums of the parts from a CompleteMultipartUpload.
    StripChecksums,
}

impl BodyRewrite {
    /// The change that the store needs for this request.
    pub fn for_request<'a>(head: impl RequestHead<'a>, store: StoreNeeds) -> Self {
        if store.no_checksums && completion::is_completion(head.method(), head.query()) {
            return Self::StripChecksums;
        }
        if store.content_md5 && content_md5::is_required(head.method(), head.query()) {
            return Self::AddMd5;
        }
        Self::Unchanged
    }

    /// The size up to which the body is buffered whole for the change. `length` is the length of the data, if it is known ahead.
    pub fn buffered_bytes_max(self, length: Option<u64>) -> Result<u64, UploadFault> {
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

    /// The body to forward in place of the verified one; none if it is unchanged.
    pub fn rewrite(self, body: &Bytes) -> Option<Bytes> {
        match self {
            Self::Unchanged | Self::AddMd5 => None,
            Self::StripChecksums => completion::without_checksums(body).map(Bytes::from),
        }
    }

    /// The change to `Content-MD5`.
    pub fn md5_header(self, is_changed: bool) -> Md5Header {
        Md5Header { is_added: self == Self::AddMd5, is_replaced: is_changed }
    }
}
