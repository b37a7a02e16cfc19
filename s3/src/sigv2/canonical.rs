//! The string to sign of SigV2, in two parts: the lines before the resource, and the resource.
//!
//! Values are signed percent-decoded, so the string can be ambiguous: the value `a&versionId=3` has the same string to sign as the value
//! `a` and a parameter `versionId`. The holder of a URL could replace one by the other, so ambiguous values are rejected.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use crate::error_document::shortened;
use crate::headers::{Headers, KnownHeader};
use crate::request::RequestHead;
use crate::sigv2::query::is_covered;
use crate::sigv2::{SigV2Location, SigV2Rejection};
use crate::sigv4::query::{
    AMAZON, decoded_bytes, decoded_name, has_header_prefix, is_header, pairs, value_of,
};
use crate::sigv4::{CDN_HEADERS, SignatureRejection, fingerprint};

/// The lines before the resource. `date` is the fourth line: a date, the expiration of a presigned URL, or empty. The values of headers for
/// which `hides` is true are replaced with their length and hash.
pub(super) fn string_to_sign_lines<'a>(
    head: impl RequestHead<'a>,
    date: &[u8],
    location: SigV2Location,
    hides: impl Fn(&str) -> bool,
) -> Result<Vec<u8>, SignatureRejection> {
    let (headers, query) = (head.headers(), head.query());
    let mut lines = Vec::with_capacity(256);
    for line in [
        head.method().as_bytes(),
        single_header(headers, KnownHeader::ContentMd5, location)?,
        single_header(headers, KnownHeader::ContentType, location)?,
        date,
    ] {
        lines.extend_from_slice(line);
        lines.push(b'\n');
    }
    for (name, value) in amazon_headers(headers, query, location)? {
        lines.extend_from_slice(name.as_bytes());
        lines.push(b':');
        match hides(&name) {
            true => lines.extend_from_slice(fingerprint(&value).as_bytes()),
            false => lines.extend_from_slice(&value),
        }
        lines.push(b'\n');
    }
    Ok(lines)
}

/// A header's only value. Two values are an error, because the store could read the other one.
fn single_header<'a>(
    headers: impl Headers<'a>,
    header: KnownHeader,
    location: SigV2Location,
) -> Result<&'a [u8], SigV2Rejection> {
    let mut values = headers.get_all(header);
    match (values.next(), values.next()) {
        (None, _) => Ok(b""),
        (Some(value), None) => Ok(value.trim_ascii()),
        (Some(_), Some(_)) => {
            let what = "Content-MD5 and Content-Type may occur only once";
            Err(SigV2Rejection::Malformed(location, what.into()))
        }
    }
}

/// S3's headers by name, the values of each joined with commas, without the headers that CDNs add. Parameters with such names in a
/// presigned URL count as headers.
fn amazon_headers<'a>(
    headers: impl Headers<'a>,
    query: &str,
    location: SigV2Location,
) -> Result<BTreeMap<String, Vec<u8>>, SignatureRejection> {
    let mut all: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let is_signed = |name: &str| name.starts_with(AMAZON) && !CDN_HEADERS.contains(&name);
    for (name, value) in headers.iter().filter(|(name, _)| is_signed(name)) {
        let value = value.trim_ascii();
        match all.get_mut(name) {
            Some(values) => {
                values.push(b',');
                values.extend_from_slice(value);
            }
            None => _ = all.insert(name.to_owned(), value.to_owned()),
        }
    }
    let mut hoisted: Vec<String> = Vec::new();
    for pair in pairs(query) {
        let name = decoded_name(pair);
        if !has_header_prefix(&name) {
            continue;
        }
        if location != SigV2Location::Query || !is_header(&name) {
            return Err(SigV2Rejection::Uncovered(shortened(&name)).into());
        }
        let name = name.to_ascii_lowercase();
        let value = decoded_bytes(value_of(pair));
        if value.contains(&b'\n') || hoisted.contains(&name) {
            let what = format!("the parameter `{}` is repeated, or has a line feed", shortened(&name));
            return Err(SigV2Rejection::Malformed(location, what.into()).into());
        }
        let value = value.trim_ascii();
        // Clients send the header as well, because SigV4 requires it. Different values would make the request ambiguous.
        if all.get(&name).is_some_and(|header| header != value) {
            return Err(SignatureRejection::Mismatch);
        }
        all.insert(name.clone(), value.to_owned());
        hoisted.push(name);
    }
    Ok(all)
}

/// The spellings of the resource that clients sign. `bucket` is the bucket's name if the host contains it.
///
/// The path is signed as it was sent. botocore signs a slash at the end of a bucket's path and does not send it, and signers differ on
/// whether an empty value keeps its `=`. All spellings name the same resource.
pub(super) fn canonical_resources<'a>(
    head: impl RequestHead<'a>,
    bucket: Option<&str>,
    location: SigV2Location,
) -> Result<Vec<Vec<u8>>, SigV2Rejection> {
    let path = match bucket {
        Some(bucket) => format!("/{bucket}{}", head.path()),
        None => head.path().to_owned(),
    };
    let is_bare_bucket = path.len() > 1 && !path[1..].contains('/');
    let with_slash = is_bare_bucket.then(|| format!("{path}/"));
    let covered = covered_parameters(head.query(), location)?;
    let has_empty = covered.iter().any(|(_, value)| value.as_ref().is_some_and(|value| value.is_empty()));
    let mut resources = Vec::with_capacity(1);
    for path in [Some(path), with_slash].into_iter().flatten() {
        resources.push(canonical_resource(&path, &covered, true));
        if has_empty {
            resources.push(canonical_resource(&path, &covered, false));
        }
    }
    Ok(resources)
}

type Parameter<'a> = (Cow<'a, str>, Option<Cow<'a, [u8]>>);

/// The parameters that the signature covers, sorted by name, with percent-decoded values.
fn covered_parameters(query: &str, location: SigV2Location) -> Result<Vec<Parameter<'_>>, SigV2Rejection> {
    let mut covered: Vec<Parameter<'_>> = Vec::new();
    for pair in pairs(query) {
        let name = decoded_name(pair);
        if !is_covered(&name) {
            continue;
        }
        let value = pair.split_once('=').map(|(_, value)| decoded_bytes(value));
        if value.as_ref().is_some_and(|value| is_ambiguous(value)) {
            let what = format!("the value of `{name}` has a line feed, or contains further parameters");
            return Err(SigV2Rejection::Malformed(location, what.into()));
        }
        covered.push((name, value));
    }
    covered.sort_unstable();
    if let Some(pair) = covered.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let what = format!("the sub-resource `{}` is repeated", pair[0].0);
        return Err(SigV2Rejection::Malformed(location, what.into()));
    }
    Ok(covered)
}

/// Whether a value could be read as a shorter value and another parameter.
fn is_ambiguous(value: &[u8]) -> bool {
    let is_parameter = |piece: &[u8]| {
        let name = piece.split(|byte| *byte == b'=').next().unwrap_or_default();
        std::str::from_utf8(name).is_ok_and(is_covered)
    };
    value.contains(&b'\n') || value.split(|byte| *byte == b'&').skip(1).any(is_parameter)
}

fn canonical_resource(path: &str, covered: &[Parameter<'_>], keeps_empty: bool) -> Vec<u8> {
    let mut bytes = path.as_bytes().to_vec();
    for (at, (name, value)) in covered.iter().enumerate() {
        bytes.push(if at == 0 { b'?' } else { b'&' });
        bytes.extend_from_slice(name.as_bytes());
        if let Some(value) = value.as_ref().filter(|value| keeps_empty || !value.is_empty()) {
            bytes.push(b'=');
            bytes.extend_from_slice(value);
        }
    }
    bytes
}

/// The bytes of a signature. Only the canonical base64 is accepted.
pub(super) fn signature_bytes(text: &str) -> Result<[u8; 20], SignatureRejection> {
    let decoded = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    decoded.ok_or(SignatureRejection::Mismatch)
}

/// Whether the code is the HMAC-SHA1 of the data. Compares in constant time.
pub(super) fn verify_hmac(secret: &str, data: [&[u8]; 2], code: &[u8; 20]) -> bool {
    Hmac::<Sha1>::new_from_slice(secret.as_bytes()).is_ok_and(|mac| {
        mac.chain_update(data[0]).chain_update(data[1]).verify_slice(code.as_slice()).is_ok()
    })
}
