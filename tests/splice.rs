//! Large bodies that nothing inspects pass through a pipe of the worker thread (splice). A client sees no difference, and the gateway
//! still counts, bounds and ends them.

use std::time::Duration;

use tokio::time::timeout;

use crate::support::client::{message, sha256};
use crate::support::gateway::Builder;
use crate::support::{
    Client, Gateway, Latch, Upstream, UpstreamReply, WAIT_MAX, random_bytes, wait_for, wait_until,
};

/// Bytes that passed through a pipe.
const SPLICED: &str = "spliced_bytes_total";
const SENT: &str = "sent_bytes_total{bucket=\"b\"}";
/// Sockets of a client and its upstream.
const ONE_REQUEST: usize = 2;
/// Of each worker thread.
const PIPE: usize = 2;

/// One worker thread, so that there is one pipe.
fn one_worker(upstream: &Upstream) -> Builder {
    Gateway::builder().bucket("b", upstream).set("server.workers", "1")
}

async fn begin(gateway: &Gateway, target: &str) -> Client {
    let mut client = Client::connect(gateway.address()).await;
    client.send(message("GET", target, &[], None)).await;
    assert_eq!(client.head().await.status, 200);
    client
}

async fn read(client: &mut Client, bytes: usize) -> usize {
    let mut read = 0;
    while read < bytes {
        read += client.read_some().await.unwrap().len();
    }
    read
}

/// P1, O2: bodies of sizes around the limits arrive byte for byte, one after the other on one connection, also ranges; the large ones
/// pass through a pipe, and the sent bytes are counted exactly
#[tokio::test]
async fn bodies_of_any_size_are_equal() {
    let body = random_bytes(9 << 20);
    let stored = body.clone();
    let upstream = Upstream::start(move |request| {
        let (first, length) = request.target.trim_start_matches("/b/").split_once('-').unwrap();
        let (first, length): (usize, usize) = (first.parse().unwrap(), length.parse().unwrap());
        let status = if first == 0 { 200 } else { 206 };
        UpstreamReply::new(status, &stored[first..first + length])
    });
    let gateway = one_worker(&upstream).start().await;
    let mut client = Client::connect(gateway.address()).await;
    let mut sent = 0;
    for kib in [16, 64, 72, 128, 136, 192, 256, 1024, 8192] {
        for length in [(kib << 10) - 1, kib << 10, (kib << 10) + 1] {
            for first in [0, 100_001] {
                client.send(message("GET", &format!("/b/{first}-{length}"), &[], None)).await;
                let answer = client.response("GET").await;
                assert_eq!(answer.complete_status(), if first == 0 { 200 } else { 206 });
                assert_eq!(answer.sha256(), sha256(&body[first..first + length]), "{first}-{length}");
                sent += length;
            }
        }
    }
    wait_for("the last answer is counted", || async {
        (gateway.metric(SENT).await == sent as f64).then_some(())
    })
    .await;
    let spliced = gateway.metric(SPLICED).await;
    assert!(spliced > (8 << 20) as f64 && spliced < sent as f64, "{spliced} of {sent} bytes");
    assert_eq!(upstream.connections(), 1, "the upstream's connection is used again after each");
}

/// P1: small bodies, chunked ones, and those of transfers without large buffers are copied
#[tokio::test]
async fn other_bodies_are_copied() {
    let body = random_bytes(2 << 20);
    let stored = body.clone();
    let upstream = Upstream::start(move |request| match request.target.as_str() {
        "/b/chunked" => UpstreamReply::ok(&stored).chunked(),
        "/b/small" => UpstreamReply::ok(&stored[..64 << 10]),
        _ => UpstreamReply::ok(&stored),
    });
    let gateway = one_worker(&upstream).start().await;
    for (target, bytes) in [("/b/chunked", body.len()), ("/b/small", 64 << 10)] {
        let answer = gateway.get(target).await;
        assert_eq!((answer.complete_status(), answer.sha256()), (200, sha256(&body[..bytes])), "{target}");
    }
    assert_eq!(gateway.metric(SPLICED).await, 0.0);
    let small = one_worker(&upstream).set("server.buffer_budget", "0").start().await;
    let answer = small.get("/b/large").await;
    assert_eq!((answer.complete_status(), answer.sha256()), (200, sha256(&body)));
    assert_eq!(small.metric(SPLICED).await, 0.0);
}

/// T6: a body that ends early is a broken transfer for the client, with what came, and the sent bytes are those that were forwarded
#[tokio::test]
async fn a_truncated_body_is_visible() {
    const CUT_AT: usize = (1 << 20) + 12_345;
    let body = random_bytes(2 << 20);
    let stored = body.clone();
    let upstream = Upstream::start(move |request| {
        let reply = UpstreamReply::ok(&stored).cut_at(CUT_AT);
        if request.target == "/b/reset" { reply.then_reset() } else { reply }
    });
    let gateway = one_worker(&upstream).start().await;
    for id in ["closed", "reset"] {
        let mut client = Client::connect(gateway.address()).await;
        client.send(message("GET", &format!("/b/{id}"), &[("x-request-id", id)], None)).await;
        let answer = client.response("GET").await;
        assert!(answer.broken.is_some(), "{id}: the body looks complete");
        assert!(body.starts_with(&answer.body), "{id}");
        let line = gateway.wait_for_access_line(id).await;
        assert!(matches!(line["reason"].as_str(), Some("short_answer" | "broken_answer")), "{line}");
        if id == "closed" {
            assert_eq!((answer.body.len(), &line["sent_bytes"]), (CUT_AT, &CUT_AT.into()), "{line}");
        }
    }
    assert!(gateway.metric(SPLICED).await > 0.0);
    gateway.wait_until_idle().await;
}

/// T7, X8: clients that stop reading hold neither a pipe nor much memory, and when they leave everything is released
#[tokio::test]
async fn clients_that_stop_hold_no_pipe() {
    const CLIENTS: usize = 40;
    /// What a transfer may hold in the process: a piece of the pipe's size, the bytes that were gathered before it, and its tables.
    const CLIENT_BYTES: u64 = 320 << 10;
    let upstream = Upstream::start(|_| UpstreamReply::ok(vec![b'x'; 32 << 20]));
    let gateway = one_worker(&upstream).start().await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    gateway.wait_until_idle().await;
    assert!(gateway.metric(SPLICED).await > 0.0, "the pipe is open");
    let (descriptors, memory) = (gateway.open_descriptors(), gateway.resident_bytes());
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = begin(&gateway, "/b/k").await;
        read(&mut client, 64 << 10).await;
        clients.push(client);
    }
    let open = gateway.open_descriptors();
    assert!(open <= descriptors + CLIENTS * ONE_REQUEST, "{open} descriptors, {descriptors} before");
    let held = gateway.resident_bytes().saturating_sub(memory);
    assert!(held < CLIENTS as u64 * CLIENT_BYTES, "{held} bytes for {CLIENTS} clients");
    // The pipe of the thread is free for another client.
    let spliced = gateway.metric(SPLICED).await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    assert!(gateway.metric(SPLICED).await > spliced, "the pipe is in use");
    drop(clients);
    gateway.wait_until_idle().await;
    wait_until("the upstream's connections are closed", || upstream.in_flight() == 0).await;
    wait_until("the descriptors are released", || gateway.open_descriptors() <= descriptors + ONE_REQUEST)
        .await;
}

/// V10: a client that reads too slowly is cut, and the rest of the body is not sent
#[tokio::test]
async fn a_slow_client_is_cut() {
    let upstream = Upstream::start(|_| UpstreamReply::ok(vec![b'x'; 32 << 20]));
    let gateway = one_worker(&upstream).set("server.write_stall_timeout", "1").start().await;
    let mut client = Client::connect(gateway.address()).await;
    client.send(message("GET", "/b/k", &[("x-request-id", "slow")], None)).await;
    assert_eq!(client.head().await.status, 200);
    read(&mut client, 1 << 20).await;
    let line = gateway.wait_for_access_line("slow").await;
    assert_eq!(line["reason"], "write_stall", "{line}");
    assert!(line["sent_bytes"].as_u64().unwrap() < 32 << 20, "{line}");
    assert!(gateway.metric(SPLICED).await > 0.0);
}

/// X9: without a descriptor for a pipe the body is copied, and once there is one a later body passes through it
#[tokio::test]
async fn without_a_pipe_bodies_are_copied() {
    let body = random_bytes(4 << 20);
    let stored = body.clone();
    let upstream = Upstream::start(move |request| {
        UpstreamReply::ok(if request.target == "/b/small" { &stored[..10] } else { &stored[..] })
    });
    let gateway = one_worker(&upstream).set("monitor.interval_ms", "60000").start().await;
    let mut client = Client::connect(gateway.address()).await;
    // Opens both connections, which are then used again.
    client.send(message("GET", "/b/small", &[], None)).await;
    assert_eq!(client.response("GET").await.complete_status(), 200);
    gateway.limit_descriptors(30);
    client.send(message("GET", "/b/large", &[], None)).await;
    let answer = client.response("GET").await;
    assert_eq!((answer.complete_status(), answer.sha256()), (200, sha256(&body)));
    gateway.limit_descriptors(1000);
    assert_eq!(gateway.metric(SPLICED).await, 0.0);
    assert_eq!(upstream.connections(), 1);
    let before = gateway.open_descriptors();
    let pipe_is_opened = async {
        while gateway.metric(SPLICED).await == 0.0 {
            client.send(message("GET", "/b/large", &[], None)).await;
            let answer = client.response("GET").await;
            assert_eq!((answer.complete_status(), answer.sha256()), (200, sha256(&body)));
        }
    };
    timeout(WAIT_MAX, pipe_is_opened).await.expect("a pipe is opened");
    wait_until("one pipe is kept", || gateway.open_descriptors() <= before + PIPE).await;
}

/// G4: a download that passes through the pipe ends completely during a drain, and continues after a reload
#[tokio::test]
async fn a_download_outlives_a_reload_and_a_drain() {
    let body = random_bytes(24 << 20);
    let (first, rest) = body.split_at(8 << 20);
    let (first, rest) = (first.to_vec(), rest.to_vec());
    let latch = Latch::new();
    let held = latch.clone();
    let announced = body.len();
    let upstream = Upstream::start(move |_| {
        assert_eq!(first.len() + rest.len(), announced);
        UpstreamReply::ok(&first).then_body_when_open(&held, &rest)
    });
    let mut gateway = one_worker(&upstream).start().await;
    let mut client = Client::connect(gateway.address()).await;
    client.send(message("GET", "/b/k", &[], None)).await;
    let mut answer = client.head().await;
    assert_eq!(answer.status, 200);
    wait_for("the first part is read", || async { (gateway.metric(SPLICED).await > 0.0).then_some(()) })
        .await;
    gateway.send_sighup();
    gateway.wait_for_log_line("configuration reloaded: nothing has changed", |_| true).await;
    gateway.send_sigterm();
    tokio::time::sleep(Duration::from_millis(50)).await;
    latch.open_for_all();
    client.body(&mut answer, "GET").await;
    assert_eq!((answer.complete_status(), answer.sha256()), (200, sha256(&body)));
    assert!(gateway.wait_exit().await.success());
}

/// T6, O2: requests that a client sends ahead are answered in their order: HEAD without a body, large objects and a small one
#[tokio::test]
async fn requests_sent_ahead_are_answered_in_order() {
    let body = random_bytes(3 << 20);
    let stored = body.clone();
    let upstream = Upstream::start(move |request| {
        UpstreamReply::ok(if request.target == "/b/small" { &stored[..10] } else { &stored[..] })
    });
    let gateway = one_worker(&upstream).start().await;
    let requests = [("GET", "/b/large"), ("HEAD", "/b/large"), ("GET", "/b/small"), ("GET", "/b/large")];
    let mut client = Client::connect(gateway.address()).await;
    for _ in 0..3 {
        let sent: Vec<Vec<u8>> =
            requests.iter().map(|(method, target)| message(method, target, &[], None)).collect();
        client.send(sent.concat()).await;
        for (method, target) in requests {
            let answer = client.response(method).await;
            let expected = match (method, target) {
                ("HEAD", _) => &[][..],
                (_, "/b/small") => &body[..10],
                _ => &body[..],
            };
            assert_eq!(
                (answer.complete_status(), answer.sha256()),
                (200, sha256(expected)),
                "{method} {target}"
            );
        }
    }
    assert!(gateway.metric(SPLICED).await > 0.0);
}

/// T7, X9: clients that reset while bytes of theirs are in the pipe leave nothing in it for the next answer, and no descriptor open
#[tokio::test]
async fn clients_that_reset_leave_nothing_in_the_pipe() {
    let body = random_bytes(8 << 20);
    let stored = body.clone();
    let upstream = Upstream::start(move |request| match request.target.as_str() {
        "/b/left" => UpstreamReply::ok(vec![b'x'; 32 << 20]),
        _ => UpstreamReply::ok(&stored),
    });
    let gateway = one_worker(&upstream).start().await;
    assert_eq!(gateway.get("/b/k").await.sha256(), sha256(&body));
    gateway.wait_until_idle().await;
    let descriptors = gateway.open_descriptors();
    for round in 0..30 {
        let mut leaving = begin(&gateway, "/b/left").await;
        read(&mut leaving, round * (100 << 10)).await;
        let mut staying = begin(&gateway, "/b/k").await;
        leaving.reset();
        let mut received = Vec::new();
        while received.len() < body.len() {
            received.extend(staying.read_some().await.unwrap());
        }
        assert_eq!(sha256(&received), sha256(&body), "round {round}");
    }
    assert!(gateway.metric(SPLICED).await > 0.0);
    gateway.wait_until_idle().await;
    wait_until("the descriptors are released", || gateway.open_descriptors() <= descriptors + ONE_REQUEST)
        .await;
}
