//! Draining endpoints in the choice: they are out of it, but their health is still observed.
//!
//! An endpoint without a drain is never left to calls of draining ones: if it is the only one left, its failures call for a panic and
//! not for an ejection. An endpoint that returns from a drain begins with a reduced share (slow start), because it may have been
//! restarted.

use std::time::Instant;

use crate::pool::load_balancer::{EndpointEvent, LoadBalancer};

impl LoadBalancer {
    /// Reads which endpoints drain.
    pub(crate) fn follow_drains(&mut self, now: Instant) {
        let mut has_new = false;
        for endpoint in 0..self.endpoints.len() {
            let drains = self.stats.endpoint(endpoint).drain().is_draining(now);
            if self.drained[endpoint] == drains {
                continue;
            }
            self.drained[endpoint] = drains;
            has_new |= drains;
            if !drains {
                self.endpoints[endpoint].return_to_rotation(now);
                self.stats.endpoint(endpoint).reset_latency();
                if self.is_candidate(endpoint) {
                    self.end_panic();
                }
            }
        }
        if has_new && !self.is_panicking && self.needs_panic() {
            self.enter_panic();
        }
    }

    /// Whether an endpoint is usable and does not drain.
    pub(super) fn is_candidate(&self, endpoint: usize) -> bool {
        self.endpoints[endpoint].is_usable() && !self.drained[endpoint]
    }

    pub(super) fn has_candidate(&self) -> bool {
        (0..self.endpoints.len()).any(|endpoint| self.is_candidate(endpoint))
    }

    /// Whether only excluded endpoints are left.
    pub(super) fn needs_panic(&self) -> bool {
        let is_excluded = |at: usize| !self.drained[at] && self.endpoints[at].excluded_until().is_some();
        !self.has_candidate() && (0..self.endpoints.len()).any(is_excluded)
    }

    pub(super) fn enter_panic(&mut self) {
        self.is_panicking = true;
        self.stats.set_panicking(true);
        self.events.push(EndpointEvent::PanicEntered);
    }
}

#[cfg(test)]
#[path = "drained_tests.rs"]
mod tests;
