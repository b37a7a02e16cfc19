//! The pace of a queue (P3): known when it can be known, and then right.

use proptest::prelude::*;

use super::*;
use crate::clock;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A queue that somebody always waits in, drained at these distances.
fn with_grants(width: usize, gaps_ms: impl IntoIterator<Item = u64>) -> (QueueThroughput, Instant) {
    let (mut drain, mut now) = (QueueThroughput::new(width), clock::now());
    drain.record_waiting(now);
    for gap in gaps_ms {
        now += ms(gap);
        drain.record_grant(now);
    }
    (drain, now)
}

/// P3: nobody is refused by a pace that was guessed from a few hand-overs
#[test]
fn the_interval_is_unknown_until_a_sample_is_full() {
    let (drain, now) = with_grants(1, [10; 7]);
    assert_eq!(drain.grant_interval(now), None);
    let (drain, now) = with_grants(1, [10; 8]);
    assert_eq!(drain.grant_interval(now), Some(ms(10)));
    let (drain, now) = with_grants(50, [10; 99]);
    assert_eq!(drain.grant_interval(now), None, "twice the gate's width");
    assert_eq!(QueueThroughput::new(1).grant_interval(clock::now()), None);
}

/// P3: requests that began together end together: the silence between two such waves is their rhythm
#[test]
fn waves_are_no_standstill() {
    for width in [2_usize, 10, 50] {
        let wave = |_| std::iter::once(100).chain(std::iter::repeat_n(0, width - 1));
        let (drain, now) = with_grants(width, (0..9).flat_map(wave));
        let pace = ms(100).div_f64(width as f64);
        for silence_ms in [0, 50, 99, 100] {
            let seen = drain.grant_interval(now + ms(silence_ms)).unwrap();
            let error = seen.as_secs_f64() / pace.as_secs_f64();
            assert!((0.99..1.01).contains(&error), "{width} places, {silence_ms} ms: {seen:?} not {pace:?}");
        }
    }
}

/// P3: an upstream that stands still drains nothing, and that is seen without a single hand-over
#[test]
fn a_standstill_lengthens_the_interval() {
    let (drain, now) = with_grants(2, [10; 40]);
    assert_eq!(drain.grant_interval(now), Some(ms(10)));
    let after = |wait_ms| drain.grant_interval(now + ms(wait_ms)).unwrap();
    assert!(after(1_000) > ms(25) && after(10_000) > after(1_000) * 5, "{:?}", after(10_000));
}

/// P3: a change of pace is known after two samples
#[test]
fn a_new_interval_replaces_the_old_one() {
    let (mut drain, mut now) = with_grants(4, [100; 20]);
    assert_eq!(drain.grant_interval(now), Some(ms(100)));
    for _ in 0..16 {
        now += ms(1);
        drain.record_grant(now);
    }
    assert!(drain.grant_interval(now).unwrap() <= ms(51));
    for _ in 0..8 {
        now += ms(1);
        drain.record_grant(now);
    }
    assert_eq!(drain.grant_interval(now), Some(ms(1)));
}

/// P3: only the time counts in which somebody waits, and what is old is forgotten
#[test]
fn an_empty_queue_is_not_measured() {
    let (mut drain, mut now) = with_grants(1, [10; 8]);
    drain.record_empty(now);
    now += Duration::from_secs(9);
    assert_eq!(drain.grant_interval(now), Some(ms(10)), "nobody waited, so nothing stood still");
    drain.record_waiting(now);
    now += ms(10);
    drain.record_grant(now);
    assert_eq!(drain.grant_interval(now), Some(ms(10)));
    drain.record_empty(now);
    now += RESET_AFTER + ms(1);
    drain.record_waiting(now);
    assert_eq!(drain.grant_interval(now), None);
}

proptest! {
    /// P3: the pace is never beyond the shortest and the longest gap it was measured over
    #[test]
    fn a_pace_lies_within_what_was_measured(gaps in prop::collection::vec(0u64..500, 20..200), width in 1usize..10) {
        let (shortest, longest) = (*gaps.iter().min().unwrap(), *gaps.iter().max().unwrap());
        let (drain, now) = with_grants(width, gaps);
        let pace = drain.grant_interval(now).unwrap();
        prop_assert!((ms(shortest)..=ms(longest)).contains(&pace), "{:?}", pace);
    }
}
