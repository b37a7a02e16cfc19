//! The pace of a queue (P3): known when it can be known, and then right.

use proptest::prelude::*;

use super::*;
use crate::clock;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A queue that somebody always waits in, drained at these distances.
fn drained(width: usize, gaps_ms: impl IntoIterator<Item = u64>) -> (Drain, Instant) {
    let (mut drain, mut now) = (Drain::new(width), clock::now());
    drain.waits(now);
    for gap in gaps_ms {
        now += ms(gap);
        drain.handed(now);
    }
    (drain, now)
}

/// P3: nobody is refused by a pace that was guessed from a few hand-overs
#[test]
fn a_pace_is_unknown_until_a_sample_is_whole() {
    let (drain, now) = drained(1, [10; 7]);
    assert_eq!(drain.pace(now), None);
    let (drain, now) = drained(1, [10; 8]);
    assert_eq!(drain.pace(now), Some(ms(10)));
    let (drain, now) = drained(50, [10; 99]);
    assert_eq!(drain.pace(now), None, "twice the gate's width");
    assert_eq!(Drain::new(1).pace(clock::now()), None);
}

/// P3: requests that began together end together: the silence between two such waves is their rhythm
#[test]
fn waves_do_not_look_like_standstill() {
    for width in [2_usize, 10, 50] {
        let wave = |_| std::iter::once(100).chain(std::iter::repeat_n(0, width - 1));
        let (drain, now) = drained(width, (0..9).flat_map(wave));
        let pace = ms(100).div_f64(width as f64);
        for silence_ms in [0, 50, 99, 100] {
            let seen = drain.pace(now + ms(silence_ms)).unwrap();
            let error = seen.as_secs_f64() / pace.as_secs_f64();
            assert!((0.99..1.01).contains(&error), "{width} places, {silence_ms} ms: {seen:?} not {pace:?}");
        }
    }
}

/// P3: an upstream that stands still drains nothing, and that is seen without a single hand-over
#[test]
fn a_standstill_slows_the_pace() {
    let (drain, now) = drained(2, [10; 40]);
    assert_eq!(drain.pace(now), Some(ms(10)));
    let after = |wait_ms| drain.pace(now + ms(wait_ms)).unwrap();
    assert!(after(1_000) > ms(25) && after(10_000) > after(1_000) * 5, "{:?}", after(10_000));
}

/// P3: a change of pace is known after two samples
#[test]
fn a_new_pace_replaces_the_old_one() {
    let (mut drain, mut now) = drained(4, [100; 20]);
    assert_eq!(drain.pace(now), Some(ms(100)));
    for _ in 0..16 {
        now += ms(1);
        drain.handed(now);
    }
    assert!(drain.pace(now).unwrap() <= ms(51));
    for _ in 0..8 {
        now += ms(1);
        drain.handed(now);
    }
    assert_eq!(drain.pace(now), Some(ms(1)));
}

/// P3: only the time counts in which somebody waits, and what is old is forgotten
#[test]
fn an_empty_queue_says_nothing() {
    let (mut drain, mut now) = drained(1, [10; 8]);
    drain.emptied(now);
    now += Duration::from_secs(9);
    assert_eq!(drain.pace(now), Some(ms(10)), "nobody waited, so nothing stood still");
    drain.waits(now);
    now += ms(10);
    drain.handed(now);
    assert_eq!(drain.pace(now), Some(ms(10)));
    drain.emptied(now);
    now += FORGET_AFTER + ms(1);
    drain.waits(now);
    assert_eq!(drain.pace(now), None);
}

proptest! {
    /// P3: the pace is never beyond the shortest and the longest gap it was measured over
    #[test]
    fn a_pace_lies_within_what_was_measured(gaps in prop::collection::vec(0u64..500, 20..200), width in 1usize..10) {
        let (shortest, longest) = (*gaps.iter().min().unwrap(), *gaps.iter().max().unwrap());
        let (drain, now) = drained(width, gaps);
        let pace = drain.pace(now).unwrap();
        prop_assert!((ms(shortest)..=ms(longest)).contains(&pace), "{:?}", pace);
    }
}
