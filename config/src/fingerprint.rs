//! Keyed digests of secrets and of the content of files, which show whether a value changed and never the value (C4).
//!
//! The hash is SipHash with a random key of the process. So a digest has no meaning outside of the process, and no search finds a value
//! for it.

use std::fmt;
use std::hash::{BuildHasher as _, DefaultHasher, Hasher as _, RandomState};
use std::sync::LazyLock;

static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The digest of a hidden value. Equal values of one process have equal digests.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint(u64);

impl Fingerprint {
    /// The digest of a text.
    pub(crate) fn of(text: &str) -> Self {
        let mut digest = Digest::new();
        digest.add(text.as_bytes());
        digest.finish()
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(hidden)")
    }
}

/// A digest of several parts.
pub(crate) struct Digest(DefaultHasher);

impl Digest {
    pub(crate) fn new() -> Self {
        Self(KEY.build_hasher())
    }

    /// Adds a part. Its length is a part of the digest, so that no two lists of parts are the same bytes.
    pub(crate) fn add(&mut self, part: &[u8]) {
        self.0.write_usize(part.len());
        self.0.write(part);
    }

    pub(crate) fn finish(&self) -> Fingerprint {
        Fingerprint(self.0.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C4: equal texts have equal digests, other texts have others, and no output shows one
    #[test]
    fn a_digest_shows_a_change_only() {
        assert_eq!(Fingerprint::of("hunter2"), Fingerprint::of("hunter2"));
        assert_ne!(Fingerprint::of("hunter2"), Fingerprint::of("hunter3"));
        assert_eq!(format!("{:?}", Fingerprint::of("hunter2")), "Fingerprint(hidden)");
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let of = |parts: &[&str]| {
            let mut digest = Digest::new();
            parts.iter().for_each(|part| digest.add(part.as_bytes()));
            digest.finish()
        };
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["ab"]), of(&["ab", ""]));
    }
}
