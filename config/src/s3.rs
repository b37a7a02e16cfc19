//! The S3 API as clients see it: the gateway's region.

use crate::form::{Fault, Faults, Form, shown};
use crate::section::section;
use crate::setting::Raw;
use crate::walk::key;

/// The region of the S3 API that clients assume where nobody names one.
pub(crate) const DEFAULT_REGION: &str = "us-east-1";
const REGION_BYTES_MAX: usize = 32;

/// The name of a region: it appears in headers, in XML and in scopes of signatures.
pub(crate) struct RegionName;

impl Form for RegionName {
    type Value = String;

    fn parse(&self, raw: &Raw) -> Result<String, Faults> {
        let text = raw.text()?.trim();
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if text.is_empty() || text.len() > REGION_BYTES_MAX || !text.bytes().all(is_name) {
            let fault = Fault::new(format!("{} is not the name of a region", shown(text)));
            return Err(fault.hinting("such as us-east-1 or eu-central-1").into());
        }
        Ok(text.to_owned())
    }

    fn accepts(&self) -> String {
        "region, up to 32 letters, digits, `-`, `_`, `.`".to_owned()
    }

    fn show(&self, value: &String) -> String {
        shown(value)
    }
}

section! {
    /// The S3 API as clients see it.
    pub struct S3Config {
        /// region of the gateway, for `GetBucketLocation`, `x-amz-bucket-region` and `BucketRegion`; a bucket with other
        /// `client_regions` has the first of those
        ///
        /// Clients may sign for any region, unless `buckets.NAME.client_regions` lists some. `buckets.NAME.s3.region` is another
        /// region: the one that requests to the store are signed for.
        pub region: String = key("region", RegionName, DEFAULT_REGION.to_owned());
    }
}
