//! Notifications at start, reload and drain.

use rustix::time::{ClockId, clock_gettime};

use super::{NotifySocket, value};
use crate::support::{Client, Gateway, Latch, Upstream, UpstreamReply, client, wait_until};

fn monotonic_usec() -> u128 {
    std::time::Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap().as_micros()
}

/// G8: a start ends with `READY=1` when both listeners accept, over a socket with a path or an abstract name
#[tokio::test]
async fn a_start_is_reported_when_the_gateway_listens() {
    let upstream = Upstream::ok("x");
    for socket in [NotifySocket::new(), NotifySocket::with_abstract_name()] {
        let gateway =
            Gateway::builder().bucket("b", &upstream).env("NOTIFY_SOCKET", &socket.address).start().await;
        let (ready, _) = socket.wait_for_line(0, "READY=1").await;
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
        let words = format!("STATUS=serving at {}, admin at {}", gateway.address(), gateway.admin_address());
        assert_eq!(socket.messages()[..ready], [words], "nothing else comes before");
    }
}

/// G8, G3: a reload begins with `RELOADING=1` and its time, and ends with `READY=1`, also if the configuration is refused
#[tokio::test]
async fn a_reload_is_reported_at_its_begin_and_its_end() {
    let (upstream, socket) = (Upstream::ok("x"), NotifySocket::new());
    let config = |extra: &str| {
        let address = upstream.address();
        format!("[buckets.b]\nauth = [\"anonymous\"]\ns3.endpoints = [\"http://{address}\"]\n{extra}")
    };
    let gateway = Gateway::builder().config(&config("")).env("NOTIFY_SOCKET", &socket.address).start().await;
    let (mut at, _) = socket.wait_for_line(0, "READY=1").await;
    let cases = [
        ("", "configuration 1 stays in use: nothing has changed"),
        ("cors.no_such_key = 1\n", "configuration refused, 1 stays in use: buckets.b.cors.no_such_key: "),
        ("s3.timeout = 7\n", "configuration 2 is in use"),
    ];
    for (extra, status) in cases {
        std::fs::write(gateway.directory().join("tidegate.toml"), config(extra)).unwrap();
        let before = monotonic_usec();
        gateway.send_sighup();
        let (begun, reloading) = socket.wait_for_line(at + 1, "RELOADING=1").await;
        let time: u128 = value(&reloading, "MONOTONIC_USEC").parse().unwrap();
        assert!(before <= time && time <= monotonic_usec(), "{before} {time}");
        let (ended, ready) = socket.wait_for_line(at + 1, "READY=1").await;
        assert_eq!(ended, begun + 1, "{:?}", socket.messages());
        assert!(value(&ready, "STATUS").starts_with(status), "{ready:?} does not begin with {status:?}");
        at = ended;
    }
}

/// G8, G4: a drain is reported, and as long as it runs the service manager is asked for more time
#[tokio::test]
async fn a_drain_asks_for_time_until_it_ends() {
    let (latch, socket) = (Latch::new(), NotifySocket::new());
    let held = latch.clone();
    let upstream = Upstream::start(move |_| UpstreamReply::ok("begin").then_body_when_open(&held, "end"));
    let mut gateway =
        Gateway::builder().bucket("b", &upstream).env("NOTIFY_SOCKET", &socket.address).start().await;
    let mut client = Client::connect(gateway.address()).await;
    client.send(client::message("GET", "/b/k", &[], None)).await;
    let mut answer = client.head().await;
    gateway.send_sigterm();
    let (stopping, message) = socket.wait_for_line(0, "STOPPING=1").await;
    assert!(value(&message, "STATUS").starts_with("draining"), "{message:?}");
    let extensions = || {
        let messages = socket.messages();
        let later = messages[stopping..].iter().filter(|message| message.contains("EXTEND_TIMEOUT_USEC="));
        later.map(|message| value(message, "EXTEND_TIMEOUT_USEC").parse::<u64>().unwrap()).collect::<Vec<_>>()
    };
    wait_until("two more extensions", || extensions().len() >= 3).await;
    assert!(extensions().iter().all(|usec| *usec >= 10_000_000), "{:?}", extensions());
    latch.open_for_all();
    client.body(&mut answer, "GET").await;
    assert_eq!(answer.complete_status(), 200);
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
    let messages = socket.messages();
    let ready = messages.iter().filter(|message| message.lines().any(|line| line == "READY=1")).count();
    assert_eq!(ready, 1, "{messages:?}");
}

/// Bad input: a NOTIFY_SOCKET that cannot be used is logged once, and the gateway serves
#[tokio::test]
async fn an_unusable_notify_socket_is_logged() {
    let upstream = Upstream::ok("x");
    for address in ["relative/path", "/nowhere/notify"] {
        let gateway = Gateway::builder().bucket("b", &upstream).env("NOTIFY_SOCKET", address).start().await;
        let line = gateway.wait_for_log_line("the service manager cannot be notified", |_| true).await;
        assert!(line["hint"].as_str().unwrap().contains("NOTIFY_SOCKET"), "{line}");
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
        gateway.send_sighup();
        gateway.wait_for_log_line("configuration reloaded: nothing has changed", |_| true).await;
        let logged = gateway
            .log_lines()
            .into_iter()
            .filter(|line| line["msg"] == "the service manager cannot be notified");
        assert_eq!(logged.count(), 1, "{address}");
    }
}
