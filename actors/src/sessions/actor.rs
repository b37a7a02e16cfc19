//! The session cache's messages and its shell.

use std::time::Instant;

use tidegate_config::SessionsConfig;

use crate::host::{Component, Serve};
use crate::mailbox::Request;
use crate::sessions::id::SessionId;
use crate::sessions::metrics::SessionsMetrics;
use crate::sessions::state::{Found, Identity, SessionsState};

/// Whose session is this?
pub(crate) struct Resolve {
    pub(crate) id: SessionId,
}

impl Request for Resolve {
    type Reply = Option<Identity>;
    const NAME: &'static str = "sessions.resolve";

    fn likeness(&self) -> u64 {
        self.id.likeness()
    }
}

/// This session was verified.
pub(crate) struct Remember {
    pub(crate) id: SessionId,
    pub(crate) identity: Identity,
}

impl Request for Remember {
    type Reply = ();
    const NAME: &'static str = "sessions.remember";

    fn likeness(&self) -> u64 {
        self.id.likeness()
    }
}

/// What the status page shows of the session cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionsReport {
    /// Sessions remembered.
    pub len: usize,
    /// The bound on `len`.
    pub capacity: usize,
    /// Look-ups that found a session.
    pub hits: u64,
    /// Look-ups that did not.
    pub misses: u64,
    /// Sessions that left to make room.
    pub evicted: u64,
}

/// Asks for a report.
pub(crate) struct Inspect;

impl Request for Inspect {
    type Reply = SessionsReport;
    const NAME: &'static str = "sessions.inspect";

    fn likeness(&self) -> u64 {
        0
    }
}

/// The component.
pub(crate) struct Sessions {
    state: SessionsState,
    metrics: SessionsMetrics,
}

impl Sessions {
    pub(crate) fn new(config: &SessionsConfig, metrics: SessionsMetrics) -> Self {
        Self { state: SessionsState::new(config.capacity, config.ttl), metrics }
    }
}

impl Component for Sessions {
    fn rebuild(&mut self, _: Instant) {
        self.state.clear();
        self.metrics.holds(0);
    }
}

impl Serve<Resolve> for Sessions {
    type Decision = Found;

    fn decide(&self, message: &Resolve, now: Instant) -> Found {
        self.state.find(&message.id, now)
    }

    fn apply(&mut self, message: Resolve, found: Found, _: Instant) -> Option<Identity> {
        match found {
            Found::Hit(identity) => {
                self.metrics.hits.inc();
                return Some(identity);
            }
            Found::Expired => {
                self.state.forget(&message.id);
                self.metrics.holds(self.state.len());
            }
            Found::Miss => {}
        }
        self.metrics.misses.inc();
        None
    }
}

impl Serve<Remember> for Sessions {
    type Decision = ();

    fn decide(&self, _: &Remember, _: Instant) {}

    fn apply(&mut self, message: Remember, (): (), now: Instant) {
        let evicted = self.state.remember(message.id, message.identity, now);
        self.metrics.evicted.inc_by(evicted as u64);
        self.metrics.holds(self.state.len());
    }
}

impl Serve<Inspect> for Sessions {
    type Decision = SessionsReport;

    fn decide(&self, _: &Inspect, _: Instant) -> SessionsReport {
        SessionsReport {
            len: self.state.len(),
            capacity: self.state.capacity(),
            hits: self.metrics.hits.get(),
            misses: self.metrics.misses.get(),
            evicted: self.metrics.evicted.get(),
        }
    }

    fn apply(&mut self, _: Inspect, report: SessionsReport, _: Instant) -> SessionsReport {
        report
    }
}
