//! The signals that the process handles.
//!
//! `timeout` and process groups send the same signal twice at once, to the process and to its group. So two of the
//! same signal within [`REPEAT_WINDOW`] count as one. A busy machine runs this thread late, so a window ends only when its
//! time is over and no signal is left to receive. SIGTERM, SIGINT and SIGUSR2 take effect at the first signal. SIGHUP and
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
    /// Hand over to a new process: SIGUSR2.
    Upgrade,
    /// Nothing: SIGALRM. Its default action would end the process.
    Ignore,
}

/// Merges repeats of one signal.
#[derive(Debug, Default)]
struct Debounce {
    /// The end of the window's time; none outside a window.
    window_end: Option<Instant>,
    /// Whether the request is made when the window ends.
    is_due: bool,
}

impl Debounce {
    /// Processes a received signal. Returns whether its request is made at once.
    fn receive(&mut self, request: SignalRequest, now: Instant) -> bool {
        if self.window_end.is_some() {
            return false;
        }
        self.window_end = Some(now + REPEAT_WINDOW);
        self.is_due = matches!(request, SignalRequest::Reload | SignalRequest::ReopenLog);
        !self.is_due
    }

    /// Ends a window with its time over. No signal may be left to receive. Returns whether the request is made now.
    fn end_window(&mut self, now: Instant) -> bool {
        self.window_end.take_if(|end| *end <= now).is_some() && std::mem::take(&mut self.is_due)
    }
}

/// One handled signal.
struct HandledSignal {
    name: &'static str,
    request: SignalRequest,
    signal: Signal,
    repeats: Debounce,
}

/// Replaces the default action of the signals that end no gateway, which would end the process. One that comes during the start is lost:
/// the start reads what a reload would read, and opens the log.
pub(crate) fn survive_start() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let kinds = [
            SignalKind::hangup(),
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
            SignalKind::alarm(),
        ];
        // A handler stays installed when its stream is dropped.
        kinds.into_iter().try_for_each(|kind| signal(kind).map(drop))
    })
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
            ("SIGUSR2", SignalKind::user_defined2(), SignalRequest::Upgrade),
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
            let next_end = self.handled.iter().filter_map(|handled| handled.repeats.window_end).min();
            tokio::select! {
                biased;
                received = self.received() => match received {
                    Some(request) => return request,
                    None => continue,
                },
                () = until(next_end) => {}
            }
            let now = clock::now();
            for HandledSignal { name, request, repeats, .. } in &mut self.handled {
                if repeats.end_window(now) {
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

    /// G4: a stop takes effect at the first signal; those within 100 ms of it are merged, also if they are received late
    #[test]
    fn the_window_starts_at_the_first_signal() {
        let start = clock::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut repeats = Debounce::default();
        let mut receive = |millis| {
            assert!(!repeats.end_window(at(millis)), "a stop is not made twice");
            repeats.receive(SignalRequest::Stop, at(millis))
        };
        assert!(receive(0));
        assert!(!receive(0) && !receive(60) && !receive(99));
        assert!(receive(100), "60 and 99 did not move the window");
        assert!(!receive(199));
        assert!(receive(5_000));
        assert!(!repeats.receive(SignalRequest::Stop, at(9_000)), "it was there before the window ended");
    }

    /// G4: a reload takes effect once, after all signals of its window
    #[test]
    fn a_reload_waits_for_its_repeats() {
        let start = clock::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut repeats = Debounce::default();
        for millis in [0, 1, 99] {
            assert!(!repeats.receive(SignalRequest::Reload, at(millis)));
            assert!(!repeats.end_window(at(99)));
        }
        assert!(repeats.end_window(at(100)));
        assert!(!repeats.end_window(at(200)));
        assert!(!repeats.receive(SignalRequest::Reload, at(200)));
        assert!(!repeats.end_window(at(299)) && repeats.end_window(at(300)), "the next one is another");
    }
}
