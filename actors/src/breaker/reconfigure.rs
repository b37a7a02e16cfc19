//! A circuit under a new configuration (G3): what it keeps, and what it takes over from another circuit.
//!
//! - Closed, the counts and the window stay. The new thresholds apply with the next adverse call.
//! - Open, it stays open to the end that it has. A shorter `timeout_seconds` ends it earlier: at most the new open time after the
//!   reload, but not before the upstream's Retry-After. `max_timeout_seconds` bounds both, again from the reload on.
//! - Half-open, trials and their successes stay.
//! - `off` closes it. `forced_open` covers its state, which holds again when the mode ends. `shadow` changes nothing.

use std::time::Instant;

use tidegate_config::{BreakerConfig, BreakerMode};

use crate::breaker::call_window::TripThresholds;
use crate::breaker::decision::CircuitTransition;
use crate::breaker::state::{Circuit, Phase};

impl Circuit {
    /// Continues with another configuration.
    pub(crate) fn reconfigure(&mut self, config: &BreakerConfig, now: Instant) -> Option<CircuitTransition> {
        let was_forced = self.is_forced();
        let BreakerConfig { timeout, max_timeout, .. } = self.config;
        let is_shorter = config.timeout < timeout || config.max_timeout < max_timeout;
        if self.config.slow_call_duration != config.slow_call_duration
            && let Phase::Closed(calls) = &mut self.phase
        {
            calls.forget_slow();
        }
        self.thresholds = TripThresholds::from(config);
        self.config = config.clone();
        if was_forced != self.is_forced() {
            // Reports of calls that began before do not count.
            self.set_phase(self.phase);
        }
        match self.phase {
            Phase::Open { .. } | Phase::HalfOpen { .. } if config.mode == BreakerMode::Off => {
                self.close();
                Some(CircuitTransition::SwitchedOff)
            }
            Phase::Open { until, earliest, probed } => {
                let by_timeout = (now + self.grown_timeout()).max(earliest);
                let shortened = until.min(by_timeout).min(now + config.max_timeout);
                self.phase = Phase::Open {
                    until: if is_shorter { shortened } else { until },
                    earliest,
                    probed: probed && config.connect_probe_interval.is_some(),
                };
                None
            }
            Phase::Closed(_) | Phase::HalfOpen { .. } => None,
        }
    }

    /// Takes over the state of another circuit of the bucket, as a new generation. Permits stay with the circuit that gave them,
    /// and so does the number of openings.
    pub(crate) fn adopt(&mut self, other: &Self) {
        self.consecutive_failures = other.consecutive_failures;
        self.reopened = other.reopened;
        (self.cause, self.trip) = (other.cause, other.trip);
        self.is_half_open_by_connect = other.is_half_open_by_connect;
        self.set_phase(other.phase);
    }

    /// The order of circuits from the healthiest to the one that admits requests last.
    pub(crate) fn severity(&self) -> (u8, Option<Instant>, u32) {
        match self.phase {
            Phase::Closed(_) => (0, None, self.consecutive_failures),
            Phase::HalfOpen { .. } => (1, None, self.consecutive_failures),
            Phase::Open { until, .. } => (2, Some(until), self.consecutive_failures),
        }
    }
}

#[cfg(test)]
#[path = "reconfigure_tests.rs"]
mod tests;
