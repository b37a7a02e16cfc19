//! Interim responses (RFC 9110, 15.2) of upstreams.

use std::future::poll_fn;
use std::pin::pin;

use crate::https::Identity;
use crate::support::client::{Client, message};
use crate::support::{Gateway, Latch, Upstream, UpstreamReply};

const HINTS: &str =
    "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nconnection: x-private\r\nx-private: 1\r\n\r\n";
const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn upstream() -> Upstream {
    Upstream::start(|seen| match seen.target.as_str() {
        "/b/hints" => UpstreamReply::raw(format!(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n{HINTS}{ANSWER}"
        )),
        "/b/flood" => UpstreamReply::raw(HINTS.repeat(50) + ANSWER),
        _ => UpstreamReply::ok("plain"),
    })
}

/// V7: 102 and 103 are forwarded in their order, behind the answer to the request before; 100 is not
#[tokio::test]
async fn interim_responses_are_forwarded() {
    let upstream = upstream();
    let gateway = Gateway::in_front_of(&upstream).await;
    let mut client = Client::connect(gateway.address()).await;
    let both = [message("GET", "/b/k", &[], None), message("GET", "/b/hints", &[], None)].concat();
    client.send(both).await;
    let mut first = client.head().await;
    client.body(&mut first, "GET").await;
    assert_eq!((first.complete_status(), first.text().as_str()), (200, "plain"));
    assert_eq!(client.head().await.status, 102);
    let hints = client.head().await;
    assert_eq!((hints.status, hints.header("link")), (103, Some("</a.css>")));
    assert_eq!((hints.header("x-private"), hints.header("connection")), (None, None));
    let mut last = client.head().await;
    client.body(&mut last, "GET").await;
    assert_eq!((last.complete_status(), last.text().as_str()), (200, "ok"));
}

/// They are forwarded before the answer is there
#[tokio::test]
async fn an_interim_response_does_not_wait_for_the_answer() {
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |_| UpstreamReply::raw(HINTS).then_body_when_open(&held, ANSWER));
    let gateway = Gateway::in_front_of(&upstream).await;
    let mut client = Client::connect(gateway.address()).await;
    client.send(message("GET", "/b/k", &[], None)).await;
    assert_eq!(client.head().await.status, 103);
    latch.open_for_all();
    assert_eq!(client.response("GET").await.complete_status(), 200);
}

/// At most 8 of them, and none to a client of HTTP/1.0
#[tokio::test]
async fn interim_responses_are_bounded() {
    let upstream = upstream();
    let gateway = Gateway::in_front_of(&upstream).await;
    let mut client = Client::connect(gateway.address()).await;
    client.send(message("GET", "/b/flood", &[], None)).await;
    for _ in 0..8 {
        assert_eq!(client.head().await.status, 103);
    }
    let mut last = client.head().await;
    client.body(&mut last, "GET").await;
    assert_eq!((last.complete_status(), last.text().as_str()), (200, "ok"));

    let mut old = Client::connect(gateway.address()).await;
    old.send("GET /b/hints HTTP/1.0\r\nhost: gateway.test\r\n\r\n").await;
    let mut only = old.head().await;
    old.body(&mut only, "GET").await;
    assert_eq!((only.complete_status(), only.text().as_str()), (200, "ok"));
}

/// V7: HTTP/2 clients get them too
#[tokio::test]
async fn interim_responses_are_forwarded_over_http_2() {
    let upstream = upstream();
    let identity = Identity::new();
    let gateway = identity.gateway_before(&upstream).start().await;
    let client = identity.http2(&gateway).await;
    let (answer, _sending) = client.begin("GET", "/b/hints", &[], true).await;
    let mut answer = pin!(answer);
    let mut statuses = Vec::new();
    while let Some(interim) = poll_fn(|cx| answer.as_mut().poll_informational(cx)).await {
        let interim = interim.unwrap();
        statuses.push((interim.status().as_u16(), interim.headers().contains_key("link")));
        assert!(!interim.headers().contains_key("x-private"));
    }
    assert_eq!(statuses, [(102, false), (103, true)]);
    let response = answer.await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
}
