//! Checksums of multipart uploads (S3 User Guide, "Checking object integrity for data uploads").
//!
//! A full-object checksum covers the bytes of the object. A composite checksum covers the checksums of the parts in order and ends in `-N`,
//! the number of parts. Only CRCs exist as full-object checksums. CRC64NVME does not exist as a composite checksum.

use std::io::Read;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use s3s::dto::{ChecksumAlgorithm, ChecksumType};
use s3s::{S3Error, S3Result, s3_error};
use serde::{Deserialize, Serialize};

use super::checksum;
use super::reader::ObjectReader;
use super::record::{Checksums, Object};

/// Algorithms of composite checksums.
const COMPOSITE: [&str; 4] =
    [ChecksumAlgorithm::CRC32, ChecksumAlgorithm::CRC32C, ChecksumAlgorithm::SHA1, ChecksumAlgorithm::SHA256];
/// Algorithms of full-object checksums.
const FULL_OBJECT: [&str; 3] =
    [ChecksumAlgorithm::CRC32, ChecksumAlgorithm::CRC32C, ChecksumAlgorithm::CRC64NVME];

/// Algorithms that the server library does not read. The gateway verifies them.
const VERIFIED_BY_GATEWAY: [&str; 5] = ["SHA512", "MD5", "XXHASH64", "XXHASH3", "XXHASH128"];

/// The checksum that an upload was created with.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct UploadChecksum {
    /// None without an algorithm, and for one that the server library does not read.
    algorithm: Option<String>,
    /// None if neither type nor algorithm was sent.
    is_full_object: Option<bool>,
}

impl UploadChecksum {
    pub(super) fn new(
        algorithm: Option<&ChecksumAlgorithm>,
        checksum_type: Option<&ChecksumType>,
    ) -> S3Result<Self> {
        let algorithm = algorithm.map(|algorithm| algorithm.as_str().to_ascii_uppercase());
        let sent = checksum_type.map(is_full_object).transpose()?;
        let lists = [&COMPOSITE[..], &FULL_OBJECT, &VERIFIED_BY_GATEWAY];
        if let Some(unknown) =
            algorithm.as_ref().filter(|name| !lists.iter().any(|list| is_one_of(list, name)))
        {
            return Err(s3_error!(InvalidRequest, "x-amz-checksum-algorithm {unknown} does not exist"));
        }
        let Some(algorithm) =
            algorithm.filter(|name| is_one_of(&COMPOSITE, name) || is_one_of(&FULL_OBJECT, name))
        else {
            return Ok(Self { algorithm: None, is_full_object: sent });
        };
        let is_full_object = sent.unwrap_or(!is_one_of(&COMPOSITE, &algorithm));
        let allowed: &[&str] = if is_full_object { &FULL_OBJECT } else { &COMPOSITE };
        if !is_one_of(allowed, &algorithm) {
            return Err(s3_error!(
                InvalidRequest,
                "the type of the checksum does not exist with {algorithm}"
            ));
        }
        Ok(Self { algorithm: Some(algorithm), is_full_object: Some(is_full_object) })
    }

    /// The algorithm with which each part is hashed, also without a checksum in its request.
    pub(super) fn algorithm(&self) -> Option<ChecksumAlgorithm> {
        self.algorithm.clone().map(ChecksumAlgorithm::from)
    }

    /// Verifies the checksums of a completion. Returns the checksums to store.
    pub(super) fn verify(
        &self,
        sent: Checksums,
        checksum_type: Option<&ChecksumType>,
        object: &Object,
        parts: &[Arc<Object>],
    ) -> S3Result<Checksums> {
        let sent_type = checksum_type.map(is_full_object).transpose()?;
        if sent_type.is_some() && self.is_full_object.is_some() && sent_type != self.is_full_object {
            return Err(s3_error!(InvalidRequest, "the upload was created with another x-amz-checksum-type"));
        }
        let is_composite = sent.checksum_type().is_some_and(|sent| sent.as_str() == ChecksumType::COMPOSITE);
        if sent_type.or(self.is_full_object).unwrap_or(!is_composite) {
            verify_full_object(object, &sent, self.algorithm().as_ref())
        } else {
            verify_composite(parts, sent)
        }
    }
}

fn is_one_of(names: &[&str], name: &str) -> bool {
    names.contains(&name)
}

fn is_full_object(checksum_type: &ChecksumType) -> S3Result<bool> {
    match checksum_type.as_str() {
        ChecksumType::FULL_OBJECT => Ok(true),
        ChecksumType::COMPOSITE => Ok(false),
        _ => Err(s3_error!(InvalidRequest, "x-amz-checksum-type must be FULL_OBJECT or COMPOSITE")),
    }
}

/// Reads the object, verifies its checksums, and computes the one of the upload's algorithm. Without either the object is
/// not read and has no checksum.
fn verify_full_object(
    object: &Object,
    sent: &Checksums,
    algorithm: Option<&ChecksumAlgorithm>,
) -> S3Result<Checksums> {
    if *sent == Checksums::default() && algorithm.is_none() {
        return Ok(Checksums::default());
    }
    let mut hasher = checksum::hasher(sent, algorithm);
    let mut reader = ObjectReader::new(object, &(0..object.bytes()));
    let mut buffer = vec![0; 256 << 10];
    loop {
        match reader.read(&mut buffer).map_err(S3Error::internal_error)? {
            0 => break,
            bytes => hasher.update(&buffer[..bytes]),
        }
    }
    let computed = checksum::computed(hasher);
    sent.clone().verify(computed.clone())?;
    Ok(computed)
}

fn verify_composite(parts: &[Arc<Object>], mut sent: Checksums) -> S3Result<Checksums> {
    let mut computed = composite(parts)?;
    for ((name, sent), (_, computed)) in sent.named().into_iter().zip(computed.named()) {
        let Some(sent) = sent else {
            continue;
        };
        if computed.is_none() {
            return Err(s3_error!(
                InvalidRequest,
                "a composite checksum {name} needs a checksum {name} of every part"
            ));
        }
        if !sent.contains('-') {
            *sent = format!("{sent}-{}", parts.len());
        }
    }
    sent.verify(computed.clone())?;
    Ok(computed)
}

/// The composite checksums, for each algorithm by which every part has a checksum.
fn composite(parts: &[Arc<Object>]) -> S3Result<Checksums> {
    let mut composite = Checksums::default();
    for algorithm in COMPOSITE {
        let value = |part: &Arc<Object>| {
            let mut checksums = part.info.checksums.clone();
            let mut named = checksums.named().into_iter();
            named.find(|(name, _)| name.eq_ignore_ascii_case(algorithm))?.1.take()
        };
        let Some(values) = parts.iter().map(value).collect::<Option<Vec<_>>>() else {
            continue;
        };
        let mut hasher =
            checksum::hasher(&Checksums::default(), Some(&ChecksumAlgorithm::from_static(algorithm)));
        for value in values {
            hasher.update(&BASE64_STANDARD.decode(value).map_err(S3Error::internal_error)?);
        }
        let mut computed = checksum::computed(hasher);
        for ((_, composite), (_, computed)) in composite.named().into_iter().zip(computed.named()) {
            if let Some(computed) = computed.take() {
                *composite = Some(format!("{computed}-{}", parts.len()));
            }
        }
    }
    Ok(composite)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::test_objects::object;

    fn created(algorithm: Option<&str>, checksum_type: Option<&str>) -> S3Result<UploadChecksum> {
        let algorithm = algorithm.map(|name| ChecksumAlgorithm::from(name.to_owned()));
        let checksum_type = checksum_type.map(|name| ChecksumType::from(name.to_owned()));
        UploadChecksum::new(algorithm.as_ref(), checksum_type.as_ref())
    }

    /// The table of the User Guide: which algorithm exists with which type, and which type is the default
    #[test]
    fn a_type_is_valid_for_some_algorithms_only() {
        let (full, composite) = (Some("FULL_OBJECT"), Some("COMPOSITE"));
        for (algorithm, checksum_type, expected) in [
            (None, None, Some(None)),
            (None, full, Some(Some(true))),
            (Some("CRC32"), None, Some(Some(false))),
            (Some("CRC32"), full, Some(Some(true))),
            (Some("CRC32C"), composite, Some(Some(false))),
            (Some("CRC64NVME"), None, Some(Some(true))),
            (Some("CRC64NVME"), composite, None),
            (Some("SHA1"), full, None),
            (Some("SHA256"), full, None),
            (Some("SHA256"), composite, Some(Some(false))),
            (Some("XXHASH3"), composite, Some(Some(false))),
            (Some("CRC32"), Some("OTHER"), None),
        ] {
            let created = created(algorithm, checksum_type).ok().map(|created| created.is_full_object);
            assert_eq!(created, expected, "{algorithm:?} {checksum_type:?}");
        }
    }

    /// The SHA-1 over the SHA-1 of `a` and of `b`, computed by another implementation
    #[test]
    fn composite_checksums_are_verified() {
        let part = |sha1: &str| {
            let mut part = object("x");
            part.info.checksums.sha1 = Some(sha1.to_owned());
            Arc::new(part)
        };
        let parts = [part("hvfkN/qlp/zhXR3cuerq6jd2Z7g="), part("6dcfXufJLW3J6S/9rRe4vUlBj5g=")];
        let verify = |sent: Checksums, checksum_type: Option<&str>| {
            let checksum_type = checksum_type.map(|name| ChecksumType::from(name.to_owned()));
            let verified =
                UploadChecksum::default().verify(sent, checksum_type.as_ref(), &object("x"), &parts);
            verified
                .map_or_else(|error| error.code().as_str().to_owned(), |kept| kept.sha1.unwrap_or_default())
        };
        let sha1 = |value: &str| Checksums { sha1: Some(value.to_owned()), ..Checksums::default() };
        let right = "AFZUCsYjfQJj3Q+qRcccc7xIDzQ=";
        let whole = format!("{right}-2");
        assert_eq!(verify(sha1(&whole), None), whole);
        assert_eq!(verify(sha1(&whole), Some("COMPOSITE")), whole);
        assert_eq!(verify(sha1(right), Some("COMPOSITE")), whole);
        assert_eq!(verify(Checksums::default(), Some("COMPOSITE")), whole);
        assert_eq!(verify(sha1(&format!("{right}-3")), None), "BadDigest");
        assert_eq!(verify(sha1("AAAAAAAAAAAAAAAAAAAAAAAAAAA=-2"), None), "BadDigest");
        let crc32 = Checksums { crc32: Some("AAAAAA==-2".to_owned()), ..Checksums::default() };
        assert_eq!(verify(crc32, None), "InvalidRequest");
    }
}
