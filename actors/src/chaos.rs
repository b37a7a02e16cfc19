//! Crashes and stalls on demand: how the tests, and an operator with `admin.chaos = true`, prove supervision.
//!
//! A chaos crash is a real panic in the real place and counts like any other. It strikes either at once, in
//! a message of its own, or in the next ordinary message (`next_message`), whose caller must then see a
//! typed error. A stall really holds the actor's thread, for at most ten seconds: whatever shares it waits too, as it would
//! behind a computation that goes wrong. There is deliberately no way to corrupt an actor's state.

use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// Where the crash strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    /// Before anything was written.
    Decide,
    /// Before the first write, when the state counts as dirty already.
    Apply,
    /// After the last write, before the answer has gone: the state counts as dirty.
    Applied,
    /// In a timer.
    Timer,
    /// In `started()`, after the restart that leads there.
    Started,
}

/// A place that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no crash place `{0}`: use decide, apply, applied, timer or started")]
pub struct UnknownCrashPoint(String);

impl FromStr for CrashPoint {
    type Err = UnknownCrashPoint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "decide" => Ok(Self::Decide),
            "apply" => Ok(Self::Apply),
            "applied" => Ok(Self::Applied),
            "timer" => Ok(Self::Timer),
            "started" => Ok(Self::Started),
            other => Err(UnknownCrashPoint(other.to_owned())),
        }
    }
}

/// Asks an actor to crash.
#[derive(Debug, Clone, Copy)]
pub struct Crash {
    /// Where.
    pub point: CrashPoint,
    /// In the next ordinary message instead of at once.
    pub next_message: bool,
}

impl actix::Message for Crash {
    type Result = ();
}

/// The longest stall.
const STALL_MAX: Duration = Duration::from_secs(10);

/// Asks an actor to stand still.
#[derive(Debug, Clone, Copy)]
pub struct Stall(Duration);

impl Stall {
    /// For so long, but for ten seconds at most.
    #[must_use]
    pub fn for_duration(time: Duration) -> Self {
        Self(time.min(STALL_MAX))
    }

    /// Holds the thread.
    pub(crate) fn block_thread(self) {
        std::thread::sleep(self.0);
    }
}

impl actix::Message for Stall {
    type Result = ();
}

/// The crash an actor is armed with.
#[derive(Debug, Default)]
pub(crate) struct Chaos {
    armed: Option<CrashPoint>,
    now: bool,
}

impl Chaos {
    pub(crate) fn arm(&mut self, place: CrashPoint) {
        self.armed = Some(place);
    }

    /// Crash once on the way, leaving the armed place for later.
    pub(crate) fn arm_now(&mut self) {
        self.now = true;
    }

    /// Panics if armed for this place.
    pub(crate) fn panic_if_armed(&mut self, place: CrashPoint) {
        if self.armed == Some(place) {
            self.armed = None;
            crash(place);
        }
    }

    /// Panics in the chaos message itself.
    pub(crate) fn panic_now(&mut self) {
        let Some(place) = self.armed else { return };
        if !std::mem::take(&mut self.now) {
            self.armed = None;
        }
        crash(place);
    }
}

#[expect(clippy::panic, reason = "a chaos crash is a real panic")]
fn crash(place: CrashPoint) {
    panic!("chaos crash at {place:?}");
}
