//! The rules for using a store's time in signatures.

use slog::{Discard, o};
use tidegate_actors::clock;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const PLAIN: ClockOffset = ClockOffset(0);

fn seconds(seconds: i64) -> ClockOffset {
    ClockOffset(seconds * 1000)
}

fn confirmed(used: ClockOffset, measured: impl Into<Option<ClockOffset>>) -> TimeRefusal {
    TimeRefusal { used, measured: measured.into(), is_confirmed: true }
}

fn store_clock(is_trusted: bool) -> StoreClock {
    StoreClock::new(is_trusted, "b", "store:443", &Logger::root(Discard, o!()))
}

/// A2: the store's time is used at once, for all signers, and only while the clocks differ
#[test]
fn an_offset_is_learnt_confirmed_and_forgotten() {
    let (store, t0, hour) = (store_clock(true), clock::now(), seconds(3600));
    assert_eq!((store.offset(t0), store.snapshot(t0), store.is_in_episode()), (PLAIN, None, false));
    assert_eq!(store.report_refusal(confirmed(PLAIN, hour), t0).retry_offset, Some(hour));
    assert_eq!((store.offset(t0), store.is_in_episode()), (hour, true));
    // Another running request measures the same.
    assert_eq!(
        store.report_refusal(confirmed(PLAIN, seconds(3601)), t0 + MINUTE).retry_offset,
        Some(seconds(3601))
    );
    let snapshot = store.snapshot(t0 + MINUTE).unwrap();
    assert_eq!((snapshot.began, snapshot.obstacle), (t0, None));
    // Responses confirm the offset, with a date or without, as long as they arrive.
    for minutes in [14, 28, 42] {
        store.report_acceptance(hour, (minutes == 14).then_some(hour), t0 + MINUTE * minutes);
        assert_eq!(store.offset(t0 + MINUTE * (minutes + 14)), seconds(3601), "{minutes}");
    }
    // The clock of the gateway's host was corrected.
    store.report_acceptance(seconds(3601), Some(seconds(2)), t0 + MINUTE * 43);
    assert_eq!((store.offset(t0 + MINUTE * 43), store.is_in_episode()), (PLAIN, false));
}

/// A2: an episode without confirmations ends
#[test]
fn an_offset_expires() {
    let (store, t0, hour) = (store_clock(true), clock::now(), seconds(-3600));
    store.report_refusal(confirmed(PLAIN, hour), t0);
    assert_eq!(store.offset(t0 + MINUTE * 14), hour);
    assert_eq!((store.offset(t0 + MINUTE * 15), store.snapshot(t0 + MINUTE * 15)), (PLAIN, None));
}

/// A2: the refusal of the offset shows that the clock was corrected in the meantime
#[test]
fn a_refused_offset_is_replaced_by_the_plain_clock() {
    let (store, t0, hour) = (store_clock(true), clock::now(), seconds(3600));
    store.report_refusal(confirmed(PLAIN, hour), t0);
    assert_eq!(store.report_refusal(confirmed(hour, seconds(1)), t0).retry_offset, Some(PLAIN));
    store.report_acceptance(PLAIN, Some(seconds(1)), t0);
    assert_eq!((store.offset(t0), store.snapshot(t0)), (PLAIN, None));
}

/// A2, X9: a date that is untrusted, absurd or missing is never used; the obstacle expires
#[test]
fn an_obstacle_keeps_the_plain_clock() {
    let t0 = clock::now();
    for (is_trusted, measured, obstacle) in [
        (false, Some(seconds(3600)), ClockObstacle::Untrusted),
        (true, None, ClockObstacle::Undated),
        (true, Some(seconds(24 * 3600 + 1)), ClockObstacle::TooFar),
        (true, Some(seconds(-24 * 3600 - 1)), ClockObstacle::TooFar),
        (true, Some(ClockOffset(i64::MIN)), ClockObstacle::TooFar),
        (true, Some(ClockOffset(i64::MAX)), ClockObstacle::TooFar),
        (true, Some(seconds(3)), ClockObstacle::Refused),
    ] {
        let store = store_clock(is_trusted);
        let skew = store.report_refusal(confirmed(PLAIN, measured), t0);
        assert_eq!((skew.retry_offset, skew.is_confirmed), (None, true), "{obstacle:?}");
        assert_eq!(store.offset(t0), PLAIN);
        let snapshot = store.snapshot(t0).unwrap();
        assert_eq!((snapshot.obstacle, snapshot.began), (Some(obstacle), t0));
        assert_eq!(skew.detail, snapshot.to_string());
        assert!(skew.detail.contains("correct the clock"), "{}", skew.detail);
        assert!(store.snapshot(t0 + MINUTE - Duration::from_secs(1)).is_some());
        assert_eq!(store.snapshot(t0 + MINUTE), None, "{obstacle:?}");
        store.report_refusal(confirmed(PLAIN, measured), t0 + MINUTE * 2);
        store.report_acceptance(PLAIN, None, t0 + MINUTE * 2);
        assert_eq!(store.snapshot(t0 + MINUTE * 2), None, "{obstacle:?}: the plain clock works");
    }
    let day = seconds(24 * 3600);
    assert_eq!(store_clock(true).report_refusal(confirmed(PLAIN, day), t0).retry_offset, Some(day));
}

/// A2, R5: a store that refuses its own date is retried at most once a minute
#[test]
fn a_store_that_always_refuses_is_not_retried_each_time() {
    let (store, t0, hour) = (store_clock(true), clock::now(), seconds(3600));
    assert_eq!(store.report_refusal(confirmed(PLAIN, hour), t0).retry_offset, Some(hour));
    assert_eq!(store.report_refusal(confirmed(hour, hour), t0).retry_offset, None);
    assert_eq!(store.offset(t0), PLAIN);
    let mut retries = 0;
    for second in 1..180 {
        let now = t0 + Duration::from_secs(second);
        if let Some(offset) = store.report_refusal(confirmed(store.offset(now), hour), now).retry_offset {
            retries += 1;
            assert_eq!(store.report_refusal(confirmed(offset, hour), now).retry_offset, None);
        }
    }
    assert_eq!(retries, 2, "in three minutes");
    assert_eq!(store.snapshot(t0 + MINUTE * 3).unwrap().began, t0, "one episode");
}

/// A2: a HEAD that may have been refused for its time changes nothing until another signature was accepted
#[test]
fn an_unconfirmed_offset_is_used_once_it_was_accepted() {
    let (t0, hour) = (clock::now(), seconds(3600));
    let guess = |used| TimeRefusal { used, measured: Some(hour), is_confirmed: false };
    let store = store_clock(true);
    assert_eq!(store.report_refusal(guess(PLAIN), t0).retry_offset, Some(hour));
    assert_eq!((store.offset(t0), store.is_in_episode()), (PLAIN, false));
    assert_eq!(store.report_refusal(guess(hour), t0).retry_offset, None, "the time was not the cause");
    store.report_acceptance(hour, Some(seconds(3601)), t0);
    assert_eq!(store.offset(t0), hour);
    assert_eq!(store_clock(false).report_refusal(guess(PLAIN), t0).retry_offset, None);
    // The response of a request that was running during the correction does not set the offset again.
    let corrected = store_clock(true);
    corrected.report_acceptance(hour, Some(seconds(1)), t0);
    corrected.report_acceptance(hour, None, t0);
    assert!(!corrected.is_in_episode());
}

/// A2
#[test]
fn an_offset_converts_between_the_clocks() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_950_000);
    for store in [now + Duration::from_secs(61), now, now - Duration::from_secs(61)] {
        assert_eq!(ClockOffset::between(now, store).applied_to(now), store);
    }
    assert_eq!(ClockOffset::between(now, now - MINUTE).to_string(), "60 s behind the gateway's");
    assert_eq!(
        ClockOffset(i64::MIN).applied_to(SystemTime::UNIX_EPOCH),
        SystemTime::UNIX_EPOCH - Duration::from_millis(1 << 63)
    );
}
