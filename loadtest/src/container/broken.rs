//! Connections that broke off, and the log lines that give a reason for them.

use std::net::IpAddr;
use std::time::{Duration, Instant};

/// A line is written when the gateway has released the connection, and read a little later.
const TOLERANCE: Duration = Duration::from_secs(2);

/// A client's connection that ended before its answer did.
#[derive(Debug, Clone)]
pub(crate) struct BrokenConnection {
    /// In which step.
    pub(crate) step: String,
    /// When the client saw it.
    pub(crate) at: Instant,
    /// The client's address.
    pub(crate) client: IpAddr,
}

/// Log lines with a reason, and when none could be written.
#[derive(Debug, Clone, Default)]
pub(crate) struct LoggedReasons {
    /// When a line was read, in order, and which client it names.
    pub(crate) lines: Vec<(Instant, IpAddr)>,
    /// From the filling of the log disk to its emptying.
    pub(crate) full: Vec<(Instant, Instant)>,
}

/// How many of `broken` have no log line with a reason for their client close by. Those of times without a log disk do
/// not count: their lines are lost.
pub(crate) fn unexplained<'a>(
    broken: impl Iterator<Item = &'a BrokenConnection>,
    reasons: &LoggedReasons,
) -> usize {
    let has_line = |each: &BrokenConnection| {
        let begin = reasons.lines.partition_point(|(at, _)| *at + TOLERANCE < each.at);
        let near = reasons.lines[begin..].iter().take_while(|(at, _)| *at <= each.at + TOLERANCE);
        near.into_iter().any(|(_, client)| *client == each.client)
    };
    let is_blind = |each: &BrokenConnection| {
        reasons.full.iter().any(|(begin, end)| each.at + TOLERANCE >= *begin && each.at <= *end + TOLERANCE)
    };
    broken.filter(|each| !has_line(each) && !is_blind(each)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_explains_its_own_client_near_its_own_time_and_a_full_disk_excuses() {
        let begin = crate::clock::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let [one, other]: [IpAddr; 2] = [[127, 0, 0, 1].into(), [127, 0, 0, 2].into()];
        let broken = |seconds, client| BrokenConnection { step: "s".to_owned(), at: at(seconds), client };
        let reasons = LoggedReasons { lines: vec![(at(10), one)], full: vec![(at(20), at(30))] };
        let count = |each: BrokenConnection| unexplained([each].iter(), &reasons);
        assert_eq!([count(broken(9, one)), count(broken(12, one)), count(broken(13, one))], [0, 0, 1]);
        assert_eq!(count(broken(10, other)), 1);
        assert_eq!([count(broken(17, one)), count(broken(19, one)), count(broken(32, other))], [1, 0, 0]);
    }
}
