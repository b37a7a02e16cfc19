//! Mass client disconnects: a proxy that counts them as store failures opens the circuit of a healthy store.

use super::{circuit, start};
use crate::support::{Client, Latch, Upstream, UpstreamReply, client};

const CLIENTS: usize = 400;
const AT_A_TIME: usize = 20;

/// B3, T7: hundreds of clients that disconnect in mid-response leave the circuit closed (Yatagarasu counts them as
/// failures) and leak nothing
#[tokio::test]
async fn disconnects_in_mid_response_leave_the_circuit_closed() {
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |seen| match seen.target.as_str() {
        "/b/whole" => UpstreamReply::ok("x"),
        _ => UpstreamReply::ok("begin").then_body_when_open(&held, "end"),
    });
    let gateway = start(&upstream, &[("failure_threshold", "1"), ("minimum_calls", "1")]).await;
    let address = gateway.address();
    for _ in 0..CLIENTS / AT_A_TIME {
        let leaving = (0..AT_A_TIME).map(|number| {
            tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                client.send(client::message("GET", "/b/streams", &[], None)).await;
                assert_eq!(client.head().await.status, 200);
                // Alternately with a reset and an orderly close.
                if number % 2 == 0 {
                    client.reset();
                }
            })
        });
        for leaving in leaving.collect::<Vec<_>>() {
            leaving.await.unwrap();
        }
        upstream.wait_until_in_flight(0).await;
    }
    gateway.wait_until_idle().await;
    assert_eq!(upstream.cancelled(), CLIENTS, "each call ended with its client");
    let circuit = circuit(&gateway).await;
    for (field, expected) in [("opened_total", 0), ("consecutive_failures", 0), ("generation", 1)] {
        assert_eq!(circuit[field], expected, "{field}");
    }
    assert_eq!(gateway.get("/b/whole").await.complete_status(), 200);
}
