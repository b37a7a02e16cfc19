//! `GetBucketLocation`: recognizes the request and writes the response document.
//!
//! Source: S3 API Reference, "GetBucketLocation": us-east-1 is the empty element.

use crate::addressing::NamedResource;
use crate::error_document::escape;
use crate::request::RequestHead;
use crate::sigv4::query::{decoded_name, pairs};

/// The region that clients sign for before they know the region of a bucket.
pub const FIRST_REGION: &str = "us-east-1";

/// Whether a request to an `s3` bucket asks for the bucket's region.
pub fn is_location_request<'a>(head: impl RequestHead<'a>, named: &NamedResource<'_>) -> bool {
    head.method() == "GET"
        && named.is_bucket()
        && pairs(head.query()).any(|pair| decoded_name(pair) == "location")
}

/// The response document with this region.
pub fn document(region: &str) -> String {
    let region = if region == FIRST_REGION { "" } else { region };
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <LocationConstraint xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{}</LocationConstraint>",
        escape(region)
    )
}
