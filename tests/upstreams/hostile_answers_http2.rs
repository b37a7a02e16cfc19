//! The hostile answers of `hostile_answers.rs` to a client with one HTTP/2 connection: each ends its own stream only.

use std::net::SocketAddr;

use super::hostile_answers::{
    BAD_CHUNKS, Before, ODD, REFUSED, RESETS, bad_chunks, builder_before, odd, refused, resetting, upstream,
};
use crate::https::{Http2, Identity, head, read};
use crate::support::{Gateway, Response};

/// A client of a gateway before this upstream, and what the gateway held before.
struct Stage {
    _identity: Identity,
    gateway: Gateway,
    client: Http2,
    before: Before,
}

impl Stage {
    async fn before(address: SocketAddr) -> Self {
        let identity = Identity::new();
        let gateway = identity.named(builder_before(address)).start().await;
        let client = identity.http2(&gateway).await;
        is_unharmed(&client, "nothing").await;
        let before = Before::of(&gateway).await;
        Self { _identity: identity, gateway, client, before }
    }

    /// The same connection has served all requests, and nothing is left of them.
    async fn ends(self) {
        is_unharmed(&self.client, "all").await;
        self.before.is_restored(&self.gateway).await;
    }
}

/// Sends a good request, which must get a connection to the upstream that the bad answer has not spoilt.
async fn is_unharmed(client: &Http2, case: &str) {
    let next = client.get("/b/k").await;
    assert_eq!((next.complete_status(), next.text().as_str()), (200, "hello"), "after {case}");
}

/// The answer, or none if the stream was reset: a reset may overtake the head.
async fn try_get(client: &Http2, target: &str) -> Option<Response> {
    let (answer, _) = client.begin("GET", target, &[], true).await;
    let (mut answer, body) =
        head(answer).await.inspect_err(|error| assert!(error.is_reset(), "{error}")).ok()?;
    answer.broken = read(body, &mut answer.body).await.err().map(|error| error.to_string());
    Some(answer)
}

/// B3, T6, V9: a head that is not clear is 502 for its stream
#[tokio::test]
async fn a_head_that_is_not_clear_is_refused_for_its_stream() {
    let stage = Stage::before(upstream(refused).await).await;
    for case in REFUSED {
        let answer = stage.client.get(&format!("/b/{case}")).await;
        assert_eq!((answer.complete_status(), answer.reason()), (502, "decode_failed"), "{case}");
        is_unharmed(&stage.client, case).await;
    }
    stage.ends().await;
}

/// T6, V9: an odd answer is forwarded whole, without the fields of the upstream's connection
#[tokio::test]
async fn odd_answers_are_forwarded_to_their_streams() {
    let stage = Stage::before(upstream(odd).await).await;
    for case in ODD {
        let answer = stage.client.get(&format!("/b/{case}")).await;
        assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "hello"), "{case}");
        for absent in ["x-evil", "connection", "keep-alive", "transfer-encoding"] {
            assert_eq!(answer.header(absent), None, "{case}: {absent}");
        }
        is_unharmed(&stage.client, case).await;
    }
    for (case, status) in [("204", 204), ("304", 304)] {
        let answer = stage.client.get(&format!("/b/{case}")).await;
        assert_eq!((answer.complete_status(), answer.text().as_str()), (status, ""), "{case}");
        is_unharmed(&stage.client, case).await;
    }
    let answer = stage.client.exchange("HEAD", "/b/after", &[], None).await;
    assert_eq!((answer.complete_status(), answer.header("content-length")), (200, Some("5")));
    stage.ends().await;
}

/// T6, V9: chunks that are malformed reset their stream, so that it is never taken for a whole one
#[tokio::test]
async fn bad_chunks_reset_their_stream() {
    let stage = Stage::before(upstream(bad_chunks).await).await;
    for case in BAD_CHUNKS {
        let answer = try_get(&stage.client, &format!("/b/{case}")).await;
        assert!(answer.as_ref().is_none_or(|answer| answer.broken.is_some()), "{case}: {answer:?}");
        is_unharmed(&stage.client, case).await;
    }
    stage.ends().await;
}

/// T6, B3, V9: a reset in each place is a visible failure of its stream
#[tokio::test]
async fn a_reset_in_any_place_fails_its_stream() {
    let upstream = resetting();
    let stage = Stage::before(upstream.address()).await;
    for case in RESETS {
        let answer = try_get(&stage.client, &format!("/b/{case}")).await;
        let is_failed = answer.as_ref().is_none_or(|answer| {
            (answer.status, answer.reason()) == (502, "upstream_reset") || answer.broken.is_some()
        });
        assert!(is_failed, "{case}: {answer:?}");
        is_unharmed(&stage.client, case).await;
    }
    stage.ends().await;
}
