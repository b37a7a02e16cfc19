//! Connection lifetime: clients that close, read slowly or stay idle, and a gateway that stops.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::statuses;
use crate::support::{Client, Gateway, Latch, Upstream, UpstreamReply, client, wait_for};

/// T7: a client that closes its sending half while it waits counts as disconnected
#[tokio::test]
async fn a_half_close_is_a_disconnect() {
    let upstream = Upstream::start(|_| UpstreamReply::hang());
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.timeout", "600")
        .set("server.request_timeout", "600")
        .start()
        .await;
    let mut leaving = TcpStream::connect(gateway.address()).await.unwrap();
    // Pipelined bytes do not hide the end of the stream.
    let request = client::message("GET", "/b/k", &[("x-request-id", "leaving")], None);
    leaving.write_all(&[&request[..], &request].concat()).await.unwrap();
    upstream.wait_until_in_flight(1).await;
    leaving.shutdown().await.unwrap();
    wait_for("the upstream connection is closed", || async { (upstream.cancelled() == 1).then_some(()) })
        .await;
    gateway.wait_until_idle().await;
    assert_eq!(gateway.wait_for_access_line("leaving").await["reason"], "client_gone");
    assert_eq!(upstream.count(), 1, "the second request was not forwarded");
}

/// T7: a disconnect is detected although the gateway has unread bytes of the client
#[tokio::test]
async fn a_disconnect_behind_unread_bytes_is_detected() {
    // It accepts connections and reads nothing.
    let store = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = Gateway::builder()
        .bucket_at("b", &[store.local_addr().unwrap()])
        .set("buckets.b.s3.timeout", "600")
        .set("buckets.b.s3.idle_timeout", "600")
        .set("server.request_timeout", "600")
        .start()
        .await;
    let pipelined = client::message("GET", "/b/k", &[("x-request-id", "pipelined")], None).repeat(1000);
    let head = "PUT /b/k HTTP/1.1\r\nhost: a\r\nx-request-id: upload\r\ncontent-length: 67108864\r\n\r\n";
    let mut upload = head.as_bytes().to_vec();
    upload.resize(64 << 20, b'x');
    for (id, bytes) in [("pipelined", pipelined), ("upload", upload)] {
        let mut leaving = TcpStream::connect(gateway.address()).await.unwrap();
        // As much of it as the sockets take.
        let sending = tokio::time::timeout(Duration::from_millis(800), leaving.write_all(&bytes)).await;
        assert_eq!(sending.is_err(), id == "upload");
        // A FIN would wait behind the unsent bytes; a reset does not.
        socket2::SockRef::from(&leaving).set_linger(Some(Duration::ZERO)).unwrap();
        drop(leaving);
        gateway.wait_until_idle().await;
        assert_eq!(gateway.wait_for_access_line(id).await["reason"], "client_gone");
    }
    drop(store);
}

/// T4, T6: a client that reads slowly gets every byte, of a long body and of many short pieces
#[tokio::test]
async fn a_slow_reader_gets_every_byte() {
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let sent = body.clone();
    let upstream = Upstream::start(move |seen| {
        let reply = UpstreamReply::ok(&sent);
        if seen.target.ends_with("chunked") { reply.chunked() } else { reply }
    });
    let gateway = Gateway::in_front_of(&upstream).await;
    for target in ["/b/sized", "/b/chunked"] {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let stream = socket.connect(gateway.address()).await.unwrap();
        let (mut read, mut write) = stream.into_split();
        write.write_all(&client::message("GET", target, &[], None)).await.unwrap();
        // A pause, so that the gateway's socket is full.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut slow = Client::new(tokio::io::join(&mut read, &mut write));
        let answer = slow.response("GET").await;
        assert_eq!((answer.complete_status(), answer.body == body), (200, true), "{target}");
        write.write_all(&client::message("GET", "/-/livez", &[], None)).await.unwrap();
        let mut next = [0; 15];
        read.read_exact(&mut next).await.unwrap();
        assert_eq!(&next, b"HTTP/1.1 200 OK", "the connection stays open");
    }
    gateway.wait_until_idle().await;
}

/// T4: a slow head on a kept connection has the same timeout as the first one, from its first byte
#[tokio::test]
async fn a_later_head_that_trickles_in_is_cut_off() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).set("server.header_timeout", "0.5").start().await;
    let mut slow = Client::connect(gateway.address()).await;
    for _ in 0..2 {
        slow.send(client::message("GET", "/b/k", &[], None)).await;
        assert_eq!(slow.response("GET").await.complete_status(), 200);
        // Idle time is not part of the header timeout.
        tokio::time::sleep(Duration::from_millis(800)).await;
    }
    let began = Instant::now();
    for byte in b"GET /b/k HTTP/1.1\r\nhost: a\r\nx-slow: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"
    {
        if slow.try_send([*byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(slow.try_response("GET").await.map(|answer| answer.complete_status()), Some(408));
    assert!(began.elapsed() >= Duration::from_millis(500));
    gateway.wait_for_log_line("request", |line| line["reason"] == "header_timeout").await;
    assert_eq!(gateway.metric("unrouted_total{reason=\"header_timeout\"}").await, 1.0);
    assert_eq!(upstream.count(), 2);
}

/// T4: a connection without a request is closed after the header timeout
#[tokio::test]
async fn a_silent_connection_is_closed() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).set("server.header_timeout", "0.5").start().await;
    let mut silent = Client::connect(gateway.address()).await;
    assert!(silent.try_response("GET").await.is_none_or(|answer| answer.complete_status() == 408));
    assert!(silent.is_closed().await);
}

/// G4: during a drain idle connections close, and the others close after their answer
#[tokio::test]
async fn connections_end_while_the_gateway_drains() {
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |seen| match seen.target.as_str() {
        "/b/held" => UpstreamReply::ok("begin").when_open(&held),
        _ => UpstreamReply::ok("x"),
    });
    let mut gateway = Gateway::in_front_of(&upstream).await;
    let mut idle = Client::connect(gateway.address()).await;
    idle.send(client::message("GET", "/b/k", &[], None)).await;
    assert_eq!(idle.response("GET").await.complete_status(), 200);
    let mut fresh = Client::connect(gateway.address()).await;
    let mut active = Client::connect(gateway.address()).await;
    active.send(client::message("GET", "/b/held", &[], None)).await;
    upstream.wait_until_in_flight(1).await;
    gateway.send_sigterm();
    assert!(idle.is_closed().await && fresh.is_closed().await);
    latch.open_for_all();
    let answer = active.response("GET").await;
    assert_eq!((answer.complete_status(), answer.header("connection")), (200, Some("close")));
    assert!(active.is_closed().await);
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
}

/// V1: after `Connection: close` nothing else on the connection is served
#[tokio::test]
async fn nothing_is_served_after_close() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let get = |lines: &str| format!("GET /b/k HTTP/1.1\r\nhost: a\r\n{lines}\r\n");
    let bytes = format!("{}{}{}", get(""), get("connection: x, close\r\n"), get(""));
    assert_eq!(statuses(&gateway, bytes).await, [200, 200]);
    assert_eq!(upstream.count(), 2);
}
