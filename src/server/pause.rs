//! The pauses of accepting after a shortage, and the episodes of shortages.
//!
//! No I/O: time is an argument. A failed accept leaves the connection in the backlog and the listening socket
//! readable, so an immediate retry would spin (X5). An episode has one log line at its start and one at its end,
//! however often accepting fails in between.

use std::time::{Duration, Instant};

use rustix::io::Errno;

/// How long accepting pauses after a shortage.
pub(super) const PAUSE: Duration = Duration::from_millis(100);
/// The pause while the listener has the most connections that it may have. A check needs no system call, and each
/// ended connection makes room for a waiting one: a longer pause would leave that room unused.
pub(super) const FULL_PAUSE: Duration = Duration::from_millis(5);
/// An episode ends after this time without a pause.
const EPISODE_END: Duration = Duration::from_secs(1);

/// Why accepting pauses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PauseCause {
    /// The process or the system has no file descriptor left: `EMFILE`, `ENFILE`.
    OutOfDescriptors,
    /// The kernel has no memory for the socket: `ENOBUFS`, `ENOMEM`.
    OutOfMemory,
    /// The listener has the most connections that it may have.
    TooManyConnections,
    /// Any other error of the listening socket.
    Other,
}

impl PauseCause {
    pub(super) const ALL: [Self; 4] =
        [Self::OutOfDescriptors, Self::OutOfMemory, Self::TooManyConnections, Self::Other];

    /// The value of the metric's label and of the log's field.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::OutOfDescriptors => "out_of_descriptors",
            Self::OutOfMemory => "out_of_memory",
            Self::TooManyConnections => "too_many_connections",
            Self::Other => "other",
        }
    }

    /// What the operator can do about it.
    pub(super) fn hint(self) -> &'static str {
        match self {
            Self::OutOfDescriptors => "raise the limit of open files (ulimit -n, LimitNOFILE, fs.file-max)",
            Self::OutOfMemory => "give the machine or the cgroup more memory, or raise net.ipv4.tcp_mem",
            Self::TooManyConnections => {
                "close idle connections sooner with server.keep_alive, or add a gateway"
            }
            Self::Other => "the error field names the error of accept(2)",
        }
    }
}

/// The meaning of a failed accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AcceptFailure {
    /// No connection waits.
    Empty,
    /// This connection failed before it was accepted; the next one may not.
    Connection,
    /// Accepting must pause.
    Shortage(PauseCause),
}

impl AcceptFailure {
    /// Classifies an error of accept(2). The manual page lists the errors that belong to a single connection.
    pub(super) fn classify(error: Errno) -> Self {
        match error {
            Errno::AGAIN => Self::Empty,
            Errno::MFILE | Errno::NFILE => Self::Shortage(PauseCause::OutOfDescriptors),
            Errno::NOBUFS | Errno::NOMEM => Self::Shortage(PauseCause::OutOfMemory),
            Errno::CONNABORTED
            | Errno::INTR
            | Errno::PROTO
            | Errno::PERM
            | Errno::TIMEDOUT
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::NOPROTOOPT
            | Errno::OPNOTSUPP => Self::Connection,
            _ => Self::Shortage(PauseCause::Other),
        }
    }
}

/// The pauses of one listener.
#[derive(Debug, Default)]
pub(super) struct AcceptPauses {
    until: Option<Instant>,
    episode: Option<PauseEpisode>,
}

/// Pauses that follow each other closely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PauseEpisode {
    pub(super) began: Instant,
    pub(super) last: Instant,
    /// The end of the last pause.
    pub(super) end: Instant,
    /// The number of pauses.
    pub(super) count: u64,
}

impl AcceptPauses {
    /// Starts a pause at `now`. Returns whether an episode begins.
    pub(super) fn begin(&mut self, now: Instant, length: Duration) -> bool {
        let end = now + length;
        self.until = Some(end);
        match &mut self.episode {
            Some(episode) => {
                (episode.last, episode.end) = (now, end);
                episode.count += 1;
                false
            }
            none => {
                *none = Some(PauseEpisode { began: now, last: now, end, count: 1 });
                true
            }
        }
    }

    /// Whether accepting is paused at `now`.
    pub(super) fn is_paused(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Whether no episode is open.
    pub(super) fn is_clear(&self) -> bool {
        self.episode.is_none()
    }

    /// The episode that has ended at `now`; each is returned once.
    pub(super) fn take_ended(&mut self, now: Instant) -> Option<PauseEpisode> {
        self.episode.take_if(|episode| now >= episode.last + EPISODE_END)
    }

    /// The episode at the end of its listener. The pause ends with it.
    pub(super) fn end(&mut self, now: Instant) -> Option<PauseEpisode> {
        let episode = self.episode.take()?;
        Some(PauseEpisode { end: episode.end.min(now), ..episode })
    }

    /// The next time at which the state changes; `None` if it does not change by itself.
    pub(super) fn next_change(&self, now: Instant) -> Option<Instant> {
        let pause_end = self.until.filter(|until| now < *until);
        pause_end.or(self.episode.map(|episode| episode.last + EPISODE_END))
    }
}

#[cfg(test)]
mod tests {
    use tidegate_actors::clock;

    use super::*;

    /// X5: a shortage pauses accepting for 100 ms; an episode is reported once at its start and once at its end
    #[test]
    fn an_episode_has_one_start_and_one_end() {
        let start = clock::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut pauses = AcceptPauses::default();
        assert_eq!((pauses.is_paused(start), pauses.next_change(start)), (false, None));
        assert!(pauses.begin(start, PAUSE));
        assert!(pauses.is_paused(at(99)) && !pauses.is_paused(at(100)));
        assert_eq!(pauses.next_change(start), Some(at(100)));
        for pause in 1..50 {
            assert_eq!(pauses.take_ended(at(pause * 100)), None);
            assert!(!pauses.begin(at(pause * 100), PAUSE), "the episode goes on");
        }
        assert_eq!(pauses.next_change(at(5_000)), Some(at(5_900)), "the end of the episode is due");
        assert_eq!(pauses.take_ended(at(5_899)), None);
        let ended = pauses.take_ended(at(5_900)).unwrap();
        assert_eq!((ended.began, ended.end, ended.count), (start, at(5_000), 50));
        assert_eq!((pauses.take_ended(at(9_000)), pauses.next_change(at(9_000))), (None, None));
        assert!(pauses.begin(at(9_000), PAUSE), "the next one is another");
        let cut = pauses.end(at(9_050)).unwrap();
        assert_eq!((cut.began, cut.end, cut.count, pauses.end(at(9_060))), (at(9_000), at(9_050), 1, None));
    }

    /// X5: an error of a single connection does not pause accepting; an unknown error pauses, so that it cannot spin
    #[test]
    fn errors_are_classified() {
        for (error, failure) in [
            (Errno::AGAIN, AcceptFailure::Empty),
            (Errno::CONNABORTED, AcceptFailure::Connection),
            (Errno::INTR, AcceptFailure::Connection),
            (Errno::PERM, AcceptFailure::Connection),
            (Errno::MFILE, AcceptFailure::Shortage(PauseCause::OutOfDescriptors)),
            (Errno::NFILE, AcceptFailure::Shortage(PauseCause::OutOfDescriptors)),
            (Errno::NOBUFS, AcceptFailure::Shortage(PauseCause::OutOfMemory)),
            (Errno::NOMEM, AcceptFailure::Shortage(PauseCause::OutOfMemory)),
            (Errno::INVAL, AcceptFailure::Shortage(PauseCause::Other)),
            (Errno::BADF, AcceptFailure::Shortage(PauseCause::Other)),
        ] {
            assert_eq!(AcceptFailure::classify(error), failure, "{error}");
        }
    }
}
