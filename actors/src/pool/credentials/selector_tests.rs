//! The choice among credentials (C3, P3). The tests behind a gate are in `queue`.

#[path = "queue_tests.rs"]
mod queue;

use std::num::NonZeroUsize;

use tidegate_config::{Identity, PooledCredential, Secret};

use super::*;
use crate::clock;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn stats(limits: &[(usize, Option<&str>)]) -> Arc<[CredentialStats]> {
    let one = |(i, (max, group)): (usize, &(usize, Option<&str>))| {
        CredentialStats::from_config(&PooledCredential {
            name: format!("c{i}"),
            identity: Identity::Header { name: "x".to_owned(), value: Secret::new(format!("{i}")) },
            max_concurrent: NonZeroUsize::new(*max).unwrap(),
            quota_group: group.map(str::to_owned),
        })
    };
    limits.iter().enumerate().map(one).collect()
}

fn selector(limits: &[(usize, Option<&str>)]) -> (CredentialSelector, Instant) {
    let gate = Arc::new(GateShared::new(|| {}));
    (CredentialSelector::new(&stats(limits), &gate, CredentialPoolConfig::default()), clock::now())
}

const FIRST: CredentialId = CredentialId(0);
const SECOND: CredentialId = CredentialId(1);

fn throttled(seconds: u64) -> CredentialError {
    CredentialError::Throttled(Some(secs(seconds)))
}

/// C3, P3: the least loaded relative to its limit, round robin among equals, never above a limit; a released one is
/// free
#[test]
fn the_least_loaded_is_picked_up_to_its_limit() {
    let (mut selector, now) = selector(&[(1, None), (3, None)]);
    let mut tickets: Vec<CredentialTicket> = (0..9).map_while(|_| selector.pick(None, now)).collect();
    let mut picks: Vec<usize> = tickets.iter().map(|ticket| ticket.id().0).collect();
    picks.sort_unstable();
    assert_eq!(picks, [0, 1, 1, 1]);
    assert_eq!(selector.capacity(now), CredentialCapacity::Exhausted { next: None });
    tickets.retain(|ticket| ticket.id() == SECOND);
    assert_eq!(selector.pick(None, now).unwrap().id(), FIRST);
    let (mut even, now) = self::selector(&[(2, None), (2, None)]);
    let picks: Vec<usize> = (0..4).map(|_| even.pick(None, now).unwrap().id().0).collect();
    assert_eq!(picks, [0, 1, 0, 1], "idle credentials are picked in turn");
}

/// C3: a later, shorter Retry-After does not shorten the cool-down (other implementations keep the first or the last)
#[test]
fn a_cool_down_is_the_longest_that_was_asked_for() {
    let (mut selector, now) = selector(&[(1, None)]);
    selector.record_error(FIRST, throttled(30), now);
    selector.record_error(FIRST, throttled(2), now + secs(1));
    assert_eq!(
        selector.capacity(now + secs(10)),
        CredentialCapacity::OutOfRotation { until: now + secs(30), is_refused: false }
    );
    selector.record_error(FIRST, throttled(60), now + secs(5));
    assert_eq!(
        selector.capacity(now + secs(31)),
        CredentialCapacity::OutOfRotation { until: now + secs(65), is_refused: false }
    );
    assert_eq!(selector.capacity(now + secs(65)), CredentialCapacity::Available);
}

/// C3: a requested cool-down is capped, a missing one has a default, and zero is no cool-down
#[test]
fn a_cool_down_is_capped_and_has_a_default() {
    let until = |asked| {
        let (mut selector, now) = selector(&[(1, None)]);
        selector.record_error(FIRST, CredentialError::Throttled(asked), now);
        match selector.capacity(now) {
            CredentialCapacity::OutOfRotation { until, .. } => until.saturating_duration_since(now),
            _ => Duration::ZERO,
        }
    };
    assert_eq!(until(Some(Duration::MAX)), secs(600));
    assert_eq!(until(None), secs(5));
    assert_eq!(until(Some(Duration::ZERO)), Duration::ZERO);
}

/// C3: a quota belongs to an account: its credentials cool down together, others do not
#[test]
fn a_group_cools_down_together() {
    let (mut selector, now) = selector(&[(1, Some("a")), (1, Some("a")), (1, Some("b")), (1, None)]);
    selector.record_error(SECOND, throttled(9), now);
    let picked: Vec<usize> =
        std::iter::from_fn(|| selector.pick(None, now).map(|ticket| (ticket.id().0, ticket)))
            .take(2)
            .map(|(id, ticket)| {
                std::mem::forget(ticket);
                id
            })
            .collect();
    assert_eq!(picked, [2, 3]);
    assert_eq!(selector.capacity(now), CredentialCapacity::Exhausted { next: Some(now + secs(9)) });
    let events = selector.drain_events();
    assert_eq!(events.len(), 2, "{events:?}");
    selector.record_failed_check(FIRST, true, now);
    assert_eq!(
        selector.capacity(now + secs(9)),
        CredentialCapacity::Available,
        "a refusal concerns one key, not the account"
    );
}

/// C3: a refused credential is tried by one request at a time until one is accepted
#[test]
fn a_refused_credential_comes_back_on_trial() {
    let (mut selector, now) = selector(&[(5, None)]);
    selector.record_failed_check(FIRST, true, now);
    assert_eq!(
        selector.capacity(now),
        CredentialCapacity::OutOfRotation { until: now + secs(900), is_refused: true }
    );
    let later = now + secs(900);
    let trial = selector.pick(None, later).unwrap();
    assert!(selector.pick(None, later).is_none(), "one trial request at a time");
    assert!(!selector.stats[0].count_accepted(now + secs(1)), "earlier requests do not end the trial");
    selector.record_failed_check(FIRST, true, later);
    drop(trial);
    assert_eq!(
        selector.capacity(later),
        CredentialCapacity::OutOfRotation { until: later + secs(900), is_refused: true }
    );
    let again = later + secs(900);
    let trial = selector.pick(None, again).unwrap();
    assert!(selector.stats[0].count_accepted(again), "the end of the trial wakes the waiters");
    assert!(selector.pick(None, again).is_some());
    drop(trial);
    assert_eq!(selector.drain_events().last(), Some(&CredentialEvent::Returned { credential: 0 }));
}

fn suspected_refusal(client: u64, path: u64) -> CredentialError {
    CredentialError::SuspectedRefusal(RequestFingerprints { client, path, request: path << 8 })
}

fn is_credential_refused(selector: &CredentialSelector, now: Instant) -> bool {
    matches!(selector.capacity(now), CredentialCapacity::OutOfRotation { is_refused: true, .. })
}

/// C3: without a check, evidence from different clients over different paths withdraws a credential if one request
/// worked before
#[test]
fn independent_evidence_refuses_a_credential() {
    let (mut selector, now) = selector(&[(5, None)]);
    for path in 0..100 {
        selector.record_error(FIRST, suspected_refusal(1, path), now);
    }
    assert!(!is_credential_refused(&selector, now), "one client alone");
    selector.record_error(FIRST, suspected_refusal(2, 1000), now);
    assert!(!is_credential_refused(&selector, now), "none of these requests was accepted before");
    selector.stats[0].record_accepted_request(7 << 8);
    selector.record_error(FIRST, suspected_refusal(1, 7), now);
    assert!(is_credential_refused(&selector, now));
}

/// C3: an accepted request clears earlier evidence, and one piece of evidence does not end a trial
#[test]
fn an_accepted_request_clears_evidence_and_a_trial_survives_one_suspicion() {
    let (mut selector, now) = selector(&[(5, None)]);
    (1..=3).for_each(|path| selector.stats[0].record_accepted_request(path << 8));
    for _ in 0..20 {
        selector.record_error(FIRST, suspected_refusal(1, 1), now);
        selector.record_error(FIRST, suspected_refusal(2, 2), now);
        selector.stats[0].count_accepted(now);
        selector.record_error(FIRST, suspected_refusal(3, 3), now);
        assert!(!is_credential_refused(&selector, now));
        selector.stats[0].count_accepted(now);
    }
    selector.record_failed_check(FIRST, true, now);
    let later = now + secs(900);
    selector.record_error(FIRST, suspected_refusal(1, 1), later);
    assert_eq!(selector.state(0, later), CredentialState::OnTrial);
    selector.record_error(FIRST, suspected_refusal(2, 2), later);
    selector.record_error(FIRST, suspected_refusal(2, 3), later);
    assert!(is_credential_refused(&selector, later));
}

/// C3: if the gateway checks, evidence marks a suspect, and suffices only after an inconclusive check
#[test]
fn a_check_takes_precedence_over_evidence() {
    let (selector, now) = selector(&[(5, None), (5, None)]);
    let suspects = Arc::new(SuspectCredentials::new(2));
    let mut selector = selector.with_suspects(Some(Arc::clone(&suspects)));
    selector.stats[0].record_accepted_request(1 << 8);
    let suspect_three_times = |selector: &mut CredentialSelector| {
        (1..=3).for_each(|n| selector.record_error(FIRST, suspected_refusal(n, n), now))
    };
    suspect_three_times(&mut selector);
    assert_eq!(suspects.drain_marks(), [FIRST]);
    assert_eq!(selector.state(0, now), CredentialState::InUse);
    // The check found the credential accepted, so earlier evidence is void.
    selector.stats[0].count_accepted(now);
    suspect_three_times(&mut selector);
    assert_eq!(selector.state(0, now), CredentialState::InUse);
    selector.record_failed_check(FIRST, false, now);
    assert!(matches!(selector.state(0, now), CredentialState::Refused(_)));
    selector.record_failed_check(SECOND, false, now);
    assert_eq!(selector.state(1, now), CredentialState::InUse, "an inconclusive check alone is no refusal");
}

/// S5, C3: after a dirty restart a published exclusion holds for at least its time, and the tickets are the counts
#[test]
fn a_rebuild_keeps_exclusions() {
    let (mut selector, now) = selector(&[(1, None), (1, None)]);
    let ticket = selector.pick(None, now).unwrap();
    selector.record_error(FIRST, throttled(9), now);
    selector.record_failed_check(SECOND, true, now);
    selector.entries = vec![CredentialEntry::default(); 2];
    selector.rebuild();
    assert_eq!(
        selector.capacity(now),
        CredentialCapacity::OutOfRotation { until: now + secs(9), is_refused: false }
    );
    assert!(selector.pick(None, now + secs(9)).is_none(), "its only slot is in use");
    drop(ticket);
    assert_eq!(selector.pick(None, now + secs(9)).unwrap().id(), FIRST);
    assert_eq!(selector.state(1, now + secs(900)), CredentialState::OnTrial);
}
