//! The learnt limit in a closed loop with a model of an upstream, on a simulated clock (P7, B3). Each tick is a
//! millisecond.

use std::collections::VecDeque;
use std::num::NonZeroUsize;

use proptest::prelude::*;

use super::*;
use crate::clock;
use crate::pool::adaptive::limit_samples::{LimitLearner, OverloadSignal};
use crate::seeded_rng::SeededRng;

const TICK: Duration = Duration::from_millis(1);
const TIMEOUT_MS: u64 = 1_000;

fn config(min: usize) -> AdaptiveConfig {
    AdaptiveConfig { enabled: true, min: NonZeroUsize::new(min).unwrap(), ..AdaptiveConfig::default() }
}

/// A server that works on `capacity` requests at a time; the others wait in order.
#[derive(Debug, Clone, Copy)]
struct Server {
    capacity: usize,
    service_ms: u64,
    /// Each request takes this percentage of its time more or less.
    spread: u64,
    /// Throttles new requests while it has this many.
    most: usize,
    /// Percentage of requests without an answer.
    lost: u64,
}

const GOOD: Server = Server { capacity: 20, service_ms: 20, spread: 0, most: usize::MAX, lost: 0 };

struct Request {
    began: Instant,
    work_ms: u64,
}

/// Clients that always send, a gate as wide as the limit, and a server.
struct LoadModel {
    learner: LimitLearner,
    server: Server,
    clients: usize,
    requests: VecDeque<Request>,
    now: Instant,
    rng: SeededRng,
}

/// Results of one run.
#[derive(Debug, Default)]
struct RunStats {
    lowest: usize,
    highest: usize,
    served: usize,
    dropped: usize,
}

impl LoadModel {
    fn new(server: Server, clients: usize, max: usize) -> Self {
        let now = clock::now();
        let learner = LimitLearner::new(&config(3), max, now);
        Self { learner, server, clients, requests: VecDeque::new(), now, rng: SeededRng::new(7) }
    }

    fn percent(&mut self) -> u64 {
        self.rng.next_u64() % 100
    }

    fn admit(&mut self, run: &mut RunStats) {
        let free = self.learner.limit().min(self.clients).saturating_sub(self.requests.len());
        for _ in 0..free {
            if self.requests.len() >= self.server.most {
                self.learner.samples().record_drop(self.now - TICK, self.now, OverloadSignal::Throttling);
                run.dropped += 1;
                continue;
            }
            let spread = self.server.service_ms * self.server.spread / 100;
            let work_ms = self.server.service_ms - spread + 2 * spread * self.percent() / 100;
            let work_ms = if self.percent() < self.server.lost { u64::MAX } else { work_ms };
            self.requests.push_back(Request { began: self.now, work_ms });
        }
    }

    fn tick(&mut self, run: &mut RunStats) {
        self.now += TICK;
        let Self { learner, server, requests, now, .. } = self;
        let live = requests.len();
        // Lost requests use no capacity of the server.
        let working = requests.iter_mut().filter(|request| request.work_ms < u64::MAX);
        working.take(server.capacity).for_each(|request| request.work_ms -= 1);
        requests.retain(|request| {
            let age = now.duration_since(request.began);
            if request.work_ms == 0 {
                learner.samples().record_latency(request.began, age, live);
                run.served += 1;
            } else if age >= Duration::from_millis(TIMEOUT_MS) {
                learner.samples().record_drop(request.began, *now, OverloadSignal::Timeout);
                run.dropped += 1;
            }
            request.work_ms > 0 && age < Duration::from_millis(TIMEOUT_MS)
        });
        learner.update(*now);
        self.admit(run);
    }

    fn run(&mut self, seconds: u64) -> RunStats {
        let mut run = RunStats { lowest: usize::MAX, ..RunStats::default() };
        for _ in 0..seconds * 1_000 {
            self.tick(&mut run);
            run.lowest = run.lowest.min(self.learner.limit());
            run.highest = run.highest.max(self.learner.limit());
        }
        run
    }
}

/// P7: the limit finds the upstream's capacity: the capacity is fully used, and few requests wait there
#[test]
fn the_limit_settles_a_little_above_the_capacity() {
    for (capacity, service_ms, spread) in [(20, 20, 0), (8, 50, 30), (40, 10, 50), (4, 300, 30)] {
        let server = Server { capacity, service_ms, spread, ..GOOD };
        let mut model = LoadModel::new(server, 200, 100);
        model.run(30);
        let run = model.run(30);
        assert!(run.lowest >= capacity && run.highest <= capacity * 2 + 2, "{server:?}: {run:?}");
        let possible = 30_000 * capacity / service_ms as usize;
        assert!(run.served >= possible * 95 / 100, "{server:?}: {run:?} of {possible}");
        assert_eq!(run.dropped, 0, "{server:?}");
    }
}

/// P7: the limit follows a capacity that halves, and one that doubles twice
#[test]
fn the_limit_follows_the_capacity() {
    let mut model = LoadModel::new(Server { spread: 20, ..GOOD }, 200, 100);
    model.run(20);
    for capacity in [10, 20, 40] {
        model.server.capacity = capacity;
        model.run(20);
        let run = model.run(20);
        assert!(run.lowest >= capacity * 9 / 10 && run.highest <= capacity * 2, "{capacity}: {run:?}");
    }
}

/// P7, B3: an upstream that throttles gets about as much as it accepts, and more only now and then
#[test]
fn throttling_lowers_the_limit_to_what_is_accepted() {
    let mut model = LoadModel::new(Server { capacity: 100, most: 10, ..GOOD }, 200, 100);
    model.run(10);
    let run = model.run(60);
    assert!(run.lowest >= 5 && run.highest <= 14, "{run:?}");
    assert!(run.dropped * 50 <= run.served, "{run:?}");
    model.server.most = 40;
    model.run(30);
    let run = model.run(30);
    assert!(run.lowest >= 20 && run.highest <= 48, "{run:?}");
}

/// P7: constant timeouts look like stable latencies, which made the limit climb to its maximum (Netflix
/// concurrency-limits #137)
#[test]
fn constant_timeouts_lower_the_limit_to_its_floor() {
    let mut model = LoadModel::new(Server { capacity: 100, ..GOOD }, 200, 100);
    model.run(20);
    assert_eq!(model.learner.limit(), 100);
    model.server.lost = 100;
    model.run(8);
    let run = model.run(120);
    assert_eq!((run.lowest, run.highest, run.served), (3, 3, 0));
    model.server.lost = 0;
    model.run(20);
    assert_eq!(model.learner.limit(), 100, "the limit recovers");
}

/// P7: served requests do not hide the timeouts
#[test]
fn a_third_of_timeouts_keeps_the_limit_down() {
    let mut model = LoadModel::new(Server { capacity: 100, ..GOOD }, 200, 100);
    model.run(20);
    model.server.lost = 30;
    model.run(30);
    let run = model.run(60);
    assert!(run.highest <= 8 && run.served > 0, "{run:?}");
}

/// P7: with a latency just above the baseline, headroom added at every step makes the limit grow without bound (#134)
#[test]
fn headroom_is_added_only_while_latency_is_flat() {
    let mut model = LoadModel::new(Server { spread: 50, ..GOOD }, 500, 1_000);
    model.run(60);
    let run = model.run(1_200);
    assert!(run.highest <= 45, "{run:?}");
}

/// P7: a drop is a signal, not a latency (#176): a window with a drop never raises the limit, however fast the other
/// requests were
#[test]
fn drops_are_not_ignored() {
    let mut core = AdaptiveLimit::new(&config(3), 100);
    let mut window = SampleWindow { peak: 100, ..SampleWindow::default() };
    (0..500).for_each(|_| window.latencies.record(Duration::from_millis(10)));
    let now = clock::now();
    while core.limit() < 100 {
        assert_eq!(core.evaluate(&window, now), Some(LimitCause::Use));
    }
    let dropped = SampleWindow { throttled: 1, dropped_us: 5_000, ..window.clone() };
    assert_eq!((core.evaluate(&dropped, now), core.limit()), (Some(LimitCause::Throttling), 99));
    let stale = SampleWindow { stale_drops: 1, ..window.clone() };
    assert_eq!((core.evaluate(&stale, now), core.limit()), (None, 99));
    assert_eq!(
        (core.evaluate(&window, now + TICK * 999), core.limit()),
        (None, 99),
        "no rise soon after a drop"
    );
    assert_eq!(core.evaluate(&window, now + TICK * 1_000), Some(LimitCause::Use));
    let storm = SampleWindow { timeouts: 500, dropped_us: 500_000_000, ..window };
    assert_eq!(
        (core.evaluate(&storm, now), core.limit()),
        (Some(LimitCause::Timeouts), 50),
        "one step removes a half at most"
    );
}

/// P7: a baseline measured under overload does not stay (Envoy #38338)
#[test]
fn a_baseline_measured_under_overload_is_replaced() {
    let mut model = LoadModel::new(Server { capacity: 1, service_ms: 100, ..GOOD }, 200, 100);
    model.run(20);
    let overloaded = model.learner.samples().view().baseline.unwrap();
    assert!(overloaded > Duration::from_millis(150), "{overloaded:?}");
    model.server = GOOD;
    model.run(20);
    let run = model.run(20);
    assert!(run.lowest >= 20 && run.highest <= 40, "{run:?}");
    let baseline = model.learner.samples().view().baseline.unwrap();
    assert!(baseline < Duration::from_millis(30), "{baseline:?}");
}

/// P7: longer answers without a queue at the upstream do not keep the limit low
#[test]
fn slower_objects_do_not_hold_the_limit_down() {
    let mut model = LoadModel::new(Server { capacity: 60, ..GOOD }, 50, 100);
    model.run(20);
    model.server.service_ms = 150;
    let run = model.run(5);
    assert!(run.lowest >= 20, "{run:?}");
    model.run(15);
    assert!(model.run(10).lowest >= 50);
}

/// P7: samples from before the limit's last step are ignored (Envoy #11579)
#[test]
fn requests_before_the_last_step_are_ignored() {
    let now = clock::now();
    let mut learner = LimitLearner::new(&config(3), 100, now);
    let answer = |learner: &LimitLearner, began, ms| {
        (0..50).for_each(|_| learner.samples().record_latency(began, Duration::from_millis(ms), 100));
    };
    answer(&learner, now, 20);
    let moved = now + TICK * 200;
    assert_eq!(learner.update(moved).map(|moved| moved.to), Some(6));
    // Earlier requests, with a latency that would halve the limit and a failure that would lower it.
    answer(&learner, moved - TICK, 900);
    assert_eq!(learner.update(moved + TICK * 200), None);
    answer(&learner, moved + TICK, 20);
    assert_eq!(learner.update(moved + TICK * 400).map(|moved| moved.to), Some(12));
    let fell = moved + TICK * 600;
    learner.samples().record_drop(fell - TICK, fell, OverloadSignal::Timeout);
    assert_eq!(learner.update(fell).map(|moved| moved.to), Some(10));
    learner.samples().record_drop(fell - TICK, fell, OverloadSignal::Timeout);
    assert_eq!(learner.update(fell + TICK * 200), None, "one overload lowers the limit once");
    learner.samples().record_drop(fell + TICK, fell + TICK * 300, OverloadSignal::Timeout);
    assert_eq!(learner.update(fell + TICK * 400).map(|moved| moved.to), Some(8));
}

/// P7: no window is reserved for measuring, so healthy traffic is never shed for one, and the floor is only a floor
/// (Envoy #46532)
#[test]
fn healthy_traffic_is_never_shed_to_measure() {
    let mut model = LoadModel::new(Server { capacity: 100, spread: 20, ..GOOD }, 90, 100);
    model.run(20);
    let run = model.run(600);
    assert_eq!((run.lowest, run.highest), (100, 100));
}

/// P7: a limit that is not used does not grow
#[test]
fn the_limit_rises_only_while_it_is_used() {
    let mut model = LoadModel::new(Server { capacity: 100, ..GOOD }, 5, 100);
    assert!(model.run(60).highest <= 12);
    model.clients = 100;
    model.run(20);
    assert_eq!(model.learner.limit(), 100);
    model.clients = 1;
    assert_eq!(model.run(60).lowest, 100, "an unused limit does not fall either");
}

/// P7: after a restart without the learnt state the limit begins at the floor
#[test]
fn a_reset_limit_begins_at_the_floor() {
    let mut model = LoadModel::new(Server { capacity: 100, ..GOOD }, 200, 100);
    model.run(20);
    model.learner.reset(model.now);
    assert_eq!((model.learner.limit(), model.learner.samples().view().limit), (3, 3));
    model.run(20);
    assert_eq!(model.learner.limit(), 100);
}

proptest! {
    /// P7: the limit always keeps its bounds, and only windows without drops raise it
    #[test]
    fn the_limit_keeps_its_bounds(
        (min, max) in (1usize..50, 1usize..200),
        windows in prop::collection::vec((0u64..5_000, 0usize..60, 0u32..3, 0u32..3, 0u32..3, 0usize..300, 0u64..500), 1..200),
    ) {
        let mut core = AdaptiveLimit::new(&config(min), max);
        let mut now = clock::now();
        for (ms, samples, timeouts, throttled, stale_drops, peak, later) in windows {
            let mut window = SampleWindow { timeouts, throttled, stale_drops, peak, ..SampleWindow::default() };
            (0..samples).for_each(|i| window.latencies.record(Duration::from_millis(ms + i as u64)));
            now += TICK * u32::try_from(later).unwrap();
            let before = core.limit();
            let cause = core.evaluate(&window, now);
            prop_assert!(core.limit() >= min.min(max) && core.limit() <= max);
            prop_assert_eq!(cause.is_some(), core.limit() != before);
            if timeouts + throttled + stale_drops > 0 {
                prop_assert!(core.limit() <= before);
            }
            prop_assert_eq!(cause == Some(LimitCause::Use), core.limit() > before);
        }
    }
}
