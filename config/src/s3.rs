//! The S3 API towards clients: the gateway's region.

use crate::schema::key;
use crate::section::section;
use crate::setting::Raw;
use crate::value_type::{ValueError, ValueErrors, ValueType, quoted, toml_text};

/// The region that S3 clients assume by default.
pub(crate) const DEFAULT_REGION: &str = "us-east-1";
const REGION_BYTES_MAX: usize = 32;

/// The name of a region. It is part of headers, XML and signature scopes.
pub(crate) struct RegionName;

impl ValueType for RegionName {
    type Value = String;

    fn parse(&self, raw: &Raw) -> Result<String, ValueErrors> {
        let text = raw.text()?.trim();
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if text.is_empty() || text.len() > REGION_BYTES_MAX || !text.bytes().all(is_name) {
            let error = ValueError::new(format!("{} is not the name of a region", quoted(text)));
            return Err(error.with_hint("use a region such as us-east-1 or eu-central-1").into());
        }
        Ok(text.to_owned())
    }

    fn accepts(&self) -> String {
        "1–32 letters, digits, `-`, `_`, `.`".to_owned()
    }

    fn to_toml(&self, value: &String) -> String {
        toml_text(value)
    }
}

section! {
    /// The S3 API towards clients.
    pub struct S3Config {
        /// region that the gateway reports to clients
        ///
        /// It is the value of `GetBucketLocation`, `x-amz-bucket-region` and `BucketRegion`. If `client_regions` of a bucket lists only
        /// other regions, the bucket reports the first of those. Clients may sign for any region, unless `client_regions` is set. The
        /// region in the signatures of requests to the store is another key, `buckets.NAME.s3.region`.
        pub region: String = key("region", RegionName, DEFAULT_REGION.to_owned());
    }
}
