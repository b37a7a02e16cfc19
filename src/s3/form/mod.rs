//! Uploads by POST form: what a browser sends without a script (A1).
//!
//! ```text
//! fields (20 KB) ─┬─ policy, signed ── conditions for the other fields, and bounds of the file's length
//!                 ├─ key, headers of the object, what to answer
//!                 └─ file, streamed ── the form's end is verified before the upload's end leaves
//! ```
//!
//! A form becomes a PUT: fields before the file are held in memory, and the file is streamed. A store needs the file's length first.
//! A form does not have it, so it is computed from the form's length without the closing line. Behind a file of more than 64 KiB only
//! that line and its line end may follow; any other form breaks off and stores nothing. Smaller files are read whole, and fields
//! behind them are ignored, as at S3.
//!
//! All of it is pure: bytes and fields in, verdicts out. Source: S3 "Browser-Based Uploads Using POST (AWS Signature Version
//! 4)", RFC 7578.

pub(crate) mod fields;
pub(crate) mod multipart;
pub(crate) mod policy;
pub(crate) mod success_action;
mod tagging;

/// Why a form is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FormRejection {
    /// Its fields did not come in time.
    Timeout,
    /// It is no form.
    Malformed(&'static str),
    /// The fields before the file are too long.
    FieldsTooLarge,
    /// The fields become larger headers than a request may have.
    HeadersTooLarge {
        /// The bytes of the headers.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The fields become more headers than a request may have.
    TooManyHeaders {
        /// The number of the headers.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// It does not say how long it is.
    MissingLength,
    /// There is no file.
    NoFile,
    /// This field is missing.
    MissingField(&'static str),
    /// A field that is there twice, or holds what it may not.
    InvalidField {
        /// Its name.
        name: String,
        /// What is wrong.
        what: &'static str,
    },
    /// The field `tagging` is no document of tags.
    InvalidTagging(&'static str),
    /// A field that S3 knows and the gateway does not.
    UnsupportedField(String),
    /// The policy is none.
    InvalidPolicy(String),
    /// The policy does not allow this form.
    PolicyDenied(String),
    /// The file is smaller than the policy allows.
    TooSmall {
        /// The file's bytes.
        bytes: u64,
        /// The least.
        least: u64,
    },
    /// The file is larger than the policy allows.
    TooLarge {
        /// The file's bytes.
        bytes: u64,
        /// The most.
        most: u64,
    },
}
