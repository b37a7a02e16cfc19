//! Counts of ports over time, and the bound of the table.

use proptest::prelude::*;

use super::*;

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// X1: a port counts while its connection is open, and for 60 s after the gateway closed it first
#[test]
fn a_closed_port_counts_for_a_minute() {
    let (mut counts, t0) = (PortCounts::new(), clock::now());
    let whole = |_| TIME_WAIT;
    assert_eq!(counts.busiest(whole, t0), None);
    for _ in 0..3 {
        assert!(counts.open(address(1), t0));
    }
    counts.close(address(1), true, t0 + seconds(5));
    counts.close(address(1), false, t0 + seconds(5));
    assert_eq!(counts.busiest(whole, t0 + seconds(64)), Some((address(1), 2)), "one is open, one waits");
    assert_eq!(counts.busiest(whole, t0 + seconds(66)), Some((address(1), 1)));
    counts.close(address(1), false, t0 + seconds(67));
    assert_eq!(counts.busiest(whole, t0 + seconds(67)), None);
}

/// X1: where the kernel uses ports in TIME_WAIT again, they count for that time only
#[test]
fn reused_ports_count_for_the_given_time() {
    let (mut counts, t0) = (PortCounts::new(), clock::now());
    counts.open(address(1), t0);
    counts.open(address(2), t0);
    counts.close(address(1), true, t0);
    counts.close(address(2), true, t0);
    let kept = |to: SocketAddr| if to.port() == 1 { seconds(1) } else { TIME_WAIT };
    assert_eq!(counts.busiest(kept, t0 + seconds(2)), Some((address(2), 1)));
    assert_eq!(counts.busiest(|_| seconds(1), t0 + seconds(2)), None);
}

/// X1: the busiest destination is named, and the number of destinations is bounded
#[test]
fn the_table_is_bounded() {
    let (mut counts, t0) = (PortCounts::new(), clock::now());
    let most = u16::try_from(DESTINATIONS_MAX).unwrap();
    assert!((0..most).all(|port| counts.open(address(port), t0)));
    assert!(!counts.open(address(9999), t0), "no place is left");
    assert!(counts.open(address(7), t0), "a known address has its place");
    assert_eq!(counts.busiest(|_| TIME_WAIT, t0), Some((address(7), 2)));
    counts.close(address(3), true, t0);
    assert!(!counts.open(address(9999), t0 + seconds(60)), "its port may still wait");
    assert!(counts.open(address(9999), t0 + seconds(61)));
    assert_eq!(counts.destinations.len(), DESTINATIONS_MAX);
}

/// X1: a dropped guard releases its port in the table of the process
#[test]
fn a_guard_holds_its_port() {
    let to = address(60_001);
    let of = || ports().destinations.iter().find(|each| each.address == to).map(|each| each.ports(TIME_WAIT));
    let (port, mut closing) = (LocalPort::open(to), LocalPort::open(to));
    assert_eq!(of(), Some(2));
    drop(port);
    assert_eq!(of(), Some(1));
    closing.keep_in_time_wait();
    drop(closing);
    assert_eq!(of(), Some(1), "the kernel keeps it");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    /// X1, X4: for any order of events and leaps of the clock, the count is never below the open ports nor above the ports of the last
    /// 61 s
    #[test]
    fn the_count_is_within_its_bounds(
        events in prop::collection::vec((0u64..90, any::<bool>(), any::<bool>()), 1..200),
    ) {
        let (mut counts, t0) = (PortCounts::new(), clock::now());
        let (mut now, mut open, mut closed) = (t0, 0_u64, Vec::new());
        for (pause, is_open, in_time_wait) in events {
            now += seconds(pause / 10 * 7);
            if is_open {
                counts.open(address(1), now);
                open += 1;
            } else if open > 0 {
                counts.close(address(1), in_time_wait, now);
                open -= 1;
                closed.extend(in_time_wait.then_some(now));
            }
            let ports = counts.busiest(|_| TIME_WAIT, now).map_or(0, |(_, ports)| ports);
            let within = |time: u64| closed.iter().filter(|at| now.duration_since(**at) < seconds(time)).count() as u64;
            prop_assert!(open + within(60) <= ports && ports <= open + within(61), "{} of {}", ports, open);
            // An earlier time, as another thread may have read it, changes nothing.
            let earlier = counts.busiest(|_| TIME_WAIT, t0).map_or(0, |(_, ports)| ports);
            prop_assert_eq!(earlier, ports);
        }
    }
}
