//! Checksums that clients send with a body.
//!
//! The origin verifies and stores the five that the server library reads. The library ignores others; the gateway has verified them.

use s3s::checksum::ChecksumHasher;
use s3s::dto::{ChecksumAlgorithm, ChecksumType};
use s3s::{S3Result, TrailingHeaders, s3_error};

use super::record::Checksums;

/// The checksums in an operation's input: three operations have the same field names.
macro_rules! sent_checksums {
    ($input:expr) => {
        $crate::origin::record::Checksums {
            crc32: $input.checksum_crc32.take(),
            crc32c: $input.checksum_crc32c.take(),
            crc64nvme: $input.checksum_crc64nvme.take(),
            sha1: $input.checksum_sha1.take(),
            sha256: $input.checksum_sha256.take(),
        }
    };
}

/// Sets the checksums of an operation's output: all outputs have the same field names.
macro_rules! show_checksums {
    ($output:expr, $checksums:expr) => {{
        let checksums = &$checksums;
        $output.checksum_crc32.clone_from(&checksums.crc32);
        $output.checksum_crc32c.clone_from(&checksums.crc32c);
        $output.checksum_crc64nvme.clone_from(&checksums.crc64nvme);
        $output.checksum_sha1.clone_from(&checksums.sha1);
        $output.checksum_sha256.clone_from(&checksums.sha256);
    }};
}

pub(super) use {sent_checksums, show_checksums};

/// A hasher for the checksums that were sent in headers or are announced for the trailer.
pub(super) fn hasher(sent: &Checksums, announced: Option<&ChecksumAlgorithm>) -> ChecksumHasher {
    let is_announced = |name: &str| announced.is_some_and(|algorithm| algorithm.as_str() == name);
    let is_wanted = |value: &Option<String>, name| value.is_some() || is_announced(name);
    ChecksumHasher {
        crc32: is_wanted(&sent.crc32, ChecksumAlgorithm::CRC32).then(Default::default),
        crc32c: is_wanted(&sent.crc32c, ChecksumAlgorithm::CRC32C).then(Default::default),
        crc64nvme: is_wanted(&sent.crc64nvme, ChecksumAlgorithm::CRC64NVME).then(Default::default),
        sha1: is_wanted(&sent.sha1, ChecksumAlgorithm::SHA1).then(Default::default),
        sha256: is_wanted(&sent.sha256, ChecksumAlgorithm::SHA256).then(Default::default),
    }
}

pub(super) fn computed(hasher: ChecksumHasher) -> Checksums {
    let sums = hasher.finalize();
    Checksums {
        crc32: sums.checksum_crc32,
        crc32c: sums.checksum_crc32c,
        crc64nvme: sums.checksum_crc64nvme,
        sha1: sums.checksum_sha1,
        sha256: sums.checksum_sha256,
    }
}

impl Checksums {
    /// Adds the checksums of the trailer.
    pub(super) fn add_trailers(&mut self, trailers: Option<&TrailingHeaders>) {
        let Some(trailers) = trailers.and_then(TrailingHeaders::take) else {
            return;
        };
        for (name, value) in self.named() {
            if let Some(sent) = trailers.get(format!("x-amz-checksum-{name}")).and_then(|v| v.to_str().ok()) {
                *value = Some(sent.to_owned());
            }
        }
    }

    /// Compares the sent checksums with the computed ones.
    pub(super) fn verify(mut self, mut computed: Self) -> S3Result<()> {
        for ((name, sent), (_, computed)) in self.named().into_iter().zip(computed.named()) {
            if sent.is_some() && sent != computed {
                return Err(s3_error!(BadDigest, "the checksum {name} does not match the body"));
            }
        }
        Ok(())
    }

    /// `COMPOSITE` for checksums over the checksums of parts, which end in `-N`; none without a checksum.
    pub(super) fn checksum_type(&self) -> Option<ChecksumType> {
        let mut kept = self.clone();
        let mut values = kept.named().into_iter().filter_map(|(_, value)| value.as_deref());
        let first = values.next()?;
        let name = if first.contains('-') { ChecksumType::COMPOSITE } else { ChecksumType::FULL_OBJECT };
        Some(ChecksumType::from_static(name))
    }

    pub(super) fn named(&mut self) -> [(&'static str, &mut Option<String>); 5] {
        [
            ("crc32", &mut self.crc32),
            ("crc32c", &mut self.crc32c),
            ("crc64nvme", &mut self.crc64nvme),
            ("sha1", &mut self.sha1),
            ("sha256", &mut self.sha256),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha1(value: &str) -> Checksums {
        Checksums { sha1: Some(value.to_owned()), ..Checksums::default() }
    }

    /// A1: a checksum is verified, also if it is only announced for the trailer
    #[test]
    fn checksums_are_verified_against_the_body() {
        let right = "qvTGHdzF6KLavt4PO0gs2a6pQ00=";
        for (sent, announced, expected) in [
            (sha1(right), None, true),
            (sha1("AAAAAAAAAAAAAAAAAAAAAAAAAAA="), None, false),
            (Checksums::default(), Some(ChecksumAlgorithm::SHA1), true),
            (Checksums::default(), None, true),
        ] {
            let is_announced = announced.is_some();
            let mut hasher = hasher(&sent, announced.map(ChecksumAlgorithm::from_static).as_ref());
            hasher.update(b"hello");
            let computed = computed(hasher);
            assert_eq!(computed.sha1.as_deref(), (sent.sha1.is_some() || is_announced).then_some(right));
            assert_eq!(sent.verify(computed).is_ok(), expected);
        }
    }
}
