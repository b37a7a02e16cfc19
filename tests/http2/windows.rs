//! Flow-control windows for client uploads.

use std::future::poll_fn;

use bytes::Bytes;
use h2::SendStream;

use crate::https::{Identity, head};
use crate::support::{Gateway, Upstream, UpstreamReply, random_bytes, wait_for};

/// The initial window of a stream.
async fn window(sending: &mut SendStream<Bytes>) -> usize {
    sending.reserve_capacity(1 << 20);
    poll_fn(|cx| sending.poll_capacity(cx)).await.unwrap().unwrap();
    sending.capacity()
}

/// P1, V9: streams start with small windows; a fast upload enlarges them within the budget, and releases the budget
/// afterwards
#[tokio::test]
async fn windows_grow_with_a_fast_upload_within_the_budget() {
    for (budget, expected) in [("64MiB", 256 << 10), ("0", 64 << 10)] {
        let identity = Identity::new();
        let (sound, stalled) =
            (Upstream::ok("stored"), Upstream::replying_before_body(|_| UpstreamReply::hang()));
        let gateway = identity
            .named(Gateway::builder().bucket("b", &sound).bucket("hung", &stalled))
            .set("server.buffer_budget", budget)
            .start()
            .await;
        let client = identity.http2(&gateway).await;
        // The gateway's settings arrived with the first answer.
        assert_eq!(client.put("/b/first", b"x").await.complete_status(), 200);
        let (_waiting, mut unsent) =
            client.begin("PUT", "/hung/first", &[("content-length", "1000000")], false).await;
        assert_eq!(window(&mut unsent).await, 64 << 10, "budget {budget}");
        let body = Bytes::from(random_bytes(6 << 20));
        let (answer, mut sending) =
            client.begin("PUT", "/b/k", &[("content-length", "6291456")], false).await;
        sending.send_data(body, true).unwrap();
        assert_eq!(head(answer).await.unwrap().0.status, 200);
        let (_also, mut next) =
            client.begin("PUT", "/hung/next", &[("content-length", "1000000")], false).await;
        assert_eq!(window(&mut next).await, expected, "budget {budget}");
        drop((unsent, next));
        drop(client);
        wait_for("the budget is released", || async {
            (gateway.metric("buffer_reserved_bytes").await == 0.0).then_some(())
        })
        .await;
    }
}
