//! Exactness of rate limits, computed from the clients' observations: nothing is admitted beyond them, and nothing is
//! refused that fits.
//!
//! A client records when it sent a request and when it had the answer; the decision lies in between. Both checks are
//! therefore valid under any load of the machine: the requests sent after a moment and answered before another were
//! admitted between the two, so they are at most rate · window + burst. A refusal is correct only if, from some moment
//! on, all requests that may have been admitted until its answer would together with it exceed the limit.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::net::TcpSocket;

use crate::support::client::message;
use crate::support::{Client, Gateway, Upstream};

/// A request from its client's view.
#[derive(Debug, Clone, Copy)]
struct Observation {
    sent: f64,
    answered: f64,
    cost: f64,
    admitted: bool,
}

#[derive(Clone, Copy)]
struct Limit {
    rate: f64,
    burst: f64,
}

impl Limit {
    /// In every window at most rate · length + burst.
    fn assert_never_exceeded(self, seen: &[Observation]) {
        let mut admitted: Vec<Observation> = seen.iter().filter(|seen| seen.admitted).copied().collect();
        admitted.sort_by(|one, other| one.answered.total_cmp(&other.answered));
        for from in admitted.iter().map(|seen| seen.sent) {
            let mut sum = 0.0;
            for within in admitted.iter().filter(|seen| seen.sent >= from) {
                sum += within.cost;
                let most = self.rate * (within.answered - from) + self.burst;
                assert!(sum <= most + 1e-6, "{sum} in {} s, at most {most}", within.answered - from);
            }
        }
    }

    /// Every refused request exceeded the limit.
    fn assert_nothing_refused_that_fits(self, seen: &[Observation]) {
        for refused in seen.iter().filter(|seen| !seen.admitted) {
            let before: Vec<&Observation> =
                seen.iter().filter(|seen| seen.admitted && seen.sent <= refused.answered).collect();
            let is_right = before.iter().any(|first| {
                let since = before.iter().filter(|seen| seen.answered >= first.sent);
                let sum: f64 = since.map(|seen| seen.cost).sum();
                let room = self.rate * (refused.sent - first.answered).max(0.0) + self.burst;
                sum + refused.cost > room - 1e-6
            });
            assert!(is_right, "{refused:?} fits");
        }
    }
}

/// One connection from an address, with requests at this pace or as fast as they are answered.
async fn drive(
    gateway: SocketAddr,
    address: u8,
    requests: &[(Vec<u8>, &str, f64)],
    (pace, until, origin): (Duration, Duration, Instant),
) -> Vec<Observation> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, address), 0))).unwrap();
    let stream = socket.connect(gateway).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut client = Client::new(stream);
    let mut seen = Vec::new();
    let mut pace = tokio::time::interval(pace);
    for (request, method, cost) in requests.iter().cycle() {
        if origin.elapsed() >= until {
            break;
        }
        pace.tick().await;
        let sent = origin.elapsed().as_secs_f64();
        client.send(request).await;
        let answer = client.response(method).await;
        let answered = origin.elapsed().as_secs_f64();
        let status = answer.complete_status();
        assert!(matches!(status, 200 | 429), "{answer:?}");
        assert_eq!(answer.reason(), if status == 429 { "rate_limit_ip" } else { "" });
        seen.push(Observation { sent, answered, cost: *cost, admitted: status == 200 });
    }
    seen
}

const RATE: f64 = 100.0;
const BURST: f64 = 30.0;

async fn gateway(upstream: &Upstream, rate: f64, burst: f64) -> Gateway {
    Gateway::builder()
        .bucket("b", upstream)
        .set("server.workers", "4")
        .set("rate_limit.cost.list", "5")
        .set("rate_limit.per_ip.requests_per_second", &rate.to_string())
        .set("rate_limit.per_ip.burst", &burst.to_string())
        .start()
        .await
}

/// Requests and their costs.
fn mixed() -> Vec<(Vec<u8>, &'static str, f64)> {
    let read = || (message("GET", "/b/k", &[], None), "GET", 1.0);
    let list = || (message("GET", "/b/?list-type=2", &[], None), "GET", 5.0);
    vec![read(), read(), list(), read()]
}

/// L2, L4: with four workers, several clients with several connections each, at about four times the limit, some
/// requests heavy: no client gets more than its limit in any window, and no request within it is refused. There is no
/// ban
#[tokio::test]
async fn clients_far_over_their_limit_get_exactly_their_limit() {
    const CLIENTS: u8 = 3;
    const CONNECTIONS: usize = 5;
    let upstream = Upstream::ok("x");
    let gateway = gateway(&upstream, RATE, BURST).await;
    let requests = mixed();
    let (origin, until) = (Instant::now(), Duration::from_millis(1500));
    let client = async |address: u8| {
        let timing = (Duration::from_millis(25), until, origin);
        let connections = (0..CONNECTIONS).map(|_| drive(gateway.address(), address, &requests, timing));
        let seen: Vec<Observation> = join_all(connections).await.into_iter().flatten().collect();
        let limit = Limit { rate: RATE, burst: BURST };
        limit.assert_never_exceeded(&seen);
        limit.assert_nothing_refused_that_fits(&seen);
        let refused = seen.iter().filter(|seen| !seen.admitted).count();
        assert!(refused > 0, "of {} requests none was over the limit", seen.len());
        seen.len() - refused
    };
    let admitted: usize = join_all((2..2 + CLIENTS).map(client)).await.into_iter().sum();
    assert_eq!(upstream.count(), admitted);
}

/// L2: tokens leased to workers exceed the limit in no window, neither at the burst's beginning nor at its end
#[tokio::test]
async fn leased_tokens_exceed_no_window() {
    const CONNECTIONS: usize = 12;
    let upstream = Upstream::ok("x");
    let gateway = gateway(&upstream, 500.0, 4000.0).await;
    let requests = mixed();
    let timing = (Duration::from_micros(1), Duration::from_millis(2500), Instant::now());
    let connections = (0..CONNECTIONS).map(|_| drive(gateway.address(), 7, &requests, timing));
    let seen: Vec<Observation> = join_all(connections).await.into_iter().flatten().collect();
    Limit { rate: 500.0, burst: 4000.0 }.assert_never_exceeded(&seen);
}

/// L2, L4, S5: crashes of the limiter admit nothing beyond the limit
#[tokio::test]
async fn crashes_exceed_no_window() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .chaos()
        .set("server.workers", "4")
        .set("rate_limit.per_ip.requests_per_second", "100")
        .set("rate_limit.per_ip.burst", "30")
        .start()
        .await;
    let origin = Instant::now();
    let ask = async |address: SocketAddr| {
        let mut seen = Vec::new();
        while origin.elapsed() < Duration::from_secs(1) {
            let sent = origin.elapsed().as_secs_f64();
            let status = crate::support::get(address, "/b/k").await.complete_status();
            let answered = origin.elapsed().as_secs_f64();
            seen.push(Observation { sent, answered, cost: 1.0, admitted: status == 200 });
        }
        seen
    };
    let crashing = async {
        for place in ["apply", "decide", "apply"] {
            tokio::time::sleep(Duration::from_millis(200)).await;
            gateway.crash("limiter", place).await;
        }
    };
    let pending = join_all((0..6).map(|_| ask(gateway.address())));
    let (seen, ()) = futures_util::future::join(pending, crashing).await;
    let seen: Vec<Observation> = seen.into_iter().flatten().collect();
    Limit { rate: RATE, burst: BURST }.assert_never_exceeded(&seen);
    assert!(seen.iter().any(|seen| seen.admitted), "the limit came back");
}
