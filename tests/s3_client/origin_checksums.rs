//! Checksums of multipart uploads to the embedded origin.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::operation::complete_multipart_upload::builders::CompleteMultipartUploadFluentBuilder;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{MIB, direct, noise, origin, put};
use crate::integrity::checksums;

fn sha256(data: &[u8]) -> String {
    checksums(data)[4].1.clone()
}

/// An upload with SHA-256: one part with a checksum, one without, and one copied from `real/source`.
async fn upload(client: &Client, parts: &[Vec<u8>; 3]) -> (String, CompletedMultipartUpload) {
    let begun = client.create_multipart_upload().bucket("real").key("o");
    let begun = begun.checksum_algorithm(ChecksumAlgorithm::Sha256).send().await.unwrap();
    let id = begun.upload_id().unwrap().to_owned();
    let part = |number| client.upload_part().bucket("real").key("o").upload_id(&id).part_number(number);
    let first =
        part(1).checksum_sha256(sha256(&parts[0])).body(parts[0].clone().into()).send().await.unwrap();
    let second = part(2).body(parts[1].clone().into()).send().await.unwrap();
    assert_eq!(second.checksum_sha256(), Some(sha256(&parts[1]).as_str()));
    put(client, "real", "source", parts[2].clone()).await;
    let copied = client.upload_part_copy().bucket("real").key("o").upload_id(&id).part_number(3);
    let copied = copied.copy_source("real/source").send().await.unwrap();
    let copied = copied.copy_part_result().unwrap();
    assert_eq!(copied.checksum_sha256(), Some(sha256(&parts[2]).as_str()));
    let etags = [first.e_tag(), second.e_tag(), copied.e_tag()];
    let listed = (1..).zip(etags).map(|(number, etag)| {
        CompletedPart::builder().part_number(number).set_e_tag(etag.map(str::to_owned)).build()
    });
    (id, CompletedMultipartUpload::builder().set_parts(Some(listed.collect())).build())
}

/// A1: the composite checksum of a completion is verified, stored and returned
#[tokio::test]
async fn composite_checksums_are_verified() {
    let (origin, _directory) = origin();
    let client = direct(&origin);
    let parts = [noise(5 * MIB, 1), noise(5 * MIB, 2), b"end".to_vec()];
    let of_parts = parts.iter().flat_map(|part| STANDARD.decode(sha256(part)).unwrap()).collect::<Vec<_>>();
    let whole = format!("{}-3", sha256(&of_parts));
    let (id, listed) = upload(&client, &parts).await;
    let complete = || {
        let complete = client.complete_multipart_upload().bucket("real").key("o").upload_id(&id);
        complete.multipart_upload(listed.clone())
    };
    let code = async |complete: CompleteMultipartUploadFluentBuilder| {
        complete.send().await.unwrap_err().code().unwrap_or_default().to_owned()
    };
    let composite = || complete().checksum_type(ChecksumType::Composite);
    assert_eq!(code(composite().checksum_sha256(format!("{}-3", sha256(b"other")))).await, "BadDigest");
    assert_eq!(code(complete().checksum_sha256(format!("{}-3", sha256(b"other")))).await, "BadDigest");
    assert_eq!(code(composite().checksum_sha256(whole.replace("-3", "-2"))).await, "BadDigest");
    assert_eq!(code(composite().checksum_sha1("AAAAAAAAAAAAAAAAAAAAAAAAAAA=-3")).await, "InvalidRequest");
    assert_eq!(code(complete().checksum_type(ChecksumType::FullObject)).await, "InvalidRequest");
    let missing = client.head_object().bucket("real").key("o").send().await.unwrap_err();
    assert!(missing.into_service_error().is_not_found());
    let done = composite().checksum_sha256(&whole).send().await.unwrap();
    assert_eq!(done.checksum_sha256(), Some(whole.as_str()));
    assert_eq!(done.checksum_type(), Some(&ChecksumType::Composite));
    let head = client.head_object().bucket("real").key("o").checksum_mode(ChecksumMode::Enabled);
    let head = head.send().await.unwrap();
    assert_eq!(head.checksum_sha256(), Some(whole.as_str()));
    assert_eq!(head.checksum_type(), Some(&ChecksumType::Composite));
}

/// A1: a full-object checksum of a completion is verified; a type that the algorithm lacks is refused
#[tokio::test]
async fn full_object_checksums_are_verified() {
    let (origin, _directory) = origin();
    let client = direct(&origin);
    let create = |algorithm, checksum_type| {
        let create = client.create_multipart_upload().bucket("real").key("o");
        create.checksum_algorithm(algorithm).checksum_type(checksum_type).send()
    };
    for (algorithm, checksum_type) in [
        (ChecksumAlgorithm::Sha256, ChecksumType::FullObject),
        (ChecksumAlgorithm::Crc64Nvme, ChecksumType::Composite),
    ] {
        let refused = create(algorithm, checksum_type).await.unwrap_err();
        assert_eq!(refused.code(), Some("InvalidRequest"));
    }
    let begun = create(ChecksumAlgorithm::Crc64Nvme, ChecksumType::FullObject).await.unwrap();
    let part = client.upload_part().bucket("real").key("o").upload_id(begun.upload_id().unwrap());
    let part = part.part_number(1).body(b"bytes".to_vec().into()).send().await.unwrap();
    let listed = CompletedPart::builder().part_number(1).e_tag(part.e_tag().unwrap()).build();
    let complete = |crc: &str| {
        let complete = client.complete_multipart_upload().bucket("real").key("o");
        let complete = complete.upload_id(begun.upload_id().unwrap()).checksum_crc64_nvme(crc);
        complete.multipart_upload(CompletedMultipartUpload::builder().parts(listed.clone()).build()).send()
    };
    let refused = complete(&checksums(b"other")[2].1).await.unwrap_err();
    assert_eq!(refused.code(), Some("BadDigest"));
    let right = &checksums(b"bytes")[2].1;
    let done = complete(right).await.unwrap();
    assert_eq!(
        (done.checksum_crc64_nvme(), done.checksum_type()),
        (Some(right.as_str()), Some(&ChecksumType::FullObject))
    );
}

/// A1: an upload with a full-object checksum ends with one, also if the completion sends none; an unknown algorithm is
/// refused
#[tokio::test]
async fn a_full_object_checksum_is_computed_for_a_completion_without_one() {
    let (origin, _directory) = origin();
    let client = direct(&origin);
    let create = |algorithm| {
        let create = client.create_multipart_upload().bucket("real").key("o");
        create.checksum_algorithm(algorithm).send()
    };
    assert_eq!(create(ChecksumAlgorithm::from("bogus")).await.unwrap_err().code(), Some("InvalidRequest"));
    let begun = create(ChecksumAlgorithm::Crc64Nvme).await.unwrap();
    let part = client.upload_part().bucket("real").key("o").upload_id(begun.upload_id().unwrap());
    let part = part.part_number(1).body(b"bytes".to_vec().into()).send().await.unwrap();
    let listed = CompletedPart::builder().part_number(1).e_tag(part.e_tag().unwrap()).build();
    let complete =
        client.complete_multipart_upload().bucket("real").key("o").upload_id(begun.upload_id().unwrap());
    let complete = complete.multipart_upload(CompletedMultipartUpload::builder().parts(listed).build());
    let expected = checksums(b"bytes")[2].1.clone();
    assert_eq!(complete.send().await.unwrap().checksum_crc64_nvme(), Some(expected.as_str()));
    let head = client.head_object().bucket("real").key("o").checksum_mode(ChecksumMode::Enabled);
    let head = head.send().await.unwrap();
    assert_eq!(head.checksum_crc64_nvme(), Some(expected.as_str()));
    assert_eq!(head.checksum_type(), Some(&ChecksumType::FullObject));
}

/// E1: a completion that lists a checksum that the part does not have is refused with `InvalidPart`, as on S3
#[tokio::test]
async fn a_listed_checksum_that_the_part_does_not_have_is_refused() {
    let (origin, _directory) = origin();
    let client = direct(&origin);
    let begun = client.create_multipart_upload().bucket("real").key("o").send().await.unwrap();
    let id = begun.upload_id().unwrap();
    let part = client.upload_part().bucket("real").key("o").upload_id(id).part_number(1);
    let part = part.checksum_sha256(sha256(b"bytes")).body(b"bytes".to_vec().into()).send().await.unwrap();
    let listed = || CompletedPart::builder().part_number(1).e_tag(part.e_tag().unwrap());
    let complete = |listed: CompletedPart| {
        let complete = client.complete_multipart_upload().bucket("real").key("o").upload_id(id);
        complete.multipart_upload(CompletedMultipartUpload::builder().parts(listed).build()).send()
    };
    // The digest is right, but the part was uploaded without it.
    let sha1 = checksums(b"bytes")[3].1.clone();
    for refused in [listed().checksum_sha1(sha1), listed().checksum_sha256(sha256(b"other"))] {
        let refused = complete(refused.build()).await.unwrap_err();
        assert_eq!(refused.code(), Some("InvalidPart"));
        assert_eq!(refused.raw_response().unwrap().status().as_u16(), 400);
    }
    complete(listed().checksum_sha256(sha256(b"bytes")).build()).await.unwrap();
}
