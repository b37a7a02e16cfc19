//! Observes endpoints from outside: which of them were excluded when, and which were called.
//!
//! The observer keeps the last states with their times, because a choice is seen later than it was made.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use tidegate_config::{LoadBalancingConfig, Priority};

use crate::pool::{EndpointState, PoolHandle};
use crate::simulation::ledger::Invariant;
use crate::simulation::scenario::Scenario;

/// Number of states kept.
const STATES_KEPT: usize = 256;
/// Within this many choices every endpoint in rotation is chosen, however slow it was at its last measurement.
const PICKS_MAX: usize = 500;
/// Timeout of a choice.
const PICK_TIMEOUT: Duration = Duration::from_secs(1);

/// The states published at one time.
#[derive(Debug)]
struct SeenStates {
    since: Instant,
    states: Vec<EndpointState>,
    panicking: bool,
}

impl SeenStates {
    fn is_usable_at(&self, endpoint: usize, at: Instant) -> bool {
        self.states.get(endpoint).is_some_and(|state| is_usable(*state, at))
    }

    /// Whether a call to this endpoint was right at some time of the span. All may be excluded at its start and one of
    /// them usable at its end.
    fn may_be_called(&self, endpoint: usize, (from, at): (Instant, Instant)) -> bool {
        let none = || (0..self.states.len()).all(|other| !self.is_usable_at(other, from.max(self.since)));
        self.panicking || self.is_usable_at(endpoint, at) || none()
    }
}

fn is_usable(state: EndpointState, at: Instant) -> bool {
    match state {
        EndpointState::InRotation => true,
        EndpointState::BackingOff(until) | EndpointState::Ejected(until, _) => until <= at,
        EndpointState::Unhealthy => false,
    }
}

/// Observer of one bucket's endpoints.
#[derive(Debug)]
pub(super) struct EndpointObserver {
    max_percent: usize,
    return_after: Duration,
    /// The first standby endpoint.
    standby_from: usize,
    history: VecDeque<SeenStates>,
    /// Start of the period in which all primary endpoints are in rotation, and the first choice in it, which starts the
    /// failback.
    all_usable_since: Option<Instant>,
    first_pick_since: Option<Instant>,
}

impl EndpointObserver {
    pub(super) fn new(config: &LoadBalancingConfig, endpoints: usize) -> Self {
        Self {
            max_percent: config.outlier_ejection.max_percent as usize,
            return_after: config.return_after,
            standby_from: endpoints - config.standby.min(endpoints - 1),
            history: VecDeque::new(),
            all_usable_since: None,
            first_pick_since: None,
        }
    }

    /// Compares the published states with the previous ones, after every step that may have changed them.
    pub(super) fn observe(&mut self, pool: &PoolHandle, now: Instant) -> Result<(), String> {
        let states: Vec<EndpointState> =
            pool.view(now).endpoints.iter().map(|endpoint| endpoint.state).collect();
        let seen = SeenStates { since: now, states, panicking: pool.is_panicking() };
        if (0..self.standby_from).all(|endpoint| seen.is_usable_at(endpoint, now)) {
            self.all_usable_since.get_or_insert(now);
        } else {
            (self.all_usable_since, self.first_pick_since) = (None, None);
        }
        let count = seen.states.len();
        let ejected = seen.states.iter().filter(|state| matches!(state, EndpointState::Ejected(..))).count();
        if ejected * 100 > self.max_percent * count {
            return Err(format!("{ejected} of {count} ejected, {} % allowed", self.max_percent));
        }
        let is_excused = seen.panicking || seen.states.contains(&EndpointState::Unhealthy);
        if !is_excused && (0..count).all(|endpoint| !seen.is_usable_at(endpoint, now)) {
            return Err(format!("all are excluded: {:?}", seen.states));
        }
        let last = self.history.back();
        if last.is_none_or(|last| last.states != seen.states || last.panicking != seen.panicking) {
            if self.history.len() == STATES_KEPT {
                self.history.pop_front();
            }
            self.history.push_back(seen);
        }
        Ok(())
    }

    /// An endpoint was chosen at some time within `within`.
    pub(super) fn record_pick(&mut self, endpoint: usize, within: (Instant, Instant)) -> Result<(), String> {
        let (from, at) = within;
        let ends = self.history.iter().skip(1).map(|seen| Some(seen.since)).chain([None]);
        let then = || {
            let all = self.history.iter().zip(ends.clone());
            let then = all.filter(|(seen, end)| seen.since <= at && end.is_none_or(|end| from <= end));
            then.map(|(seen, _)| seen)
        };
        if self.history.front().is_none_or(|first| first.since > from) {
            return Ok(());
        }
        if !then().any(|seen| seen.may_be_called(endpoint, within)) {
            return Err(format!("{endpoint} is called although it is excluded"));
        }
        let is_panic = then().any(|seen| seen.panicking);
        if self.all_usable_since.is_some_and(|since| since < from) && !is_panic {
            let first = *self.first_pick_since.get_or_insert(at);
            self.first_pick_since = Some(first.min(at));
            let returned = from.saturating_duration_since(first) >= self.return_after;
            if endpoint >= self.standby_from && first < from && returned {
                return Err(format!("standby endpoint {endpoint} is called although the others are usable"));
            }
        }
        Ok(())
    }

    /// The endpoints of the serving tier that must be chosen sooner or later.
    pub(super) fn expected(&self, is_standby: bool, now: Instant) -> Vec<usize> {
        let Some(seen) = self.history.back() else { return Vec::new() };
        let tier = if is_standby { self.standby_from..seen.states.len() } else { 0..self.standby_from };
        tier.filter(|endpoint| seen.is_usable_at(*endpoint, now)).collect()
    }

    pub(super) fn is_standby(&self, endpoint: usize) -> bool {
        endpoint >= self.standby_from
    }
}

impl Scenario {
    /// Observes the published states of all endpoints.
    pub(super) fn observe_endpoints(&self) {
        let mut ledger = self.shared.ledger.borrow_mut();
        for (bucket, pool) in self.shared.pools.iter().enumerate() {
            ledger.observe_endpoints(bucket, pool, self.now);
        }
    }

    /// Checks that every endpoint in rotation is called sooner or later.
    pub(super) fn check_all_picked(&mut self, bucket: usize) {
        let pool = self.shared.pools[bucket].clone();
        self.observe_endpoints();
        let mut called = BTreeSet::new();
        for _ in 0..PICKS_MAX {
            let Some(Ok(permit)) = self.poll_answer(pool.acquire(Priority::Low, self.now + PICK_TIMEOUT))
            else {
                return;
            };
            let endpoint = permit.endpoint().0;
            drop(permit);
            called.insert(endpoint);
            let ledger = self.shared.ledger.borrow();
            let observer = &ledger.endpoints[bucket];
            let expected = observer.expected(observer.is_standby(endpoint), self.now);
            if expected.iter().all(|endpoint| called.contains(endpoint)) {
                return;
            }
        }
        let what = format!("bucket {bucket} calls only {called:?} of {:?}", pool.view(self.now).endpoints);
        self.shared.ledger.borrow_mut().record_violation(Invariant::Stuck, what);
    }
}
