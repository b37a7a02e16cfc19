//! The difference between the clock of one endpoint and the gateway's, as far as signatures need it (A2).
//!
//! A store accepts a signature whose time is within some minutes of its own. If it refuses the time of the gateway's signature, one of
//! the two clocks is wrong, and no client can do anything about it. The gateway then takes the store's date for its signatures
//! until the clocks agree again. The date decides for how long a captured signature is valid, so it is taken only over TLS or loopback,
//! and only within 24 hours.
//!
//! ```text
//!            time refused                       accepted, and the date agrees with the gateway's clock
//!  agrees ─────────────────▶ episode: offset ──────────────────────────────────────────────────────────▶ agrees
//!                            or an obstacle  ── no confirmation for 15 min (offset), 1 min (obstacle) ▶ agrees
//! ```
//!
//! One value for all worker threads. A request reads two atomics, the rest happens during an episode only. The offset admits nobody and
//! holds no place, so it belongs to no actor; a restart forgets it, and the next refusal brings it back.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use slog::{Logger, info, warn};

/// A store's date is not followed further than this.
const OFFSET_MAX: ClockOffset = ClockOffset(24 * 3600 * 1000);
/// Two readings of one clock that differ by less are the same: `Date` counts whole seconds and travels.
const NOISE_MILLIS: u64 = 10_000;
/// A date that is nearer to the gateway's clock shows no error of it.
const AGREEMENT_MILLIS: u64 = 5 * 60 * 1000;
/// An offset ends when no answer has confirmed it for so long.
const OFFSET_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// An obstacle ends when no time was refused for so long.
const OBSTACLE_LIFETIME: Duration = Duration::from_secs(60);
/// Lines about one endpoint are at least so far apart: behind one address may be several clocks.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// How far a store's clock is ahead of the gateway's, in ms; negative if it is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ClockOffset(i64);

impl ClockOffset {
    /// From the gateway's time to the store's.
    pub(crate) fn between(own: SystemTime, stores: SystemTime) -> Self {
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        Self(match stores.duration_since(own) {
            Ok(ahead) => millis(ahead),
            Err(behind) => -millis(behind.duration()),
        })
    }

    /// The store's time.
    pub(crate) fn applied_to(self, own: SystemTime) -> SystemTime {
        let by = Duration::from_millis(self.0.unsigned_abs());
        let moved = if self.0 < 0 { own.checked_sub(by) } else { own.checked_add(by) };
        moved.unwrap_or(own)
    }

    fn is_close_to(self, other: Self) -> bool {
        self.0.abs_diff(other.0) < NOISE_MILLIS
    }

    /// Whether two clocks differ by at least so much.
    pub(crate) fn differs_by(self, other: Self, least: Duration) -> bool {
        u128::from(self.0.abs_diff(other.0)) >= least.as_millis()
    }

    fn is_within(self, most: Self) -> bool {
        self.0.unsigned_abs() <= most.0.unsigned_abs()
    }

    /// Whether a date that is so far off shows that the gateway's clock needs this offset no more.
    fn is_corrected_by(self, measured: Self) -> bool {
        let measured = measured.0.unsigned_abs();
        measured <= self.0.unsigned_abs() / 4 && measured < AGREEMENT_MILLIS
    }
}

impl fmt::Display for ClockOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.unsigned_abs() / 1000;
        let direction = if self.0 < 0 { "behind" } else { "ahead of" };
        write!(f, "{seconds} s {direction} the gateway's")
    }
}

/// A signature of the gateway's that the store refused for its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeRefusal {
    /// The offset that it was signed with.
    pub(crate) used: ClockOffset,
    /// The store's clock; none where the answer has no date.
    pub(crate) measured: Option<ClockOffset>,
    /// Whether the error code says so. The answer to a HEAD has none, there the date alone does.
    pub(crate) is_confirmed: bool,
}

/// Why the store's time cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClockObstacle {
    /// Neither TLS nor loopback.
    Untrusted,
    /// The answer has no date.
    Undated,
    /// More than 24 hours.
    TooFar,
    /// The store refuses its own time.
    Refused,
}

impl fmt::Display for ClockObstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Untrusted => {
                "its date is not used for signatures, because the endpoint is reached without TLS: write https:// in endpoints"
            }
            Self::Undated => "its answer has no date to sign with",
            Self::TooFar => "its date is not used for signatures, because it is more than 24 hours off",
            Self::Refused => "it refuses its own date as well",
        })
    }
}

/// What follows from a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClockSkew {
    /// The offset for one more signature, where that may help.
    pub(crate) retry_offset: Option<ClockOffset>,
    pub(crate) is_confirmed: bool,
    /// For the operator.
    pub(crate) detail: String,
}

/// A clock that differs, as the status shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClockSnapshot {
    pub(crate) began: Instant,
    pub(crate) measured: Option<ClockOffset>,
    /// None while requests are signed with the store's time.
    pub(crate) obstacle: Option<ClockObstacle>,
}

impl fmt::Display for ClockSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.measured {
            Some(offset) => write!(f, "the store's clock is {offset}")?,
            None => f.write_str("the store's clock differs from the gateway's")?,
        }
        if let Some(obstacle) = &self.obstacle {
            write!(f, "; {obstacle}")?;
        }
        f.write_str("; correct the clock of the gateway's host or of the store")
    }
}

/// A time in which the clocks differ.
#[derive(Debug, Clone, Copy)]
struct SkewEpisode {
    began: Instant,
    /// The last refusal, or the last answer that confirmed the offset.
    last_observed: Instant,
    /// The last time that the store's date was tried.
    last_tried: Instant,
    measured: Option<ClockOffset>,
    obstacle: Option<ClockObstacle>,
}

impl SkewEpisode {
    fn is_over(&self, now: Instant) -> bool {
        let lifetime = if self.obstacle.is_some() { OBSTACLE_LIFETIME } else { OFFSET_LIFETIME };
        now.saturating_duration_since(self.last_observed) >= lifetime
    }

    fn offset(&self) -> ClockOffset {
        self.measured.filter(|_| self.obstacle.is_none()).unwrap_or_default()
    }

    fn snapshot(&self) -> ClockSnapshot {
        ClockSnapshot { began: self.began, measured: self.measured, obstacle: self.obstacle }
    }
}

/// What is known of one clock.
#[derive(Debug, Default)]
struct ClockState {
    is_trusted: bool,
    episode: Option<SkewEpisode>,
}

impl ClockState {
    /// The offset for one more signature, or why there is none.
    fn usable_offset(&self, refusal: TimeRefusal, now: Instant) -> Result<ClockOffset, ClockObstacle> {
        let TimeRefusal { used, measured, .. } = refusal;
        let measured = measured.ok_or(ClockObstacle::Undated)?;
        if !self.is_trusted {
            return Err(ClockObstacle::Untrusted);
        }
        if !measured.is_within(OFFSET_MAX) {
            return Err(ClockObstacle::TooFar);
        }
        let was_refused = self.episode.is_some_and(|episode| {
            episode.obstacle == Some(ClockObstacle::Refused)
                && episode.measured.is_some_and(|before| before.is_close_to(measured))
                && now.saturating_duration_since(episode.last_tried) < OBSTACLE_LIFETIME
        });
        if measured.is_close_to(used) || was_refused {
            return Err(ClockObstacle::Refused);
        }
        let agrees = measured.is_close_to(ClockOffset::default());
        Ok(if agrees { ClockOffset::default() } else { measured })
    }

    /// A refusal that the error code names. Without an offset the store's time is the gateway's again.
    fn record_refusal(&mut self, refusal: TimeRefusal, now: Instant) -> Result<ClockOffset, ClockObstacle> {
        let judged = self.usable_offset(refusal, now);
        let before = self.episode.filter(|episode| !episode.is_over(now));
        let tries = refusal.measured.is_some_and(|measured| measured.is_close_to(refusal.used));
        self.episode = Some(SkewEpisode {
            began: before.map_or(now, |episode| episode.began),
            last_observed: now,
            last_tried: before.filter(|_| !tries).map_or(now, |episode| episode.last_tried),
            measured: refusal.measured,
            obstacle: judged.err(),
        });
        if judged == Ok(ClockOffset::default()) {
            self.episode = None;
        }
        judged
    }

    /// A signature was accepted that was made with the offset `used`; `measured` is the date of the answer.
    fn record_acceptance(&mut self, used: ClockOffset, measured: Option<ClockOffset>, now: Instant) {
        let is_plain = used == ClockOffset::default();
        match &mut self.episode {
            // The plain clock works.
            Some(episode) if is_plain && episode.obstacle.is_some() => self.episode = None,
            _ if is_plain => {}
            _ if measured.is_some_and(|measured| used.is_corrected_by(measured)) => self.episode = None,
            Some(episode) if episode.obstacle.is_none() => episode.last_observed = now,
            _ if measured.is_some_and(|measured| used.is_close_to(measured)) => {
                self.episode = Some(SkewEpisode {
                    began: now,
                    last_observed: now,
                    last_tried: now,
                    measured: Some(used),
                    obstacle: None,
                });
            }
            _ => {}
        }
    }
}

/// One endpoint's clock.
pub(crate) struct StoreClock {
    offset_millis: AtomicI64,
    is_in_episode: AtomicBool,
    clock: Mutex<ClockState>,
    log: ClockLog,
}

impl StoreClock {
    /// The clock of an endpoint that is reached over TLS or loopback, or not.
    pub(crate) fn new(is_trusted: bool, bucket: &str, authority: &str, log: &Logger) -> Self {
        Self {
            offset_millis: AtomicI64::new(0),
            is_in_episode: AtomicBool::new(false),
            clock: Mutex::new(ClockState { is_trusted, episode: None }),
            log: ClockLog {
                log: log.clone(),
                bucket: bucket.to_owned(),
                authority: authority.to_owned(),
                last: Mutex::default(),
            },
        }
    }

    /// The offset that signatures are made with now.
    pub(crate) fn offset(&self, now: Instant) -> ClockOffset {
        match self.offset_millis.load(Ordering::Relaxed) {
            0 => ClockOffset::default(),
            _ => self.update(now, |clock| clock.episode.map(|episode| episode.offset())).unwrap_or_default(),
        }
    }

    /// The present episode.
    pub(crate) fn snapshot(&self, now: Instant) -> Option<ClockSnapshot> {
        if !self.is_in_episode() {
            return None;
        }
        self.update(now, |clock| clock.episode.map(|episode| episode.snapshot()))
    }

    /// Whether the clocks differ, so that dates of answers are of interest.
    pub(crate) fn is_in_episode(&self) -> bool {
        self.is_in_episode.load(Ordering::Relaxed)
    }

    /// A signature of the gateway's was refused for its time.
    pub(crate) fn report_refusal(&self, refusal: TimeRefusal, now: Instant) -> ClockSkew {
        // A guess is not published before it has proven right.
        let judged = match refusal.is_confirmed {
            true => self.update(now, |clock| clock.record_refusal(refusal, now)),
            false => self.lock().usable_offset(refusal, now),
        };
        let view = ClockSnapshot { began: now, measured: refusal.measured, obstacle: judged.err() };
        ClockSkew { retry_offset: judged.ok(), is_confirmed: refusal.is_confirmed, detail: view.to_string() }
    }

    /// A signature of the gateway's was accepted.
    pub(crate) fn report_acceptance(&self, used: ClockOffset, measured: Option<ClockOffset>, now: Instant) {
        self.update(now, |clock| clock.record_acceptance(used, measured, now));
    }

    fn lock(&self) -> MutexGuard<'_, ClockState> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and publishes it. An episode that nothing was heard of is over.
    fn update<T>(&self, now: Instant, change: impl FnOnce(&mut ClockState) -> T) -> T {
        let mut clock = self.lock();
        let before = clock.episode;
        if before.is_some_and(|episode| episode.is_over(now)) {
            clock.episode = None;
        }
        let changed = change(&mut clock);
        let after = clock.episode;
        self.offset_millis.store(after.map_or(0, |episode| episode.offset().0), Ordering::Relaxed);
        self.is_in_episode.store(after.is_some(), Ordering::Relaxed);
        drop(clock);
        self.log.log_change(before, after, now);
        changed
    }
}

/// Writes the beginning and the end of episodes.
struct ClockLog {
    log: Logger,
    bucket: String,
    authority: String,
    last: Mutex<LastLine>,
}

#[derive(Debug, Default)]
struct LastLine {
    written: Option<Instant>,
    /// The end of the present episode is still to be written.
    is_open: bool,
}

impl ClockLog {
    fn log_change(&self, before: Option<SkewEpisode>, after: Option<SkewEpisode>, now: Instant) {
        if before.is_some() == after.is_some() {
            return;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match after {
            Some(episode) => {
                if last.written.is_some_and(|written| now.saturating_duration_since(written) < LOG_INTERVAL) {
                    return;
                }
                *last = LastLine { written: Some(now), is_open: true };
                warn!(self.log, "the store refuses the time of the gateway's signatures"; "bucket" => &self.bucket,
                    "endpoint" => &self.authority, "error" => episode.snapshot().to_string());
            }
            None if std::mem::take(&mut last.is_open) => {
                info!(self.log, "requests are signed with the gateway's own time again"; "bucket" => &self.bucket,
                    "endpoint" => &self.authority);
            }
            None => {}
        }
    }
}

#[cfg(test)]
#[path = "store_clock_tests.rs"]
mod tests;
