//! Operations on one object: PUT, GET, HEAD, DELETE, attributes.

use std::ops::Range;
use std::sync::Arc;

use http::StatusCode;
use s3s::dto;
use s3s::dto::{
    DeleteObjectInput, DeleteObjectsInput, DeleteObjectsOutput, ETagCondition, GetObjectAttributesInput,
    GetObjectAttributesOutput, GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput,
    ObjectIdentifier, PutObjectInput, PutObjectOutput, StreamingBlob, Timestamp, TimestampFormat,
};
use s3s::{S3Error, S3Request, S3Result, s3_error};

use super::body_receiver::{ExpectedBody, discard_body_after_error, receive_body, require_body};
use super::checksum::{sent_checksums, show_checksums};
use super::conditions::{ConditionOutcome, Conditions, WriteConditions, seconds};
use super::record::{Object, ObjectInfo, attributes, show_attributes};
use super::store::{Store, now};
use super::tags;
use super::unsupported::{check_version, refuse_extras, refuse_set};
use super::{blocking, error_with_code, reader};

/// Maximum of keys in one DeleteObjects request, as in S3.
const DELETED_KEYS_MAX: usize = 1000;

/// The conditions in a read's input: two operations have the same field names.
macro_rules! conditions {
    ($input:expr) => {
        Conditions {
            if_match: $input.if_match.as_ref(),
            if_none_match: $input.if_none_match.as_ref(),
            if_modified_since: $input.if_modified_since.as_ref(),
            if_unmodified_since: $input.if_unmodified_since.as_ref(),
        }
    };
}

pub(super) async fn put(
    store: Arc<Store>,
    mut request: S3Request<PutObjectInput>,
) -> S3Result<PutObjectOutput> {
    let mut body = require_body(&mut request.input.body)?;
    let outcome = put_body(store, request, &mut body).await;
    discard_body_after_error(body, outcome).await
}

async fn put_body(
    store: Arc<Store>,
    request: S3Request<PutObjectInput>,
    body: &mut StreamingBlob,
) -> S3Result<PutObjectOutput> {
    let mut input = request.input;
    refuse_extras!(input);
    refuse_set!(input, write_offset_bytes);
    let tags = tags::from_header(input.tagging.as_deref())?;
    let conditions = WriteConditions::new(input.if_match.take(), input.if_none_match.take())?;
    let attributes = attributes!(input);
    // Checked before the body, which may be large. The write checks them again, under the lock.
    store.read_bucket(&input.bucket, |bucket| {
        conditions.check(bucket.objects.get(&input.key).map(AsRef::as_ref))
    })?;
    let expected = ExpectedBody {
        content_md5: input.content_md5.take(),
        checksums: sent_checksums!(input),
        announced: input.checksum_algorithm.take(),
        trailers: request.trailing_headers,
    };
    let received = receive_body(store.disk().data(), body, expected).await?;
    let info = ObjectInfo {
        etag: hex::encode(received.md5),
        modified: now(),
        attributes,
        tags,
        checksums: received.checksums,
        is_multipart: false,
    };
    let object = Object { info, segments: vec![received.segment] };
    let object = blocking(move || store.put(&input.bucket, &input.key, object, &conditions)).await?;
    let mut output = PutObjectOutput { e_tag: Some(object.etag()), ..Default::default() };
    show_checksums!(output, object.info.checksums);
    Ok(output)
}

pub(super) async fn get(store: &Store, request: S3Request<GetObjectInput>) -> S3Result<GetObjectOutput> {
    let input = &request.input;
    refuse_set!(input, sse_customer_algorithm);
    check_version(input.version_id.as_deref())?;
    let object = store.object(&input.bucket, &input.key)?;
    check_conditions(&object, &conditions!(input))?;
    let part = Part::of(&object, input.part_number, range(&object, &request.headers, input.range))?;
    let mut output = GetObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        body: Some(reader::body(&object, &part.range).await?),
        content_length: Some(content_length(&part.range)?),
        content_range: part.content_range,
        e_tag: Some(object.etag()),
        last_modified: Some(object.info.modified.clone()),
        parts_count: part.count,
        tag_count: tags::count(&object),
        ..Default::default()
    };
    show_attributes!(output, object.info.attributes);
    if input.checksum_mode.is_some() && part.range == (0..object.bytes()) {
        show_checksums!(output, object.info.checksums);
        output.checksum_type = object.info.checksums.checksum_type();
    }
    Ok(output)
}

pub(super) fn head(store: &Store, request: &S3Request<HeadObjectInput>) -> S3Result<HeadObjectOutput> {
    let input = &request.input;
    refuse_set!(input, sse_customer_algorithm);
    check_version(input.version_id.as_deref())?;
    let object = store.object(&input.bucket, &input.key)?;
    check_conditions(&object, &conditions!(input))?;
    let part = Part::of(&object, input.part_number, range(&object, &request.headers, input.range))?;
    let mut output = HeadObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        content_length: Some(content_length(&part.range)?),
        content_range: part.content_range,
        e_tag: Some(object.etag()),
        last_modified: Some(object.info.modified.clone()),
        parts_count: part.count,
        ..Default::default()
    };
    show_attributes!(output, object.info.attributes);
    if input.checksum_mode.is_some() && part.range == (0..object.bytes()) {
        show_checksums!(output, object.info.checksums);
        output.checksum_type = object.info.checksums.checksum_type();
    }
    Ok(output)
}

/// A 304 has the headers that a cache needs. The server library adds a body, which HTTP does not send.
fn check_conditions(object: &Object, conditions: &Conditions<'_>) -> S3Result<()> {
    match conditions.evaluate(object) {
        ConditionOutcome::Proceed => Ok(()),
        ConditionOutcome::PreconditionFailed => {
            Err(s3_error!(PreconditionFailed, "a condition of the request is not met"))
        }
        ConditionOutcome::NotModified => {
            let mut error =
                error_with_code("NotModified", StatusCode::NOT_MODIFIED, "the object has not changed");
            let mut headers = http::HeaderMap::new();
            let mut add = |name, value: Option<&str>| {
                if let Some(value) = value.and_then(|value| value.parse().ok()) {
                    headers.insert(name, value);
                }
            };
            add(http::header::ETAG, Some(&format!("\"{}\"", object.info.etag)));
            add(http::header::LAST_MODIFIED, Some(&http_date(&object.info.modified)?));
            add(http::header::CACHE_CONTROL, object.info.attributes.cache_control.as_deref());
            error.set_headers(headers);
            Err(error)
        }
    }
}

fn http_date(time: &Timestamp) -> S3Result<String> {
    let mut text = Vec::new();
    time.format(TimestampFormat::HttpDate, &mut text).map_err(S3Error::internal_error)?;
    String::from_utf8(text).map_err(S3Error::internal_error)
}

/// The requested range; none if `If-Range` does not match the object (RFC 9110, 13.1.5).
fn range(object: &Object, headers: &http::HeaderMap, range: Option<dto::Range>) -> Option<dto::Range> {
    let Some(validator) = headers.get(http::header::IF_RANGE) else {
        return range;
    };
    let validator = validator.to_str().unwrap_or_default();
    let is_same_date = Timestamp::parse(TimestampFormat::HttpDate, validator)
        .is_ok_and(|date| seconds(&date) == seconds(&object.info.modified));
    let is_same = validator == format!("\"{}\"", object.info.etag) || is_same_date;
    range.filter(|_| is_same)
}

/// The part of an object that an answer contains.
struct Part {
    range: Range<u64>,
    content_range: Option<String>,
    /// Number of parts of the object's upload; only for a request with a part number.
    count: Option<i32>,
}

impl Part {
    fn of(object: &Object, number: Option<i32>, range: Option<dto::Range>) -> S3Result<Self> {
        let bytes = object.bytes();
        let (range, count) = match (number, range) {
            (Some(_), Some(_)) => {
                return Err(s3_error!(InvalidRequest, "Range and partNumber must not be combined"));
            }
            (Some(number), None) => part_range(object, number)?,
            (None, Some(range)) => {
                let range = range.check(bytes);
                (range.map_err(|_| s3_error!(InvalidRange, "the range is not satisfiable"))?, None)
            }
            (None, None) => return Ok(Self { range: 0..bytes, content_range: None, count: None }),
        };
        let last = range.end.saturating_sub(1);
        let content_range = (!range.is_empty()).then(|| format!("bytes {}-{last}/{bytes}", range.start));
        Ok(Self { range, content_range, count })
    }
}

/// The range of a part. An object without a multipart upload has one part.
fn part_range(object: &Object, number: i32) -> S3Result<(Range<u64>, Option<i32>)> {
    let no_such_part = || {
        error_with_code("InvalidPartNumber", StatusCode::RANGE_NOT_SATISFIABLE, "the object has no such part")
    };
    let at =
        usize::try_from(number).ok().and_then(|number| number.checked_sub(1)).ok_or_else(no_such_part)?;
    if !object.info.is_multipart {
        return if at == 0 { Ok((0..object.bytes(), None)) } else { Err(no_such_part()) };
    }
    let segment = object.segments.get(at).ok_or_else(no_such_part)?;
    let start: u64 = object.segments[..at].iter().map(|segment| segment.bytes).sum();
    let count = i32::try_from(object.segments.len()).map_err(S3Error::internal_error)?;
    Ok((start..start + segment.bytes, Some(count)))
}

fn content_length(range: &Range<u64>) -> S3Result<i64> {
    i64::try_from(range.end - range.start).map_err(S3Error::internal_error)
}

pub(super) fn delete(store: &Store, input: DeleteObjectInput) -> S3Result<()> {
    refuse_set!(input, mfa, if_match_last_modified_time, if_match_size);
    check_version(input.version_id.as_deref())?;
    let conditions = WriteConditions::new(input.if_match, None)?;
    store.delete(&input.bucket, &input.key, &conditions)
}

/// Deletes each key and reports its result separately.
pub(super) fn delete_many(store: &Store, input: DeleteObjectsInput) -> S3Result<DeleteObjectsOutput> {
    refuse_set!(input, mfa);
    if input.delete.objects.len() > DELETED_KEYS_MAX {
        return Err(s3_error!(MalformedXML, "a request may delete at most {DELETED_KEYS_MAX} keys"));
    }
    store.read_bucket(&input.bucket, |_| Ok(()))?;
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    for object in input.delete.objects {
        match delete_listed(store, &input.bucket, &object) {
            Ok(()) => deleted.push(dto::DeletedObject { key: Some(object.key), ..Default::default() }),
            Err(error) => errors.push(dto::Error {
                code: Some(error.code().as_str().to_owned()),
                key: Some(object.key),
                message: error.message().map(str::to_owned),
                version_id: object.version_id,
            }),
        }
    }
    let is_quiet = input.delete.quiet == Some(true);
    Ok(DeleteObjectsOutput {
        deleted: Some(deleted).filter(|_| !is_quiet),
        errors: Some(errors).filter(|errors| !errors.is_empty()),
        request_charged: None,
    })
}

/// Deletes one key of DeleteObjects under its listed conditions.
fn delete_listed(store: &Store, bucket: &str, listed: &ObjectIdentifier) -> S3Result<()> {
    refuse_set!(listed, last_modified_time, size);
    check_version(listed.version_id.as_deref())?;
    // The server library parses `*` as an ETag.
    let condition = listed.e_tag.clone().map(|etag| match etag.value() {
        "*" => ETagCondition::Any,
        _ => ETagCondition::ETag(etag),
    });
    let conditions = WriteConditions::new(condition, None)?;
    store.delete(bucket, &listed.key, &conditions)
}

pub(super) fn attributes_of(
    store: &Store,
    input: &GetObjectAttributesInput,
) -> S3Result<GetObjectAttributesOutput> {
    check_version(input.version_id.as_deref())?;
    let object = store.object(&input.bucket, &input.key)?;
    // The header is a list of names; s3s returns it as one name.
    let requested = || input.object_attributes.iter().flat_map(|names| names.as_str().split(','));
    let is_requested = |name: &str| requested().any(|each| each.trim() == name);
    let mut checksum = dto::Checksum::default();
    show_checksums!(checksum, object.info.checksums);
    checksum.checksum_type = object.info.checksums.checksum_type();
    let parts = dto::GetObjectAttributesParts {
        total_parts_count: Some(i32::try_from(object.segments.len()).map_err(S3Error::internal_error)?),
        ..Default::default()
    };
    Ok(GetObjectAttributesOutput {
        checksum: is_requested(dto::ObjectAttributes::CHECKSUM).then_some(checksum),
        e_tag: is_requested(dto::ObjectAttributes::ETAG).then(|| object.etag()),
        last_modified: Some(object.info.modified.clone()),
        object_parts: Some(parts)
            .filter(|_| object.info.is_multipart && is_requested(dto::ObjectAttributes::OBJECT_PARTS)),
        object_size: is_requested(dto::ObjectAttributes::OBJECT_SIZE)
            .then(|| content_length(&(0..object.bytes())))
            .transpose()?,
        storage_class: is_requested(dto::ObjectAttributes::STORAGE_CLASS)
            .then(|| dto::StorageClass::from_static(dto::StorageClass::STANDARD)),
        ..Default::default()
    })
}
