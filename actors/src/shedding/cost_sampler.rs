//! Which requests are charged while the cursor of the process is 0.

use std::cell::Cell;

/// One request in so many is charged.
const ONE_IN: u32 = 8;

/// Selects one request in eight at random, so that no pattern of a client escapes it.
#[derive(Debug)]
pub struct CostSampler(Cell<u32>);

impl CostSampler {
    /// The requests that a selected request stands for.
    pub const WEIGHT: f64 = ONE_IN as f64;

    /// A sampler with a random seed.
    pub fn new(seed: u32) -> Self {
        Self(Cell::new(seed))
    }

    /// Whether this request is selected.
    pub fn draw(&self) -> bool {
        // A linear congruential generator; its upper bits are random enough.
        let next = self.0.get().wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0.set(next);
        next <= u32::MAX / ONE_IN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// X11: the weights of the selected requests add up to all requests
    #[test]
    fn the_selected_requests_stand_for_all() {
        for seed in [0, 7, u32::MAX] {
            let sampler = CostSampler::new(seed);
            let weights: f64 = (0..80_000).filter(|_| sampler.draw()).map(|_| CostSampler::WEIGHT).sum();
            assert!((weights - 80_000.0).abs() < 2_400.0, "{weights}");
        }
    }
}
