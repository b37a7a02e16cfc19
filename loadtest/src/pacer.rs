//! Timer with microsecond resolution.
//!
//! The runtime's timers wake on whole milliseconds, which would add up to a millisecond to every latency that counts from the intended send
//! time, and would turn a 20 ms upstream into a 21 ms one. A timer descriptor has a finer resolution and needs neither a spinning thread
//! nor a second wake-up.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::clock;

/// One timer, for one sleep at a time.
pub(crate) struct Pacer {
    timer: AsyncFd<OwnedFd>,
}

impl Pacer {
    /// Needs a running tokio runtime.
    #[expect(deprecated, reason = "an owned descriptor upholds what the unsafe replacement asks for")]
    pub(crate) fn new() -> io::Result<Self> {
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Self { timer: AsyncFd::with_interest(timer, Interest::READABLE)? })
    }

    /// Sleeps until `deadline`. Returns immediately if it has passed.
    pub(crate) async fn sleep_until(&mut self, deadline: Instant) -> io::Result<()> {
        let wait = deadline.saturating_duration_since(clock::now());
        if wait.is_zero() {
            return Ok(());
        }
        self.arm(wait)?;
        loop {
            let mut ready = self.timer.readable().await?;
            let read = ready.try_io(|timer| {
                let mut expirations = [0; 8];
                Ok(rustix::io::read(timer.get_ref(), &mut expirations)?)
            });
            // WouldBlock: readiness of a cancelled sleep was cleared, so wait again.
            if let Ok(done) = read {
                return done.map(drop);
            }
        }
    }

    /// Sleeps for `wait`.
    pub(crate) async fn sleep(&mut self, wait: Duration) -> io::Result<()> {
        self.sleep_until(clock::now() + wait).await
    }

    fn arm(&self, wait: Duration) -> io::Result<()> {
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() },
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn it_never_wakes_early_and_a_past_deadline_costs_nothing() {
        let mut pacer = Pacer::new().unwrap();
        for micros in [150, 700, 2_300] {
            let deadline = clock::now() + Duration::from_micros(micros);
            pacer.sleep_until(deadline).await.unwrap();
            assert!(clock::now() >= deadline);
            pacer.sleep_until(deadline).await.unwrap();
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_cancelled_sleep_does_not_shorten_the_next_one() {
        let mut pacer = Pacer::new().unwrap();
        // A busy machine runs this thread late, and a sleep that has ended is not cancelled.
        let early = Duration::from_millis(2);
        let cancelled = tokio::time::timeout(early, pacer.sleep(Duration::from_millis(500))).await;
        assert!(cancelled.is_err());
        tokio::time::sleep(Duration::from_millis(510)).await;
        let deadline = clock::now() + Duration::from_millis(10);
        pacer.sleep_until(deadline).await.unwrap();
        assert!(clock::now() >= deadline);
    }
}
