//! The S3 protocol: names in paths and hosts, signatures, checksums, body framing, forms, and the documents that the gateway reads or
//! writes.
//!
//! The crate is pure: bytes in, bytes out. It has no runtime, no clock and no log, and it depends on no HTTP library. Requests and headers
//! are read through traits that the caller implements for its own types (`request.rs`, `headers.rs`).
//!
//! These modules do not model what S3's operations do. Requests are forwarded unchanged except for bucket names, authentication and body
//! framing.

pub mod addressing;
pub mod bucket_elements;
pub mod bucket_list;
pub mod bucket_name;
pub mod bucket_renamer;
pub mod checksum;
pub mod chunked;
pub mod copy_source;
pub mod delete_list;
pub mod delete_result;
pub mod error_document;
pub mod form;
pub mod headers;
pub mod late_error;
pub mod location;
pub mod path_segments;
pub mod percent;
pub mod pieces;
pub mod request;
#[cfg(test)]
mod sample_request;
pub mod signer;
pub mod sigv2;
pub mod sigv4;
mod store_name;
pub mod target;
pub mod upload;
pub mod xml;
mod xml_reader;

/// The canned ACLs that give access to the bucket's owner only.
pub const OWNER_ONLY_ACLS: [&str; 3] = ["private", "bucket-owner-read", "bucket-owner-full-control"];
