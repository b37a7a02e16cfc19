//! Cost of signatures: verification of a client's signature and a new one for the upstream, relative to one signature by the AWS SDK.
//!
//!     cargo bench --features bench --bench signatures
//!
//! Rounds of the variants are interleaved, and the fastest round of each counts, because a busy machine can only make a round slower.

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4::SigningParams;
use tidegate::signature_bench::SignatureWork;
use tidegate_actors::clock;

const SECRET: &str = "client/secret+of/forty=characters/and.so";
const HOST: &str = "gateway.example.com:9000";
const TARGET: &str =
    "/photos/2024/07/a%20picture%20of%20the%20sea.jpg?versionId=3&response-content-type=image%2Fjpeg";
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// Headers of a GET by an SDK.
const HEADERS: [(&str, &str); 5] = [
    ("range", "bytes=0-1048575"),
    ("user-agent", "aws-sdk-rust/1.3.10 os/linux lang/rust/1.92.0"),
    ("amz-sdk-request", "attempt=1; max=3"),
    ("amz-sdk-invocation-id", "0c2b5d3e-6c0f-4b7e-9b57-2f9d0d3a7f11"),
    ("x-amz-checksum-mode", "ENABLED"),
];
const ROUNDS: usize = 30;
const TIMES: u32 = 2_000;

type Signed = Vec<(String, String)>;

fn sign_with_sdk(now: SystemTime) -> Result<Signed, Box<dyn Error>> {
    let identity = Credentials::new("CLIENT", SECRET, None, None, "bench").into();
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    let params = SigningParams::builder().identity(&identity).region("us-east-1").name("s3").time(now);
    let params = params.settings(settings).build()?.into();
    let headers = HEADERS.iter().copied().chain([("host", HOST)]);
    let body = SignableBody::Precomputed(EMPTY.to_owned());
    let request = SignableRequest::new("GET", format!("http://{HOST}{TARGET}"), headers, body)?;
    let (instructions, _) = sign(request, &params)?.into_parts();
    let signed = instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned()));
    Ok(signed.collect())
}

/// The duration of one call in the fastest round of each variant.
fn fastest(works: &mut [&mut dyn FnMut() -> bool]) -> Vec<Duration> {
    let mut best = vec![Duration::MAX; works.len()];
    for _ in 0..ROUNDS {
        for (work, best) in works.iter_mut().zip(&mut best) {
            let began = clock::now();
            let right = (0..TIMES).all(|_| black_box(work()));
            let elapsed = clock::now().saturating_duration_since(began);
            assert!(right, "the measured call must succeed");
            *best = (*best).min(elapsed / TIMES);
        }
    }
    best
}

fn main() -> Result<(), Box<dyn Error>> {
    let now = clock::wall();
    let signed = sign_with_sdk(now)?;
    let sent = || signed.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let all = || HEADERS.iter().copied().chain([("host", HOST)]).chain(sent());
    let (mut first, mut again) =
        (SignatureWork::new(SECRET, TARGET, all())?, SignatureWork::new(SECRET, TARGET, all())?);
    let best =
        fastest(&mut [&mut || sign_with_sdk(now).is_ok(), &mut || first.once(false, now), &mut || {
            again.once(true, now)
        }]);
    let whole = best[0].as_nanos() as f64;
    println!("{:<50} {:>8} {:>8}   target", "one request", "ns", "ratio");
    let names =
        ["aws-sigv4, one signature", "verify, derive the key, sign", "verify with a cached key, sign"];
    for ((name, best), target) in names.iter().zip(&best).zip(["", "≤ 2.0", "≤ 1.3"]) {
        let nanos = best.as_nanos() as f64;
        println!("{name:<50} {nanos:>8} {:>8.2}   {target}", nanos / whole);
    }
    Ok(())
}
