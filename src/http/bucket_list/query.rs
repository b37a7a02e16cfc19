//! The query parameters of a list of buckets, and the continuation token (S3 API reference, ListBuckets).
//!
//! A token is the last name of the page before and a hash that detects damage. So the gateway stores nothing, and all
//! gateways accept each other's tokens. A token is not secret: a forged one gives access to no more names than the
//! client may see.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use tidegate_s3::sigv4::query::{decoded_name, decoded_text, pairs, value_of};

/// The most buckets of a page.
const BUCKETS_MAX: usize = 10_000;
const HASH_BYTES: usize = 6;
/// S3's limit on the length of a token.
const TOKEN_CHARS_MAX: usize = 1024;

/// The parameters of a client's request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct BucketListQuery {
    pub(super) prefix: Option<String>,
    /// The most buckets of the page.
    pub(super) max: Option<usize>,
    /// The last name of the page before.
    pub(super) after: Option<String>,
    pub(super) region: Option<String>,
}

impl BucketListQuery {
    /// Parses a query; the error is the invalid or repeated parameter. Other parameters, such as those of a
    /// signature, are ignored.
    pub(super) fn parse(query: &str) -> Result<Self, &'static str> {
        let mut parsed = Self::default();
        for pair in pairs(query) {
            let value = decoded_text(value_of(pair)).into_owned();
            match &*decoded_name(pair) {
                "prefix" => set_once(&mut parsed.prefix, Some(value)).ok_or("prefix")?,
                "max-buckets" => set_once(&mut parsed.max, parse_count(&value)).ok_or("max-buckets")?,
                "bucket-region" => set_once(&mut parsed.region, Some(value)).ok_or("bucket-region")?,
                "continuation-token" => {
                    set_once(&mut parsed.after, decode_token(&value)).ok_or("continuation-token")?;
                }
                _ => {}
            }
        }
        Ok(parsed)
    }

    /// Whether the client requests buckets of this region.
    pub(super) fn matches_region(&self, region: &str) -> bool {
        self.region.as_ref().is_none_or(|requested| requested == region)
    }

    /// Whether the reply names the region of each bucket: only if the query has one of the parameters.
    pub(super) fn has_parameters(&self) -> bool {
        *self != Self::default()
    }
}

/// Sets a parameter; `None` if it is repeated or its value is invalid.
fn set_once<T>(parameter: &mut Option<T>, value: Option<T>) -> Option<()> {
    parameter.replace(value?).is_none().then_some(())
}

fn parse_count(text: &str) -> Option<usize> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|count| is_number && (1..=BUCKETS_MAX).contains(count))
}

/// The token of the page that follows this name.
pub(super) fn encode_token(last: &str) -> String {
    URL_SAFE_NO_PAD.encode([&token_digest(last)[..], last.as_bytes()].concat())
}

/// The name in a token; `None` if no gateway made the token.
fn decode_token(token: &str) -> Option<String> {
    if token.len() > TOKEN_CHARS_MAX {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (hashed, name) = bytes.split_at_checked(HASH_BYTES)?;
    let name = String::from_utf8(name.to_vec()).ok()?;
    (hashed == token_digest(&name)).then_some(name)
}

fn token_digest(name: &str) -> [u8; HASH_BYTES] {
    let digest = Sha256::new().chain_update("tidegate bucket list\0").chain_update(name).finalize();
    std::array::from_fn(|at| digest[at])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parameters_are_read_by_their_decoded_names() {
        let query = BucketListQuery::parse(
            "x-id=ListBuckets&pre%66ix=a%20b&max-buckets=7&bucket-region=eu-1&X-Amz-Date=x",
        );
        let query = query.unwrap();
        assert_eq!((query.prefix.as_deref(), query.max), (Some("a b"), Some(7)));
        assert!(query.matches_region("eu-1") && !query.matches_region("us-east-1") && query.has_parameters());
        let plain = BucketListQuery::parse("x-id=ListBuckets").unwrap();
        assert!(plain.matches_region("eu-1") && !plain.has_parameters());
    }

    #[test]
    fn invalid_values_are_refused() {
        for count in ["", "0", "-1", "+1", "10001", "1e3", "99999999999999999999999", " 1"] {
            assert_eq!(
                BucketListQuery::parse(&format!("max-buckets={count}")),
                Err("max-buckets"),
                "{count}"
            );
        }
        assert_eq!(BucketListQuery::parse("max-buckets=10000").unwrap().max, Some(10_000));
        for (query, parameter) in [
            ("prefix=a&prefix=a", "prefix"),
            ("max-buckets=1&max-buckets=1", "max-buckets"),
            ("bucket-region=a&bucket-region=a", "bucket-region"),
            ("continuation-token=", "continuation-token"),
            ("continuation-token=YQ", "continuation-token"),
            ("continuation-token=%00", "continuation-token"),
        ] {
            assert_eq!(BucketListQuery::parse(query), Err(parameter), "{query}");
        }
        let long = "A".repeat(2000);
        assert_eq!(BucketListQuery::parse(&format!("continuation-token={long}")), Err("continuation-token"));
    }

    proptest! {
        /// A token leads to its name, and one with a changed byte to nothing
        #[test]
        fn a_token_is_decoded_or_refused(name in "[a-z0-9.-]{1,63}", at in any::<prop::sample::Index>(), bit in 0..6) {
            let token = encode_token(&name);
            prop_assert_eq!(decode_token(&token), Some(name.clone()));
            let mut forged = token.clone().into_bytes();
            let at = at.index(forged.len());
            forged[at] ^= 1_u8 << bit;
            if let Ok(forged) = String::from_utf8(forged) {
                prop_assert_eq!(decode_token(&forged), None);
            }
        }
    }
}
