//! Regions of clients' signatures (A9): the regions that a bucket accepts, and the region that responses advertise.
//!
//! A client takes the region of its credential scope from its own configuration. So by default any region is accepted, and the signature
//! is verified with the region of the scope. The region does not identify the signer.

use std::collections::HashSet;

use tidegate_config::{BucketConfig, Config};
use tidegate_s3::addressing;
use tidegate_s3::location::{self, FIRST_REGION};

use super::AuthContext;
use crate::request_head::Head;

/// The longest region that is accepted if the configuration does not name it.
const REGION_BYTES_MAX: usize = 32;

/// The regions of a configuration.
pub(crate) struct Regions {
    /// `s3.region`.
    gateway_region: String,
    /// Every region that the configuration names.
    configured: HashSet<String>,
}

impl Regions {
    pub(crate) fn new(config: &Config) -> Self {
        let gateway_region = config.s3.region.clone();
        let of_buckets = config.buckets.values().flat_map(|bucket| {
            bucket.client_regions.iter().chain([&bucket.upstream.region]).map(String::as_str)
        });
        let configured = of_buckets.chain([FIRST_REGION, &gateway_region]).map(str::to_owned).collect();
        Self { gateway_region, configured }
    }

    /// Whether the configuration names this region. The set is fixed at the start.
    pub(super) fn is_configured(&self, region: &str) -> bool {
        self.configured.contains(region)
    }

    /// The region that responses about a bucket advertise; without a bucket the gateway's region.
    pub(crate) fn advertised<'a>(&'a self, bucket: Option<&'a BucketConfig>) -> &'a str {
        let listed = bucket.map(|bucket| bucket.client_regions.as_slice()).unwrap_or_default();
        match listed.first() {
            Some(first) if !listed.contains(&self.gateway_region) => first,
            _ => &self.gateway_region,
        }
    }

    /// Whether a signature for this region is accepted if the bucket lists no regions.
    fn accepts_unlisted(&self, region: &str) -> bool {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_region = region.len() <= REGION_BYTES_MAX && region.bytes().all(is_plain);
        is_region || self.is_configured(region)
    }
}

/// The regions that the signature of one request may be for.
pub(super) struct AcceptedRegions<'a> {
    regions: &'a Regions,
    bucket: Option<&'a BucketConfig>,
    request: Option<(Head<'a>, &'a [String])>,
}

impl<'a> AcceptedRegions<'a> {
    /// For a request to a bucket.
    pub(super) fn for_request(head: Head<'a>, bucket: &'a BucketConfig, context: AuthContext<'a>) -> Self {
        let request = Some((head, context.base_domains));
        Self { request, ..Self::for_form(bucket, context) }
    }

    /// For a form that is posted to a bucket.
    pub(super) fn for_form(bucket: &'a BucketConfig, context: AuthContext<'a>) -> Self {
        Self { regions: context.regions, bucket: Some(bucket), request: None }
    }

    /// For a request for the list of buckets.
    pub(super) fn for_bucket_list(context: AuthContext<'a>) -> Self {
        Self { regions: context.regions, bucket: None, request: None }
    }

    pub(super) fn contains(&self, region: &str) -> bool {
        let listed = self.bucket.map(|bucket| bucket.client_regions.as_slice()).unwrap_or_default();
        match listed {
            [] => self.regions.accepts_unlisted(region),
            listed => {
                listed.iter().any(|known| known == region)
                    || (region == FIRST_REGION && self.is_location_request())
            }
        }
    }

    /// The region that the reply to a signature for a rejected region advertises.
    pub(super) fn advertised(&self) -> &'a str {
        self.regions.advertised(self.bucket)
    }

    fn is_location_request(&self) -> bool {
        self.request.is_some_and(|(head, base_domains)| {
            location::is_location_request(head, &addressing::resolve(head, base_domains))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn regions(gateway: &str, listed: &[&str]) -> (Regions, BucketConfig) {
        let listed: Vec<String> = listed.iter().map(|region| (*region).to_owned()).collect();
        let mut bucket = BucketConfig { client_regions: listed, ..BucketConfig::default() };
        bucket.upstream.region = "RegionOne".to_owned();
        let mut config = Config::default();
        config.s3.region = gateway.to_owned();
        config.buckets.insert("b".to_owned(), bucket.clone());
        (Regions::new(&config), bucket)
    }

    fn accepts(regions: &Regions, bucket: &BucketConfig, region: &str) -> bool {
        AcceptedRegions { regions, bucket: Some(bucket), request: None }.contains(region)
    }

    /// A9: any region, including the empty one, unless the bucket lists regions
    #[test]
    fn any_region_is_accepted_unless_the_bucket_lists_regions() {
        let (any, bucket) = regions("us-east-1", &[]);
        for region in ["", "us-east-1", "eu-west-1", "x", "default", "RegionOne", &"r".repeat(32)] {
            assert!(accepts(&any, &bucket, region), "{region}");
        }
        for region in ["US-EAST-1", "us_east_1", "us-east-1 ", "ü", "us%2Deast", "a\0", &"r".repeat(33)] {
            assert!(!accepts(&any, &bucket, region), "{region}");
        }
        let (some, bucket) = regions("us-east-1", &["eu-west-1", "Zürich"]);
        for (region, expected) in
            [("eu-west-1", true), ("Zürich", true), ("us-east-1", false), ("", false), ("RegionOne", false)]
        {
            assert_eq!(accepts(&some, &bucket, region), expected, "{region}");
        }
    }

    /// A9: a bucket accepts signatures for the region that it advertises
    #[test]
    fn the_advertised_region_is_accepted() {
        for (gateway, listed, advertised) in [
            ("eu-central-1", &[][..], "eu-central-1"),
            ("eu-central-1", &["eu-west-1", "eu-central-1"], "eu-central-1"),
            ("eu-central-1", &["eu-west-1", "eu-north-1"], "eu-west-1"),
        ] {
            let (regions, bucket) = regions(gateway, listed);
            assert_eq!((regions.advertised(Some(&bucket)), regions.advertised(None)), (advertised, gateway));
            assert!(accepts(&regions, &bucket, advertised));
        }
    }

    proptest! {
        /// A9, V8
        #[test]
        fn a_region_is_short_and_plain(region in "\\PC{0,40}") {
            let (any, bucket) = regions("us-east-1", &[]);
            let is_region = region.len() <= 32
                && region.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-'));
            prop_assert_eq!(accepts(&any, &bucket, &region), is_region || region == "RegionOne");
        }
    }
}
