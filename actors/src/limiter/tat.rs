//! The arrival times of one cell: the use of one limit by one key.
//!
//! A lowered limit counts at most its own burst as used, so that it refuses a client for one token and not for hours. If the tokens
//! beyond were forgotten, a limit that is lowered and raised in turn would give them out again with each change. So a second time keeps
//! them: each change of the limit starts from it (`Pace::convert`). It never decides by itself.

/// Theoretical arrival times, in nanoseconds since the limiter was created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tat {
    /// The time that decides. At a change of the limit it counts at most the burst of the new one.
    pub(super) at: u64,
    /// The time with all tokens in use, never before `at`.
    pub(super) uncapped: u64,
}

impl From<u64> for Tat {
    /// Without tokens beyond the burst.
    fn from(at: u64) -> Self {
        Self { at, uncapped: at }
    }
}

impl Tat {
    /// How far the time that decides is ahead of now.
    pub(super) fn ahead(self, now: u64) -> u64 {
        self.at.saturating_sub(now)
    }

    /// The times after a charge of so many nanoseconds.
    pub(super) fn charged(self, nanos: u64, now: u64) -> Self {
        let charged = |time: u64| time.max(now).saturating_add(nanos);
        Self { at: charged(self.at), uncapped: charged(self.uncapped) }
    }

    /// The later times of both.
    pub(super) fn latest(self, other: Self) -> Self {
        Self { at: self.at.max(other.at), uncapped: self.uncapped.max(other.uncapped) }
    }

    /// The times so far ahead of now.
    pub(super) fn after(self, now: u64) -> Self {
        Self { at: now.saturating_add(self.at), uncapped: now.saturating_add(self.uncapped) }
    }

    /// How far the times are ahead of now.
    pub(super) fn since(self, now: u64) -> Self {
        Self { at: self.ahead(now), uncapped: self.uncapped.saturating_sub(now) }
    }
}
