//! `Expect: 100-continue`: a refusal comes before the 100, and the body is asked for once all guards have agreed.

use crate::support::{Act, Client, Gateway, Upstream};

const HEAD: &str = "PUT /b/k HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 70000\r\n";

async fn first_status(gateway: &Gateway, head: &str) -> (Client, u16) {
    let mut client = Client::connect(gateway.address()).await;
    client.send(format!("{head}\r\n")).await;
    let status = client.head().await.status;
    (client, status)
}

/// E1, V2, P3, L1, B2: 413, 429, 503 and 403 come in the place of the 100, whole, and nothing reaches the upstream
#[tokio::test]
async fn a_refusal_comes_before_the_100() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .bucket("slow", &upstream)
        .set("buckets.b.max_request_size", "1000")
        .set("buckets.closed.s3.endpoints", &format!("http://{}", upstream.address()))
        .set("buckets.slow.rate_limit.requests_per_second", "0.001")
        .set("buckets.slow.rate_limit.burst", "1")
        .start()
        .await;
    assert_eq!(gateway.get("/slow/k").await.whole(), 200);
    let before = upstream.count();
    for (name, status, reason) in [
        ("b", 413, "body_too_large"),
        ("closed", 403, "bucket_closed"),
        ("slow", 429, "rate_limit_bucket"),
        ("nobody", 404, "no_such_bucket"),
    ] {
        let mut client = Client::connect(gateway.address()).await;
        client.send(format!("{}\r\n", HEAD.replace("/b/", &format!("/{name}/")))).await;
        let answer = client.answer("PUT").await;
        assert_eq!((answer.whole(), answer.reason()), (status, reason));
        assert!(answer.text().contains("<Error>"), "{}", answer.text());
        let id = answer.header("x-request-id").unwrap();
        assert_eq!(gateway.access_line(id).await["reason"], reason);
        assert!(client.is_closed().await, "a body that was not asked for must not be read as a request");
    }
    assert_eq!(upstream.count(), before);
    gateway.is_idle().await;
}

/// R3, T7: the 100 comes when a place is taken, the body then travels, and what was taken is given back in the end
#[tokio::test]
async fn the_body_is_asked_for_once_admitted() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    let (mut client, status) = first_status(&gateway, HEAD).await;
    assert_eq!(status, 100);
    client.send(vec![b'x'; 70_000]).await;
    assert_eq!(client.answer("PUT").await.whole(), 200);
    let seen = upstream.seen();
    assert_eq!((seen.len(), seen[0].body.len()), (1, 70_000));
    assert_eq!(seen[0].header("expect"), None, "the gateway answers it itself");
    let id = seen[0].header("x-request-id").unwrap().to_owned();
    assert_eq!(gateway.access_line(&id).await["status"], 200);
    gateway.is_idle().await;
}

/// P4, T7: a client that leaves after its 100 gives its place back
#[tokio::test]
async fn a_client_that_leaves_after_the_100_holds_nothing() {
    let upstream = Upstream::start(|_| Act::hang());
    let gateway = Gateway::in_front_of(&upstream).await;
    let (client, status) = first_status(&gateway, HEAD).await;
    assert_eq!(status, 100);
    client.reset();
    gateway.is_idle().await;
    assert_eq!(gateway.get("/-/livez").await.whole(), 200);
}
