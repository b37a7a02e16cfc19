//! Limits hold for both processes together.

use super::Upgradable;
use crate::support::client::message;
use crate::support::gateway::Builder;
use crate::support::{Client, Gateway, Response, Upstream};

const BURST: usize = 20;

/// A rate so low that no token becomes free during a test.
fn limited(builder: Builder, key: &str) -> Builder {
    builder
        .set(&format!("{key}.requests_per_second"), "0.001")
        .set(&format!("{key}.burst"), &BURST.to_string())
}

async fn ask(client: &mut Client) -> Response {
    client.send(message("GET", "/b/k", &[], None)).await;
    client.response("GET").await
}

/// Connections that have each had one answer.
async fn connected(gateway: &Gateway, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = Client::connect(gateway.address()).await;
        assert_eq!(ask(&mut client).await.complete_status(), 200);
        clients.push(client);
    }
    clients
}

/// Sends requests until one is refused. Returns the number before it.
async fn admitted(gateway: &Gateway) -> usize {
    for count in 0..=BURST {
        let answer = gateway.get("/b/k").await;
        if answer.complete_status() == 429 {
            return count;
        }
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    panic!("more than the burst was admitted");
}

/// G11, L1: what was used of a rate limit stays used, and both processes together admit the rest once, whichever is asked first
#[tokio::test]
async fn a_burst_is_not_doubled() {
    for key in ["rate_limit.global", "rate_limit.per_ip", "buckets.b.rate_limit"] {
        for is_old_first in [true, false] {
            let upstream = Upstream::ok("x");
            let mut running =
                Upgradable::start(limited(Gateway::builder().bucket("b", &upstream), key)).await;
            let mut kept = connected(&running.gateway, 8).await;
            running.upgraded().await;
            let mut of_new = if is_old_first { 0 } else { admitted(&running.gateway).await };
            let mut of_old = 0;
            for client in &mut kept {
                of_old += usize::from(ask(client).await.complete_status() == 200);
            }
            if is_old_first {
                of_new = admitted(&running.gateway).await;
            }
            // Half of the 12 free tokens for the old process, although it has 8 connections.
            assert_eq!((of_old, of_new), (6, 6), "{key}, old first: {is_old_first}");
            assert_eq!(upstream.count(), BURST);
            running.wait_for_end_of_predecessor().await;
            assert_eq!(admitted(&running.gateway).await, 0, "{key}: the end of the old process frees none");
        }
    }
}
