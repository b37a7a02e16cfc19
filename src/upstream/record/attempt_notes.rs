//! The attempts of one request, for its access line: endpoint, outcome and duration of each.
//!
//! A request with one successful attempt has no such field, because `attempts`, `endpoint` and `first_byte_us` say the same. The first
//! attempt is stored in place, so only a request with several attempts allocates. `retry.max_attempts` bounds their number.

use std::fmt;
use std::time::Duration;

use crate::upstream::record::micros;

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttemptOutcome {
    /// The upstream answered with this status.
    Status(u16),
    /// It gave no response, for this reason.
    Failed(&'static str),
    /// The other attempt of a hedged read answered first.
    Superseded,
}

/// One attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AttemptNote {
    pub(crate) endpoint: usize,
    pub(crate) outcome: AttemptOutcome,
    /// Whether it counts as a failure of the upstream.
    pub(crate) is_failure: bool,
    /// Up to the head of the response, or the failure.
    pub(crate) took: Duration,
}

impl fmt::Display for AttemptNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (endpoint, took) = (self.endpoint, micros(self.took));
        match self.outcome {
            AttemptOutcome::Status(status) => write!(f, "{endpoint}:{status}:{took}"),
            AttemptOutcome::Failed(reason) => write!(f, "{endpoint}:{reason}:{took}"),
            AttemptOutcome::Superseded => write!(f, "{endpoint}:superseded:{took}"),
        }
    }
}

/// The attempts of one request, in the order of their ends.
#[derive(Debug, Default)]
pub(crate) struct AttemptNotes {
    first: Option<AttemptNote>,
    others: Vec<AttemptNote>,
}

impl AttemptNotes {
    pub(crate) fn push(&mut self, note: AttemptNote) {
        match self.first {
            None => self.first = Some(note),
            Some(_) => self.others.push(note),
        }
    }

    /// Whether the line has the attempts: there are several, or the only one failed.
    pub(super) fn is_logged(&self) -> bool {
        !self.others.is_empty() || self.first.is_some_and(|note| note.is_failure)
    }
}

impl fmt::Display for AttemptNotes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, note) in self.first.iter().chain(&self.others).enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            note.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(outcome: AttemptOutcome, is_failure: bool) -> AttemptNote {
        AttemptNote { endpoint: 1, outcome, is_failure, took: Duration::from_micros(812) }
    }

    /// O2: only several attempts, or a failed one, are written
    #[test]
    fn one_success_is_not_written() {
        let mut notes = AttemptNotes::default();
        assert!(!notes.is_logged());
        notes.push(note(AttemptOutcome::Status(200), false));
        assert!(!notes.is_logged());
        notes.push(note(AttemptOutcome::Superseded, false));
        assert!(notes.is_logged());
        assert_eq!(notes.to_string(), "1:200:812,1:superseded:812");
        let mut failed = AttemptNotes::default();
        failed.push(note(AttemptOutcome::Failed("upstream_reset"), true));
        assert!(failed.is_logged());
        assert_eq!(failed.to_string(), "1:upstream_reset:812");
    }
}
