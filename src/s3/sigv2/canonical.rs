//! What a SigV2 signature covers: the string to sign, in two parts.
//!
//! Values are signed decoded, so the string can be ambiguous: the value `a&versionId=3` would be signed like the value `a` beside a
//! `versionId`. The holder of a URL could turn one into the other, so ambiguous values are refused.

use std::borrow::Cow;
use std::collections::BTreeMap;

use actix_web::http::Uri;
use actix_web::http::header::{CONTENT_TYPE, HeaderMap, HeaderName};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use crate::http::edge::Head;
use crate::s3::sigv2::Version2Rejection;
use crate::s3::sigv2::query::{AMAZON, begins_like_header, is_covered, is_header};
use crate::s3::sigv4::query::{bytes_of, name_of, pairs};
use crate::s3::sigv4::{CDN_HEADERS, Place, SignatureRejection, fingerprint};

const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

/// The lines before the resource. `date` is the fourth: a date, the end of a presigned URL, or nothing. Of headers that `hides` names,
/// the value's length and hash stand in its place.
pub(super) fn lines(
    head: Head<'_>,
    date: &[u8],
    place: Place,
    hides: impl Fn(&str) -> bool,
) -> Result<Vec<u8>, SignatureRejection> {
    let (headers, query) = (head.headers, head.uri.query().unwrap_or_default());
    let mut lines = Vec::with_capacity(256);
    for line in [
        head.method.as_str().as_bytes(),
        single(headers, &CONTENT_MD5, place)?,
        single(headers, &CONTENT_TYPE, place)?,
        date,
    ] {
        lines.extend_from_slice(line);
        lines.push(b'\n');
    }
    for (name, value) in amazon_headers(headers, query, place)? {
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

/// A header's one value. Of two, the store could read the other.
fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    place: Place,
) -> Result<&'a [u8], Version2Rejection> {
    let mut values = headers.get_all(name);
    match (values.next(), values.next()) {
        (None, _) => Ok(b""),
        (Some(value), None) => Ok(value.as_bytes().trim_ascii()),
        (Some(_), Some(_)) => {
            Err(Version2Rejection::Malformed(place, "Content-MD5 and Content-Type may stand once"))
        }
    }
}

/// S3's own headers by name, the values of each joined by commas, without those that CDNs add. In a presigned URL its
/// parameters of such names are among them.
fn amazon_headers(
    headers: &HeaderMap,
    query: &str,
    place: Place,
) -> Result<BTreeMap<String, Vec<u8>>, SignatureRejection> {
    let mut all = BTreeMap::new();
    let is_signed = |name: &str| name.starts_with(AMAZON) && !CDN_HEADERS.contains(&name);
    for name in headers.keys().filter(|name| is_signed(name.as_str())) {
        let values: Vec<&[u8]> = headers.get_all(name).map(|value| value.as_bytes().trim_ascii()).collect();
        all.insert(name.as_str().to_owned(), values.join(&b','));
    }
    let mut moved: Vec<String> = Vec::new();
    for pair in pairs(query) {
        let name = name_of(pair);
        if !begins_like_header(&name) {
            continue;
        }
        if place != Place::Query || !is_header(&name) {
            return Err(Version2Rejection::Uncovered(name.chars().take(64).collect()).into());
        }
        let name = name.to_ascii_lowercase();
        let value = bytes_of(pair.split_once('=').map_or("", |(_, value)| value));
        if value.contains(&b'\n') || moved.contains(&name) {
            let what = "an x-amz- parameter stands in the query twice, or holds a line feed";
            return Err(Version2Rejection::Malformed(place, what).into());
        }
        let value = value.trim_ascii();
        // Clients send the header as well, because SigV4 asks for it. Two values would be two requests.
        if all.get(&name).is_some_and(|header| header != value) {
            return Err(SignatureRejection::Mismatch);
        }
        all.insert(name.clone(), value.to_owned());
        moved.push(name);
    }
    Ok(all)
}

/// The spellings of the resource that clients sign. `bucket` is the bucket's name where the host holds it.
///
/// The path stands as it was sent. botocore ends the path of a bucket with a slash that it does not send, and signers differ on
/// whether an empty value keeps its `=`. Each spelling names the same resource.
pub(super) fn resources(
    uri: &Uri,
    bucket: Option<&str>,
    place: Place,
) -> Result<Vec<Vec<u8>>, Version2Rejection> {
    let path = match bucket {
        Some(bucket) => format!("/{bucket}{}", uri.path()),
        None => uri.path().to_owned(),
    };
    let is_bare_bucket = path.len() > 1 && !path[1..].contains('/');
    let with_slash = is_bare_bucket.then(|| format!("{path}/"));
    let covered = covered(uri.query().unwrap_or_default(), place)?;
    let has_empty = covered.iter().any(|(_, value)| value.as_ref().is_some_and(|value| value.is_empty()));
    let mut resources = Vec::with_capacity(1);
    for path in [Some(path), with_slash].into_iter().flatten() {
        resources.push(resource(&path, &covered, true));
        if has_empty {
            resources.push(resource(&path, &covered, false));
        }
    }
    Ok(resources)
}

type Parameter<'a> = (Cow<'a, str>, Option<Cow<'a, [u8]>>);

/// The parameters that the signature covers, sorted by name, their values decoded.
fn covered(query: &str, place: Place) -> Result<Vec<Parameter<'_>>, Version2Rejection> {
    let mut covered: Vec<Parameter<'_>> = Vec::new();
    for pair in pairs(query) {
        let name = name_of(pair);
        if !is_covered(&name) {
            continue;
        }
        let value = pair.split_once('=').map(|(_, value)| bytes_of(value));
        if value.as_ref().is_some_and(|value| is_ambiguous(value)) {
            let what = "a parameter's value holds a line feed, or reads like further parameters";
            return Err(Version2Rejection::Malformed(place, what));
        }
        covered.push((name, value));
    }
    covered.sort_unstable();
    if covered.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(Version2Rejection::Malformed(place, "a sub-resource stands in the query twice"));
    }
    Ok(covered)
}

/// Whether a value could be taken for the end of one and another parameter.
fn is_ambiguous(value: &[u8]) -> bool {
    let is_parameter = |piece: &[u8]| {
        let name = piece.split(|byte| *byte == b'=').next().unwrap_or_default();
        std::str::from_utf8(name).is_ok_and(is_covered)
    };
    value.contains(&b'\n') || value.split(|byte| *byte == b'&').skip(1).any(is_parameter)
}

fn resource(path: &str, covered: &[Parameter<'_>], keeps_empty: bool) -> Vec<u8> {
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

/// The bytes of a signature. Base64 has one spelling of them.
pub(super) fn signature_bytes(text: &str) -> Result<[u8; 20], SignatureRejection> {
    let decoded = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    decoded.ok_or(SignatureRejection::Mismatch)
}

/// Whether the code is the secret's over the data; takes the same time wherever they differ.
pub(super) fn is_hmac(secret: &str, data: [&[u8]; 2], code: &[u8; 20]) -> bool {
    Hmac::<Sha1>::new_from_slice(secret.as_bytes()).is_ok_and(|mac| {
        mac.chain_update(data[0]).chain_update(data[1]).verify_slice(code.as_slice()).is_ok()
    })
}
