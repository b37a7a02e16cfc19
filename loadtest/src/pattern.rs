//! The content of bodies: unlimited, reproducible, and sensitive to lost, repeated or swapped blocks.
//!
//! The period is a prime number of bytes, so no buffer size divides it. A lost or repeated block shifts the rest and changes the hash.

use std::sync::OnceLock;

use rand::rngs::SmallRng;
use rand::{RngCore as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};

const PERIOD_BYTES: usize = 65_521;

fn block() -> &'static [u8] {
    static BLOCK: OnceLock<Vec<u8>> = OnceLock::new();
    BLOCK.get_or_init(|| {
        let mut bytes = vec![0; PERIOD_BYTES];
        SmallRng::seed_from_u64(1).fill_bytes(&mut bytes);
        bytes
    })
}

/// The next bytes at `offset` of a body of `length` bytes; empty at its end.
pub(crate) fn slice(offset: u64, length: u64) -> &'static [u8] {
    let at = (offset % PERIOD_BYTES as u64) as usize;
    let left = usize::try_from(length - offset).unwrap_or(usize::MAX);
    let rest = &block()[at..];
    &rest[..rest.len().min(left)]
}

/// SHA-256 of a body of `length` bytes, as text.
pub(crate) fn digest(length: u64) -> String {
    let (mut hash, mut offset) = (Sha256::new(), 0);
    while offset < length {
        let slice = slice(offset, length);
        hash.update(slice);
        offset += slice.len() as u64;
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slices_form_a_body_of_exactly_the_length() {
        let length = 3 * PERIOD_BYTES as u64 + 17;
        let mut offset = 0;
        while !slice(offset, length).is_empty() {
            offset += slice(offset, length).len() as u64;
        }
        assert_eq!(offset, length);
    }

    #[test]
    fn losing_or_repeating_a_buffer_changes_the_content() {
        for buffer in [4096, 16_384, 65_536_u64] {
            assert_ne!(slice(buffer, 1 << 20)[..64], slice(2 * buffer, 1 << 20)[..64]);
        }
        assert_ne!(digest(1000), digest(1001));
    }
}
