//! Local ports in use for the busiest destination, against the ports that the kernel gives out (ip(7), `ip-sysctl.rst`).
//!
//! The kernel uses a port in TIME_WAIT again after a second if `tcp_tw_reuse` is 1, or if it is 2 and the destination is on loopback.

use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use crate::ephemeral_ports::{self, TIME_WAIT};
use crate::monitor::measurement::{LimitSource, Measurement, Subject};
use crate::persistent_file::read_once;

/// Time between two reads of the range. It belongs to the network namespace and rarely changes.
const READ_EVERY: Duration = Duration::from_secs(10);
/// The time after which the kernel uses a port in TIME_WAIT again, where it does so.
const REUSE_AFTER: Duration = Duration::from_secs(1);

/// The sensor.
#[derive(Debug, Default)]
pub(crate) struct PortSensor {
    limits: Option<PortLimits>,
    read: Option<Instant>,
}

/// What the kernel allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PortLimits {
    ports: u64,
    reuse: Reuse,
}

/// `tcp_tw_reuse`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reuse {
    Never,
    Always,
    OnLoopback,
}

impl PortSensor {
    pub(crate) fn read(&mut self, now: Instant) -> Measurement {
        if self.read.is_none_or(|read| now.saturating_duration_since(read) >= READ_EVERY) {
            match read_limits() {
                Ok(limits) => (self.limits, self.read) = (limits, Some(now)),
                Err(_) => return Measurement::UNKNOWN,
            }
        }
        let Some(limits) = self.limits else {
            return Measurement::absent("the system does not publish its range of local ports");
        };
        let busiest = ephemeral_ports::busiest(|to| limits.reuse.kept(to), now);
        let used = busiest.map_or(0, |(_, ports)| ports);
        let subject = busiest.map(|(to, _)| Subject::Destination(to));
        Measurement::known(used, limits.ports, LimitSource::PortRange).about(subject)
    }
}

/// None if the system has no such files.
fn read_limits() -> io::Result<Option<PortLimits>> {
    let read = |name: &str| read_once(format!("/proc/sys/net/ipv4/{name}"));
    let Some(range) = read("ip_local_port_range")? else { return Ok(None) };
    let reserved = read("ip_local_reserved_ports")?.unwrap_or_default();
    let reuse = read("tcp_tw_reuse")?.unwrap_or_default();
    let ports = usable_ports(&range, &reserved).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Some(PortLimits { ports, reuse: Reuse::parse(&reuse) }))
}

impl Reuse {
    fn parse(text: &str) -> Self {
        match text.trim() {
            "1" => Self::Always,
            "2" => Self::OnLoopback,
            _ => Self::Never,
        }
    }

    /// How long a port in TIME_WAIT is not available for this destination.
    fn kept(self, to: SocketAddr) -> Duration {
        match self {
            Self::Always => REUSE_AFTER,
            Self::OnLoopback if to.ip().to_canonical().is_loopback() => REUSE_AFTER,
            Self::OnLoopback | Self::Never => TIME_WAIT,
        }
    }
}

/// The number of ports in the range without the reserved ones; none if a text is malformed.
fn usable_ports(range: &str, reserved: &str) -> Option<u64> {
    let mut words = range.split_whitespace();
    let range = ports(words.next()?, words.next()?)?;
    let mut is_reserved = vec![false; usize::from(u16::MAX) + 1];
    for part in reserved.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        for port in ports(first, last)? {
            *is_reserved.get_mut(usize::from(port))? = true;
        }
    }
    let usable = range.filter(|port| is_reserved.get(usize::from(*port)) == Some(&false)).count();
    u64::try_from(usable).ok()
}

fn ports(first: &str, last: &str) -> Option<RangeInclusive<u16>> {
    let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// X1: reserved ports in the range are no limit for connections
    #[test]
    fn reserved_ports_are_not_usable() {
        assert_eq!(usable_ports("32768\t60999\n", "\n"), Some(28_232));
        assert_eq!(usable_ports("32768\t60999\n", "8080,32768-32867,60999,65000-65535\n"), Some(28_131));
        assert_eq!(usable_ports("1000 1000", "1000"), Some(0));
        for (range, reserved) in
            [("", ""), ("5", ""), ("9 8", ""), ("1 70000", ""), ("1 9", "x"), ("1 9", "3-")]
        {
            assert_eq!(usable_ports(range, reserved), None, "{range:?} {reserved:?}");
        }
    }

    /// X1: `tcp_tw_reuse`
    #[test]
    fn ports_in_time_wait_are_kept_where_the_kernel_keeps_them() {
        let kept = |reuse: &str, to: &str| Reuse::parse(reuse).kept(to.parse().unwrap());
        assert_eq!(kept("0\n", "127.0.0.1:9"), TIME_WAIT);
        assert_eq!(kept("1\n", "192.0.2.1:9"), REUSE_AFTER);
        assert_eq!(kept("2\n", "192.0.2.1:9"), TIME_WAIT);
        for loopback in ["127.0.0.1:9", "[::1]:9", "[::ffff:127.0.0.1]:9"] {
            assert_eq!(kept("2\n", loopback), REUSE_AFTER, "{loopback}");
        }
        assert_eq!(kept("", "127.0.0.1:9"), TIME_WAIT);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        /// X4: malformed contents are unknown and never a panic
        #[test]
        fn any_text_is_read(range in "[0-9 \t\n,-]{0,20}", reserved in "[0-9,\n-]{0,30}") {
            let usable = usable_ports(&range, &reserved);
            prop_assert!(usable.is_none_or(|ports| ports <= 65_536));
        }
    }
}
