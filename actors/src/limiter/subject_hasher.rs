//! The hash of token subjects. A successor takes over its seeds, so that a subject keeps its budget across an upgrade.
//!
//! The seeds are random in each process that is no successor, and a secret: with them a client could find subjects that
//! share a budget. Another build may hash in another way, so a hash of a fixed text is compared.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

/// The text that is compared.
const PROBE: &str = "tidegate";

/// The seeds, and the hash of the fixed text with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SubjectSeeds {
    seeds: [u64; 4],
    probe: u64,
}

/// The hasher of all configurations. Its seeds are set with the first subject, or before by a hand-over.
#[derive(Debug, Default)]
pub(crate) struct SubjectHasher(OnceLock<(SubjectSeeds, ahash::RandomState)>);

fn hasher([one, two, three, four]: [u64; 4]) -> ahash::RandomState {
    ahash::RandomState::with_seeds(one, two, three, four)
}

impl SubjectHasher {
    fn get(&self) -> &(SubjectSeeds, ahash::RandomState) {
        self.0.get_or_init(|| {
            let random = ahash::RandomState::new();
            let seeds = [0_u64, 1, 2, 3].map(|number| random.hash_one(number));
            let hasher = hasher(seeds);
            (SubjectSeeds { seeds, probe: hasher.hash_one(PROBE) }, hasher)
        })
    }

    pub(super) fn state(&self) -> &ahash::RandomState {
        &self.get().1
    }

    pub(super) fn seeds(&self) -> SubjectSeeds {
        self.get().0
    }

    /// Takes over the seeds of a predecessor. Returns whether subjects have the same hashes as there.
    pub(super) fn adopt(&self, seeds: SubjectSeeds) -> bool {
        let hasher = hasher(seeds.seeds);
        if hasher.hash_one(PROBE) == seeds.probe {
            // An error means that a subject was hashed before, and the seeds differ.
            let _ = self.0.set((seeds, hasher));
        }
        self.seeds() == seeds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G8: a successor hashes a subject as its predecessor, unless its hash function differs or it has hashed before
    #[test]
    fn seeds_are_taken_over() {
        let (before, after) = (SubjectHasher::default(), SubjectHasher::default());
        let seeds = before.seeds();
        assert!(!SubjectHasher::default().adopt(SubjectSeeds { probe: !seeds.probe, ..seeds }));
        assert!(after.adopt(seeds));
        assert_eq!(before.state().hash_one("ann"), after.state().hash_one("ann"));
        let used = SubjectHasher::default();
        used.state();
        assert!(!used.adopt(seeds));
    }
}
