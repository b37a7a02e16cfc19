//! Copies within the store. A copied object shares its bytes with the source by hard links; a copied part is read and written.

use s3s::dto::{
    CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopyPartResult, CopySource, MetadataDirective,
    TaggingDirective, UploadPartCopyInput, UploadPartCopyOutput,
};
use s3s::{S3Error, S3Result, s3_error};
use std::ops::Range;
use std::sync::Arc;

use super::body_receiver::copy_data;
use super::checksum::show_checksums;
use super::conditions::{ConditionOutcome, Conditions, WriteConditions};
use super::data::DataFile;
use super::multipart::check_part_number;
use super::reader::ObjectReader;
use super::record::{Object, Segment, attributes};
use super::store::{Store, now};
use super::tags;
use super::unsupported::{check_version, not_implemented, refuse_extras, refuse_set};

/// The conditions on a copy's source: two operations have the same field names.
macro_rules! source_conditions {
    ($input:expr) => {
        Conditions {
            if_match: $input.copy_source_if_match.as_ref(),
            if_none_match: $input.copy_source_if_none_match.as_ref(),
            if_modified_since: $input.copy_source_if_modified_since.as_ref(),
            if_unmodified_since: $input.copy_source_if_unmodified_since.as_ref(),
        }
    };
}

pub(super) fn copy(
    store: &Store,
    mut input: CopyObjectInput,
    conditions: &WriteConditions,
) -> S3Result<CopyObjectOutput> {
    refuse_extras!(input);
    refuse_set!(input, copy_source_sse_customer_algorithm);
    let is_onto_itself = bucket_and_key(&input.copy_source)? == (input.bucket.as_str(), input.key.as_str());
    let source = find_source(store, &input.copy_source, &source_conditions!(input))?;
    let replaces_metadata =
        input.metadata_directive.as_ref().is_some_and(|how| how.as_str() == MetadataDirective::REPLACE);
    let replaces_tags =
        input.tagging_directive.as_ref().is_some_and(|how| how.as_str() == TaggingDirective::REPLACE);
    if is_onto_itself && !replaces_metadata {
        return Err(s3_error!(InvalidRequest, "a copy of an object onto itself must replace the metadata"));
    }
    let mut info = source.info.clone();
    info.modified = now();
    if replaces_metadata {
        info.attributes = attributes!(input);
    }
    if replaces_tags {
        info.tags = tags::from_header(input.tagging.as_deref())?;
    }
    let directory = store.disk().data();
    let link = |segment: &Segment| -> S3Result<Segment> {
        let data = DataFile::link(&directory, segment.data.path()).map_err(S3Error::internal_error)?;
        Ok(Segment { data: Arc::new(data), bytes: segment.bytes })
    };
    let segments = source.segments.iter().map(link).collect::<S3Result<_>>()?;
    let object = Object { info, segments };
    let object = store.put(&input.bucket, &input.key, object, conditions)?;
    let mut result = CopyObjectResult {
        e_tag: Some(object.etag()),
        last_modified: Some(object.info.modified.clone()),
        ..Default::default()
    };
    show_checksums!(result, object.info.checksums);
    result.checksum_type = object.info.checksums.checksum_type();
    Ok(CopyObjectOutput { copy_object_result: Some(result), ..Default::default() })
}

pub(super) fn copy_part(store: &Store, input: &UploadPartCopyInput) -> S3Result<UploadPartCopyOutput> {
    refuse_set!(input, copy_source_sse_customer_algorithm, sse_customer_algorithm);
    check_part_number(input.part_number)?;
    let upload = store.upload_record(&input.bucket, &input.key, &input.upload_id)?;
    let source = find_source(store, &input.copy_source, &source_conditions!(input))?;
    let range = copied_range(input.copy_source_range.as_deref(), source.bytes())?;
    let mut reader = ObjectReader::new(&source, &range);
    let algorithm = upload.checksum.algorithm();
    let part = copy_data(store.disk().data(), &mut reader, algorithm.as_ref())?.into_part();
    let mut result = CopyPartResult {
        e_tag: Some(part.etag()),
        last_modified: Some(part.info.modified.clone()),
        ..Default::default()
    };
    show_checksums!(result, part.info.checksums);
    store.put_part(&input.bucket, (&input.key, &input.upload_id), input.part_number, part)?;
    Ok(UploadPartCopyOutput { copy_part_result: Some(result), ..Default::default() })
}

fn bucket_and_key(source: &CopySource) -> S3Result<(&str, &str)> {
    match source {
        CopySource::Bucket { bucket, key, version_id } => {
            check_version(version_id.as_deref())?;
            Ok((bucket.as_ref(), key.as_ref()))
        }
        CopySource::AccessPoint { .. } | CopySource::Outpost { .. } => Err(not_implemented("copies by ARN")),
    }
}

fn find_source(store: &Store, source: &CopySource, conditions: &Conditions<'_>) -> S3Result<Arc<Object>> {
    let (bucket, key) = bucket_and_key(source)?;
    let object = store.object(bucket, key)?;
    match conditions.evaluate(&object) {
        ConditionOutcome::Proceed => Ok(object),
        ConditionOutcome::NotModified | ConditionOutcome::PreconditionFailed => {
            Err(s3_error!(PreconditionFailed, "a condition on the source does not hold"))
        }
    }
}

/// Parses `bytes=FIRST-LAST`. Both positions must lie within the source; S3 allows no other form.
fn copied_range(range: Option<&str>, bytes: u64) -> S3Result<Range<u64>> {
    let Some(range) = range else {
        return Ok(0..bytes);
    };
    let parsed = range.strip_prefix("bytes=").and_then(|range| {
        let (first, last) = range.split_once('-')?;
        Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?))
    });
    let (first, last) = parsed
        .ok_or_else(|| s3_error!(InvalidArgument, "x-amz-copy-source-range must be bytes=FIRST-LAST"))?;
    if first > last || last >= bytes {
        return Err(s3_error!(InvalidRange, "x-amz-copy-source-range is not within the source"));
    }
    Ok(first..last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_a_copy_lies_within_its_source() {
        let code = |range: &str| match copied_range(Some(range), 10) {
            Ok(range) => format!("{}..{}", range.start, range.end),
            Err(error) => error.code().as_str().to_owned(),
        };
        assert_eq!(copied_range(None, 10).unwrap(), 0..10);
        for (range, expected) in [
            ("bytes=0-9", "0..10"),
            ("bytes=3-3", "3..4"),
            ("bytes=0-10", "InvalidRange"),
            ("bytes=4-3", "InvalidRange"),
            ("bytes=0-18446744073709551615", "InvalidRange"),
            ("bytes=3-", "InvalidArgument"),
            ("bytes=-3", "InvalidArgument"),
            ("bytes=0-1,3-4", "InvalidArgument"),
            ("0-9", "InvalidArgument"),
        ] {
            assert_eq!(code(range), expected, "{range}");
        }
    }
}
