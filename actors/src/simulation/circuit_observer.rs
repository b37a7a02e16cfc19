//! Observes circuits from outside: published states, trials in flight, and whether both are consistent.
//!
//! The observer keeps the last states with their times, because a request is seen later than its circuit admitted it.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::breaker::{BreakerView, CircuitId, CircuitState};
use crate::types::BucketId;

/// How long a trial's permit is valid.
const LEASE: Duration = Duration::from_secs(30);
/// Number of states kept.
const STATES_KEPT: usize = 256;

/// One circuit of one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CircuitRef {
    pub(super) bucket: BucketId,
    pub(super) id: CircuitId,
}

/// Limits of a circuit.
#[derive(Debug, Clone, Copy)]
pub(super) struct CircuitTerms {
    pub(super) trials_max: usize,
    pub(super) success_threshold: u32,
}

#[derive(Debug, Clone, Copy)]
struct SeenState {
    since: Instant,
    state: CircuitState,
}

#[derive(Debug, Clone, Copy)]
struct SeenTrial {
    number: u64,
    since: Instant,
    lease_end: Instant,
}

impl SeenTrial {
    fn is_out(&self, at: Instant) -> bool {
        self.since <= at && at < self.lease_end
    }
}

/// Observer of one circuit.
#[derive(Debug)]
pub(super) struct CircuitObserver {
    terms: CircuitTerms,
    states: VecDeque<SeenState>,
    generation: u32,
    open_until: Option<Instant>,
    /// Whether a successful connection may end the open time.
    probed: bool,
    /// Generations for which a connection was made.
    connected_generations: Vec<u32>,
    /// Whether a connection ended the last open time.
    is_half_open_by_connect: bool,
    /// Successes of trials since the circuit became half-open.
    successes: u32,
    /// Trials in flight.
    trials: Vec<SeenTrial>,
    trials_total: u64,
    /// Requests that wait for the circuit.
    pub(super) waiting: Rc<Cell<usize>>,
    /// Requests that waited and were admitted.
    pub(super) waited_total: u64,
    pub(super) opened_total: u64,
    pub(super) closed_total: u64,
}

impl CircuitObserver {
    pub(super) fn new(terms: CircuitTerms, now: Instant) -> Self {
        Self {
            terms,
            states: VecDeque::from([SeenState { since: now, state: CircuitState::Closed }]),
            generation: 0,
            open_until: None,
            probed: false,
            connected_generations: Vec::new(),
            is_half_open_by_connect: false,
            successes: 0,
            trials: Vec::new(),
            trials_total: 0,
            waiting: Rc::default(),
            waited_total: 0,
            opened_total: 0,
            closed_total: 0,
        }
    }

    /// Compares the published state with the previous one, after every step that may have changed it.
    pub(super) fn observe(&mut self, view: &BreakerView, now: Instant) -> Result<(), String> {
        if view.generation < self.generation {
            return Err(format!("generation {} after {}", view.generation, self.generation));
        }
        let was = self.states.back().map_or(CircuitState::Closed, |seen| seen.state);
        let until = view.open_for.map(|open_for| now + open_for);
        if (was, view.state) == (CircuitState::HalfOpen, CircuitState::Open)
            && self.is_half_open_by_connect
            && view.probed
        {
            return Err("a connection may end the open time twice in a row".to_owned());
        }
        self.check_open_until(was, view.state, until, now)?;
        if view.waiting > view.waiting_max {
            return Err(format!("{} waiters, {} allowed", view.waiting, view.waiting_max));
        }
        let skipped = view.generation - self.generation > 1;
        self.open_until = until;
        (self.probed, self.generation) = (view.probed, view.generation);
        if (was, view.state, skipped) == (CircuitState::Open, CircuitState::Open, true) {
            // The waiters were admitted, and then the actor crashed over the same message: their trials are in flight.
            self.record_state(CircuitState::HalfOpen, now);
            self.record_state(CircuitState::Open, now);
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
        self.record_state(view.state, now);
        Ok(())
    }

    fn record_state(&mut self, state: CircuitState, since: Instant) {
        if self.states.len() == STATES_KEPT {
            self.states.pop_front();
        }
        self.states.push_back(SeenState { since, state });
    }

    /// An open circuit stays open until its time.
    fn check_open_until(
        &mut self,
        was: CircuitState,
        is: CircuitState,
        until: Option<Instant>,
        now: Instant,
    ) -> Result<(), String> {
        if was != is {
            self.is_half_open_by_connect = false;
        }
        let Some(promised) = self.open_until.filter(|promised| was == CircuitState::Open && now < *promised)
        else {
            return Ok(());
        };
        let early = promised.saturating_duration_since(now);
        // A crash over the same message may have opened the circuit again before it was observed.
        if is != CircuitState::Closed && self.probed && self.connected_generations.contains(&self.generation)
        {
            self.is_half_open_by_connect = is == CircuitState::HalfOpen;
            return Ok(());
        }
        if is != CircuitState::Open {
            return Err(format!("{} {early:?} before the end of the open time", is.as_str()));
        }
        if until.is_none_or(|until| until < promised) {
            return Err(format!("the open time was shortened {early:?} before its end"));
        }
        Ok(())
    }

    /// A connection was made for this generation.
    pub(super) fn record_connected(&mut self, generation: u32) {
        if self.connected_generations.len() == STATES_KEPT {
            self.connected_generations.remove(0);
        }
        self.connected_generations.push(generation);
    }

    /// A request was admitted, at some time between `first` and `last`.
    pub(super) fn record_ticket(
        &mut self,
        is_trial: bool,
        (first, last): (Instant, Instant),
    ) -> Result<Option<u64>, String> {
        let needed = if is_trial { CircuitState::HalfOpen } else { CircuitState::Closed };
        if !self.was_in_state(needed, first, last) {
            return Err(format!("admitted as if the circuit were {}", needed.as_str()));
        }
        if !is_trial {
            return Ok(None);
        }
        self.trials_total += 1;
        let trial = SeenTrial { number: self.trials_total, since: last, lease_end: first + LEASE };
        self.trials.push(trial);
        // The trial is seen later than it began, so others may have begun since.
        let moments = self.trials.iter().map(|other| other.since).filter(|since| trial.is_out(*since));
        let max = moments.map(|at| self.trials.iter().filter(|other| other.is_out(at)).count()).max();
        match max {
            Some(out) if out > self.terms.trials_max => {
                Err(format!("{out} trials at once, {} allowed", self.terms.trials_max))
            }
            _ => Ok(Some(trial.number)),
        }
    }

    /// Whether the circuit was in this state at some time between `first` and `last`.
    fn was_in_state(&self, state: CircuitState, first: Instant, last: Instant) -> bool {
        let ends = self.states.iter().skip(1).map(|seen| Some(seen.since)).chain([None]);
        let known_from = self.states.front().is_none_or(|oldest| oldest.since > first);
        known_from
            || self.states.iter().zip(ends).any(|(seen, end)| {
                seen.state == state && seen.since <= last && end.is_none_or(|end| first <= end)
            })
    }

    /// A trial ended.
    pub(super) fn record_trial_end(&mut self, trial: u64, succeeded: bool) {
        self.trials.retain(|other| other.number != trial);
        if succeeded {
            self.successes += 1;
        }
    }

    pub(super) fn state(&self) -> CircuitState {
        self.states.back().map_or(CircuitState::Closed, |seen| seen.state)
    }

    pub(super) fn trials_total(&self) -> u64 {
        self.trials_total
    }
}
