//! Upgrades below a service manager: its notifications, its watchdog and its sockets go on with the new process.

use std::net::TcpListener;

use rustix::process::{Signal, kill_process};

use super::Upgradable;
use crate::service_manager::NotifySocket;
use crate::support::{Gateway, Upstream, get, wait_until};

/// G8: the predecessor names its successor as the main process and is silent afterwards; the successor reports that it is ready, and pings
/// the watchdog after the predecessor has ended
#[tokio::test]
async fn the_successor_becomes_the_main_process() {
    let (upstream, socket) = (Upstream::ok("x"), NotifySocket::new());
    let builder = Gateway::builder()
        .bucket("b", &upstream)
        .env("NOTIFY_SOCKET", &socket.address)
        .env("WATCHDOG_USEC", "2000000");
    let mut running = Upgradable::start(builder).await;
    let (first, _) = socket.wait_for_line(0, "READY=1").await;
    let successor = running.upgraded().await;
    socket.wait_for_line(first, &format!("MAINPID={successor}")).await;
    let (second, _) = socket.wait_for_line(first + 1, "READY=1").await;
    running.wait_for_end_of_predecessor().await;
    let ended = socket.messages().len();
    wait_until("the successor pings", || {
        socket.messages()[ended..].iter().any(|message| message == "WATCHDOG=1")
    })
    .await;
    let messages = socket.messages();
    assert!(second > first);
    assert!(
        messages.iter().all(|message| !message.contains("STOPPING=1")),
        "the service goes on: {messages:?}"
    );
}

/// G8: a socket of the service manager stays in use over two upgrades, although the configuration has another port, and its backlog waits
/// for the next start after the last process has ended
#[tokio::test]
async fn sockets_of_a_service_manager_stay_in_use() {
    let upstream = Upstream::ok("x");
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let builder = Gateway::builder().bucket("b", &upstream).set("server.port", "1").pass(&socket, &["data"]);
    let mut running = Upgradable::start(builder).await;
    assert_eq!(running.gateway.address(), address);
    for _ in 0..2 {
        running.upgraded().await;
        assert_eq!(get(address, "/b/k").await.complete_status(), 200);
        running.wait_for_end_of_predecessor().await;
    }
    for pid in running.successors() {
        kill_process(pid, Signal::TERM).unwrap();
    }
    wait_until("the last process has ended", || running.successors().is_empty()).await;
    let waiting = std::net::TcpStream::connect(address).unwrap();
    let accepted = socket.accept().unwrap();
    assert_eq!(accepted.1, waiting.local_addr().unwrap(), "the backlog is that of the service manager");
}
