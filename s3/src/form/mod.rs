//! Browser uploads with an HTML form (POST Object; A1).
//!
//! ```text
//! fields (20 KB) ─┬─ policy, signed ── conditions for the other fields, and limits of the file's length
//!                 ├─ key, headers of the object, response to success
//!                 └─ file, streamed ── the form's end is verified before the upload's end is sent
//! ```
//!
//! A form is converted to a PUT. The fields before the file are buffered, and the file is streamed. A store needs the file's length first,
//! and a form does not declare it, so it is computed from the form's length without the closing line. After a file of more than 64 KiB only
//! the closing line and its line end may follow; otherwise the upload is aborted and nothing is stored. Smaller files are buffered, and
//! fields after them are ignored, as in S3.
//!
//! These modules are pure. Sources: S3 "Browser-Based Uploads Using POST (AWS Signature Version 4)", RFC 7578.

pub mod fields;
pub mod multipart;
pub mod policy;
pub mod success_action;
mod tagging;

/// Why a form is rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FormRejection {
    /// The fields did not arrive in time.
    Timeout,
    /// The form is malformed.
    Malformed(&'static str),
    /// The fields before the file are too long.
    FieldsTooLarge,
    /// The headers from the fields are larger than a request may have.
    HeadersTooLarge {
        /// The bytes of the headers.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The fields give more headers than a request may have.
    TooManyHeaders {
        /// The number of the headers.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// The form has no `content-length`.
    MissingLength,
    /// The form has no file.
    NoFile,
    /// This field is missing.
    MissingField(&'static str),
    /// A field is repeated or has an invalid value.
    InvalidField {
        /// The field's name.
        name: String,
        /// The fault, as the end of a sentence about the field.
        what: &'static str,
    },
    /// The field `tagging` is not a valid tagging document.
    InvalidTagging(&'static str),
    /// S3 supports this field, and the gateway does not.
    UnsupportedField(String),
    /// The policy is malformed.
    InvalidPolicy(String),
    /// The policy does not allow this form.
    PolicyDenied(String),
    /// The file is smaller than the policy allows.
    TooSmall {
        /// The file's bytes.
        bytes: u64,
        /// The minimum.
        least: u64,
    },
    /// The file is larger than the policy allows.
    TooLarge {
        /// The file's bytes.
        bytes: u64,
        /// The maximum.
        most: u64,
    },
}
