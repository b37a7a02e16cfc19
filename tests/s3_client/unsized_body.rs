//! Bodies of unknown length, as programs stream them: the SDK gets the length and sends chunks.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{Credentials, RequestChecksumCalculation};
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use http_body::{Body, Frame};

use super::{config, gateway_before, noise, origin, read};

/// Consecutive pieces without an announced length.
struct Pieces(VecDeque<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

fn pieces(data: &[u8]) -> ByteStream {
    ByteStream::from_body_1_x(Pieces(data.chunks(10_007).map(Bytes::copy_from_slice).collect()))
}

/// A1, I1: chunks that the SDK signs while it streams are verified and stored decoded, small and large
#[tokio::test]
async fn a_body_of_unknown_length_is_streamed_in_signed_chunks() {
    let (origin, _directory) = origin();
    let gateway = gateway_before(&origin)
        .set("buckets.alias.auth", "sigv4")
        .set("keys.writer.access_key_id", "AKIDWRITER")
        .set("keys.writer.secret", "writer/secret")
        .set("keys.writer.policy", "all")
        .set("policies.all.buckets", "*")
        .set("policies.all.methods", "read,write")
        .start()
        .await;
    let client = |secret: &str, checksums| {
        let keys = Credentials::new("AKIDWRITER", secret, None, None, "test");
        let config = config(gateway.url("")).credentials_provider(keys);
        Client::from_conf(config.request_checksum_calculation(checksums).build())
    };
    for checksums in [RequestChecksumCalculation::WhenSupported, RequestChecksumCalculation::WhenRequired] {
        let client = client("writer/secret", checksums);
        for size in [1000, 65_536, 200_000, 1_500_000] {
            let data = noise(size, 11);
            let put = client.put_object().bucket("alias").key("o").content_length(size as i64);
            put.body(pieces(&data)).send().await.unwrap();
            assert_eq!(read(&client, "alias", "o").await, data, "{size} {checksums:?}");
        }
    }
    let forger = client("another/secret", RequestChecksumCalculation::WhenSupported);
    let put = forger.put_object().bucket("alias").key("o").content_length(200_000);
    assert!(put.body(pieces(&noise(200_000, 12))).send().await.is_err());
}
