//! Large bodies, multipart and streamed: compared by hash, and never buffered whole.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::RequestChecksumCalculation;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use futures_util::StreamExt;

use super::{MIB, config, demo, gateway_before, hash_of, noise, origin, put, read};
use crate::support::client::sha256;
use crate::support::request;

/// V2, V5, P1: an object of 100 MiB, uploaded in concurrent and unordered parts, is downloaded unchanged
#[tokio::test]
async fn a_multipart_upload_of_100_mib_is_downloaded_unchanged() {
    const PARTS: i32 = 7;
    let (gateway, client) = demo().await;
    let whole = noise(100 * MIB, 3);
    let upload = client.create_multipart_upload().bucket("demo").key("big object").send().await.unwrap();
    let id = upload.upload_id().unwrap();
    let part = |number: i32| {
        let bytes = whole.chunks((100 * MIB).div_ceil(PARTS as usize)).nth(number as usize - 1).unwrap();
        let part = client.upload_part().bucket("demo").key("big object").upload_id(id).part_number(number);
        let sent = part.body(bytes.to_vec().into()).send();
        async move {
            let e_tag = sent.await.unwrap().e_tag().unwrap().to_owned();
            CompletedPart::builder().part_number(number).e_tag(e_tag).build()
        }
    };
    let sent = futures_util::stream::iter((1..=PARTS).rev()).map(part).buffer_unordered(3);
    let mut parts: Vec<_> = sent.collect().await;
    parts.sort_by_key(CompletedPart::part_number);
    let complete = client.complete_multipart_upload().bucket("demo").key("big object").upload_id(id);
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    complete.multipart_upload(parts).send().await.unwrap();
    let got = client.get_object().bucket("demo").key("big object").send().await.unwrap();
    assert_eq!(hash_of(got).await, (whole.len(), sha256(&whole)));
    gateway.wait_until_idle().await;
}

/// The peak memory of a process.
fn peak_rss_bytes(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// M3, V2: a file of exactly the default limit is streamed up and down in one request each; the memory does not grow
/// with its size
#[tokio::test]
async fn a_streamed_file_of_100_mib_is_not_held_in_memory() {
    let (origin, directory) = origin();
    let gateway = gateway_before(&origin).start().await;
    let config =
        config(gateway.url("")).request_checksum_calculation(RequestChecksumCalculation::WhenRequired);
    let client = Client::from_conf(config.build());
    let whole = noise(100 * MIB, 4);
    let file = directory.path().join("upload");
    std::fs::write(&file, &whole).unwrap();
    put(&client, "alias", "warm", noise(MIB, 5)).await;
    read(&client, "alias", "warm").await;
    let before = peak_rss_bytes(gateway.pid());
    let body = ByteStream::from_path(&file).await.unwrap();
    client.put_object().bucket("alias").key("o").body(body).send().await.unwrap();
    let got = client.get_object().bucket("alias").key("o").send().await.unwrap();
    assert_eq!(hash_of(got).await, (whole.len(), sha256(&whole)));
    let grown = peak_rss_bytes(gateway.pid()).saturating_sub(before);
    assert!(grown < 32 * MIB, "{} MiB more for a body of 100 MiB", grown / MIB);
}

/// V5, A1: a chunked body with a trailing checksum, as SDKs send it over TLS, is stored decoded
#[tokio::test]
async fn an_unsigned_trailer_is_verified() {
    let (gateway, client) = demo().await;
    let send = async |checksum: &str| {
        let body = format!("5\r\nhello\r\n7\r\n, world\r\n0\r\nx-amz-checksum-crc32:{checksum}\r\n\r\n");
        let headers = [
            ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
            ("x-amz-decoded-content-length", "12"),
            ("x-amz-trailer", "x-amz-checksum-crc32"),
            ("content-encoding", "aws-chunked"),
        ];
        request(gateway.address(), "PUT", "/demo/o", &headers, Some(body.as_bytes())).await
    };
    let stored = send("/6tyOg==").await;
    assert_eq!(stored.complete_status(), 200, "{}", stored.text());
    assert_eq!(read(&client, "demo", "o").await, b"hello, world");
    let refused = send("AAAAAA==").await;
    assert_eq!(refused.complete_status(), 400, "{}", refused.text());
    assert_eq!(read(&client, "demo", "o").await, b"hello, world");
}

/// A1: signed chunks with a trailing checksum, as SDKs stream over plain HTTP, are stored decoded
#[tokio::test]
async fn signed_chunks_are_framed_anew() {
    let (gateway, client) = demo().await;
    let file = gateway.directory().join("upload");
    let data = noise(3 * MIB + 7, 7);
    std::fs::write(&file, &data).unwrap();
    let body = ByteStream::from_path(&file).await.unwrap();
    client.put_object().bucket("demo").key("o").body(body).send().await.unwrap();
    assert_eq!(read(&client, "demo", "o").await, data);
    let head = client.head_object().bucket("demo").key("o").send().await.unwrap();
    assert_eq!(head.content_encoding(), None);
}
