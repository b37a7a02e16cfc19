//! Crashes and stalls on demand: the tests, and an operator with `admin.chaos = true`, use them to verify
//! supervision.
//!
//! A chaos crash is a real panic at the real point and counts like any other. It happens at once, in a message of its
//! own, or in the next ordinary message (`next_message`); that message's caller must get a typed error. A stall
//! blocks the actor's thread for at most ten seconds, together with everything else on that thread, as a runaway
//! computation would. There is deliberately no way to corrupt an actor's state.

use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// The point of the crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    /// In `decide`, before any write.
    Decide,
    /// In `apply`, before the first write; the state is already marked dirty.
    Apply,
    /// In `apply`, after the last write and before the reply; the state is marked dirty.
    Applied,
    /// In a timer.
    Timer,
    /// In `started()`, after the restart that calls it.
    Started,
}

/// A crash point that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no crash point is named `{0}`: use decide, apply, applied, timer or started")]
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

/// The message that crashes an actor.
#[derive(Debug, Clone, Copy)]
pub struct Crash {
    /// The point of the crash.
    pub point: CrashPoint,
    /// In the next ordinary message instead of at once.
    pub next_message: bool,
}

impl actix::Message for Crash {
    type Result = ();
}

/// The longest stall.
const STALL_MAX: Duration = Duration::from_secs(10);

/// The message that blocks an actor's thread.
#[derive(Debug, Clone, Copy)]
pub struct Stall(Duration);

impl Stall {
    /// A stall of this length, at most ten seconds.
    #[must_use]
    pub fn for_duration(time: Duration) -> Self {
        Self(time.min(STALL_MAX))
    }

    /// Blocks the thread.
    pub(crate) fn block_thread(self) {
        std::thread::sleep(self.0);
    }
}

impl actix::Message for Stall {
    type Result = ();
}

/// The pending crash of an actor.
#[derive(Debug, Default)]
pub(crate) struct Chaos {
    armed: Option<CrashPoint>,
    now: bool,
}

impl Chaos {
    pub(crate) fn arm(&mut self, point: CrashPoint) {
        self.armed = Some(point);
    }

    /// Panics once in the chaos message itself and keeps the armed point for later.
    pub(crate) fn arm_now(&mut self) {
        self.now = true;
    }

    /// Panics if armed for this point.
    pub(crate) fn panic_if_armed(&mut self, point: CrashPoint) {
        if self.armed == Some(point) {
            self.armed = None;
            crash(point);
        }
    }

    /// Panics in the chaos message.
    pub(crate) fn panic_now(&mut self) {
        let Some(point) = self.armed else { return };
        if !std::mem::take(&mut self.now) {
            self.armed = None;
        }
        crash(point);
    }
}

#[expect(clippy::panic, reason = "a chaos crash is a real panic")]
fn crash(point: CrashPoint) {
    panic!("chaos crash at {point:?}");
}
