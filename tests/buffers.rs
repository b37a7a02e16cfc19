//! Socket buffers of large bodies stay within their budget and are released when they are not needed. Kernel sizes,
//! pauses and cuts are tested in `tests/cgroups/test_buffers.py`.

use std::time::Duration;

use crate::support::client::put;
use crate::support::{Client, Gateway, Upstream, UpstreamReply, wait_for};

const OBJECT_BYTES: usize = 48 << 20;
/// Bytes that the client reads before it stops.
const TAKEN_BYTES: usize = 16 << 20;
/// Bytes that stay unread, more than all large buffers hold.
const UNREAD_BYTES: usize = 8 << 20;
const RESERVED: &str = "buffer_reserved_bytes";
/// Memory of all sockets of the gateway.
const HELD: &str = "socket_buffers_bytes";

async fn started(budget: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start(|_| UpstreamReply::ok(vec![b'x'; OBJECT_BYTES]));
    let gateway = Gateway::builder().bucket("b", &upstream).set("server.buffer_budget", budget).start().await;
    (upstream, gateway)
}

async fn take(client: &mut Client, bytes: usize) -> usize {
    let mut taken = 0;
    while taken < bytes {
        taken += client.read_some().await.unwrap().len();
    }
    taken
}

/// P1, X8: a fast download reserves larger buffers; when its client stops, the unsent bytes stay reserved, and the
/// download resumes where it stopped
#[tokio::test]
async fn a_fast_download_has_large_buffers_until_it_stalls() {
    let (_upstream, gateway) = started("64MiB").await;
    let mut client = Client::connect(gateway.address()).await;
    client.send("GET /b/k HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(client.head().await.status, 200);
    // A busy machine slows the download down, and its buffers grow only when it is fast.
    let mut taken = 0;
    while gateway.metric(RESERVED).await < f64::from(1 << 20) {
        assert!(taken < OBJECT_BYTES - UNREAD_BYTES, "the buffers are small after {taken} bytes");
        taken += take(&mut client, 4 << 20).await;
    }
    wait_for("the other buffers are released", || async {
        let (reserved, held) = (gateway.metric(RESERVED).await, gateway.metric(HELD).await);
        (reserved <= held).then_some(())
    })
    .await;
    assert_eq!(taken + take(&mut client, OBJECT_BYTES - taken).await, OBJECT_BYTES);
    wait_for("the upstream's connection keeps a medium buffer", || async {
        (gateway.metric(RESERVED).await <= f64::from(512 << 10)).then_some(())
    })
    .await;
    assert_eq!(gateway.metric("transfers_cut_total").await, 0.0);
}

/// P1, X8: clients that read fast until their buffers are large and then stop, one after the other, hold at most the
/// budget and small buffers
#[tokio::test]
async fn clients_that_grow_and_stop_stay_within_the_budget() {
    const CLIENTS: usize = 16;
    /// For a connection with initial buffers: two sockets, each with up to a segment more than its limit.
    const SMALL_BYTES: usize = 256 << 10;
    let (_upstream, gateway) = started("8MiB").await;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let mut client = Client::connect(gateway.address()).await;
        client.send("GET /b/k HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(client.head().await.status, 200);
        take(&mut client, TAKEN_BYTES).await;
        clients.push(client);
        if number % 2 == 1 {
            // Stalled clients are detected after a second.
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
    }
    let held = gateway.metric(HELD).await;
    assert!(held <= ((8 << 20) + CLIENTS * SMALL_BYTES) as f64, "{held} bytes of socket buffers");
    drop(clients);
    wait_for("all buffers are released", || async { (gateway.metric(RESERVED).await == 0.0).then_some(()) })
        .await;
}

/// P1: without a budget, transfers complete with small buffers
#[tokio::test]
async fn without_budget_a_transfer_stays_small() {
    let (_upstream, gateway) = started("0").await;
    let answer = gateway.get("/b/k").await;
    assert_eq!((answer.complete_status(), answer.body.len()), (200, OBJECT_BYTES));
    assert_eq!(gateway.metric(RESERVED).await, 0.0);
}

/// P1: an upload reserves and releases buffers as a download does
#[tokio::test]
async fn a_fast_upload_releases_its_buffers() {
    let upstream = Upstream::ok("stored");
    let gateway =
        Gateway::builder().bucket("b", &upstream).set("server.buffer_budget", "64MiB").start().await;
    let answer = put(gateway.address(), "/b/k", vec![b'x'; 32 << 20]).await;
    assert_eq!(answer.complete_status(), 200);
    assert_eq!(upstream.last().body.len(), 32 << 20);
    wait_for("the buffers are small", || async { (gateway.metric(RESERVED).await == 0.0).then_some(()) })
        .await;
}
