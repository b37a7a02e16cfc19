//! Requests on kept and on new connections, while the gateway is upgraded.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::task::JoinHandle;

use super::{Upgradable, with_slow_download};
use crate::support::{Client, Gateway, Upstream, client, wait_for, wait_until};

/// Clients of each kind.
const CLIENTS: usize = 6;

/// Clients that send requests until they are stopped. Each request must have its complete answer.
pub(super) struct Load {
    is_over: Arc<AtomicBool>,
    /// The ID of each request with an answer.
    answers: Arc<Mutex<Vec<String>>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    pub(super) fn start(address: SocketAddr) -> Self {
        let (is_over, answers) = (Arc::<AtomicBool>::default(), Arc::<Mutex<_>>::default());
        let clients = (0..CLIENTS * 2).map(|index| {
            let (is_over, answers) = (Arc::clone(&is_over), Arc::clone(&answers));
            tokio::spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    connection(address, index % 2 == 0, &is_over, &answers).await;
                }
            })
        });
        Self { clients: clients.collect(), is_over, answers }
    }

    /// Waits until this many more answers have come.
    pub(super) async fn wait_for_answers(&self, more: usize) {
        let due = self.answers.lock().unwrap().len() + more;
        wait_until("answers come", || {
            self.clients.iter().for_each(|client| assert!(!client.is_finished(), "a client has failed"));
            self.answers.lock().unwrap().len() >= due
        })
        .await;
    }

    /// Returns the ID of each request.
    pub(super) async fn stop(self) -> Vec<String> {
        self.is_over.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.unwrap();
        }
        std::mem::take(&mut *self.answers.lock().unwrap())
    }
}

/// One connection, with one request or with requests until the gateway announces the last one.
async fn connection(address: SocketAddr, is_kept: bool, is_over: &AtomicBool, answers: &Mutex<Vec<String>>) {
    let mut client = Client::connect(address).await;
    loop {
        client.send(client::message("GET", "/b/k", &[], None)).await;
        let answer = client.response("GET").await;
        assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "body"));
        answers.lock().unwrap().push(answer.header("x-request-id").unwrap().to_owned());
        let is_last = answer.header("connection") == Some("close");
        if !is_kept || is_last || is_over.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// G8: two upgrades one after the other under requests on kept and on new connections fail none of them
#[tokio::test]
async fn no_request_fails_during_two_upgrades() {
    let upstream = Upstream::ok("body");
    let mut running = Upgradable::in_front_of(&upstream).await;
    let load = Load::start(running.gateway.address());
    load.wait_for_answers(200).await;
    let second = running.upgraded().await;
    load.wait_for_answers(200).await;
    running.wait_for_end_of_predecessor().await;
    let third = running.upgraded().await;
    load.wait_for_answers(200).await;
    load.stop().await;
    assert_ne!(second, third);
    let ended = |message: &str| {
        let lines = running.gateway.log_lines();
        lines.iter().filter(|line| line["msg"] == message).map(|line| line["pid"].clone()).collect::<Vec<_>>()
    };
    wait_for("the second process has ended too", || async {
        (ended("the predecessor has ended") == [running.gateway.pid(), second]).then_some(())
    })
    .await;
    assert_eq!(ended("upgrade done: the new process serves, this one drains"), [second, third]);
}

/// G8, G3: a download that is under way ends at the old process, which loads no other configuration; meanwhile the new one serves
#[tokio::test]
async fn a_download_ends_at_the_old_process() {
    let (upstream, latch) = with_slow_download();
    let mut running = Upgradable::in_front_of(&upstream).await;
    let mut download = Client::connect(running.gateway.address()).await;
    download.send(client::message("GET", "/b/slow", &[], None)).await;
    let mut answer = download.head().await;
    let first = running.gateway.pid();
    running.upgraded().await;
    assert_eq!(running.gateway.get("/b/k").await.complete_status(), 200);
    wait_for("the predecessor reports its request", || async {
        let status = running.gateway.status().await;
        let predecessor = &status["predecessors"][0];
        (predecessor["pid"] == first && predecessor["drain"]["requests"] == 1).then_some(())
    })
    .await;
    running.gateway.send_sighup();
    let refused = "configuration refused, the one before it stays in use";
    running.gateway.wait_for_log_line(refused, |line| line["hint"] == "reload the successor").await;
    latch.open_for_all();
    download.body(&mut answer, "GET").await;
    assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "beginend"));
    // The head was sent before the hand-over, so the connection could have another request.
    drop(download);
    running.wait_for_end_of_predecessor().await;
}

/// G8, X7: an event stream of the old process ends, so that its watcher asks the new process
#[tokio::test]
async fn event_streams_move_to_the_new_process() {
    let upstream = Upstream::ok("body");
    let builder = Gateway::builder().bucket("b", &upstream).set("server.keep_alive", "3600");
    let running = Upgradable::start(builder).await;
    let mut idle = Client::connect(running.gateway.address()).await;
    idle.send(client::message("GET", "/b/k", &[], None)).await;
    assert_eq!(idle.response("GET").await.complete_status(), 200);
    let mut stream = Client::connect(running.gateway.admin_address()).await;
    stream.send(client::message("GET", "/status/stream", &[], None)).await;
    assert_eq!(stream.head().await.status, 200);
    running.upgraded().await;
    while stream.read_some().await.is_ok() {}
    let status = running.gateway.status().await;
    assert_eq!(status["predecessors"][0]["pid"], running.gateway.pid(), "the old process goes on");
}

/// G8: SIGTERM to the old process ends the time of its idle connections, and not the new process
#[tokio::test]
async fn a_signal_ends_the_time_of_idle_connections() {
    let upstream = Upstream::ok("body");
    let builder = Gateway::builder().bucket("b", &upstream).set("server.keep_alive", "3600");
    let mut running = Upgradable::start(builder).await;
    let mut idle = Client::connect(running.gateway.address()).await;
    idle.send(client::message("GET", "/b/k", &[], None)).await;
    assert_eq!(idle.response("GET").await.complete_status(), 200);
    running.upgraded().await;
    running.gateway.wait_for_log_line("draining", |_| true).await;
    running.gateway.send_sigterm();
    assert!(idle.is_closed().await);
    running.wait_for_end_of_predecessor().await;
    assert_eq!(running.gateway.get("/b/k").await.complete_status(), 200);
}
