//! Circuits, watched from outside: what they publish, which trials are out, and whether both go together.
//!
//! The watch keeps the last states with their times, because a request that was let through is seen later than it was
//! let through.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::breaker::{BreakerView, CircuitId, CircuitState};
use crate::types::BucketId;

/// How long a trial's permit is good.
const LEASE: Duration = Duration::from_secs(30);
/// States that are remembered.
const REMEMBERED: usize = 256;

/// One circuit of one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Circuit {
    pub(super) bucket: BucketId,
    pub(super) id: CircuitId,
}

/// What a circuit must keep to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) trials_max: usize,
    pub(super) success_threshold: u32,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    since: Instant,
    state: CircuitState,
}

#[derive(Debug, Clone, Copy)]
struct Trial {
    number: u64,
    since: Instant,
    lease_end: Instant,
}

impl Trial {
    fn is_out(&self, at: Instant) -> bool {
        self.since <= at && at < self.lease_end
    }
}

/// One circuit under watch.
#[derive(Debug)]
pub(super) struct Watched {
    terms: Terms,
    seen: VecDeque<Seen>,
    generation: u32,
    open_until: Option<Instant>,
    /// Whether a connection may end its open time.
    probed: bool,
    /// The generations that connections were made for.
    connected: Vec<u32>,
    /// A connection ended its last open time.
    hastened: bool,
    /// Successes of trials that were reported since it was half-open.
    successes: u32,
    /// Trials that are out.
    trials: Vec<Trial>,
    trials_total: u64,
    /// Requests that wait for it.
    pub(super) waiting: Rc<Cell<usize>>,
    /// Those that waited and were let through.
    pub(super) held_total: u64,
    pub(super) opened_total: u64,
    pub(super) closed_total: u64,
}

impl Watched {
    pub(super) fn new(terms: Terms, now: Instant) -> Self {
        Self {
            terms,
            seen: VecDeque::from([Seen { since: now, state: CircuitState::Closed }]),
            generation: 0,
            open_until: None,
            probed: false,
            connected: Vec::new(),
            hastened: false,
            successes: 0,
            trials: Vec::new(),
            trials_total: 0,
            waiting: Rc::default(),
            held_total: 0,
            opened_total: 0,
            closed_total: 0,
        }
    }

    /// Looks at what is published, after whatever may have changed it.
    pub(super) fn look(&mut self, view: &BreakerView, now: Instant) -> Result<(), String> {
        if view.generation < self.generation {
            return Err(format!("generation {} after {}", view.generation, self.generation));
        }
        let was = self.seen.back().map_or(CircuitState::Closed, |seen| seen.state);
        let until = view.open_for.map(|open_for| now + open_for);
        if (was, view.state) == (CircuitState::HalfOpen, CircuitState::Open) && self.hastened && view.probed {
            return Err("a connection may end its open time twice in a row".to_owned());
        }
        self.check_until(was, view.state, until, now)?;
        if view.held > view.held_max {
            return Err(format!("{} wait, {} may", view.held, view.held_max));
        }
        let skipped = view.generation - self.generation > 1;
        self.open_until = until;
        (self.probed, self.generation) = (view.probed, view.generation);
        if (was, view.state, skipped) == (CircuitState::Open, CircuitState::Open, true) {
            // Who waited was let through, then the actor crashed over the very message that let them: their trials are out.
            self.saw(CircuitState::HalfOpen, now);
            self.saw(CircuitState::Open, now);
        }
        if was == view.state {
            return Ok(());
        }
        match (was, view.state) {
            (CircuitState::Open, CircuitState::Closed) => {
                return Err("closed without a trial".to_owned());
            }
            (CircuitState::Closed, CircuitState::HalfOpen) => {
                return Err("half-open without having been open".to_owned());
            }
            (CircuitState::HalfOpen, CircuitState::Closed) => {
                let Self { successes, terms, .. } = self;
                if *successes < terms.success_threshold {
                    return Err(format!("closed after {successes} of {}", terms.success_threshold));
                }
                self.closed_total += 1;
            }
            (_, CircuitState::HalfOpen) => self.successes = 0,
            (_, CircuitState::Open) => self.opened_total += 1,
            (CircuitState::Closed, CircuitState::Closed) => {}
        }
        self.saw(view.state, now);
        Ok(())
    }

    fn saw(&mut self, state: CircuitState, since: Instant) {
        if self.seen.len() == REMEMBERED {
            self.seen.pop_front();
        }
        self.seen.push_back(Seen { since, state });
    }

    /// Open means open until then, whatever happens.
    fn check_until(
        &mut self,
        was: CircuitState,
        is: CircuitState,
        until: Option<Instant>,
        now: Instant,
    ) -> Result<(), String> {
        if was != is {
            self.hastened = false;
        }
        let Some(promised) = self.open_until.filter(|promised| was == CircuitState::Open && now < *promised)
        else {
            return Ok(());
        };
        let early = promised.saturating_duration_since(now);
        // A crash over that very message may have opened it again before anybody could look.
        if is != CircuitState::Closed && self.probed && self.connected.contains(&self.generation) {
            self.hastened = is == CircuitState::HalfOpen;
            return Ok(());
        }
        if is != CircuitState::Open {
            return Err(format!("{} {early:?} before its time", is.as_str()));
        }
        if until.is_none_or(|until| until < promised) {
            return Err(format!("its open time shrank, {early:?} before its end"));
        }
        Ok(())
    }

    /// A connection was made for this generation.
    pub(super) fn connected(&mut self, generation: u32) {
        if self.connected.len() == REMEMBERED {
            self.connected.remove(0);
        }
        self.connected.push(generation);
    }

    /// A request was let through, at some moment from the first of these to the last.
    pub(super) fn entered(
        &mut self,
        is_trial: bool,
        (first, last): (Instant, Instant),
    ) -> Result<Option<u64>, String> {
        let needed = if is_trial { CircuitState::HalfOpen } else { CircuitState::Closed };
        if !self.was(needed, first, last) {
            return Err(format!("let through as if it were {}", needed.as_str()));
        }
        if !is_trial {
            return Ok(None);
        }
        self.trials_total += 1;
        let trial = Trial { number: self.trials_total, since: last, lease_end: first + LEASE };
        self.trials.push(trial);
        // It is seen later than it began, so others may have begun since.
        let moments = self.trials.iter().map(|other| other.since).filter(|since| trial.is_out(*since));
        let most = moments.map(|at| self.trials.iter().filter(|other| other.is_out(at)).count()).max();
        match most {
            Some(out) if out > self.terms.trials_max => {
                Err(format!("{out} trials at once, allowed are {}", self.terms.trials_max))
            }
            _ => Ok(Some(trial.number)),
        }
    }

    /// Whether that was its state at some moment of these.
    fn was(&self, state: CircuitState, first: Instant, last: Instant) -> bool {
        let ends = self.seen.iter().skip(1).map(|seen| Some(seen.since)).chain([None]);
        let known_from = self.seen.front().is_none_or(|oldest| oldest.since > first);
        known_from
            || self.seen.iter().zip(ends).any(|(seen, end)| {
                seen.state == state && seen.since <= last && end.is_none_or(|end| first <= end)
            })
    }

    /// A trial is over; it may have been a success.
    pub(super) fn ended(&mut self, trial: u64, succeeded: bool) {
        self.trials.retain(|other| other.number != trial);
        if succeeded {
            self.successes += 1;
        }
    }

    pub(super) fn state(&self) -> CircuitState {
        self.seen.back().map_or(CircuitState::Closed, |seen| seen.state)
    }

    pub(super) fn trials_total(&self) -> u64 {
        self.trials_total
    }
}
