//! The measured throughput of a queue (P3): unknown at first, then correct.

use proptest::prelude::*;

use super::*;
use crate::clock;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A queue with waiters at all times and grants at these distances.
fn with_grants(width: usize, gaps_ms: impl IntoIterator<Item = u64>) -> (QueueThroughput, Instant) {
    let (mut throughput, mut now) = (QueueThroughput::new(width), clock::now());
    throughput.record_waiting(now);
    for gap in gaps_ms {
        now += ms(gap);
        throughput.record_grant(now);
    }
    (throughput, now)
}

/// P3: no request is refused because of an interval guessed from a few grants
#[test]
fn the_interval_is_unknown_until_a_sample_is_full() {
    let (throughput, now) = with_grants(1, [10; 7]);
    assert_eq!(throughput.grant_interval(now), None);
    let (throughput, now) = with_grants(1, [10; 8]);
    assert_eq!(throughput.grant_interval(now), Some(ms(10)));
    let (throughput, now) = with_grants(50, [10; 99]);
    assert_eq!(throughput.grant_interval(now), None, "twice the gate's width");
    assert_eq!(QueueThroughput::new(1).grant_interval(clock::now()), None);
}

/// P3: requests that began together end together: the pause between two such waves is their rhythm
#[test]
fn a_pause_between_waves_is_no_standstill() {
    for width in [2_usize, 10, 50] {
        let wave = |_| std::iter::once(100).chain(std::iter::repeat_n(0, width - 1));
        let (throughput, now) = with_grants(width, (0..9).flat_map(wave));
        let pace = ms(100).div_f64(width as f64);
        for pause_ms in [0, 50, 99, 100] {
            let seen = throughput.grant_interval(now + ms(pause_ms)).unwrap();
            let ratio = seen.as_secs_f64() / pace.as_secs_f64();
            assert!((0.99..1.01).contains(&ratio), "{width} permits, {pause_ms} ms: {seen:?} not {pace:?}");
        }
    }
}

/// P3: a stalled upstream grants nothing, which is detected without a further grant
#[test]
fn a_standstill_lengthens_the_interval() {
    let (throughput, now) = with_grants(2, [10; 40]);
    assert_eq!(throughput.grant_interval(now), Some(ms(10)));
    let after = |wait_ms| throughput.grant_interval(now + ms(wait_ms)).unwrap();
    assert!(after(1_000) > ms(25) && after(10_000) > after(1_000) * 5, "{:?}", after(10_000));
}

/// P3: a change of the interval is detected after two samples
#[test]
fn a_new_interval_replaces_the_old_one() {
    let (mut throughput, mut now) = with_grants(4, [100; 20]);
    assert_eq!(throughput.grant_interval(now), Some(ms(100)));
    for _ in 0..16 {
        now += ms(1);
        throughput.record_grant(now);
    }
    assert!(throughput.grant_interval(now).unwrap() <= ms(51));
    for _ in 0..8 {
        now += ms(1);
        throughput.record_grant(now);
    }
    assert_eq!(throughput.grant_interval(now), Some(ms(1)));
}

/// P3: only time with waiters counts, and an old measurement is discarded
#[test]
fn an_empty_queue_is_not_measured() {
    let (mut throughput, mut now) = with_grants(1, [10; 8]);
    throughput.record_empty(now);
    now += Duration::from_secs(9);
    assert_eq!(throughput.grant_interval(now), Some(ms(10)), "no request waited, so nothing stalled");
    throughput.record_waiting(now);
    now += ms(10);
    throughput.record_grant(now);
    assert_eq!(throughput.grant_interval(now), Some(ms(10)));
    throughput.record_empty(now);
    now += RESET_AFTER + ms(1);
    throughput.record_waiting(now);
    assert_eq!(throughput.grant_interval(now), None);
}

proptest! {
    /// P3: the interval lies between the shortest and the longest measured gap
    #[test]
    fn a_pace_lies_within_what_was_measured(gaps in prop::collection::vec(0u64..500, 20..200), width in 1usize..10) {
        let (shortest, longest) = (*gaps.iter().min().unwrap(), *gaps.iter().max().unwrap());
        let (throughput, now) = with_grants(width, gaps);
        let pace = throughput.grant_interval(now).unwrap();
        prop_assert!((ms(shortest)..=ms(longest)).contains(&pace), "{:?}", pace);
    }
}
