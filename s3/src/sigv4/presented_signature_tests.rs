//! The published examples of S3's documentation, and unusual requests that the AWS SDK's signer signs.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation,
    SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4::SigningParams;
use proptest::prelude::*;

use super::*;
use crate::headers::is_value;
use crate::sample_request::SampleRequest;
use crate::sigv4::canonical::signing_key;

const ID: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const HOST_NAME: &str = "examplebucket.s3.amazonaws.com";

/// A request as the gateway receives it.
struct Sent(SampleRequest);

impl Sent {
    fn new(method: &str, target: &str, headers: &[(&str, &str)]) -> Self {
        Self(SampleRequest::new(method, target, headers.iter().copied()))
    }

    /// Verifies the request with this secret at the time `now`.
    fn verify(&self, secret: &str, now: &str) -> Result<VerifiedSignature, SignatureRejection> {
        let presented = PresentedSignature::from_request(&self.0)?.expect("the request has a signature");
        presented.check_scope(|region| region == "us-east-1", "us-east-1")?;
        presented.check_time(Timestamp::parse(now).unwrap().to_time())?;
        let key = signing_key(secret, presented.date(), presented.region());
        presented.verify(&self.0, &key)
    }
}

/// The headers of the documentation's examples.
fn example(payload: &str, names: &str, signature: &str, more: &[(&str, &str)]) -> Vec<(String, String)> {
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={ID}/20130524/us-east-1/s3/aws4_request,SignedHeaders={names},Signature={signature}"
    );
    let common =
        [("host", HOST_NAME), ("x-amz-content-sha256", payload), ("authorization", authorization.as_str())];
    let all = common.iter().chain(more);
    all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn sent(method: &str, target: &str, headers: &[(String, String)]) -> Sent {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Sent::new(method, target, &headers)
}

const NOW: &str = "20130524T000000Z";
const DATE: (&str, &str) = ("x-amz-date", NOW);

/// A1: "Signature Calculations for the Authorization Header", all four examples
#[test]
fn the_documented_header_examples_are_accepted() {
    let empty = crate::sigv4::EMPTY_SHA256;
    let put = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
    let plain = "host;x-amz-content-sha256;x-amz-date";
    for (method, target, headers) in [
        (
            "GET",
            "/test.txt",
            example(
                empty,
                "host;range;x-amz-content-sha256;x-amz-date",
                "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
                &[DATE, ("range", "bytes=0-9")],
            ),
        ),
        (
            "PUT",
            "/test%24file.text",
            example(
                put,
                "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
                "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
                &[
                    DATE,
                    ("date", "Fri, 24 May 2013 00:00:00 GMT"),
                    ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
                ],
            ),
        ),
        (
            "GET",
            "/?lifecycle",
            example(
                empty,
                plain,
                "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
                &[DATE],
            ),
        ),
        (
            "GET",
            "/?max-keys=2&prefix=J",
            example(
                empty,
                plain,
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
                &[DATE],
            ),
        ),
    ] {
        let request = sent(method, target, &headers);
        assert_eq!(request.verify(SECRET, NOW).err(), None, "{method} {target}");
        assert_eq!(request.verify("another", NOW).err(), Some(SignatureRejection::Mismatch));
    }
}

/// A1: a raw dollar sign in the example's path has the same canonical path
#[test]
fn an_unencoded_path_is_accepted() {
    let put = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
    let headers = example(
        put,
        "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        &[DATE, ("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")],
    );
    let verified = sent("PUT", "/test$file.text", &headers).verify(SECRET, NOW).ok().unwrap();
    assert!(matches!(verified.payload, PayloadHash::Sha256([0x44, ..])));
    assert!(verified.signature_chain.is_none());
}

/// A1: "Authenticating Requests: Using Query Parameters", the example
#[test]
fn the_documented_presigned_url_is_accepted_for_its_day() {
    let target = "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2F\
                  us-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
                  &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
    let request = Sent::new("GET", target, &[("host", HOST_NAME)]);
    assert_eq!(
        request.verify(SECRET, "20130524T235959Z").ok().map(|it| it.payload),
        Some(PayloadHash::Unsigned)
    );
    assert_eq!(request.verify(SECRET, "20130525T000000Z").err(), None, "the last valid second");
    let validity = |now: &str| Validity {
        lifetime: Duration::from_secs(86400),
        expires: "2013-05-25T00:00:00Z".to_owned(),
        now: now.to_owned(),
    };
    assert_eq!(
        request.verify(SECRET, "20130525T000001Z").err(),
        Some(SignatureRejection::Expired(validity("2013-05-25T00:00:01Z")))
    );
    assert_eq!(request.verify(SECRET, "20130523T234500Z").err(), None, "a clock may be 15 minutes behind");
    assert_eq!(
        request.verify(SECRET, "20130523T234459Z").err(),
        Some(SignatureRejection::NotYetValid(validity("2013-05-23T23:44:59Z")))
    );
}

/// A1: "Transferring Payload in Multiple Chunks", the example: the seed signature and the signatures of the chunks
#[test]
fn the_documented_chunk_signatures_follow_the_seed() {
    let headers = example(
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class",
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
        &[
            DATE,
            ("content-encoding", "aws-chunked"),
            ("content-length", "66824"),
            ("x-amz-decoded-content-length", "66560"),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ],
    );
    let headers: Vec<_> = headers
        .into_iter()
        .map(
            |(name, value)| {
                if name == "host" { (name, "s3.amazonaws.com".to_owned()) } else { (name, value) }
            },
        )
        .collect();
    let verified = sent("PUT", "/examplebucket/chunkObject.txt", &headers).verify(SECRET, NOW).ok().unwrap();
    assert_eq!(verified.payload, PayloadHash::SignedChunks { trailer: false });
    let mut chain = verified.signature_chain.unwrap();
    for (bytes, signature) in [
        (65536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
        (1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
        (0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
    ] {
        let hash: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(vec![b'a'; bytes]).into();
        assert_eq!(chain.chunk_signature(&hash), signature, "{bytes}");
    }
}

/// Signs a request with the AWS SDK's signer.
fn sign_with_sdk(method: &str, url: &str, headers: &[(&str, &str)], presign: bool) -> Sent {
    let identity = Credentials::new(ID, SECRET, None, None, "test").into();
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    if presign {
        settings.payload_checksum_kind = PayloadChecksumKind::NoHeader;
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(Duration::from_secs(60));
    }
    let now = Timestamp::parse(NOW).unwrap().to_time();
    let params = SigningParams::builder().identity(&identity).region("us-east-1").name("s3").time(now);
    let params = params.settings(settings).build().unwrap().into();
    let body = if presign { SignableBody::UnsignedPayload } else { SignableBody::Bytes(b"payload") };
    let all = headers.iter().copied().chain([("host", HOST_NAME)]);
    let request = SignableRequest::new(method, url, all.clone(), body).unwrap();
    let (instructions, _) = sign(request, &params).unwrap().into_parts();
    let (more, parameters) = instructions.into_parts();
    let mut target = url.strip_prefix("http://examplebucket.s3.amazonaws.com").unwrap().to_owned();
    for (name, value) in parameters {
        let value = crate::percent::percent_encode(value.as_bytes(), false);
        target.push_str(&format!("{}{name}={value}", if target.contains('?') { '&' } else { '?' }));
    }
    let mut sent = Sent::new(method, &target, &all.collect::<Vec<_>>());
    for header in more {
        sent.0.headers.append(header.name(), header.value().as_bytes());
    }
    sent
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    /// A1: unusual keys, parameters and metadata that the SDK signs are accepted, and a changed request is rejected
    #[test]
    fn requests_signed_by_the_sdk_are_accepted(
        key in "[ -~äß€]{0,40}",
        pairs in prop::collection::vec(("[a-zA-Z+ %/=-]{1,8}", "[ -~ü]{0,12}"), 0..5),
        metadata in "[!-~]{1,5}([ ]{1,3}[!-~]{1,5}){0,3}",
        presign in any::<bool>(),
    ) {
        let encode = |text: &str| crate::percent::percent_encode(text.as_bytes(), false);
        let path = crate::percent::percent_encode(key.as_bytes(), true);
        let query: Vec<String> =
            pairs.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        let url = format!("http://{HOST_NAME}/{path}{mark}{}", query.join("&"));
        let headers = [("x-amz-meta-odd", metadata.as_str())];
        let sent = sign_with_sdk("PUT", &url, &headers, presign);
        prop_assert_eq!(sent.verify(SECRET, NOW).err(), None, "{} {:?}", url, sent.0.headers);
        let mut other = sign_with_sdk("PUT", &url, &headers, presign);
        other.0.headers.insert("x-amz-meta-odd", b"~~~~~~~");
        prop_assert_eq!(other.verify(SECRET, NOW).err(), Some(SignatureRejection::Mismatch));
        let mut other = sign_with_sdk("PUT", &url, &headers, presign);
        other.0.method = "DELETE".to_owned();
        prop_assert_eq!(other.verify(SECRET, NOW).err(), Some(SignatureRejection::Mismatch));
    }

    /// V8: any header and any query give a result without a panic
    #[test]
    fn no_header_or_query_causes_a_panic(header in "\\PC{0,200}", query in "[!-~]{0,200}") {
        let target = format!("/b/k?{}", query.replace(['#', '"', '<', '>', '\\', '^', '`', '{', '|', '}'], "-"));
        let value = format!("AWS4-HMAC-SHA256 {header}");
        if is_value(&value) {
            let mut sent = Sent::new("GET", &target, &[]);
            prop_assert!(!matches!(PresentedSignature::from_request(&sent.0), Ok(Some(_))));
            sent.0.headers.append("authorization", value.as_bytes());
            prop_assert!(PresentedSignature::from_request(&sent.0).is_err());
        }
    }
}
