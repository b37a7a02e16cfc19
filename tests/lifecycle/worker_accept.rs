//! Accepting on the worker threads: how connections are spread, that none is lost, and that few wait for a thread that hangs.

use std::collections::{BTreeSet, HashSet};
use std::fs;

use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::support::client::message;
use crate::support::{Client, Gateway, Upstream, wait_for};

/// Connections that arrive at once.
const CROWD: usize = 200;

/// The descriptors that each event loop of the process watches (proc(5): the lines `tfd` of an epoll instance).
fn event_loops(gateway: &Gateway) -> HashSet<BTreeSet<u32>> {
    let folder = fs::read_dir(format!("/proc/{}/fdinfo", gateway.pid())).unwrap();
    let infos = folder.filter_map(|entry| fs::read_to_string(entry.unwrap().path()).ok());
    let watched = infos.map(|info| {
        let lines = info.lines().filter_map(|line| line.strip_prefix("tfd:"));
        lines.map(|line| line.split_whitespace().next().unwrap().parse().unwrap()).collect()
    });
    watched.filter(|descriptors: &BTreeSet<u32>| !descriptors.is_empty()).collect()
}

/// The event loops that watch the data listener: the only descriptor that more than one of them watches.
fn accepting_loops(gateway: &Gateway) -> usize {
    let loops = event_loops(gateway);
    let watchers = |number: &u32| loops.iter().filter(|watched| watched.contains(number)).count();
    loops.iter().flatten().map(watchers).filter(|watchers| *watchers > 1).max().unwrap_or(0)
}

async fn wait_until_accepting(gateway: &Gateway, workers: usize) {
    wait_for("the workers accept", || async { (accepting_loops(gateway) == workers).then_some(()) }).await;
}

/// A gateway with this number of worker threads. Two of them accept, of more none.
async fn gateway_with(workers: usize, upstream: &Upstream) -> Gateway {
    let builder = Gateway::builder().bucket("b", upstream).set("server.workers", &workers.to_string());
    let gateway = builder.chaos().start().await;
    wait_until_accepting(&gateway, if workers <= 2 { workers } else { 0 }).await;
    gateway
}

/// A kept connection after its first request, which the gateway answers itself.
async fn connected(gateway: &Gateway) -> Client {
    let mut client = Client::connect(gateway.address()).await;
    client.send(message("GET", "/-/livez", &[], None)).await;
    assert_eq!(client.response("GET").await.complete_status(), 200);
    client
}

/// X5: few long connections are spread evenly over the worker threads
#[tokio::test]
async fn few_connections_are_spread_evenly() {
    let upstream = Upstream::ok("x");
    // The acceptor spreads them over more than two.
    for workers in [2, 4] {
        let gateway = gateway_with(workers, &upstream).await;
        let before: BTreeSet<u32> = event_loops(&gateway).into_iter().flatten().collect();
        let mut clients = Vec::new();
        for _ in 0..8 {
            clients.push(connected(&gateway).await);
        }
        let opened = |watched: &BTreeSet<u32>| watched.difference(&before).count();
        let mut spread: Vec<usize> =
            event_loops(&gateway).iter().map(opened).filter(|open| *open > 0).collect();
        spread.sort_unstable();
        assert_eq!(spread, vec![8 / workers; workers], "{workers} workers");
    }
}

/// X5: connections that arrive at once are served while one worker thread hangs, which holds back at most eight of them
#[tokio::test]
async fn a_thread_that_hangs_holds_back_few_connections() {
    let upstream = Upstream::ok("x");
    let gateway = gateway_with(2, &upstream).await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    assert_eq!(gateway.post("/actors/pool:b/stall?ms=20000").await.complete_status(), 202);
    let mut pending = Vec::new();
    for _ in 0..8 {
        let mut client = Client::connect(gateway.address()).await;
        client.send(message("GET", "/b/k", &[], None)).await;
        pending.push(client);
    }
    let is_stalled = async || gateway.actor("pool:b").await["state"] == "stalled";
    wait_for("the pool stalls", || async { is_stalled().await.then_some(()) }).await;
    let mut waiting = JoinSet::new();
    for _ in 0..40 {
        let address = gateway.address();
        waiting.spawn(async move {
            let mut client = Client::connect(address).await;
            client.send(message("GET", "/-/livez", &[], None)).await;
            assert_eq!(client.response("GET").await.complete_status(), 200);
            client
        });
    }
    let mut served = Vec::new();
    while served.len() < 32 {
        served.push(waiting.join_next().await.unwrap().unwrap());
    }
    assert!(is_stalled().await, "the thread hangs still");
}

/// X5: the acceptor takes over in a shortage, and lends the listener to the workers again after it
#[tokio::test]
async fn the_workers_accept_again_after_a_shortage() {
    let upstream = Upstream::ok("x");
    let gateway = gateway_with(2, &upstream).await;
    gateway.limit_descriptors(30);
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(Client::connect(gateway.address()).await);
    }
    gateway.wait_for_log_line("accepting connections pauses", |line| line["listener"] == "data").await;
    assert_eq!(accepting_loops(&gateway), 0, "nobody watches the socket");
    gateway.limit_descriptors(1000);
    for client in &mut clients {
        client.send(message("GET", "/-/livez", &[], None)).await;
        assert_eq!(client.response("GET").await.complete_status(), 200);
    }
    gateway.wait_for_log_line("accepting connections resumes", |line| line["listener"] == "data").await;
    wait_until_accepting(&gateway, 2).await;
    connected(&gateway).await;
}

/// G4: no connection in the backlog is lost when a gateway with several accepting threads closes
#[tokio::test]
async fn a_backlog_is_served_at_the_close() {
    let upstream = Upstream::ok("x");
    let mut gateway = gateway_with(2, &upstream).await;
    gateway.signal(Signal::STOP);
    let mut clients = Vec::new();
    for _ in 0..CROWD {
        let mut client = Client::connect(gateway.address()).await;
        client.send(message("GET", "/-/livez", &[], None)).await;
        clients.push(client);
    }
    gateway.send_sigterm();
    gateway.signal(Signal::CONT);
    for client in &mut clients {
        let answer =
            client.try_response("GET").await.expect("an answer instead of the end of the connection");
        assert_eq!(answer.complete_status(), 200);
    }
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
}
