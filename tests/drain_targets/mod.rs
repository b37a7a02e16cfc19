//! Drains of one bucket or one endpoint by an operator: `POST /drain`, `DELETE /drain`, `GET /drains` and `tidegate drain` (G4, P5).

mod bucket;
mod command;
mod endpoint;
mod orders;
mod survival;

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::{Client, Gateway, Latch, Upstream, UpstreamReply, client, request, wait_for};

/// An upstream that holds its answers to paths with `held` after the first bytes, and answers others with its name.
fn holding(name: &'static str) -> (Upstream, Latch) {
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |seen| match seen.target.contains("held") {
        true => UpstreamReply::ok("begin").then_body_when_open(&held, "end"),
        false => UpstreamReply::ok(name),
    });
    (upstream, latch)
}

/// A request with an answer that has begun.
struct Held {
    client: Client,
    answer: crate::support::Response,
}

impl Held {
    async fn begin(gateway: &Gateway, target: &str) -> Self {
        let mut client = Client::connect(gateway.address()).await;
        client.send(client::message("GET", target, &[], None)).await;
        let answer = client.head().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        Self { client, answer }
    }

    /// A request that the one endpoint which holds answers has got.
    async fn begin_at_holding(gateway: &Gateway) -> Self {
        wait_for("the endpoint that holds answers has a request", || async {
            let held = Self::begin(gateway, "/b/held").await;
            (held.answer.header("content-length") == Some("8")).then_some(held)
        })
        .await
    }

    /// The whole answer.
    async fn end(mut self) {
        self.client.body(&mut self.answer, "GET").await;
        assert_eq!((self.answer.complete_status(), self.answer.text().as_str()), (200, "beginend"));
    }
}

/// The reply to an order, which is accepted.
async fn order(gateway: &Gateway, method: &str, query: &str) -> Value {
    let body = (method == "POST").then_some(&b""[..]);
    let answer = request(gateway.admin_address(), method, &format!("/drain?{query}"), &[], body).await;
    assert_eq!(answer.complete_status(), 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

async fn drain(gateway: &Gateway, query: &str) -> Value {
    order(gateway, "POST", query).await
}

async fn end(gateway: &Gateway, query: &str) -> Value {
    order(gateway, "DELETE", query).await
}

/// The query for an endpoint of the bucket `b`.
fn of_endpoint(address: SocketAddr) -> String {
    format!("bucket=b&endpoint=http://{address}")
}

async fn drains(gateway: &Gateway) -> Vec<Value> {
    let answer = gateway.admin("/drains").await;
    let mut document: Value = serde_json::from_slice(&answer.body).unwrap();
    document["drains"].take().as_array().unwrap().clone()
}

/// Waits until the only drain has so many requests left, and returns it.
async fn wait_until_left(gateway: &Gateway, left: u64) -> Value {
    wait_for(&format!("{left} requests are left"), || async {
        let all = drains(gateway).await;
        assert_eq!(all.len(), 1, "{all:?}");
        (all[0]["requests_left"] == left).then(|| all[0].clone())
    })
    .await
}

/// The body of the answer to a request, and its status.
async fn get(gateway: &Gateway, target: &str) -> (u16, String) {
    let answer = gateway.get(target).await;
    (answer.complete_status(), answer.text())
}

/// The status and the reason of a refusal.
async fn refusal(gateway: &Gateway, target: &str) -> (u16, String) {
    let answer = gateway.get(target).await;
    (answer.complete_status(), answer.reason().to_owned())
}

fn refused(reason: &str) -> (u16, String) {
    (503, reason.to_owned())
}

/// A gateway with the bucket `b` at these endpoints.
fn at(endpoints: &[&Upstream]) -> crate::support::gateway::Builder {
    let addresses: Vec<_> = endpoints.iter().map(|endpoint| endpoint.address()).collect();
    Gateway::builder().bucket_at("b", &addresses)
}

/// What a reply has besides its times and figures.
fn essence(reply: &Value) -> Value {
    let ordered_by = reply["ordered_by"].as_str().is_some_and(|by| by.ends_with("from 127.0.0.1"));
    json!([reply["bucket"], reply["endpoint"], reply["reason"], ordered_by, reply["was_draining"]])
}
