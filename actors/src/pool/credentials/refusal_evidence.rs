//! Evidence that an upstream refuses a credential, and when it suffices to withdraw the credential (C3).
//!
//! One answer proves nothing: a client can provoke a 401, a 403 or a `SignatureDoesNotMatch` with a request of its
//! choice. Every such answer is evidence, and a credential is withdrawn only
//!
//! - if a check of the gateway's own is refused (`src/upstream/health/credential_check.rs`), or
//! - if the evidence is independent: from different clients, over different paths, one of them over a request that was
//!   accepted before. If the gateway can check, that suffices only while its check is inconclusive.
//!
//! An accepted request clears earlier evidence; therefore evidence has no expiry. Clients, paths and requests are
//! stored as fingerprints with a key that is random for each process. All sets are bounded.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::trip::RefusalProof;

/// Number of different clients that independent evidence needs.
pub(crate) const CLIENTS_MIN: usize = 2;
/// Number of different paths that independent evidence needs.
pub(crate) const PATHS_MIN: usize = 3;
/// Accepted requests kept per credential.
const ACCEPTED_SLOTS: usize = 256;

/// Fingerprints of a request and its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestFingerprints {
    /// Client key or subject, otherwise the client's address.
    pub client: u64,
    /// The path alone.
    pub path: u64,
    /// Method, path and query.
    pub request: u64,
}

/// Result of a credential check of the gateway's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialCheckResult {
    /// The upstream accepted the credential.
    Accepted,
    /// The upstream refused the credential by name.
    Refused,
    /// No answer, or an answer without information about the credential.
    Inconclusive,
}

/// What independent evidence proves.
pub(crate) const INDEPENDENT_REQUESTS: RefusalProof =
    RefusalProof::Requests { clients: CLIENTS_MIN, paths: PATHS_MIN };

/// A set of at most `MAX` fingerprints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FingerprintSet<const MAX: usize> {
    seen: [u64; MAX],
    count: usize,
}

impl<const MAX: usize> Default for FingerprintSet<MAX> {
    fn default() -> Self {
        Self { seen: [0; MAX], count: 0 }
    }
}

impl<const MAX: usize> FingerprintSet<MAX> {
    fn insert(&mut self, fingerprint: u64) {
        if self.count < MAX && !self.seen[..self.count].contains(&fingerprint) {
            self.seen[self.count] = fingerprint;
            self.count += 1;
        }
    }

    fn is_full(&self) -> bool {
        self.count == MAX
    }
}

/// Evidence against a credential since the last accepted request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RefusalEvidence {
    clients: FingerprintSet<CLIENTS_MIN>,
    paths: FingerprintSet<PATHS_MIN>,
    has_worked: bool,
    is_check_inconclusive: bool,
    /// Accepted requests at the last evidence.
    accepted: u64,
}

impl RefusalEvidence {
    /// Adds evidence. `has_worked`: the same request was accepted before. `accepted`: number of accepted requests so
    /// far.
    pub(crate) fn add(&mut self, evidence: RequestFingerprints, has_worked: bool, accepted: u64) {
        self.clear_if_accepted(accepted);
        self.clients.insert(evidence.client);
        self.paths.insert(evidence.path);
        self.has_worked |= has_worked;
    }

    /// Adds a check that ended without a result.
    pub(crate) fn add_inconclusive_check(&mut self, accepted: u64) {
        self.clear_if_accepted(accepted);
        self.is_check_inconclusive = true;
    }

    /// Whether the evidence suffices without a refused check. `is_checked`: the gateway can check.
    pub(crate) fn is_sufficient(&self, is_checked: bool) -> bool {
        let are_independent = self.clients.is_full() && self.paths.is_full() && self.has_worked;
        are_independent && (!is_checked || self.is_check_inconclusive)
    }

    fn clear_if_accepted(&mut self, accepted: u64) {
        if self.accepted != accepted {
            *self = Self { accepted, ..Self::default() };
        }
    }
}

/// Requests that were accepted with a credential; a slot keeps the last one.
#[derive(Debug)]
pub(crate) struct AcceptedRequests(Box<[AtomicU64]>);

impl AcceptedRequests {
    pub(crate) fn new() -> Self {
        Self((0..ACCEPTED_SLOTS).map(|_| AtomicU64::new(0)).collect())
    }

    pub(crate) fn insert(&self, request: u64) {
        self.slot(request).store(slot_value(request), Ordering::Relaxed);
    }

    pub(crate) fn contains(&self, request: u64) -> bool {
        self.slot(request).load(Ordering::Relaxed) == slot_value(request)
    }

    fn slot(&self, request: u64) -> &AtomicU64 {
        // The remainder fits every usize.
        &self.0[usize::try_from(request % ACCEPTED_SLOTS as u64).unwrap_or(0)]
    }
}

/// Never 0, which marks an empty slot.
fn slot_value(request: u64) -> u64 {
    request | 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fingerprints(client: u64, path: u64) -> RequestFingerprints {
        RequestFingerprints { client, path, request: path << 8 }
    }

    fn evidence(of: &[(u64, u64, bool)]) -> RefusalEvidence {
        let mut evidence = RefusalEvidence::default();
        for (client, path, has_worked) in of {
            evidence.add(fingerprints(*client, *path), *has_worked, 0);
        }
        evidence
    }

    /// C3: one client alone, one path alone, or requests that never worked do not suffice
    #[test]
    fn evidence_is_sufficient_only_together() {
        let independent = [(1, 1, true), (2, 2, false), (1, 3, false)];
        assert!(evidence(&independent).is_sufficient(false));
        let one_client = independent.map(|(_, path, worked)| (1, path, worked));
        let one_path = independent.map(|(client, _, worked)| (client, 1, worked));
        let never_worked = independent.map(|(client, path, _)| (client, path, false));
        for lacking in [&one_client, &one_path, &never_worked] {
            assert!(!evidence(lacking).is_sufficient(false), "{lacking:?}");
        }
    }

    /// C3: if the gateway can check, its result decides; clients' evidence counts only while the check is inconclusive
    #[test]
    fn a_check_precedes_evidence() {
        let mut evidence = evidence(&[(1, 1, true), (2, 2, true), (3, 3, true)]);
        assert!(!evidence.is_sufficient(true));
        evidence.add_inconclusive_check(0);
        assert!(evidence.is_sufficient(true));
    }

    /// C3: an accepted request clears earlier evidence
    #[test]
    fn an_accepted_request_clears_evidence() {
        let mut evidence = evidence(&[(1, 1, true), (2, 2, true)]);
        evidence.add(fingerprints(3, 3), true, 1);
        assert!(!evidence.is_sufficient(false));
        evidence.add_inconclusive_check(2);
        assert_eq!(
            evidence,
            RefusalEvidence { accepted: 2, is_check_inconclusive: true, ..RefusalEvidence::default() }
        );
    }

    proptest! {
        /// C3: a single client never suffices, before and after inconclusive checks
        #[test]
        fn a_single_client_is_never_sufficient(
            asked in prop::collection::vec((0..9u64, any::<bool>(), any::<bool>()), 0..200),
        ) {
            let mut evidence = RefusalEvidence::default();
            for (path, has_worked, is_checked) in asked {
                evidence.add(fingerprints(7, path), has_worked, 0);
                if is_checked {
                    evidence.add_inconclusive_check(0);
                }
                prop_assert!(!evidence.is_sufficient(false) && !evidence.is_sufficient(true));
            }
        }
    }

    /// C3: accepted requests are recognised, others are not
    #[test]
    fn accepted_requests_are_remembered() {
        let accepted = AcceptedRequests::new();
        let requests = || (0..100).map(|n| n * 2);
        assert!(!requests().any(|request| accepted.contains(request)));
        requests().for_each(|request| accepted.insert(request));
        assert!(requests().all(|request| accepted.contains(request)));
        assert!(!(100..500).map(|n| n * 2).any(|request| accepted.contains(request)));
    }
}
