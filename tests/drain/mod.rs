//! The progress of a drain in the log, the status and on the command line, and how streams end with the gateway.

mod command;
mod progress;
mod streams;

use crate::support::client::message;
use crate::support::{Client, Gateway, Latch, Response, Upstream, UpstreamReply};

/// An upstream that begins each answer and ends it when the latch opens.
fn holding() -> (Upstream, Latch) {
    let latch = Latch::new();
    let held = latch.clone();
    (Upstream::start(move |_| UpstreamReply::ok("begin").then_body_when_open(&held, "end")), latch)
}

/// An upstream that begins each answer without a length, and ends it when the latch opens.
fn streaming(kind: &'static str, first: &'static str) -> (Upstream, Latch) {
    let latch = Latch::new();
    let held = latch.clone();
    let reply = move |_: &_| {
        let reply = UpstreamReply::ok(first).header("content-type", kind);
        reply.then_body_when_open(&held, "data: late\n\n").chunked()
    };
    (Upstream::start(reply), latch)
}

/// A request of which the answer has begun.
async fn begun(gateway: &Gateway, target: &str) -> (Client, Response) {
    let mut client = Client::connect(gateway.address()).await;
    client.send(message("GET", target, &[], None)).await;
    let answer = client.head().await;
    assert_eq!(answer.status, 200, "{target}");
    (client, answer)
}
