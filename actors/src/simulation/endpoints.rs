//! Endpoints, watched from outside: which of them a bucket left out when, and which were called all the same.
//!
//! As with circuits, the watch keeps the last standings with their times, because a choice is seen later than it was made.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use tidegate_config::{LoadBalancingConfig, Priority};

use crate::pool::{PoolHandle, Standing};
use crate::simulation::episode::Episode;
use crate::simulation::ledger::Invariant;

/// Standings that are remembered.
const REMEMBERED: usize = 256;
/// So many choices leave out nobody who is in rotation, however slow it was when it was measured last.
const CHOICES_MAX: usize = 500;
/// How long a choice may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// What was published at once.
#[derive(Debug)]
struct Seen {
    since: Instant,
    standings: Vec<Standing>,
    panicking: bool,
}

impl Seen {
    fn serves(&self, endpoint: usize, at: Instant) -> bool {
        self.standings.get(endpoint).is_some_and(|standing| is_usable(*standing, at))
    }

    /// Whether calling this endpoint was right, at some moment from the first of these to the last: all may be out at first and one
    /// of them back in the end.
    fn may_be_called(&self, endpoint: usize, (from, at): (Instant, Instant)) -> bool {
        let none = || (0..self.standings.len()).all(|other| !self.serves(other, from.max(self.since)));
        self.panicking || self.serves(endpoint, at) || none()
    }
}

fn is_usable(standing: Standing, at: Instant) -> bool {
    match standing {
        Standing::InRotation => true,
        Standing::Resting(until) | Standing::Ejected(until, _) => until <= at,
        Standing::Unhealthy => false,
    }
}

/// One bucket's endpoints under watch.
#[derive(Debug)]
pub(super) struct Rotating {
    max_percent: usize,
    return_after: Duration,
    /// The first that stands by.
    standby_from: usize,
    seen: VecDeque<Seen>,
    /// Since when all that don't stand by are in rotation, and the first choice since then: it begins the return to them.
    whole_since: Option<Instant>,
    chosen_whole: Option<Instant>,
}

impl Rotating {
    pub(super) fn new(config: &LoadBalancingConfig, endpoints: usize) -> Self {
        Self {
            max_percent: config.outlier_ejection.max_percent as usize,
            return_after: config.return_after,
            standby_from: endpoints - config.standby.min(endpoints - 1),
            seen: VecDeque::new(),
            whole_since: None,
            chosen_whole: None,
        }
    }

    /// Looks at what is published, after whatever may have changed it.
    pub(super) fn look(&mut self, pool: &PoolHandle, now: Instant) -> Result<(), String> {
        let standings: Vec<Standing> =
            pool.view(now).endpoints.iter().map(|endpoint| endpoint.standing).collect();
        let seen = Seen { since: now, standings, panicking: pool.is_panicking() };
        if (0..self.standby_from).all(|endpoint| seen.serves(endpoint, now)) {
            self.whole_since.get_or_insert(now);
        } else {
            (self.whole_since, self.chosen_whole) = (None, None);
        }
        let count = seen.standings.len();
        let ejected =
            seen.standings.iter().filter(|standing| matches!(standing, Standing::Ejected(..))).count();
        if ejected * 100 > self.max_percent * count {
            return Err(format!("{ejected} of {count} ejected, {} % may be", self.max_percent));
        }
        let is_excused = seen.panicking || seen.standings.contains(&Standing::Unhealthy);
        if !is_excused && (0..count).all(|endpoint| !seen.serves(endpoint, now)) {
            return Err(format!("all are left out: {:?}", seen.standings));
        }
        let last = self.seen.back();
        if last.is_none_or(|last| last.standings != seen.standings || last.panicking != seen.panicking) {
            if self.seen.len() == REMEMBERED {
                self.seen.pop_front();
            }
            self.seen.push_back(seen);
        }
        Ok(())
    }

    /// An endpoint was chosen within this time.
    pub(super) fn chosen(&mut self, endpoint: usize, within: (Instant, Instant)) -> Result<(), String> {
        let (from, at) = within;
        let ends = self.seen.iter().skip(1).map(|seen| Some(seen.since)).chain([None]);
        let then = || {
            let all = self.seen.iter().zip(ends.clone());
            let then = all.filter(|(seen, end)| seen.since <= at && end.is_none_or(|end| from <= end));
            then.map(|(seen, _)| seen)
        };
        if self.seen.front().is_none_or(|first| first.since > from) {
            return Ok(());
        }
        if !then().any(|seen| seen.may_be_called(endpoint, within)) {
            return Err(format!("{endpoint} is called though it is left out"));
        }
        let is_panic = then().any(|seen| seen.panicking);
        if self.whole_since.is_some_and(|since| since < from) && !is_panic {
            let first = *self.chosen_whole.get_or_insert(at);
            self.chosen_whole = Some(first.min(at));
            let returned = from.saturating_duration_since(first) >= self.return_after;
            if endpoint >= self.standby_from && first < from && returned {
                return Err(format!("{endpoint} is called, which stands by, and the others have been well"));
            }
        }
        Ok(())
    }

    /// Those that must be chosen sooner or later, as it looks now.
    pub(super) fn expected(&self, standing_by: bool, now: Instant) -> Vec<usize> {
        let Some(seen) = self.seen.back() else { return Vec::new() };
        let tier = if standing_by { self.standby_from..seen.standings.len() } else { 0..self.standby_from };
        tier.filter(|endpoint| seen.serves(*endpoint, now)).collect()
    }

    pub(super) fn stands_by(&self, endpoint: usize) -> bool {
        endpoint >= self.standby_from
    }
}

impl Episode {
    /// Looks at what is published of each bucket's endpoints.
    pub(super) fn look_at_endpoints(&self) {
        let mut ledger = self.world.ledger.borrow_mut();
        for (bucket, pool) in self.world.pools.iter().enumerate() {
            ledger.look_at_endpoints(bucket, pool, self.now);
        }
    }

    /// Every endpoint that is in rotation is called sooner or later.
    pub(super) fn rotates(&mut self, bucket: usize) {
        let pool = self.world.pools[bucket].clone();
        self.look_at_endpoints();
        let mut called = BTreeSet::new();
        for _ in 0..CHOICES_MAX {
            let Some(Ok(permit)) = self.await_answer(pool.acquire(Priority::Low, self.now + PATIENCE)) else {
                return;
            };
            let endpoint = permit.endpoint().0;
            drop(permit);
            called.insert(endpoint);
            let ledger = self.world.ledger.borrow();
            let rotating = &ledger.rotations[bucket];
            let expected = rotating.expected(rotating.stands_by(endpoint), self.now);
            if expected.iter().all(|endpoint| called.contains(endpoint)) {
                return;
            }
        }
        let what = format!("bucket {bucket} calls only {called:?} of {:?}", pool.view(self.now).endpoints);
        self.world.ledger.borrow_mut().accuse(Invariant::Wedge, what);
    }
}
