//! Upstreams that fail in every way, each endpoint in a mood of its own.

use std::time::Duration;

use crate::breaker::{Cause, Outcome};
use crate::simulation::dice::Dice;

/// How an endpoint behaves for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    /// Every second call fails.
    Shaky,
    Failing,
    /// It takes the request and says nothing.
    Silent,
    Refusing,
    /// It answers, and takes its time over the body.
    Slow,
}

/// How a call goes, unless it is cut short.
#[derive(Debug, Clone, Copy)]
pub(super) struct Course {
    pub(super) to_first_byte: Duration,
    pub(super) body: Duration,
    pub(super) outcome: Outcome,
}

/// One bucket's endpoints.
#[derive(Debug)]
pub(super) struct Upstream {
    moods: Vec<Mood>,
}

/// How long a silent endpoint is waited for.
const SILENCE: Duration = Duration::from_secs(20);

impl Upstream {
    pub(super) fn new(endpoints: usize) -> Self {
        Self { moods: vec![Mood::Well; endpoints] }
    }

    /// One of the endpoints, or all of them, behave differently from now on.
    pub(super) fn change(&mut self, dice: &mut Dice) {
        let mood = || {
            [
                Mood::Well,
                Mood::Well,
                Mood::Well,
                Mood::Shaky,
                Mood::Failing,
                Mood::Silent,
                Mood::Refusing,
                Mood::Slow,
            ]
        };
        if dice.once_in(2) {
            self.moods.fill(dice.one_of(mood()));
        } else {
            let chosen = dice.below(self.moods.len());
            self.moods[chosen] = dice.one_of(mood());
        }
    }

    /// Whether an endpoint can be connected to.
    pub(super) fn connects(&self, endpoint: usize) -> bool {
        self.moods.get(endpoint) != Some(&Mood::Refusing)
    }

    /// How a call to an endpoint will go.
    pub(super) fn call(&self, endpoint: usize, dice: &mut Dice) -> Course {
        let mood = match self.moods.get(endpoint).copied().unwrap_or(Mood::Well) {
            Mood::Shaky => dice.one_of([Mood::Well, Mood::Failing]),
            mood => mood,
        };
        let well = Course {
            to_first_byte: Duration::from_micros(dice.between(0, 20_000)),
            body: Duration::from_micros(dice.one_of([0, 100, 50_000])),
            outcome: Outcome::Success,
        };
        let failing = |cause, retry_after| Course {
            outcome: Outcome::Failure { cause, retry_after },
            body: Duration::ZERO,
            ..well
        };
        match mood {
            Mood::Well | Mood::Shaky if dice.once_in(20) => Course { outcome: Outcome::Neutral, ..well },
            Mood::Well | Mood::Shaky => well,
            Mood::Slow => Course { body: Duration::from_millis(dice.between(100, 60_000)), ..well },
            Mood::Failing => {
                let asked = [None, None, Some(Duration::from_secs(3)), Some(Duration::MAX)];
                failing(dice.one_of([Cause::Status(503), Cause::Reset, Cause::Decode]), dice.one_of(asked))
            }
            Mood::Silent => Course { to_first_byte: SILENCE, ..failing(Cause::Timeout, None) },
            Mood::Refusing => Course { to_first_byte: Duration::ZERO, ..failing(Cause::Connect, None) },
        }
    }
}
