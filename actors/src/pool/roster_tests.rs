//! The choice among credentials (C3, P3); behind a bucket's gate it is tested in `queue`.

#[path = "roster_queue_tests.rs"]
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

/// C3, P3: the least loaded by its own limit, equals in turn, never over a limit, and a place given back is free
#[test]
fn the_least_loaded_is_picked_up_to_its_limit() {
    let (mut roster, now) = selector(&[(1, None), (3, None)]);
    let mut held: Vec<CredentialTicket> = (0..9).map_while(|_| roster.pick(None, now)).collect();
    let mut picks: Vec<usize> = held.iter().map(|ticket| ticket.id().0).collect();
    picks.sort_unstable();
    assert_eq!(picks, [0, 1, 1, 1]);
    assert_eq!(roster.capacity(now), CredentialCapacity::Exhausted { next: None });
    held.retain(|ticket| ticket.id() == SECOND);
    assert_eq!(roster.pick(None, now).unwrap().id(), FIRST);
    let (mut even, now) = self::selector(&[(2, None), (2, None)]);
    let turns: Vec<usize> = (0..4).map(|_| even.pick(None, now).unwrap().id().0).collect();
    assert_eq!(turns, [0, 1, 0, 1], "idle ones take turns");
}

/// C3: a later, shorter Retry-After does not shorten the time (others keep the first, or the last)
#[test]
fn a_cool_down_is_the_longest_that_was_asked_for() {
    let (mut roster, now) = selector(&[(1, None)]);
    roster.record_error(FIRST, throttled(30), now);
    roster.record_error(FIRST, throttled(2), now + secs(1));
    assert_eq!(
        roster.capacity(now + secs(10)),
        CredentialCapacity::OutOfRotation { until: now + secs(30), is_refused: false }
    );
    roster.record_error(FIRST, throttled(60), now + secs(5));
    assert_eq!(
        roster.capacity(now + secs(31)),
        CredentialCapacity::OutOfRotation { until: now + secs(65), is_refused: false }
    );
    assert_eq!(roster.capacity(now + secs(65)), CredentialCapacity::Available);
}

/// C3: what was asked for is capped, what was not has a default, and nothing is nothing
#[test]
fn a_cool_down_is_capped_and_has_a_default() {
    let until = |asked| {
        let (mut roster, now) = selector(&[(1, None)]);
        roster.record_error(FIRST, CredentialError::Throttled(asked), now);
        match roster.capacity(now) {
            CredentialCapacity::OutOfRotation { until, .. } => until.saturating_duration_since(now),
            _ => Duration::ZERO,
        }
    };
    assert_eq!(until(Some(Duration::MAX)), secs(600));
    assert_eq!(until(None), secs(5));
    assert_eq!(until(Some(Duration::ZERO)), Duration::ZERO);
}

/// C3: a quota is an account's: its credentials cool down together, others do not
#[test]
fn a_group_cools_down_together() {
    let (mut roster, now) = selector(&[(1, Some("a")), (1, Some("a")), (1, Some("b")), (1, None)]);
    roster.record_error(SECOND, throttled(9), now);
    let picked: Vec<usize> =
        std::iter::from_fn(|| roster.pick(None, now).map(|ticket| (ticket.id().0, ticket)))
            .take(2)
            .map(|(id, ticket)| {
                std::mem::forget(ticket);
                id
            })
            .collect();
    assert_eq!(picked, [2, 3]);
    assert_eq!(roster.capacity(now), CredentialCapacity::Exhausted { next: Some(now + secs(9)) });
    let turns = roster.drain_events();
    assert_eq!(turns.len(), 2, "{turns:?}");
    roster.record_failed_check(FIRST, true, now);
    assert_eq!(
        roster.capacity(now + secs(9)),
        CredentialCapacity::Available,
        "a refusal is one key's, not the account's"
    );
}

/// C3: a refused credential is tried again by one request at a time, until one is accepted
#[test]
fn a_refused_credential_comes_back_on_trial() {
    let (mut roster, now) = selector(&[(5, None)]);
    roster.record_failed_check(FIRST, true, now);
    assert_eq!(
        roster.capacity(now),
        CredentialCapacity::OutOfRotation { until: now + secs(900), is_refused: true }
    );
    let later = now + secs(900);
    let trial = roster.pick(None, later).unwrap();
    assert!(roster.pick(None, later).is_none(), "one at a time");
    assert!(
        !roster.stats[0].count_accepted(now + secs(1)),
        "what was accepted before says nothing of the trial"
    );
    roster.record_failed_check(FIRST, true, later);
    drop(trial);
    assert_eq!(
        roster.capacity(later),
        CredentialCapacity::OutOfRotation { until: later + secs(900), is_refused: true }
    );
    let again = later + secs(900);
    let trial = roster.pick(None, again).unwrap();
    assert!(roster.stats[0].count_accepted(again), "whoever waits is to be served");
    assert!(roster.pick(None, again).is_some());
    drop(trial);
    assert_eq!(roster.drain_events().last(), Some(&CredentialEvent::Returned { credential: 0 }));
}

fn suspected_refusal(client: u64, path: u64) -> CredentialError {
    CredentialError::SuspectedRefusal(RequestFingerprints { client, path, request: path << 8 })
}

fn is_credential_refused(roster: &CredentialSelector, now: Instant) -> bool {
    matches!(roster.capacity(now), CredentialCapacity::OutOfRotation { is_refused: true, .. })
}

/// C3: without a check, answers to different clients over different paths withdraw a credential, one of which worked before
#[test]
fn independent_evidence_refuses_a_credential() {
    let (mut roster, now) = selector(&[(5, None)]);
    for path in 0..100 {
        roster.record_error(FIRST, suspected_refusal(1, path), now);
    }
    assert!(!is_credential_refused(&roster, now), "one client alone, whatever it asks for");
    roster.record_error(FIRST, suspected_refusal(2, 1000), now);
    assert!(!is_credential_refused(&roster, now), "none of these requests ever worked");
    roster.stats[0].record_accepted_request(7 << 8);
    roster.record_error(FIRST, suspected_refusal(1, 7), now);
    assert!(is_credential_refused(&roster, now));
}

/// C3: an accepted request clears the doubts before it, and a trial does not end with one doubt
#[test]
fn doubts_do_not_outlive_an_accepted_request_and_a_trial_outlives_a_doubt() {
    let (mut roster, now) = selector(&[(5, None)]);
    (1..=3).for_each(|path| roster.stats[0].record_accepted_request(path << 8));
    for _ in 0..20 {
        roster.record_error(FIRST, suspected_refusal(1, 1), now);
        roster.record_error(FIRST, suspected_refusal(2, 2), now);
        roster.stats[0].count_accepted(now);
        roster.record_error(FIRST, suspected_refusal(3, 3), now);
        assert!(!is_credential_refused(&roster, now));
        roster.stats[0].count_accepted(now);
    }
    roster.record_failed_check(FIRST, true, now);
    let later = now + secs(900);
    roster.record_error(FIRST, suspected_refusal(1, 1), later);
    assert_eq!(roster.state(0, later), CredentialState::OnTrial);
    roster.record_error(FIRST, suspected_refusal(2, 2), later);
    roster.record_error(FIRST, suspected_refusal(2, 3), later);
    assert!(is_credential_refused(&roster, later));
}

/// C3: where the gateway checks, clients' doubts mark a suspect, and only an inconclusive check lets them decide
#[test]
fn a_check_decides_before_clients_do() {
    let (roster, now) = selector(&[(5, None), (5, None)]);
    let suspects = Arc::new(SuspectCredentials::new(2));
    let mut roster = roster.with_suspects(Some(Arc::clone(&suspects)));
    roster.stats[0].record_accepted_request(1 << 8);
    let doubt_thrice = |roster: &mut CredentialSelector| {
        (1..=3).for_each(|n| roster.record_error(FIRST, suspected_refusal(n, n), now))
    };
    doubt_thrice(&mut roster);
    assert_eq!(suspects.drain_marks(), [FIRST]);
    assert_eq!(roster.state(0, now), CredentialState::InUse);
    // The check found it accepted, so what was doubted before is void.
    roster.stats[0].count_accepted(now);
    doubt_thrice(&mut roster);
    assert_eq!(roster.state(0, now), CredentialState::InUse);
    roster.record_failed_check(FIRST, false, now);
    assert!(matches!(roster.state(0, now), CredentialState::Refused(_)));
    roster.record_failed_check(SECOND, false, now);
    assert_eq!(roster.state(1, now), CredentialState::InUse, "no result is no refusal");
}

/// S5, C3: found dirty, who was out as published is out, for no shorter time, and the tickets are the counts
#[test]
fn a_rebuild_is_no_amnesty() {
    let (mut roster, now) = selector(&[(1, None), (1, None)]);
    let held = roster.pick(None, now).unwrap();
    roster.record_error(FIRST, throttled(9), now);
    roster.record_failed_check(SECOND, true, now);
    roster.entries = vec![CredentialEntry::default(); 2];
    roster.rebuild();
    assert_eq!(
        roster.capacity(now),
        CredentialCapacity::OutOfRotation { until: now + secs(9), is_refused: false }
    );
    assert!(roster.pick(None, now + secs(9)).is_none(), "the one place is taken");
    drop(held);
    assert_eq!(roster.pick(None, now + secs(9)).unwrap().id(), FIRST);
    assert_eq!(roster.state(1, now + secs(900)), CredentialState::OnTrial);
}
