//! The controller in a simulated queue, and its bounds.

use proptest::prelude::*;

use super::*;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn waiting(wait: Duration) -> CursorInput {
    CursorInput { wait: Some(wait), pressure: None }
}

const IDLE: CursorInput = CursorInput { wait: None, pressure: None };

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
            let mut cursor = Cursor::new(ms(target), 0.0);
            let mut queue = Queue { wait: 0.0, load, wait_max: (2.0 * ms(target).as_secs_f64()).max(1.0) };
            let ideal = 2.0 - 1.0 / load;
            for second in 0..120 {
                for _ in 0..(1000 / period) {
                    queue.run(cursor.value(), ms(period));
                    cursor.update(waiting(Duration::from_secs_f64(queue.wait)), ms(period));
                    let off = (cursor.value() - ideal).abs() / ideal;
                    assert!(second < 60 || off < 0.2, "{target} ms, {load}, {period} ms: {}", cursor.value());
                }
            }
        }
    }
}

/// X11: the cursor moves in bounded steps to its maximum, which leaves a part of the highest class, and does not wind up
#[test]
fn the_cursor_does_not_wind_up() {
    let mut cursor = Cursor::new(ms(20), 0.0);
    for _ in 0..1_000 {
        let before = cursor.value();
        let after = cursor.update(waiting(Duration::from_secs(60)), ms(100));
        assert!(after - before <= STEP_MAX && after <= CURSOR_MAX);
    }
    assert!((cursor.value() - CURSOR_MAX).abs() < 1e-9);
    let first = cursor.update(IDLE, ms(100));
    assert!(first < CURSOR_MAX, "it falls with the first update");
}

/// X11: without a wait the cursor falls to 0 within six seconds, and an unknown input has no effect of its own
#[test]
fn the_cursor_decays() {
    for input in [IDLE, waiting(Duration::ZERO), CursorInput { pressure: Some(-4.0), ..IDLE }] {
        let mut cursor = Cursor::new(ms(20), CURSOR_MAX);
        for _ in 0..60 {
            cursor.update(input, ms(100));
        }
        assert!(cursor.value() < 1e-9, "{}", cursor.value());
    }
}

/// X2: pressure moves the cursor even if nothing waits
#[test]
fn pressure_moves_the_cursor() {
    let mut cursor = Cursor::new(ms(20), 0.0);
    let input = CursorInput { wait: Some(ms(1)), pressure: Some(0.5) };
    assert!(cursor.is_by_pressure(input) && !cursor.is_by_pressure(waiting(ms(1))));
    for _ in 0..20 {
        cursor.update(input, ms(100));
    }
    assert!(cursor.value() > 0.5, "{}", cursor.value());
}

proptest! {
    /// X11: whatever is measured, the cursor stays in its range and each step is bounded
    #[test]
    fn the_cursor_stays_in_its_range(
        target in 1_u64..60_000,
        inputs in prop::collection::vec((prop::option::of(0_u64..600_000), prop::option::of(-1e9..1e9), 0_u64..5_000), 1..200),
    ) {
        let mut cursor = Cursor::new(ms(target), 7.0);
        for (wait, pressure, period) in inputs {
            let before = cursor.value();
            let after = cursor.update(CursorInput { wait: wait.map(ms), pressure }, ms(period));
            prop_assert!((0.0..=CURSOR_MAX).contains(&after), "{after}");
            prop_assert!((after - before).abs() <= STEP_MAX + 1e-9);
        }
    }
}
