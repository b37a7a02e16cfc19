//! Tags of objects, within S3's limits (User Guide, "Categorizing your objects using tags").

use std::collections::HashSet;

use http::StatusCode;
use s3s::dto::{GetObjectTaggingOutput, Tag};
use s3s::{S3Result, s3_error};
use tidegate_s3::sigv4::query::{decoded_bytes, decoded_name, decoded_text, pairs, value_of};

use super::error_with_code;
use super::record::Object;
use super::store::Store;

const TAGS_MAX: usize = 10;
const KEY_CHARACTERS_MAX: usize = 128;
const VALUE_CHARACTERS_MAX: usize = 256;

pub(super) type Tags = Vec<(String, String)>;

/// The tags of the header `x-amz-tagging`, which has the form of a URL query.
pub(super) fn from_header(header: Option<&str>) -> S3Result<Tags> {
    let header = header.unwrap_or_default();
    if str::from_utf8(&decoded_bytes(header)).is_err() {
        return Err(s3_error!(InvalidTag, "x-amz-tagging is not UTF-8"));
    }
    let pairs = pairs(header).filter(|pair| !pair.is_empty());
    let value = |pair: &str| decoded_text(value_of(pair)).into_owned();
    check(pairs.map(|pair| (decoded_name(pair).into_owned(), value(pair))).collect())
}

/// The tags of a document.
pub(super) fn from_document(set: Vec<Tag>) -> S3Result<Tags> {
    let pair = |tag: Tag| Some((tag.key?, tag.value.unwrap_or_default()));
    let tags: Option<Tags> = set.into_iter().map(pair).collect();
    check(tags.ok_or_else(|| s3_error!(MalformedXML, "a tag has no key"))?)
}

fn check(tags: Tags) -> S3Result<Tags> {
    let is_short = |(key, value): &(String, String)| {
        (1..=KEY_CHARACTERS_MAX).contains(&key.chars().count())
            && value.chars().count() <= VALUE_CHARACTERS_MAX
    };
    if !tags.iter().all(is_short) {
        return Err(s3_error!(
            InvalidTag,
            "a tag's key must have 1 to 128 characters, its value at most 256"
        ));
    }
    let keys: HashSet<_> = tags.iter().map(|(key, _)| key).collect();
    if keys.len() < tags.len() {
        return Err(s3_error!(InvalidTag, "two tags have the same key"));
    }
    if tags.len() > TAGS_MAX {
        return Err(error_with_code(
            "BadRequest",
            StatusCode::BAD_REQUEST,
            "an object may have at most 10 tags",
        ));
    }
    Ok(tags)
}

/// The number of tags; none for zero, as in S3.
pub(super) fn count(object: &Object) -> Option<i32> {
    i32::try_from(object.info.tags.len()).ok().filter(|count| *count > 0)
}

pub(super) fn get(store: &Store, bucket: &str, key: &str) -> S3Result<GetObjectTaggingOutput> {
    let object = store.object(bucket, key)?;
    let tag = |(key, value): &(String, String)| Tag { key: Some(key.clone()), value: Some(value.clone()) };
    Ok(GetObjectTaggingOutput { tag_set: object.info.tags.iter().map(tag).collect(), version_id: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_keep_within_s3s_limits() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(from_header(None).unwrap(), []);
        let expected = [pair("a b", "c d"), pair("ü", ""), pair("e", "")];
        assert_eq!(from_header(Some("a+b=c%20d&%C3%BC=&e")).unwrap(), expected);
        let many = |count: usize| (0..count).map(|n| format!("{n}=x")).collect::<Vec<_>>().join("&");
        let long = |key: usize, value: usize| format!("{}={}", "k".repeat(key), "v".repeat(value));
        for (header, code) in [
            (many(10), "ok"),
            (many(11), "BadRequest"),
            (long(128, 256), "ok"),
            (long(129, 0), "InvalidTag"),
            (long(1, 257), "InvalidTag"),
            ("=x".to_owned(), "InvalidTag"),
            ("a=1&a=2".to_owned(), "InvalidTag"),
            ("a=%ff".to_owned(), "InvalidTag"),
        ] {
            let outcome = from_header(Some(&header));
            let outcome = outcome.map_or_else(|error| error.code().as_str().to_owned(), |_| "ok".to_owned());
            assert_eq!(outcome, code, "{header}");
        }
        assert!(from_document(vec![Tag { key: None, value: None }]).is_err());
    }
}
