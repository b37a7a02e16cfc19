//! What the gateway knows of S3: names in paths, signing towards the upstream, and the few documents it reads or writes.
//!
//! Deliberately absent: any model of S3's operations. Requests pass as they are; only what names a bucket,
//! proves an identity or frames a body is touched.

pub(crate) mod bucket_elements;
pub(crate) mod bucket_list;
pub(crate) mod checksum;
pub(crate) mod chunked;
pub(crate) mod copy_source;
pub(crate) mod document;
pub(crate) mod form;
pub(crate) mod late_error;
pub(crate) mod naming;
pub(crate) mod pieces;
pub(crate) mod rename;
pub(crate) mod sign;
pub(crate) mod sigv4;
pub(crate) mod store_name;
pub(crate) mod target;
pub(crate) mod upload;
pub(crate) mod xml;
