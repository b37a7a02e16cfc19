//! Multipart uploads. A completion copies no bytes: the parts become the segments of the object.

use std::sync::Arc;

use s3s::crypto::{Checksum, Md5};
use s3s::dto::{
    AbortMultipartUploadInput, CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CompletedPart,
    CreateMultipartUploadInput, CreateMultipartUploadOutput, StreamingBlob, UploadPartInput,
    UploadPartOutput,
};
use s3s::{S3Error, S3Request, S3Result, s3_error};
use uuid::Uuid;

use super::blocking;
use super::body_receiver::{
    ExpectedBody, ReceivedBody, discard_body_after_error, receive_body, require_body,
};
use super::checksum::{sent_checksums, show_checksums};
use super::conditions::WriteConditions;
use super::record::{Attributes, Checksums, Object, ObjectInfo, UploadRecord, attributes};
use super::store::{Store, Upload, now};
use super::tags;
use super::unsupported::{refuse_extras, refuse_set};
use super::upload_checksum::UploadChecksum;

/// Minimum size of a part, except the last.
const PART_BYTES_MIN: u64 = 5 << 20;
const PART_NUMBER_MAX: i32 = 10_000;

pub(super) fn begin(
    store: &Store,
    mut input: CreateMultipartUploadInput,
) -> S3Result<CreateMultipartUploadOutput> {
    refuse_extras!(input);
    let id = Uuid::new_v4().simple().to_string();
    let checksum = UploadChecksum::new(input.checksum_algorithm.as_ref(), input.checksum_type.as_ref())?;
    let record = UploadRecord {
        checksum,
        key: input.key.clone(),
        initiated: now(),
        attributes: attributes!(input),
        tags: tags::from_header(input.tagging.as_deref())?,
    };
    store.begin_upload(&input.bucket, &id, record)?;
    Ok(CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(id),
        checksum_algorithm: input.checksum_algorithm,
        checksum_type: input.checksum_type,
        ..Default::default()
    })
}

pub(super) async fn put_part(
    store: Arc<Store>,
    mut request: S3Request<UploadPartInput>,
) -> S3Result<UploadPartOutput> {
    let mut body = require_body(&mut request.input.body)?;
    let outcome = put_part_body(store, request, &mut body).await;
    discard_body_after_error(body, outcome).await
}

async fn put_part_body(
    store: Arc<Store>,
    request: S3Request<UploadPartInput>,
    body: &mut StreamingBlob,
) -> S3Result<UploadPartOutput> {
    let mut input = request.input;
    refuse_set!(input, sse_customer_algorithm);
    check_part_number(input.part_number)?;
    let upload = store.upload_record(&input.bucket, &input.key, &input.upload_id)?;
    let expected = ExpectedBody {
        content_md5: input.content_md5.take(),
        checksums: sent_checksums!(input),
        announced: input.checksum_algorithm.take().or_else(|| upload.checksum.algorithm()),
        trailers: request.trailing_headers,
    };
    let part = receive_body(store.disk().data(), body, expected).await?.into_part();
    let mut output = UploadPartOutput { e_tag: Some(part.etag()), ..Default::default() };
    show_checksums!(output, part.info.checksums);
    blocking(move || {
        store.put_part(&input.bucket, (&input.key, &input.upload_id), input.part_number, part)?;
        Ok(output)
    })
    .await
}

impl ReceivedBody {
    pub(super) fn into_part(self) -> Object {
        let info = ObjectInfo {
            etag: hex::encode(self.md5),
            modified: now(),
            attributes: Attributes::default(),
            tags: Vec::new(),
            checksums: self.checksums,
            is_multipart: false,
        };
        Object { info, segments: vec![self.segment] }
    }
}

pub(super) fn check_part_number(number: i32) -> S3Result<()> {
    match number {
        1..=PART_NUMBER_MAX => Ok(()),
        _ => Err(s3_error!(InvalidArgument, "the part number must be 1 to {PART_NUMBER_MAX}")),
    }
}

pub(super) fn complete(
    store: &Store,
    mut input: CompleteMultipartUploadInput,
) -> S3Result<CompleteMultipartUploadOutput> {
    let conditions = WriteConditions::new(input.if_match.take(), input.if_none_match.take())?;
    let upload = store.upload(&input.bucket, &input.key, &input.upload_id)?;
    let listed = input.multipart_upload.take().and_then(|upload| upload.parts).unwrap_or_default();
    let parts = listed_parts(&upload, listed)?;
    let mut object = assemble(&upload.record, &parts)?;
    if input.mpu_object_size.is_some_and(|bytes| u64::try_from(bytes) != Ok(object.bytes())) {
        return Err(s3_error!(InvalidRequest, "x-amz-mp-object-size is not the total size of the parts"));
    }
    let sent = sent_checksums!(input);
    let checksum = &upload.record.checksum;
    object.info.checksums = checksum.verify(sent, input.checksum_type.as_ref(), &object, &parts)?;
    let mut output = CompleteMultipartUploadOutput {
        e_tag: Some(object.etag()),
        location: Some(format!("/{}/{}", input.bucket, input.key)),
        ..Default::default()
    };
    show_checksums!(output, object.info.checksums);
    output.checksum_type = object.info.checksums.checksum_type();
    store.complete(&input.bucket, (&input.key, &input.upload_id), object, &conditions)?;
    output.bucket = Some(input.bucket);
    output.key = Some(input.key);
    Ok(output)
}

/// The parts that a completion lists.
fn listed_parts(upload: &Upload, listed: Vec<CompletedPart>) -> S3Result<Vec<Arc<Object>>> {
    if listed.is_empty() {
        return Err(s3_error!(MalformedXML, "a completion must list at least one part"));
    }
    if !listed.is_sorted_by(|one, next| one.part_number < next.part_number) {
        return Err(s3_error!(InvalidPartOrder, "parts must be listed in ascending order"));
    }
    let count = listed.len();
    let mut parts = Vec::with_capacity(count);
    for (at, mut listed) in listed.into_iter().enumerate() {
        let part = listed.part_number.and_then(|number| upload.parts.get(&number));
        let part = part.filter(|part| matches_listed(part, &mut listed));
        let part = part.ok_or_else(|| s3_error!(InvalidPart, "a listed part was not uploaded as listed"))?;
        if at + 1 < count && part.bytes() < PART_BYTES_MIN {
            return Err(s3_error!(EntityTooSmall, "every part except the last must have at least 5 MiB"));
        }
        parts.push(Arc::clone(part));
    }
    Ok(parts)
}

/// The object that consists of the parts.
fn assemble(record: &UploadRecord, parts: &[Arc<Object>]) -> S3Result<Object> {
    let (mut md5, mut segments) = (Md5::new(), Vec::new());
    for part in parts {
        md5.update(&hex::decode(&part.info.etag).map_err(S3Error::internal_error)?);
        segments.extend(part.segments.iter().cloned());
    }
    let info = ObjectInfo {
        etag: format!("{}-{}", hex::encode(md5.finalize()), parts.len()),
        modified: now(),
        attributes: record.attributes.clone(),
        tags: record.tags.clone(),
        checksums: Checksums::default(),
        is_multipart: true,
    };
    Ok(Object { info, segments })
}

/// Whether a part matches the ETag and the checksums that the client lists for it. A checksum that the part does not
/// have is a mismatch, as on S3.
fn matches_listed(part: &Object, listed: &mut CompletedPart) -> bool {
    let is_tagged = listed.e_tag.as_ref().is_none_or(|etag| etag.value() == part.info.etag);
    is_tagged && sent_checksums!(listed).verify(part.info.checksums.clone()).is_ok()
}

pub(super) fn abort(store: &Store, input: &AbortMultipartUploadInput) -> S3Result<()> {
    refuse_set!(input, if_match_initiated_time);
    store.abort(&input.bucket, (&input.key, &input.upload_id))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use s3s::dto::{ETag, Timestamp};

    use super::*;
    use crate::origin::data::DataFile;
    use crate::origin::record::Segment;
    use crate::origin::test_objects::object_info;

    /// An upload with parts 1, 2, 4 and 5. `part` takes number and size in MiB; the ETag of a part is a distinct hash.
    fn upload() -> Upload {
        let part = |number: i32, mebibytes: u64| {
            let directory = std::path::Path::new("/nonexistent");
            let data = Arc::new(DataFile::existing(directory, &number.to_string()));
            let etag = hex::encode([u8::try_from(number).unwrap(); 16]);
            let segments = vec![Segment { data, bytes: mebibytes << 20 }];
            (number, Arc::new(Object { info: object_info(&etag), segments }))
        };
        let record = UploadRecord {
            key: "k".to_owned(),
            initiated: Timestamp::default(),
            attributes: Attributes::default(),
            tags: Vec::new(),
            checksum: UploadChecksum::default(),
        };
        Upload {
            record: Arc::new(record),
            parts: BTreeMap::from([part(1, 5), part(2, 4), part(4, 5), part(5, 1)]),
        }
    }

    /// E1: the lists of parts that a completion accepts, and the resulting object
    #[test]
    fn a_completion_lists_the_parts_that_were_uploaded() {
        let listed = |numbers: &[i32], etag: Option<&str>| {
            let part = |number: &i32| CompletedPart {
                part_number: Some(*number),
                e_tag: etag.map(|etag| ETag::Strong(etag.to_owned())),
                ..Default::default()
            };
            let upload = upload();
            let parts = listed_parts(&upload, numbers.iter().map(part).collect());
            match parts.and_then(|parts| assemble(&upload.record, &parts)) {
                Ok(object) => format!("{} {}", object.bytes() >> 20, object.info.etag),
                Err(error) => error.code().as_str().to_owned(),
            }
        };
        // md5 of sixteen bytes 1, sixteen bytes 4, sixteen bytes 5
        let etag = {
            let mut md5 = Md5::new();
            [1_u8, 4, 5].iter().for_each(|byte| md5.update(&[*byte; 16]));
            hex::encode(md5.finalize())
        };
        assert_eq!(listed(&[1, 4, 5], None), format!("11 {etag}-3"));
        assert_eq!(listed(&[], None), "MalformedXML");
        assert_eq!(listed(&[4, 1], None), "InvalidPartOrder");
        assert_eq!(listed(&[1, 1], None), "InvalidPartOrder");
        assert_eq!(listed(&[1, 3], None), "InvalidPart");
        assert_eq!(listed(&[1, 2, 4], None), "EntityTooSmall");
        assert_eq!(listed(&[1], Some(&hex::encode([1; 16]))).split(' ').next(), Some("5"));
        assert_eq!(listed(&[1], Some("other")), "InvalidPart");
    }
}
