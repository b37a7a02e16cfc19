//! Fuzz target `sigv4`: heads of requests that the AWS SDK's signer signs, and raw heads, which are also verified as SigV2.

use std::time::{Duration, SystemTime};

use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, Uri, Version};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation,
    SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4::SigningParams;
use tidegate_s3::percent::percent_encode;
use tidegate_s3::sigv2;
use tidegate_s3::sigv4::canonical::signing_key;
use tidegate_s3::sigv4::{PayloadHash, PresentedSignature, SignatureRejection, Timestamp};

use crate::fuzz_input::Input;
use crate::request_head::Head;

const HOST: &str = "gateway.example.com:9000";
const ID: &str = "AKID";
const REGION: &str = "eu-central-1";
const NOW: &str = "20261129T120000Z";
const EXPIRES: Duration = Duration::from_secs(60);
const METHODS: [Method; 5] = [Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::DELETE];
const NAMES: [&str; 6] =
    ["x-amz-meta-a", "x-amz-acl", "x-amz-tagging", "range", "content-type", "x-amz-server-side-encryption"];

/// Properties: a request that the SDK signs is accepted, and with one change it is rejected; a raw head of any bytes is rejected without a
/// panic.
pub fn sigv4(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mode = input.byte();
    if mode & 0x80 == 0 { signed(mode, input) } else { any_head(input) }
}

/// A request as the gateway receives it.
#[derive(Clone)]
struct SentRequest {
    method: Method,
    target: String,
    headers: HeaderMap,
}

impl SentRequest {
    /// Verifies the SigV4 signature with this secret.
    fn verify(&self, secret: &str) -> Result<PayloadHash, SignatureRejection> {
        let uri: Uri = self.target.parse().expect("the targets are valid");
        let head = Head::new(&self.method, &uri, Version::HTTP_11, &self.headers);
        let presented =
            PresentedSignature::from_request(head)?.ok_or(SignatureRejection::UnsupportedScheme)?;
        presented.check_scope(|region| region == REGION, REGION)?;
        presented.check_time(now())?;
        // A signature does not cover the ID. With another ID the gateway would use another key, or none.
        let is_known = presented.access_key_id() == ID;
        let key = signing_key(secret, presented.date(), presented.region());
        let payload = presented.verify(head, &key)?.payload;
        if is_known { Ok(payload) } else { Err(SignatureRejection::UnknownKey) }
    }

    /// Verifies the SigV2 signature with this secret.
    fn verify_sigv2(&self, secret: &str) -> Result<(), SignatureRejection> {
        let uri: Uri = self.target.parse().expect("the targets are valid");
        let head = Head::new(&self.method, &uri, Version::HTTP_11, &self.headers);
        sigv2::check_single_auth(head)?;
        let presented = sigv2::PresentedSigV2::from_request(head)?;
        let bucket = self.target.starts_with("/k").then_some("b");
        presented.verify(head, bucket, secret)?;
        presented.check_time(now(), EXPIRES)
    }
}

fn now() -> SystemTime {
    Timestamp::parse(NOW).expect("a timestamp").to_time()
}

/// A request before it is signed.
struct RequestPlan {
    method: Method,
    target: String,
    headers: Vec<(&'static str, String)>,
    is_presigned: bool,
    body: u8,
    secret: String,
}

fn is_printable(byte: &u8) -> bool {
    matches!(byte, b' '..=b'~')
}

/// Bytes that a path may have unencoded.
fn is_path(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(byte)
}

fn plan(mode: u8, input: &mut Input<'_>) -> RequestPlan {
    let method = METHODS[usize::from(input.byte()) % METHODS.len()].clone();
    let secret = input.text(is_printable);
    // Both spellings of a path: encoded by S3's rule, or with S3's special characters unencoded.
    let path = if mode & 2 == 0 { percent_encode(input.bytes(), true) } else { input.text(is_path) };
    let (pairs, headers) = (input.byte() & 7, input.byte() & 7);
    let mut query = Vec::new();
    for _ in 0..pairs {
        let (name, value) = (String::from_utf8_lossy(input.bytes()), String::from_utf8_lossy(input.bytes()));
        // Names of the parameters of a presigned URL would be a second signature.
        if !name.to_ascii_lowercase().starts_with("x-amz-") && !name.eq_ignore_ascii_case("awsaccesskeyid") {
            query.push(format!(
                "{}={}",
                percent_encode(name.as_bytes(), false),
                percent_encode(value.as_bytes(), false)
            ));
        }
    }
    let mut all = vec![("host", HOST.to_owned())];
    for _ in 0..headers {
        let name = NAMES[usize::from(input.byte()) % NAMES.len()];
        all.push((name, input.text(is_printable)));
    }
    let mark = if query.is_empty() { "" } else { "?" };
    let target = format!("/{path}{mark}{}", query.join("&"));
    RequestPlan { method, target, headers: all, is_presigned: mode & 1 != 0, body: mode >> 2 & 3, secret }
}

/// Signs with the SDK; none if the SDK rejects the request.
fn sign_by_sdk(plan: &RequestPlan) -> Option<SentRequest> {
    let identity = Credentials::new(ID, plan.secret.clone(), None, None, "fuzzing").into();
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    if plan.is_presigned {
        settings.payload_checksum_kind = PayloadChecksumKind::NoHeader;
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(EXPIRES);
    }
    let params = SigningParams::builder().identity(&identity).region(REGION).name("s3").time(now());
    let params = params.settings(settings).build().ok()?.into();
    let body = match (plan.is_presigned, plan.body) {
        (true, _) | (_, 0) => SignableBody::UnsignedPayload,
        (_, 1) => SignableBody::Bytes(b"a body"),
        (_, 2) => SignableBody::StreamingUnsignedPayloadTrailer,
        _ => SignableBody::Bytes(b""),
    };
    let all = plan.headers.iter().map(|(name, value)| (*name, value.as_str()));
    let url = format!("http://{HOST}{}", plan.target);
    let request = SignableRequest::new(plan.method.as_str(), url, all, body).ok()?;
    let (instructions, _) = sign(request, &params).ok()?.into_parts();
    let (more, parameters) = instructions.into_parts();
    let mut sent =
        SentRequest { method: plan.method.clone(), target: plan.target.clone(), headers: HeaderMap::new() };
    for (name, value) in parameters {
        let mark = if sent.target.contains('?') { '&' } else { '?' };
        sent.target.push_str(&format!("{mark}{name}={}", percent_encode(value.as_bytes(), false)));
    }
    for (name, value) in &plan.headers {
        sent.headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).ok()?);
    }
    for header in more {
        let name = HeaderName::from_bytes(header.name().as_bytes()).ok()?;
        sent.headers.append(name, HeaderValue::from_str(header.value()).ok()?);
    }
    sent.target.parse::<Uri>().ok()?;
    Some(sent)
}

fn signed(mode: u8, mut input: Input<'_>) {
    let (change, at, byte) = (input.byte(), input.byte(), input.byte());
    let plan = plan(mode, &mut input);
    let Some(sent) = sign_by_sdk(&plan) else { return };
    let result = sent.verify(&plan.secret);
    assert!(result.is_ok(), "{result:?}: {} {} {:?}", sent.method, sent.target, sent.headers);
    let other_secret = format!("{}x", plan.secret);
    assert_eq!(sent.verify(&other_secret), Err(SignatureRejection::Mismatch), "another key is accepted");
    if let Some((other, what)) = mutate(&sent, &plan, change, (at, byte)) {
        let result = other.verify(&plan.secret);
        assert!(result.is_err(), "{what} was changed: {} {} {:?}", other.method, other.target, other.headers);
    }
}

/// The request with one change; none if the change has no effect.
fn mutate(
    sent: &SentRequest,
    plan: &RequestPlan,
    change: u8,
    (at, byte): (u8, u8),
) -> Option<(SentRequest, &'static str)> {
    let mut other = sent.clone();
    let (path, query) = sent.target.split_once('?').unwrap_or((&sent.target, ""));
    let what = match change % 8 {
        0 => {
            let next = METHODS.iter().position(|method| *method == sent.method)? + 1;
            other.method = METHODS[next % METHODS.len()].clone();
            "the method"
        }
        1 => {
            other.target = format!("{path}x?{query}");
            "the path"
        }
        2 => {
            other.target = format!("{path}?{query}&z");
            "the query"
        }
        3 => {
            let (name, value) = plan.headers.last()?;
            let name = HeaderName::from_static(name);
            other.headers.insert(name, HeaderValue::from_str(&format!("{value}x")).ok()?);
            "a header"
        }
        4 => {
            other
                .headers
                .append(HeaderName::from_static("x-amz-meta-unsigned"), HeaderValue::from_static("1"));
            "an unsigned header"
        }
        5 => {
            return corrupt_signature(sent, usize::from(at), byte)
                .map(|other| (other, "a byte of the signature"));
        }
        6 if plan.is_presigned => {
            other.target = sent.target.replacen("X-Amz-Expires=60", "X-Amz-Expires=61", 1);
            "the lifetime"
        }
        6 => {
            let name = HeaderName::from_static("x-amz-content-sha256");
            let is_empty = sent.headers.get(&name)? == tidegate_s3::sigv4::EMPTY_SHA256;
            let value = if is_empty { "UNSIGNED-PAYLOAD" } else { tidegate_s3::sigv4::EMPTY_SHA256 };
            other.headers.insert(name, HeaderValue::from_static(value));
            "the payload's hash"
        }
        _ => {
            let authorization = HeaderValue::from_static("AWS4-HMAC-SHA256 Credential=a");
            other.headers.append(AUTHORIZATION, authorization);
            "a second signature"
        }
    };
    Some((other, what))
}

/// The request with one byte of the `Authorization` header or of the presigned query replaced; none if the meaning stays the same.
fn corrupt_signature(sent: &SentRequest, at: usize, byte: u8) -> Option<SentRequest> {
    if !byte.is_ascii_graphic() {
        return None;
    }
    let replace = |text: &str| {
        let mut bytes = text.as_bytes().to_vec();
        let at = at * bytes.len() / 256;
        (bytes[at] != byte).then(|| bytes[at] = byte)?;
        String::from_utf8(bytes).ok()
    };
    let mut other = sent.clone();
    if let Some(value) = sent.headers.get(AUTHORIZATION) {
        let text = value.to_str().ok()?;
        let text = replace(text).filter(|new| split_at_commas(new) != split_at_commas(text))?;
        other.headers.insert(AUTHORIZATION, HeaderValue::from_str(&text).ok()?);
    } else {
        let (path, query) = sent.target.split_once('?')?;
        let query = replace(query).filter(|new| decoded_pairs(new) != decoded_pairs(query))?;
        other.target = format!("{path}?{query}");
        other.target.parse::<Uri>().ok().filter(|uri| uri.path() == path)?;
    }
    Some(other)
}

/// The components of an `Authorization` header. Blanks around commas have no meaning.
fn split_at_commas(text: &str) -> Vec<&str> {
    text.split(',').map(str::trim).collect()
}

/// The decoded pairs of a query, sorted: equal for two spellings of the same query.
fn decoded_pairs(query: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let decode = |text: &str| tidegate_s3::percent::percent_decode(text.replace('+', " ").as_bytes());
    // A fragment is not part of a request.
    let query = query.split('#').next().unwrap_or_default();
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<_> = pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect();
    pairs.sort();
    pairs
}

/// An input with a target in the first line, and then a header in each line.
fn any_head(mut input: Input<'_>) {
    let method = METHODS[usize::from(input.byte()) % METHODS.len()].clone();
    let mut lines = input.rest().split(|byte| *byte == b'\n');
    let target = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    if target.parse::<Uri>().is_err() {
        return;
    }
    let mut headers = HeaderMap::new();
    for line in lines {
        let at = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = (&line[..at], line.get(at + 1..).unwrap_or_default().trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    let sent = SentRequest { method, target, headers };
    assert!(sent.verify("a secret that signed nothing").is_err(), "{} {:?}", sent.target, sent.headers);
    let text = |name: &str| sent.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let form = PresentedSignature::from_form(text("credential"), text("date"), text("signature"), None);
    assert!(
        form.is_err() || form.is_ok_and(|presented| presented.verify_policy("a policy", &[7; 32]).is_err())
    );
    assert!(sent.verify_sigv2("a secret that signed nothing").is_err(), "{} {:?}", sent.target, sent.headers);
}
