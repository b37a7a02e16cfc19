//! The controller in a simulated queue, its bounds, and its fall.

use proptest::prelude::*;

use super::*;
use crate::shedding::class_ladder::ClassPresence;
use crate::shedding::fair_share::ClassCosts;

const DWELL: Duration = Duration::from_secs(2);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn waiting(wait: Duration) -> CursorInput {
    CursorInput { wait: Some(wait), expected: Some(wait), pressure: None }
}

const IDLE: CursorInput = CursorInput { wait: None, expected: None, pressure: None };

fn of_process(target: Duration, value: f64) -> Cursor {
    Cursor::new(CursorTarget::of_process(target, DWELL), value)
}

/// All traffic is of class normal.
fn normal() -> ClassLadder {
    let costs = [0.0, 1.0, 0.0].map(|total| ClassCosts { total, ..ClassCosts::default() });
    ClassPresence::default().ladder(&costs, [0; CLASSES], Duration::ZERO)
}

/// A queue in steps of a millisecond. All requests are of class normal; `load` is the arrivals in units of the capacity.
struct Queue {
    wait: f64,
    load: f64,
    wait_max: f64,
}

impl Queue {
    fn run(&mut self, cursor: f64, period: Duration) {
        let cut = (cursor - 1.0).clamp(0.0, 1.0);
        let growth = self.load * (1.0 - cut) - 1.0;
        for _ in 0..period.as_millis() {
            self.wait = (self.wait + growth * 1e-3).clamp(0.0, self.wait_max);
        }
    }
}

/// X11: under constant overload the cursor settles at the share that must be cut and stays within 20 % of it
#[test]
fn the_cursor_settles_at_the_excess() {
    for (target, load) in [20, 100, 500, 5_000].into_iter().zip([1.3_f64, 2.0, 4.0, 12.0].into_iter().cycle())
    {
        for (period, load) in [(100, load), (250, load.min(4.0))] {
            let of_process = CursorTarget::of_process(ms(target), DWELL);
            let is_short = target <= 100;
            let mut cursor =
                Cursor::new(if is_short { of_process } else { CursorTarget::of_queue(ms(target)) }, 0.0);
            let mut queue = Queue { wait: 0.0, load, wait_max: (2.0 * ms(target).as_secs_f64()).max(1.0) };
            let ideal = 2.0 - 1.0 / load;
            for second in 0..120 {
                for _ in 0..(1000 / period) {
                    queue.run(cursor.value(), ms(period));
                    cursor.update(waiting(Duration::from_secs_f64(queue.wait)), ms(period), &normal());
                    let off = (cursor.value() - ideal).abs() / ideal;
                    assert!(second < 60 || off < 0.2, "{target} ms, {load}, {period} ms: {}", cursor.value());
                }
            }
        }
    }
}

/// X11: at four times the capacity a queue with a target of half its length does not become full
#[test]
fn the_cursor_is_faster_than_the_queue() {
    for load in [2.0, 4.0, 8.0] {
        let mut cursor = Cursor::new(CursorTarget::of_queue(ms(1_000)), 0.0);
        let mut queue = Queue { wait: 0.0, load, wait_max: 60.0 };
        let mut longest = 0.0_f64;
        for _ in 0..300 {
            queue.run(cursor.value(), ms(100));
            cursor.update(waiting(Duration::from_secs_f64(queue.wait)), ms(100), &normal());
            longest = longest.max(queue.wait);
        }
        assert!(longest < 2.0, "{load}: {longest} s");
    }
}

/// X11: the cursor moves in bounded steps to its maximum, which leaves a part of the highest class, and does not wind up
#[test]
fn the_cursor_does_not_wind_up() {
    for (ladder, most) in [(ClassLadder::ALL, CURSOR_MAX), (normal(), 2.0)] {
        let mut cursor = of_process(ms(20), 0.0);
        let mut before = 0.0;
        for _ in 0..1_000 {
            let after = ladder.steps(cursor.update(waiting(Duration::from_secs(60)), ms(100), &ladder));
            assert!(after - before <= STEP_MAX + 1e-9);
            before = after;
        }
        assert!((cursor.value() - most).abs() < 1e-9);
        assert!(cursor.update(IDLE, ms(100), &ladder) < most, "it falls with the first update");
    }
}

/// X11, X2: at three quarters of the target and below, the cursor falls to 0 within the dwell time, and not at once
#[test]
fn the_cursor_falls_within_the_dwell_time() {
    let calm = CursorInput { pressure: Some(-0.25), ..waiting(ms(15)) };
    for input in [IDLE, waiting(Duration::ZERO), waiting(ms(15)), calm] {
        for (period, value) in [(20, CURSOR_MAX), (100, CURSOR_MAX), (250, 1.4), (100, 0.02)] {
            let mut cursor = of_process(ms(20), value);
            cursor.update(waiting(ms(60)), ms(period), &ClassLadder::ALL);
            let mut values = vec![cursor.value()];
            for _ in 0..DWELL.as_millis() as u64 / period {
                values.push(cursor.update(input, ms(period), &ClassLadder::ALL));
            }
            assert!(values.is_sorted_by(|before, after| before >= after), "{period}: {values:?}");
            assert!(values[values.len() - 1] <= 0.0, "{period}: {values:?}");
            assert!(values[values.len() / 2] > 0.0, "{period}: {values:?}");
        }
    }
}

/// X11: a dwell time of 0 ends the cursor with the first update without an overload
#[test]
fn without_a_dwell_time_the_cursor_ends_at_once() {
    let mut cursor = Cursor::new(CursorTarget::of_process(ms(20), Duration::ZERO), 1.4);
    assert!(cursor.update(waiting(ms(60)), ms(100), &ClassLadder::ALL) > 1.0);
    assert!(cursor.update(IDLE, ms(100), &ClassLadder::ALL) <= 0.0);
}

/// X2: pressure moves the cursor even if nothing waits
#[test]
fn pressure_moves_the_cursor() {
    let mut cursor = of_process(ms(20), 0.0);
    let input = CursorInput { pressure: Some(0.5), ..waiting(ms(1)) };
    for _ in 0..20 {
        cursor.update(input, ms(100), &ClassLadder::ALL);
    }
    assert!(cursor.value() > 0.5, "{}", cursor.value());
}

/// X11: a pressure below its threshold raises no cursor of 0, whatever the start of the wait is, and one above does
#[test]
fn pressure_below_its_threshold_raises_nothing() {
    for target in [CursorTarget::of_queue(ms(20_000)), CursorTarget::of_process(ms(20), DWELL)] {
        let mut cursor = Cursor::new(target, 0.0);
        let mut after = |pressure| {
            cursor.update(
                CursorInput { pressure: Some(pressure), ..waiting(ms(1)) },
                ms(100),
                &ClassLadder::ALL,
            )
        };
        assert!([-0.6, -0.4, -0.1, -0.02, -0.3, 0.0].into_iter().all(|pressure| after(pressure) <= 0.0));
        let started = after(0.02);
        assert!(started > 0.0 && started < 0.05, "{started}: no step of the error");
    }
}

proptest! {
    /// X11: whatever is measured, the cursor stays in its range
    #[test]
    fn the_cursor_stays_in_its_range(
        target in 1_u64..60_000,
        is_queue in any::<bool>(),
        inputs in prop::collection::vec((prop::option::of(0_u64..600_000), prop::option::of(-1e9..1e9), 0_u64..5_000), 1..200),
    ) {
        let target = ms(target);
        let of_process = CursorTarget::of_process(target, DWELL);
        let mut cursor = Cursor::new(if is_queue { CursorTarget::of_queue(target) } else { of_process }, 7.0);
        for (wait, pressure, period) in inputs {
            let after = cursor.update(CursorInput { wait: wait.map(ms), expected: wait.map(ms), pressure }, ms(period), &ClassLadder::ALL);
            prop_assert!((0.0..=CURSOR_MAX).contains(&after), "{after}");
        }
    }

    /// X11, X2: noise at the target raises a cursor of 0 at most once in each dwell time; only an input above the target does
    #[test]
    fn noise_at_the_target_does_not_make_the_cursor_flap(
        noise in prop::collection::vec((12_u64..28, -0.4..0.4_f64), 50..400),
    ) {
        let mut cursor = of_process(ms(20), 0.0);
        let (mut now, mut last) = (Duration::ZERO, None::<Duration>);
        for (wait, pressure) in noise {
            now += ms(100);
            let before = cursor.value();
            let input = CursorInput { pressure: Some(pressure), ..waiting(ms(wait)) };
            let after = cursor.update(input, ms(100), &ClassLadder::ALL);
            if before <= 0.0 && after > 0.0 {
                prop_assert!(wait > 20 || pressure > 0.0, "{wait} {pressure}");
                prop_assert!(last.is_none_or(|last| now - last >= DWELL), "{last:?} {now:?}");
                last = Some(now);
            }
        }
    }

    /// X11, X2: after any overload the cursor is 0 within the dwell time of the last input that needs it
    #[test]
    fn any_overload_ends_within_the_dwell_time(
        before in prop::collection::vec((0_u64..200, -1.0..2.0_f64), 1..100),
        after in prop::collection::vec((0_u64..=15, -3.0..-0.25_f64), 20),
    ) {
        let mut cursor = of_process(ms(20), 0.0);
        let mut update = |(wait, pressure): (u64, f64)| {
            cursor.update(CursorInput { pressure: Some(pressure), ..waiting(ms(wait)) }, ms(100), &ClassLadder::ALL)
        };
        before.into_iter().for_each(|input| {
            update(input);
        });
        let values: Vec<f64> = after.into_iter().map(&mut update).collect();
        prop_assert!(values[19] <= 0.0, "{values:?}");
    }
}
