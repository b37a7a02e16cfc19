//! Actions that give memory and descriptors back: idle connections, keep-alive, socket buffers.

use std::cell::Cell;
use std::time::Duration;

use super::{CRITICAL_REQUESTS, Pressure, action, assert_touched, reaches};
use crate::https::Identity;
use crate::support::idle_memory::idle_memory;
use crate::support::{Client, Gateway, Upstream, UpstreamReply, client, wait_for};

/// A connection that has had one request. Without memory a connection that has a request at the time of a sample closes with its answer.
async fn idle_connection(gateway: &Gateway) -> Client {
    counted_idle_connection(gateway).await.0
}

/// The same, and the number of connections that this took.
async fn counted_idle_connection(gateway: &Gateway) -> (Client, u64) {
    let opened = Cell::new(0);
    let client = wait_for("a connection stays open after its request", || async {
        opened.set(opened.get() + 1);
        let mut client = Client::connect(gateway.address()).await;
        client.send(client::message("GET", "/b/k", &[], None)).await;
        let answer = client.response("GET").await;
        assert_eq!(answer.complete_status(), 200);
        (answer.header("connection") != Some("close")).then_some(client)
    })
    .await;
    (client, opened.get())
}

/// Serves one more request on an idle connection.
async fn still_serves(client: &mut Client) {
    client.send(client::message("GET", "/b/k", &[], None)).await;
    assert_eq!(client.response("GET").await.complete_status(), 200);
}

/// X8, X11: without memory idle connections close and are counted; shadow mode counts each once and keeps it; on a level that
/// is not reached none closes
#[tokio::test]
async fn idle_connections_close() {
    for (key, value, closed, touched) in [
        ("mode", "enforce", true, 1),
        ("mode", "shadow", false, 1),
        ("mode", "off", false, 0),
        ("on_level", "exhausted", false, 0),
    ] {
        let upstream = Upstream::ok("x");
        let gateway = Gateway::builder()
            .bucket("b", &upstream)
            .set("monitor.memory_limit_bytes", "1MiB")
            .set("monitor.interval_ms", "20")
            .set(&format!("actions.idle_connections.{key}"), value)
            .start()
            .await;
        reaches(&gateway, "critical").await;
        let (mut client, opened) = counted_idle_connection(&gateway).await;
        // Those that closed with their answer count too.
        let touched = if closed { opened } else { touched };
        if touched > 0 {
            assert_touched(&gateway, "idle_connections", value, touched).await;
        }
        // Many samples, and longer than an idle connection must be idle before it closes.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        if closed {
            assert!(client.is_closed().await, "{value}");
        } else {
            still_serves(&mut client).await;
        }
        assert_eq!(action(&gateway, "idle_connections").await["touched"], touched, "{key} = {value}");
    }
}

/// X2, X11: at critical a connection that becomes idle closes after 5 s instead of a minute; shadow mode only counts it
#[tokio::test]
async fn keep_alive_is_shortened() {
    for mode in ["enforce", "shadow"] {
        let mut pressure = Pressure::new(|_| UpstreamReply::ok("x"));
        let gateway = pressure
            .gateway()
            .set("server.keep_alive", "60")
            .set("actions.keep_alive.mode", mode)
            .start()
            .await;
        let mut before = idle_connection(&gateway).await;
        pressure.raise(&gateway).await;
        let mut during = idle_connection(&gateway).await;
        assert_touched(&gateway, "keep_alive", mode, 1).await;
        if mode == "enforce" {
            assert!(during.is_closed().await);
        } else {
            tokio::time::sleep(Duration::from_secs(6)).await;
            still_serves(&mut during).await;
        }
        still_serves(&mut before).await;
    }
}

/// X2: at critical an HTTP/2 connection that becomes idle closes after 5 s instead of a minute
#[tokio::test]
async fn keep_alive_of_http2_is_shortened() {
    let (identity, pressure) = (Identity::new(), Pressure::new(|_| UpstreamReply::ok("x")));
    let gateway = identity.named(pressure.gateway()).set("server.keep_alive", "60").start().await;
    let busy = identity.http2(&gateway).await;
    let mut held = Vec::new();
    for _ in 0..CRITICAL_REQUESTS {
        held.push(busy.begin("GET", "/b/held", &[], true).await);
    }
    reaches(&gateway, "critical").await;
    let idle = identity.http2(&gateway).await;
    assert_eq!(idle.get("/b/k").await.complete_status(), 200);
    assert_touched(&gateway, "keep_alive", "enforce", 1).await;
    idle.closed().await;
    assert_eq!(busy.get("/b/k").await.complete_status(), 200, "a connection with requests stays");
}

/// X2, X11: downloads with grown buffers fill the memory: the buffers shrink, and the status has the bytes that they gave up.
/// In shadow mode the bytes are counted, and the buffers keep them
#[tokio::test]
async fn grown_buffers_shrink() {
    const OBJECT_BYTES: usize = 64 << 20;
    const MIB: u64 = 1 << 20;
    let upstream = Upstream::start(|_| UpstreamReply::ok(vec![b'x'; OBJECT_BYTES]));
    let held = idle_memory(&upstream).await;
    // The level rises when the gateway has 8 MiB more than an idle one. With this limit its memory is its resident set and its sockets.
    let limit = held + 100 * MIB;
    let warning = ((held + 8 * MIB) * 100 / limit).to_string();
    for mode in ["enforce", "shadow"] {
        let gateway = Gateway::builder()
            .bucket("b", &upstream)
            .set("monitor.memory_limit_bytes", &limit.to_string())
            .set("monitor.interval_ms", "20")
            .set("monitor.warning", &warning)
            .set("monitor.critical", "98")
            .set("monitor.exhausted", "99")
            .set("server.buffer_budget", "64MiB")
            .set("server.workers", "1")
            .set("actions.receive_buffers.mode", mode)
            .start()
            .await;
        let mut clients = Vec::new();
        for _ in 0..6 {
            let mut client = Client::connect(gateway.address()).await;
            client.send(client::message("GET", "/b/large", &[], None)).await;
            assert_eq!(client.head().await.status, 200);
            let mut taken = 0;
            while taken < 16 << 20 {
                taken += client.read_some().await.unwrap().len();
            }
            clients.push(client);
        }
        let found = wait_for("buffers are counted", || async {
            let found = action(&gateway, "receive_buffers").await;
            found["touched"].as_u64().is_some_and(|bytes| bytes > 256 << 10).then_some(found)
        })
        .await;
        assert_eq!((&found["mode"], &found["unit"]), (&mode.into(), &"bytes".into()), "{found}");
        // What grown buffers hold must be read before smaller ones can replace it.
        for client in &mut clients {
            let mut taken = 0;
            while taken < 16 << 20 {
                taken += client.read_some().await.unwrap().len();
            }
        }
        wait_for("the buffers have the size that the mode allows", || async {
            let held = gateway.status().await["memory"]["sockets_bytes"].as_u64()?;
            let is_large = held > 20 * MIB;
            (is_large == (mode == "shadow")).then_some(())
        })
        .await;
        drop(clients);
    }
}
