//! Service times for requests that the log does not have: those that were refused.
//!
//! The time is drawn from a sample of the observed times of the same bucket and class (reservoir sampling, Vitter's algorithm R). A request
//! that a circuit refused has the outcome of the last call before it, because that is what the circuit assumed.

use std::collections::HashMap;
use std::time::Duration;

use ahash::RandomState;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tidegate_actors::OperationClass;
use tidegate_actors::replay::CallOutcome;

/// Times that are kept for a bucket and class.
const SAMPLES_MAX: usize = 256;
/// The time if none has been observed.
const UNKNOWN: Duration = Duration::from_millis(10);

/// A uniform sample of all times.
#[derive(Debug, Default)]
struct Reservoir {
    samples: Vec<u64>,
    observed: u64,
    last: CallOutcome,
}

impl Reservoir {
    fn observe(&mut self, service_us: u64, outcome: CallOutcome, rng: &mut SmallRng) {
        self.observed += 1;
        self.last = outcome;
        if self.samples.len() < SAMPLES_MAX {
            self.samples.push(service_us);
            return;
        }
        let at = rng.random_range(0..self.observed);
        if let Some(sample) = usize::try_from(at).ok().and_then(|at| self.samples.get_mut(at)) {
            *sample = service_us;
        }
    }

    fn draw(&self, rng: &mut SmallRng) -> Option<u64> {
        if self.samples.is_empty() {
            None
        } else {
            Some(self.samples[rng.random_range(0..self.samples.len())])
        }
    }
}

/// The observed service times.
pub(crate) struct ServiceTimes {
    by_class: HashMap<(Option<u32>, u8), Reservoir, RandomState>,
    all: Reservoir,
    rng: SmallRng,
    /// Requests without any observed time before them.
    pub(crate) unknown: u64,
}

impl ServiceTimes {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            by_class: HashMap::default(),
            all: Reservoir::default(),
            rng: SmallRng::seed_from_u64(seed),
            unknown: 0,
        }
    }

    pub(crate) fn observe(
        &mut self,
        bucket: Option<u32>,
        class: OperationClass,
        service_us: u64,
        outcome: CallOutcome,
    ) {
        let Self { by_class, all, rng, .. } = self;
        by_class.entry((bucket, class as u8)).or_default().observe(service_us, outcome, rng);
        all.observe(service_us, outcome, rng);
    }

    /// A service time, and the outcome of the last call, for a request that was refused.
    pub(crate) fn draw(&mut self, bucket: Option<u32>, class: OperationClass) -> (Duration, CallOutcome) {
        let Self { by_class, all, rng, unknown } = self;
        let own = by_class.get(&(bucket, class as u8));
        let drawn = own.and_then(|own| own.draw(rng)).or_else(|| all.draw(rng));
        if drawn.is_none() {
            *unknown += 1;
        }
        let success = CallOutcome { is_success: true, ..CallOutcome::default() };
        (drawn.map_or(UNKNOWN, Duration::from_micros), own.map_or(success, |own| own.last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: CallOutcome =
        CallOutcome { failures: 0, is_success: true, status: None, first_byte: Duration::ZERO };

    /// A time is drawn from its bucket and class, else from all, and the sample is uniform over the whole log.
    #[test]
    fn times_come_from_their_class() {
        let mut times = ServiceTimes::new(1);
        assert_eq!(times.draw(Some(0), OperationClass::Read).0, UNKNOWN);
        assert_eq!(times.unknown, 1);
        for at in 0..100_000 {
            times.observe(Some(0), OperationClass::Read, at, OK);
            times.observe(
                Some(0),
                OperationClass::Write,
                7_000_000,
                CallOutcome { failures: 1, ..CallOutcome::default() },
            );
        }
        let drawn: Vec<u128> =
            (0..4_000).map(|_| times.draw(Some(0), OperationClass::Read).0.as_micros()).collect();
        assert!(drawn.iter().all(|time| *time < 100_000));
        let mean = drawn.iter().sum::<u128>() / drawn.len() as u128;
        assert!((40_000..60_000).contains(&mean), "{mean}");
        let (time, outcome) = times.draw(Some(0), OperationClass::Write);
        assert_eq!((time, outcome.failures), (Duration::from_secs(7), 1));
        assert!(times.draw(Some(9), OperationClass::Read).1.is_success, "another bucket has no outcome");
    }

    /// The same seed gives the same times.
    #[test]
    fn a_seed_determines_the_times() {
        let draw = |seed| {
            let mut times = ServiceTimes::new(seed);
            (0..1_000).for_each(|at| times.observe(None, OperationClass::List, at, OK));
            (0..20).map(|_| times.draw(None, OperationClass::List).0).collect::<Vec<_>>()
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }
}
