//! A real S3 client: the AWS SDK, through the real binary, with a real S3 server.
//!
//! Usually that server is the embedded origin, in the gateway's process or, if a test inspects the server, in its own.
//! The SDK makes one attempt, so that no retry hides the gateway's behaviour.

mod embedded;
mod errors;
mod identity;
mod large;
mod objects;
mod origin_bounds;
mod origin_checksums;
mod origin_conditions;
mod restarts;
mod unsized_body;

use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{Builder, Credentials, Region, StalledStreamProtectionConfig};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::{Client, Config};
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};
use tidegate::origin::Origin;

use crate::support::{Gateway, Scratch, gateway, request};

const MIB: usize = 1 << 20;

/// A client with keys that no server here accepts: the gateway must replace the signature.
pub(crate) fn config(endpoint: String) -> Builder {
    let keys = Credentials::builder()
        .access_key_id("CLIENTSOWNKEY")
        .secret_access_key("unknown")
        .session_token("token");
    Config::builder()
        .behavior_version_latest()
        .endpoint_url(endpoint)
        .region(Region::new("us-east-1"))
        .credentials_provider(keys.provider_name("test").build())
        .force_path_style(true)
        .retry_config(RetryConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
}

pub(crate) fn client(gateway: &Gateway) -> Client {
    Client::from_conf(config(gateway.url("")).build())
}

/// A gateway without configuration: bucket `demo` on its embedded origin.
async fn demo() -> (Gateway, Client) {
    let gateway = Gateway::builder().start().await;
    let client = client(&gateway);
    (gateway, client)
}

/// A separate S3 server with bucket `real`, which verifies signatures.
pub(crate) fn origin() -> (Origin, Scratch) {
    let directory = Scratch::new();
    (tidegate::origin::start(directory.path(), "real").unwrap(), directory)
}

/// A client of the origin without the gateway.
pub(crate) fn direct(origin: &Origin) -> Client {
    let keys = Credentials::builder()
        .access_key_id(&origin.access_key_id)
        .secret_access_key(&origin.secret_access_key)
        .provider_name("test");
    let config = config(format!("http://{}", origin.address));
    Client::from_conf(config.credentials_provider(keys.build()).build())
}

/// A gateway with bucket `alias` for the origin's bucket `real`, with its credentials.
pub(crate) fn gateway_before(origin: &Origin) -> gateway::Builder {
    Gateway::builder()
        .bucket_at("alias", &[origin.address])
        .set("buckets.alias.s3.bucket", "real")
        .set("buckets.alias.s3.access_key_id", &origin.access_key_id)
        .set("buckets.alias.s3.secret_access_key", &origin.secret_access_key)
}

/// Bytes without a repeated pattern.
fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    SmallRng::seed_from_u64(seed).fill_bytes(&mut noise);
    noise
}

/// Length and hash of a streamed body.
async fn hash_of(got: GetObjectOutput) -> (usize, String) {
    let (mut body, mut hash, mut bytes) = (got.body, Sha256::new(), 0);
    while let Some(chunk) = body.next().await {
        let chunk = chunk.unwrap();
        hash.update(&chunk);
        bytes += chunk.len();
    }
    (bytes, hex::encode(hash.finalize()))
}

pub(crate) async fn put(client: &Client, bucket: &str, key: &str, body: Vec<u8>) {
    client.put_object().bucket(bucket).key(key).body(body.into()).send().await.unwrap();
}

pub(crate) async fn read(client: &Client, bucket: &str, key: &str) -> Vec<u8> {
    let got = client.get_object().bucket(bucket).key(key).send().await.unwrap();
    got.body.collect().await.unwrap().to_vec()
}

/// Status and code of an answer.
async fn outcome(gateway: &Gateway, method: &str, target: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let answer = request(gateway.address(), method, target, headers, None).await;
    (answer.complete_status(), answer.element("Code").unwrap_or_default())
}
