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

fn signs(limits: &[(usize, Option<&str>)]) -> Arc<[CredentialSigns]> {
    let one = |(i, (max, group)): (usize, &(usize, Option<&str>))| {
        CredentialSigns::of(&PooledCredential {
            name: format!("c{i}"),
            identity: Identity::Header { name: "x".to_owned(), value: Secret::new(format!("{i}")) },
            max_concurrent: NonZeroUsize::new(*max).unwrap(),
            quota_group: group.map(str::to_owned),
        })
    };
    limits.iter().enumerate().map(one).collect()
}

fn roster(limits: &[(usize, Option<&str>)]) -> (Roster, Instant) {
    let gate = Arc::new(GateShared::new(|| {}));
    (Roster::new(&signs(limits), &gate, CredentialPoolConfig::default()), clock::now())
}

const FIRST: CredentialId = CredentialId(0);
const SECOND: CredentialId = CredentialId(1);

fn throttled(seconds: u64) -> Setback {
    Setback::Throttled(Some(secs(seconds)))
}

/// C3, P3: the least loaded by its own limit, equals in turn, never over a limit, and a place given back is free
#[test]
fn the_least_loaded_is_picked_up_to_its_limit() {
    let (mut roster, now) = roster(&[(1, None), (3, None)]);
    let mut held: Vec<CredentialTicket> = (0..9).map_while(|_| roster.pick(None, now)).collect();
    let mut picks: Vec<usize> = held.iter().map(|ticket| ticket.id().0).collect();
    picks.sort_unstable();
    assert_eq!(picks, [0, 1, 1, 1]);
    assert_eq!(roster.room(now), Room::Busy { next: None });
    held.retain(|ticket| ticket.id() == SECOND);
    assert_eq!(roster.pick(None, now).unwrap().id(), FIRST);
    let (mut even, now) = self::roster(&[(2, None), (2, None)]);
    let turns: Vec<usize> = (0..4).map(|_| even.pick(None, now).unwrap().id().0).collect();
    assert_eq!(turns, [0, 1, 0, 1], "idle ones take turns");
}

/// C3: a later, shorter Retry-After does not shorten the time (others keep the first, or the last)
#[test]
fn a_cool_down_is_the_longest_that_was_asked_for() {
    let (mut roster, now) = roster(&[(1, None)]);
    roster.set_back(FIRST, throttled(30), now);
    roster.set_back(FIRST, throttled(2), now + secs(1));
    assert_eq!(roster.room(now + secs(10)), Room::Out { until: now + secs(30), is_refused: false });
    roster.set_back(FIRST, throttled(60), now + secs(5));
    assert_eq!(roster.room(now + secs(31)), Room::Out { until: now + secs(65), is_refused: false });
    assert_eq!(roster.room(now + secs(65)), Room::Free);
}

/// C3: what was asked for is capped, what was not has a default, and nothing is nothing
#[test]
fn a_cool_down_is_capped_and_has_a_default() {
    let until = |asked| {
        let (mut roster, now) = roster(&[(1, None)]);
        roster.set_back(FIRST, Setback::Throttled(asked), now);
        match roster.room(now) {
            Room::Out { until, .. } => until.saturating_duration_since(now),
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
    let (mut roster, now) = roster(&[(1, Some("a")), (1, Some("a")), (1, Some("b")), (1, None)]);
    roster.set_back(SECOND, throttled(9), now);
    let picked: Vec<usize> =
        std::iter::from_fn(|| roster.pick(None, now).map(|ticket| (ticket.id().0, ticket)))
            .take(2)
            .map(|(id, ticket)| {
                std::mem::forget(ticket);
                id
            })
            .collect();
    assert_eq!(picked, [2, 3]);
    assert_eq!(roster.room(now), Room::Busy { next: Some(now + secs(9)) });
    let turns = roster.take_turns();
    assert_eq!(turns.len(), 2, "{turns:?}");
    roster.set_back(FIRST, Setback::Refused, now);
    assert_eq!(roster.room(now + secs(9)), Room::Free, "a refusal is one key's, not the account's");
}

/// C3: a refused credential is tried again by one request at a time, until one is accepted
#[test]
fn a_refused_credential_comes_back_on_trial() {
    let (mut roster, now) = roster(&[(5, None)]);
    roster.set_back(FIRST, Setback::Refused, now);
    assert_eq!(roster.room(now), Room::Out { until: now + secs(900), is_refused: true });
    let later = now + secs(900);
    let trial = roster.pick(None, later).unwrap();
    assert!(roster.pick(None, later).is_none(), "one at a time");
    assert!(!roster.signs[0].accept(now + secs(1)), "what was accepted before says nothing of the trial");
    roster.set_back(FIRST, Setback::Refused, later);
    drop(trial);
    assert_eq!(roster.room(later), Room::Out { until: later + secs(900), is_refused: true });
    let again = later + secs(900);
    let trial = roster.pick(None, again).unwrap();
    assert!(roster.signs[0].accept(again), "whoever waits is to be served");
    assert!(roster.pick(None, again).is_some());
    drop(trial);
    assert_eq!(roster.take_turns().last(), Some(&RosterTurn::CameBack { credential: 0 }));
}

/// C3: what may be the request's own fault is held against a credential only in a row, without a success between
#[test]
fn doubts_need_company() {
    let (mut roster, now) = roster(&[(5, None)]);
    for _ in 0..20 {
        roster.set_back(FIRST, Setback::Doubted, now);
        roster.set_back(FIRST, Setback::Doubted, now);
        assert_eq!(roster.room(now), Room::Free);
        roster.signs[0].accept(now);
    }
    (0..3).for_each(|_| roster.set_back(FIRST, Setback::Doubted, now));
    assert!(matches!(roster.room(now), Room::Out { is_refused: true, .. }));
    let later = now + secs(900);
    roster.set_back(FIRST, Setback::Doubted, later);
    assert!(matches!(roster.room(later), Room::Out { .. }), "on trial one is enough");
}

/// S5, C3: found dirty, who was out as published is out, for no shorter time, and the tickets are the counts
#[test]
fn a_rebuild_is_no_amnesty() {
    let (mut roster, now) = roster(&[(1, None), (1, None)]);
    let held = roster.pick(None, now).unwrap();
    roster.set_back(FIRST, throttled(9), now);
    roster.set_back(SECOND, Setback::Refused, now);
    roster.members = vec![Member::default(); 2];
    roster.rebuild();
    assert_eq!(roster.room(now), Room::Out { until: now + secs(9), is_refused: false });
    assert!(roster.pick(None, now + secs(9)).is_none(), "the one place is taken");
    drop(held);
    assert_eq!(roster.pick(None, now + secs(9)).unwrap().id(), FIRST);
    assert_eq!(roster.standing(1, now + secs(900)), CredentialStanding::OnTrial);
}
