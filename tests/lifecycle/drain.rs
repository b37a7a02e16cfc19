//! The drain from the clients' side: during the delay, when the listener closes, and afterwards.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::{REPEAT_WINDOW, download, holding};
use crate::https::{Http2, Identity};
use crate::status::has_begun;
use crate::support::client::message;
use crate::support::gateway::Builder;
use crate::support::{Client, Gateway, Upstream, wait_for};

/// Connections in the backlog at once.
const CROWD: usize = 200;

fn delayed(upstream: &Upstream, seconds: &str) -> Builder {
    Gateway::builder().bucket("b", upstream).set("server.drain_delay", seconds)
}

async fn is_refused(gateway: &Gateway) -> bool {
    let refused = TcpStream::connect(gateway.address()).await.map(drop);
    refused.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

async fn turns_unready(gateway: &Gateway) {
    wait_for("ready turns false", || async {
        (gateway.admin("/readyz").await.complete_status() == 503).then_some(())
    })
    .await;
}

/// G4, O5: during the delay `/readyz` answers 503 on both listeners, new connections are served, and each answer is the
/// last of its connection; then connections are refused
#[tokio::test]
async fn during_the_delay_new_connections_are_served() {
    let upstream = Upstream::ok("x");
    let mut gateway = delayed(&upstream, "6").start().await;
    let mut kept = Client::connect(gateway.address()).await;
    kept.send(message("GET", "/b/k", &[], None)).await;
    let answer = kept.response("GET").await;
    assert_eq!((answer.complete_status(), answer.header("connection")), (200, None));
    gateway.send_sigterm();
    turns_unready(&gateway).await;
    let ready = gateway.get("/-/readyz").await;
    assert_eq!((ready.complete_status(), ready.text().contains("draining")), (503, true), "{}", ready.text());
    kept.send(message("GET", "/b/k", &[], None)).await;
    let mut new = Client::connect(gateway.address()).await;
    new.send(message("GET", "/b/k", &[], None)).await;
    for client in [&mut kept, &mut new] {
        let answer = client.response("GET").await;
        assert_eq!((answer.complete_status(), answer.header("connection")), (200, Some("close")));
        assert!(client.is_closed().await);
    }
    wait_for("connections are refused", || async { is_refused(&gateway).await.then_some(()) }).await;
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
    assert_eq!(upstream.count(), 3);
    gateway.wait_for_log_line("draining", |line| line["delay_ms"] == 6000).await;
}

/// G4: during the delay an HTTP/2 connection gets GOAWAY and finishes its requests; a new one has its first request
/// served
#[tokio::test]
async fn during_the_delay_http_2_clients_get_goaway() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let mut gateway = identity.gateway_before(&upstream).set("server.drain_delay", "6").start().await;
    let old = identity.http2(&gateway).await;
    assert_eq!(old.get("/b/k").await.complete_status(), 200);
    gateway.send_sigterm();
    turns_unready(&gateway).await;
    old.closed().await;
    let new = identity.http2(&gateway).await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(new.get("/b/k").await.complete_status(), 200, "a new connection is served before its GOAWAY");
    new.closed().await;
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
}

/// G4: `drain_timeout` begins after `drain_delay`
#[tokio::test]
async fn the_drain_time_begins_after_the_delay() {
    let (upstream, _latch) = holding();
    let mut gateway = delayed(&upstream, "0.7").set("server.drain_timeout", "0.7").start().await;
    let (mut client, mut answer) = download(&gateway).await;
    let began = Instant::now();
    gateway.send_sigterm();
    assert_eq!(gateway.wait_exit().await.code(), Some(1));
    assert!(began.elapsed() >= Duration::from_millis(1400), "{:?}", began.elapsed());
    client.body(&mut answer, "GET").await;
    assert!(answer.broken.is_some());
}

/// G4: a second signal ends the delay at once
#[tokio::test]
async fn a_second_signal_ends_the_delay() {
    let upstream = Upstream::ok("x");
    let mut gateway = delayed(&upstream, "600").start().await;
    gateway.send_sigterm();
    turns_unready(&gateway).await;
    let draining = has_begun(&gateway, "draining", "process").await;
    assert!(draining["message"].as_str().unwrap().contains("because of a signal"), "{draining}");
    sleep(REPEAT_WINDOW * 2).await;
    gateway.send_sigterm();
    assert_eq!(gateway.wait_exit().await.code(), Some(1));
    gateway.wait_for_log_line("second signal: ending at once", |_| true).await;
}

/// G4, X3: the admin listener answers until the end, while the gateway waits for requests in flight with a closed data
/// listener
#[tokio::test]
async fn the_admin_listener_answers_until_the_end() {
    let (upstream, latch) = holding();
    let mut gateway = Gateway::in_front_of(&upstream).await;
    let (mut client, mut answer) = download(&gateway).await;
    gateway.send_sigterm();
    wait_for("connections are refused", || async { is_refused(&gateway).await.then_some(()) }).await;
    for path in ["/livez", "/status", "/metrics"] {
        assert_eq!(gateway.admin(path).await.complete_status(), 200, "{path}");
    }
    assert_eq!(gateway.admin("/readyz").await.complete_status(), 503);
    latch.open_for_all();
    client.body(&mut answer, "GET").await;
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
}

/// G4: connections in the backlog at the signal are served, none is reset
#[tokio::test]
async fn a_backlog_is_served() {
    let upstream = Upstream::ok("x");
    // All send requests at once. Neither the bucket's gate nor the cursor of a slow process must refuse any.
    let builder = Gateway::builder().bucket("b", &upstream).set("shedding.target_wait_ms", "60000");
    let builder = builder.set("buckets.b.s3.concurrency.max_queued", "1000");
    let mut gateway = builder.set("buckets.b.s3.concurrency.queue_timeout_ms", "20000").start().await;
    gateway.signal(Signal::STOP);
    let mut clients = Vec::new();
    for index in 0..CROWD {
        let mut client = Client::connect(gateway.address()).await;
        // Every second client is slower than the drain.
        if index.is_multiple_of(2) {
            client.send(message("GET", "/b/k", &[], None)).await;
        }
        clients.push(client);
    }
    gateway.send_sigterm();
    gateway.signal(Signal::CONT);
    gateway.wait_for_log_line("draining", |_| true).await;
    for client in clients.iter_mut().skip(1).step_by(2) {
        client.send(message("GET", "/b/k", &[], None)).await;
    }
    for (index, client) in clients.iter_mut().enumerate() {
        let answer =
            client.try_response("GET").await.expect("an answer instead of the end of the connection");
        assert_eq!(answer.complete_status(), 200);
        // The others may have been answered just before the signal was handled.
        if !index.is_multiple_of(2) {
            assert_eq!(answer.header("connection"), Some("close"));
        }
    }
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
}

/// G4, A7: so are connections in the backlog before their TLS handshake, over HTTP/1.1 and HTTP/2
#[tokio::test]
async fn a_backlog_of_tls_clients_is_served() {
    let (identity, upstream) = (Identity::new(), Upstream::ok("x"));
    let mut gateway = identity.gateway_before(&upstream).start().await;
    gateway.signal(Signal::STOP);
    let mut waiting = Vec::new();
    for _ in 0..10 {
        waiting.push(TcpStream::connect(gateway.address()).await.unwrap());
    }
    gateway.send_sigterm();
    gateway.signal(Signal::CONT);
    let ask = |(index, stream): (usize, _)| ask_over_tls(&identity, stream, index.is_multiple_of(2));
    let served = waiting.into_iter().enumerate().map(ask);
    assert_eq!(futures_util::future::join_all(served).await, [200; 10]);
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
}

/// Connects and sends requests until connections are refused; returns the number of answers.
async fn ask_until_refused(address: std::net::SocketAddr) -> usize {
    let mut answers = 0;
    loop {
        let stream = match TcpStream::connect(address).await {
            Ok(stream) => stream,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "after {answers} answers");
                return answers;
            }
        };
        let mut client = Client::new(stream);
        client.try_send(message("GET", "/b/k", &[], None)).await.expect("an accepted request");
        let answer = client.try_response("GET").await;
        let answer = answer.unwrap_or_else(|| panic!("connected and not answered, after {answers} answers"));
        assert_eq!(answer.complete_status(), 200);
        answers += 1;
    }
}

/// G4: clients that keep connecting during the drain get answers and refusals, and no reset, over IPv4 and IPv6
#[tokio::test]
async fn new_clients_get_answers_or_refusals_only() {
    // Containers often have no IPv6, not even on loopback.
    let has_ipv6 = std::net::TcpListener::bind("[::1]:0").is_ok();
    let runs = [("127.0.0.1", "0"), ("127.0.0.1", "0.5"), ("::1", "0")];
    for (address, delay) in runs.into_iter().take(if has_ipv6 { 3 } else { 2 }) {
        let upstream = Upstream::ok("x");
        let mut gateway = delayed(&upstream, delay).set("server.address", address).start().await;
        let crowd: Vec<_> = (0..40).map(|_| tokio::spawn(ask_until_refused(gateway.address()))).collect();
        sleep(Duration::from_millis(500)).await;
        gateway.send_sigterm();
        for client in crowd {
            let answers = client.await.unwrap();
            assert!(answers > 0, "{address}, delay {delay}");
        }
        assert_eq!(gateway.wait_exit().await.code(), Some(0), "{address}, delay {delay}");
    }
}

/// One request on a connection before its handshake; `is_http2` selects the protocol. Returns the status.
async fn ask_over_tls(identity: &Identity, stream: TcpStream, is_http2: bool) -> u16 {
    if is_http2 {
        let stream = identity.tls_handshake(stream, &["h2"]).await;
        return Http2::over(stream, &h2::client::Builder::new()).await.get("/b/k").await.complete_status();
    }
    let mut client = Client::new(identity.tls_handshake(stream, &["http/1.1"]).await);
    client.send(message("GET", "/b/k", &[], None)).await;
    client.response("GET").await.complete_status()
}

/// G4, A7: the same over TLS, with HTTP/1.1 and HTTP/2: accepted connections are served, during the delay and after it
#[tokio::test]
async fn new_tls_clients_get_answers_or_refusals_only() {
    for delay in ["0", "0.5"] {
        let (identity, upstream) = (Arc::new(Identity::new()), Upstream::ok("x"));
        let mut gateway = identity.gateway_before(&upstream).set("server.drain_delay", delay).start().await;
        let address = gateway.address();
        let ask_until_refused = async |identity: Arc<Identity>, is_http2| {
            let mut answers = 0;
            loop {
                match TcpStream::connect(address).await {
                    Ok(stream) => assert_eq!(ask_over_tls(&identity, stream, is_http2).await, 200),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "after {answers} answers");
                        return answers;
                    }
                }
                answers += 1;
            }
        };
        let crowd =
            (0..12).map(|index: u32| ask_until_refused(Arc::clone(&identity), index.is_multiple_of(2)));
        let crowd = futures_util::future::join_all(crowd);
        let stop = async {
            sleep(Duration::from_millis(700)).await;
            gateway.send_sigterm();
        };
        let (answers, ()) = tokio::join!(crowd, stop);
        assert!(answers.iter().all(|answers| *answers > 0), "delay {delay}: {answers:?}");
        assert_eq!(gateway.wait_exit().await.code(), Some(0), "delay {delay}");
    }
}

/// G4: a connection without a request does not delay the end
#[tokio::test]
async fn a_silent_connection_does_not_delay_the_end() {
    let upstream = Upstream::ok("x");
    let builder = Gateway::builder().bucket("b", &upstream).set("server.header_timeout", "600");
    let mut gateway = builder.set("server.drain_timeout", "600").start().await;
    let mut silent = Client::connect(gateway.address()).await;
    gateway.send_sigterm();
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
    assert!(silent.is_closed().await);
}
