//! The signals that the process handles.
//!
//! `timeout` and process groups send the same signal twice at once, to the process and to its group. So two of the
//! same signal within [`REPEAT_WINDOW`] count as one. SIGTERM and SIGINT take effect at the first signal. SIGHUP and
//! SIGUSR1 take effect at the end of the window, so that a file that was changed before the last signal is read. The
//! Rust runtime ignores SIGPIPE already. SIGXFSZ is ignored without a log line: a log file at `RLIMIT_FSIZE` raises
//! it with each write, which then fails with EFBIG.

use std::future::{pending, poll_fn};
use std::io;
use std::task::Poll;
use std::time::{Duration, Instant};

use tidegate_actors::clock;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep_until;

/// Two of the same signal within this time are one.
const REPEAT_WINDOW: Duration = Duration::from_millis(100);

/// The request of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignalRequest {
    /// Drain and exit: SIGTERM, SIGINT.
    Stop,
    /// Reload the configuration, certificates and keys: SIGHUP.
    Reload,
    /// Open the log file again: SIGUSR1.
    ReopenLog,
    /// Nothing: SIGUSR2, SIGALRM. Their default action would end the process.
    Ignore,
}

/// Merges repeats of one signal.
#[derive(Debug, Default)]
struct Debounce {
    window_end: Option<Instant>,
    /// Whether the request is made when the window ends.
    is_due: bool,
}

impl Debounce {
    /// Processes a received signal. Returns whether its request is made at once.
    fn receive(&mut self, request: SignalRequest, now: Instant) -> bool {
        if self.window_end.is_some_and(|end| now < end) {
            return false;
        }
        self.window_end = Some(now + REPEAT_WINDOW);
        self.is_due = matches!(request, SignalRequest::Reload | SignalRequest::ReopenLog);
        !self.is_due
    }

    /// The time at which the request is made.
    fn due(&self) -> Option<Instant> {
        self.window_end.filter(|_| self.is_due)
    }
}

/// One handled signal.
struct HandledSignal {
    name: &'static str,
    request: SignalRequest,
    signal: Signal,
    repeats: Debounce,
}

/// The handled signals.
pub(crate) struct Signals {
    handled: Vec<HandledSignal>,
}

impl Signals {
    /// Installs the handlers.
    pub(crate) fn new() -> io::Result<Self> {
        let requests = [
            ("SIGTERM", SignalKind::terminate(), SignalRequest::Stop),
            ("SIGINT", SignalKind::interrupt(), SignalRequest::Stop),
            ("SIGHUP", SignalKind::hangup(), SignalRequest::Reload),
            ("SIGUSR1", SignalKind::user_defined1(), SignalRequest::ReopenLog),
            ("SIGUSR2", SignalKind::user_defined2(), SignalRequest::Ignore),
            ("SIGALRM", SignalKind::alarm(), SignalRequest::Ignore),
        ];
        let handle = |(name, kind, request)| {
            Ok(HandledSignal { name, request, signal: signal(kind)?, repeats: Debounce::default() })
        };
        // The handler stays installed when its stream is dropped.
        drop(signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?);
        Ok(Self { handled: requests.into_iter().map(handle).collect::<io::Result<_>>()? })
    }

    /// Waits for the next request; returns it with the name of its signal. Repeats are merged.
    pub(crate) async fn next(&mut self) -> (&'static str, SignalRequest) {
        loop {
            let next_due = self.handled.iter().filter_map(|handled| handled.repeats.due()).min();
            tokio::select! {
                received = self.received() => if let Some(request) = received { return request },
                () = until(next_due) => {}
            }
            let now = clock::now();
            for HandledSignal { name, request, repeats, .. } in &mut self.handled {
                if repeats.due().is_some_and(|due| due <= now) {
                    repeats.is_due = false;
                    return (*name, *request);
                }
            }
        }
    }

    /// Waits for a signal. Returns its request if it is made at once.
    async fn received(&mut self) -> Option<(&'static str, SignalRequest)> {
        poll_fn(|cx| {
            for HandledSignal { name, request, signal, repeats } in &mut self.handled {
                if let Poll::Ready(Some(())) = signal.poll_recv(cx) {
                    let is_immediate = repeats.receive(*request, clock::now());
                    return Poll::Ready(is_immediate.then_some((*name, *request)));
                }
            }
            Poll::Pending
        })
        .await
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G4: a stop takes effect at the first signal; those within 100 ms of it are merged
    #[test]
    fn the_window_starts_at_the_first_signal() {
        let start = clock::now();
        let mut repeats = Debounce::default();
        let mut at = |millis| repeats.receive(SignalRequest::Stop, start + Duration::from_millis(millis));
        assert!(at(0));
        assert!(!at(0) && !at(60) && !at(99));
        assert!(at(100), "60 and 99 did not move the window");
        assert!(!at(199));
        assert!(at(5_000));
    }

    /// G4: a reload takes effect once, after all signals of its window
    #[test]
    fn a_reload_waits_for_its_repeats() {
        let start = clock::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut repeats = Debounce::default();
        for millis in [0, 1, 99] {
            assert!(!repeats.receive(SignalRequest::Reload, at(millis)));
            assert_eq!(repeats.due(), Some(at(100)));
        }
        repeats.is_due = false;
        assert_eq!(repeats.due(), None);
        assert!(!repeats.receive(SignalRequest::Reload, at(100)));
        assert_eq!(repeats.due(), Some(at(200)), "the next one is another");
    }
}
