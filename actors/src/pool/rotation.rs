//! Which endpoint is called next: all of a bucket's endpoints together.
//!
//! The cheaper of two different random ones, by requests under way and latency; one choice in eight looks at the
//! requests alone, so that the latency of an endpoint nobody calls is measured again. One that has just come back passes part of
//! what it is chosen for on. Only failures say that an endpoint is bad, but requests under way say it sooner: one that hangs
//! collects them and is not chosen, one that fails at once would be preferred for its speed, which therefore only successes
//! measure.
//!
//! The last usable endpoint is never left out. If it, too, fails as others were ejected for, that is *panic*: all are called,
//! for nobody knows any more who is bad, until a call of one succeeds. So it is while checks find every endpoint unhealthy.
//!
//! The last endpoints may *stand by*. They are called while too few of the others are usable, and requests return once enough
//! of those have been usable for a while, or at once if none that stands by is.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::pool::endpoint::{Check, Endpoint, Failure, Sentence, Strike, WEIGHT_WHOLE};
use crate::pool::rules::Rules;
use crate::pool::signs::Signs;

/// One choice in so many looks at the requests under way alone.
const LATENCY_BLIND: u64 = 8;

/// What changed, for logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// An endpoint left the rotation.
    Left { endpoint: usize, sentence: Sentence, strike: Strike, time: Duration },
    /// Checks found it unhealthy.
    FoundUnhealthy { endpoint: usize },
    /// It is called again.
    CameBack { endpoint: usize },
    /// All are called, because all fail.
    Panicked,
    /// A call succeeded again.
    Calmed,
    /// Those that stand by are called.
    FailedOver,
    /// The others are called again.
    Returned,
}

/// The endpoints of one bucket.
#[derive(Debug)]
pub(crate) struct Rotation {
    endpoints: Vec<Endpoint>,
    signs: Arc<Signs>,
    rules: Rules,
    panic: bool,
    failed_over: bool,
    /// Since when enough of those that don't stand by are usable, while others serve.
    enough_since: Option<Instant>,
    turns: Vec<Turn>,
    random: u64,
}

impl Rotation {
    pub(crate) fn new(signs: Arc<Signs>, rules: Rules, seed: u64, now: Instant) -> Self {
        let endpoints = (0..signs.len()).map(|_| Endpoint::new(now)).collect();
        Self {
            endpoints,
            signs,
            rules,
            panic: false,
            failed_over: false,
            enough_since: None,
            turns: Vec::new(),
            random: seed | 1,
        }
    }

    /// What changed since this was asked last.
    pub(crate) fn take_turns(&mut self) -> Vec<Turn> {
        std::mem::take(&mut self.turns)
    }

    /// Chooses an endpoint, the one to avoid only if no other is usable.
    pub(crate) fn pick(&mut self, avoid: Option<usize>, now: Instant) -> usize {
        if self.endpoints.len() == 1 {
            return 0;
        }
        self.roll(now);
        let tier = self.tier(now);
        let others = |i: usize| avoid != Some(i);
        let serves = |this: &Self, i: usize| this.endpoints[i].is_usable() && tier.contains(&i);
        let is_any_usable = !self.panic && self.usable(0..self.endpoints.len()) > 0;
        let picked = if is_any_usable {
            self.choose(|this, i| serves(this, i) && others(i), now)
                .or_else(|| self.choose(|this, i| serves(this, i), now))
        } else {
            self.choose(|_, i| others(i), now)
        };
        picked.unwrap_or(0)
    }

    fn choose(&mut self, may: impl Fn(&Self, usize) -> bool, now: Instant) -> Option<usize> {
        let (one, two, three) = (self.random(), self.random(), self.random());
        let candidates = || (0..self.endpoints.len()).filter(|i| may(self, *i));
        let count = candidates().count() as u64;
        if count < 2 {
            return candidates().next();
        }
        let nth = |n: u64| candidates().nth(usize::try_from(n).unwrap_or(0));
        let at = one % count;
        let first = nth(at)?;
        let second = nth((at + 1 + two % (count - 1)) % count)?;
        let cost = |i: usize| match three % LATENCY_BLIND {
            0 => self.signs.of(i).load() as u64,
            _ => self.signs.of(i).cost(),
        };
        let (better, other) = if cost(second) < cost(first) { (second, first) } else { (first, second) };
        let weight = |i: usize| self.endpoints[i].weight(self.rules.slow_start, now);
        let passes_on = (three >> 8) % u64::from(WEIGHT_WHOLE) >= u64::from(weight(better));
        Some(if passes_on && weight(other) > weight(better) { other } else { better })
    }

    /// A call failed.
    pub(crate) fn fail(&mut self, endpoint: usize, failure: &Failure, now: Instant) {
        if self.endpoints.len() == 1 {
            return;
        }
        self.roll(now);
        let Some(sentence) = self.endpoints[endpoint].fail(failure, &self.rules, now) else { return };
        if self.panic {
            return;
        }
        let has_other = (0..self.endpoints.len()).any(|i| i != endpoint && self.endpoints[i].is_usable());
        match sentence {
            Sentence::Eject if !has_other => {
                self.panic = true;
                self.signs.set_panicking(true);
                self.turns.push(Turn::Panicked);
            }
            Sentence::Eject if self.may_eject_one_more() => {
                self.leave(endpoint, Sentence::Eject, failure.strike, now);
            }
            // A call to it would be wasted, whatever the limit.
            _ if has_other && failure.strike == Strike::Unreachable => {
                self.leave(endpoint, Sentence::Rest, failure.strike, now);
            }
            _ => {}
        }
    }

    fn may_eject_one_more(&self) -> bool {
        let ejected = self.endpoints.iter().filter(|endpoint| endpoint.is_ejected()).count();
        (ejected + 1) * 100 <= self.rules.max_percent * self.endpoints.len()
    }

    fn leave(&mut self, endpoint: usize, sentence: Sentence, strike: Strike, now: Instant) {
        #[expect(clippy::cast_precision_loss, reason = "any number from 0 to 1 will do")]
        let jitter = (self.random() >> 11) as f64 / (1_u64 << 53) as f64;
        let time = self.endpoints[endpoint].leave(sentence, strike, &self.rules, jitter, now);
        if sentence == Sentence::Eject {
            self.signs.of(endpoint).count_ejection();
        }
        self.publish(endpoint);
        self.turns.push(Turn::Left { endpoint, sentence, strike, time });
    }

    /// A call succeeded while all were called because all had failed.
    pub(crate) fn succeed(&mut self, endpoint: usize, now: Instant) {
        if self.panic {
            let successes = self.signs.of(endpoint).successes();
            if self.endpoints[endpoint].due().is_some() {
                self.endpoints[endpoint].end_absence(successes, now);
                self.came_back(endpoint);
            }
            self.calm();
        }
    }

    /// A check was made.
    pub(crate) fn checked(&mut self, endpoint: usize, check: &Check, now: Instant) {
        self.roll(now);
        let successes = self.signs.of(endpoint).successes();
        if !self.endpoints[endpoint].checked(check, &self.rules, successes, now) {
            self.publish(endpoint);
        } else if self.endpoints[endpoint].is_usable() {
            self.came_back(endpoint);
            self.calm();
        } else {
            self.publish(endpoint);
            self.turns.push(Turn::FoundUnhealthy { endpoint });
        }
    }

    /// A connection was made that began then.
    pub(crate) fn reached(&mut self, endpoint: usize, began: Instant, now: Instant) {
        self.roll(now);
        if self.endpoints[endpoint].is_disproven_by_reach(began) {
            let successes = self.signs.of(endpoint).successes();
            self.endpoints[endpoint].end_absence(successes, now);
            self.came_back(endpoint);
        }
        if self.endpoints[endpoint].is_usable() {
            self.calm();
        }
    }

    /// Publishes everything anew, after a crash in mid-write.
    pub(crate) fn publish_all(&self) {
        (0..self.endpoints.len()).for_each(|endpoint| self.publish(endpoint));
        self.signs.set_panicking(self.panic);
    }

    fn calm(&mut self) {
        if std::mem::take(&mut self.panic) {
            self.signs.set_panicking(false);
            self.turns.push(Turn::Calmed);
        }
    }

    /// Brings back whose time is up.
    fn roll(&mut self, now: Instant) {
        for endpoint in 0..self.endpoints.len() {
            if self.endpoints[endpoint].due().is_some_and(|due| due <= now) {
                let successes = self.signs.of(endpoint).successes();
                self.endpoints[endpoint].end_absence(successes, now);
                self.came_back(endpoint);
            }
        }
    }

    fn came_back(&mut self, endpoint: usize) {
        self.signs.of(endpoint).forget_latency();
        self.publish(endpoint);
        if self.endpoints[endpoint].is_usable() {
            self.turns.push(Turn::CameBack { endpoint });
        }
    }

    fn publish(&self, endpoint: usize) {
        self.signs.of(endpoint).publish(self.endpoints[endpoint].standing());
    }

    fn usable(&self, range: Range<usize>) -> usize {
        self.endpoints[range].iter().filter(|endpoint| endpoint.is_usable()).count()
    }

    /// The endpoints that serve now.
    fn tier(&mut self, now: Instant) -> Range<usize> {
        let count = self.endpoints.len();
        let first = count - self.rules.standby.min(count - 1);
        if first == count {
            return 0..count;
        }
        let usable = self.usable(0..first);
        let is_enough = usable * 100 >= self.rules.min_usable_percent * first;
        let can_stand_in = self.usable(first..count) > 0;
        if !self.failed_over {
            if !is_enough && can_stand_in {
                self.failed_over = true;
                self.enough_since = None;
                self.turns.push(Turn::FailedOver);
            }
        } else {
            self.enough_since = if is_enough { self.enough_since.or(Some(now)) } else { None };
            let since = self.enough_since.map(|since| now.saturating_duration_since(since));
            let has_held = since.is_some_and(|held| held >= self.rules.return_after);
            if has_held || (!can_stand_in && usable > 0) {
                self.failed_over = false;
                self.turns.push(Turn::Returned);
            }
        }
        if self.failed_over { first..count } else { 0..first }
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

#[cfg(test)]
#[path = "rotation_tests.rs"]
mod tests;
