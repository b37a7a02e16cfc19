//! A replay decides as the state machines do, and each request gets one decision.

use std::time::Duration;

use proptest::prelude::*;
use tidegate_config::{Config, Sources};

use super::*;

/// Counts decisions.
#[derive(Default)]
struct Counts {
    admitted: Vec<(usize, Duration)>,
    refused: Vec<(usize, Refusal)>,
    shadowed: Vec<Refusal>,
    moves: Vec<(&'static str, &'static str)>,
    /// The longest queue.
    longest: usize,
}

impl Observer<usize> for Counts {
    fn queued(&mut self, _: usize, waiting: usize) {
        self.longest = self.longest.max(waiting);
    }

    fn admitted(&mut self, request: usize, waited: Duration) {
        self.admitted.push((request, waited));
    }

    fn refused(&mut self, request: usize, refusal: Refusal, _: Duration) {
        self.refused.push((request, refusal));
    }

    fn shadowed(&mut self, _: usize, refusal: Refusal) {
        self.shadowed.push(refusal);
    }

    fn circuit(&mut self, change: CircuitMove) {
        self.moves.push((change.class, change.state));
    }
}

const BUCKET: &str =
    "[buckets.b]\nauth = [\"anonymous\"]\n[buckets.b.s3]\nendpoints = [\"http://127.0.0.1:9\"]\n";

fn config(text: &str) -> Config {
    let text = format!("{text}\n{BUCKET}");
    tidegate_config::load(Sources::default().text("test.toml", text)).unwrap()
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn read(at: Duration, service: Duration) -> Arrival<'static> {
    let outcome = CallOutcome { is_success: true, ..CallOutcome::default() };
    Arrival {
        at,
        bucket: Some(BucketId::new(0)),
        class: OperationClass::Read,
        client: Some(IpKey::V4(1)),
        caller: ReplayCaller::Anonymous,
        work: Work::Call { service, outcome },
    }
}

fn run(config: &Config, arrivals: impl IntoIterator<Item = Arrival<'static>>) -> Counts {
    let (mut replay, mut counts) = (Replay::new(config, &Ids::new(config), 1), Counts::default());
    for (number, arrival) in arrivals.into_iter().enumerate() {
        replay.arrive(arrival, number, &mut counts);
    }
    replay.finish(&mut counts);
    assert_eq!((replay.in_flight(), replay.occupancy(BucketId::new(0))), (0, (0, 0)));
    counts
}

/// L1: a limit admits its burst and then its rate
#[test]
fn a_rate_limit_is_exact() {
    let config = config("[rate_limit.per_ip]\nrequests_per_second = 10\nburst = 5");
    let counts = run(&config, (0..200).map(|at| read(ms(at * 10), ms(1))));
    // 2 s at 10 per second after a burst of 5; the 200th request comes at 1.99 s.
    assert_eq!(counts.admitted.len(), 24);
    assert!(counts.refused.iter().all(|(_, refusal)| *refusal == Refusal::Limit(RateScope::Ip)));
}

/// L6: a limit in shadow mode refuses nothing and is reported
#[test]
fn a_shadow_limit_refuses_nothing() {
    let config = config("[rate_limit.global]\nrequests_per_second = 10\nburst = 5\nmode = \"shadow\"");
    let counts = run(&config, (0..20).map(|_| read(ms(0), ms(1))));
    assert_eq!((counts.admitted.len(), counts.shadowed.len()), (20, 15));
}

/// P3, P4: the gate, its queue and the timeout of the queue
#[test]
fn a_gate_queues_and_refuses() {
    let config =
        config("[buckets.b.s3.concurrency]\nmax_concurrent = 1\nmax_queued = 2\nqueue_timeout_ms = 150");
    // One call, two waiters, one too many; the second waiter gets its permit at 200 ms, too late.
    let counts = run(&config, (0..4).map(|_| read(ms(0), ms(100))));
    assert_eq!(counts.admitted, [(0, ms(0)), (1, ms(100))]);
    assert_eq!(counts.refused, [(3, Refusal::QueueFull), (2, Refusal::QueueTimeout)]);
}

/// P2: requests in flight have a limit, and a local reply holds its slot
#[test]
fn slots_are_limited() {
    let config = config("[server]\nmax_concurrent_requests = 2");
    let local = |at| Arrival { work: Work::Local { took: ms(50) }, ..read(at, ms(0)) };
    let counts = run(&config, [local(ms(0)), read(ms(0), ms(80)), read(ms(10), ms(1)), read(ms(60), ms(1))]);
    assert_eq!(counts.refused, [(2, Refusal::InFlight)]);
    assert_eq!(counts.admitted.len(), 3);
}

/// V10: one client holds at most its limit, and another client is not affected
#[test]
fn a_client_has_a_limit_of_requests_in_flight() {
    let config = config("[concurrency]\nmax_per_client = 1");
    let other = Arrival { client: Some(IpKey::V4(2)), ..read(ms(0), ms(10)) };
    let counts = run(&config, [read(ms(0), ms(10)), read(ms(5), ms(10)), other, read(ms(15), ms(10))]);
    assert_eq!(counts.refused, [(1, Refusal::ClientConcurrency)]);
}

/// V10: in shadow mode the limit of a client is reported and refuses nothing, and `off` switches it off
#[test]
fn the_limit_of_a_client_has_modes() {
    let arrivals = || (0..5).map(|_| read(ms(0), ms(10)));
    for (mode, refused, shadowed) in [("enforce", 3, 0), ("shadow", 0, 3), ("off", 0, 0)] {
        let config = config(&format!("[concurrency]\nmax_per_client = 2\nmax_per_client_mode = \"{mode}\""));
        let counts = run(&config, arrivals());
        assert_eq!((counts.refused.len(), counts.shadowed.len()), (refused, shadowed), "{mode}");
        assert_eq!(counts.admitted.len(), 5 - refused, "{mode}");
        assert!(counts.shadowed.iter().all(|refusal| *refusal == Refusal::ClientConcurrency), "{mode}");
    }
}

/// X11: while the queue is slow the cursor refuses the lowest class, and an hour later nothing; in shadow mode it refuses nothing
#[test]
fn a_cursor_refuses_the_lowest_class() {
    let arrivals = || {
        // 100 per second at 50 that the gate admits; each fifth is of the higher class.
        let of = |at: u64, client| Arrival {
            class: if client == 1 { OperationClass::Read } else { OperationClass::Write },
            client: Some(IpKey::V4(client)),
            ..read(ms(at), ms(20))
        };
        (0..1_000).map(move |at| of(at * 10, if at % 5 == 0 { 1 } else { 2 })).chain([of(3_600_000, 2)])
    };
    for mode in ["enforce", "shadow", "off"] {
        let config = config(&format!(
            "[buckets.b.s3.concurrency]\nmax_concurrent = 1\nmax_queued = 1000\nqueue_timeout_ms = 3000\npriority.write = \"low\"\n\
             shedding.mode = \"{mode}\"\nshedding.target_wait_ms = 100"
        ));
        let counts = run(&config, arrivals());
        let shed: Vec<usize> =
            counts.refused.iter().filter(|(_, why)| *why == Refusal::ShedBucket).map(|one| one.0).collect();
        let shadowed = counts.shadowed.iter().filter(|why| **why == Refusal::ShedBucket).count();
        match mode {
            "enforce" => {
                assert!((350..=550).contains(&shed.len()) && shadowed == 0, "{}", shed.len());
                assert!(shed.iter().all(|number| number % 5 != 0 && *number < 1_000), "{shed:?}");
                assert_eq!(counts.refused, run(&config, arrivals()).refused);
            }
            "shadow" => assert!(shed.is_empty() && shadowed > 300, "{shadowed}"),
            _ => assert!(shed.is_empty() && shadowed == 0, "{shadowed}"),
        }
    }
}

/// A request of a client that cannot be told from others is charged by no limit of a client.
#[test]
fn untracked_clients_share_no_limit() {
    let config = config(
        "[concurrency]\nmax_per_client = 1\n[rate_limit.per_subject]\nrequests_per_second = 1\nburst = 1\n\
         [rate_limit.per_key]\nrequests_per_second = 1\nburst = 1",
    );
    let of = |caller| (0..5).map(move |_| Arrival { caller, ..read(ms(0), ms(10)) });
    assert_eq!(run(&config, of(ReplayCaller::Untracked)).admitted.len(), 5);
    assert_eq!(run(&config, of(ReplayCaller::Subject("s"))).admitted.len(), 1);
}

/// B1, B2: failures open the circuit of their class, and a trial closes it after the open time
#[test]
fn failures_open_a_circuit() {
    let config = config(
        "[buckets.b.s3.circuit_breaker]\nfailure_threshold = 3\ntimeout_seconds = 1\nsuccess_threshold = 1",
    );
    let failed = CallOutcome { failures: 1, status: Some(503), ..CallOutcome::default() };
    let failing =
        |at| Arrival { work: Work::Call { service: ms(1), outcome: failed }, ..read(ms(at), ms(1)) };
    let early = [failing(0), failing(10), failing(20), read(ms(30), ms(1))];
    let counts = run(&config, early.into_iter().chain([read(ms(1100), ms(1)), read(ms(1200), ms(1))]));
    assert_eq!(counts.refused, [(3, Refusal::Circuit(CircuitRefusalKind::Open))]);
    assert_eq!(counts.moves, [("read", "opened"), ("read", "half_opened"), ("read", "closed")]);
}

/// Every reason leads back to its refusal.
#[test]
fn reasons_are_distinct() {
    for refusal in Refusal::ALL {
        assert_eq!(Refusal::from_reason(refusal.reason()), Some(refusal));
    }
    assert_eq!(Refusal::from_reason("no_such_bucket"), None);
}

proptest! {
    /// S1: each request gets one decision, nothing is left, and a gate never has more permits than its width
    #[test]
    fn each_request_gets_one_decision(
        steps in prop::collection::vec((0u64..30, 0u64..200, 0u8..3, any::<bool>()), 1..300),
        width in 1usize..4, queued in 0usize..5, codel in any::<bool>(),
    ) {
        let shedding = if queued > 0 { "shedding.target_wait_ms = 10\n" } else { "" };
        let overload = if codel && queued > 0 { "overload = \"codel\"\n" } else { "" };
        let config = config(&format!(
            "[buckets.b.s3.concurrency]\n{overload}max_concurrent = {width}\nmax_queued = {queued}\nqueue_timeout_ms = 120\n{shedding}\
             [buckets.b.s3.circuit_breaker]\ntimeout_seconds = 0.2"
        ));
        let (mut replay, mut counts) = (Replay::new(&config, &Ids::new(&config), 7), Counts::default());
        let mut at = 0;
        for (number, (pause, service, class, fails)) in steps.iter().enumerate() {
            at += pause;
            let class = [OperationClass::Read, OperationClass::Write, OperationClass::List][usize::from(*class)];
            let outcome = CallOutcome { failures: u8::from(*fails), is_success: !fails, ..CallOutcome::default() };
            let arrival = Arrival { class, work: Work::Call { service: ms(*service), outcome }, ..read(ms(at), ms(0)) };
            replay.arrive(arrival, number, &mut counts);
            prop_assert!(replay.occupancy(BucketId::new(0)).0 <= width);
        }
        replay.finish(&mut counts);
        let mut decided: Vec<usize> = counts.admitted.iter().map(|(number, _)| *number).collect();
        decided.extend(counts.refused.iter().map(|(number, _)| *number));
        decided.sort_unstable();
        prop_assert_eq!(decided, (0..steps.len()).collect::<Vec<_>>());
        prop_assert_eq!((replay.in_flight(), replay.occupancy(BucketId::new(0)).0), (0, 0));
    }
}
