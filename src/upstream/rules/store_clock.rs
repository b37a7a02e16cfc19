//! The clock offset between one endpoint and the gateway, for signatures (A2).
//!
//! A store accepts a signature with a time within some minutes of its own. If it refuses the time, one of the two
//! clocks is wrong and no client can fix that. The gateway then signs with the store's date until the clocks agree
//! again. The date decides how long a captured signature is valid, so it is used only over TLS or loopback, and only
//! within 24 hours.
//!
//! ```text
//!            time refused                       accepted, and the date agrees with the gateway's clock
//!  agrees ─────────────────▶ episode: offset ──────────────────────────────────────────────────────────▶ agrees
//!                            or an obstacle  ── no confirmation for 15 min (offset), 1 min (obstacle) ▶ agrees
//! ```
//!
//! All worker threads share one value. A request reads two atomics; the mutex is locked only during an episode. No
//! actor owns it, because it grants and limits nothing. A restart loses it; the next refusal sets it again.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use slog::{Logger, info, warn};

/// The maximum offset that is used.
const OFFSET_MAX: ClockOffset = ClockOffset(24 * 3600 * 1000);
/// Readings of one clock that differ by less are equal: `Date` has whole seconds and needs time on the network.
const NOISE_MILLIS: u64 = 10_000;
/// A date within this difference is no evidence of a wrong clock.
const AGREEMENT_MILLIS: u64 = 5 * 60 * 1000;
/// An offset ends if no response has confirmed it for this long.
const OFFSET_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// An obstacle ends if no time was refused for this long.
const OBSTACLE_LIFETIME: Duration = Duration::from_secs(60);
/// Minimum interval between log lines about one endpoint: several clocks may be behind one address.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// How far a store's clock is ahead of the gateway's, in ms. Negative if it is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ClockOffset(i64);

impl ClockOffset {
    /// The offset from the gateway's time to the store's.
    pub(crate) fn between(gateway: SystemTime, store: SystemTime) -> Self {
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        Self(match store.duration_since(gateway) {
            Ok(ahead) => millis(ahead),
            Err(behind) => -millis(behind.duration()),
        })
    }

    /// The store's time for a time of the gateway.
    pub(crate) fn applied_to(self, gateway: SystemTime) -> SystemTime {
        let offset = Duration::from_millis(self.0.unsigned_abs());
        let shifted = if self.0 < 0 { gateway.checked_sub(offset) } else { gateway.checked_add(offset) };
        shifted.unwrap_or(gateway)
    }

    fn is_close_to(self, other: Self) -> bool {
        self.0.abs_diff(other.0) < NOISE_MILLIS
    }

    /// Whether two offsets differ by at least `least`.
    pub(crate) fn differs_by(self, other: Self, least: Duration) -> bool {
        u128::from(self.0.abs_diff(other.0)) >= least.as_millis()
    }

    fn is_within(self, max: Self) -> bool {
        self.0.unsigned_abs() <= max.0.unsigned_abs()
    }

    /// Whether a date with this offset shows that the gateway's clock was corrected.
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

/// A signature of the gateway that the store refused because of its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeRefusal {
    /// The offset of the signature.
    pub(crate) used: ClockOffset,
    /// The store's clock. None if the response has no date.
    pub(crate) measured: Option<ClockOffset>,
    /// Whether the error code names the cause. The response to a HEAD has no code, only its date.
    pub(crate) is_confirmed: bool,
}

/// Why the store's time cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClockObstacle {
    /// Neither TLS nor loopback.
    Untrusted,
    /// The response has no date.
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
                "the store's date is not used for signatures, because the connection has no TLS: write https:// in endpoints"
            }
            Self::Undated => "the store's response has no date to sign with",
            Self::TooFar => "the store's date is not used for signatures, because it differs by more than 24 hours",
            Self::Refused => "the store refuses its own date as well",
        })
    }
}

/// The result of a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClockSkew {
    /// The offset for a repeated signature, if that may succeed.
    pub(crate) retry_offset: Option<ClockOffset>,
    pub(crate) is_confirmed: bool,
    /// The text for the operator.
    pub(crate) detail: String,
}

/// A differing clock in the status response.
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

/// A period in which the clocks differ.
#[derive(Debug, Clone, Copy)]
struct SkewEpisode {
    began: Instant,
    /// The last refusal, or the last response that confirmed the offset.
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

/// The state of one clock.
#[derive(Debug, Default)]
struct ClockState {
    is_trusted: bool,
    episode: Option<SkewEpisode>,
}

impl ClockState {
    /// The offset for a repeated signature, or why there is none.
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

    /// Records a refusal that the error code confirms. Ok with offset zero means that the clocks agree again.
    fn record_refusal(&mut self, refusal: TimeRefusal, now: Instant) -> Result<ClockOffset, ClockObstacle> {
        let offset = self.usable_offset(refusal, now);
        let before = self.episode.filter(|episode| !episode.is_over(now));
        let is_retry = refusal.measured.is_some_and(|measured| measured.is_close_to(refusal.used));
        self.episode = Some(SkewEpisode {
            began: before.map_or(now, |episode| episode.began),
            last_observed: now,
            last_tried: before.filter(|_| !is_retry).map_or(now, |episode| episode.last_tried),
            measured: refusal.measured,
            obstacle: offset.err(),
        });
        if offset == Ok(ClockOffset::default()) {
            self.episode = None;
        }
        offset
    }

    /// Records an accepted signature with the offset `used`. `measured` is from the date of the response.
    fn record_acceptance(&mut self, used: ClockOffset, measured: Option<ClockOffset>, now: Instant) {
        let is_plain = used == ClockOffset::default();
        match &mut self.episode {
            // The gateway's own clock works.
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

/// The clock of one endpoint.
pub(crate) struct StoreClock {
    offset_millis: AtomicI64,
    is_in_episode: AtomicBool,
    clock: Mutex<ClockState>,
    log: ClockLog,
}

impl StoreClock {
    /// The clock of an endpoint. `is_trusted` is set for TLS and loopback.
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

    /// The current offset for signatures.
    pub(crate) fn offset(&self, now: Instant) -> ClockOffset {
        match self.offset_millis.load(Ordering::Relaxed) {
            0 => ClockOffset::default(),
            _ => self.update(now, |clock| clock.episode.map(|episode| episode.offset())).unwrap_or_default(),
        }
    }

    /// The current episode.
    pub(crate) fn snapshot(&self, now: Instant) -> Option<ClockSnapshot> {
        if !self.is_in_episode() {
            return None;
        }
        self.update(now, |clock| clock.episode.map(|episode| episode.snapshot()))
    }

    /// Whether the clocks differ, so that the dates of responses matter.
    pub(crate) fn is_in_episode(&self) -> bool {
        self.is_in_episode.load(Ordering::Relaxed)
    }

    /// Reports that the store refused the time of a signature.
    pub(crate) fn report_refusal(&self, refusal: TimeRefusal, now: Instant) -> ClockSkew {
        // An unconfirmed offset is published only after the store has accepted it.
        let offset = match refusal.is_confirmed {
            true => self.update(now, |clock| clock.record_refusal(refusal, now)),
            false => self.lock().usable_offset(refusal, now),
        };
        let snapshot = ClockSnapshot { began: now, measured: refusal.measured, obstacle: offset.err() };
        ClockSkew {
            retry_offset: offset.ok(),
            is_confirmed: refusal.is_confirmed,
            detail: snapshot.to_string(),
        }
    }

    /// Reports that the store accepted a signature.
    pub(crate) fn report_acceptance(&self, used: ClockOffset, measured: Option<ClockOffset>, now: Instant) {
        self.update(now, |clock| clock.record_acceptance(used, measured, now));
    }

    fn lock(&self) -> MutexGuard<'_, ClockState> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and publishes it. Ends an episode that has expired.
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

/// Logs the beginning and the end of episodes.
struct ClockLog {
    log: Logger,
    bucket: String,
    authority: String,
    last: Mutex<LastLine>,
}

#[derive(Debug, Default)]
struct LastLine {
    written: Option<Instant>,
    /// Whether the end of the current episode must still be logged.
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
