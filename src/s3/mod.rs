//! The S3 protocol: names in paths and hosts, signatures, checksums, body framing, forms, and the documents that the gateway reads or
//! writes.
//!
//! These modules do not model what S3's operations do. Requests are forwarded unchanged except for bucket names, authentication and body
//! framing.

pub(crate) mod addressing;
pub(crate) mod bucket_elements;
pub(crate) mod bucket_list;
pub(crate) mod bucket_renamer;
pub(crate) mod checksum;
pub(crate) mod chunked;
pub(crate) mod copy_source;
pub(crate) mod delete_list;
pub(crate) mod delete_result;
pub(crate) mod error_document;
pub(crate) mod form;
pub(crate) mod headers;
pub(crate) mod late_error;
pub(crate) mod location;
pub(crate) mod path_segments;
pub(crate) mod percent;
pub(crate) mod pieces;
pub(crate) mod request;
#[cfg(test)]
mod sample_request;
pub(crate) mod signer;
pub(crate) mod sigv2;
pub(crate) mod sigv4;
pub(crate) mod store_name;
pub(crate) mod target;
pub(crate) mod upload;
pub(crate) mod xml;
pub(crate) mod xml_reader;

/// The canned ACLs that give access to the bucket's owner only.
pub(crate) const OWNER_ONLY_ACLS: [&str; 3] = ["private", "bucket-owner-read", "bucket-owner-full-control"];
