//! Matches broken connections with log lines that have a reason.

use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Maximum time between the break and the log line: the gateway logs after it has released the connection, and the line is read later.
const TOLERANCE: Duration = Duration::from_secs(2);

/// A client's connection that ended before its answer was complete.
#[derive(Debug, Clone)]
pub(crate) struct BrokenConnection {
    /// The step.
    pub(crate) step: String,
    /// Time at which the client detected it.
    pub(crate) at: Instant,
    /// The client's address.
    pub(crate) client: IpAddr,
}

/// Log lines with a reason, and the periods in which no line could be written.
#[derive(Debug, Clone, Default)]
pub(crate) struct LoggedReasons {
    /// Time of reading and client of each line, in order.
    pub(crate) lines: Vec<(Instant, IpAddr)>,
    /// Periods in which the log disk was full.
    pub(crate) full: Vec<(Instant, Instant)>,
}

/// Counts the connections of `broken` without a log line for their client within the tolerance. Connections while the log disk was full do
/// not count, because their lines are lost.
pub(crate) fn unexplained<'a>(
    broken: impl Iterator<Item = &'a BrokenConnection>,
    reasons: &LoggedReasons,
) -> usize {
    let has_line = |each: &BrokenConnection| {
        let begin = reasons.lines.partition_point(|(at, _)| *at + TOLERANCE < each.at);
        let near = reasons.lines[begin..].iter().take_while(|(at, _)| *at <= each.at + TOLERANCE);
        near.into_iter().any(|(_, client)| *client == each.client)
    };
    let is_log_full = |each: &BrokenConnection| {
        reasons.full.iter().any(|(begin, end)| each.at + TOLERANCE >= *begin && each.at <= *end + TOLERANCE)
    };
    broken.filter(|each| !has_line(each) && !is_log_full(each)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_matches_its_client_and_time_and_a_full_disk_is_excluded() {
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
