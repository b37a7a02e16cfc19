//! Operations that list: objects (both versions), uploads, and parts.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use s3s::dto::{
    CommonPrefix, Initiator, ListMultipartUploadsInput, ListMultipartUploadsOutput, ListObjectsInput,
    ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, ListPartsInput, ListPartsOutput,
    MultipartUpload, Object as Listed, ObjectStorageClass, Part, StorageClass,
};
use s3s::{S3Error, S3Result, s3_error};
use std::sync::Arc;

use super::buckets::owner;
use super::checksum::show_checksums;
use super::listing::{KeyEncoding, ListQuery, Page, common_prefix, page, page_items};
use super::record::{Object, UploadRecord};
use super::store::Store;

pub(super) fn objects(store: &Store, input: ListObjectsInput) -> S3Result<ListObjectsOutput> {
    let encoding = KeyEncoding::from_request(input.encoding_type.as_ref())?;
    let items_max = page_items(input.max_keys)?;
    let query = ListQuery {
        prefix: input.prefix.as_deref().unwrap_or(""),
        delimiter: input.delimiter.as_deref().unwrap_or(""),
        after: input.marker.as_deref().unwrap_or(""),
        items_max: usize::try_from(items_max).map_err(S3Error::internal_error)?,
    };
    let page = store.read_bucket(&input.bucket, |bucket| Ok(page(&bucket.objects, &query)))?;
    Ok(ListObjectsOutput {
        is_truncated: Some(page.next_after.is_some()),
        // S3 returns it only with a delimiter; without one the client uses the last key.
        next_marker: page
            .next_after
            .as_deref()
            .filter(|_| !query.delimiter.is_empty())
            .map(|n| encoding.encode(n)),
        common_prefixes: common_prefixes(&page.common_prefixes, encoding),
        contents: contents(page, encoding, true)?,
        name: Some(input.bucket),
        max_keys: Some(items_max),
        marker: Some(encoding.encode(&input.marker.unwrap_or_default())),
        prefix: Some(encoding.encode(&input.prefix.unwrap_or_default())),
        delimiter: encoding.encode_optional(input.delimiter),
        encoding_type: input.encoding_type,
        request_charged: None,
    })
}

pub(super) fn objects_v2(store: &Store, input: ListObjectsV2Input) -> S3Result<ListObjectsV2Output> {
    let encoding = KeyEncoding::from_request(input.encoding_type.as_ref())?;
    let items_max = page_items(input.max_keys)?;
    let resumed = input.continuation_token.as_deref().map(decode_token).transpose()?;
    let query = ListQuery {
        prefix: input.prefix.as_deref().unwrap_or(""),
        delimiter: input.delimiter.as_deref().unwrap_or(""),
        after: resumed.as_deref().or(input.start_after.as_deref()).unwrap_or(""),
        items_max: usize::try_from(items_max).map_err(S3Error::internal_error)?,
    };
    let page = store.read_bucket(&input.bucket, |bucket| Ok(page(&bucket.objects, &query)))?;
    let items = page.items.len() + page.common_prefixes.len();
    Ok(ListObjectsV2Output {
        is_truncated: Some(page.next_after.is_some()),
        next_continuation_token: page.next_after.as_deref().map(|name| BASE64_URL_SAFE_NO_PAD.encode(name)),
        key_count: Some(i32::try_from(items).map_err(S3Error::internal_error)?),
        common_prefixes: common_prefixes(&page.common_prefixes, encoding),
        contents: contents(page, encoding, input.fetch_owner == Some(true))?,
        name: Some(input.bucket),
        max_keys: Some(items_max),
        continuation_token: input.continuation_token,
        start_after: encoding.encode_optional(input.start_after),
        prefix: Some(encoding.encode(&input.prefix.unwrap_or_default())),
        delimiter: encoding.encode_optional(input.delimiter),
        encoding_type: input.encoding_type,
        request_charged: None,
    })
}

/// Decodes a continuation token: the last name of the previous page.
fn decode_token(token: &str) -> S3Result<String> {
    let name = BASE64_URL_SAFE_NO_PAD.decode(token).ok().and_then(|name| String::from_utf8(name).ok());
    name.ok_or_else(|| s3_error!(InvalidArgument, "the continuation token is not valid"))
}

/// Common prefixes as a document lists them.
fn common_prefixes(groups: &[String], encoding: KeyEncoding) -> Option<Vec<CommonPrefix>> {
    let groups = groups.iter().map(|group| CommonPrefix { prefix: Some(encoding.encode(group)) });
    Some(groups.collect::<Vec<_>>()).filter(|groups| !groups.is_empty())
}

fn contents(
    page: Page<Arc<Object>>,
    encoding: KeyEncoding,
    with_owner: bool,
) -> S3Result<Option<Vec<Listed>>> {
    let listed = |(key, object): (String, Arc<Object>)| -> S3Result<Listed> {
        Ok(Listed {
            e_tag: Some(object.etag()),
            key: Some(encoding.encode(&key)),
            last_modified: Some(object.info.modified.clone()),
            owner: with_owner.then(owner),
            size: Some(i64::try_from(object.bytes()).map_err(S3Error::internal_error)?),
            storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
            ..Default::default()
        })
    };
    let listed = page.items.into_iter().map(listed).collect::<S3Result<Vec<_>>>()?;
    Ok(Some(listed).filter(|listed| !listed.is_empty()))
}

fn initiator() -> Initiator {
    let owner = owner();
    Initiator { display_name: owner.display_name, id: owner.id }
}

pub(super) fn uploads(
    store: &Store,
    input: ListMultipartUploadsInput,
) -> S3Result<ListMultipartUploadsOutput> {
    let encoding = KeyEncoding::from_request(input.encoding_type.as_ref())?;
    let items_max = page_items(input.max_uploads)?;
    let found = store.read_bucket(&input.bucket, |bucket| {
        let uploads = bucket.uploads.iter().map(|(at, upload)| (at.clone(), Arc::clone(&upload.record)));
        Ok(uploads.collect::<Vec<_>>())
    })?;
    let (key_marker, id_marker) = (input.key_marker.as_deref(), input.upload_id_marker.as_deref());
    let query = ListQuery {
        prefix: input.prefix.as_deref().unwrap_or(""),
        delimiter: input.delimiter.as_deref().unwrap_or(""),
        after: key_marker.unwrap_or(""),
        items_max: usize::try_from(items_max).map_err(S3Error::internal_error)?,
    };
    let page = upload_page(found, &query, id_marker);
    let listed = |(key, id, record): (String, String, Arc<UploadRecord>)| MultipartUpload {
        initiated: Some(record.initiated.clone()),
        initiator: Some(initiator()),
        key: Some(encoding.encode(&key)),
        owner: Some(owner()),
        storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
        upload_id: Some(id),
        ..Default::default()
    };
    let uploads: Vec<_> = page.uploads.into_iter().map(listed).collect();
    Ok(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        common_prefixes: common_prefixes(&page.common_prefixes, encoding),
        delimiter: encoding.encode_optional(input.delimiter),
        encoding_type: input.encoding_type,
        is_truncated: Some(page.next_after.is_some()),
        key_marker: Some(encoding.encode(&input.key_marker.unwrap_or_default())),
        max_uploads: Some(items_max),
        next_key_marker: page.next_after.as_ref().map(|(key, _)| encoding.encode(key)),
        next_upload_id_marker: page.next_after.map(|(_, id)| id),
        prefix: Some(encoding.encode(&input.prefix.unwrap_or_default())),
        upload_id_marker: input.upload_id_marker,
        uploads: Some(uploads).filter(|uploads| !uploads.is_empty()),
        request_charged: None,
    })
}

/// A page of uploads, by key and then by ID.
#[derive(Default)]
struct UploadPage {
    uploads: Vec<(String, String, Arc<UploadRecord>)>,
    common_prefixes: Vec<String>,
    /// Key or common prefix, and ID, of the last upload, if there are more pages.
    next_after: Option<(String, String)>,
}

fn upload_page(
    found: Vec<((String, String), Arc<UploadRecord>)>,
    query: &ListQuery<'_>,
    id_marker: Option<&str>,
) -> UploadPage {
    let mut page = UploadPage::default();
    let mut last = None;
    for ((key, id), record) in found {
        if !key.starts_with(query.prefix) {
            continue;
        }
        let group = common_prefix(&key, query).map(str::to_owned);
        let name = group.clone().unwrap_or_else(|| key.clone());
        let is_after_id = group.is_none() && id_marker.is_some_and(|marker| id.as_str() > marker);
        let is_after = name.as_str() > query.after || (name == query.after && is_after_id);
        if !is_after || (group.is_some() && page.common_prefixes.last() == group.as_ref()) {
            continue;
        }
        if page.uploads.len() + page.common_prefixes.len() >= query.items_max {
            page.next_after = last;
            break;
        }
        last = Some((name, id.clone()));
        match group {
            Some(group) => page.common_prefixes.push(group),
            None => page.uploads.push((key, id, record)),
        }
    }
    page
}

pub(super) fn parts(store: &Store, input: ListPartsInput) -> S3Result<ListPartsOutput> {
    let items_max = page_items(input.max_parts)?;
    let upload = store.upload(&input.bucket, &input.key, &input.upload_id)?;
    let marker = input.part_number_marker.unwrap_or(0);
    let part = |(number, part): (&i32, &Arc<Object>)| -> S3Result<Part> {
        let mut listed = Part {
            e_tag: Some(part.etag()),
            last_modified: Some(part.info.modified.clone()),
            part_number: Some(*number),
            size: Some(i64::try_from(part.bytes()).map_err(S3Error::internal_error)?),
            ..Default::default()
        };
        show_checksums!(listed, part.info.checksums);
        Ok(listed)
    };
    let items = usize::try_from(items_max).map_err(S3Error::internal_error)?;
    let following: Vec<_> = upload.parts.iter().filter(|(number, _)| **number > marker).collect();
    let is_truncated = items > 0 && following.len() > items;
    let parts = following.into_iter().take(items).map(part).collect::<S3Result<Vec<_>>>()?;
    Ok(ListPartsOutput {
        bucket: Some(input.bucket),
        initiator: Some(initiator()),
        is_truncated: Some(is_truncated),
        key: Some(input.key),
        max_parts: Some(items_max),
        next_part_number_marker: parts.last().and_then(|part| part.part_number).filter(|_| is_truncated),
        owner: Some(owner()),
        part_number_marker: Some(marker),
        parts: Some(parts).filter(|parts| !parts.is_empty()),
        storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
        upload_id: Some(input.upload_id),
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use s3s::dto::Timestamp;

    use super::*;
    use crate::origin::record::Attributes;
    use crate::origin::upload_checksum::UploadChecksum;

    /// V5: all pages of uploads together are complete, also if uploads have the same key
    #[test]
    fn pages_of_uploads_are_complete() {
        let record = Arc::new(UploadRecord {
            key: String::new(),
            initiated: Timestamp::default(),
            attributes: Attributes::default(),
            tags: Vec::new(),
            checksum: UploadChecksum::default(),
        });
        let at = |(key, id): (&str, &str)| ((key.to_owned(), id.to_owned()), Arc::clone(&record));
        let found: Vec<_> =
            [("a", "1"), ("a", "2"), ("a", "3"), ("b/1", "1"), ("b/2", "2"), ("c", "1")].map(at).into();
        for (delimiter, expected) in
            [("", vec!["a1", "a2", "a3", "b/11", "b/22", "c1"]), ("/", vec!["a1", "a2", "a3", "b/", "c1"])]
        {
            for items_max in 1..7 {
                let (mut names, mut after) = (Vec::new(), None::<(String, String)>);
                loop {
                    let key = after.as_ref().map_or("", |(key, _)| key.as_str());
                    let query = ListQuery { prefix: "", delimiter, after: key, items_max };
                    let id_marker = after.as_ref().map(|(_, id)| id.as_str());
                    let page = upload_page(found.clone(), &query, id_marker);
                    assert!(page.uploads.len() + page.common_prefixes.len() <= items_max);
                    let uploads = page.uploads.into_iter().map(|(key, id, _)| format!("{key}{id}"));
                    let mut listed: Vec<_> = uploads.chain(page.common_prefixes).collect();
                    listed.sort();
                    names.extend(listed);
                    after = page.next_after;
                    if after.is_none() {
                        break;
                    }
                }
                assert_eq!(names, expected, "{delimiter} {items_max}");
            }
        }
    }

    #[test]
    fn an_invalid_token_is_refused() {
        let token = BASE64_URL_SAFE_NO_PAD.encode("ü/\u{1}");
        assert_eq!(decode_token(&token).unwrap(), "ü/\u{1}");
        assert!(decode_token("not base64!").is_err());
        assert!(decode_token("__8").is_err(), "no UTF-8");
    }
}
