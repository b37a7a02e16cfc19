//! What the gateway knows of S3: names in paths, signing towards the upstream, and the few documents it reads or writes.
//!
//! Deliberately absent: any model of S3's operations. Requests pass as they are; only what names a bucket,
//! proves an identity or frames a body is touched.

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
pub(crate) mod late_error;
pub(crate) mod location;
pub(crate) mod pieces;
pub(crate) mod signer;
pub(crate) mod sigv2;
pub(crate) mod sigv4;
pub(crate) mod store_name;
pub(crate) mod target;
pub(crate) mod upload;
pub(crate) mod xml;
pub(crate) mod xml_reader;
